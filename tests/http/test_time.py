"""Prove that no call waits longer than its timeouts, whatever the server does with its bytes.

The simplest cases are in `matrix.faults`.

Every case ends with the right class, says in `.phase` which limit it was, and keeps what a stream
had brought. The bounds are generous: they show that a call ends, not how exactly. Limits count in
units, so that a busy machine can be given longer ones: see `patience`.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import httpx
import pytest
from patience import patient
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    END_OF_BODY,
    EVENTS,
    OPEN,
    PING,
    RESET,
    SILENCE,
    SSE,
    START,
    STREAM_HEAD,
    TEXT,
    RawServer,
    Script,
    again_and_again,
    chunk,
    drip,
    failure,
    head,
    text_delta,
)
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    InternalServerError,
    Timeout,
)
from modelslab_llm._http.pace import Pace
from modelslab_llm._protocol.config import Config
from modelslab_llm._protocol.messages import stream_message
from modelslab_llm._protocol.values import Attempt
from modelslab_llm.types import PingEvent

SLACK = 4.0
BODY_BEGUN = head(200, {"content-length": "100"}) + b'{"type'
REST = [*map(chunk, EVENTS[3:]), END_OF_BODY]
MANY = 10**6

Verb = Literal["create", "stream"]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Let a socket that was forgotten, and not closed, warn here: warnings are errors."""
    yield
    gc.collect(1)


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK


def ask(client: SyncClient | AsyncClient, verb: Verb) -> None:
    if verb == "create":
        client.create(**ASK)
    else:
        with client.stream(**ASK) as stream:
            for _ in stream.events():
                pass


class Case(NamedTuple):
    verb: Verb
    script: Script
    limits: dict[str, float | None]
    """In units."""
    phase: str
    text: str | None = None
    """The message so far, for streams that had begun."""

    def options(self, unit: float) -> dict[str, Any]:
        return scaled(self.limits, unit)


def scaled(limits: Mapping[str, float | None], unit: float) -> dict[str, Any]:
    return {name: limit and limit * unit for name, limit in limits.items()}


TIMEOUT: dict[str, float | None] = {"timeout": 1.0}
DEADLINE: dict[str, float | None] = {"deadline": 1.0}
PROGRESS: dict[str, float | None] = {"progress_timeout": 1.0}
DRIPPED_BODY = [head(200, {"content-length": "200"}), drip(b" " * 200, 0.02)]
LONG = {"x-padding": "x" * 200}
DRIPPED = drip(head(200, LONG | SSE) + START + OPEN, 0.02)
"""Takes some ten seconds, four of them for the headers; no byte is late."""

