"""Prove what happens to connections: shared, bounded, reused, released, and never revealing the
key.

Over real sockets, except for the choice of a pool, which is pure and driven directly.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import logging
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.metadata import version
from typing import Any, Literal

import anyio
import httpx
import pytest
from certificates import Authority
from libraries import OURS, client_of, each_client, each_library, module
from patience import until
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    END,
    END_OF_BODY,
    EVENTS,
    MESSAGE,
    OPEN,
    REPLY,
    RESET,
    SHUT,
    SILENCE,
    SSE,
    START,
    STOP,
    STREAM,
    STREAM_HEAD,
    Connection,
    Gone,
    RawServer,
    Script,
    chunk,
    failure,
    free_port,
    reply,
    stream,
    text_delta,
)
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncModelsLab,
    ConfigurationError,
    DefaultAioHttpClient,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
    Timeout,
    endpoints,
)
from modelslab_llm._http.certificates import _shared
from modelslab_llm._http.network import AsyncNetwork, Settings

KEY = "key-that-nobody-may-see"
ONE = httpx.Limits(max_connections=1)
TEN = httpx.Limits(max_connections=10)

Verb = Literal["create", "stream"]
each_verb = pytest.mark.parametrize("verb", ["create", "stream"])
each_loop = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Let a socket that was forgotten, and not closed, warn here: warnings are errors."""
    yield
    gc.collect(1)


def connect(
    variant: Sync | Async, server: RawServer, **options: Any
) -> closing[SyncClient | AsyncClient]:
    return closing(variant.client(base_url=server.url, api_key=KEY, **options))


@contextmanager
def http_of(variant: Sync | Async, library: str = OURS, **settings: Any) -> Iterator[Any]:
    """Give an HTTP client as callers make it: the package's kind, or a plain one of a library."""
    if library != OURS:
        with client_of(library, variant, **settings) as plain:
            yield plain
    elif isinstance(variant, Sync):
        with DefaultHttpxClient(**settings) as http:
            yield http
    else:
        asynchronous = DefaultAsyncHttpxClient(**settings)
        yield asynchronous
        variant.portal.call(asynchronous.aclose)


def ask(client: SyncClient | AsyncClient, verb: Verb = "create", text: str = "Tamar") -> str:
    asked = {**ASK, "messages": [{"role": "user", "content": text}]}
    if verb == "create":
        return client.create(**asked).text
    with client.stream(**asked) as streamed:
        return streamed.text()


def stays_open(connections: list[Connection], count: int) -> bool:
    """Tell whether so many connections stay open, once the others have had time to be closed."""

    def still_open() -> int:
        return sum(not connection.left.is_set() for connection in connections)

    until(lambda: still_open() <= count)
    time.sleep(0.02)
    return still_open() == count


def asked_for(text: str) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": text}]}


def echo(connection: Connection) -> None:
    """Answer with what was asked, as a stream where that was wanted."""
    text = connection.body["messages"][0]["content"]
    if connection.body.get("stream"):
        connection.send(stream(START, OPEN, text_delta(text), SHUT, END, STOP))
    else:
        connection.send(reply(200, {**MESSAGE, "content": [{"type": "text", "text": text}]}))


# Reuse


def test_calls_after_each_other_share_a_connection(variant: Sync | Async) -> None:
    with RawServer(echo) as server, connect(variant, server) as client:
        for verb in ("create", "stream", "create", "stream"):
            assert ask(client, verb) == "Tamar"
        assert len(server.connections) == 1


def test_a_connection_that_the_server_closed_is_not_used(variant: Sync | Async) -> None:
    with RawServer([REPLY, CLOSE], REPLY) as server:
        with connect(variant, server, max_retries=0) as client:
            client.create(**ASK)
            while server.connections[0].sock.fileno() != -1:
                time.sleep(0.001)
            assert client.create(**ASK).text == "Tamar"
        assert len(server.connections) == 2


def test_a_server_that_refuses_connection_reuse(variant: Sync | Async) -> None:
    sent = reply(200, MESSAGE, {"connection": "close"})
    with RawServer([sent, SILENCE]) as server, connect(variant, server, max_retries=0) as client:
        for _ in range(3):
            assert client.create(**ASK).text == "Tamar"
        assert len(server.connections) == 3
        assert all(connection.left.wait(2) for connection in server.connections)


def test_closing_the_client_closes_its_connections(variant: Sync | Async) -> None:
    with RawServer(REPLY) as server:
        with connect(variant, server) as client:
            client.create(**ASK)
            assert not server.connections[0].left.is_set()
        assert server.connections[0].left.wait(2)


def test_a_changed_copy_shares_the_connections(variant: Sync | Async) -> None:
    with RawServer(REPLY) as server, connect(variant, server) as client:
        client.create(**ASK)
        copy = client.with_options(max_retries=0, timeout=5)
        copy.create(**ASK)
        copy.close()
        client.create(**ASK)
        assert len(server.connections) == 1
        client.close()
        with pytest.raises(ConfigurationError, match="closed"):
            copy.create(**ASK)


