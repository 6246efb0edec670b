"""Dialects of the scripted server: read alike by our client, shaped like what servers sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from scripted import ASK, Way

from modelslab_llm import errors
from modelslab_llm.testing import (
    DialectName,
    ErrorReply,
    Fault,
    LocalServer,
    Reply,
    ScriptedTransport,
)
from modelslab_llm.testing._dialect.dialects import DIALECTS
from modelslab_llm.types import Message, Usage

SAMPLES = Path(__file__).parents[1] / "samples"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))

NAMES: tuple[DialectName, ...] = get_args(DialectName)
each_dialect = pytest.mark.parametrize("dialect", NAMES)

CONTENT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Which ports are meant?", "signature": "c2ln"},
    {"type": "text", "text": "I look at both, naïve — 🪁."},
    {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"port": "Brest", "day": 3}},
    {"type": "tool_use", "id": "toolu_2", "name": "tide", "input": {"port": "Vigo"}},
]
USAGE = {"input_tokens": 30, "cache_read_input_tokens": 12, "output_tokens": 9}


def transport(reply: Any, dialect: DialectName) -> httpx.Client:
    """Give a client that is none of ours."""
    return httpx.Client(
        transport=ScriptedTransport(reply, dialect=dialect, api_key=None),
        base_url="http://scripted.test/api/v7/llm",
    )


def posted(reply: Any, dialect: DialectName, **changes: Any) -> httpx.Response:
    with transport(reply, dialect) as http:
        return http.post("/v1/messages", json={**ASK, **changes})


# Read alike


@each_dialect
def test_our_client_reads_the_same_answer(way: Way, dialect: DialectName) -> None:
    client = way.client(way.server(Reply(CONTENT, usage=USAGE), dialect=dialect))
    whole = client.create(**ASK)
    with client.stream(**ASK) as stream:
        streamed = stream.message()
    calls = [(call.id, call.name, call.input) for call in streamed.tool_uses]
    assert calls == [(block["id"], block["name"], block["input"]) for block in CONTENT[2:]]
    assert streamed.thinking == CONTENT[0]["thinking"]
    assert streamed.text == CONTENT[1]["text"]
    assert streamed.stop_reason == "tool_use"
    assert whole.text == ("" if dialect == "new-api" else streamed.text)  # protocol.md §11
    for name in ("thinking", "tool_uses", "stop_reason", "model", "role"):
        assert getattr(whole, name) == getattr(streamed, name), name
    prompt = {"vllm": 42, "vllm-old": 42, "ollama": 42, "new-api": 42}.get(dialect, 30)
    assert counters(whole.usage) == counters(streamed.usage)
    assert counters(whole.usage)[:2] == (prompt, 9)


def counters(usage: Usage) -> tuple[int, int, int]:
    return usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens


@each_dialect
@pytest.mark.parametrize("script", ["", "A text.", {"id": "x", "type": "message", "content": []}])
def test_short_answers(dialect: DialectName, script: Any) -> None:
    server = ScriptedTransport(script, dialect=dialect)
    with server.client(max_retries=0) as client:
        whole = client.messages.create(**ASK)
        with client.messages.stream(**ASK) as stream:
            assert stream.get_final_text() == whole.text == (script if script == "A text." else "")
    assert server.script_errors == []


@each_dialect
def test_a_refusal_keeps_its_class(way: Way, dialect: DialectName) -> None:
    kinds = {
        400: errors.BadRequestError,
        401: errors.AuthenticationError,
        404: errors.NotFoundError,
        429: errors.RateLimitError,
        500: errors.InternalServerError,
        503: errors.ServiceUnavailableError,
        529: errors.OverloadedError,
    }
    client = way.client(way.server([ErrorReply(s, "Not now.") for s in kinds], dialect=dialect))
    for status, kind in kinds.items():
        with pytest.raises(errors.APIStatusError) as caught:
            client.create(**ASK)
        assert type(caught.value) is kind
        if not (dialect.startswith("vllm") and status == 401):
            assert caught.value.message.startswith("Not now.")


@each_dialect
def test_an_error_in_a_stream_keeps_its_class(way: Way, dialect: DialectName) -> None:
    fault = Fault.error("rate_limit_error", "Slow down.", after=4)
    client = way.client(way.server(Reply("one two three", fault=fault), dialect=dialect))
    with pytest.raises(errors.APIError) as caught:
        with client.stream(**ASK) as stream:
            stream.message()
    partial = caught.value.partial_message
    assert partial is not None
    assert "one two three".startswith(partial.text)
    assert partial.text
    if dialect == "ollama":  # which swallows them
        assert type(caught.value) is errors.StreamInterruptedError
    else:
        assert type(caught.value) is errors.RateLimitError
        assert caught.value.message == "Slow down."


@each_dialect
def test_each_says_where_it_is_told(dialect: DialectName) -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    source = DIALECTS[dialect].source
    sections = re.findall(r"§(\d+)", source)
    assert sections or source.startswith("as vllm")
    for section in sections:
        assert f"\n## {section} " in page


# Shaped like the real ones


def sample_events(name: str) -> list[tuple[str | None, Any]]:
    return events((SAMPLES / name).read_bytes())


def events(body: bytes) -> list[tuple[str | None, Any]]:
    """Return event names and data, comments left out; runs of one kind of delta become one."""
    found: list[tuple[str | None, Any]] = []
    for part in body.decode().removesuffix("\n\n").split("\n\n"):
        lines = [line for line in part.split("\n") if not line.startswith(":")]
        if not lines:
            continue
        name = lines[0].removeprefix("event: ") if lines[0].startswith("event: ") else None
        data = lines[-1].removeprefix("data: ")
        said = "[DONE]" if data == "[DONE]" else json.loads(data)
        if not (found and is_delta(said) and shape(found[-1][1]) == shape(said)):
            found.append((name, said))
    return found


def is_delta(said: Any) -> bool:
    return isinstance(said, dict) and said.get("type") == "content_block_delta"


# What a server says of its own accord, and no script of ours asks for.
ASIDE = {"context_management", "cache_creation", "service_tier", "inference_geo"}
ASIDE |= {"output_tokens_details", "stop_details"}


def shape(value: Any) -> Any:
    """Return what a value is made of: names in their order, types and places, no other content."""
    if isinstance(value, dict):
        told = {"type", "index", "role", "stop_reason"}
        return [
            (name, inner if name in told and not isinstance(inner, dict) else shape(inner))
            for name, inner in value.items()
            if name not in ASIDE
        ]
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def unordered(value: Any) -> Any:
    """Return a shape without the order of its names."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return {name: unordered(inner) for name, inner in value}
    return [unordered(inner) for inner in value] if isinstance(value, list) else value


