"""Typed programs as users write them. Only type-checked, by mypy --strict and pyright strict."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import httpx
import httpx2
from PIL import Image
from pydantic import BaseModel, Field
from typing_extensions import TypedDict, Unpack, assert_type

from modelslab_llm import (
    APIError,
    APIStatusError,
    AsyncMessageStream,
    AsyncModelsLab,
    ClientSpec,
    ContentBlockParam,
    ContentDelta,
    Conversation,
    Endpoint,
    Event,
    Message,
    MessageCreateParams,
    MessageParam,
    MessageStream,
    ModelInfo,
    ModelsLab,
    ModelsLabError,
    OutputError,
    ParsedMessage,
    ParsedMessageStream,
    Strategy,
    TextBlock,
    ThinkingBlock,
    Timeout,
    ToolCall,
    ToolParam,
    ToolRunner,
    ToolUseBlock,
    Usage,
    adocument,
    aimage,
    document,
    endpoints,
    image,
    tool,
    tool_result,
)
from modelslab_llm.bulk import (
    AsyncBulkRun,
    BulkPlan,
    BulkProgress,
    BulkResult,
    BulkRun,
    BulkStore,
)
from modelslab_llm.openai import (
    from_chat_chunks,
    from_chat_completion,
    to_chat_chunks,
    to_chat_completion,
    to_chat_request,
    to_messages,
)
from modelslab_llm.prices import Budget, Prices
from modelslab_llm.types import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    DocumentBlockParam,
    ImageBlockParam,
    Seam,
    TextDelta,
    UnknownBlock,
    UnknownEvent,
)


def clients() -> None:
    assert_type(endpoints.llm_v7(), Endpoint)
    mine = endpoints.llama_server("http://127.0.0.1:8080", "bearer", default_model=None)
    assert_type(mine.claude_code_env(context_window=None), dict[str, str])
    assert_type(mine.default_strategy, Strategy)
    with ModelsLab() as client:
        assert_type(client, ModelsLab)
        assert_type(client.endpoint.default_model, "str | None")
    ModelsLab("key", endpoint=endpoints.gguf("dep_1"), timeout=10)
    ModelsLab(api_key="key", base_url="http://127.0.0.1:8080", timeout=Timeout(read=30))
    ModelsLab(timeout=httpx.Timeout(5.0), http_client=httpx.Client(), default_headers={"x-a": "b"})
    ModelsLab(timeout=httpx2.Timeout(5.0), http_client=httpx2.Client())
    ModelsLab(deadline=60, progress_timeout=20, max_retry_wait=5.0, max_response_bytes=1024)
    assert_type(ModelsLab().with_options(max_retries=0, timeout=None), ModelsLab)


def workers(client: ModelsLab, asynchronous: AsyncModelsLab, http: httpx.Client) -> ClientSpec:
    spec = client.with_options(max_concurrency=2).spec()
    assert_type(asynchronous.spec(), ClientSpec)
    assert_type(spec.client(), ModelsLab)
    assert_type(spec.client("key", http_client=http, deadline=5), ModelsLab)
    assert_type(spec.async_client(api_key="key", default_headers={"x": "y"}), AsyncModelsLab)
    print(spec.endpoint.base_url, spec.options.get("timeout"), spec.withheld)
    kept = {spec: client}
    assert_type(kept[spec], ModelsLab)
    ModelsLab(endpoint=spec.endpoint, **spec.options)
    return ClientSpec(base_url="http://127.0.0.1:8080", max_concurrency=2)


def create(client: ModelsLab) -> str:
    message = client.messages.create(
        model="m",
        max_tokens=10,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": "Hello"}],
        temperature=0.0,
        top_k=None,
        stop_sequences=["END"],
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"effort": "low"},
        metadata={"user_id": "u-1"},
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        extra_headers={"x-team": "a"},
        timeout=5,
    )
    assert_type(message, Message)
    assert_type(message.usage.output_tokens, int)
    assert_type(message.tool_uses, list[ToolUseBlock])
    for block in message.content:
        if isinstance(block, TextBlock):
            assert_type(block.text, str)
        elif isinstance(block, ToolUseBlock):
            assert_type(block.input, dict[str, Any])
        elif block.type == "thinking":
            assert_type(block, ThinkingBlock)
        elif isinstance(block, UnknownBlock):
            print(block.model_extra)
    return message.text


def history(client: ModelsLab, tools: list[ToolParam]) -> None:
    turns: list[MessageParam] = [{"role": "user", "content": "How high is the Tamar?"}]
    reply = client.messages.create(model="m", max_tokens=10, messages=turns, tools=tools)
    more = client.messages.create(
        model="m", max_tokens=10, messages=turns, resume=2, continue_at_max_tokens=1
    )
    assert_type(more.seams, tuple[Seam, ...])
    turns.append(reply.to_param())
    client.messages.create(model="m", max_tokens=10, messages=[*turns, reply])
    turns.append({"role": "assistant", "content": reply.content})
    turns.append(
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": use.id, "content": "18 cm"}
                for use in reply.tool_uses
            ],
        }
    )
    of_a_server_of_mine: dict[str, Any] = {"type": "of_a_server_of_mine", "anything": 1}
    turns.append(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And this?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"},
                },
                of_a_server_of_mine,
            ],
        }
    )
    assert_type(client.messages.count_tokens(model="m", messages=turns).input_tokens, int)


def stream(client: ModelsLab) -> None:
    with client.messages.stream(
        max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
    ) as answer:
        for event in answer:
            assert_type(event, Event)
            if event.type == "content_block_delta":
                assert_type(event, ContentBlockDeltaEvent)
                if event.delta.type == "text_delta":
                    assert_type(event.delta, TextDelta)
            elif isinstance(event, ContentBlockStartEvent):
                assert_type(event.index, int)
            elif isinstance(event, UnknownEvent):
                print(event.type, event.model_extra)
        for text in answer.text_stream:
            assert_type(text, str)
        assert_type(answer.get_final_message(), Message)
        assert_type(answer.current_message, Message)
        assert_type(answer.request_id, "str | None")


async def asynchronous() -> None:
    AsyncModelsLab(http_client=httpx2.AsyncClient())
    async with AsyncModelsLab(http_client=httpx.AsyncClient()) as client:
        assert_type(await client.messages.create(max_tokens=1, messages=[]), Message)
        async with client.messages.stream(max_tokens=1, messages=[]) as answer:
            async for event in answer:
                assert_type(event, Event)
            async for text in answer.text_stream:
                assert_type(text, str)
            async for delta in answer.deltas:
                assert_type(delta, ContentDelta)
            assert_type(await answer.get_final_text(), str)
        for model in await client.models.list():
            assert_type(model, ModelInfo)
        await client.wait_until_ready(timeout=30)


def thinking(client: ModelsLab, conversation: Conversation) -> None:
    with client.messages.stream(
        max_tokens=4096, messages=conversation, thinking={"type": "adaptive"}
    ) as stream:
        for delta in stream.deltas:
            assert_type(delta, ContentDelta)
        for kind, text in stream.deltas:
            assert_type(kind, Literal["thinking", "text"])
            assert_type(text, str)
        message = stream.get_final_message()
    assert_type(message.thinking, str)


def conversations(client: ModelsLab, saved: list[MessageParam]) -> None:
    conversation = Conversation(saved)
    conversation.add("Hello")
    conversation.add([{"type": "text", "text": "Hello"}])
    conversation.add({"role": "assistant", "content": "Hi!"})
    conversation.add(client.messages.create(max_tokens=1, messages=conversation))
    conversation.add(
        [
            {"type": "tool_result", "tool_use_id": use.id, "content": str(use.input)}
            for use in conversation.pending
        ]
    )
    del conversation.turns[:2]
    for turn in conversation:
        assert_type(turn, MessageParam)
    assert_type(Conversation(conversation.turns[-2:]).without_thinking(), Conversation)
    assert_type(conversation.messages, list[MessageParam])
    client.messages.count_tokens(messages=conversation)


def from_openai(client: ModelsLab, body: dict[str, Any]) -> None:
    params = to_messages(body, max_tokens=100, keep_reasoning=True)
    assert_type(params, MessageCreateParams)
    assert_type(params["max_tokens"], int)
    message = client.messages.create(**params)
    assert_type(to_chat_completion(message, created=1), dict[str, Any])
    assert_type(to_chat_request({"max_tokens": 1}), dict[str, Any])
    assert_type(from_chat_completion({}), Message)
    assert_type(to_chat_chunks(from_chat_chunks([{}])), Iterator[dict[str, Any]])


def ask(client: ModelsLab, **params: Unpack[MessageCreateParams]) -> str:
    """A wrapper of the user's own, typed by `MessageCreateParams`."""
    return client.messages.create(**params).text