def test_a_closed_client_says_that_it_is_closed(variant: Sync | Async) -> None:
    with RawServer(REPLY) as server, connect(variant, server) as client:
        client.close()
        client.close()
        for use in (ask, lambda client: ask(client, "stream"), lambda client: client.models()):
            with pytest.raises(ConfigurationError, match="closed"):
                use(client)
        with pytest.raises(ConfigurationError, match="closed"):
            client.count_tokens(model="m", messages=ASK["messages"])
        assert server.connections == []


# Many at once


@pytest.mark.slow
def test_two_hundred_threads_on_ten_connections() -> None:
    with RawServer([0.002, echo]) as server, DefaultHttpxClient(limits=TEN) as http:
        client = ModelsLab(base_url=server.url, api_key=KEY, http_client=http, max_retries=0)
        words = [f"word {i}" for i in range(200)]
        with ThreadPoolExecutor(200) as threads:
            asked = [threads.submit(client.messages.create, **asked_for(word)) for word in words]
            assert [future.result(20).text for future in asked] == words
        assert server.requests == 200
        assert len(server.connections) <= 10


@pytest.mark.slow
@each_loop
def test_two_hundred_tasks_on_ten_connections(backend: str) -> None:
    answers: dict[str, str] = {}

    async def main() -> None:
        async with DefaultAsyncHttpxClient(limits=TEN) as http:
            client = AsyncModelsLab(
                base_url=server.url, api_key=KEY, http_client=http, max_retries=0
            )

            async def call(word: str) -> None:
                answers[word] = (await client.messages.create(**asked_for(word))).text

            async with anyio.create_task_group() as tasks:
                for i in range(200):
                    tasks.start_soon(call, f"word {i}")

    with RawServer([0.002, echo]) as server:
        anyio.run(main, backend=backend)
        assert len(answers) == server.requests == 200
        assert all(word == answer for word, answer in answers.items())
        assert len(server.connections) <= 10


def test_streams_count_until_they_are_read() -> None:
    with RawServer([BEGUN, 0.01, *map(chunk, EVENTS[3:]), END_OF_BODY]) as server:
        with DefaultHttpxClient(limits=TEN) as http, ThreadPoolExecutor(50) as threads:
            client = ModelsLab(base_url=server.url, api_key=KEY, http_client=http)

            def call(_: int) -> str:
                with client.messages.stream(**ASK) as streamed:
                    return streamed.get_final_text()

            assert list(threads.map(call, range(50))) == ["Tamar"] * 50
        assert len(server.connections) <= 10


@pytest.mark.slow
def test_fifty_threads_on_one_client() -> None:
    with RawServer(echo) as server, ModelsLab(base_url=server.url, api_key=KEY) as client:

        def call(thread: int) -> None:
            for turn in range(4):
                word = f"{thread}.{turn}"
                assert client.messages.create(**asked_for(word)).text == word
                with client.messages.stream(**asked_for(word)) as streamed:
                    assert streamed.get_final_text() == word

        with ThreadPoolExecutor(50) as threads:
            list(threads.map(call, range(50)))
        assert server.requests == 400
        assert server.peak <= 50


def test_waiting_callers_are_served_in_order_of_arrival() -> None:
    order: list[str] = []

    def note(connection: Connection) -> None:
        order.append(connection.body["messages"][0]["content"])
        echo(connection)

    async def main() -> None:
        async with DefaultAsyncHttpxClient(limits=ONE) as http:
            client = AsyncModelsLab(base_url=server.url, api_key=KEY, http_client=http)
            await asyncio.gather(
                *[client.messages.create(**asked_for(f"{i:02}")) for i in range(30)]
            )

    with RawServer(note) as server:
        asyncio.run(main())  # asyncio starts tasks in order, trio on purpose does not
    assert order == sorted(order)
    assert len(order) == 30


@pytest.mark.slow
def test_no_connection_becomes_free(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE], echo) as server, http_of(variant, limits=ONE) as http:
        client = variant.client(
            base_url=server.url,
            api_key=KEY,
            http_client=http,
            timeout=Timeout(pool=0.1),
            max_retries=0,
        )
        with client.stream(**ASK):
            with pytest.raises(APITimeoutError) as caught:
                ask(client)
            assert caught.value.phase == "pool"
            with pytest.raises(APITimeoutError) as caught:
                client.with_options(deadline=0.05).create(**ASK)
            assert caught.value.phase == "deadline"
        assert ask(client) == "Tamar"


@each_verb
def test_who_gave_up_waiting_holds_no_connection(variant: Sync | Async, verb: Verb) -> None:
    with RawServer([BEGUN, SILENCE], echo) as server, http_of(variant, limits=ONE) as http:
        client = variant.client(
            base_url=server.url,
            api_key=KEY,
            http_client=http,
            timeout=Timeout(pool=0.5),
            max_retries=0,
        )
        with client.stream(**ASK):
            for deadline in (1e-9, 0.0001, 0.001, 0.01):
                with pytest.raises(APITimeoutError) as caught:
                    ask(client.with_options(deadline=deadline), verb)
                assert caught.value.phase == "deadline"
        assert ask(client) == ask(client) == "Tamar"


