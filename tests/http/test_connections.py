"""Prove that connections can be trusted, over real sockets and on every way to a server.

No answer that was meant for another call, no place in the pool that is lost, and a close that
hangs up. Each heading is one way in which connections have failed users.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import anyio
import httpx
import pytest
from certificates import Authority
from libraries import client_of, each_library, goes_straight
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    END,
    MESSAGE,
    OPEN,
    REPLY,
    RESET,
    SHUT,
    SILENCE,
    START,
    STOP,
    STREAM,
    Connection,
    RawServer,
    Script,
    drip,
    reply,
    stream,
    text_delta,
)
from routes import ROUTES, Way, route
from variants import Async, Sync

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncModelsLab,
    ClientClosedError,
    ConfigurationError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
    Timeout,
)

pytestmark = pytest.mark.slow

KEY = "key-that-nobody-may-see"
ONE = httpx.Limits(max_connections=1)

each_route = pytest.mark.parametrize("way", ROUTES)
each_verb = pytest.mark.parametrize("verb", ["create", "stream"])
straight_or_tls = pytest.mark.parametrize("way", ["straight", "tls"])
posix = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Let a socket that was forgotten, and not closed, warn here: warnings are errors."""
    yield
    gc.collect(1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def client_on(
    variant: Sync | Async, way: Way, hooked: bool = False, limits: Any = None, **options: Any
) -> Iterator[Any]:
    """Give a client on the package's connections; `hooked` has it go through httpx's `send`."""
    settings = dict(way.settings)
    if limits is not None:
        settings["limits"] = limits
    if hooked:
        settings["headers"] = {"x-team": "rivers"}
    kind: Any = DefaultHttpxClient if isinstance(variant, Sync) else DefaultAsyncHttpxClient
    http = kind(**settings)
    assert goes_straight(http) != hooked
    yield variant.client(
        base_url=way.url, api_key=KEY, http_client=http, **{"max_retries": 0, **options}
    )
    if isinstance(variant, Sync):
        http.close()
    else:
        variant.portal.call(http.aclose)


def asked(text: str) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": text}]}


def ask(client: Any, verb: str = "create", text: str = "Tamar") -> str:
    if verb == "create":
        return str(client.create(**asked(text)).text)
    with client.stream(**asked(text)) as streamed:
        return str(streamed.text())


def said(text: str, streams: object = False) -> bytes:
    if streams:
        return stream(START, OPEN, text_delta(text), SHUT, END, STOP)
    return reply(200, {**MESSAGE, "content": [{"type": "text", "text": text}]})


def echo(connection: Connection) -> None:
    """Answer with what was asked."""
    body = connection.body
    connection.send(said(body["messages"][0]["content"], body.get("stream")))


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that happens in another thread or process."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.005)


# 1. An answer nobody asked for

STRANGE = said("an answer to somebody else")
SURPLUS: dict[str, Callable[[bytes], Script]] = {
    "a second answer, at once": lambda answer: answer + STRANGE,
    "a second answer, a little later": lambda answer: [answer, 0.01, STRANGE],
    "half an answer": lambda answer: answer + STRANGE[:25],
    "a tail": lambda answer: answer + b"\r\n0\r\n\r\n",
    "one byte": lambda answer: answer + b"\n",
}


@each_route
@each_verb
@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize("hooked", [False, True], ids=["bare", "hooked"])
def test_a_surplus_answer_reaches_no_call(
    variant: Sync | Async, authority: Authority, way: str, verb: str, surplus: str, hooked: bool
) -> None:
    def too_much(connection: Connection) -> None:
        text, streams = connection.body["messages"][0]["content"], connection.body.get("stream")
        connection.play(SURPLUS[surplus](said(text, streams)))
        over.set()

    over = threading.Event()
    with (
        route(way, authority, too_much, echo) as found,
        client_on(variant, found, hooked) as client,
    ):
        assert ask(client, verb, "first") == "first"
        assert over.wait(10)
        time.sleep(0.01 if way in ("tunnel", "socks") else 0)  # what stands between carries it
        assert ask(client, verb, "second") == "second"
        assert ask(client, verb, "third") == "third"
        assert len(found.server.connections) == 2
        assert found.server.connections[0].left.wait(10)


def test_a_length_counted_in_characters_fails_no_call_but_its_own(variant: Sync | Async) -> None:
    def miscounted(connection: Connection) -> None:
        whole = said("Fr\u00fchst\u00fcck")
        head, _, body = whole.partition(b"\r\n\r\n")
        body = body.replace(b"\\u00fc", "\u00fc".encode())
        length = b"content-length: %d" % len(body.decode())
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
        connection.send(b"\r\n".join([*lines, length]) + b"\r\n\r\n" + body)

    with route("straight", None, miscounted, echo) as found, client_on(variant, found) as client:
        with pytest.raises(APIError):  # its end is cut: that one cannot be saved
            ask(client)
        assert ask(client, text="second") == "second"


# 2. Two cancellations of one task


@pytest.mark.parametrize("hooked", [False, True], ids=["bare", "hooked"])
@each_verb
@straight_or_tls
def test_two_hundred_double_cancellations_lose_nothing(
    authority: Authority, way: str, verb: str, hooked: bool
) -> None:
    slowly = [said("Tamar", verb == "stream")[:-9], SILENCE]

    async def call(client: AsyncModelsLab) -> str:
        if verb == "create":
            return (await client.messages.create(**ASK)).text
        async with client.messages.stream(**ASK) as streamed:
            return await streamed.get_final_text()

    async def main() -> None:
        settings: dict[str, Any] = {"headers": {"x-team": "rivers"}} if hooked else {}
        async with DefaultAsyncHttpxClient(limits=ONE, **found.settings, **settings) as http:
            client = AsyncModelsLab(
                base_url=found.url,
                api_key=KEY,
                http_client=http,
                max_retries=0,
                timeout=Timeout(pool=5),
            )
            for turn in range(200):
                task = asyncio.ensure_future(call(client))
                before = len(found.server.connections)
                while len(found.server.connections) == before or not begun(before):
                    await asyncio.sleep(0)
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            found.server._scripts = (echo,)
            assert "Name" in await call(client)
            assert http.network is not None
            assert http.network.in_use
        assert not http.network.in_use

    def begun(number: int) -> bool:
        return found.server.connections[number].sent > 0

    with route(way, authority, slowly) as found:
        asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sibling_that_fails_as_children_time_out_costs_no_place(backend: str) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=8)
        async with DefaultAsyncHttpxClient(limits=limits) as http:
            client = AsyncModelsLab(
                base_url=server.url,
                api_key=KEY,
                http_client=http,
                max_retries=0,
                timeout=Timeout(pool=5),
            )

            async def child(seconds: float) -> None:
                with anyio.move_on_after(seconds):
                    await client.messages.create(**ASK)

            async def call() -> None:
                assert (await client.messages.create(**ASK)).text

            for _ in range(10):
                with pytest.raises(Exception, match=r"."):  # a group of them, or the one alone
                    async with anyio.create_task_group() as tasks:
                        for _ in range(8):
                            tasks.start_soon(child, 0.02)
                        await anyio.sleep(0.02)
                        raise RuntimeError("a sibling fails")
            server._scripts = (echo,)
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(call)

    with RawServer([REPLY[:-9], SILENCE]) as server:
        anyio.run(main, backend=backend)


