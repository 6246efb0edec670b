"""Prove what is sent: the documents' own curl commands, field by field, and every rule around them.

The curl texts stand in `samples/curl_*.txt` as their documents have them, and are read here as a
shell would read them.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import InvalidRequestError, Message, TextBlock, __version__, endpoints
from modelslab_llm._protocol.config import Config, Timeout
from modelslab_llm._protocol.messages import count_tokens, create_message, stream_message
from modelslab_llm._protocol.models import list_models
from modelslab_llm._protocol.values import Request
from modelslab_llm.testing import LocalServer
from modelslab_llm.types import MessageStartEvent

SAMPLES = Path(__file__).parents[1] / "samples"
Json = dict[str, Any]

KEY = "test-key-0000"
USER: Json = {"role": "user", "content": "Go"}
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [USER]}
CREDENTIALS = {"authorization", "x-api-key", "key"}


def config(**settings: Any) -> Config:
    settings = {"base_url": "http://h.example"} | settings
    if "endpoint" in settings:
        del settings["base_url"]
    return Config.build(api_key=KEY, env={}, **settings)


def request_of(settings: Config | None = None, **params: Any) -> Request:
    return create_message(settings or config(), {**ASK, **params}).request


def body_of(**params: Any) -> Json:
    content = request_of(**params).content
    assert content is not None
    body: Json = json.loads(content)
    return body


# The documents' examples


@dataclass
class Curl:
    """What a curl command sends."""

    method: str = "GET"
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


def read_curl(text: str) -> Curl:
    """Read a command as a shell does: lines joined, variables filled in, quotes removed."""
    words = iter(shlex.split(os.path.expandvars(text.replace("\\\n", " "))))
    assert next(words) == "curl"
    curl = Curl()
    for word in words:
        match word:
            case "-X" | "--request":
                curl.method = next(words)
            case "-H" | "--header":
                name, value = next(words).split(": ", 1)
                curl.headers[name.lower()] = value
            case "-d" | "--data" | "--data-raw":
                curl.body = json.loads(next(words))
            case "--url":
                curl.url = next(words)
            case "--location":  # it follows redirects
                pass
            case _:
                curl.url = word
    return curl


def test_curl_is_read_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    assert read_curl((SAMPLES / "curl_v7.txt").read_text()) == Curl(
        "POST",
        "https://modelslab.com/api/v7/llm/v1/messages",
        {
            "x-api-key": KEY,
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
        },
        {
            "model": "Qwen/Qwen2.5-VL-72B-Instruct-together",
            "max_tokens": 1024,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        },
    )


QWEN = "Qwen/Qwen2.5-VL-72B-Instruct-together"
FRANCE: Json = {"role": "user", "content": "What is the capital of France?"}
HAIKU: Json = {"role": "user", "content": "Write a haiku"}
GGUF = endpoints.gguf("YOUR_DEPLOYMENT_ID")
RELAY = "https://relay.example/anthropic"

# file: how the client is made, what it is asked. The keys are the documents' placeholders;
# where there is none here, it comes from MODELSLAB_API_KEY, as for curl.
EXAMPLES: dict[str, tuple[Json, Json]] = {
    "curl_v7": ({}, {"model": QWEN, "max_tokens": 1024, "messages": [FRANCE]}),
    "curl_v7_stream": ({}, {"model": QWEN, "max_tokens": 1024, "messages": [HAIKU]}),
    "curl_v7_full": (
        {"api_key": "<api-key>"},
        {
            "model": "<string>",
            "max_tokens": 2,
            "messages": [{"role": "user", "content": "<string>"}],
            "system": "<string>",
            "temperature": 1,
            "top_p": 0.5,
        },
    ),
    "curl_gguf": ({"endpoint": GGUF}, {"max_tokens": 1024, "messages": [FRANCE]}),
    "curl_gguf_stream": ({"endpoint": GGUF}, {"max_tokens": 1024, "messages": [HAIKU]}),
    "curl_gateway": (
        {"api_key": "YOUR_API_KEY", "base_url": RELAY},
        {
            "model": "claude-3-5-sonnet-20240620",
            "max_tokens": 1024,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hello, Claude format."}]}
            ],
        },
    ),
}


def what_is_sent(
    variant: Sync | Async, settings: Json, params: Json, stream: bool
) -> httpx.Request:
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, stream=Chunks([b'{"type": "message"}']))

    client = variant.client(handler=handler, **settings)
    if stream:
        with client.stream(**params) as stream_:
            stream_.message()
    else:
        client.create(**params)
    (request,) = sent
    return request


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_documents_curl(
    variant: Sync | Async, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", KEY)
    text = (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    curl = read_curl(text.replace("{BaseURL}", RELAY))
    settings, params = EXAMPLES[name]
    request = what_is_sent(variant, settings, params, stream=name.endswith("_stream"))

    assert request.method == curl.method == "POST"
    assert str(request.url) == curl.url
    found = {header: request.headers.get(header) for header in curl.headers}
    assert found == curl.headers
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert len(CREDENTIALS & set(request.headers)) == 1
    body = json.loads(request.content)
    wanted = curl.body
    if name == "curl_v7_full":  # its document leaves out the role, and says what is the default
        wanted["messages"][0]["role"] = "user"
        del wanted["stream"]
    assert {part: body.get(part) for part in wanted} == wanted
    assert body.keys() == wanted.keys()


def test_every_curl_of_the_documents_is_compared() -> None:
    assert sorted(EXAMPLES) == [path.stem for path in sorted(SAMPLES.glob("curl_*.txt"))]


# The documents' full bodies, as they stand.
FULL_BODIES = {
    "v7": """{
  "model": "Qwen/Qwen2.5-VL-72B-Instruct-together",
  "max_tokens": 1024,
  "messages": [
    {"role": "user", "content": "What is the capital of France?"}
  ],
  "system": "You are a helpful assistant.",
  "temperature": 0.7,
  "top_p": 1,
  "stream": false
}""",
    "gguf": """{
  "model": "local",
  "max_tokens": 1024,
  "messages": [
    {"role": "user", "content": "What is the capital of France?"}
  ],
  "system": "You are a helpful assistant.",
  "temperature": 0.7,
  "stream": false
}""",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", FULL_BODIES)
def test_a_documents_full_body(variant: Sync | Async, kind: str, stream: bool) -> None:
    wanted = json.loads(FULL_BODIES[kind])
    params = {name: value for name, value in wanted.items() if name != "stream"}
    endpoint = endpoints.llm_v7() if kind == "v7" else GGUF
    request = what_is_sent(variant, {"api_key": KEY, "endpoint": endpoint}, params, stream)
    assert json.loads(request.content) == params | ({"stream": True} if stream else {})
    assert request.headers["x-api-key"] == KEY


# Headers

OWN_HEADERS = {
    "accept": "application/json",
    "anthropic-version": "2023-06-01",
    "authorization": f"Bearer {KEY}",
    "content-type": "application/json",
    "user-agent": f"modelslab-llm-python/{__version__}",
}


def test_the_headers_are_few() -> None:
    assert request_of().headers == OWN_HEADERS


def test_a_stream_accepts_a_stream() -> None:
    assert stream_message(config(), ASK).request.headers == {
        **OWN_HEADERS,
        "accept": "text/event-stream",
    }


def test_a_get_has_no_content_type() -> None:
    request = list_models(config()).request
    assert (request.method, request.content) == ("GET", None)
    assert request.headers.keys() == OWN_HEADERS.keys() - {"content-type"}


def test_the_headers_on_the_wire_are_few(variant: Sync | Async, server: LocalServer) -> None:
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    client.create(**ASK)
    client.close()
    (received,) = server.requests
    set_by_http = {"host", "content-length", "accept-encoding", "connection"}
    assert set(received.headers) == {*OWN_HEADERS, *set_by_http}
    assert received.headers["user-agent"] == OWN_HEADERS["user-agent"]
    assert received.body == ASK


@pytest.mark.parametrize(
    ("endpoint", "credential"),
    [
        (endpoints.llm_v7(), {"x-api-key": KEY}),
        (endpoints.gguf("dep_1"), {"x-api-key": KEY}),
        (endpoints.gateway("http://h.example"), {"authorization": f"Bearer {KEY}"}),
        (endpoints.gateway("http://h.example", "bearer"), {"authorization": f"Bearer {KEY}"}),
        (endpoints.gateway("http://h.example", "x-api-key"), {"x-api-key": KEY}),
        (endpoints.gateway("http://h.example", "key"), {"key": KEY}),
        (endpoints.gateway("http://h.example", None), {}),
    ],
)
def test_one_credential(endpoint: endpoints.Endpoint, credential: dict[str, str]) -> None:
    settings = config(endpoint=endpoint)
    for request in (
        create_message(settings, ASK).request,
        stream_message(settings, ASK).request,
        count_tokens(settings, {"model": "m", "messages": [USER]}).request,
        list_models(settings).request,
    ):
        found = {name: request.headers[name] for name in CREDENTIALS & request.headers.keys()}
        assert found == credential


def test_no_key_is_not_a_credential() -> None:
    endpoint = endpoints.gateway("http://h.example", auth=None)
    settings = Config.build(endpoint=endpoint, env={})
    assert not CREDENTIALS & create_message(settings, ASK).request.headers.keys()


@pytest.mark.parametrize("where", ["default_headers", "extra_headers"])
@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("bearer", "Authorization"),
        ("bearer", "X-API-Key"),
        ("x-api-key", "Authorization"),
        ("x-api-key", "x-api-key"),
        ("key", "authorization"),
        ("key", "Key"),
        (None, "Authorization"),
    ],
)
def test_a_callers_credential_is_the_only_one(where: str, auth: Any, header: str) -> None:
    endpoint = endpoints.gateway("http://h.example", auth)
    mine = {header: "Bearer mine"}
    if where == "default_headers":
        request = request_of(config(endpoint=endpoint, default_headers=mine))
    else:
        request = request_of(config(endpoint=endpoint), extra_headers=mine)
    found = {name: request.headers[name] for name in CREDENTIALS & request.headers.keys()}
    assert found == {header.lower(): "Bearer mine"}


def test_later_headers_win() -> None:
    settings = config(default_headers={"Anthropic-Version": "2024-01-01", "X-Team": "a"})
    assert request_of(settings).headers["anthropic-version"] == "2024-01-01"
    request = request_of(settings, extra_headers={"anthropic-version": "2025-01-01", "X-Run": "7"})
    assert request.headers["anthropic-version"] == "2025-01-01"
    assert (request.headers["x-team"], request.headers["x-run"]) == ("a", "7")
    assert request_of(settings).headers == {
        **OWN_HEADERS,
        "anthropic-version": "2024-01-01",
        "x-team": "a",
    }


@pytest.mark.parametrize("betas", [["a-1", "b-2"], ("a-1", "b-2"), iter(["a-1", "b-2"])])
def test_betas_are_a_header(betas: Any) -> None:
    request = request_of(betas=betas)
    assert request.headers["anthropic-beta"] == "a-1,b-2"
    assert json.loads(request.content or b"") == ASK


@pytest.mark.parametrize("betas", [None, []])
def test_without_betas_there_is_no_header(betas: Any) -> None:
    request = request_of(betas=betas)
    assert request.headers == OWN_HEADERS
    assert json.loads(request.content or b"") == ASK


def test_an_own_beta_header_wins() -> None:
    request = request_of(betas=["a-1"], extra_headers={"Anthropic-Beta": "mine"})
    assert request.headers["anthropic-beta"] == "mine"


# URLs

SPELLINGS = ["", "/", "/v1", "/v1/", "/v1/messages", "/v1/messages/", "//"]


@pytest.mark.parametrize("prefix", ["", "/anthropic", "/api/v7/llm", "/v1beta", "/a%20b"])
@pytest.mark.parametrize("ending", SPELLINGS)
def test_every_spelling_of_a_base_url(prefix: str, ending: str) -> None:
    base = f"http://h.example:8080{prefix}"
    settings = config(base_url=base + ending)
    assert request_of(settings).url == f"{base}/v1/messages"
    assert list_models(settings).request.url == f"{base}/v1/models"
    counting = count_tokens(settings, {"model": "m", "messages": [USER]})
    assert counting.request.url == f"{base}/v1/messages/count_tokens"


def test_the_url_goes_over_the_wire_as_it_is(variant: Sync | Async) -> None:
    settings = {"api_key": KEY, "base_url": "http://h.example:8080/a%20b/v1/"}
    request = what_is_sent(variant, settings, ASK, stream=False)
    assert request.url.raw_path == b"/a%20b/v1/messages"
    assert request.headers["host"] == "h.example:8080"


# Parameters

EVERY_PARAMETER: Json = {
    "model": "m",
    "max_tokens": 9,
    "messages": [USER],
    "system": "Be brief.",
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop_sequences": ["END"],
    "tools": [{"name": "tide", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "disabled"},
    "metadata": {"user_id": "u-17"},
    "output_config": {"effort": "low"},
    "cache_control": {"type": "ephemeral"},
    "service_tier": "auto",
    "inference_geo": "eu",
    "container": "c",
    "speed": "fast",
    "diagnostics": {"previous_message_id": "msg_0"},
    "context_management": {"edits": []},
    "mcp_servers": [{"name": "s"}],
}
OPTIONAL = [name for name in EVERY_PARAMETER if name not in ASK]


def test_every_parameter_is_sent_as_it_is() -> None:
    assert body_of(**EVERY_PARAMETER) == EVERY_PARAMETER


def test_what_is_absent_is_not_sent() -> None:
    assert body_of() == ASK


@pytest.mark.parametrize("name", [*OPTIONAL, "betas", "extra_body", "extra_headers"])
def test_none_is_absent(name: str) -> None:
    assert body_of(**{name: None}) == ASK


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("temperature", 0),
        ("temperature", 1),
        ("top_p", 0.0),
        ("stop_sequences", []),
        ("tools", []),
        ("system", ""),
        ("metadata", {}),
        ("max_tokens", 10_000_000),
    ],
)
def test_nothing_else_is_absent(name: str, value: Any) -> None:
    body = body_of(**{name: value})
    assert body[name] == value
    assert type(body[name]) is type(value)


def test_none_means_the_default_model_too() -> None:
    assert body_of(settings=config(endpoint=GGUF), model=None)["model"] == "local"


def test_a_default_model_is_used_where_none_is_named() -> None:
    endpoint = endpoints.gateway("http://h.example", default_model="usual")
    params = {"max_tokens": 9, "messages": [USER]}
    request = create_message(config(endpoint=endpoint), params).request
    assert json.loads(request.content or b"")["model"] == "usual"


def test_the_body_is_compact_utf8() -> None:
    content = request_of(messages=[{"role": "user", "content": "é🪁\u2028"}]).content
    assert content is not None
    assert '{"role":"user","content":"é🪁\u2028"}'.encode() in content
    assert b": " not in content


def test_extra_body_is_added() -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": None, "n": 0}
    assert body_of(extra_body=extra) == {**ASK, **extra}


def test_extra_body_wins() -> None:
    assert body_of(temperature=0.5, extra_body={"temperature": 1.5})["temperature"] == 1.5


def test_extra_body_may_be_any_mapping() -> None:
    assert body_of(extra_body=MappingProxyType({"a": MappingProxyType({"b": 1})})) == {
        **ASK,
        "a": {"b": 1},
    }


def test_a_token_count_has_no_parameters_of_an_answer() -> None:
    params = {
        name: EVERY_PARAMETER[name]
        for name in ("model", "messages", "system", "tools", "tool_choice", "thinking")
    }
    request = count_tokens(config(), params).request
    assert json.loads(request.content or b"") == params


def test_the_usual_settings() -> None:
    settings = config()
    assert settings.timeout == Timeout(connect=5.0, read=600.0, write=60.0, pool=60.0)
    assert (settings.deadline, settings.progress_timeout) == (None, None)
    assert (settings.max_retries, settings.max_retry_wait) == (2, 60.0)
    assert settings.max_response_bytes == 64 * 1024 * 1024
    assert settings.default_headers == {}


def test_a_timeout_is_for_one_call() -> None:
    seven = Timeout(connect=5.0, read=7.0, write=7.0, pool=7.0)
    assert request_of(timeout=7).timeout == seven
    assert request_of(timeout=None).timeout == Timeout(read=None, write=None, pool=None)
    three = Timeout(connect=3.0, read=3.0, write=3.0, pool=3.0)
    assert request_of(config(timeout=3)).timeout == three
    assert request_of(config(timeout=3), timeout=7).timeout == seven
    assert request_of().timeout == Timeout()


def test_a_timeout_may_have_parts_without_a_limit() -> None:
    unlimited = Timeout(connect=2.0, read=None, write=None, pool=None)
    assert request_of(timeout=unlimited).timeout == unlimited
    assert request_of(config(timeout=httpx.Timeout(None, connect=2.0))).timeout == unlimited


# Content

REPLY: Json = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln", "depth": 3},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Looking.", "citations": None},
        {
            "type": "text",
            "text": "Cited.",
            "citations": [
                {"type": "page_location", "cited_text": "x", "end_page_number": 3},
                {"type": "star_location", "star": None},
            ],
        },
        {"type": "tool_use", "id": "call_a", "name": "tide", "input": {"n": None, "é": [1.5]}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}, "caller": None},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"page_age": None}]},
        {"type": "container_upload", "file_id": "f"},
        {"type": "compaction", "content": None},
        {"type": "hologram", "depth": {"a": None}, "text": 5},
    ],
    "model": "m",
    "stop_reason": "tool_use",
}
message = Message.model_validate(REPLY)


def blocks_as_models() -> Iterator[Any]:
    yield from message.content


AS_MODELS: dict[str, Any] = {
    "a message": message,
    "its content": {"role": "assistant", "content": message.content},
    "a tuple of blocks": {"role": "assistant", "content": tuple(message.content)},
    "a generator of blocks": {"role": "assistant", "content": blocks_as_models()},
}
AS_DICTS: dict[str, Any] = {
    "to_param": message.to_param(),
    "dicts": {"role": "assistant", "content": REPLY["content"]},
    "a mapping": MappingProxyType({"role": "assistant", "content": REPLY["content"]}),
    "the reply": REPLY,
    "its dump": message.model_dump(),
    "its dump as JSON": json.loads(message.model_dump_json()),
    "its content's dumps": {
        "role": "assistant",
        "content": [block.model_dump() for block in message.content],
    },
}


def goes_back_as(turn: Any, content: Any) -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a"}]}
    sent = [USER, {"role": "assistant", "content": content}, result]
    assert body_of(messages=[USER, turn, result])["messages"] == sent


@pytest.mark.parametrize("turn", AS_MODELS.values(), ids=AS_MODELS)
def test_a_reply_goes_back_as_it_came(turn: Any) -> None:
    goes_back_as(turn, REPLY["content"])


@pytest.mark.parametrize("turn", AS_DICTS.values(), ids=AS_DICTS)
def test_a_reply_as_dicts_goes_back_without_nulls_that_may_be_a_dumps(turn: Any) -> None:
    """A dict does not show whether the server sent `citations: null`, or a dump added it."""
    content = [dict(block) for block in REPLY["content"]]
    del content[2]["citations"], content[5]["caller"]
    goes_back_as(turn, content)


# As other clients dump replies, null for whatever a server did not send; and with our own fields.
FULL_DUMP: Json = {
    "id": "msg_1",
    "container": None,
    "content": [
        {"citations": None, "text": "", "type": "text"},
        {"citations": None, "text": "Looking.", "type": "text", "parsed_output": {"n": 1}},
        {"signature": "", "thinking": "Hm.", "type": "thinking"},
        {
            "id": "call_a",
            "caller": None,
            "input": {},
            "name": "tide",
            "type": "tool_use",
            "input_complete": False,
            "raw_input": '{"n',
        },
        {
            "id": "s",
            "caller": {"type": "direct"},
            "input": {},
            "name": "w",
            "type": "server_tool_use",
        },
    ],
    "model": "m",
    "role": "assistant",
    "stop_details": None,
    "stop_reason": "max_tokens",
    "stop_sequence": None,
    "type": "message",
    "usage": {"input_tokens": 1, "output_tokens": 2, "service_tier": None},
    "request_id": "req_1",
}


def test_a_full_dump_goes_back_without_what_only_a_client_knows() -> None:
    goes_back_as(
        FULL_DUMP,
        [
            {"type": "text", "text": "Looking."},
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "tool_use", "id": "call_a", "name": "tide", "input": {}},
            {
                "type": "server_tool_use",
                "id": "s",
                "name": "w",
                "input": {},
                "caller": {"type": "direct"},
            },
        ],
    )


def test_a_streamed_reply_goes_back_as_it_came() -> None:
    start = MessageStartEvent.model_validate({"type": "message_start", "message": REPLY})
    assert body_of(messages=[USER, start.message])["messages"][1]["content"] == REPLY["content"]


def test_a_reply_goes_back_without_empty_text_and_with_a_signature() -> None:
    odd = Message.model_validate(
        {
            "content": [
                {"type": "text", "text": ""},
                {"type": "thinking", "thinking": "Hm."},
                {"type": "tool_use", "id": "call_a", "name": "tide"},
            ]
        }
    )
    wanted = [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "tool_use", "id": "call_a", "name": "tide", "input": {}},
    ]
    for turn in (odd, {"role": "assistant", "content": odd.content}):
        assert body_of(messages=[USER, turn])["messages"][1]["content"] == wanted


def test_a_callers_own_blocks_are_not_touched() -> None:
    own = [{"type": "text", "text": ""}, {"type": "thinking", "thinking": "Hm."}, {"type": "new"}]
    assert body_of(messages=[{"role": "user", "content": own}])["messages"][0]["content"] == own


def test_blocks_of_a_reply_inside_a_result() -> None:
    result = {"type": "tool_result", "tool_use_id": "call_a", "content": [TextBlock(text="18 °C")]}
    sent = body_of(messages=[{"role": "user", "content": [result]}])["messages"][0]["content"][0]
    assert sent["content"] == [{"type": "text", "text": "18 °C"}]


@pytest.mark.parametrize("messages", [(USER, USER), iter([USER, USER])], ids=["tuple", "iterator"])
def test_messages_may_be_any_iterable(messages: Any) -> None:
    assert body_of(messages=messages)["messages"] == [USER, USER]


def test_system_may_be_blocks() -> None:
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert body_of(system=iter(blocks))["system"] == blocks


def test_the_arguments_are_not_changed() -> None:
    turn = {"role": "assistant", "content": [TextBlock(text="Hi")]}
    messages = [USER, turn]
    body_of(messages=messages, extra_body={"a": 1})
    assert messages == [USER, turn]
    assert turn == {"role": "assistant", "content": [TextBlock(text="Hi")]}


# What JSON cannot carry


def said(content: object) -> Json:
    return {"messages": [USER, {"role": "user", "content": content}]}


def image(data: object) -> Json:
    return said([{"type": "image", "source": {"type": "base64", "data": data}}])


UNSENDABLE: dict[str, tuple[Json, list[str]]] = {
    "bytes": (image(b"\xff\xd8"), ["messages[1].content[0].source.data: bytes is not JSON"]),
    "a set": ({"metadata": {"user_id": {1}}}, ["metadata.user_id: set is not JSON"]),
    "nan": ({"extra_body": {"bias": [0.5, float("nan")]}}, ["bias[1]: nan is not JSON"]),
    "infinity": (
        {"tools": [{"name": "t", "input_schema": {"maximum": float("inf")}}]},
        ["tools[0].input_schema.maximum: inf is not JSON"],
    ),
    "half a character": (said("a\ud83e"), ["messages[1].content: contains half a character"]),
    "half a character in a block": (
        said([{"type": "text", "text": "\udc00"}]),
        ["messages[1].content[0].text: contains half a character"],
    ),
    "a decimal": ({"metadata": {"n": Decimal("0.1")}}, ["metadata.n: Decimal is not JSON"]),
    "what only counts as a number": (
        {"extra_body": {"n": [Fraction(1, 2)]}},
        ["n[0]: Fraction is not JSON"],
    ),
    "an object": ({"system": [{"type": "text", "text": object()}]}, ["system[0].text: object"]),
    "several": (
        {**image(b""), "metadata": {"user_id": {1}}, "extra_body": {"n": float("nan")}},
        ["messages[1].content[0].source.data: bytes", "metadata.user_id: set", "n: nan"],
    ),
}


@pytest.mark.parametrize("what", UNSENDABLE)
def test_what_json_cannot_carry_is_named_with_its_path(what: str) -> None:
    params, faults = UNSENDABLE[what]
    with pytest.raises(InvalidRequestError) as caught:
        request_of(**params)
    parts = str(caught.value).split("; ")
    assert len(parts) == len(faults)
    for part, fault in zip(sorted(parts), sorted(faults), strict=True):
        assert part.startswith(fault)


def test_only_what_cannot_be_sent_is_named() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "call_a",
        "content": [TextBlock(text="fine"), MappingProxyType({"type": "text", "text": b""})],
    }
    with pytest.raises(InvalidRequestError) as caught:
        request_of(messages=[{"role": "user", "content": [result]}])
    assert str(caught.value) == (
        "messages[0].content[0].content[1].text: bytes is not JSON, "
        "encode it: base64.b64encode(data).decode()"
    )


def looped() -> Json:
    block: Json = {"type": "text", "text": "a"}
    block["self"] = block
    return block


def nested() -> Json:
    block: Json = {"type": "text"}
    for _ in range(100_000):
        block = {"type": "text", "text": block}
    return block


@pytest.mark.parametrize(
    "block",
    [looped, nested, lambda: {"type": "text", (1, 2): "a"}, lambda: {"type": "text", "\ud800": 1}],
    ids=["in itself", "too deep", "a name that is a tuple", "half a character in a name"],
)
def test_what_has_no_path_is_refused_too(block: Any) -> None:
    with pytest.raises(InvalidRequestError):
        request_of(**said([block()]))


def test_nothing_unsendable_is_sent(variant: Sync | Async) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    client = variant.client(handler=handler, api_key=KEY, base_url="http://h.example")
    with pytest.raises(InvalidRequestError):
        client.create(**{**ASK, **image(b"")})
    with pytest.raises(InvalidRequestError):
        with client.stream(**{**ASK, **image(b"")}):
            pass
