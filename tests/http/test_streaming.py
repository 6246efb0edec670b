"""Prove that a stream is handed out as it comes, ends whole or with an error, and lets go.

Over real sockets. What a message is made of is tested elsewhere, from samples.
"""

from __future__ import annotations

import concurrent.futures
import gc
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any, Literal

import httpx
import pytest
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    END,
    END_OF_BODY,
    EVENTS,
    MESSAGE,
    OPEN,
    PING,
    REPLY,
    RESET,
    SHUT,
    SILENCE,
    SSE,
    START,
    STOP,
    STREAM,
    STREAM_HEAD,
    TEXT,
    Connection,
    RawServer,
    Script,
    chunk,
    error_event,
    failure,
    head,
    reply,
    stream,
    text_delta,
)
from variants import Async, AsyncClient, AsyncStream, Sync, SyncClient, SyncStream

from modelslab_llm import (
    AuthenticationError,
    ClientClosedError,
    ModelsLabError,
    StreamInterruptedError,
    UnexpectedResponseError,
)
from modelslab_llm.types import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    ContentBlockStopEvent,
    Message,
    MessageDeltaEvent,
    MessageStartEvent,
    MessageStopEvent,
    PingEvent,
)

Verb = Literal["create", "stream"]
each_verb = pytest.mark.parametrize("verb", ["create", "stream"])