# 3. A close hangs up


def in_flight(
    client: Any, verb: str, begun: threading.Event | None = None
) -> APIError | ConfigurationError | None:
    """Make a call that does not come to its end; `begun` is set once its text comes."""
    try:
        if verb == "create":
            ask(client)
        with client.stream(**ASK) as streamed:
            next(streamed.texts())
            if begun is not None:
                begun.set()
            streamed.message()
    except (APIError, ConfigurationError) as error:
        return error
    return None


def wait_for(server: RawServer, verb: str, begun: threading.Event) -> None:
    """Wait until a call is under way, as far as it comes."""
    if verb == "stream":
        assert begun.wait(10)
    until(lambda: server.connections and server.connections[0].requests, "no request came")
    time.sleep(0.02)


WAITS: dict[str, tuple[str, Script]] = {
    "for the head": ("create", SILENCE),
    "for half a head": ("create", [REPLY[:30], SILENCE]),
    "for a body": ("create", [REPLY[:-9], SILENCE]),
    "for a body without an end": (
        "create",
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{", SILENCE],
    ),
    "for an event": ("stream", [BEGUN, SILENCE]),
}


@each_route
@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("hooked", [False, True], ids=["bare", "hooked"])
def test_a_call_in_flight_ends_when_the_client_is_closed(
    variant: Sync | Async, authority: Authority, way: str, wait: str, hooked: bool
) -> None:
    verb, script = WAITS[wait]
    with route(way, authority, script) as found, client_on(variant, found, hooked) as client:
        with ThreadPoolExecutor(1) as threads:
            begun = threading.Event()
            waiting = threads.submit(in_flight, client, verb, begun)
            wait_for(found.server, verb, begun)
            wire = client.real._http
            if isinstance(variant, Sync):
                wire.close()
            else:
                variant.portal.call(wire.aclose)
            error = waiting.result(10)
        assert type(error) is ClientClosedError
        assert KEY not in str(error)
        assert found.server.connections[0].left.wait(10)  # the server is told
        assert found.server.requests == 1
        with pytest.raises(ClientClosedError):
            ask(client)
        with pytest.raises(ClientClosedError):
            ask(client.with_options(max_retries=3))
        if verb == "stream":
            assert isinstance(error, ClientClosedError)
            assert error.partial_message is not None
            assert error.partial_message.text == "Tamar"


def test_closing_the_client_itself_does_the_same(variant: Sync | Async) -> None:
    with RawServer([BEGUN, SILENCE]) as server:
        client = variant.client(base_url=server.url, api_key=KEY)
        copy = client.with_options(timeout=60)
        with ThreadPoolExecutor(1) as threads:
            begun = threading.Event()
            waiting = threads.submit(in_flight, copy, "stream", begun)
            wait_for(server, "stream", begun)
            client.close()
            assert type(waiting.result(10)) is ClientClosedError
        assert server.connections[0].left.wait(10)


def test_a_call_that_connects_ends_when_the_client_is_closed(
    variant: Sync | Async, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for, go_on = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo
    name = f"closed-{variant.name}.invalid"

    def slowly(host: Any, *args: Any, **more: Any) -> Any:
        if host == name:
            asked_for.set()
            go_on.wait(20)
        return resolve(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    client = variant.client(base_url=f"http://{name}", api_key=KEY, timeout=60)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(in_flight, client, "create")
        assert asked_for.wait(10)
        client.close()
        error = waiting.result(10)
        assert not go_on.is_set()
    assert type(error) is ClientClosedError
    go_on.set()


@each_library
@straight_or_tls
@pytest.mark.parametrize("wait", WAITS)
def test_a_client_of_the_caller_that_is_closed_ends_the_call(
    variant: Sync | Async, authority: Authority, library: str, way: str, wait: str
) -> None:
    verb, script = WAITS[wait]
    with route(way, authority, script) as found:
        with client_of(library, variant, **found.settings) as http:
            client = variant.client(
                base_url=found.url, api_key=KEY, http_client=http, max_retries=0, timeout=60
            )
            with ThreadPoolExecutor(1) as threads:
                begun = threading.Event()
                waiting = threads.submit(in_flight, client, verb, begun)
                wait_for(found.server, verb, begun)
                if isinstance(variant, Sync):
                    http.close()
                else:
                    variant.portal.call(http.aclose)
                assert type(waiting.result(10)) is ClientClosedError
            assert found.server.connections[0].left.wait(10)


@straight_or_tls
def test_a_thread_never_reads_of_a_socket_that_took_the_number_of_its_own(
    authority: Authority, way: str
) -> None:
    """What is closed under a reader is a number that the next socket gets."""
    with route(way, authority, SILENCE) as found, ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            http = DefaultHttpxClient(**found.settings)
            real = ModelsLab(
                base_url=found.url, api_key=KEY, http_client=http, max_retries=0, timeout=60
            )
            before = found.server.requests

            def call(real: ModelsLab = real) -> BaseException | None:
                try:
                    real.messages.create(**ASK)
                except ClientClosedError as error:
                    return error
                return None

            waiting = [threads.submit(call) for _ in range(4)]
            until(lambda before=before: found.server.requests == before + 4, "no request")
            http.close()
            pairs = [socket.socketpair() for _ in range(8)]  # which take the lowest numbers
            for one, other in pairs:
                one.sendall(STRANGE * 10)
                other.sendall(STRANGE * 10)
            assert all(isinstance(one.result(10), ClientClosedError) for one in waiting)
            for pair in pairs:
                for sock in pair:
                    assert len(sock.recv(100_000)) == 10 * len(STRANGE)  # nobody else read it
                    sock.close()


# 4. HTTP/2


def test_http2_is_refused_with_a_sentence() -> None:
    for kind in (DefaultHttpxClient, DefaultAsyncHttpxClient):
        with pytest.raises(ConfigurationError, match=r"http2=True.*httpx\.Client"):
            kind(http2=True)


# 5. Limits of time while connecting


@contextmanager
def silent_port() -> Iterator[int]:
    """Give a port where a connection is neither made nor refused: its queue is full."""
    with socket.socket() as listener, ExitStack() as opened:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            sock = opened.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def resolve_to(monkeypatch: pytest.MonkeyPatch, ports: list[int]) -> None:
    """Have a host with many addresses; here they differ in their ports."""
    resolve = socket.getaddrinfo

    def found(host: Any, *args: Any, **more: Any) -> Any:
        if host != "many.invalid":
            return resolve(host, *args, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(socket, "getaddrinfo", found)


@contextmanager
def maybe_plain(variant: Sync | Async, plain: str, **options: Any) -> Iterator[Any]:
    """Give a client of the package's kind, or one over a plain client of a library."""
    options = {"api_key": KEY, "max_retries": 0, **options}
    if plain:
        pytest.importorskip(plain)
        with client_of(plain, variant) as http:
            yield variant.client(http_client=http, **options)
    else:
        with closing(variant.client(**options)) as client:
            yield client


or_plain = pytest.mark.parametrize(
    "plain", ["", "httpx", "httpx2"], ids=["ours", "httpx", "httpx2"]
)


@or_plain
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_silent_addresses_share_the_time_there_is(
    variant: Sync | Async, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five that say nothing come before the one that answers, and it is reached in time.

    One after the other, each for as long as the limit, they would take all of it.
    """
    if plain and isinstance(variant, Async):
        pytest.skip("anyio's own, which tries them side by side too")
    with RawServer(echo) as server, silent_port() as silent:
        resolve_to(monkeypatch, [silent] * 3 + [server.port])
        url = f"http://many.invalid:{server.port}"
        with maybe_plain(variant, plain, base_url=url, deadline=10.0, timeout=10.0) as client:
            assert ask(client) == "Tamar"


@or_plain
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
@pytest.mark.parametrize(
    ("options", "phase"),
    [({"deadline": 0.5}, "deadline"), ({"timeout": Timeout(connect=0.5)}, "connect")],
    ids=["deadline", "connect"],
)
def test_when_every_address_is_silent_the_limit_is_not_multiplied(
    variant: Sync | Async,
    plain: str,
    options: dict[str, Any],
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if plain and isinstance(variant, Async):
        pytest.skip("anyio's own")
    with silent_port() as silent:
        resolve_to(monkeypatch, [silent] * 60)  # each for as long as the limit: half a minute
        url = f"http://many.invalid:{silent}"
        with maybe_plain(variant, plain, base_url=url, **options) as client:
            started = time.monotonic()
            with pytest.raises(APITimeoutError) as caught:
                ask(client)
            assert caught.value.phase == phase
            assert time.monotonic() - started < 20


@or_plain
@pytest.mark.parametrize(
    ("options", "phase"),
    [({"deadline": 0.3}, "deadline"), ({"timeout": Timeout(connect=0.3)}, "connect")],
    ids=["deadline", "connect"],
)
def test_a_name_that_is_looked_up_for_long_does_not_hold_a_call(
    variant: Sync | Async,
    plain: str,
    options: dict[str, Any],
    phase: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if plain and isinstance(variant, Async):
        pytest.skip("asyncio's own, and trio's")
    go_on = threading.Event()
    resolve = socket.getaddrinfo
    name = f"{variant.name}-{plain}-{phase}.invalid"  # no two tests share a lookup

    def slowly(host: Any, *args: Any, **more: Any) -> Any:
        if host == name:
            go_on.wait(20)
        return resolve(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    try:
        with maybe_plain(variant, plain, base_url=f"http://{name}", **options) as client:
            with pytest.raises(APITimeoutError) as caught:
                ask(client)
        assert caught.value.phase == phase
        assert not go_on.is_set()  # nobody waited for the resolver
    finally:
        go_on.set()


DRIPPING = drip(b"HTTP/1.1 200 OK\r\n" + b"x-slowly: 1\r\n" * 400, pause=0.01)


@or_plain
def test_headers_that_drip_in_do_not_pass_a_deadline(variant: Sync | Async, plain: str) -> None:
    with RawServer(DRIPPING) as server:
        with maybe_plain(variant, plain, base_url=server.url, deadline=0.5) as client:
            with pytest.raises(APITimeoutError) as caught:
                ask(client)
        assert caught.value.phase == "deadline"
        assert server.connections[0].sent < 5000  # it was still dripping


# 6. Signals that raise

INTERRUPTED = """
import faulthandler, gc, random, signal, sys
from concurrent.futures import ThreadPoolExecutor
import httpx
from modelslab_llm import APIError, DefaultHttpxClient, ModelsLab, Timeout

url, how = sys.argv[1:]
MOST = 4
if how == "traced":  # as OpenTelemetry does: all goes through httpx's transport
    handle = httpx.HTTPTransport.handle_request
    httpx.HTTPTransport.handle_request = lambda self, request: handle(self, request)

class Interrupt(BaseException):
    pass

def interrupt(number, frame):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
http = DefaultHttpxClient(limits=httpx.Limits(max_connections=MOST))
client = ModelsLab(
    base_url=url, api_key="k" * 9, http_client=http, max_retries=0, timeout=Timeout(pool=10)
)

def asked(text):
    return dict(model="m", max_tokens=9, messages=[{"role": "user", "content": text}])

def call(number):
    text = f"call {number}"
    if number % 3 == 0:
        assert client.messages.create(**asked(text)).text == text
    elif number % 3 == 1:
        with client.messages.stream(**asked(text)) as stream:
            assert stream.get_final_text() == text
    else:
        with client.messages.stream(**asked(text)) as stream:
            next(stream.text_stream)

def was_interrupted(error):  # pydantic makes an error of its own of it, in its callbacks
    while error is not None and not isinstance(error, Interrupt):
        error = error.__cause__ or error.__context__
    return error is not None

random.seed(7)
for number in range(30):
    call(number)  # whatever is loaded or built once is there
interrupts = 0
for number in range(1000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.004))
        call(number)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException as error:
        if not was_interrupted(error):
            raise
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
faulthandler.dump_traceback_later(60, exit=True)  # a deadlock shows itself

def last(number):
    call(3 * number)

with ThreadPoolExecutor(MOST) as threads:  # every place is there, and leads to the right answer
    list(threads.map(last, range(MOST * 10)))
pool = http.network._connections
gc.collect()  # an httpx.Response is a circle
left = [one for one in pool.everything() if not one.is_clean]
assert left == [], left
assert len(pool._live) <= MOST
http.close()
assert pool.is_empty
print("all well", interrupts)
"""


@posix
@pytest.mark.skipif(
    sys.version_info[:2] == (3, 14), reason="its with statement leaks locks: cpython#148874"
)
@pytest.mark.parametrize("how", ["bare", "traced"])
def test_interrupts_at_any_instruction_lose_nothing(how: str) -> None:
    """Ctrl-C, and the soft time limits of Celery and RQ, raise wherever the program is.

    Not with headers or hooks on the HTTP client: `http.cookiejar`, which httpx then uses, leaves
    its own lock held, now and then.
    """
    with RawServer(echo) as server:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", INTERRUPTED, server.url, how],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.stdout.startswith("all well"), done.stderr
    assert int(done.stdout.split()[2]) > 100, "hardly any call was interrupted"


# 7. A connection that the server ended without a word


def dies_when_used_again(how: Script) -> Script:
    """Answer the first request of each connection, and end it at the second."""

    def answer(connection: Connection) -> None:
        if len(connection.requests) == 1:
            echo(connection)
        else:
            connection.play(how)

    return answer


@each_route
@each_verb
@pytest.mark.parametrize("how", [CLOSE, RESET], ids=["closed", "reset"])
def test_a_used_connection_that_dies_unanswered_costs_no_try(
    variant: Sync | Async, authority: Authority, way: str, verb: str, how: Script
) -> None:
    with route(way, authority, dies_when_used_again(how)) as found:
        with client_on(variant, found, max_retries=0) as client:
            for turn in range(3):
                assert ask(client, verb, f"turn {turn}") == f"turn {turn}"
        asked_for = [c.body["messages"][0]["content"] for c in found.server.connections]
        assert len(found.server.connections) == 3
        assert found.server.requests == 5, asked_for  # two of them were asked twice


def test_a_server_that_closes_after_each_stream(variant: Sync | Async) -> None:
    """As llama-server does, unannounced: with no retries, all sixty calls succeed."""
    with RawServer([STREAM, CLOSE]) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY, max_retries=0)) as client:
            for _ in range(60):
                assert ask(client, "stream") == "Tamar"


def test_it_is_asked_once_more_and_no_oftener(variant: Sync | Async) -> None:
    with RawServer(echo, CLOSE) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY, max_retries=0)) as client:
            assert ask(client) == "Tamar"
            with pytest.raises(APIConnectionError) as caught:
                ask(client)
        assert (server.requests, len(server.connections)) == (3, 2)
        assert caught.value.attempts == 1


def test_a_new_connection_that_dies_is_a_failure(variant: Sync | Async) -> None:
    with RawServer(CLOSE, echo) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY, max_retries=0)) as client:
            with pytest.raises(APIConnectionError):
                ask(client)
            assert ask(client) == "Tamar"
        assert server.requests == 2


@pytest.mark.parametrize(
    "how", [[REPLY[:9], CLOSE], [REPLY[:-9], CLOSE]], ids=["half-a-line", "half-a-body"]
)
def test_an_answer_that_has_begun_is_not_asked_for_again(
    variant: Sync | Async, how: Script
) -> None:
    with RawServer(echo, how) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY, max_retries=0)) as client:
            assert ask(client) == "Tamar"
            with pytest.raises(APIConnectionError):
                ask(client)
        assert server.requests == 2


def test_a_used_connection_that_is_silent_is_not_dead(variant: Sync | Async) -> None:
    with RawServer(echo, SILENCE) as server:
        client = variant.client(
            base_url=server.url, api_key=KEY, max_retries=0, timeout=Timeout(read=0.3)
        )
        with closing(client):
            assert ask(client) == "Tamar"
            with pytest.raises(APITimeoutError):
                ask(client)
        assert server.requests == 2


# 8. After a fork

LEFT_IN_THE_PARENT = """
import asyncio, os, sys
from modelslab_llm import AsyncModelsLab, ModelsLab

url, how = sys.argv[1:]
asked = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Go"}])
wake, sleep = os.pipe()

def fork():
    pid = os.fork()
    if pid == 0:
        os.close(sleep)
        os.read(wake, 1)  # until the parent says so, or ends
        os._exit(0)
    return pid

def leave():
    print("left", flush=True)
    sys.stdin.readline()
    os.write(sleep, b".")
    os.waitpid(child, 0)

async def main():
    global child
    async with AsyncModelsLab(base_url=url, api_key="k" * 9) as client:
        async with client.messages.stream(**asked) as stream:
            await stream.text_stream.__anext__()
            child = fork()
        leave()

if how == "async":
    asyncio.run(main())
else:
    with ModelsLab(base_url=url, api_key="k" * 9) as client:
        with client.messages.stream(**asked) as stream:
            next(stream.text_stream)
            child = fork()
        leave()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("how", ["sync", "async"])
def test_leaving_a_stream_reaches_the_server_while_a_child_lives(how: str) -> None:
    with RawServer([BEGUN, SILENCE]) as server:
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LEFT_IN_THE_PARENT, server.url, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "left\n"
            assert server.connections[0].left.wait(10)
            program.stdin.write("\n")
        assert program.returncode == 0