def reply_like(name: str, **changes: Any) -> Reply:
    said = EXPECTED[name]
    told = {key: said[key] for key in ("id", "model", "content", "stop_reason", "stop_sequence")}
    return Reply(**{**told, "usage": said["usage"], **changes})


LIKE: list[tuple[str, DialectName, dict[str, Any]]] = [
    ("s01_anthropic_text.sse", "anthropic", {}),
    ("s04_anthropic_error_midstream.sse", "anthropic", {"fault": Fault.error(after=4)}),
    ("s07_llamacpp_text.sse", "llama-server", {}),
    ("s08_llamacpp_thinking_overlap.sse", "llama-server", {}),
    ("s09_llamacpp_parallel_tools.sse", "llama-server", {}),
    ("s11_llamacpp_error_bare.sse", "llama-server", {"fault": Fault.error(after=4)}),
    ("s13_llamacpp_stop_sequence_end_turn.sse", "llama-server", {"stop_reason": "stop_sequence"}),
    ("s15_llamacpp_empty.sse", "llama-server", {}),
    ("s16_vllm_no_type_role_null_stop.sse", "vllm", {"stop_reason": "odd"}),
    ("s17_vllm_old_trailing_done.sse", "vllm-old", {}),
    ("s18_vllm_error_then_done.sse", "vllm-old", {"fault": Fault.error(after=3)}),
    ("s20_ollama_thinking_tool.sse", "ollama", {}),
    ("s21_ollama_silent_truncation.sse", "ollama", {"fault": Fault.end(after=3)}),
    ("s24_dataonly_no_event_lines.sse", "data-only", {}),
]


