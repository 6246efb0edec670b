"""Prove that every sample of a real server's bytes is read as `samples/expected.json` says.

Streams go through both clients, whole and byte by byte, and cut in two at every position through
the pure reader. Whole messages, token counts, lists of models and errors go through the clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import errors
from modelslab_llm._protocol.reader import Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm.errors import APIError, APIStatusError, StreamInterruptedError
from modelslab_llm.types import (
    ContentBlockDeltaEvent,
    Event,
    Message,
    MessageStartEvent,
    MessageStopEvent,
    PingEvent,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ToolUseBlock,
)

SAMPLES = Path(__file__).parents[1] / "samples"
EXPECTED: dict[str, dict[str, Any]] = json.loads(
    (SAMPLES / "expected.json").read_text(encoding="utf-8")
)
ASK: dict[str, Any] = {
    "model": "asked",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Go on."}],
}
SETTINGS: dict[str, Any] = {
    "api_key": "sample-key-0000",
    "base_url": "http://sample.invalid",
    "max_retries": 0,
}

# httpx's own generators, not the package's, are left unfinished when a stream ends before its body.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(httpx\.|variants\.Chunks):ResourceWarning"
)

each_stream = pytest.mark.parametrize("name", list(EXPECTED))
each_cut = pytest.mark.parametrize("size", [None, 1], ids=["whole", "byte by byte"])


@cache
def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def cut(body: bytes, size: int | None) -> list[bytes]:
    if size is None:
        return [body]
    return [body[at : at + size] for at in range(0, len(body), size)]


def counters(message: Message) -> dict[str, int]:
    """Return the whole numbers that a server really sent."""
    usage = message.usage
    return {
        name: value
        for name in usage.model_fields_set
        if isinstance(value := getattr(usage, name), int)
    }


def assert_as_expected(message: Message, wanted: dict[str, Any]) -> None:
    assert message.id == wanted["id"]
    assert message.model == wanted["model"]
    assert message.to_param() == {"role": "assistant", "content": wanted["content"]}
    assert message.stop_reason == wanted["stop_reason"]
    assert message.stop_sequence == wanted["stop_sequence"]
    assert counters(message) == wanted["usage"]


def assert_fails_as_expected(error: APIError, wanted: dict[str, Any]) -> None:
    """Compare an error, and the part of the message that it carries."""
    if wanted["terminal"] == "truncated":
        assert type(error) is StreamInterruptedError
    else:
        assert wanted["terminal"] == "error"
        assert isinstance(error, APIStatusError)
        assert error.in_stream
        said = {"type": error.type, "message": error.message, "code": error.code}
        assert said == wanted["error"]
    assert error.partial_message is not None
    assert_as_expected(error.partial_message, wanted)


# Streams, through the clients


def sse_client(variant: Sync | Async, body: Chunks) -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["stream"] is True
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    return variant.client(handler=handler, **SETTINGS)


@each_cut
@each_stream
def test_stream(variant: Sync | Async, name: str, size: int | None) -> None:
    """What expected.json says, however the bytes are cut."""
    wanted = EXPECTED[name]
    body = Chunks(cut(sample(name), size))
    with sse_client(variant, body).stream(**ASK) as stream:
        if wanted["terminal"] == "message_stop":
            assert_as_expected(stream.message(), wanted)
        else:
            with pytest.raises(APIError) as caught:
                stream.message()
            assert_fails_as_expected(caught.value, wanted)
        assert body.closed


@each_stream
def test_the_connection_is_closed_exactly_at_the_end(variant: Sync | Async, name: str) -> None:
    wanted = EXPECTED[name]
    body = Chunks(cut(sample(name), 1))
    seen: list[Event] = []
    open_at: list[bool] = []
    with sse_client(variant, body).stream(**ASK) as stream:
        failure: APIError | None = None
        try:
            for event in stream.events():
                seen.append(event)
                open_at.append(not body.closed)
        except APIError as error:
            failure = error
        assert body.closed, "before the block is left"
    if wanted["content"]:  # else all is read before anything is handed out
        assert all(open_at[:-1])  # the last event may need the end of the body
    assert isinstance(seen[0], MessageStartEvent) is wanted["message_start_seen"]
    assert isinstance(seen[-1], MessageStopEvent) is (wanted["terminal"] == "message_stop")
    assert (failure is None) is (wanted["terminal"] == "message_stop")


@each_stream
def test_text_stream(variant: Sync | Async, name: str) -> None:
    """The text alone, as it comes, is the text of the message."""
    wanted = EXPECTED[name]
    text = "".join(block["text"] for block in wanted["content"] if block["type"] == "text")
    pieces: list[str] = []
    with sse_client(variant, Chunks([sample(name)])).stream(**ASK) as stream:
        if wanted["terminal"] == "message_stop":
            pieces += stream.texts()
            assert stream.text() == text
        else:
            with pytest.raises(APIError):
                for piece in stream.texts():
                    pieces.append(piece)
    assert "".join(pieces) == text
    assert all(pieces)


def test_pings_are_handed_out(variant: Sync | Async) -> None:
    with sse_client(variant, Chunks([sample("s01_anthropic_text.sse")])).stream(**ASK) as stream:
        kinds = [type(event) for event in stream.events()]
    assert kinds.count(PingEvent) == 1


# Streams, through the pure reader


def event_failure(payload: object) -> APIError:
    return from_payload(payload, {}, now=0.0, in_stream=True)


def read(*chunks: bytes) -> tuple[list[Event], APIError | None, Message]:
    """Return the events, how it failed if it did, and the message."""
    reader = Reader("asked", 1 << 20, event_failure)
    events: list[Event] = []
    failure: APIError | None = None
    try:
        for chunk in chunks:
            events += reader.feed(chunk)
            if reader.message.complete:
                break
        else:
            events += reader.end()
    except APIError as error:
        failure = error
    return events, failure, reader.message.message()


@pytest.mark.slow
@each_stream
def test_cut_in_two_at_every_byte(name: str) -> None:
    body, wanted = sample(name), EXPECTED[name]
    _, failure, message = read(body)
    assert_as_expected(message, wanted)
    if failure:
        failure.partial_message = message
        assert_fails_as_expected(failure, wanted)
    else:
        assert wanted["terminal"] == "message_stop"
    for at in range(1, len(body)):
        _, failure_here, message_here = read(body[:at], body[at:])
        assert message_here == message, f"cut at byte {at}"
        assert repr(failure_here) == repr(failure), f"cut at byte {at}"


@each_stream
def test_events_do_not_depend_on_the_chunks(name: str) -> None:
    body = sample(name)
    whole, failure, _ = read(body)
    for size in (1, 2, 3, 7, 64, 1000):
        events, failure_here, _ = read(*cut(body, size))
        assert repr(failure_here) == repr(failure)
        assert events == whole


def test_line_separators_inside_text_are_kept() -> None:
    _, _, message = read(sample("s26_crlf_bom_multiline_no_final_blank.sse"))
    assert message.text == "line\u2028sep ok"


def test_characters_cut_apart_are_joined() -> None:
    events, _, _ = read(*cut(sample("s01_anthropic_text.sse"), 1))
    texts = [
        event.delta.text
        for event in events
        if isinstance(event, ContentBlockDeltaEvent) and isinstance(event.delta, TextDelta)
    ]
    assert texts == ["A kestrel can ", "hover in place — ", "even in wind 🪁."]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@each_stream
def test_line_ends(name: str, line_end: bytes) -> None:
    lines = sample(name).replace(b"\r\n", b"\n").replace(b"\n", line_end)
    _, _, message = read(*cut(lines, 5))
    assert_as_expected(message, EXPECTED[name])


# Whole messages


def stored(name: str) -> tuple[dict[str, Any], httpx.Response]:
    """Return a stored answer as it is in its file, and as a response in chunks."""
    said: dict[str, Any] = json.loads(sample(name))
    text = said["body_text"] if "body_text" in said else json.dumps(said["body"])
    headers = {k: v for k, v in said["headers"].items() if k != "content-length"}
    return said, httpx.Response(
        said["status"], headers=headers, stream=Chunks(cut(text.encode(), 100))
    )


def json_client(variant: Sync | Async, *names: str) -> tuple[Any, list[httpx.Request]]:
    """Return a client that is answered with these stored answers one by one."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return stored(names[len(requests) - 1])[1]

    return variant.client(handler=handler, **SETTINGS), requests