def test_closing_the_client_ends_waiting_calls() -> None:
    with RawServer([BEGUN, SILENCE]) as server, DefaultHttpxClient(limits=ONE) as http:
        client = ModelsLab(
            base_url=server.url, api_key=KEY, http_client=http, timeout=Timeout(pool=4)
        )
        with ThreadPoolExecutor(1) as threads, client.messages.stream(**ASK):
            waiting = threads.submit(client.messages.create, **ASK)
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(0.1)
            http.close()
            with pytest.raises((ConfigurationError, APIConnectionError)):
                waiting.result(2)


def test_a_stream_closed_by_another_thread_at_any_moment_holds_no_connection() -> None:
    def talk(connection: Connection) -> None:
        connection.send(STREAM_HEAD + chunk(START) + chunk(OPEN))
        while True:
            connection.send(chunk(text_delta("Tamar")) * 20)
            connection.wait(0.001)

    def read(streamed: Any) -> None:
        with suppress(APIError):
            for _ in streamed:
                pass

    with RawServer(talk) as server, DefaultHttpxClient(limits=ONE) as http:
        client = ModelsLab(
            base_url=server.url, api_key=KEY, http_client=http, timeout=Timeout(pool=0.5)
        )
        kept: list[Any] = []  # so that no garbage collector tidies up
        with ThreadPoolExecutor(1) as threads:
            for i in range(40):
                streamed = client.with_options(max_retries=0).messages.stream(**ASK)
                streamed.__enter__()
                kept.append(streamed)
                reading = threads.submit(read, streamed)
                time.sleep(i / 10_000)
                streamed.close()
                reading.result(5)
        assert server.requests == 40


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_an_interrupt_while_waiting_holds_no_connection() -> None:
    with RawServer([BEGUN, SILENCE], echo) as server, DefaultHttpxClient(limits=ONE) as http:
        client = ModelsLab(
            base_url=server.url, api_key=KEY, http_client=http, timeout=Timeout(pool=2)
        )
        with client.messages.stream(**ASK):
            here = threading.get_ident()
            press = threading.Timer(0.1, signal.pthread_kill, (here, signal.SIGINT))
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                press.start()
                with pytest.raises(KeyboardInterrupt):
                    client.messages.create(**ASK)
                press.join()
            finally:
                signal.signal(signal.SIGINT, before)
        again = client.with_options(timeout=Timeout(pool=0.3), max_retries=0)
        assert again.messages.create(**ASK).text == "Name a tidal river."


# What is idle


@each_verb
def test_an_idle_connection_to_another_server_counts_too(variant: Sync | Async, verb: Verb) -> None:
    with RawServer(echo) as first, RawServer(echo) as second, http_of(variant, limits=ONE) as http:
        for server in (first, second, first):
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            assert ask(client, verb) == "Tamar"
            assert stays_open([*first.connections, *second.connections], 1)


