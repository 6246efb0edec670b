"""Prove that what cannot be right is refused by name before anything is sent, and shows no key.

Every client here is answered by a handler that fails the test: nothing may get that far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import (
    AsyncModelsLab,
    ConfigurationError,
    InvalidRequestError,
    Message,
    ModelsLab,
    ModelsLabError,
    TextBlock,
    Timeout,
    endpoints,
)
from modelslab_llm._protocol.config import Config

Json = dict[str, Any]

KEY = "sk-do-not-show-this-1"
USER: Json = {"role": "user", "content": "Go"}
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [USER]}
CLIENTS = pytest.mark.parametrize("client", [ModelsLab, AsyncModelsLab])


def sent(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"sent: {request.method} {request.url}")


def quiet_client(variant: Sync | Async, **settings: Any) -> Any:
    """Return a client that must not send anything."""
    settings = {"api_key": KEY, "endpoint": endpoints.gguf("dep_1")} | settings
    return variant.client(handler=sent, **settings)


def open_stream(client: Any, params: Json) -> None:
    with client.stream(**params):
        raise AssertionError("opened")


CALLS: dict[str, Callable[[Any, Json], object]] = {
    "create": lambda client, params: client.create(**params),
    "stream": open_stream,
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# The key


@CLIENTS
def test_no_key(client: type[Any]) -> None:
    with pytest.raises(ConfigurationError, match="MODELSLAB_API_KEY"):
        client()


@CLIENTS
@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_key_is_not_a_key(client: type[Any], key: str, monkeypatch: Any) -> None:
    with pytest.raises(ConfigurationError, match="MODELSLAB_API_KEY"):
        client(key)
    monkeypatch.setenv("MODELSLAB_API_KEY", key)
    with pytest.raises(ConfigurationError, match="MODELSLAB_API_KEY"):
        client()


def test_no_key_at_a_gateway_says_how_to_go_without() -> None:
    with pytest.raises(ConfigurationError, match="auth=None"):
        ModelsLab(base_url="http://h.example")
    ModelsLab(endpoint=endpoints.gateway("http://h.example", auth=None)).close()


BAD_KEYS = {
    "line break": f"{KEY}\nx",
    "carriage return": f"{KEY}\rx",
    "header": f"{KEY}\r\nHost: evil.example",
    "space": f"{KEY} x",
    "tab": f"{KEY}\tx",
    "with its scheme": f"Bearer {KEY}",
    "accent": f"{KEY}é",
    "control": f"{KEY}\x00x",
    "delete": f"{KEY}\x7fx",
    "no-break space inside": f"{KEY}\u00a0x",
    "surrogate": f"{KEY}\ud800",
}


@CLIENTS
@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_refused_and_not_shown(
    client: type[Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="api_key") as caught:
        client(key)
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setenv("MODELSLAB_API_KEY", key.replace("\x00", "\x01").replace("\ud800", "ü"))
    with pytest.raises(ConfigurationError, match="MODELSLAB_API_KEY") as caught:
        client()
    assert KEY not in repr(caught.value)


@CLIENTS
@pytest.mark.parametrize("key", [5, KEY.encode(), [KEY]])
def test_a_key_that_is_not_text(client: type[Any], key: Any) -> None:
    with pytest.raises(ConfigurationError, match="api_key must be a string") as caught:
        client(key)
    assert KEY not in str(caught.value)


def test_white_space_around_the_key_is_removed() -> None:
    settings = Config.build(api_key=f"  {KEY}\r\n", env={})
    assert settings.credential() == {"x-api-key": KEY}


def test_a_client_says_where_it_asks(variant: Sync | Async) -> None:
    client = quiet_client(variant).real
    said = f"{type(client).__name__}(base_url='https://modelslab.com/api/gguf/dep_1')"
    assert repr(client) == str(client) == said


def test_a_request_shows_no_key() -> None:
    from modelslab_llm._protocol.messages import create_message

    call = create_message(Config.build(api_key=KEY, env={}), ASK)
    assert call.request.headers["x-api-key"] == KEY
    assert KEY not in repr(call)


# Where the server is

BAD_IDS = [
    "",
    " ",
    ".",
    "..",
    "...",
    "../x",
    "dep/../x",
    "a/b",
    "/a",
    "a\\b",
    "%2e",
    "%2e%2e",
    "a%2fb",
    "dep 1",
    " dep_1",
    "dep_1\n",
    "dep?x",
    "dep#x",
    "dep;x",
    "dép",
    "dep_1\x00",
]


@CLIENTS
@pytest.mark.parametrize("deployment_id", [*BAD_IDS, 5, ["dep_1"]])
def test_a_bad_deployment_id(client: type[Any], deployment_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="deployment_id"):
        client(KEY, deployment_id=deployment_id)
    with pytest.raises(ConfigurationError, match="deployment_id"):
        endpoints.gguf(deployment_id)


@pytest.mark.parametrize("deployment_id", ["dep_123", "a", "A-1.b~c_d", "..a", "0"])
def test_a_good_deployment_id(deployment_id: str) -> None:
    url = f"https://modelslab.com/api/gguf/{deployment_id}"
    assert endpoints.gguf(deployment_id).base_url == url


BAD_URLS = [
    "",
    " ",
    "h.example",
    "ftp://h.example",
    "file:///etc/passwd",
    "//h.example",
    "http://",
    "http:///v1",
    "http://:8080",
    "http://h.example:port",
    "http://h.example:99999",
    "http://h.example:0",
    "http://h.example/a b",
    " http://h.example",
    "http://h.example\n",
    "http://h.example\r\nX: y",
    "http://h.exämple",
    "http://h.example\\@evil.example",
    "http://h.example?key=1",
    "http://h.example#x",
    "http://h.example/a/../b",
    "http://h.example/./b",
    "http://h.example/..",
    "http://h.example/%2e%2e/b",
    "http://h.example/a%2fb",
    "http://[::1",
    "http://user:pass@h.example",
    5,
    b"http://h.example",
    ["http://h.example"],
]


@CLIENTS
@pytest.mark.parametrize("base_url", BAD_URLS)
def test_a_bad_base_url(client: type[Any], base_url: Any) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        client(KEY, base_url=base_url)
    with pytest.raises(ConfigurationError, match="base_url"):
        endpoints.gateway(base_url)


@pytest.mark.parametrize("origin", [url for url in BAD_URLS if url])
def test_a_bad_origin(origin: Any) -> None:
    with pytest.raises(ConfigurationError, match="origin"):
        endpoints.llm_v7(origin=origin)
    with pytest.raises(ConfigurationError, match="origin"):
        endpoints.gguf("dep_1", origin=origin)


@pytest.mark.parametrize(
    "base_url",
    [
        f"http://user:{KEY}@h.example",
        f"https://{KEY}@h.example/v1",
        f"user:{KEY}@h.example",
        f"http://user:a/{KEY}@h.example",
    ],
)
def test_a_password_in_a_url_is_not_shown(base_url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ModelsLab("other-key-0000", base_url=base_url)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("auth", ["Bearer", "both", "", 5])
def test_a_bad_kind_of_auth(auth: Any) -> None:
    with pytest.raises(ConfigurationError, match="auth"):
        endpoints.gateway("http://h.example", auth)


@CLIENTS
@pytest.mark.parametrize("endpoint", ["http://h.example", {"base_url": "http://h.example"}, 5])
def test_an_endpoint_that_is_none(client: type[Any], endpoint: Any) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        client(KEY, endpoint=endpoint)


# Arguments and environment

SERVER: Json = {
    "endpoint": endpoints.llm_v7(),
    "base_url": "http://h.example",
    "deployment_id": "dep_1",
}


@CLIENTS
@pytest.mark.parametrize(
    "names",
    [
        ("endpoint", "base_url"),
        ("endpoint", "deployment_id"),
        ("base_url", "deployment_id"),
        ("endpoint", "base_url", "deployment_id"),
    ],
    ids=" and ".join,
)
def test_arguments_that_contradict(client: type[Any], names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=" and ".join(names)):
        client(KEY, **{name: SERVER[name] for name in names})


@CLIENTS
def test_an_environment_that_contradicts_itself(
    client: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_BASE_URL", "http://h.example")
    monkeypatch.setenv("MODELSLAB_DEPLOYMENT_ID", "dep_1")
    with pytest.raises(ConfigurationError, match="MODELSLAB_BASE_URL and MODELSLAB_DEPLOYMENT_ID"):
        client(KEY)


ENVIRONMENT: list[tuple[dict[str, str], Json, str]] = [
    ({}, {}, "https://modelslab.com/api/v7/llm"),
    ({"BASE_URL": "http://env.example/v1"}, {}, "http://env.example"),
    ({"DEPLOYMENT_ID": "dep_env"}, {}, "https://modelslab.com/api/gguf/dep_env"),
    ({"BASE_URL": "", "DEPLOYMENT_ID": ""}, {}, "https://modelslab.com/api/v7/llm"),
    ({"BASE_URL": "http://env.example"}, {"base_url": "http://h.example"}, "http://h.example"),
    (
        {"BASE_URL": "http://env.example"},
        {"deployment_id": "dep_1"},
        "https://modelslab.com/api/gguf/dep_1",
    ),
    (
        {"BASE_URL": "http://env.example"},
        {"endpoint": endpoints.llm_v7()},
        "https://modelslab.com/api/v7/llm",
    ),
    ({"DEPLOYMENT_ID": "dep_env"}, {"base_url": "http://h.example"}, "http://h.example"),
    (
        {"BASE_URL": "http://env.example", "DEPLOYMENT_ID": "dep_env"},
        {"base_url": "http://h.example"},
        "http://h.example",
    ),
]


@CLIENTS
@pytest.mark.parametrize(("environment", "arguments", "url"), ENVIRONMENT)
def test_the_environment_and_its_precedence(
    client: type[Any],
    environment: dict[str, str],
    arguments: Json,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"MODELSLAB_{name}", value)
    assert client(KEY, **arguments).endpoint.base_url == url


@pytest.mark.parametrize(
    ("url", "kind", "base"),
    [
        ("http://localhost:9000/api/v7/llm/v1/", "v7", "http://localhost:9000/api/v7/llm"),
        ("http://[::1]:9000/api/gguf/dep_1", "gguf", "http://[::1]:9000/api/gguf/dep_1"),
        ("http://127.0.0.1:9000/relay/api/v7/llm", "gateway", None),
        ("http://127.0.0.1:9000/api/v7/llm-2", "gateway", None),
        ("http://relay.example/api/v7/llm", "gateway", None),
        ("http://127.0.0.1.example/api/v7/llm", "gateway", None),
        ("http://modelslab.com.example/api/v7/llm", "gateway", None),
    ],
)
def test_a_local_server_is_treated_like_the_original(url: str, kind: str, base: str | None) -> None:
    found = endpoints.for_url(url)
    assert (found.name, found.base_url) == (kind, base or url)


def test_the_key_of_the_environment_and_its_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", "key-of-the-environment")
    assert Config.build().credential() == {"x-api-key": "key-of-the-environment"}
    assert Config.build(api_key=KEY).credential() == {"x-api-key": KEY}


def test_the_environment_is_read_when_a_client_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSLAB_BASE_URL", "http://env.example")
    client = ModelsLab(KEY)
    monkeypatch.setenv("MODELSLAB_BASE_URL", "http://later.example")
    assert client.endpoint.base_url == "http://env.example"
    assert client.with_options(max_retries=0).endpoint.base_url == "http://env.example"


@pytest.mark.parametrize(
    ("name", "value"), [("DEPLOYMENT_ID", "../x"), ("BASE_URL", "h.example"), ("BASE_URL", " ")]
)
def test_a_bad_environment(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MODELSLAB_{name}", value)
    with pytest.raises(ConfigurationError, match=name.lower()):
        ModelsLab(KEY)


# Options

BAD_OPTIONS: list[tuple[str, Any]] = [
    ("timeout", 0),
    ("timeout", -1),
    ("timeout", float("nan")),
    ("timeout", float("inf")),
    ("timeout", "5"),
    ("timeout", True),
    ("timeout", [5]),
    ("timeout", Timeout(read=-1)),
    ("timeout", Timeout(connect=0)),
    ("timeout", Timeout(pool=float("nan"))),
    ("timeout", Timeout(write="5")),  # type: ignore[arg-type]
    ("timeout", httpx.Timeout(-1)),
    ("deadline", 0),
    ("deadline", -1),
    ("deadline", float("nan")),
    ("deadline", "5"),
    ("deadline", True),
    ("progress_timeout", 0),
    ("progress_timeout", "5"),
    ("max_retries", -1),
    ("max_retries", 1.5),
    ("max_retries", "2"),
    ("max_retries", None),
    ("max_retries", True),
    ("max_retry_wait", -1),
    ("max_retry_wait", float("nan")),
    ("max_response_bytes", 0),
    ("max_response_bytes", -5),
    ("max_response_bytes", "1MB"),
]


@CLIENTS
@pytest.mark.parametrize(("name", "value"), BAD_OPTIONS)
def test_a_bad_option(client: type[Any], name: str, value: Any) -> None:
    """It is named, whether a client is built or copied."""
    with pytest.raises(ConfigurationError, match=name):
        client(KEY, **{name: value})
    with pytest.raises(ConfigurationError, match=name):
        client(KEY).with_options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("deadline", 0, "deadline must be above 0 seconds, not 0"),
        ("max_retry_wait", -1, "max_retry_wait must be 0 or more seconds, not -1"),
        ("max_retries", -1, "max_retries must be a whole number, at least 0, not -1"),
        ("max_response_bytes", 0, "max_response_bytes must be a whole number, at least 1, not 0"),
    ],
)
def test_a_bad_option_is_refused_with_the_valid_values(name: str, value: Any, text: str) -> None:
    options: Any = {name: value}
    with pytest.raises(ConfigurationError) as caught:
        ModelsLab(KEY, **options)
    assert str(caught.value) == text


BAD_TIMEOUTS = [value for name, value in BAD_OPTIONS if name == "timeout"]


@each_call
@pytest.mark.parametrize("value", BAD_TIMEOUTS)
def test_a_bad_timeout_of_one_call(
    variant: Sync | Async, call: Callable[[Any, Json], object], value: Any
) -> None:
    with pytest.raises(ModelsLabError, match="timeout"):
        call(quiet_client(variant), {**ASK, "timeout": value})


@CLIENTS
def test_an_unknown_option(client: type[Any]) -> None:
    with pytest.raises(TypeError, match=r"retries.*max_retries"):
        client(KEY, retries=2)
    with pytest.raises(TypeError, match=r"api_key.*create another client"):
        client(KEY).with_options(api_key="x")
    with pytest.raises(TypeError, match="'variant': known are budget, deadline, default_headers"):
        client(KEY, variant="red")


@CLIENTS
@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("auth_token", r"pass it as api_key.*endpoints\.gateway\(\.\.\., auth=\.\.\.\)"),
        ("auth", r"endpoints\.gateway\(\.\.\., auth=\.\.\.\)"),
        ("model", r"default_model=\.\.\."),
        ("default_model", r"pass it with each request, or to the endpoint"),
        ("apikey", "did you mean 'api_key'"),
        ("default_query", r"http_client=DefaultHttpxClient\(params=\.\.\.\)"),
        ("verify", r"http_client=DefaultHttpxClient\(verify=\.\.\.\)"),
        ("api_base", "base_url"),
        ("headers", "did you mean 'default_headers'"),
        ("base_urll", "did you mean 'base_url'"),
    ],
)
def test_an_option_that_belongs_elsewhere(
    client: type[Any], name: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELSLAB_API_KEY", raising=False)
    for key in ({"api_key": KEY}, {}):  # without one too: it may be the name of the key
        with pytest.raises(TypeError, match=f"unknown option {name!r}: .*{cure}"):
            client(**key, **{name: "x"})


@pytest.mark.parametrize("build", [lambda: Timeout(5), lambda: Timeout(total=5)])  # type: ignore[call-arg,misc]
def test_a_timeout_names_its_waits(build: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="connect, read, write, pool by name"):
        build()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"type": "text", "text": "Go"}, r"one block: put it into a list, \[block\]"),
        (TextBlock(text="Go"), r"one block: put it into a list, \[block\]"),
        (Message(), "a Message: pass it by itself as the turn"),
        ({"text": "Go"}, "dict"),
        (b"Go", "bytes"),
        (None, "NoneType"),
    ],
    ids=str,
)
@each_call
def test_content_that_is_not_a_list(
    variant: Sync | Async, call: Callable[[Any, Json], object], content: Any, what: str
) -> None:
    turn = {"role": "user", "content": content}
    wanted = rf"^messages\[0\]\.content: must be text or a list of blocks, not {what}$"
    with pytest.raises(InvalidRequestError, match=wanted):
        call(quiet_client(variant), {**ASK, "messages": [turn]})


@pytest.mark.parametrize("http_client", [httpx.Client, httpx.AsyncClient, object, lambda: "httpx"])
def test_the_wrong_kind_of_http_client(http_client: Callable[[], Any]) -> None:
    if http_client is not httpx.Client:
        with pytest.raises(ConfigurationError, match=r"httpx\.Client.*AsyncModelsLab"):
            ModelsLab(KEY, http_client=http_client())
    if http_client is not httpx.AsyncClient:
        with pytest.raises(ConfigurationError, match=r"httpx\.AsyncClient.*ModelsLab"):
            AsyncModelsLab(KEY, http_client=http_client())


BAD_HEADERS: dict[str, Any] = {
    "line break": {"x-team": f"a\r\nx-evil: {KEY}"},
    "not ASCII": {"x-team": f"é{KEY}"},
    "number": {"x-team": 5},
    "bytes": {"x-team": KEY.encode()},
    "none": {"x-team": None},
    "name with a space": {"x team": KEY},
    "name with a line break": {"x-team\r\n": KEY},
    "empty name": {"": KEY},
    "name that is no text": {5: KEY},
    "pairs": [("x-team", KEY)],
    "text": f"x-team: {KEY}",
}


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_bad_headers_are_refused_and_not_shown(variant: Sync | Async, headers: Any) -> None:
    client = quiet_client(variant)
    for call in CALLS.values():
        with pytest.raises(InvalidRequestError, match="extra_headers") as caught:
            call(client, {**ASK, "extra_headers": headers})
        assert KEY not in str(caught.value)
    with pytest.raises(ConfigurationError, match="default_headers") as caught:
        quiet_client(variant, default_headers=headers)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("betas", [["a\r\nx-evil: b"], ["é"], ["a", "b\n"], "a-1", 5])
def test_bad_betas(variant: Sync | Async, betas: Any) -> None:
    with pytest.raises(InvalidRequestError, match="beta"):
        quiet_client(variant).create(**ASK, betas=betas)


# Requests


def without(*names: str) -> Json:
    return {name: value for name, value in ASK.items() if name not in names}


def turns(*messages: Any) -> Json:
    return {**ASK, "messages": list(messages)}


CONTENT = "messages[0].content: must be text or a list of blocks, not"

# what is asked; each fault that is named
BAD_REQUESTS: dict[str, tuple[Json, list[str]]] = {
    "no messages": (without("messages"), ["messages: "]),
    "messages none": ({**ASK, "messages": None}, ["messages: "]),
    "messages empty": ({**ASK, "messages": []}, ["messages: is empty"]),
    "messages empty generator": ({**ASK, "messages": iter(())}, ["messages: is empty"]),
    "messages text": ({**ASK, "messages": "Go"}, ["messages: must be a list"]),
    "messages one turn": ({**ASK, "messages": USER}, ["messages: must be a list"]),
    "messages number": ({**ASK, "messages": 5}, ["messages: must be a list"]),
    "a turn that is text": (turns(USER, "Go"), ["messages[1]: must be a dict"]),
    "a turn that is none": (turns(None), ["messages[0]: must be a dict"]),
    "role system": (
        turns({"role": "system", "content": "Be brief."}, USER),
        ["messages[0].role: 'system' is not allowed in messages: pass system=..."],
    ),
    "role tool": (turns(USER, {"role": "tool", "content": "x"}), ["messages[1].role: "]),
    "no role": (turns({"content": "x"}), ["messages[0].role: "]),
    "no content": (turns({"role": "user"}), [f"{CONTENT} missing"]),
    "content none": (turns({"role": "user", "content": None}), [f"{CONTENT} NoneType"]),
    "content number": (turns({"role": "user", "content": 5}), [f"{CONTENT} int"]),
    "content bytes": (turns({"role": "user", "content": b"Go"}), ["messages[0].content: "]),
    "content one block": (
        turns({"role": "user", "content": {"type": "text", "text": "Go"}}),
        ["messages[0].content: "],
    ),
    "a block that is text": (
        turns({"role": "user", "content": [{"type": "text", "text": "a"}, "Go"]}),
        ["messages[0].content[1]: "],
    ),
    "a block without a type": (
        turns(USER, {"role": "user", "content": [{"text": "Go"}]}),
        ["messages[1].content[0]: "],
    ),
    "empty content": (turns({"role": "user", "content": []}), ["messages[0].content: is empty"]),
    "nothing but an empty reply": (
        turns({"role": "assistant", "content": []}),
        ["messages: is empty"],
    ),
    "no max_tokens": (without("max_tokens"), ["max_tokens: is required"]),
    "max_tokens none": ({**ASK, "max_tokens": None}, ["max_tokens: is required"]),
    "max_tokens 0": ({**ASK, "max_tokens": 0}, ["max_tokens: must be at least 1, not 0"]),
    "max_tokens -1": ({**ASK, "max_tokens": -1}, ["max_tokens: "]),
    "max_tokens true": ({**ASK, "max_tokens": True}, ["max_tokens: must be a whole number"]),
    "max_tokens text": ({**ASK, "max_tokens": "5"}, ["max_tokens: must be a whole number"]),
    "max_tokens 1.5": ({**ASK, "max_tokens": 1.5}, ["max_tokens: must be a whole number"]),
    "temperature text": ({**ASK, "temperature": "hot"}, ["temperature: must be a number"]),
    "temperature true": ({**ASK, "temperature": True}, ["temperature: must be a number"]),
    "temperature nan": ({**ASK, "temperature": float("nan")}, ["temperature: "]),
    "temperature below": ({**ASK, "temperature": -0.1}, ["temperature: must be from 0 to 1"]),
    "temperature above": ({**ASK, "temperature": 1.1}, ["temperature: must be from 0 to 1"]),
    "top_p below": ({**ASK, "top_p": -0.1}, ["top_p: must be from 0 to 1"]),
    "top_p above": ({**ASK, "top_p": 2}, ["top_p: must be from 0 to 1"]),
    "top_k 0": ({**ASK, "top_k": 0}, ["top_k: "]),
    "top_k 1.5": ({**ASK, "top_k": 1.5}, ["top_k: "]),
    "model empty": ({**ASK, "model": ""}, ["model: must be a name"]),
    "model blank": ({**ASK, "model": "  "}, ["model: must be a name"]),
    "model number": ({**ASK, "model": 5}, ["model: must be a name"]),
    "tools dict": ({**ASK, "tools": {"name": "t"}}, ["tools: must be a list"]),
    "tools text": ({**ASK, "tools": "t"}, ["tools: must be a list"]),
    "a tool without a name": (
        {**ASK, "tools": [{"name": "t"}, {"description": "x"}, "t"]},
        ["tools[1]: ", "tools[2]: "],
    ),
    "system dict": ({**ASK, "system": {"type": "text"}}, ["system: must be a list"]),
    "system number": ({**ASK, "system": 5}, ["system: must be a list"]),
    "stop_sequences text": ({**ASK, "stop_sequences": "END"}, ["stop_sequences: must be a list"]),
    "extra_body list": ({**ASK, "extra_body": [1]}, ["extra_body: must be a dict"]),
    "extra_body stream": ({**ASK, "extra_body": {"stream": True}}, ["extra_body: 'stream'"]),
    "extra_body messages": ({**ASK, "extra_body": {"messages": []}}, ["extra_body: "]),
    "several": (
        {
            "messages": [
                {"role": "system", "content": None},
                USER,
                {"role": "user", "content": ["a"]},
            ],
            "max_tokens": 0,
            "temperature": 2,
            "top_p": "high",
            "tools": [{}],
        },
        [
            "messages[0].role: ",
            "messages[0].content: ",
            "messages[2].content[0]: ",
            "max_tokens: ",
            "temperature: ",
            "top_p: ",
            "tools[0]: ",
        ],
    ),
}


@each_call
@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_a_bad_request(
    variant: Sync | Async, call: Callable[[Any, Json], object], what: str
) -> None:
    """Every fault of the parameters is named with its path, all of them at once."""
    params, faults = BAD_REQUESTS[what]
    with pytest.raises(InvalidRequestError) as caught:
        call(quiet_client(variant), params)
    assert isinstance(caught.value, ValueError)
    named = str(caught.value).split("; ")
    assert len(named) == len(faults)
    for found, fault in zip(named, faults, strict=True):
        assert found.startswith(fault)


V7, GGUF = endpoints.llm_v7(), endpoints.gguf("dep_1")
GATEWAY = endpoints.gateway("http://h.example")


@pytest.mark.parametrize("endpoint", [V7, GGUF], ids=["v7", "gguf"])
@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 1.5), ("temperature", -1), ("top_p", 1.01), ("top_k", 0)]
)
def test_ranges_that_are_documented(
    variant: Sync | Async, endpoint: endpoints.Endpoint, name: str, value: float
) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name}: must be"):
        quiet_client(variant, endpoint=endpoint).create(**ASK, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 1.5), ("temperature", 2), ("top_p", 1.01), ("top_k", -1)]
)
def test_a_gateway_may_allow_more(variant: Sync | Async, name: str, value: float) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Chunks([b'{"type": "message"}']))

    client = variant.client(handler=handler, api_key=KEY, endpoint=GATEWAY)
    assert client.create(**ASK, **{name: value}).content == []


MINE = replace(
    endpoints.gateway("http://h.example", auth="key"),
    name="mine",
    max_temperature=1.5,
    min_top_k=3,
    min_thinking_budget=64,
)
"""Your own server is one value: no code knows its name."""


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("temperature", 1.6, "from 0 to 1.5"),
        ("top_k", 2, "at least 3"),
        ("thinking", {"type": "enabled", "budget_tokens": 63}, "at least 64"),
        ("thinking", {"type": "enabled"}, "a whole number"),
    ],
)
def test_a_server_of_ones_own(variant: Sync | Async, name: str, value: object, fault: str) -> None:
    params = {**ASK, "max_tokens": 100, name: value}
    with pytest.raises(InvalidRequestError, match=f"{name}.*: must be {fault}"):
        quiet_client(variant, endpoint=MINE).create(**params)


def test_another_name_changes_nothing(variant: Sync | Async) -> None:
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, stream=Chunks([b'{"type": "message"}']))

    for endpoint in (GGUF, replace(GGUF, name="v7")):
        variant.client(handler=handler, api_key=KEY, endpoint=endpoint).create(**ASK)
    first, second = sent
    assert (first.url, first.headers, first.content) == (second.url, second.headers, second.content)


@pytest.mark.parametrize("endpoint", [V7, GATEWAY], ids=["v7", "gateway"])
@pytest.mark.parametrize("params", [without("model"), {**ASK, "model": None}])
def test_no_model(variant: Sync | Async, endpoint: endpoints.Endpoint, params: Json) -> None:
    client = quiet_client(variant, endpoint=endpoint)
    with pytest.raises(InvalidRequestError, match="model: is required"):
        client.create(**params)
    with pytest.raises(InvalidRequestError, match="model: is required"):
        client.count_tokens(messages=[USER])


def test_a_bad_token_count(variant: Sync | Async) -> None:
    client = quiet_client(variant)
    with pytest.raises(InvalidRequestError, match=r"^messages: is empty.*; tools\[0\]: "):
        client.count_tokens(messages=[], tools=[{}])


@each_call
@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("message", "messages"),
        ("stop_sequence", "stop_sequences"),
        ("toolchoice", "tool_choice"),
    ],
)
def test_an_unknown_parameter_with_its_neighbour(
    variant: Sync | Async, call: Callable[[Any, Json], object], name: str, suggestion: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call(quiet_client(variant), {**ASK, name: 1})
    verb = next(verb for verb, each in CALLS.items() if each is call)
    assert str(caught.value).startswith(
        f"messages.{verb}() has no parameter {name!r}: did you mean {suggestion!r}? "
    )


@each_call
def test_an_unknown_parameter_without_one(
    variant: Sync | Async, call: Callable[[Any, Json], object]
) -> None:
    with pytest.raises(TypeError, match=r"'chat_template_kwargs'.*extra_body") as caught:
        call(quiet_client(variant), {**ASK, "chat_template_kwargs": {}})
    assert "did you mean" not in str(caught.value)


def test_stream_is_a_verb(variant: Sync | Async) -> None:
    client = quiet_client(variant)
    with pytest.raises(TypeError, match=r"messages\.stream"):
        client.create(**ASK, stream=True)
    with pytest.raises(TypeError, match="stream"):
        open_stream(client, {**ASK, "stream": True})


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("deadline", r"with_options\(deadline=\.\.\.\)"),
        ("max_retries", r"with_options\(max_retries=\.\.\.\)"),
        ("stop", "stop_sequences"),
        ("max_completion_tokens", "max_tokens"),
        ("output_format", r"messages\.parse\(output=\.\.\.\)"),
        ("validation_retries", r"messages\.parse\(output=\.\.\., validation_retries=\.\.\.\)"),
        ("max_turns", r"messages\.run_tools"),
        ("max_iterations", r"run_tools\(max_turns=\.\.\.\)"),
    ],
)
def test_a_parameter_that_belongs_elsewhere(variant: Sync | Async, name: str, cure: str) -> None:
    with pytest.raises(TypeError, match=cure) as caught:
        quiet_client(variant).create(**ASK, **{name: 1})
    assert "extra_body" not in str(caught.value)


def test_a_token_count_has_fewer_parameters(variant: Sync | Async) -> None:
    with pytest.raises(TypeError, match=r"count_tokens\(\) has no parameter 'max_tokens'"):
        quiet_client(variant).count_tokens(**ASK)
