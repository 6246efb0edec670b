"""The clients against the real `llama-server`, whose model says what the tests need it to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from llama.fixtures import MODEL_NAME, require_llama
from llama.scripts import (
    ANSWER_REPLY,
    ONE_CALL_INPUT,
    QUESTION_REPLY,
    RIVER_LEVEL,
    SPLIT_CHARACTER_REPLY,
    TEXT_REPLY,
    THOUGHT,
    TWO_CALLS_INPUTS,
)
from llama.server import LlamaServer
from pydantic import BaseModel, Field
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    AuthenticationError,
    BadRequestError,
    ContextOverflowError,
    EndpointNotReadyError,
    InternalServerError,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    endpoints,
    tool,
)
from modelslab_llm.types import ContentBlockStartEvent, MessageStartEvent, MessageStopEvent

Client = SyncClient | AsyncClient
HELLO = [{"role": "user", "content": "Hello"}]


def client_of(variant: Sync | Async, server: LlamaServer, **settings: Any) -> Client:
    endpoint = endpoints.gateway(server.url, default_model=MODEL_NAME)
    return variant.client(**{"api_key": server.api_key, "endpoint": endpoint} | settings)


def created(client: Client, **params: Any) -> Any:
    return client.create(**params)


def streamed(client: Client, **params: Any) -> Any:
    with client.stream(**params) as stream:
        return stream.message()


ways = pytest.mark.parametrize("ask", [created, streamed])


@ways
def test_text(variant: Sync | Async, llama_text: LlamaServer, ask: Callable[..., Any]) -> None:
    """The whole reply and its usage, created and streamed."""
    client = client_of(variant, llama_text)
    message = ask(client, max_tokens=200, temperature=0.0, messages=HELLO)
    assert message.text == TEXT_REPLY
    assert message.stop_reason == "end_turn"
    assert message.model == MODEL_NAME
    assert message.usage.output_tokens > 0
    client.close()


def test_text_comes_in_pieces(variant: Sync | Async, llama_text: LlamaServer) -> None:
    client = client_of(variant, llama_text)
    with client.stream(max_tokens=200, temperature=0.0, messages=HELLO) as stream:
        pieces = list(stream.texts())
        assert len(pieces) > 5
        assert "".join(pieces) == stream.text() == TEXT_REPLY
    client.close()


def test_a_stream_that_begins_without_a_start(
    variant: Sync | Async, llama_text: LlamaServer
) -> None:
    """llama-server leaves message_start out when the first character is split (protocol.md §11)."""
    client = client_of(variant, llama_text)
    ask = [{"role": "user", "content": "The tower?"}]
    with client.stream(max_tokens=200, temperature=0.0, messages=ask) as stream:
        events = list(stream.events())
        message = stream.message()
    assert not any(isinstance(event, MessageStartEvent) for event in events)
    assert message.text == SPLIT_CHARACTER_REPLY
    assert (message.model, message.role) == (MODEL_NAME, "assistant")
    client.close()


def test_an_empty_answer(variant: Sync | Async, llama_text: LlamaServer) -> None:
    client = client_of(variant, llama_text)
    ask = [{"role": "user", "content": "Say nothing."}]
    assert streamed(client, max_tokens=9, temperature=0.0, messages=ask).content == []
    assert created(client, max_tokens=9, temperature=0.0, messages=ask).text == ""
    client.close()


@ways
def test_a_stop_sequence_is_reported_as_end_turn(
    variant: Sync | Async, llama_text: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_text)
    message = ask(client, max_tokens=200, temperature=0.0, messages=HELLO, stop_sequences=["Paris"])
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", "Paris")
    assert message.text == TEXT_REPLY.partition("Paris")[0]
    client.close()


@ways
def test_thinking(
    variant: Sync | Async, llama_thinking: LlamaServer, ask: Callable[..., Any]
) -> None:
    """Thinking and answer are two blocks, created and streamed."""
    client = client_of(variant, llama_thinking)
    message = ask(client, max_tokens=200, temperature=0.0, messages=HELLO)
    thinking, text = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert thinking.thinking.strip() == THOUGHT.strip()
    assert isinstance(text, TextBlock)
    assert text.text == message.text == QUESTION_REPLY
    client.close()


@ways
def test_a_tool_call_and_its_result(
    variant: Sync | Async, llama_tools: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_tools)
    history: list[Any] = [{"role": "user", "content": "How high is the Tamar?"}]
    asked = {"max_tokens": 300, "temperature": 0.0, "tools": [RIVER_LEVEL]}
    message = ask(client, messages=history, **asked)
    (use,) = message.tool_uses
    assert (use.name, use.input, use.input_complete) == ("river_level", ONE_CALL_INPUT, True)
    assert message.stop_reason == "tool_use"

    history += [
        message.to_param(),
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "213 cm"}],
        },
    ]
    assert ask(client, messages=history, **asked).text == ANSWER_REPLY
    client.close()


@ways
def test_two_tool_calls_at_once(
    variant: Sync | Async, llama_tools: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_tools)
    message = ask(
        client,
        max_tokens=300,
        temperature=0.0,
        tools=[RIVER_LEVEL],
        messages=[{"role": "user", "content": "How high are both?"}],
    )
    assert [use.input for use in message.tool_uses] == list(TWO_CALLS_INPUTS)
    assert message.text
    client.close()


@ways
def test_a_tool_call_that_is_cut_says_so(
    variant: Sync | Async, llama_tools: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_tools)
    message = ask(
        client,
        max_tokens=8,
        temperature=0.0,
        tools=[RIVER_LEVEL],
        messages=[{"role": "user", "content": "How high is the Tamar?"}],
    )
    (use,) = message.tool_uses
    assert message.stop_reason == "max_tokens"
    assert isinstance(use, ToolUseBlock)
    assert (use.input, use.input_complete) == ({}, False)
    if ask is streamed:
        assert use.raw_input
        assert use.raw_input.startswith('{"river": "Ta')
    client.close()


LEVELS: list[dict[str, Any]] = []


@tool
def river_level(river: str, unit: str = "cm", days: list[int] = []) -> str:  # noqa: B006
    """The water level of a river on each of the given days of this month."""
    LEVELS.append({"river": river, "unit": unit, "days": days})
    return f"214 {unit}"


def run_whole(client: Client, **params: Any) -> list[Any]:
    return list(client.run_tools(**params).turns())


def run_streamed(client: Client, **params: Any) -> list[Any]:
    messages = []
    for stream in client.run_tools(**params).streams():
        words = "".join(stream.texts())
        messages.append(stream.message())
        assert words == messages[-1].text
    return messages


ways_to_run = pytest.mark.parametrize("run", [run_whole, run_streamed])


@ways_to_run
def test_the_tool_loop(
    variant: Sync | Async, llama_tools: LlamaServer, run: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_tools)
    LEVELS.clear()
    question = [{"role": "user", "content": "How high is the Tamar?"}]
    asked = {"max_tokens": 300, "temperature": 0.0, "tools": [river_level]}
    call, answer = run(client, messages=question, **asked)
    assert call.tool_uses[0].input == ONE_CALL_INPUT
    assert answer.text == ANSWER_REPLY
    assert LEVELS == [ONE_CALL_INPUT]
    client.close()


@ways_to_run
def test_the_tool_loop_with_two_calls_at_once(
    variant: Sync | Async, llama_tools: LlamaServer, run: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_tools)
    LEVELS.clear()
    question = [{"role": "user", "content": "How high are both?"}]
    asked = {"max_tokens": 300, "temperature": 0.0, "tools": [river_level]}
    calls, answer = run(client, messages=question, **asked)
    assert [use.input for use in calls.tool_uses] == list(TWO_CALLS_INPUTS)
    assert answer.text == ANSWER_REPLY
    assert sorted(level["river"] for level in LEVELS) == ["Dart", "Exe"]
    client.close()


def test_the_tool_loop_after_a_call_that_is_cut(
    variant: Sync | Async, llama_tools: LlamaServer
) -> None:
    """Its arguments never run; the model gets an error, and answers."""
    client = client_of(variant, llama_tools)
    LEVELS.clear()
    question = [{"role": "user", "content": "How high is the Tamar?"}]
    asked = {"max_tokens": 8, "temperature": 0.0, "tools": [river_level]}
    runner = client.run_tools(messages=question, **asked)
    assert ANSWER_REPLY.startswith(runner.message().text)
    (result,) = runner.real.messages[2]["content"]
    assert "truncated (max_tokens)" in result["content"]
    assert LEVELS == []
    client.close()


class Place(BaseModel):
    name: str
    within: Place | None = None


@pytest.mark.slow
def test_the_schemas_it_takes(llama_tools: LlamaServer) -> None:
    """It makes a grammar of each schema: nested, recursive and bounded ones, dates, unions."""

    @tool
    def everything(
        place: Place,
        on: date,
        at: datetime,
        share: Decimal,
        id: UUID,
        several: set[int],
        pair: tuple[int, str],
        code: Annotated[str, Field(pattern="^[A-Z]{2}$")],
        level: Annotated[float, Field(ge=0, lt=10)] = 1.5,
        kind: Literal["a", 1] = "a",
        more: dict[str, list[int]] | None = None,
        *,
        whatever: Any = None,
    ) -> None: ...

    client = client_of(Sync(), llama_tools)
    message = client.create(max_tokens=1, messages=HELLO, tools=[everything])
    assert message.role == "assistant"
    client.close()


@pytest.mark.parametrize("pattern", ["[A-Z]{2}", r"^\w+\b$"])
def test_a_schema_it_refuses(llama_tools: LlamaServer, pattern: str) -> None:
    """A tool says in words what has no grammar; a definition is sent as it is."""

    @tool
    def coded(code: Annotated[str, Field(pattern=pattern)]) -> None: ...

    client = client_of(Sync(), llama_tools)
    assert client.create(max_tokens=1, messages=HELLO, tools=[coded]).role == "assistant"
    raw = {"name": "coded", "input_schema": coded.input_schema}
    with pytest.raises(BadRequestError, match="llama-server cannot compile a tool"):
        client.create(max_tokens=1, messages=HELLO, tools=[raw])
    client.close()


def test_counting_agrees_with_what_is_used(variant: Sync | Async, llama_text: LlamaServer) -> None:
    client = client_of(variant, llama_text)
    asked = {"messages": HELLO, "system": "Be brief."}
    counted = client.count_tokens(**asked).input_tokens
    usage = client.create(max_tokens=5, temperature=0.0, **asked).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens > 5
    client.close()


def test_models(variant: Sync | Async, llama_text: LlamaServer) -> None:
    client = client_of(variant, llama_text)
    (model,) = client.models()
    assert (model.id, model.owned_by) == (MODEL_NAME, "llamacpp")
    assert model.context_window
    assert model.created
    client.close()


def test_every_kind_of_key_it_takes(variant: Sync | Async, llama_text: LlamaServer) -> None:
    for auth in ("bearer", "x-api-key"):
        endpoint = endpoints.gateway(llama_text.url + "/v1/", auth=auth, default_model="local")
        client = client_of(variant, llama_text, endpoint=endpoint)
        assert client.create(max_tokens=1, messages=HELLO).role == "assistant"
        client.close()


@ways
def test_a_wrong_key(
    variant: Sync | Async, llama_text: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_text, api_key="quite-another-key")
    with pytest.raises(AuthenticationError) as refused:
        ask(client, max_tokens=5, messages=HELLO)
    assert (refused.value.type, refused.value.attempts) == ("authentication_error", 1)
    assert "quite-another-key" not in str(refused.value)
    client.close()


@ways
def test_too_long_a_prompt(
    variant: Sync | Async, llama_text: LlamaServer, ask: Callable[..., Any]
) -> None:
    client = client_of(variant, llama_text)
    with pytest.raises(ContextOverflowError) as refused:
        ask(client, max_tokens=5, messages=[{"role": "user", "content": "long " * 5000}])
    error = refused.value
    assert error.prompt_tokens
    assert error.context_size
    assert error.prompt_tokens > error.context_size
    assert error.attempts == 1
    client.close()


@pytest.mark.slow
def test_an_error_in_the_middle_of_a_stream(
    variant: Sync | Async, llama_crowded: LlamaServer
) -> None:
    """Two streams outgrow the context they share: the server says so by an error event."""
    other = client_of(Sync(), llama_crowded)
    client = client_of(variant, llama_crowded)

    def fill() -> None:
        with pytest.raises(InternalServerError):
            streamed(other, max_tokens=500, temperature=0.0, messages=HELLO)

    thread = threading.Thread(target=fill)
    thread.start()
    with pytest.raises(InternalServerError) as broken:
        streamed(client, max_tokens=500, temperature=0.0, messages=HELLO)
    thread.join()
    assert broken.value.in_stream
    assert broken.value.partial_message is not None
    assert broken.value.partial_message.text.startswith("I count: 1 2 3")
    other.close()
    client.close()


@pytest.mark.slow
def test_leaving_a_stream_early_stops_the_server(
    variant: Sync | Async, llama_slow: LlamaServer
) -> None:
    client = client_of(variant, llama_slow)
    with client.stream(max_tokens=2000, temperature=0.0, messages=HELLO) as stream:
        for event in stream.events():
            if isinstance(event, ContentBlockStartEvent):
                break
            assert not isinstance(event, MessageStopEvent)
        assert busy_slots(llama_slow) == 1
    # Counting to the end takes seconds; poll for less than that.
    give_up = time.monotonic() + 1.5
    while busy_slots(llama_slow) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert busy_slots(llama_slow) == 0
    client.close()


def busy_slots(server: LlamaServer) -> int:
    """Return how many answers the server is working on."""
    key = {"authorization": f"Bearer {server.api_key}"}
    slots = httpx.get(f"{server.url}/slots", headers=key).json()
    return sum(slot["is_processing"] for slot in slots)


@pytest.mark.slow
def test_waiting_while_it_loads(variant: Sync | Async, llama_text: LlamaServer) -> None:
    require_llama()
    with LlamaServer(llama_text.model_path, hold_loading=True, wait=False) as server:
        client = client_of(variant, server, max_retries=0)
        server.wait_for(503)
        with pytest.raises(EndpointNotReadyError) as loading:
            client.create(max_tokens=1, messages=HELLO)
        assert loading.value.endpoint_status == "loading"
        with pytest.raises(EndpointNotReadyError) as still:
            client.wait_until_ready(timeout=1.2)
        assert still.value.attempts >= 2

        threading.Timer(0.3, server.finish_loading).start()
        client.wait_until_ready(timeout=30)
        assert client.create(max_tokens=1, messages=HELLO).role == "assistant"
        client.close()