def create(variant: Sync | Async, name: str) -> tuple[Message, dict[str, Any]]:
    client, _ = json_client(variant, name)
    said, _ = stored(name)
    return client.create(**ASK), said["body"]


def test_message_with_every_field(variant: Sync | Async) -> None:
    message, body = create(variant, "m01_anthropic_full.json")
    assert message.id == "msg_01Full"
    assert message.type == "message"
    assert message.role == "assistant"
    assert message.model == "claude-sonnet-5"
    assert message.request_id == "req_m01"
    thinking, text = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert (thinking.thinking, thinking.signature) == ("Short sum.", "c2ln")
    assert isinstance(text, TextBlock)
    assert (text.text, text.citations) == ("Nine.", None)
    assert message.text == "Nine."
    assert message.tool_uses == []
    assert message.stop_reason == "end_turn"
    assert message.stop_sequence is None
    assert message.stop_details is None
    assert message.container is None
    usage = message.usage
    assert usage.input_tokens == 12
    assert usage.output_tokens == 15
    assert usage.cache_creation_input_tokens == 100
    assert usage.cache_read_input_tokens == 2000
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 100
    assert usage.cache_creation.ephemeral_1h_input_tokens == 0
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 9
    assert usage.server_tool_use is None
    assert "server_tool_use" not in usage.model_fields_set  # null counts as not sent
    assert usage.service_tier == "standard"
    assert usage.inference_geo == "global"
    assert message.to_param() == {"role": "assistant", "content": body["content"]}