@pytest.mark.slow
def test_a_call_is_not_lost_to_another_that_waits_in_vain(
    variant: Sync | Async, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    begun = threading.Event()
    wait = Timeout(pool=5)

    def slow(connection: Connection) -> None:
        begun.set()
        connection.wait(0.5)
        echo(connection)

    with RawServer(slow, echo) as server, http_of(variant, limits=ONE) as http:
        options: dict[str, Any] = {"api_key": KEY, "http_client": http, "max_retries": 0}
        client = variant.client(base_url=server.url, timeout=wait, **options)
        secure = variant.client(
            base_url=f"https://127.0.0.1:{free_port()}", timeout=wait, **options
        )
        with ThreadPoolExecutor(3) as threads:
            first = threads.submit(ask, client)
            assert begun.wait(5)
            lost = threads.submit(ask, secure)
            time.sleep(0.1)
            last = threads.submit(ask, client)
            assert first.result(10) == "Tamar"
            with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
                lost.result(10)
            assert last.result(10) == "Tamar"


@pytest.mark.slow
def test_no_more_idle_connections_than_may_be_kept(variant: Sync | Async) -> None:
    everyone = threading.Barrier(12)

    def together(connection: Connection) -> None:
        everyone.wait(10)
        echo(connection)

    limits = httpx.Limits(max_keepalive_connections=3)
    with RawServer(together) as server, http_of(variant, limits=limits) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        with ThreadPoolExecutor(12) as threads:
            for call in [threads.submit(ask, client) for _ in range(12)]:
                assert call.result(10) == "Tamar"
        assert stays_open(server.connections, 3)


@pytest.mark.slow
def test_the_pool_of_the_package_is_small_and_many() -> None:
    together = threading.Barrier(24)

    def answer(connection: Connection) -> None:
        together.wait(20)  # breaks if any of them waits for a connection
        connection.play(echo)

    with RawServer(answer) as server, ModelsLab(base_url=server.url, api_key=KEY) as client:
        with ThreadPoolExecutor(24) as threads:
            calls = [threads.submit(client.messages.create, **ASK) for _ in range(24)]
            assert all(call.result(30).text for call in calls)
        assert server.peak == 24  # all at once, none waited


# A client of the caller


@each_library
def test_a_client_of_the_caller_is_used_as_it_is(variant: Sync | Async, library: str) -> None:
    seen: list[Any] = []

    def hook(request: Any) -> None:
        seen.append(request)

    async def ahook(request: Any) -> None:
        seen.append(request)

    hooks: Any = {"request": [hook if isinstance(variant, Sync) else ahook]}
    settings = {"headers": {"x-team": "rivers"}, "cookies": {"c": "1"}, "event_hooks": hooks}
    with RawServer(echo) as server, http_of(variant, library, **settings) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        assert ask(client) == ask(client, "stream") == "Tamar"
        client.close()
        assert not http.is_closed
        assert ask(client) == "Tamar"  # it is the caller's to close
    assert len(seen) == 3
    for sent in server.heads():
        lines = sent.lower().split(b"\r\n")
        assert b"x-team: rivers" in lines
        assert b"cookie: c=1" in lines
        assert b"anthropic-version: 2023-06-01" in lines
        assert sum(line.startswith((b"authorization:", b"x-api-key:")) for line in lines) == 1


LATER: dict[str, tuple[str, Any, bytes]] = {
    "headers": ("headers", {"x-team": "rivers"}, b"x-team: rivers"),
    "cookies": ("cookies", {"c": "1"}, b"cookie: c=1"),
    "parameters": ("params", {"team": "rivers"}, b"?team=rivers"),
    "a login": ("auth", ("me", "secret"), b"authorization: basic bwu6c2vjcmv0"),
}


@pytest.mark.parametrize("what", LATER)
def test_what_a_client_of_the_package_is_given_later_is_sent_too(
    variant: Sync | Async, what: str
) -> None:
    name, value, wanted = LATER[what]
    with RawServer(echo) as server, http_of(variant) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        assert ask(client) == "Tamar"
        setattr(http, name, value)
        assert ask(client) == ask(client, "stream") == "Tamar"
        heads = [head.lower() for head in server.heads()]
        assert [wanted in head for head in heads] == [False, True, True]


@pytest.mark.parametrize("where", ["the class", "the client"])
def test_who_puts_a_tracer_around_the_sending_sees_all(
    variant: Sync | Async, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[httpx.Request] = []
    kind: Any = httpx.Client if isinstance(variant, Sync) else httpx.AsyncClient
    send = kind.send

    def traced(self: Any, request: httpx.Request, **options: Any) -> Any:
        seen.append(request)
        request.headers["traceparent"] = "00-1-2-01"
        return send(self, request, **options)

    with RawServer(echo) as server, http_of(variant) as http:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        if where == "the class":
            monkeypatch.setattr(kind, "send", traced)
        else:
            monkeypatch.setattr(http, "send", lambda request, **more: traced(http, request, **more))
        assert ask(client) == ask(client, "stream") == "Tamar"
        assert len(seen) == 2
        assert all(b"traceparent" in head for head in server.heads())


@each_client
def test_a_host_of_the_caller_is_the_only_one(variant: Sync | Async, library: str) -> None:
    with RawServer(echo) as server, http_of(variant, library) as http:
        client = variant.client(
            base_url=server.url,
            api_key=KEY,
            http_client=http,
            default_headers={"Host": "h.example"},
        )
        assert ask(client) == ask(client, "stream") == "Tamar"
        for sent in server.heads():
            lines = sent.lower().split(b"\r\n")
            assert [line for line in lines if line.startswith(b"host:")] == [b"host: h.example"]


@each_client
def test_the_transport_of_the_caller_is_used(variant: Sync | Async, library: str) -> None:
    theirs = httpx if library == OURS else module(library)

    def handler(request: Any) -> Any:
        return theirs.Response(200, json=MESSAGE)

    with http_of(variant, library, transport=theirs.MockTransport(handler)) as http:
        client = variant.client(base_url="http://nowhere.invalid", api_key=KEY, http_client=http)
        assert ask(client) == ask(client, "stream") == "Tamar"


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that continues even if it was closed; it ends only so that the test ends."""

    def __init__(self) -> None:
        self.pieces = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.piece, b"")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if piece := self.piece():
            return piece
        raise StopAsyncIteration

    def piece(self) -> bytes:
        self.pieces += 1
        if self.pieces == 1:
            return START + OPEN
        return text_delta("Tamar") if self.pieces < 10_000 else b""


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio's, of httpx's own
def test_a_body_of_the_caller_is_not_read_after_the_stream_was_left(variant: Sync | Async) -> None:
    body = Endless()

    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=SSE, stream=body)

    with http_of(variant, "httpx", transport=httpx.MockTransport(handler)) as http:
        client = variant.client(base_url="http://nowhere.invalid", api_key=KEY, http_client=http)
        with client.stream(**ASK) as streamed:
            assert next(streamed.texts()) == "Tamar"
        assert body.pieces < 10


# Proxies


def tunnel(connection: Connection) -> None:
    """Be a proxy for https: connect to where the client wants, and carry the bytes."""
    line = connection.request.split(b"\r\n")[0]
    assert line.startswith(b"CONNECT 127.0.0.1:")
    port = int(line.split()[1].rpartition(b":")[2])
    with socket.create_connection(("127.0.0.1", port)) as upstream:
        connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        other = {connection.sock: upstream, upstream: connection.sock}
        while True:
            for sock in select.select(list(other), [], [], 10)[0]:
                data = sock.recv(65536)
                if not data:
                    raise Gone
                other[sock].sendall(data)


@each_verb
def test_a_proxy_is_asked_instead(variant: Sync | Async, verb: Verb) -> None:
    with RawServer(REPLY) as server, RawServer(echo) as proxy:
        with http_of(variant, proxy=proxy.url) as http:
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            assert ask(client, verb) == "Tamar"
            assert ask(client, verb) == "Tamar"
        assert server.connections == []
        assert len(proxy.connections) == 1
        whole_url = f"POST {server.url}/v1/messages HTTP/1.1\r\n".encode()
        assert proxy.connections[0].request.startswith(whole_url)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment(
    variant: Sync | Async, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(REPLY) as server, RawServer(echo) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        with connect(variant, server) as client:
            assert ask(client) == "Tamar"
        assert (server.requests, proxy.requests) == (0, 1)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with connect(variant, server) as client:
            assert ask(client) == "Tamar"
        assert (server.requests, proxy.requests) == (1, 1)


@pytest.mark.slow
def test_a_deadline_holds_behind_a_proxy(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as proxy, http_of(variant, proxy=proxy.url) as http:
        client = variant.client(
            base_url="http://nowhere.invalid", api_key=KEY, http_client=http, deadline=0.1
        )
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            ask(client, "stream")
        assert caught.value.phase == "deadline"
        assert time.monotonic() - started < 10


def test_a_proxy_that_is_not_there(variant: Sync | Async) -> None:
    with http_of(variant, proxy=f"http://someone:{KEY}@127.0.0.1:{free_port()}") as http:
        client = variant.client(
            base_url="http://nowhere.invalid", api_key="k", http_client=http, max_retries=0
        )
        with pytest.raises(APIConnectionError) as caught:
            ask(client)
        assert KEY not in everything_about(caught.value)


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


def context(authority: Authority) -> ssl.SSLContext:
    return authority.client


def nothing(authority: Authority) -> bool:
    return False


@each_verb
@pytest.mark.parametrize("verify", [context, nothing])
def test_a_certificate_that_the_caller_trusts(
    variant: Sync | Async, authority: Authority, verify: Callable[[Authority], Any], verb: Verb
) -> None:
    with RawServer(echo, tls=authority.server) as server:
        with http_of(variant, verify=verify(authority)) as http:
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            assert ask(client, verb) == ask(client, verb) == "Tamar"
        assert len(server.connections) == 1


def test_a_certificate_that_the_environment_trusts(
    variant: Sync | Async, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with RawServer(echo, tls=authority.server) as server, connect(variant, server) as client:
        assert ask(client) == ask(client, "stream") == "Tamar"


@each_verb
@each_client
def test_a_certificate_that_nobody_trusts(
    variant: Sync | Async, authority: Authority, verb: Verb, library: str
) -> None:
    trust = {} if library == OURS else {"verify": True}  # its default, which `client_of` turns off
    with (
        RawServer(echo, tls=authority.server) as server,
        http_of(variant, library, **trust) as http,
    ):
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        with pytest.raises(APIConnectionError, match="certificate") as caught:
            ask(client, verb)
        assert type(caught.value) is APIConnectionError
        assert (caught.value.permanent, caught.value.attempts) == (True, 1)
        assert len(server.connections) == 1
        assert server.requests == 0


def test_a_certificate_for_another_host(variant: Sync | Async, authority: Authority) -> None:
    with RawServer(echo, tls=authority.server) as server:
        with http_of(variant, verify=authority.client) as http:
            url = server.url.replace("127.0.0.1", "localhost")
            client = variant.client(base_url=url, api_key=KEY, http_client=http)
            with pytest.raises(APIConnectionError, match="certificate") as caught:
                ask(client)
        assert caught.value.permanent
        assert server.requests == 0


@each_verb
def test_a_server_that_speaks_no_tls(variant: Sync | Async, verb: Verb) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:

        def speak_first() -> None:
            sock, _ = listener.accept()
            sock.sendall(b"220 mail.example.com ESMTP\r\n")
            sock.close()

        spoken = thread.submit(speak_first)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with closing(variant.client(base_url=url, api_key=KEY, max_retries=0)) as client:
            with pytest.raises(APIConnectionError):
                ask(client, verb)
        spoken.result(5)


def test_a_proxy_sees_nothing_of_what_goes_through(
    variant: Sync | Async, authority: Authority
) -> None:
    with RawServer(echo, tls=authority.server) as server, RawServer(tunnel) as proxy:
        with http_of(variant, proxy=proxy.url, verify=authority.client) as http:
            client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
            assert ask(client) == ask(client, "stream") == "Tamar"
        assert server.requests == 2
        assert len(proxy.connections) == proxy.requests == 1
        assert KEY.encode() not in proxy.connections[0].request


def test_a_proxy_that_refuses(variant: Sync | Async) -> None:
    refusal = reply(407, b"", {"proxy-authenticate": "Basic"})
    with RawServer(refusal) as proxy, http_of(variant, proxy=proxy.url) as http:
        client = variant.client(
            base_url="https://nowhere.invalid", api_key=KEY, http_client=http, max_retries=0
        )
        with pytest.raises(APIConnectionError, match="407"):
            ask(client)


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLContext]:
    """Return the contexts with certificates in them that are made from here on."""
    _shared.cache_clear()
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def noted(*args: Any, **settings: Any) -> ssl.SSLContext:
        made.append(make(*args, **settings))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", noted)
    return made


def test_all_clients_share_one_context(
    variant: Sync | Async,
    authority: Authority,
    contexts: list[ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with RawServer(echo, tls=authority.server) as server:
        for _ in range(3):
            with connect(variant, server) as client:
                assert ask(client) == "Tamar"
    assert len(contexts) == 1


def test_no_context_is_made_for_plain_http(
    variant: Sync | Async, contexts: list[ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(echo) as server:
        with connect(variant, server) as client:
            assert ask(client) == ask(client, "stream") == "Tamar"
        monkeypatch.setenv("HTTP_PROXY", server.url)
        with connect(variant, server) as client:
            assert ask(client) == "Tamar"
    assert contexts == []


# Cookies


def balanced(connection: Connection) -> None:
    """Answer like a sticky load balancer, which sets a cookie if there is none."""
    sticky = {"set-cookie": "node=7; Path=/; HttpOnly"}
    told = {} if b"cookie: node=7" in connection.request.lower() else sticky
    if connection.body.get("stream"):
        line = "".join(f"{name}: {value}\r\n" for name, value in told.items()).encode()
        connection.send(STREAM.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n", 1))
    else:
        connection.send(reply(200, MESSAGE, told))


@each_verb
@pytest.mark.parametrize("kind", ["usual", "keeping", "aiohttp", "aiohttp, keeping"])
def test_cookies_are_sent_back_where_they_are_kept(
    variant: Sync | Async, verb: Verb, kind: str
) -> None:
    """By default they are not kept: a client serves many users."""
    is_aiohttp, keeps = kind.startswith("aiohttp"), kind.endswith("keeping")
    if is_aiohttp and variant.name != "asyncio":
        pytest.skip("for asyncio only")
    settings = {"keep_cookies": True} if keeps else {}
    with RawServer(balanced) as server, ExitStack() as stack:
        http: Any
        if is_aiohttp:
            assert isinstance(variant, Async)
            http = variant.portal.call(lambda: DefaultAioHttpClient(**settings))
            stack.callback(lambda: variant.portal.call(http.aclose))
        else:
            http = stack.enter_context(http_of(variant, **settings))
        url = server.url.replace("127.0.0.1", "localhost")  # an address has no cookies in aiohttp
        client = variant.client(base_url=url, api_key=KEY, http_client=http)
        assert ask(client, verb) == "Tamar"
        assert ask(client.with_options(timeout=7), verb) == "Tamar"
        first, second = server.heads()
        assert b"cookie" not in first.lower()
        assert (b"cookie: node=7" in second.lower()) == keeps
        assert dict(http.cookies) == ({"node": "7"} if keeps else {})


# Processes, loops, and cancelled calls


FORKING = """
import asyncio, os, signal, sys, threading
from modelslab_llm import AsyncModelsLab, ModelsLab

client = ModelsLab(base_url=sys.argv[1], api_key="k", timeout=5)
aclient = AsyncModelsLab(base_url=sys.argv[1], api_key="k", timeout=5)

def asked(text):
    return dict(model="m", max_tokens=9, messages=[{"role": "user", "content": text}])

def ask(text):
    assert client.messages.create(**asked(text)).text == text

async def aask(text):
    assert (await aclient.messages.create(**asked(text))).text == text

def all_of_it(who):
    for i in range(5):
        ask(f"{who} {i}")
        asyncio.run(aask(f"{who} async {i}"))

def in_child(act):
    if pid := os.fork():
        return pid
    signal.alarm(3)  # whatever happens, it does not stay
    try:
        act()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)

def check(children):
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    assert codes == [0] * len(codes), codes

held = client.messages.stream(**asked("held"))
next(held)
ask("before")  # leaves a second connection, which is idle
asyncio.run(aask("before"))
"""

FORKS = {
    "both-use-the-client": """
children = [in_child(lambda: all_of_it(f"child-{i}")) for i in range(3)]
all_of_it("parent")
check(children)
""",
    "the-child-closes-what-it-inherited": """
def act():
    held.close()
    all_of_it("child")
    client.close()
check([in_child(act)])
""",
    "while-a-thread-chooses-a-connection": """
lock = client._http.network._connections._lock
with lock:
    child = in_child(lambda: ask("child"))
check([child])
""",
    "while-a-thread-has-its-answer": """
lock = client._http.by_httpx.http.cookies.jar._cookies_lock
taken, done = threading.Event(), threading.Event()
def hold():
    with lock:
        taken.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
taken.wait()
try:
    check([in_child(lambda: ask("child"))])
finally:
    done.set()
    thread.join()
""",
}

AFTER_THE_FORK = """
assert held.get_final_text() == "held"
ask("after")
client.close()
print("all well")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_parent_and_child_of_a_fork(fork: str) -> None:
    with RawServer(echo) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKING + fork + AFTER_THE_FORK, server.url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.stdout == "all well\n", done.stderr
    for connection in server.connections:
        users = {asker(request) for request in connection.requests}
        assert len(users) == 1, users


def asker(request: bytes) -> str:
    first = json.loads(request.partition(b"\r\n\r\n")[2])["messages"][0]["content"].split()[0]
    return first if first.startswith("child") else "parent"


async def acall(client: AsyncModelsLab, verb: Verb = "create", text: str = "Tamar") -> str:
    if verb == "create":
        return (await client.messages.create(**asked_for(text))).text
    async with client.messages.stream(**asked_for(text)) as streamed:
        return await streamed.get_final_text()


@pytest.fixture
def passed_around() -> Iterator[Callable[..., AsyncModelsLab]]:
    """Make clients for loops that end without closing what they opened, and close them later."""
    made: list[AsyncModelsLab] = []

    def make(server: RawServer) -> AsyncModelsLab:
        made.append(AsyncModelsLab(base_url=server.url, api_key=KEY))
        return made[-1]

    yield make
    for client in made:
        asyncio.run(client.close())


def test_one_client_in_successive_event_loops(
    passed_around: Callable[..., AsyncModelsLab],
) -> None:
    with RawServer(echo) as server:
        client = passed_around(server)
        for verb in ("create", "stream") * 4:
            assert asyncio.run(acall(client, verb)) == "Tamar"
        gc.collect()
        open_ones = [c for c in server.connections[:-1] if not c.left.wait(0.2)]
        assert open_ones == []  # those of loops that ended are let go


@pytest.mark.parametrize("order", [("asyncio", "trio"), ("trio", "asyncio")])
def test_one_client_in_both_kinds_of_loop(
    order: tuple[str, str], passed_around: Callable[..., AsyncModelsLab]
) -> None:
    with RawServer(echo) as server:
        client = passed_around(server)
        for backend in order * 2:
            assert anyio.run(acall, client, backend=backend) == "Tamar"
            assert anyio.run(acall, client, "stream", backend=backend) == "Tamar"
        anyio.run(client.close, backend=order[0])


def test_one_client_in_loops_at_the_same_time(
    passed_around: Callable[..., AsyncModelsLab],
) -> None:
    with RawServer(echo) as server:
        client = passed_around(server)

        async def main(thread: int) -> None:
            for turn in range(10):
                assert await acall(client, text=f"{thread}.{turn}") == f"{thread}.{turn}"

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda thread: asyncio.run(main(thread)), range(4)))
        assert server.requests == 40


