"""The async stream by itself: what an event loop cannot do, and what it does without a reader."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import httpcore
import pytest
import trio
from raw_server import ASK, BEGUN, CLOSE, REPLY, SILENCE, STREAM, Connection, RawServer

from modelslab_llm import APITimeoutError, AsyncModelsLab, Timeout
from modelslab_llm._http import on_asyncio, on_trio
from modelslab_llm._http.sockets import Socket


class Proactor(asyncio.SelectorEventLoop):
    """A loop that does not tell when a socket can be read or written, as the one on Windows."""

    def add_reader(self, *args: Any) -> None:
        raise NotImplementedError

    def add_writer(self, *args: Any) -> None:
        raise NotImplementedError


def run_on(loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def echo(connection: Connection) -> None:
    connection.send(STREAM if connection.body.get("stream") else REPLY)


def test_calls_on_a_loop_that_only_does_things() -> None:
    async def main() -> None:
        async with AsyncModelsLab("k" * 9, base_url=server.url, max_retries=0) as client:
            for _ in range(3):
                assert (await client.messages.create(**ASK)).text == "Tamar"
                async with client.messages.stream(**ASK) as stream:
                    assert await stream.get_final_text() == "Tamar"
            big = {**ASK, "messages": [{"role": "user", "content": "x" * 10_000_000}]}
            assert (await client.messages.create(**big)).text == "Tamar"

    with RawServer(echo) as server:
        run_on(Proactor(), main)
        assert len(server.connections) == 1


def test_limits_on_a_loop_that_only_does_things() -> None:
    async def main() -> None:
        client = AsyncModelsLab(
            "k" * 9, base_url=server.url, max_retries=0, timeout=Timeout(read=0.2)
        )
        async with client:
            with pytest.raises(APITimeoutError) as caught:
                await client.messages.create(**ASK)
            assert caught.value.phase == "read"
            async with client.messages.stream(**ASK) as stream:
                await stream.text_stream.__anext__()
            assert await asyncio.to_thread(server.connections[1].left.wait, 5)

    with RawServer(SILENCE, [BEGUN, SILENCE]) as server:
        run_on(Proactor(), main)


# A stream by itself


def pair() -> tuple[Socket, socket.socket]:
    ours, theirs = socket.socketpair()
    mine = Socket(fileno=ours.detach())
    mine.setblocking(False)
    theirs.settimeout(5)
    return mine, theirs


BACKENDS = {"asyncio": (asyncio.run, on_asyncio), "trio": (None, on_trio)}
each_backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def run(backend: str, main: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    if backend == "asyncio":
        asyncio.run(main(on_asyncio))
    else:
        trio.run(main, on_trio)


async def turn(backend: str) -> None:
    await (asyncio.sleep(0.01) if backend == "asyncio" else trio.sleep(0.01))


@each_backend
def test_data_that_arrives_without_a_reader_is_kept(backend: str) -> None:
    async def main(net: Any) -> None:
        mine, theirs = pair()
        stream = net.Stream(mine)
        theirs.sendall(b"one")
        assert await stream.receive(5) == b"one"
        theirs.sendall(b"two")
        await turn(backend)
        theirs.sendall(b"three")
        await turn(backend)
        came = await stream.receive(5)
        while len(came) < 8:
            came += await stream.receive(5)
        assert came == b"twothree"
        assert stream.look() is None
        theirs.sendall(b"surplus")
        await turn(backend)
        assert stream.look() == b"surplus"
        theirs.close()
        await turn(backend)
        assert stream.look() == b""
        assert await stream.receive(5) == b""
        stream.shut()
        assert stream.look() == b""
        with pytest.raises(httpcore.ReadError, match="this side"):
            await stream.receive(5)
        with pytest.raises(httpcore.WriteError, match="this side"):
            await stream.send(b"x", 5)

    run(backend, main)


@pytest.mark.slow
@each_backend
def test_a_reader_that_is_slow_holds_the_sender_back(backend: str) -> None:
    """What is not asked for stays with the system, and fills no memory here."""

    async def main(net: Any) -> None:
        mine, theirs = pair()
        stream = net.Stream(mine)
        theirs.sendall(b"a")
        await stream.receive(5)
        theirs.setblocking(False)
        sent = 0
        for _ in range(200):
            try:
                sent += theirs.send(bytes(65536))
            except BlockingIOError:
                await turn(backend)
                if _ > 100:
                    break
        assert sent < 4_000_000
        came = 0
        while came < sent:
            came += len(await stream.receive(5))
        stream.shut()
        theirs.close()

    run(backend, main)


@pytest.mark.slow
@each_backend
def test_limits_of_one_wait_after_the_other(backend: str) -> None:
    """One timer serves them all: a longer one does not outlive a shorter one, nor the reverse."""

    async def main(net: Any) -> None:
        mine, theirs = pair()
        stream = net.Stream(mine)
        for seconds in (60.0, 0.02, 60.0, None, 0.02, 0.05):
            if seconds in (60.0, None):
                theirs.sendall(b"x")
                assert await stream.receive(seconds) == b"x"
            else:
                with pytest.raises(httpcore.ReadTimeout):
                    await stream.receive(seconds)
        theirs.sendall(b"y")
        assert await stream.receive(60.0) == b"y"
        with pytest.raises(httpcore.WriteTimeout):
            await stream.send(bytes(50_000_000), 0.05)
        stream.shut()
        theirs.close()

    run(backend, main)


@each_backend
def test_a_stream_that_nobody_holds_lets_go_of_its_socket(backend: str) -> None:
    """Though the loop waits on it: the other side sees the end."""

    async def main(net: Any) -> None:
        mine, theirs = pair()
        stream = net.Stream(mine)
        del mine
        theirs.sendall(b"x")
        assert await stream.receive(5) == b"x"
        del stream
        gc.collect()
        await turn(backend)
        assert theirs.recv(1) == b""
        theirs.close()

    run(backend, main)


def test_a_loop_that_has_ended_is_known() -> None:
    async def loop_of(net: Any) -> Any:
        assert not net.has_ended(net.running_loop())
        return net.running_loop()

    assert on_asyncio.has_ended(asyncio.run(loop_of(on_asyncio)))
    assert on_trio.has_ended(trio.run(loop_of, on_trio))
    for net in (on_asyncio, on_trio):
        with pytest.raises(RuntimeError):
            net.running_loop()


def test_a_server_that_closes_is_noticed_while_the_connection_is_idle() -> None:
    """So that the loop does not wake for it again and again."""

    async def main() -> None:
        async with AsyncModelsLab("k" * 9, base_url=server.url, max_retries=0) as client:
            for _ in range(3):
                assert (await client.messages.create(**ASK)).text == "Tamar"
                await asyncio.sleep(0.05)

    with RawServer([REPLY, CLOSE]) as server:
        asyncio.run(main())
        assert len(server.connections) == 3
        assert server.requests == 3  # none was sent into a connection that had ended