@tool
def level(river: str, days: Sequence[int] = ()) -> float:
    return len(river) + len(days)


@tool(name="later", timeout=3)
async def level_later(river: str) -> float:
    return len(river)


class Station:
    @tool
    def level(self, day: int) -> str:
        return str(day)


def tools(client: ModelsLab, definition: ToolParam) -> None:
    assert_type(level("Exe", days=[1]), float)
    assert_type(level.call({"river": "Exe"}), float)
    assert_type(Station().level(3), str)
    assert_type(Station().level.call({"day": 3}), str)
    assert_type(tool(len, name="length").name, str)
    assert_type(level.to_param(), ToolParam)
    runner = client.messages.run_tools(
        model="m",
        max_tokens=10,
        messages=[{"role": "user", "content": "How high?"}],
        tools=[level, Station().level, definition],
        max_turns=3,
        on_error="raise",
    )
    assert_type(runner, ToolRunner)
    for message in runner:
        assert_type(message, Message)
        for call in runner.calls:
            assert_type(call, ToolCall)
            assert_type(call.input, dict[str, Any])
            call.refuse("no")
    for stream in runner.stream():
        assert_type(stream, MessageStream)
    assert_type(runner.messages, list[MessageParam])
    assert_type(runner.get_final_message(), Message)
    reply = client.messages.create(max_tokens=1, messages=[], tools=[level, definition])
    results = [tool_result(use, level.call(use.input)) for use in reply.tool_uses]
    client.messages.create(max_tokens=1, messages=[reply, {"role": "user", "content": results}])