REST = [*map(chunk, EVENTS[3:]), END_OF_BODY]
"""What follows `BEGUN`."""


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Let a socket that was forgotten, and not closed, warn here: warnings are errors."""
    yield
    gc.collect(1)


def connect(
    variant: Sync | Async, server: RawServer, **options: Any
) -> closing[SyncClient | AsyncClient]:
    return closing(variant.client(base_url=server.url, api_key="k", **options))


def loose(client: SyncClient | AsyncClient) -> SyncStream | AsyncStream:
    """Return a stream that no `with` block has opened."""
    if isinstance(client, SyncClient):
        return SyncStream(client.real.messages.stream(**ASK))
    return AsyncStream(client.portal, client.real.messages.stream(**ASK))


def ask(client: SyncClient | AsyncClient, verb: Verb) -> Message:
    if verb == "create":
        return client.create(**ASK)
    with client.stream(**ASK) as streamed:
        return streamed.message()


# As it comes


def test_events_come_typed_and_in_order(variant: Sync | Async) -> None:
    sent = stream(START, PING, OPEN, PING, TEXT, b": comment\n\n", SHUT, END, PING, STOP)
    with RawServer(sent) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            events = list(streamed.events())
    assert [type(event) for event in events] == [
        MessageStartEvent,
        PingEvent,
        ContentBlockStartEvent,
        PingEvent,
        ContentBlockDeltaEvent,
        ContentBlockStopEvent,
        MessageDeltaEvent,
        PingEvent,
        MessageStopEvent,
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_the_bytes_may_be_cut_anywhere(variant: Sync | Async, size: int) -> None:
    body = b"".join((START, OPEN, text_delta("Tāmar – "), TEXT, SHUT, END, STOP))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    with RawServer([STREAM_HEAD, *map(chunk, pieces), END_OF_BODY]) as server:
        with connect(variant, server) as client, client.stream(**ASK) as streamed:
            assert streamed.text() == "Tāmar – Tamar"


def test_text_is_handed_out_while_the_server_still_thinks(variant: Sync | Async) -> None:
    seen = threading.Event()

    def think(connection: Connection) -> None:
        assert seen.wait(5)

    script = [BEGUN, think, chunk(text_delta(" and Exe")), REST]
    with RawServer(script) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            texts = streamed.texts()
            assert next(texts) == "Tamar"
            assert not seen.is_set()
            seen.set()
            assert list(texts) == [" and Exe"]


def test_every_view_continues_where_the_last_one_stopped(variant: Sync | Async) -> None:
    words = [text_delta(word) for word in ("one", "two", "three", "four")]
    sent = stream(START, OPEN, *words, SHUT, END, STOP)
    with RawServer(sent) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            assert isinstance(streamed.next(), MessageStartEvent)
            assert next(streamed.texts()) == "one"
            assert isinstance(streamed.next(), ContentBlockDeltaEvent)  # two
            assert next(streamed.texts()) == "three"
            message = streamed.message()
            assert message.text == streamed.text() == "onetwothreefour"
            assert streamed.message() == message
            assert streamed.next() is None
            assert list(streamed.texts()) == []


def test_the_message_so_far(variant: Sync | Async) -> None:
    seen = threading.Event()
    script = [BEGUN, lambda _: seen.wait(5), chunk(text_delta(" and Exe")), REST]
    with RawServer(script) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            next(streamed.texts())
            so_far = streamed.stream.current_message
            assert (so_far.text, so_far.stop_reason, so_far.id) == ("Tamar", None, "msg_1")
            assert "streaming" in repr(streamed.stream)
            seen.set()
            whole = streamed.message()
            assert so_far.text == "Tamar"  # a snapshot, which does not change
            assert streamed.stream.current_message == whole
            assert "complete" in repr(streamed.stream)


def test_the_final_text_and_the_request_id(variant: Sync | Async) -> None:
    with RawServer(STREAM) as server, connect(variant, server) as client:
        streamed = loose(client)
        assert streamed.stream.request_id is None
        assert streamed.stream.current_message == Message()
        assert streamed.text() == "Tamar"
        assert streamed.stream.request_id == streamed.message().request_id == "req_1"


ENDINGS = {
    "message-stop": [chunk(SHUT), chunk(END), chunk(STOP), END_OF_BODY],
    "no-message-stop": [chunk(SHUT), chunk(END), END_OF_BODY],
    "done": [chunk(SHUT), chunk(END), chunk(STOP), chunk(b"data: [DONE]\n\n"), END_OF_BODY],
    "no-last-blank-line": [chunk(SHUT), chunk(END), chunk(STOP.strip()), END_OF_BODY],
    "reset-after-the-message": [chunk(SHUT), chunk(END), chunk(STOP), 0.02, RESET],
    "close-after-the-message": [chunk(SHUT), chunk(END), chunk(STOP), CLOSE],
    "error-after-the-message": [chunk(SHUT), chunk(END), chunk(STOP + error_event()), END_OF_BODY],
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_ends_of_a_whole_message(variant: Sync | Async, ending: Script) -> None:
    with RawServer([BEGUN, ending]) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            message = streamed.message()
    assert (message.text, message.stop_reason) == ("Tamar", "end_turn")


def test_a_body_that_only_the_end_of_the_connection_ends(variant: Sync | Async) -> None:
    with RawServer([head(200, SSE), *EVENTS, CLOSE]) as server, connect(variant, server) as client:
        assert ask(client, "stream").text == "Tamar"


# Breaking off: what each fault becomes is in the matrix of faults


def test_after_a_failure_every_use_raises_the_same(variant: Sync | Async) -> None:
    with RawServer([BEGUN, CLOSE]) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            with pytest.raises(StreamInterruptedError) as first:
                streamed.message()
            for use in (streamed.next, streamed.message, streamed.text, streamed.texts().__next__):
                with pytest.raises(StreamInterruptedError) as again:
                    use()
                assert again.value is first.value
            assert "failed" in repr(streamed.stream)
            assert streamed.stream.current_message.text == "Tamar"


def test_after_a_refusal_every_use_raises_the_same(variant: Sync | Async) -> None:
    with RawServer(failure(401), STREAM) as server, connect(variant, server) as client:
        with closing(loose(client)) as streamed:
            with pytest.raises(AuthenticationError) as first:
                streamed.next()
            for use in (streamed.next, streamed.message, streamed.text, lambda: enter(streamed)):
                with pytest.raises(AuthenticationError) as again:
                    use()
                assert again.value is first.value
        assert server.requests == 1


def enter(streamed: SyncStream | AsyncStream) -> None:
    if isinstance(streamed, SyncStream):
        streamed.stream.__enter__()
    else:
        streamed.portal.call(streamed.stream.__aenter__)


# Letting go


def left(server: RawServer) -> bool:
    """Tell whether the server saw the client close its first connection."""
    return server.connections[0].left.wait(2)


def test_closing_early_closes_the_connection(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            next(streamed.texts())
            streamed.close()
            assert left(server)
            for use in (streamed.next, streamed.message):
                with pytest.raises(StreamInterruptedError) as caught:
                    use()
                assert caught.value.partial_message is not None
                assert caught.value.partial_message.text == "Tamar"
            streamed.close()


def test_leaving_the_block_early_closes_the_connection(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            for _ in streamed.texts():
                break
        assert left(server)


def test_leaving_the_block_at_once_closes_the_connection(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server, connect(variant, server) as client:
        with client.stream(**ASK):
            pass
        assert left(server)


def test_an_exception_in_the_block_closes_the_connection(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server, connect(variant, server) as client:
        with pytest.raises(ZeroDivisionError), client.stream(**ASK) as streamed:
            streamed.next()
            raise ZeroDivisionError
        assert left(server)


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_server_that_keeps_talking_is_cut_off(variant: Sync | Async, encoding: str) -> None:
    pack = zlib.compressobj(wbits=31) if encoding else None

    def talk(connection: Connection) -> None:
        connection.send(head(200, {**SSE, "content-encoding": encoding}))
        for part in (START, OPEN, *[TEXT] * 100_000):
            connection.send(pack.compress(part) + pack.flush(2) if pack else part)

    with RawServer(talk) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            texts = streamed.texts()
            assert [next(texts) for _ in range(20)] == ["Tamar"] * 20
        assert left(server)


def test_after_an_early_close_the_next_call_works(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE], REPLY) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            streamed.next()
        assert client.create(**ASK).text == "Tamar"
        assert len(server.connections) == 2


def test_a_stream_without_a_with_block(variant: Sync | Async) -> None:
    with RawServer(STREAM) as server, connect(variant, server) as client:
        assert loose(client).message().text == "Tamar"
        streamed = loose(client)
        assert len(list(streamed.events())) == len(EVENTS)
        assert list(loose(client).texts()) == ["Tamar"]
        assert loose(client).text() == "Tamar"
        assert len(server.connections) == 1


def test_a_stream_that_was_never_started(variant: Sync | Async) -> None:
    with RawServer(STREAM) as server, connect(variant, server) as client:
        streamed = loose(client)
        assert "not sent" in repr(streamed.stream)
        streamed.close()
        assert "closed" in repr(streamed.stream)
        for use in (streamed.next, streamed.message):
            with pytest.raises(StreamInterruptedError):
                use()
        assert server.connections == []


def test_a_closed_stream_is_not_sent_any_more(variant: Sync | Async) -> None:
    with RawServer(STREAM) as server, connect(variant, server) as client:
        streamed = loose(client)
        streamed.close()
        with suppress(ModelsLabError):
            enter(streamed)
        streamed.close()
        assert server.connections == []


@pytest.mark.slow
@pytest.mark.parametrize("of_the_caller", [False, True], ids=["ours", "of-the-caller"])
def test_closing_while_another_thread_reads_ends_the_reading(
    variant: Sync | Async, of_the_caller: bool
) -> None:
    plain: dict[str, Any] = {}
    if of_the_caller:
        plain["http_client"] = httpx.Client() if isinstance(variant, Sync) else httpx.AsyncClient()
    with (
        RawServer([BEGUN, SILENCE]) as server,
        connect(variant, server, timeout=4, **plain) as client,
        closing_http(variant, plain.get("http_client")),
    ):
        with client.stream(**ASK) as streamed, ThreadPoolExecutor(1) as pool:
            next(streamed.texts())
            reading = pool.submit(streamed.message)
            with pytest.raises(concurrent.futures.TimeoutError):
                reading.result(0.1)
            streamed.close()
            with pytest.raises(StreamInterruptedError) as caught:
                reading.result(2)
        assert caught.value.partial_message is not None
        assert left(server)


@contextmanager
def closing_http(variant: Sync | Async, http: Any) -> Iterator[None]:
    yield
    if isinstance(variant, Async) and http:
        variant.portal.call(http.aclose)
    elif http:
        http.close()


def test_a_stream_outlives_its_client_without_surprises(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            next(streamed.texts())
            client.close()
            with pytest.raises(ClientClosedError) as caught:
                streamed.message()
        assert caught.value.partial_message is not None
        assert caught.value.partial_message.text == "Tamar"
        assert left(server)


# Connections after a stream


WHOLE: dict[str, Script] = {
    "at-once": STREAM,
    "event-by-event": [STREAM_HEAD, *[[0.005, chunk(event)] for event in EVENTS], END_OF_BODY],
    "end-comes-late": [STREAM_HEAD, *map(chunk, EVENTS), 0.03, END_OF_BODY],
    "done-comes-late": [
        [STREAM_HEAD, *map(chunk, EVENTS)],
        [0.01, chunk(b"data: [DONE]\n\n"), 0.01, END_OF_BODY],
    ],
    "refused": failure(401),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", WHOLE.values(), ids=WHOLE)
def test_a_connection_serves_again_after_a_stream(variant: Sync | Async, script: Script) -> None:
    with RawServer(script) as server, connect(variant, server) as client:
        for _ in range(3):
            with suppress(AuthenticationError), client.stream(**ASK) as streamed:
                assert streamed.text() == "Tamar"
        assert server.requests == 3
        assert len(server.connections) == 1


# Replies that are no stream, or no message


def test_a_whole_message_is_replayed_as_a_stream(variant: Sync | Async) -> None:
    tool = {"type": "tool_use", "id": "t1", "name": "level", "input": {"river": "Tamar"}}
    odd = {"type": "hologram", "shape": [1, 2]}
    body = {**MESSAGE, "content": [*MESSAGE["content"], tool, odd], "stop_reason": "tool_use"}
    sent = reply(200, body, {"request-id": "req_2"})
    with RawServer(sent) as server, connect(variant, server) as client:
        message = client.create(**ASK)
        with client.stream(**ASK) as streamed:
            assert streamed.stream.request_id == "req_2"
            assert next(streamed.texts()) == "Tamar"
            assert streamed.message() == message
            assert streamed.message().request_id == "req_2"
        with client.stream(**ASK) as streamed:
            kinds = [event.type for event in streamed.events()]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 3
        assert len(server.connections) == 1


@pytest.mark.slow
@pytest.mark.parametrize("label", ["text/event-stream", "application/json", ""])
@pytest.mark.parametrize("what", ["stream", "message"])
def test_blank_lines_before_an_answer_do_not_hide_what_it_is(
    variant: Sync | Async, what: str, label: str
) -> None:
    body = b"".join(EVENTS) if what == "stream" else json.dumps(MESSAGE).encode()
    start = head(200, {"content-type": label, "transfer-encoding": "chunked"})
    kept_waiting = [step for _ in range(20) for step in (chunk(b"\n"), 0.005)]
    with RawServer([start, *kept_waiting, chunk(body), END_OF_BODY]) as server:
        with connect(variant, server) as client, client.stream(**ASK) as stream:
            assert stream.text() == "Tamar"


def test_a_replayed_message_can_be_left_early(variant: Sync | Async) -> None:
    with RawServer(REPLY) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            assert isinstance(streamed.next(), MessageStartEvent)
        assert client.create(**ASK).text == "Tamar"
        assert len(server.connections) == 1


def test_the_error_for_another_format_says_so(variant: Sync | Async) -> None:
    with (
        RawServer(reply(200, {"object": "chat.completion", "choices": []})) as server,
        connect(variant, server) as client,
    ):
        with pytest.raises(UnexpectedResponseError, match="OpenAI"):
            client.create(**ASK)
        assert server.requests == 1


# Compressed


PACKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.compressobj(wbits=31),
    "deflate": zlib.compressobj,
}


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_compressed_answer(variant: Sync | Async, encoding: str) -> None:
    pack = PACKERS[encoding]()
    body = pack.compress(json.dumps(MESSAGE).encode()) + pack.flush()
    sent = reply(200, body, {"content-encoding": encoding})
    with RawServer(sent) as server, connect(variant, server) as client:
        assert client.create(**ASK).text == "Tamar"
        assert client.create(**ASK).text == "Tamar"
        assert len(server.connections) == 1


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_compressed_stream_comes_as_it_is_sent(variant: Sync | Async, encoding: str) -> None:
    pack = PACKERS[encoding]()
    seen = threading.Event()
    packed = [chunk(pack.compress(event) + pack.flush(zlib.Z_SYNC_FLUSH)) for event in EVENTS]
    begun = head(200, {**SSE, "transfer-encoding": "chunked", "content-encoding": encoding})
    end = [*packed[3:], chunk(pack.flush()), END_OF_BODY]
    script = [begun, *packed[:3], lambda _: seen.wait(5), end]
    with RawServer(script) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            assert next(streamed.texts()) == "Tamar"
            assert not seen.is_set()
            seen.set()
            assert streamed.text() == "Tamar"


def test_a_compressed_stream_may_be_left_early(variant: Sync | Async) -> None:
    pack = PACKERS["gzip"]()
    begun = pack.compress(START + OPEN + TEXT) + pack.flush(zlib.Z_SYNC_FLUSH)
    sent = [head(200, {**SSE, "content-encoding": "gzip"}), begun, SILENCE]
    with RawServer(sent) as server, connect(variant, server) as client:
        with client.stream(**ASK) as streamed:
            next(streamed.texts())
        assert left(server)


@each_verb
def test_an_answer_that_says_it_is_compressed_and_is_not(variant: Sync | Async, verb: Verb) -> None:
    headers = {"content-encoding": "gzip"} | (SSE if verb == "stream" else {})
    sent = reply(200, b"".join(EVENTS), headers)
    with RawServer(sent) as server, connect(variant, server, max_retries=0) as client:
        with pytest.raises((UnexpectedResponseError, StreamInterruptedError), match="decompress"):
            ask(client, verb)