def test_message_in_modelslabs_minimal_form(variant: Sync | Async) -> None:
    message, body = create(variant, "m02_modelslab_minimal.json")
    assert message.id == "msg_fx02"
    assert message.model == "Qwen/Qwen2.5-VL-72B-Instruct-together"
    assert message.content == [TextBlock(text="Lisbon.")]
    assert message.text == "Lisbon."
    assert message.stop_reason == "end_turn"
    assert message.stop_sequence is None
    assert "stop_sequence" not in message.model_fields_set
    assert message.request_id is None
    assert counters(message) == {"input_tokens": 15, "output_tokens": 3}
    assert message.usage.cache_read_input_tokens == 0  # not sent, and so not among the counters
    assert message.to_param() == {"role": "assistant", "content": body["content"]}


def test_message_with_thinking_and_a_tool_call(variant: Sync | Async) -> None:
    message, body = create(variant, "m03_llamacpp_thinking_tool.json")
    assert message.id == "chatcmpl-FxM3aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    assert message.model == "/models/finch-4b-q4.gguf"
    thinking, call = message.content
    assert isinstance(thinking, ThinkingBlock)
    assert (thinking.thinking, thinking.signature) == ("Use the tool.\n", "")
    assert isinstance(call, ToolUseBlock)
    assert call.id == "FxM3toolAAAAAAAAAAAAAAAAAAAAAAAA"
    assert call.name == "read_sensor"
    assert call.input == {"sensor": "north"}
    assert call.input_complete
    assert call.raw_input is None
    assert message.tool_uses == [call]
    assert message.text == ""
    assert message.stop_reason == "tool_use"
    assert message.request_id is None
    assert counters(message) == {
        "cache_read_input_tokens": 0,
        "input_tokens": 874,
        "output_tokens": 12,
    }
    assert message.to_param() == {"role": "assistant", "content": body["content"]}


