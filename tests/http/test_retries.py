"""Prove what is sent again and what is not, over real sockets, counted where it arrives.

The servers ask for a wait of nothing, and the backoff is made short, so that no test sleeps.
"""

from __future__ import annotations

import concurrent.futures
import errno
import gc
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Literal

import httpx
import pytest
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    END_OF_BODY,
    OPEN,
    PING,
    REPLY,
    RESET,
    START,
    STREAM,
    STREAM_HEAD,
    TEXT,
    RawServer,
    Script,
    chunk,
    error_event,
    failure,
    free_port,
    head,
    reply,
    stream,
)
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APIStatusError,
    BadRequestError,
    InternalServerError,
    OverloadedError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from modelslab_llm.errors import BY_STATUS
from modelslab_llm.types import Message

pytestmark = pytest.mark.usefixtures("short_pauses")

Verb = Literal["create", "stream"]
KEY = "key-of-the-tests"

each_verb = pytest.mark.parametrize("verb", ["create", "stream"])


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Let a socket that was forgotten, and not closed, warn here: warnings are errors."""
    yield
    gc.collect(1)


def connect(
    variant: Sync | Async, server: RawServer, **options: Any
) -> closing[SyncClient | AsyncClient]:
    return closing(variant.client(base_url=server.url, api_key=KEY, **options))


def ask(client: SyncClient | AsyncClient, verb: Verb) -> Message:
    if verb == "create":
        return client.create(**ASK)
    with client.stream(**ASK) as streamed:
        return streamed.message()


def answer(verb: Verb) -> bytes:
    return REPLY if verb == "create" else STREAM


# By status


@each_verb
@pytest.mark.parametrize("status", [429, 503])
def test_these_are_sent_again(variant: Sync | Async, status: int, verb: Verb) -> None:
    """Two for all: the whole list stands in `protocol/test_retry.py`."""
    with RawServer(failure(status), answer(verb)) as server, connect(variant, server) as client:
        assert ask(client, verb).text == "Tamar"
        assert server.requests == 2


@each_verb
@pytest.mark.parametrize("status", [400, 418])
def test_these_are_not(variant: Sync | Async, status: int, verb: Verb) -> None:
    """A refusal that no second try would change reaches the caller after one."""
    with RawServer(failure(status), answer(verb)) as server, connect(variant, server) as client:
        with pytest.raises(BY_STATUS.get(status, APIStatusError)) as caught:
            ask(client, verb)
        assert (caught.value.status_code, caught.value.attempts) == (status, 1)
        assert server.requests == 1


@pytest.mark.parametrize(
    ("status", "verdict", "requests"),
    [(400, "true", 2), (503, "false", 1)],
)
def test_the_server_decides_with_x_should_retry(
    variant: Sync | Async, status: int, verdict: str, requests: int
) -> None:
    refusal = failure(status, **{"x-should-retry": verdict})
    with RawServer(refusal, REPLY) as server, connect(variant, server) as client:
        if requests == 2:
            assert client.create(**ASK).text == "Tamar"
        else:
            with pytest.raises(APIStatusError):
                client.create(**ASK)
        assert server.requests == requests


@each_verb
@pytest.mark.parametrize(
    ("options", "requests"), [({}, 3), ({"max_retries": 0}, 1), ({"max_retries": 4}, 5)]
)
def test_as_often_as_max_retries_says(
    variant: Sync | Async, options: dict[str, Any], requests: int, verb: Verb
) -> None:
    with RawServer(failure(503)) as server, connect(variant, server, **options) as client:
        with pytest.raises(ServiceUnavailableError) as caught:
            ask(client, verb)
        assert server.requests == caught.value.attempts == requests


def test_a_changed_copy_has_its_own_retries(variant: Sync | Async) -> None:
    with RawServer(failure(503)) as server, connect(variant, server) as client:
        with pytest.raises(ServiceUnavailableError):
            client.with_options(max_retries=1).create(**ASK)
        assert server.requests == 2


@pytest.mark.parametrize(
    "hint",
    [{"retry-after-ms": "1"}, {"retry-after": "0"}, {"retry-after": "0.001"}],
    ids=["ms", "nothing", "fraction"],
)
def test_the_server_says_how_long(
    variant: Sync | Async, hint: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "modelslab_llm._protocol.retry.FIRST", 3600.0
    )  # with the backoff it would not end
    monkeypatch.setattr("modelslab_llm._protocol.retry.LONGEST", 3600.0)
    refusal = failure(429, **{"retry-after-ms": "", **hint})
    with RawServer(refusal, REPLY) as server, connect(variant, server, deadline=30) as client:
        assert client.create(**ASK).text == "Tamar"


@pytest.mark.parametrize("hint", ["-5", "soon", "nan", "inf", "", "Thu, 99 Foo 2020 00:00:00 GMT"])
def test_a_hint_without_sense_leaves_the_backoff(variant: Sync | Async, hint: str) -> None:
    refusal = failure(429, **{"retry-after-ms": hint, "retry-after": hint})
    with RawServer(refusal, REPLY) as server, connect(variant, server, deadline=30) as client:
        assert client.create(**ASK).text == "Tamar"
        assert server.requests == 2


@each_verb
def test_each_try_sends_the_same(variant: Sync | Async, verb: Verb) -> None:
    with RawServer(failure(503), failure(503), answer(verb)) as server:
        with connect(variant, server) as client:
            ask(client, verb)
        first, second, third = server.connections[0].requests
        assert first == second == third


# By connection


@each_verb
@pytest.mark.parametrize("fault", [CLOSE, RESET], ids=["close", "reset"])
def test_a_kept_connection_that_dies_unanswered(
    variant: Sync | Async, fault: Script, verb: Verb
) -> None:
    with RawServer(REPLY, fault, answer(verb)) as server, connect(variant, server) as client:
        client.create(**ASK)
        assert ask(client, verb).text == "Tamar"
        assert [len(connection.requests) for connection in server.connections] == [2, 1]


@each_verb
@pytest.mark.parametrize("fault", [CLOSE, RESET], ids=["close", "reset"])
def test_a_new_connection_that_dies_unanswered(
    variant: Sync | Async, fault: Script, verb: Verb
) -> None:
    with RawServer(fault, answer(verb)) as server, connect(variant, server) as client:
        assert ask(client, verb).text == "Tamar"
        assert server.requests == 2


BROKEN_OFF = {
    "in-the-status-line": b"HTTP/1.",
    "in-the-headers": REPLY[:40],
    "after-the-headers": head(200, {"content-length": "100"}),
    "in-the-body": REPLY[:-3],
    "in-a-chunk": head(200, {"transfer-encoding": "chunked"}) + b"64\r\n{",
}


@pytest.mark.parametrize("fault", [CLOSE, RESET], ids=["close", "reset"])
@pytest.mark.parametrize("part", BROKEN_OFF.values(), ids=BROKEN_OFF)
def test_an_answer_that_breaks_off(variant: Sync | Async, part: bytes, fault: Script) -> None:
    with RawServer([part, fault], REPLY, [part, fault]) as server:
        with connect(variant, server) as client:
            assert client.create(**ASK).text == "Tamar"
            assert server.requests == 2
            with pytest.raises(APIConnectionError) as caught:
                client.with_options(max_retries=0).create(**ASK)
            assert caught.value.attempts == 1
            assert server.requests == 3


def test_a_refusal_that_breaks_off_is_still_a_refusal(variant: Sync | Async) -> None:
    with RawServer([failure(401)[:-3], CLOSE]) as server, connect(variant, server) as client:
        with pytest.raises(BY_STATUS[401]):
            client.create(**ASK)
        assert server.requests == 1


@pytest.mark.slow
@each_verb
def test_a_server_that_comes_up_between_the_tries(
    variant: Sync | Async, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 0.05)
    port = free_port()
    client = variant.client(base_url=f"http://127.0.0.1:{port}", api_key=KEY, max_retries=50)
    with closing(client), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, verb)
        with pytest.raises(concurrent.futures.TimeoutError):
            asked.result(0.1)
        with RawServer(answer(verb), port=port) as server:
            assert asked.result(10).text == "Tamar"
            assert server.requests == 1


REFUSED = os.strerror(errno.ECONNREFUSED)


@each_verb
def test_a_connection_that_is_refused_to_the_end(variant: Sync | Async, verb: Verb) -> None:
    client = variant.client(base_url=f"http://127.0.0.1:{free_port()}", api_key=KEY)
    with closing(client):
        with pytest.raises(APIConnectionError) as caught:
            ask(client, verb)
        assert caught.value.attempts == 3
        assert type(caught.value) is APIConnectionError  # no stream ended: none had begun
        assert f"cannot connect: [Errno {errno.ECONNREFUSED}] {REFUSED} (" in str(caught.value)


# A stream


BARE_ERROR = b'event: error\ndata: {"code": 500, "message": "no", "type": "server_error"}\n\n'
UNNAMED_ERROR = b'data: {"error": {"message": "no", "type": "overloaded_error"}}\n\n'
BEFORE_CONTENT: dict[str, Script] = {
    "error-at-once": stream(error_event()),
    "error-after-the-start": stream(START, error_event()),
    "error-after-a-ping": stream(START, PING, error_event("rate_limit_error")),
    "error-bare": stream(START, BARE_ERROR),
    "error-unnamed": stream(START, UNNAMED_ERROR),
    "end-at-once": stream(),
    "end-after-the-start": stream(START),
    "closed-at-once": [STREAM_HEAD, CLOSE],
    "closed-after-the-start": [STREAM_HEAD, chunk(START), CLOSE],
    "reset-after-a-ping": [STREAM_HEAD, chunk(START), chunk(PING), RESET],
    "broken-json": stream(START, b"data: {\n\n"),
}
AFTER_CONTENT: dict[str, tuple[Script, type[APIError]]] = {
    "error": ([BEGUN, chunk(error_event()), END_OF_BODY], OverloadedError),
    "error-bare": ([BEGUN, chunk(BARE_ERROR), END_OF_BODY], InternalServerError),
    "error-unnamed": ([BEGUN, chunk(UNNAMED_ERROR), END_OF_BODY], OverloadedError),
    "error-in-one-piece": (stream(START, OPEN, TEXT, error_event()), OverloadedError),
    "end": ([BEGUN, END_OF_BODY], StreamInterruptedError),
    "closed": ([BEGUN, CLOSE], StreamInterruptedError),
    "reset": ([BEGUN, 0.05, RESET], StreamInterruptedError),
    "broken-json": ([BEGUN, chunk(b"data: {\n\n"), END_OF_BODY], StreamInterruptedError),
}


@pytest.mark.parametrize("script", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
def test_a_stream_that_fails_before_its_content_is_sent_again(
    variant: Sync | Async, script: Script
) -> None:
    with RawServer(script, STREAM) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            kinds = [event.type for event in streamed.events()]
            assert streamed.message().text == "Tamar"
        assert kinds.count("message_start") == 1  # nothing of the first try is handed out
        assert server.requests == 2


@pytest.mark.parametrize("script", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
def test_a_stream_that_never_has_content_fails_in_the_end(
    variant: Sync | Async, script: Script
) -> None:
    with RawServer(script) as server, connect(variant, server, max_retries=1) as client:
        with pytest.raises(APIError) as caught, client.stream(**ASK):
            pass
        assert isinstance(caught.value, (InternalServerError, APIConnectionError, APIStatusError))
        assert server.requests == caught.value.attempts == 2


@pytest.mark.parametrize(("script", "error"), AFTER_CONTENT.values(), ids=AFTER_CONTENT)
def test_a_stream_that_fails_later_is_not(
    variant: Sync | Async, script: Script, error: type[APIError]
) -> None:
    with RawServer(script, STREAM) as server, connect(variant, server) as client:
        with pytest.raises(error) as caught, client.stream(**ASK) as streamed:
            streamed.message()
        assert caught.value.partial_message is not None
        assert caught.value.partial_message.text == "Tamar"
        assert getattr(caught.value, "in_stream", True)
        assert server.requests == caught.value.attempts == 1


def test_an_error_event_that_cannot_heal_is_not_sent_again(variant: Sync | Async) -> None:
    refusal = stream(START, error_event("invalid_request_error"))
    with RawServer(refusal, STREAM) as server, connect(variant, server) as client:
        with pytest.raises(BadRequestError) as caught, client.stream(**ASK):
            pass
        assert caught.value.in_stream
        assert server.requests == 1


# Redirects


@each_verb
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_at_home_is_followed(variant: Sync | Async, status: int, verb: Verb) -> None:
    moved = reply(status, b"", {"location": "/elsewhere"})
    with RawServer(moved, answer(verb)) as server:
        with connect(variant, server, max_retries=0) as client:
            assert ask(client, verb).text == "Tamar"
        first, second = server.connections[0].requests
        assert second.startswith(b"POST /elsewhere HTTP/1.1\r\n")
        assert second.partition(b"\r\n")[2] == first.partition(b"\r\n")[2]  # key and body too


@pytest.mark.parametrize("location", ["http://[::1", "http://", "://", "http://a b", "\xff"])
def test_a_redirect_without_sense_fails_like_all_else(variant: Sync | Async, location: str) -> None:
    moved = reply(307, b"", {"location": location})
    with RawServer(moved) as server, connect(variant, server, max_retries=0) as client:
        with pytest.raises(APIError):
            client.create(**ASK)


def test_a_client_of_the_caller_that_follows_redirects_does_not_either(
    variant: Sync | Async,
) -> None:
    kind: Any = httpx.Client if isinstance(variant, Sync) else httpx.AsyncClient
    with RawServer(REPLY) as other:
        moved = reply(307, b"", {"location": f"{other.url}/v1/messages"})
        with RawServer(moved) as server:
            http = kind(follow_redirects=True)
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            with pytest.raises(APIStatusError):
                client.create(**ASK)
            if isinstance(variant, Sync):
                http.close()
            else:
                variant.portal.call(http.aclose)
        assert other.connections == []