CASES = {
    "silence-deadline": Case("create", SILENCE, DEADLINE, "deadline"),
    "silence-deadline-alone": Case("create", SILENCE, {"timeout": None, **DEADLINE}, "deadline"),
    "silence-deadline-stream": Case("stream", SILENCE, DEADLINE, "deadline"),
    "silence-progress-stream": Case("stream", SILENCE, PROGRESS, "progress"),
    "half-a-body-deadline": Case("create", [BODY_BEGUN, SILENCE], DEADLINE, "deadline"),
    "headers-deadline": Case("stream", [STREAM_HEAD, SILENCE], DEADLINE, "deadline", ""),
    "headers-progress": Case("stream", [STREAM_HEAD, SILENCE], PROGRESS, "progress", ""),
    "dripped-head": Case("create", DRIPPED, {**TIMEOUT, **DEADLINE}, "deadline"),
    "dripped-stream": Case("stream", DRIPPED, {**TIMEOUT, **DEADLINE}, "deadline"),
    "dripped-progress": Case("stream", DRIPPED, PROGRESS, "progress"),
    "dripped-then-silent": Case(
        "stream",
        [BEGUN, drip(chunk(text_delta("!")), 0.001), SILENCE],
        {"timeout": 60, "deadline": 5},
        "deadline",
        "Tamar!",
    ),
    "pings-deadline": Case(
        "stream", [STREAM_HEAD, again_and_again(chunk(PING))], DEADLINE, "deadline", ""
    ),
    "text-deadline": Case("stream", [BEGUN, SILENCE], DEADLINE, "deadline", "Tamar"),
    "text-progress": Case("stream", [BEGUN, SILENCE], PROGRESS, "progress", "Tamar"),
    "text-for-ever": Case(
        "stream",
        [BEGUN, again_and_again(chunk(text_delta("")))],
        {**TIMEOUT, **PROGRESS, **DEADLINE},
        "deadline",
        "Tamar",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@patient
def test_every_wait_ends(variant: Sync | Async, case: Case, unit: float) -> None:
    with RawServer(case.script) as server:
        client = variant.client(
            base_url=server.url, api_key="k", max_retries=0, **case.options(unit)
        )
        with closing(client):
            with ends_within(unit), pytest.raises(APITimeoutError) as caught:
                ask(client, case.verb)
        assert caught.value.phase == case.phase
        if case.text is not None:
            assert caught.value.partial_message is not None
            assert caught.value.partial_message.text == case.text
        assert server.connections[0].left.wait(2)


@pytest.mark.slow
@patient
def test_an_error_page_that_drips_is_not_a_wait_either(variant: Sync | Async, unit: float) -> None:
    script = [head(503, {"content-length": "100000"}), again_and_again(b"x", 0.01)]
    with RawServer(script) as server:
        client = variant.client(base_url=server.url, api_key="k", max_retries=0, deadline=3 * unit)
        with closing(client), ends_within(3 * unit):
            with pytest.raises((InternalServerError, APIConnectionError)):
                ask(client, "create")


OF_THE_CALLER = {
    "dripped-body": Case("create", DRIPPED_BODY, {**TIMEOUT, **DEADLINE}, "deadline"),
    "silence": CASES["silence-deadline"],
    "half-a-body": CASES["half-a-body-deadline"],
    "text": CASES["text-deadline"],
    "pings": Case("stream", [BEGUN, again_and_again(chunk(PING))], PROGRESS, "progress"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_THE_CALLER.values(), ids=OF_THE_CALLER)
@patient
def test_the_limits_hold_on_a_client_of_the_caller(
    variant: Sync | Async, case: Case, unit: float
) -> None:
    with RawServer(case.script) as server, http_client_of(variant) as http:
        client = variant.client(
            base_url=server.url, api_key="k", max_retries=0, http_client=http, **case.options(unit)
        )
        with ends_within(unit * 2), pytest.raises(APITimeoutError) as caught:
            ask(client, case.verb)
        assert caught.value.phase == case.phase


@contextmanager
def http_client_of(variant: Sync | Async) -> Iterator[httpx.Client | httpx.AsyncClient]:
    # There is no TLS, and to read the CA certificates takes a while.
    if isinstance(variant, Sync):
        with httpx.Client(verify=False) as http:
            yield http
    else:
        http = httpx.AsyncClient(verify=False)
        yield http
        variant.portal.call(http.aclose)


# Before there is a connection, and before the request is out

Limit = Literal["connect", "write", "deadline"]


def limited(limit: Limit, unit: float) -> dict[str, Any]:
    return {"deadline": unit} if limit == "deadline" else {"timeout": Timeout(**{limit: unit})}


@pytest.mark.parametrize("limit", ["connect", "deadline"])
@pytest.mark.parametrize("verb", ["create", "stream"])
@patient
def test_a_server_that_never_shakes_hands(
    variant: Sync | Async, limit: Limit, verb: Verb, unit: float
) -> None:
    options = limited(limit, unit)
    with RawServer(SILENCE) as server:
        url = server.url.replace("http:", "https:")  # its hello is answered by nothing
        with closing(variant.client(base_url=url, api_key="k", max_retries=0, **options)) as client:
            with ends_within(unit), pytest.raises(APITimeoutError) as caught:
                ask(client, verb)
        assert caught.value.phase == limit


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["write", "deadline"])
@patient
def test_a_server_that_does_not_read(variant: Sync | Async, limit: Limit, unit: float) -> None:
    options = limited(limit, unit)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # never accepts: its buffers fill up
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with closing(variant.client(base_url=url, api_key="k", max_retries=0, **options)) as client:
            with ends_within(unit), pytest.raises(APITimeoutError) as caught:
                client.create(**{**ASK, "system": "x" * 16 * 1024 * 1024})
        assert caught.value.phase == limit


# A deadline is for the whole call


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["create", "stream"])
@patient
def test_the_deadline_ends_the_retries(variant: Sync | Async, verb: Verb, unit: float) -> None:
    with RawServer(failure(500)) as server:
        client = variant.client(
            base_url=server.url, api_key="k", max_retries=MANY, deadline=2 * unit
        )
        with closing(client):
            with ends_within(2 * unit), pytest.raises(APIError) as caught:
                ask(client, verb)
        assert isinstance(caught.value, (InternalServerError, APITimeoutError))
        assert caught.value.attempts >= 2


@pytest.mark.slow
@pytest.mark.parametrize("script", [CLOSE, RESET], ids=["close", "reset"])
@patient
def test_the_deadline_ends_the_retries_of_broken_connections(
    variant: Sync | Async, script: Script, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 0.01)
    with RawServer(script) as server:
        client = variant.client(
            base_url=server.url, api_key="k", max_retries=MANY, deadline=2 * unit
        )
        with closing(client):
            with ends_within(2 * unit), pytest.raises(APIConnectionError) as caught:
                client.create(**ASK)
        assert caught.value.attempts >= 2


@pytest.mark.slow
@patient
def test_the_deadline_counts_what_earlier_tries_took(variant: Sync | Async, unit: float) -> None:
    slow_refusal = [unit / 2, failure(503)]
    with RawServer(slow_refusal, slow_refusal, SILENCE) as server:
        client = variant.client(base_url=server.url, api_key="k", deadline=4 * unit)
        with closing(client):
            with ends_within(4 * unit), pytest.raises(APITimeoutError) as caught:
                client.create(**ASK)
        assert (caught.value.phase, caught.value.attempts) == ("deadline", 3)
        assert server.requests == 3


def test_a_pause_that_would_pass_the_deadline_is_not_begun(variant: Sync | Async) -> None:
    refusal = failure(503, **{"retry-after-ms": "", "retry-after": "30"})
    with RawServer(refusal) as server:
        with closing(variant.client(base_url=server.url, api_key="k", deadline=10)) as client:
            with ends_within(0), pytest.raises(InternalServerError) as caught:
                client.create(**ASK)
        assert caught.value.retry_after == 30
        assert server.requests == 1


# What must not be mistaken for a stall


@pytest.mark.slow
@patient
def test_content_starts_the_progress_timeout_anew(variant: Sync | Async, unit: float) -> None:
    words = [step for _ in range(5) for step in (unit, chunk(text_delta(".")))]
    with RawServer([BEGUN, words, REST]) as server:
        client = variant.client(base_url=server.url, api_key="k", progress_timeout=4 * unit)
        with closing(client), client.stream(**ASK) as stream:
            assert stream.text() == "Tamar....."


@pytest.mark.slow
@patient
def test_a_slow_reader_is_not_a_stalled_server(variant: Sync | Async, unit: float) -> None:
    with RawServer([BEGUN, unit / 2, chunk(PING), unit / 2, REST]) as server:
        client = variant.client(base_url=server.url, api_key="k", progress_timeout=3 * unit)
        with closing(client), client.stream(**ASK) as stream:
            for event in stream.events():
                if isinstance(event, PingEvent):
                    time.sleep(5 * unit)  # the rest has come before this is over
            assert stream.text() == "Tamar"


def test_the_time_a_reader_takes_is_not_given_to_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("modelslab_llm._http.pace.time", SimpleNamespace(monotonic=lambda: now))
    config = Config.build(api_key="k", progress_timeout=10, env={})
    pace = Pace(Attempt(stream_message(config, ASK).request, 0.0, None, config))
    reader = SimpleNamespace(moved=True)
    pace.hold()
    now += 60  # the reader thinks about a text
    pace.look(reader)  # type: ignore[arg-type]
    pace.resume()
    assert pace.moment() == now + 10
    pace.hold()
    now += 60  # and about a ping
    pace.look(reader)  # type: ignore[arg-type]
    pace.resume()
    assert pace.moment() == now + 10


@pytest.mark.slow
def test_a_body_left_open_after_the_message_does_not_hold_the_caller(variant: Sync | Async) -> None:
    whole = [STREAM_HEAD, *map(chunk, EVENTS), SILENCE]
    with RawServer(whole) as server:
        with closing(variant.client(base_url=server.url, api_key="k")) as client:
            with ends_within(0), client.stream(**ASK) as stream:
                assert stream.message().text == "Tamar"
            assert server.connections[0].left.wait(2)


@pytest.mark.slow
def test_pings_after_the_message_do_not_hold_the_caller(variant: Sync | Async) -> None:
    whole = [STREAM_HEAD, *map(chunk, EVENTS), again_and_again(chunk(PING), 0.01)]
    with RawServer(whole) as server:
        with closing(variant.client(base_url=server.url, api_key="k")) as client:
            with ends_within(0), client.stream(**ASK) as stream:
                assert stream.message().text == "Tamar"
            assert server.connections[0].left.wait(2)


@pytest.mark.slow
@patient
def test_the_timeout_is_for_silence_and_not_for_the_length_of_an_answer(
    variant: Sync | Async, unit: float
) -> None:
    words = [step for _ in range(5) for step in (unit, chunk(TEXT))]
    with RawServer([BEGUN, words, REST]) as server:
        with closing(variant.client(base_url=server.url, api_key="k", timeout=4 * unit)) as client:
            with client.stream(**ASK) as stream:
                assert stream.text() == "Tamar" * 6