async def tools_asynchronously(client: AsyncModelsLab) -> None:
    assert_type(await level_later("Exe"), float)
    assert_type(await level_later.call({"river": "Exe"}), float)
    async with client.messages.run_tools(max_tokens=1, messages=[], tools=[level_later]) as runner:
        async for message in runner:
            assert_type(message, Message)
        async for stream in runner.stream():
            assert_type(stream, AsyncMessageStream)
        assert_type(await runner.get_final_message(), Message)


def failures(client: ModelsLab) -> float | None:
    try:
        ask(client, model="m", max_tokens=1, messages=[{"role": "user", "content": "Hi"}])
    except APIStatusError as error:
        assert_type(error.status_code, int)
        assert_type(error.retry_after, "float | None")
        return error.retry_after
    except APIError as error:
        assert_type(error.partial_message, "Message | None")
    return None


def auth(kind: Literal["bearer", "x-api-key", "key"] | None) -> Endpoint:
    return endpoints.gateway("https://relay.example", auth=kind, default_model="m")


class Recipe(BaseModel):
    title: str


@dataclass
class Point:
    x: int


class Named(TypedDict):
    name: str


def output(client: ModelsLab, hello: MessageParam, how: Strategy) -> int:
    ask: MessageCreateParams = {"max_tokens": 10, "messages": [hello]}
    message = client.messages.parse(output=Recipe, model="m", max_tokens=10, messages=[hello])
    assert_type(message, ParsedMessage[Recipe])
    assert_type(message.parsed.title, str)
    assert_type(client.messages.parse(output=Point, **ask).parsed, Point)
    assert_type(client.messages.parse(output=Named, **ask).parsed, Named)
    assert_type(client.messages.parse(output=list[Recipe], **ask).parsed, list[Recipe])
    assert_type(client.messages.parse(output=dict[str, int], **ask).parsed, dict[str, int])
    assert_type(client.messages.parse(output=int | str, **ask).parsed, Union[int, str])
    assert_type(client.messages.parse(output=Union[Recipe, Point], **ask).parsed, Recipe | Point)
    assert_type(client.messages.parse(output=Recipe | None, **ask).parsed, Recipe | None)
    assert_type(client.messages.parse(output=Literal["a", "b"], **ask).parsed, Literal["a", "b"])
    assert_type(client.messages.parse(output=Annotated[int, Field(gt=0)], **ask).parsed, int)
    client.messages.parse(output=Recipe, strategy=how, validation_retries=1, **ask)
    with client.messages.parse_stream(output=list[Point], **ask) as stream:
        assert_type(stream, ParsedMessageStream[list[Point]])
        for event in stream:
            assert_type(event, Event)
        for partial in stream.partial_stream:
            assert_type(partial, Any)
        assert_type(stream.get_final_message().parsed, list[Point])
    plain: Message = message
    history: list[MessageParam | Message] = [hello, plain, message.to_param(), hello]
    client.messages.create(max_tokens=1, messages=history)
    try:
        client.messages.parse(output=Recipe, **ask)
    except OutputError as error:
        assert_type(error.message, Message)
        assert_type(error.usage, Usage)
        assert_type(error.raw_text, str)
    return len(message.previous_attempts)


async def output_asynchronous(client: AsyncModelsLab, hello: MessageParam) -> list[Recipe]:
    async with client.messages.parse_stream(
        output=Literal[1, 2], max_tokens=1, messages=[hello]
    ) as stream:
        async for partial in stream.partial_stream:
            assert_type(partial, Any)
        assert_type((await stream.get_final_message()).parsed, Literal[1, 2])
    message = await client.messages.parse(output=list[Recipe], max_tokens=1, messages=[hello])
    return message.parsed