def test_message_with_null_content(variant: Sync | Async) -> None:
    message, _ = create(variant, "m05_ollama_null_content_no_stop_fields.json")
    assert message.id == "msg_00112233445566778899aabb"
    assert message.model == "plover:8b"
    assert message.content == []
    assert message.text == ""
    assert message.stop_reason == "end_turn"
    assert counters(message) == {"input_tokens": 31, "output_tokens": 1}
    assert message.to_param() == {"role": "assistant", "content": []}


def test_message_that_refuses(variant: Sync | Async) -> None:
    message, body = create(variant, "m08_refusal_with_stop_details.json")
    assert message.id == "msg_fxm8"
    assert message.model == "claude-opus-5"
    assert message.content == []
    assert message.stop_reason == "refusal"
    assert message.stop_sequence is None
    assert message.stop_details is not None
    assert message.stop_details.type == "refusal"
    assert message.stop_details.category == "cyber"
    assert message.stop_details.explanation is None
    assert counters(message) == {"input_tokens": 40, "output_tokens": 0}
    assert message.to_param() == {"role": "assistant", "content": body["content"]}


MESSAGES = [path.name for path in sorted(SAMPLES.glob("m*.json"))]


@pytest.mark.parametrize("name", MESSAGES)
def test_unknown_fields_are_kept_at_every_level(variant: Sync | Async, name: str) -> None:
    said, _ = stored(name)
    body = said["body"]
    body["kv_transfer_params"] = {"a": [1]}
    body["usage"]["iterations"] = 3
    for block in body["content"] or ():
        block["provider_specific_fields"] = {"b": None}

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Chunks([json.dumps(body).encode()]))

    message = variant.client(handler=handler, **SETTINGS).create(**ASK)
    assert message.model_extra == {"kv_transfer_params": {"a": [1]}}
    assert message.kv_transfer_params == {"a": [1]}
    assert message.usage.model_extra == {"iterations": 3}
    assert message.to_param()["content"] == (body["content"] or [])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_message_is_replayed_as_a_stream(variant: Sync | Async, name: str) -> None:
    client, requests = json_client(variant, name, name)
    whole = client.create(**ASK)
    with client.stream(**ASK) as stream:
        pieces = "".join(stream.texts())
        streamed = stream.message()
    assert json.loads(requests[1].content)["stream"] is True
    assert pieces == whole.text
    assert streamed.to_param() == whole.to_param()
    assert streamed.request_id == whole.request_id
    assert counters(streamed) == counters(whole)
    same = ("id", "type", "role", "model", "stop_reason", "stop_sequence", "stop_details")
    assert [getattr(streamed, field) for field in same] == [getattr(whole, field) for field in same]


# Token counts


@pytest.mark.parametrize("name", ["k01_count_tokens_ok.json", "k02_count_tokens_vllm.json"])
def test_count_tokens(variant: Sync | Async, name: str) -> None:
    client, requests = json_client(variant, name)
    count = client.count_tokens(model="asked", messages=ASK["messages"])
    said, _ = stored(name)
    assert count.input_tokens == 21
    assert count.model_dump() == said["body"]
    assert requests[0].url.path == "/v1/messages/count_tokens"
    assert json.loads(requests[0].content) == {"model": "asked", "messages": ASK["messages"]}


# Lists of models


def test_models_of_anthropic(variant: Sync | Async) -> None:
    asked: list[str] = []
    last = {
        "data": [
            {"type": "model", "id": "claude-fixture-2"},
            {"type": "model", "id": "claude-fixture-3", "created_at": "2026-02-03T04:05:06"},
            {"type": "model", "id": "claude-fixture-4", "created_at": "long ago"},
        ],
        "has_more": False,
    }

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        first = len(asked) == 1
        return stored("l01_models_anthropic_page1.json")[1] if first else last_page()

    def last_page() -> httpx.Response:
        return httpx.Response(200, stream=Chunks([json.dumps(last).encode()]))

    models = variant.client(handler=handler, **SETTINGS).models()
    assert asked == [
        "http://sample.invalid/v1/models",
        "http://sample.invalid/v1/models?after_id=claude-fixture-1",
    ]
    assert [model.id for model in models] == [f"claude-fixture-{n}" for n in (1, 2, 3, 4)]
    one, two, three, four = models
    assert one.display_name == "Fixture One"
    assert one.created == datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert one.owned_by is None
    assert one.context_window == 200000
    assert one.model_extra is not None
    assert one.model_extra["max_tokens"] == 64000
    assert one.model_extra["capabilities"] is None
    assert two.display_name == "claude-fixture-2"  # the id, where there is no name
    assert (two.created, two.context_window) == (None, None)
    assert three.created == datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    assert four.created is None