def test_many_loops_may_begin_at_the_same_time() -> None:
    network = AsyncNetwork(Settings())

    async def touch() -> None:
        network._here()

    def begin_and_end(_: int) -> None:
        for _ in range(40):
            asyncio.run(touch())

    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(begin_and_end, range(8)))
    finally:
        sys.setswitchinterval(patience)


SLOWLY: list[Any] = [
    0.001,
    STREAM_HEAD[:20],
    0.001,
    STREAM_HEAD[20:],
    *[step for event in EVENTS for step in (0.001, chunk(event))],
    0.001,
    END_OF_BODY,
]
SLOW_REPLY = [0.002, REPLY[:30], 0.002, REPLY[30:150], 0.002, REPLY[150:]]
DELAYS = [i / 2000 for i in range(30)]

anyio_keeps_hold = pytest.mark.skipif(
    tuple(map(int, version("anyio").split(".")[:2])) < (4, 16),
    reason="anyio before 4.16 forgets a connection that is made as its task is cancelled",
)


@pytest.mark.slow
@anyio_keeps_hold
@each_loop
@pytest.mark.parametrize(
    ("verb", "script"), [("create", SLOW_REPLY), ("stream", SLOWLY)], ids=["create", "stream"]
)
@pytest.mark.parametrize("options", [{}, {"deadline": 5.0}], ids=["", "deadline"])
def test_a_call_cancelled_at_any_time_holds_no_connection(
    backend: str, verb: Verb, script: Script, options: dict[str, Any]
) -> None:
    async def main() -> None:
        async with DefaultAsyncHttpxClient(limits=ONE) as http:
            client = AsyncModelsLab(
                base_url=server.url,
                api_key=KEY,
                http_client=http,
                max_retries=0,
                timeout=Timeout(pool=1),
                **options,
            )
            for delay in DELAYS:
                with anyio.move_on_after(delay):
                    await acall(client, verb)
            assert await acall(client, verb) == "Tamar"

    with RawServer(script) as server:
        anyio.run(main, backend=backend)