@pytest.mark.parametrize(("name", "dialect", "changes"), LIKE, ids=[row[0] for row in LIKE])
def test_streams_have_the_shape_of_the_samples(
    name: str, dialect: DialectName, changes: dict[str, Any]
) -> None:
    response = posted(reply_like(name, **changes), dialect, stream=True)
    ours = [(event, shape(said)) for event, said in events(response.content)]
    theirs = [(event, shape(said)) for event, said in sample_events(name)]
    pings = {"s04_anthropic_error_midstream.sse"}  # a server may leave its pings out
    if name in pings:
        ours = [(event, said) for event, said in ours if event != "ping"]
    assert [event for event, _ in ours] == [event for event, _ in theirs]
    for (_, our), (_, their) in zip(ours, theirs, strict=True):
        assert unordered(our) == unordered(their)


def test_the_order_of_names_in_vllms_events() -> None:
    name = "s16_vllm_no_type_role_null_stop.sse"
    response = posted(reply_like(name, stop_reason="odd"), "vllm", stream=True)
    ours, theirs = events(response.content), sample_events(name)
    assert [shape(said) for _, said in ours[1:]] == [shape(said) for _, said in theirs[1:]]


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("m02_modelslab_minimal.json", "modelslab"),
        ("m03_llamacpp_thinking_tool.json", "llama-server"),
        ("m05_ollama_null_content_no_stop_fields.json", "ollama"),
    ],
)
def test_whole_messages_have_the_shape_of_the_samples(name: str, dialect: DialectName) -> None:
    stored = json.loads((SAMPLES / name).read_bytes())
    response = posted(Message.model_validate(stored["body"]), dialect)
    assert unordered(shape(response.json())) == unordered(shape(stored["body"]))
    assert response.headers["content-type"] == stored["headers"]["content-type"]


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("e01_anthropic_429.json", "anthropic"),
        ("e09_llamacpp_503_loading.json", "llama-server"),
        ("e10_llamacpp_401.json", "llama-server"),
        ("e16_vllm_400_native_type.json", "vllm"),
        ("e18_newapi_claude_shape.json", "new-api"),
        ("e20_ollama_404.json", "ollama"),
    ],
)
def test_errors_are_those_of_the_samples(name: str, dialect: DialectName) -> None:
    stored = json.loads((SAMPLES / name).read_bytes())
    error = stored["body"]["error"]
    script = ErrorReply(stored["status"], error["message"])
    server = ScriptedTransport(script, dialect=dialect, api_key=None)
    with httpx.Client(transport=server) as http:
        response = http.post(server.gateway().base_url + "/v1/messages", json=ASK)
    said = response.json()
    assert response.status_code == stored["status"]
    assert unordered(shape(said)) == unordered(shape(stored["body"]))
    assert said["error"]["type"] == error["type"]
    for header in ("content-type", "server", "connection"):
        assert response.headers.get(header) == stored["headers"].get(header)


# One by one


def test_llama_server_names_its_file_and_counts_the_cache() -> None:
    said = posted(Reply("x", usage={"input_tokens": 3, "output_tokens": 1}), "llama-server").json()
    assert said["model"].endswith(".gguf")
    assert re.fullmatch(r"chatcmpl-\w{32}", said["id"])
    assert said["usage"] == {"cache_read_input_tokens": 0, "input_tokens": 3, "output_tokens": 1}
    stopped = posted(Reply("x", "stop_sequence", "END"), "llama-server").json()
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("end_turn", "END")


