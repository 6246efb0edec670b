"""Scripted faults: each is the same to the caller over a real socket and through the transport."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from patience import patient, until
from scripted import ASK, Way
from variants import Async, Sync

from modelslab_llm import errors
from modelslab_llm.errors import APIError
from modelslab_llm.testing import (
    Fault,
    LocalServer,
    ReceivedRequest,
    Reply,
    ScriptedTransport,
)

# 1 message_start, 2 content_block_start, 3 ping, 4 "one ", 5 "two ", 6 "three",
# 7 content_block_stop, 8 message_delta, 9 message_stop
TEXT = "one two three"
QUICK = {"timeout": 20.0}

QUICK = {"timeout": 20.0}
BROKEN = errors.StreamInterruptedError

STREAMS: list[tuple[Fault, type[APIError], str | None]] = [
    (Fault.reset(), errors.APIConnectionError, None),
    (Fault.cut(), errors.APIConnectionError, None),
    (Fault.refuse(), errors.APIConnectionError, None),
    (Fault.reset(after=0), BROKEN, ""),
    (Fault.cut(after=0), BROKEN, ""),
    (Fault.end(after=0), BROKEN, ""),
    (Fault.reset(after=1), BROKEN, ""),
    (Fault.reset(after=4), BROKEN, "one "),
    (Fault.reset(within=6), BROKEN, "one two "),
    (Fault.cut(after=5), BROKEN, "one two "),
    (Fault.cut(within=1), BROKEN, ""),
    (Fault.cut(within=5), BROKEN, "one "),
    (Fault.end(after=5), BROKEN, "one two "),
    (Fault.end(within=8), BROKEN, TEXT),
    (Fault.error(after=0), errors.OverloadedError, ""),
    (Fault.error("rate_limit_error", "Slow.", after=5), errors.RateLimitError, "one two "),
    (Fault.garbage(b"data: {broken\n\n", after=4), BROKEN, "one "),
    (Fault.garbage(b"\xff\xfe{", within=5), BROKEN, "one "),
]
HARMLESS = [
    Fault.end(after=8),  # the stop reason has come: complete (protocol.md §6.7)
    Fault.end(after=9),
    Fault.garbage(b": a comment\n\n", after=4),
    Fault.garbage(b"data: [DONE]\n\n", after=9),
    Fault.repeat("ping"),
    Fault.repeat(2),
    Fault.repeat("message_delta"),
    Fault.omit("ping"),
    Fault.omit(1),
    Fault.omit("content_block_start"),
    Fault.omit("content_block_stop"),
    Fault.omit("message_stop"),
]
WHOLE: list[tuple[Fault, type[APIError]]] = [
    (Fault.reset(), errors.APIConnectionError),
    (Fault.cut(), errors.APIConnectionError),
    (Fault.refuse(), errors.APIConnectionError),
    (Fault.reset(after=3), errors.APIConnectionError),
    (Fault.cut(within=1), errors.APIConnectionError),
    (Fault.end(after=300), errors.UnexpectedResponseError),
    (Fault.garbage(b"\xff\x00", after=1), errors.UnexpectedResponseError),
]


def failure(way: Way, reply: Any, **options: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        with way.asked(reply, **options).stream(**ASK) as stream:
            stream.message()
    return caught.value


# The same error, whichever way


@pytest.mark.parametrize(("fault", "error", "text"), STREAMS, ids=str)
def test_a_stream_that_breaks(
    way: Way, fault: Fault, error: type[APIError], text: str | None
) -> None:
    found = failure(way, Reply(TEXT, fault=fault), **QUICK)
    assert type(found) is error, found
    partial = found.partial_message
    assert (partial.text if partial else None) == text


@pytest.mark.parametrize("fault", HARMLESS, ids=str)
def test_a_stream_that_a_tolerant_client_reads(way: Way, fault: Fault) -> None:
    with way.asked(Reply(TEXT, fault=fault), **QUICK).stream(**ASK) as stream:
        assert stream.message().text == TEXT


@pytest.mark.parametrize(("fault", "error"), WHOLE, ids=str)
def test_an_answer_in_one_piece_that_breaks(way: Way, fault: Fault, error: type[APIError]) -> None:
    with pytest.raises(APIError) as caught:
        way.asked(Reply(TEXT, fault=fault), **QUICK).create(**ASK)
    assert type(caught.value) is error, caught.value


@pytest.mark.parametrize("split", ["word", 5])
def test_after_the_fault_the_server_continues(way: Way, split: Any) -> None:
    faults = [Fault.reset(), Fault.cut(), Fault.refuse()]
    server = way.server([*faults, Reply(TEXT, fault=Fault.reset(after=1), split=split), TEXT])
    client = way.client(server, max_retries=0)
    for _ in range(4):
        with pytest.raises(APIError):
            with client.stream(**ASK) as stream:
                stream.message()
    assert client.create(**ASK).text == TEXT
    assert len(server.requests) == 5
    assert server.disconnects == 0


def test_what_may_be_retried_is(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 0.001)
    server = way.server([Fault.reset(), Reply(TEXT, fault=Fault.cut(after=2)), TEXT])
    with way.client(server, max_retries=2).stream(**ASK) as stream:
        assert stream.message().text == TEXT
    assert len(server.requests) == 3


@pytest.mark.slow
@patient
def test_a_stall_ends_by_the_callers_limits(way: Way, unit: float) -> None:
    first, amid = Fault.stall(), Fault.stall(after=5)
    for script in (first, Reply(TEXT, fault=first), Reply(TEXT, fault=Fault.stall(after=1))):
        assert stalled(way, script, timeout=3 * unit).phase == "read"
    found = stalled(way, Reply(TEXT, fault=amid), timeout=3 * unit)
    assert found.phase == "read"
    assert found.partial_message is not None
    assert found.partial_message.text == "one two "
    server = way.server(Reply(TEXT, fault=Fault.stall(within=3)))
    with pytest.raises(errors.APITimeoutError):
        way.client(server, timeout=3 * unit).create(**ASK)
    until(lambda: server.disconnects == 1)


def stalled(way: Way, script: Any, **options: Any) -> errors.APITimeoutError:
    found = failure(way, script, **options)
    assert isinstance(found, errors.APITimeoutError)
    return found


@pytest.mark.slow
@patient
def test_a_stall_of_a_real_server_ends_by_any_limit(variant: Sync | Async, unit: float) -> None:
    way = Way(LocalServer, variant)
    with way.opened:
        for option, phase in [("deadline", "deadline"), ("progress_timeout", "progress")]:
            found = stalled(way, Reply(TEXT, fault=Fault.stall(after=5)), **{option: 3 * unit})
            assert found.phase == phase


def test_a_stall_in_the_transport_takes_no_time(variant: Sync | Async) -> None:
    way = Way(ScriptedTransport, variant)
    with way.opened:
        for script in (Fault.stall(), Reply(TEXT, fault=Fault.stall(after=5))):
            assert "within 600 s" in str(stalled(way, script))


@pytest.mark.parametrize("script", [Fault.stall(), Reply(TEXT, fault=Fault.stall(after=5))])
def test_a_stall_without_a_limit_is_said(variant: Sync | Async, script: Any) -> None:
    way = Way(ScriptedTransport, variant)
    with way.opened:
        server = way.server(script)
        with pytest.raises(RuntimeError, match="because it has no read timeout: pass timeout="):
            with way.client(server, timeout=None).stream(**ASK) as stream:
                stream.message()
        assert len(server.script_errors) == 1


def test_a_server_that_is_down(way: Way) -> None:
    server = way.server("up again")
    client = way.client(server, max_retries=0)
    client.create(**ASK)
    url = server.url
    with server.refusing():
        assert server.url == url
        for _ in range(2):
            with pytest.raises(errors.APIConnectionError, match="cannot connect"):
                client.create(**ASK)
    assert client.create(**ASK).text == "up again"
    assert (server.url, len(server.requests)) == (url, 2)


def test_a_server_is_back_whatever_happened_while_it_was_down(way: Way) -> None:
    server = way.server("back")
    client = way.client(server)
    with pytest.raises(LookupError), server.refusing():
        if isinstance(server, LocalServer):
            with (
                pytest.raises(RuntimeError, match="already refuses connections"),
                server.refusing(),
            ):
                pass
            with pytest.raises(RuntimeError, match="already runs"):
                server.start()
        raise LookupError
    assert client.create(**ASK).text == "back"


def test_a_server_that_is_closed_while_it_is_down() -> None:
    server = LocalServer().start()
    with server.refusing():
        server.close()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url
    with pytest.raises(RuntimeError, match="not running"), server.refusing():
        pass


# What httpx itself is told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.reset(), httpx.ReadError),
        (Fault.reset(after=2), httpx.ReadError),
        (Fault.cut(), httpx.RemoteProtocolError),
        (Fault.cut(within=2), httpx.RemoteProtocolError),
        (Fault.stall(), httpx.ReadTimeout),
        (Fault.stall(after=2), httpx.ReadTimeout),
        (Fault.refuse(), (httpx.ConnectError, httpx.RemoteProtocolError)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [LocalServer, ScriptedTransport])
@pytest.mark.parametrize("stream", [False, True])
def test_faults_are_httpxs_own(kind: Any, fault: Fault, error: Any, stream: bool) -> None:
    server = kind(Reply(TEXT, fault=fault), api_key=None)
    with ExitStack() as opened:
        transport = server
        limit = 0.2 if fault.kind == "stall" else 20.0
        if isinstance(server, LocalServer):
            opened.enter_context(server)
            transport = None
        http = opened.enter_context(httpx.Client(transport=transport, timeout=limit, verify=False))
        with pytest.raises(error) as caught:
            http.post(server.url + "/v1/messages", json={**ASK, "stream": stream})
        assert caught.value.request.url.path == "/v1/messages"


def body(fault: Fault | None, **options: Any) -> bytes:
    reply = Reply(TEXT, id="x", fault=fault, **options)
    with httpx.Client(transport=ScriptedTransport(reply, api_key=None)) as http:
        return http.post("http://h/v1/messages", json={**ASK, "stream": True}).content


def test_where_faults_strike_is_exact() -> None:
    plain = body(None).split(b"\n\n")
    assert len(plain) == 10  # nine events, and nothing after the last blank line

    def joined(*events: bytes) -> bytes:
        return b"".join(event + b"\n\n" for event in events)

    assert joined(*plain[:9]) == body(None)
    assert body(Fault.end(after=0)) == b""
    assert body(Fault.end(after=4)) == joined(*plain[:4])
    half = (len(plain[4]) + 2) // 2
    fifth, other_half = plain[4][:half], plain[4][half:]
    assert body(Fault.end(within=5)) == joined(*plain[:4]) + fifth
    assert body(Fault.garbage(b"?", after=2)) == joined(*plain[:2]) + b"?" + joined(*plain[2:9])
    assert body(Fault.garbage(b"?", within=5)) == (
        joined(*plain[:4]) + fifth + b"?" + joined(other_half, *plain[5:9])
    )
    assert body(Fault.omit(1)) == joined(*plain[1:9])
    assert body(Fault.omit("content_block_delta")) == joined(*plain[:3], *plain[6:9])
    assert body(Fault.repeat(9)) == joined(*plain[:9], plain[8])
    assert body(Fault.error("api_error", "Gone.", after=6)) == joined(
        *plain[:6],
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"Gone."},'
        b'"request_id":"req_local_0001"}',
    )
    for fault in (Fault.omit(3), Fault.garbage(b"?", within=5), Fault.end(after=4)):
        assert body(fault, split=7) == body(fault)


# What cannot be


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fault.cut(after=1, within=2), r"Fault.cut\(after=1, within=2\): .* pass only one"),
        (lambda: Fault.cut(after=-1), "after must be the events that are sent before it, from 0"),
        (lambda: Fault.cut(within=0), "within must be the number of an event, from 1 on"),
        (lambda: Fault.reset(after=True), "after must be"),
        (lambda: Fault.stall(within=1.5), "within must be"),
        (lambda: Fault.end(), r"Fault.end\(\): set the position with after= or within="),
        (lambda: Fault.garbage(b"?"), "set the position"),
        (lambda: Fault.garbage("text", after=1), "pass the data as bytes"),
        (lambda: Fault.omit(0), "from 1 on, or a type of events"),
        (lambda: Fault.repeat(-3), "from 1 on, or a type of events"),
        (lambda: LocalServer(Fault.cut(after=2)), r"Fault.cut\(after=2\) happens inside an answer"),
        (
            lambda: ScriptedTransport(["x", Fault.omit(1)]),
            r"put it into Reply\(\.{3}, fault=",
        ),
    ],
)
def test_faults_that_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault.cut(after=10), "the reply has 9 events: 1 message_start, 2 content_block_start"),
        (Fault.end(within=30), "9 message_stop"),
        (Fault.omit(10), "there is no such event, the reply has 9 events"),
        (Fault.repeat("content_block_strat"), "there is no such event"),
    ],
)
def test_faults_that_the_reply_has_no_place_for(way: Way, fault: Fault, said: str) -> None:
    server = way.server(Reply(TEXT, fault=fault))
    with pytest.raises(errors.InternalServerError, match=said):
        with way.client(server, max_retries=3).stream(**ASK) as stream:
            stream.message()
    assert [type(error) for error in server.script_errors] == [ValueError]
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [Fault.error(after=1), Fault.omit(1), Fault.repeat("ping")])
def test_faults_of_events_in_an_answer_without(way: Way, fault: Fault) -> None:
    with pytest.raises(errors.InternalServerError, match="did not stream: check request"):
        way.asked(Reply(TEXT, fault=fault)).create(**ASK)


def test_a_script_function_chooses(way: Way) -> None:
    def script(request: ReceivedRequest) -> Fault | Reply:
        return Reply(TEXT, fault=Fault.end(after=4)) if request.stream else Fault.reset()

    client = way.asked(script, **QUICK)
    with pytest.raises(errors.APIConnectionError):
        client.create(**ASK)
    with pytest.raises(errors.StreamInterruptedError):
        with client.stream(**ASK) as stream:
            stream.message()


@pytest.mark.slow
def test_nothing_is_left_behind() -> None:
    program = """
import gc, threading
from modelslab_llm import APIError
from modelslab_llm.testing import Fault, LocalServer, Reply, ScriptedTransport
places = [{}, {"after": 0}, {"after": 3}, {"within": 4}]
faults = [make(**p) for make in (Fault.reset, Fault.cut, Fault.stall) for p in places]
ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
for kind in (LocalServer, ScriptedTransport):
    server = kind([Reply("one two", fault=fault) for fault in faults])
    if kind is LocalServer:
        server.start()
    with server.client(max_retries=0, timeout=0.05) as client:
        for _ in faults:
            try:
                with client.messages.stream(**ask) as stream:
                    stream.get_final_message()
            except APIError:
                pass
            else:
                raise SystemExit("no error")
    if kind is LocalServer:
        with server.refusing():
            pass
        server.close()
gc.collect()
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