@pytest.mark.slow
@anyio_keeps_hold
@pytest.mark.parametrize("verb", ["create", "stream"])
def test_a_task_cancelled_at_any_step_holds_no_connection(verb: Verb) -> None:
    async def main() -> None:
        async with DefaultAsyncHttpxClient(limits=ONE) as http:
            client = AsyncModelsLab(
                base_url=server.url,
                api_key=KEY,
                http_client=http,
                max_retries=0,
                timeout=Timeout(pool=1),
            )
            cancelled = 0
            for steps in range(60):
                task = asyncio.ensure_future(acall(client, verb))
                for step in range(steps):
                    await asyncio.sleep(0 if step % 5 else 0.0005)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    cancelled += 1
            assert cancelled > 0
            assert await acall(client, verb) == "Tamar"

    with RawServer(echo) as server:
        asyncio.run(main())


@pytest.mark.slow
@each_loop
def test_a_call_cancelled_in_the_handshake_closes_its_connection(backend: str) -> None:
    async def main() -> None:
        url = server.url.replace("http:", "https:")  # its hello is answered by nothing
        async with AsyncModelsLab(base_url=url, api_key=KEY) as client:
            with anyio.move_on_after(0.3):
                await acall(client)
            assert await anyio.to_thread.run_sync(server.connections[0].left.wait, 1)

    gc.disable()  # the garbage collector would close it too, one day
    try:
        with RawServer(SILENCE) as server:
            anyio.run(main, backend=backend)
    finally:
        gc.enable()