@pytest.mark.parametrize(
    ("dialect", "reasons"),
    [
        ("anthropic", {"stop_sequence": "stop_sequence", "refusal": "refusal", "odd": "odd"}),
        ("vllm", {"max_tokens": "max_tokens", "stop_sequence": "end_turn", "refusal": None}),
        ("litellm", {"refusal": "refusal", "pause_turn": "end_turn", "odd": "end_turn"}),
        ("ollama", {"stop_sequence": "end_turn", "load": "load"}),
        ("new-api", {"content_filter": "content_filter"}),
    ],
)
def test_stop_reasons(dialect: DialectName, reasons: dict[str, str | None]) -> None:
    """Each server says in its own words why it stopped."""
    for given, said in reasons.items():
        reply = Reply("x", given, "END")
        assert posted(reply, dialect).json().get("stop_reason") == said
        stream = events(posted(reply, dialect, stream=True).content)
        assert stream[-2][1]["delta"]["stop_reason"] == said


def test_comments_and_done() -> None:
    def body(dialect: DialectName, fault: Fault | None = None) -> bytes:
        return posted(Reply("x", fault=fault), dialect, stream=True).content

    assert body("openrouter").startswith(b": OPENROUTER PROCESSING\n\nevent: message_start\n")
    assert body("new-api").startswith(b": PING\n\nevent: message_start\n")
    done = b'data: {"type":"message_stop"}\n\ndata: [DONE]\n\n'
    assert body("vllm-old").endswith(done)
    assert not body("vllm").endswith(done)
    assert body("data-only").startswith(b"data: {")
    assert body("vllm-old", Fault.error(after=2)).endswith(b'"}}\n\ndata: [DONE]\n\n')
    assert not body("vllm-old", Fault.end(after=6)).endswith(b"[DONE]\n\n")
    assert body("ollama", Fault.error(after=1)) == body("ollama", Fault.end(after=1))


def test_usage_that_comes_late() -> None:
    def usages(dialect: DialectName) -> tuple[Any, Any]:
        stream = events(posted(Reply("x", usage=USAGE), dialect, stream=True).content)
        return stream[0][1]["message"]["usage"], stream[-2][1]["usage"]

    zeros = {"input_tokens": 0, "output_tokens": 0}
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    end = {name: count for name, count in USAGE.items() if name != cached[0]}
    assert usages("litellm") == ({**zeros, **dict.fromkeys(cached, 0)}, end)
    assert usages("vercel") == (zeros, USAGE)
    assert usages("ollama")[0]["input_tokens"] == 21
    assert usages("ollama")[1] == {"input_tokens": 42, "output_tokens": 9}
    assert usages("llama-server")[1] == {"output_tokens": 9}
    assert usages("new-api")[1] == {
        **USAGE,
        "input_tokens": 42,
        "claude_cache_creation_5_m_tokens": 0,
        "claude_cache_creation_1_h_tokens": 0,
    }


def test_new_api_without_usage_and_with_tools_in_turns() -> None:
    reply = Reply(CONTENT, usage={})
    stream = [said for _, said in events(posted(reply, "new-api", stream=True).content)]
    assert [event["type"] for event in stream[-2:]] == ["content_block_stop", "message_stop"]
    tools = [(e["type"][14:], e["index"]) for e in stream if e.get("index", 0) > 1]
    turns = [("delta", 2), ("delta", 3)] * 3
    assert tools[:8] == [("start", 2), ("start", 3), *turns]
    assert tools[-2:] == [("stop", 2), ("stop", 3)]


