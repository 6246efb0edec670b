"""Prove that the key goes to its server and nowhere else, however odd it is.

The server quotes each request back, headers and all, in every place an answer has. Everything that
a crash report, a log or a careless `print` would show is searched for the key, and for the ways in
which JSON, HTML, URLs and `repr` write it.

Something has to hold the key: a client does, in a closure. A walk over attributes, as reporters do
it, never shows it; `client._config.key.reveal()` does. An answer is handed out as it came,
and httpcore's own DEBUG log writes the headers of a response as they came: a server that sends the
key back there tells whoever reads them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quoting import KEYS, PLACES, forms, holds, in_headers, quoting
from raw_server import (
    ASK,
    MESSAGE,
    REPLY,
    Connection,
    RawServer,
    reply,
)
from variants import Async, Sync

from modelslab_llm import (
    APIError,
    AsyncModelsLab,
    ConfigurationError,
    ModelsLab,
    ModelsLabError,
    endpoints,
)
from modelslab_llm._protocol.config import Config, Timeout
from modelslab_llm._protocol.exchange import _same_origin_target
from modelslab_llm._protocol.values import Answer, Request


def shown(error: BaseException) -> Iterator[str]:
    """Yield all that could be shown of an error and of those behind it."""
    yield "".join(traceback.format_exception(error))
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    for frame in found.stack:
        if "/modelslab_llm/" in frame.filename:  # the test's own variables hold the key
            yield repr(frame.locals)
    yield from (str(error), repr(error), repr(vars(error)), walked(error))
    if isinstance(error, ModelsLabError):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            yield from (str(again), repr(vars(again)))
        yield pickle.dumps(error).decode("latin-1")
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind:
        yield from shown(behind)


def walked(value: object, seen: set[int] | None = None) -> str:
    """Return what a walk over attributes and items finds, without calling anything."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (type, str, int, float, bytes, ModuleType)):
        return repr(value)
    seen.add(id(value))
    inside: list[object] = list(getattr(value, "__dict__", {}).values())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        inside += [
            getattr(value, name, None) for name in ([slots] if isinstance(slots, str) else slots)
        ]
    if isinstance(value, dict):
        inside += [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside += value
    return "\n".join([repr(value), *(walked(entry, seen) for entry in inside)])


each_key = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, id=name, marks=() if name == "plain" else pytest.mark.slow)
        for name, key in KEYS.items()
    ],
)
def test_no_error_no_log_and_no_warning_shows_the_key(
    variant: Sync | Async, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    if variant.name == "trio" and key != KEYS["plain"]:
        pytest.skip("asyncio has the same code")
    caplog.set_level(logging.DEBUG, "modelslab_llm")
    caplog.set_level(logging.DEBUG, "httpx")
    with RawServer(quoting) as server, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        client = variant.client(
            endpoint=endpoints.gateway(server.url, auth="x-api-key"), api_key=key, max_retries=0
        )
        for place in PLACES:
            for stream in (False, True):
                asked = {**ASK, "extra_headers": {"x-place": place}}
                with pytest.raises(APIError) as caught:
                    if stream:
                        with client.stream(**asked) as streamed:
                            streamed.message()
                    else:
                        client.create(**asked)
                for text in shown(caught.value):
                    assert not holds(text, key), (place, text[:2000])
                url = urlsplit(server.url)
                assert caught.value.url.startswith(f"{url.scheme}://{url.netloc}/")
        assert not holds(walked(client.real), key)
        assert not holds(repr(client.real) + str(client.real), key)
        client.close()
        assert all(key.encode() in request for request in server.heads())  # it was there to quote
        assert len(server.heads()) >= 2 * len(PLACES)
    assert not any(holds(str(warning.message), key) for warning in warned)
    for record in caplog.records:
        assert not holds(record.getMessage() + repr(record.args), key), record.name


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "key"])
@pytest.mark.parametrize("place", ["default_headers", "extra_headers"])
def test_a_key_in_a_header_of_the_caller_is_hidden_too(
    variant: Sync | Async, name: str, place: str
) -> None:
    key = "sk-of-the-caller/0123"
    value = f"Token {key}" if name == "authorization" else key
    for_client, for_call = {}, {}
    (for_client if place == "default_headers" else for_call)[place] = {name: value}

    def quote_it(connection: Connection) -> None:
        told = connection.request.partition(b"\r\n\r\n")[0].decode()
        connection.send(in_headers(401, told) if told.count(key) == 1 else b"")

    with RawServer(quote_it) as server:
        client = variant.client(
            endpoint=endpoints.gateway(server.url, auth="key"),
            api_key="sk-of-the-client-0123",
            **for_client,
        )
        with pytest.raises(APIError) as caught:
            client.create(**ASK, **for_call)
        client.close()
    error = caught.value
    assert key not in f"{error} {error!r} {vars(error)}"
    assert "***" in str(vars(error))


@pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
@pytest.mark.parametrize(
    "wrong", [{"timeout": -1}, {"base_url": "nowhere"}, {"proxy": "x"}, {"deployment_id": "/"}]
)
def test_no_variable_of_ours_shows_the_key_of_a_client_set_up_wrong(
    kind: Any, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_API_KEY", KEYS["plain"])
    for key in ({}, {"api_key": KEYS["plain"]}):
        with pytest.raises((ConfigurationError, TypeError)) as caught:
            kind(**key, **wrong, default_headers={"key": KEYS["plain"]})
        assert not any(holds(text, KEYS["plain"]) for text in shown(caught.value))


@each_key
@pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
def test_nothing_that_is_made_from_a_client_shows_its_key(
    kind: type[ModelsLab | AsyncModelsLab], key: str
) -> None:
    client = kind(key, base_url="http://h.invalid")
    assert "Secret(***)" in walked(client)  # it is walked to where the key is
    stream = client.messages.stream(**ASK)
    config = client._config
    copied = client.with_options(max_retries=5)
    for value in (client, client.messages, client.models, stream, config, config.key, copied):
        assert not holds(walked(value), key)
        for way in (pickle.dumps, copy.deepcopy):
            try:
                assert not holds(walked(way(value)), key)  # of a stream, which shares the closure
                assert value is stream
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                assert not holds(str(error), key)  # noqa: PT017 - either is right
        if value not in (config.key, client.messages, client.models):
            assert not holds(walked(copy.copy(value)), key)
    assert not holds(json.dumps(vars(client), default=repr), key)


def test_a_short_key_is_left_in_words_and_shown_nowhere_else() -> None:
    """`model` as a key: to hide it in every text would make errors useless, and tell it as well."""
    for key in ("model", "message", "k"):
        client = ModelsLab(key, base_url="http://h.invalid")
        assert client._config.hide_key(f"no such {key}") == f"no such {key}"
        assert "Secret(***)" in walked(client)
        assert f"'{key}'" not in walked(client._config)


# Other origins

fuzzed = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
HERE = "http://127.0.0.1:8080/v1/messages"
odd = st.text(st.sampled_from("/\\:@?#%.;&= \t\r\n\x00\u3002\uff0f\u2044ab01[]-_~"), max_size=12)
hosts = st.sampled_from(["127.0.0.1:8080", "127.0.0.1", "evil.example", "h", "localhost:8080"])
places = st.one_of(
    st.text(max_size=20),
    odd,
    st.builds(
        lambda *parts: "".join(parts),
        st.sampled_from(["http:", "https:", "", "HTTP:", "javascript:", "ftp:"]),
        st.sampled_from(["//", "/", "\\\\", "///", "/\\", ""]),
        odd,
        hosts,
        odd,
    ),
)


@pytest.mark.slow
@fuzzed
@given(places, st.sampled_from(["POST", "GET"]), st.sampled_from([301, 302, 307, 308]))
def test_no_redirect_leads_elsewhere(location: str, method: str, status: int) -> None:
    """Where the package goes is decided with one parser of URLs, and done with another."""
    asked = Request(method, HERE, {}, None, Timeout())
    target = _same_origin_target(asked, Answer(status, {"location": location}, b""))
    if target is None:
        return
    with contextlib.suppress(httpx.InvalidURL):  # one of ours, once it is sent
        there, here = httpx.URL(target), httpx.URL(HERE)
        assert (there.scheme, there.netloc) == (here.scheme, here.netloc)
        assert not there.userinfo


@pytest.mark.slow
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_brings_the_key_to_another_origin(variant: Sync | Async, status: int) -> None:
    with RawServer(REPLY) as other:
        port = other.port
        for location in (
            f"http://127.0.0.1:{port}/",
            f"//127.0.0.1:{port}/v1/messages",
            f"http://localhost:{port}/",
            f"https://127.0.0.1:{port}/",
            f"/\\127.0.0.1:{port}/",
            f"http:\\\\127.0.0.1:{port}",
        ):
            moved = reply(status, b"", {"location": location})
            with RawServer(moved) as server:
                client = variant.client(base_url=server.url, api_key=KEYS["plain"], max_retries=0)
                with contextlib.suppress(APIError):
                    client.create(**ASK)
                with contextlib.suppress(APIError):
                    client.models()
                client.close()
        assert other.connections == []


# What is put into addresses


@pytest.mark.slow
@fuzzed
@given(st.text(max_size=20) | odd | st.from_regex(r"[\w.~-]+", fullmatch=True))
def test_a_deployment_id_stays_in_its_place(deployment_id: str) -> None:
    try:
        found = endpoints.gguf(deployment_id)
    except ConfigurationError:
        return
    url = httpx.URL(f"{found.base_url}/v1/messages")
    assert (url.scheme, url.netloc, url.userinfo) == ("https", b"modelslab.com", b"")
    assert url.raw_path == f"/api/gguf/{deployment_id}/v1/messages".encode()
    assert not url.fragment
    assert httpx.URL("https://modelslab.com").join(url.path).path == url.path  # no dot segments


schemes = st.sampled_from(["http://", "https://", "HTTP://", ""])


@pytest.mark.slow
@fuzzed
@given(st.builds(lambda *parts: "".join(parts), schemes, odd, hosts, odd, odd))
def test_a_base_url_means_the_same_to_every_parser(base_url: str) -> None:
    try:
        found = endpoints.gateway(base_url)
    except ConfigurationError:
        return
    asked = f"{found.base_url}/v1/messages"
    parts, url = urlsplit(asked), httpx.URL(asked)
    assert url.host == (parts.hostname or "").rstrip() != ""
    assert (url.scheme, url.query, url.fragment, url.userinfo) == (parts.scheme, b"", "", b"")
    assert url.raw_path.endswith(b"/v1/messages")
    assert url.raw_path.decode() == parts.path
    assert asked.isprintable()
    assert " " not in asked


@pytest.mark.slow
def test_the_key_is_sent_once_and_to_its_server(variant: Sync | Async) -> None:
    with RawServer(reply(200, MESSAGE)) as server:
        for key in KEYS.values():
            for auth in ("x-api-key", "bearer", "key"):
                client = variant.client(
                    endpoint=endpoints.gateway(server.url, auth=auth),  # type: ignore[arg-type]
                    api_key=key,
                )
                assert client.create(**ASK).text == "Tamar"
                client.close()
                sent = server.heads()[-1].decode().split("\r\n")[1:]
                name = "authorization: Bearer " if auth == "bearer" else f"{auth}: "
                assert sent.count(name + key) == 1
                assert sum(line.endswith(key) for line in sent) == 1


def test_a_secret_hides_what_servers_make_of_it() -> None:
    for key in KEYS.values():
        config = Config.build(api_key=key, env={})
        assert key not in config.hide_key(f"({key})")
        for form in forms(key) - {json.dumps(json.dumps(key)[1:-1])[1:-1]}:
            assert config.hide_key(f"({form})") == "(***)" or key == KEYS["stars"]