@each_loop
def test_who_is_cancelled_while_waiting_holds_no_connection(backend: str) -> None:
    async def main() -> None:
        async with DefaultAsyncHttpxClient(limits=ONE) as http:
            client = AsyncModelsLab(
                base_url=server.url, api_key=KEY, http_client=http, timeout=Timeout(pool=1)
            )
            async with client.messages.stream(**ASK):
                for delay in (0, 0.001, 0.01):
                    with anyio.move_on_after(delay) as scope:
                        await acall(client)
                    assert scope.cancelled_caught
            assert await acall(client) == "Tamar"
            async with anyio.create_task_group() as tasks:  # served and cancelled at once
                streamed = client.messages.stream(**ASK)
                await streamed.__aenter__()
                for _ in range(5):
                    tasks.start_soon(acall, client)
                await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await streamed.close()
            assert await acall(client) == "Tamar"

    with RawServer([BEGUN, SILENCE], echo, [BEGUN, SILENCE], echo) as server:
        anyio.run(main, backend=backend)


# The key


def chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an error with those behind it that a report shows."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        hidden = error.__cause__ or error.__suppress_context__
        error = error.__cause__ if hidden else error.__context__
    return found


def everything_about(error: BaseException) -> str:
    """Return all that a crash report could show: the chain, each frame's locals, the requests."""
    parts: list[str] = []
    for one in chain_of(error):
        found = traceback.TracebackException.from_exception(one, capture_locals=True)
        parts += [*found.format(), repr(one), str(one), repr(vars(one))]
        with suppress(AttributeError, RuntimeError):
            parts.append(str(one.request.headers.raw))  # type: ignore[attr-defined]
    return "\n".join(parts)