def test_litellm_puts_an_empty_text_before_calls_unless_it_streams() -> None:
    with ScriptedTransport(Reply(CONTENT[2:]), dialect="litellm").client() as client:
        message = client.messages.create(**ASK)
        with client.messages.stream(**ASK) as stream:
            streamed = stream.get_final_message()
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert message.to_param()["content"] == CONTENT[2:]
    assert [block.type for block in streamed.content] == ["tool_use", "tool_use"]
    assert re.match("chatcmpl-[0-9a-f]{32}$", message.id)
    assert re.match("msg_[0-9a-f-]{36}$", streamed.id)


def test_litellm_without_a_database_knows_no_other_key() -> None:
    scripted = ScriptedTransport(dialect="litellm")
    with scripted.client("sk-another", endpoint=scripted.gateway()) as client:
        with pytest.raises(errors.BadRequestError, match="No connected db") as refused:
            client.messages.create(**ASK)
    assert refused.value.request_id is None


def test_tokens_and_models(way: Way) -> None:
    server = way.server()
    client = way.client(server, max_retries=0)
    ask = {"model": "m", "messages": ASK["messages"]}
    for name in NAMES:
        server.dialect = name
        if name in ("ollama", "vercel"):
            with pytest.raises(errors.UnsupportedOperationError):
                client.count_tokens(**ask)
        else:
            assert client.count_tokens(**ask).input_tokens == 4
        assert len(list(client.models())) >= 1
    server.dialect = "vercel"
    assert client.count_tokens(**{**ask, "model": "anthropic/claude-x"}).input_tokens == 4


def test_who_answers_with_which_id(way: Way) -> None:
    server = way.server("x")
    client = way.client(server, endpoint=server.gateway())
    traced = {}
    for name in NAMES:
        server.dialect = name
        traced[name] = client.create(**ASK).request_id
    number = {name: f"req_local_{at:04}" for at, name in enumerate(NAMES, 1)}
    silent = {"llama-server", "vllm", "vllm-old", "ollama"}
    assert traced == {n: None if n in silent else number[n] for n in NAMES}


def test_a_gguf_gateway_refuses_in_its_own_words() -> None:
    server = ScriptedTransport(ErrorReply(500), dialect="llama-server", deployments={"a": "paused"})
    with httpx.Client(transport=server) as http:
        url = server.gguf("a").base_url + "/v1/messages"
        wrong_key = http.post(url, json=ASK)
        http.headers["key"] = server.api_key or ""
        paused = http.post(url, json=ASK)
        server.deployments["a"] = "ready"
        failed = http.post(url, json=ASK)
    assert wrong_key.json() == {
        "error": {"type": "authentication_error", "message": "Invalid API key."}
    }
    assert paused.json()["error"]["type"] == "overloaded_error"
    assert "server" not in paused.headers
    assert failed.json()["error"] == {
        "code": 500,
        "message": "Scripted failure with status 500.",
        "type": "server_error",
    }
    assert failed.headers["server"] == "llama.cpp"


@each_dialect
def test_whole_bodies_of_a_script_are_sent_as_they_are(dialect: DialectName) -> None:
    body = {"id": "x", "content": None, "stop_reason": "odd", "usage": {"a": 1}}
    assert posted(body, dialect).json() == body


@pytest.mark.parametrize("kind", [LocalServer, ScriptedTransport])
def test_a_dialect_there_is_not(kind: Any) -> None:
    with pytest.raises(ValueError, match="'vlm' is unknown: there are 'anthropic', 'llama-serv"):
        kind(dialect="vlm")
    server = kind()
    with pytest.raises(ValueError, match="unknown"):
        server.dialect = "gpt"
    assert server.dialect == "anthropic"


def test_places_are_counted_in_the_dialect() -> None:
    with pytest.raises(errors.InternalServerError, match="has 7 events: 1 message_start"):
        client = ScriptedTransport(
            Reply("one two", fault=Fault.omit("ping")), dialect="llama-server"
        ).client()
        with client, client.messages.stream(**ASK) as stream:
            stream.get_final_message()
