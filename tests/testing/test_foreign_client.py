"""The anthropic SDK as a foreign client of the scripted server: it sees what its types promise.

Its objects are built without validation, so each is validated here, strictly and down to the last
field, by its own class; what that class does not know counts as a broken promise too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, get_args

import anyio.from_thread
import pydantic
import pytest
from lazy import Lazy
from llama.scripts import ONE_CALL_INPUT
from llama.server import LlamaServer

from modelslab_llm import ModelsLab
from modelslab_llm.testing import DialectName, ErrorReply, Fault, LocalServer, Reply

pytestmark = pytest.mark.slow  # its SDK takes seconds to import

anthropic = Lazy("anthropic", "2.12")

Json = dict[str, Any]
ASK: Json = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "How high is the Tamar?"}],
}
PLAIN: Json = {"verify": False}  # to read the certificates of a machine takes 20 ms
THOUGHT: Json = {"type": "thinking", "thinking": "Hm, a river.", "signature": "c2ln"}
CALL: Json = {"type": "tool_use", "id": "t1", "name": "river_level", "input": ONE_CALL_INPUT}
RICH = Reply(
    [THOUGHT, {"type": "text", "text": "Let me look ⚓."}, CALL],
    usage={"input_tokens": 7, "output_tokens": 12, "cache_read_input_tokens": 3},
)


def at(server: LocalServer, options: Json) -> Json:
    return {"base_url": server.gateway().base_url, "api_key": server.api_key, **options}


class Sync:
    """Their sync client."""

    def __init__(self, server: LocalServer, **options: Any) -> None:
        http = anthropic.DefaultHttpxClient(**PLAIN)
        self.real = anthropic.Anthropic(**at(server, options), http_client=http)

    def create(self, **more: Any) -> Any:
        return self.real.messages.create(**ASK | more)

    def raw(self, **more: Any) -> list[Any]:
        return list(self.real.messages.create(**ASK | more, stream=True))

    def stream(self, **more: Any) -> tuple[list[Any], Any, str | None]:
        with self.real.messages.stream(**ASK | more) as stream:
            return list(stream), stream.get_final_message(), stream.request_id

    def texts(self) -> list[str]:
        with self.real.messages.stream(**ASK) as stream:
            return list(stream.text_stream)

    def count(self) -> Any:
        return self.real.messages.count_tokens(model="m", messages=ASK["messages"])

    def models(self, **query: Any) -> list[Any]:
        return list(self.real.models.list(**query))

    def run_tool(self, seen: list[str], *, stream: bool = False, **more: Any) -> list[Any]:
        def river_level(river: str, unit: str, days: list[int]) -> str:
            """Tell the level of a river."""
            seen.append(river)
            return "214 cm"

        tools = [anthropic.beta_tool(river_level)]
        asked = {**ASK, "max_tokens": 200, "tools": tools, "stream": stream, **more}
        runner = self.real.beta.messages.tool_runner(**asked)
        return [turn.get_final_message() if stream else turn for turn in runner]

    def close(self) -> None:
        self.real.close()


class Async:
    """Their async client, driven from sync code."""

    def __init__(self, server: LocalServer, **options: Any) -> None:
        http = anthropic.DefaultAsyncHttpxClient(**PLAIN)
        self.real = anthropic.AsyncAnthropic(**at(server, options), http_client=http)
        self.opened = ExitStack()
        self.portal = self.opened.enter_context(anyio.from_thread.start_blocking_portal())

    def create(self, **more: Any) -> Any:
        async def create() -> Any:
            return await self.real.messages.create(**ASK | more)

        return self.portal.call(create)

    def raw(self, **more: Any) -> list[Any]:
        async def raw() -> list[Any]:
            events = await self.real.messages.create(**ASK | more, stream=True)
            return [event async for event in events]

        return self.portal.call(raw)

    def stream(self, **more: Any) -> tuple[list[Any], Any, str | None]:
        async def read() -> Any:
            async with self.real.messages.stream(**ASK | more) as stream:
                events = [event async for event in stream]
                return events, await stream.get_final_message(), stream.request_id

        return self.portal.call(read)

    def texts(self) -> list[str]:
        async def read() -> list[str]:
            async with self.real.messages.stream(**ASK) as stream:
                return [text async for text in stream.text_stream]

        return self.portal.call(read)

    def count(self) -> Any:
        async def count() -> Any:
            return await self.real.messages.count_tokens(model="m", messages=ASK["messages"])

        return self.portal.call(count)

    def models(self, **query: Any) -> list[Any]:
        async def models() -> list[Any]:
            return [model async for model in self.real.models.list(**query)]

        return self.portal.call(models)

    def run_tool(self, seen: list[str], *, stream: bool = False, **more: Any) -> list[Any]:
        async def river_level(river: str, unit: str, days: list[int]) -> str:
            """Tell the level of a river."""
            seen.append(river)
            return "214 cm"

        async def run() -> list[Any]:
            tools = [anthropic.beta_async_tool(river_level)]
            asked = {**ASK, "max_tokens": 200, "tools": tools, "stream": stream, **more}
            runner = self.real.beta.messages.tool_runner(**asked)
            return [await turn.get_final_message() if stream else turn async for turn in runner]

        return self.portal.call(run)

    def close(self) -> None:
        self.portal.call(self.real.close)
        self.opened.close()


class Theirs:
    """Open servers, and clients of theirs in one variant; all are closed at the end."""

    def __init__(self, variant: type[Sync | Async]) -> None:
        self.variant = variant
        self.opened = ExitStack()

    def server(self, script: Any = None, **options: Any) -> LocalServer:
        return self.opened.enter_context(LocalServer(script, **options))

    def client(self, server: LocalServer, **options: Any) -> Sync | Async:
        client = self.variant(server, **{"max_retries": 0, **options})
        self.opened.callback(client.close)
        return client

    def asked(self, script: Any, **options: Any) -> Sync | Async:
        return self.client(self.server(script), **options)


@pytest.fixture(params=[Sync, Async])
def theirs(request: pytest.FixtureRequest) -> Iterator[Theirs]:
    found = Theirs(request.param)
    with found.opened:
        yield found


# What their types promise


def inside(value: object) -> Iterator[pydantic.BaseModel]:
    """Give the objects of their classes that a value holds, itself among them."""
    if isinstance(value, pydantic.BaseModel):
        yield value
        for _, field in value:
            yield from inside(field)
    elif isinstance(value, list):
        for each in value:
            yield from inside(each)


def broken(values: Iterable[Any]) -> set[str]:
    """Name the fields that are not what their class says, or not there, or unknown to it."""
    found: set[str] = set()
    for each in (each for value in values for each in inside(value)):
        name = type(each).__name__.removeprefix("Parsed")
        found |= {f"{name}.{field}" for field in each.model_extra or () if field[0] != "_"}
        try:
            text = each.model_dump_json(exclude_unset=True, warnings=False)
            type(each).model_validate_json(text, strict=True)
        except pydantic.ValidationError as error:
            # Of deeper ones those who hold them are told too, once for each class they might be.
            own = (fault["loc"] for fault in error.errors() if len(fault["loc"]) == 1)
            found |= {f"{name}.{field}" for (field,) in own}
    return found


def kept(*values: Any) -> bool:
    """Tell whether values are what their classes promise, to the last field."""
    for value in values:
        text = value.model_dump_json(exclude_unset=True)
        assert type(value).model_validate_json(text, strict=True) == value
    assert broken(values) == set()
    return True


def test_a_broken_promise_is_found() -> None:
    block = anthropic.types.TextBlock.construct(type="text", text=3, size=1)
    message = anthropic.types.Message.construct(content=[block], role="user")
    assert {"TextBlock.text", "TextBlock.size", "Message.role", "Message.id"} <= broken([message])


# Messages


def test_a_message(theirs: Theirs) -> None:
    types = anthropic.types
    message = theirs.asked(RICH).create()
    assert type(message) is types.Message
    assert kept(message)
    assert [type(block) for block in message.content] == [
        types.ThinkingBlock,
        types.TextBlock,
        types.ToolUseBlock,
    ]
    thought, text, call = message.content
    assert (thought.thinking, thought.signature) == ("Hm, a river.", "c2ln")
    assert text.text == "Let me look ⚓."
    assert (call.id, call.name, call.input) == ("t1", "river_level", ONE_CALL_INPUT)
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    assert (message.role, message.model, message.id) == ("assistant", "m", "msg_local_0001")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (7, 3)
    assert message._request_id == "req_local_0001"


def test_a_stream(theirs: Theirs) -> None:
    client = theirs.asked(RICH)
    whole = client.create()
    raw = client.raw()
    events, final, request_id = client.stream()
    assert kept(*raw, *events, final)
    assert final.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})
    assert request_id == "req_local_0003"
    deltas = "content_block_delta"
    assert [event.type for event in raw if event.type != deltas] == [
        "message_start",
        *["content_block_start", "content_block_stop"] * 3,
        "message_delta",
        "message_stop",
    ]
    kinds = [(event.delta.type if event.type == deltas else event.type) for event in raw]
    for kind in ("thinking_delta", "signature_delta", "text_delta", "input_json_delta"):
        assert kind in kinds
    # What they build of the events themselves.
    texts = [event.text for event in events if event.type == "text"]
    assert texts == ["Let ", "me ", "look ", "⚓."] == client.texts()
    assert next(event.thinking for event in events if event.type == "thinking") == "Hm, "
    *_, arguments = (event.snapshot for event in events if event.type == "input_json")
    assert arguments == ONE_CALL_INPUT
    assert [event.message for event in events if event.type == "message_stop"] == [final]


@pytest.mark.parametrize("split", ["word", "character", 1, 7])
def test_however_it_is_cut(theirs: Theirs, split: Any) -> None:
    client = theirs.asked(Reply(RICH.content, split=split))
    events, final, _ = client.stream()
    assert kept(*events, final)
    assert final.model_dump()["content"] == client.create().model_dump()["content"]


RESULT: Json = {
    "type": "web_search_result",
    "title": "Tamar",
    "url": "https://example.org/",
    "encrypted_content": "x",
    "page_age": None,
}
CITED: Json = {
    "type": "char_location",
    "cited_text": "214 cm",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 6,
    "file_id": None,
}
BLOCKS: dict[str, Json] = {
    "TextBlock": {"type": "text", "text": "It is 214 cm.", "citations": [CITED]},
    "RedactedThinkingBlock": {"type": "redacted_thinking", "data": "x"},
    "ServerToolUseBlock": {
        "type": "server_tool_use",
        "id": "s1",
        "name": "web_search",
        "input": {"query": "Tamar"},
    },
    "WebSearchToolResultBlock": {
        "type": "web_search_tool_result",
        "tool_use_id": "s1",
        "content": [RESULT],
    },
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_every_kind(theirs: Theirs, name: str) -> None:
    client = theirs.asked(Reply([BLOCKS[name]]))
    message = client.create()
    events, final, _ = client.stream()
    assert kept(message, *events, final)
    for block in (message.content[0], final.content[0]):
        assert type(block).__name__.removeprefix("Parsed") == name
        assert block.to_dict() == BLOCKS[name]


def test_why_it_stopped(theirs: Theirs) -> None:
    stopped = Reply("One, two", "stop_sequence", "three")
    client = theirs.asked([stopped, stopped, Reply(stop_reason="refusal")])
    for message in (client.create(), client.stream()[1]):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")
    refused = client.create()
    assert (refused.stop_reason, refused.content) == ("refusal", [])
    assert kept(refused)


def test_a_message_of_ours_is_one_of_theirs(theirs: Theirs) -> None:
    server = theirs.server(RICH)
    with ModelsLab(server.api_key, endpoint=server.gateway()) as ours:
        server.script = message = ours.messages.create(**ASK)
    client = theirs.client(server)
    for found in (client.create(), client.stream()[1]):
        assert kept(found)
        assert [block.to_dict() for block in found.content] == message.to_param()["content"]
        assert found.usage.cache_read_input_tokens == 3


# Tools


def test_a_tool_and_its_result(theirs: Theirs) -> None:
    tools = [{"name": "river_level", "input_schema": {"type": "object", "properties": {}}}]
    server = theirs.server([Reply([CALL]), "It is 214 cm."])
    client = theirs.client(server)
    message = client.create(tools=tools)
    server.assert_called(tools=tools, text="How high is the Tamar?")
    result = {"type": "tool_result", "tool_use_id": message.content[0].id, "content": "214 cm"}
    turns = [*ASK["messages"], message.to_param(), {"role": "user", "content": [result]}]
    assert client.create(tools=tools, messages=turns).content[0].text == "It is 214 cm."
    last = server.assert_called(text="214 cm")
    assert last.messages[1] == {"role": "assistant", "content": [CALL]}
    server.assert_script_used()


@pytest.mark.parametrize("stream", [False, True])
def test_their_tool_runner(theirs: Theirs, stream: bool) -> None:
    server = theirs.server([RICH, "It is 214 cm."])
    seen: list[str] = []
    calling, last = theirs.client(server).run_tool(seen, stream=stream, thread=False)
    assert seen == ["Tamar ⚓"]
    assert kept(calling, last)
    assert (calling.stop_reason, last.stop_reason) == ("tool_use", "end_turn")
    assert last.content[0].text == "It is 214 cm."
    asked = server.assert_called(text="214 cm", stream=stream)
    assert asked.tools[0]["name"] == "river_level"
    assert asked.messages[1] == {"role": "assistant", "content": RICH.content}
    server.assert_script_used()


def test_their_tool_runner_leaves_the_history_to_the_server(
    theirs: Theirs, llama_tools: LlamaServer
) -> None:
    """This is the default; a server without threads answers without it."""
    server = theirs.server([RICH, "It is 214 cm."])
    theirs.client(server).run_tool([])
    asked = server.assert_called(
        thread={"type": "continue", "previous_message_id": "msg_local_0001"}
    )
    assert [turn["role"] for turn in asked.messages] == ["user"]
    assert asked.tools == []

    real = theirs.client(server, base_url=llama_tools.url, api_key=llama_tools.api_key)
    prompts = [
        [turn.usage.input_tokens + turn.usage.cache_read_input_tokens for turn in turns]
        for turns in (real.run_tool([], thread=False), real.run_tool([]))
    ]
    (first, whole), (_, cut) = prompts
    assert cut < first < whole


# Errors: which status is which class stands in test_anthropic


TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@pytest.mark.parametrize("status", TYPES)
def test_an_error(theirs: Theirs, status: int) -> None:
    client = theirs.asked(ErrorReply(status, "Not today."))
    with pytest.raises(anthropic.APIStatusError) as failed:
        client.create()
    error = failed.value
    assert (error.status_code, error.type) == (status, TYPES[status])
    assert error.api_message == "Not today."
    assert error.request_id == "req_local_0001"
    body = anthropic.types.ErrorResponse.model_validate_json(error.response.content, strict=True)
    assert kept(body)
    assert (body.error.type, body.request_id) == (TYPES[status], "req_local_0001")
    with pytest.raises(type(error)):
        client.stream()


@pytest.mark.parametrize("type_", ["overloaded_error", "rate_limit_error", "api_error"])
@pytest.mark.parametrize("after", [0, 4])
def test_an_error_in_a_stream(theirs: Theirs, after: int, type_: str) -> None:
    client = theirs.asked(Reply("One two.", fault=Fault.error(type_, "Later.", after=after)))
    with pytest.raises(anthropic.APIStatusError) as failed:
        client.stream()
    error = failed.value
    assert (error.type, error.api_message) == (type_, "Later.")
    assert error.request_id == "req_local_0001"
    assert kept(anthropic.types.ErrorResponse.model_validate(error.body, strict=True))


def test_a_deployment_that_is_paused_and_a_wrong_key(theirs: Theirs) -> None:
    server = theirs.server("Hello.", deployments={"dep_1": "paused"})
    client = theirs.client(server, base_url=server.gguf("dep_1").base_url)
    with pytest.raises(anthropic.ServiceUnavailableError, match="status: paused"):
        client.create()
    server.deployments["dep_1"] = "ready"
    assert client.create().content[0].text == "Hello."
    server.api_key = "another-key"
    with pytest.raises(anthropic.AuthenticationError, match="Invalid API key"):
        client.create()


def test_it_tries_again_as_it_is_told(theirs: Theirs) -> None:
    server = theirs.server(
        [ErrorReply(529, headers={"retry-after-ms": "1"}), Fault.reset(), "Yes."]
    )
    assert theirs.client(server, max_retries=2).create().content[0].text == "Yes."
    assert len(server.requests) == 3
    server.script = lambda request: 1 / 0  # type: ignore[assignment,return-value]
    with pytest.raises(anthropic.InternalServerError, match="the script raised ZeroDivisionError"):
        theirs.client(server, max_retries=2).create()
    assert len(server.requests) == 4


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.cut(), Fault.refuse()], ids=repr)
def test_no_answer(theirs: Theirs, fault: Fault) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        theirs.asked(fault).create()


def test_silence(theirs: Theirs) -> None:
    with pytest.raises(anthropic.APITimeoutError):
        theirs.asked(Fault.stall(), timeout=0.05).create()


def test_a_server_that_is_down(theirs: Theirs) -> None:
    server = theirs.server("Up again.")
    client = theirs.client(server)
    with server.refusing(), pytest.raises(anthropic.APIConnectionError):
        client.create()
    assert client.create().content[0].text == "Up again."


# Counting and listing


def test_tokens_and_models(theirs: Theirs) -> None:
    server = theirs.server()
    client = theirs.client(server)
    counted = client.count()
    assert kept(counted)
    assert counted.input_tokens == 5
    models = client.models(limit=2)
    assert kept(*models)
    assert [type(model) for model in models] == [anthropic.types.ModelInfo] * len(models)
    assert len(models) == 3
    asked = [request.path.partition("?")[2] for request in server.requests[1:]]
    assert asked == ["limit=2", f"limit=2&after_id={models[1].id}"]


# Dialects

NO_SIGNATURE = {"ThinkingBlock.signature"}
VLLM = {"Message.role", "Message.type", *NO_SIGNATURE}
COUNTERS = {
    f"{usage}.claude_cache_creation_{kind}_tokens"
    for usage in ("Usage", "MessageDeltaUsage")
    for kind in ("5_m", "1_h")
}
BROKEN: dict[DialectName, set[str]] = {
    "llama-server": {"ToolUseBlock.input", *NO_SIGNATURE},
    "vllm": VLLM,
    "vllm-old": VLLM,
    "ollama": NO_SIGNATURE,
    "new-api": {*COUNTERS, *NO_SIGNATURE},
}
"""What their types promise and a server does not keep, as protocol.md tells; others keep all."""


@pytest.mark.parametrize("dialect", [name for name in get_args(DialectName) if name != "data-only"])
def test_their_client_in_each_dialect(theirs: Theirs, dialect: DialectName) -> None:
    calling = Reply([THOUGHT, CALL])  # new-api loses a text beside it
    server = theirs.server([calling, calling, "Two words.", "Two words."], dialect=dialect)
    client = theirs.client(server)
    message = client.create()
    events, final, _ = client.stream()
    for found in (message, final):
        calls = [block for block in found.content if block.type == "tool_use"]
        assert [(call.name, call.input) for call in calls] == [("river_level", CALL["input"])]
        assert found.stop_reason == "tool_use"
    assert broken([message, *events, final]) == BROKEN.get(dialect, set())
    assert client.create().content[0].text == "Two words."
    assert "".join(client.texts()) == "Two words."


def test_it_hears_nothing_without_event_lines(theirs: Theirs) -> None:
    client = theirs.client(theirs.server("Hello.", dialect="data-only"))
    assert client.create().content[0].text == "Hello."
    assert client.raw() == []