def loaded(
    client: ModelsLab,
    history: list[dict[str, Any]],
    blocks: list[dict[str, Any]],
    tools: list[dict[str, Any]],
) -> None:
    """What was loaded from JSON, or made by another library, needs no cast."""
    client.messages.create(max_tokens=1, messages=history)
    client.messages.create(max_tokens=1, messages=history, tools=tools, system=blocks)
    client.messages.create(max_tokens=1, messages=[*history, {"role": "user", "content": "Hm?"}])
    client.messages.create(max_tokens=1, messages=[{"role": "user", "content": blocks}])
    client.messages.create(
        max_tokens=1,
        messages=[{"role": "user", "content": [{"type": "text", "text": "Hm?"}, *blocks]}],
    )
    client.messages.create(max_tokens=1, messages=json.loads("[]"))
    client.messages.stream(max_tokens=1, messages=history)
    client.messages.count_tokens(messages=history, tools=tools)
    client.messages.run_tools(max_tokens=1, messages=history, tools=tools)
    client.messages.parse(output=int, max_tokens=1, messages=history)
    conversation = Conversation(history)
    conversation.add(history[0])
    conversation.add(blocks)
    conversation.add(blocks[0])
    mixed: list[MessageParam | dict[str, Any]] = [*conversation, *history]
    client.messages.create(max_tokens=1, messages=mixed)
    params: MessageCreateParams = {"max_tokens": 1, "messages": history}
    params["tools"] = tools
    turn: MessageParam = {"role": "assistant", "content": blocks}
    history.append({**turn})


def bulk(client: ModelsLab, points: list[Point], prices: Prices) -> None:
    def request(point: Point) -> MessageCreateParams:
        return {"max_tokens": 1, "messages": [{"role": "user", "content": str(point)}]}

    for result in client.messages.bulk(points, make=request, key=lambda point: point.x):
        assert_type(result, BulkResult[Point, None])
        assert_type(result.row, Point)
        assert_type(result.key, Union[str, int, None])
        assert_type(result.message, Message)
        assert_type(result.error, Union[ModelsLabError, None])
        assert_type(result.usage, Usage)
    run = client.messages.bulk(
        points,
        make=request,
        key="x",
        output=list[Recipe],
        validation_retries=1,
        defaults={"model": "m"},
        store=Path("run.sqlite"),
        max_in_flight=5,
        max_failures=None,
        budget=Budget(money=5, prices=prices),
        progress=lambda progress: print(progress.done),
    )
    assert_type(run, BulkRun[Point, list[Recipe]])
    assert_type(run.plan(), BulkPlan)
    with run:
        assert_type(next(run).parsed, list[Recipe])
    assert_type(run.finish(), BulkProgress)
    ready: list[dict[str, Any]] = [{"messages": []}]
    assert_type(client.messages.bulk(iter(ready)), BulkRun[dict[str, Any], None])
    with BulkStore("run.sqlite") as store, BulkStore("run.sqlite", Recipe, last_run=True) as parsed:
        assert_type(store, BulkStore[None])
        for stored in parsed:
            assert_type(stored, BulkResult[None, Recipe])
            assert_type(stored.parsed, Recipe)
        assert_type(store.get("x"), Union[BulkResult[None, None], None])


async def bulk_asynchronous(client: AsyncModelsLab, rows: AsyncIterator[int]) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    def request(number: int) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": str(number)}]}

    async for result in client.messages.bulk(rows, make=request):
        assert_type(result, BulkResult[int, None])
    run = client.messages.bulk(numbers(), make=request, output=Literal["a", "b"])
    assert_type(run, AsyncBulkRun[int, Literal["a", "b"]])
    async with run:
        assert_type((await run.__anext__()).parsed, Literal["a", "b"])
    assert_type(client.messages.bulk([1, 2], make=request), AsyncBulkRun[int, None])
    assert_type(await run.plan(), BulkPlan)
    assert_type(await run.finish(), BulkProgress)


async def media(client: AsyncModelsLab, file: Path) -> None:
    assert_type(image(file), ImageBlockParam)
    assert_type(document(text="x", title="y"), DocumentBlockParam)
    assert_type(image(Image.open(file)), ImageBlockParam)
    with open(file, "rb") as opened:
        blocks: list[ContentBlockParam] = [
            *(image(b"x"), image(memoryview(b"x")), image(opened, max_bytes=None), image("a.png")),
            *(await aimage("https://example.org/a.png"), await adocument(file, citations=True)),
        ]
    await client.messages.create(max_tokens=1, messages=[{"role": "user", "content": blocks}])
    turn: MessageParam = {"role": "user", "content": [image(file), {"type": "text", "text": "?"}]}
    await client.messages.create(max_tokens=1, messages=[turn])