FAILURES: dict[str, Script] = {
    "closed": CLOSE,
    "reset": RESET,
    "garbage": [b"\x00\x01\x02 nonsense\r\n\r\n", CLOSE],
    "silence": SILENCE,
    "half-a-head": [REPLY[:30], CLOSE],
    "half-a-body": [REPLY[:-5], CLOSE],
    "half-a-stream": [BEGUN, CLOSE],
    "stalled-stream": [BEGUN, SILENCE],
    "refused": failure(401),
}


def keyed(
    variant: Sync | Async, url: str, auth: endpoints.Auth, **options: Any
) -> closing[SyncClient | AsyncClient]:
    return closing(
        variant.client(endpoint=endpoints.gateway(url, auth=auth), api_key=KEY, **options)
    )


@pytest.mark.slow
@each_verb
@pytest.mark.parametrize("options", [{"timeout": 0.1}, {"deadline": 0.1}], ids=["", "deadline"])
@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES)
def test_no_error_tells_the_key(
    variant: Sync | Async, script: Script, options: dict[str, Any], verb: Verb
) -> None:
    with RawServer(script) as server:
        with keyed(variant, server.url, "x-api-key", max_retries=0, **options) as client:
            with pytest.raises(APIError) as caught:
                ask(client, verb)
            assert KEY.encode() in server.connections[0].requests[0]  # it was there to be told
    assert KEY not in everything_about(caught.value)


@each_verb
@pytest.mark.parametrize("auth", ["bearer", "x-api-key", "key"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_failure_to_connect_tells_the_key(
    variant: Sync | Async, auth: endpoints.Auth, scheme: str, verb: Verb
) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with keyed(variant, url, auth, max_retries=0) as client:
        with pytest.raises(APIConnectionError) as caught:
            ask(client, verb)
        assert KEY not in everything_about(caught.value)
        assert KEY not in repr(client.real) + str(client.real) + repr(vars(client.real))


@pytest.mark.slow
@pytest.mark.parametrize("auth", ["bearer", "x-api-key", "key"])
def test_no_log_tells_the_key(
    variant: Sync | Async, auth: endpoints.Auth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    quoted = reply(503, {"error": {"message": f"no {KEY}"}}, {"retry-after-ms": "1"})
    with http_of(variant, "httpx") as http:  # it logs more than our own
        for options in ({}, {"http_client": http}):
            with RawServer(quoted, echo, STREAM, [BEGUN, CLOSE]) as server:
                with keyed(variant, server.url, auth, **options) as client:
                    assert ask(client) == ask(client, "stream") == "Tamar"
                    with pytest.raises(APIConnectionError):
                        ask(client, "stream")
            nobody = f"http://127.0.0.1:{free_port()}"
            with keyed(variant, nobody, auth, max_retries=0, **options) as client:
                with pytest.raises(APIConnectionError):
                    ask(client)
    logged = {record.name.partition(".")[0] for record in caplog.records}
    assert {"httpx", "httpcore", "modelslab_llm"} <= logged
    assert KEY not in caplog.text
    assert not any(KEY in repr(record.args) for record in caplog.records)