def test_models_in_openais_style(variant: Sync | Async) -> None:
    client, requests = json_client(variant, "l02_models_openai_style.json")
    (model,) = client.models()
    assert model.id == "Qwen/Qwen2.5-VL-72B-Instruct-together"
    assert model.display_name == model.id
    assert model.created == datetime.fromtimestamp(1712345678, timezone.utc)
    assert model.owned_by == "Qwen"
    assert model.context_window is None
    assert [(r.method, r.content) for r in requests] == [("GET", b"")]


def test_models_of_llama_server(variant: Sync | Async) -> None:
    client, _ = json_client(variant, "l03_models_llamacpp_both_keys.json")
    models = client.models()
    assert len(models) == 1  # `data` is read, `models` says the same
    assert models[0].id == "/models/finch-4b-q4.gguf"
    assert models[0].owned_by == "llamacpp"
    assert models[0].created == datetime.fromtimestamp(1795292806, timezone.utc)
    assert models[0].context_window == 4096  # not n_ctx_train: what it runs with
    assert models[0].model_extra is not None
    assert models[0].model_extra["meta"]["n_params"] == 4022468096


# Errors


class Wanted(NamedTuple):
    """What is to be read from a stored error."""

    kind: type[APIStatusError]
    message: str
    type: str | None = None
    code: int | str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    endpoint_status: str | None = None


ERRORS = {
    "e01_anthropic_429": Wanted(
        errors.RateLimitError,
        "Fixture: request rate exceeded.",
        type="rate_limit_error",
        request_id="req_01Fx",
        retry_after=12.0,
    ),
    "e02_anthropic_529_retry_after_ms": Wanted(
        errors.OverloadedError,
        "Overloaded",
        type="overloaded_error",
        request_id="req_02Fx",
        retry_after=0.75,
    ),
    "e03_gguf_401": Wanted(
        errors.AuthenticationError, "Invalid API key.", type="authentication_error"
    ),
    "e04_gguf_404": Wanted(
        errors.NotFoundError, "No deployment found for this endpoint.", type="not_found_error"
    ),
    "e05_gguf_503_deploying": Wanted(
        errors.EndpointNotReadyError,
        "Endpoint is not ready (status: deploying). It may still be deploying or paused.",
        type="overloaded_error",
        endpoint_status="deploying",
    ),
    "e06_gguf_503_paused": Wanted(
        errors.EndpointNotReadyError,
        "Endpoint is not ready (status: paused). It may still be deploying or paused.",
        type="overloaded_error",
        endpoint_status="paused",
    ),
    "e07_gguf_502": Wanted(
        errors.BadGatewayError,
        "The model endpoint is unreachable right now. "
        "It may be restarting — try again in a moment.",
        type="api_error",
    ),
    "e08_llamacpp_400_context": Wanted(
        errors.ContextOverflowError,
        "request (15019 tokens) exceeds the available context size (4096 tokens), "
        "try increasing it",
        type="exceed_context_size_error",
        code=400,
    ),
    "e09_llamacpp_503_loading": Wanted(
        errors.EndpointNotReadyError,
        "Loading model",
        type="unavailable_error",
        code=503,
        endpoint_status="loading",
    ),
    "e10_llamacpp_401": Wanted(
        errors.AuthenticationError, "Invalid API Key", type="authentication_error", code=401
    ),
    "e12_modelslab_platform_429": Wanted(
        errors.RateLimitError,
        "Rate limit exceeded. Maximum 5 queued requests allowed.",
        retry_after=30.0,
    ),
    "e14_v7_openai_style_string_code": Wanted(
        errors.BadRequestError,
        "Fixture: bad parameter.",
        type="invalid_request_error",
        code="invalid_parameter",
    ),
    "e16_vllm_400_native_type": Wanted(
        errors.ContextOverflowError,
        "Fixture: prompt is longer than the model's context.",
        type="BadRequestError",
    ),
    "e18_newapi_claude_shape": Wanted(
        errors.ServiceUnavailableError,
        "Fixture: no available channel for model (request id: 20260105100000fx)",
        type="new_api_error",
        request_id="20260105100000fx",
    ),
    "e20_ollama_404": Wanted(
        errors.NotFoundError,
        "model 'plover:8b' not found",
        type="not_found_error",
        request_id="req_0011223344556677",
    ),
    "e21_fastapi_detail": Wanted(
        errors.UnprocessableEntityError, "body.max_tokens: Field required"
    ),
    "e22_cloudflare_524_html": Wanted(
        errors.InternalServerError, "524: A timeout occurred", request_id="8fx0000000000000-CDG"
    ),
    "e23_empty_502": Wanted(errors.BadGatewayError, "HTTP 502"),
}


def create_message(client: Any) -> None:
    client.create(**ASK)


def stream_message(client: Any) -> None:
    with client.stream(**ASK) as stream:
        stream.message()


@pytest.mark.parametrize("call", [create_message, stream_message])
@pytest.mark.parametrize("name", list(ERRORS))
def test_error(variant: Sync | Async, name: str, call: Callable[[Any], None]) -> None:
    """All that an error can be asked for, of each refusal that a server really sent."""
    client, requests = json_client(variant, f"{name}.json")
    said, _ = stored(f"{name}.json")
    with pytest.raises(APIStatusError) as caught:
        call(client)
    error = caught.value
    found = Wanted(
        type(error),
        error.message,
        error.type,
        error.code,
        error.request_id,
        error.retry_after,
        getattr(error, "endpoint_status", None),
    )
    assert found == ERRORS[name]
    assert error.status_code == said["status"]
    assert error.body == (said["body"] if "body" in said else said["body_text"])
    assert not error.in_stream
    assert error.partial_message is None
    assert (error.attempts, len(requests)) == (1, 1)
    assert (error.method, error.url) == ("POST", "http://sample.invalid/v1/messages")
    assert f"HTTP {said['status']}" in str(error)


def test_every_stored_error_is_in_the_table() -> None:
    stored = [path.stem for path in sorted(SAMPLES.glob("e[0-9]*.json"))]
    assert list(ERRORS) == stored, "say in ERRORS, in the order of the files, what each becomes"


def test_every_stored_stream_is_expected() -> None:
    stored = {path.name for path in SAMPLES.glob("*.sse")}
    assert EXPECTED.keys() == stored, "say in samples/expected.json what each .sse file becomes"


def test_the_index_says_what_each_sample_is() -> None:
    index = (SAMPLES / "index.md").read_text(encoding="utf-8")
    unsaid = [path.name for path in sorted(SAMPLES.glob("[a-z][0-9]*")) if path.name not in index]
    assert not unsaid, f"say in samples/index.md what these show: {unsaid}"


def test_the_size_of_the_overflow_is_told(variant: Sync | Async) -> None:
    client, _ = json_client(variant, "e08_llamacpp_400_context.json")
    with pytest.raises(errors.ContextOverflowError) as caught:
        client.create(**ASK)
    assert (caught.value.prompt_tokens, caught.value.context_size) == (15019, 4096)


def test_rate_limit_headers_are_kept(variant: Sync | Async) -> None:
    client, _ = json_client(variant, "e01_anthropic_429.json")
    with pytest.raises(errors.RateLimitError) as caught:
        client.create(**ASK)
    assert caught.value.headers["anthropic-ratelimit-requests-limit"] == "50"
