"""Serve the Messages protocol on a local socket, from one background thread.

Must not decide anything: what is answered comes as a `Plan` from `_routes`.

It stands on asyncio's sockets and on h11, which httpx always brings. A web framework would not do
better here: what a test server needs is the connection itself, to write each chunk when it is due,
to break off or fall silent at any byte, to reset, to close the port for a while, and to see when a
client leaves; many connections at once are what an event loop is for. So no extra is needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

# Not among the dependencies by name: httpx has it always, through httpcore.
import h11
from typing_extensions import Self

from .._dialect.dialects import DialectName
from .._script.fault import Ending
from .._script.received import ReceivedRequest, receive
from .._script.script import ErrorReply, Script
from .answer import ListedModels, unreadable
from .plan import Plan
from .scripted import KEY, UNSENDABLE, Log, Scripted

__all__ = ["LocalServer"]

# Room for a burst of clients: one that finds no room waits a second before it tries again.
_BACKLOG = 1024

# What SO_LINGER takes for a close that resets the connection: on, and no seconds.
_NO_GOODBYE = struct.pack("ii", 1, 0)


class LocalServer(Scripted):
    """Serve all three kinds of endpoint on 127.0.0.1, at `port` or a free port.

    `script` defines the answers of `POST …/v1/messages` and of the chat route in the OpenAI format.
    It is a text, `Reply`, `ErrorReply`, `Message` or complete message body for every call; a list
    of these, one for each call; or a function of the request. By default, the server echoes the
    last user text. A function runs in the server's thread, one call at a time, and the server does
    nothing else meanwhile.

    `api_key` is the key to accept; `None` accepts any key, or none. `deployments` maps the IDs of
    GGUF deployments to `"ready"`, `"deploying"`, `"paused"`, `"loading"` or `"unreachable"`; by
    default, every ID is ready. `pause` is the time in seconds between the events of streams that do
    not come from a `Reply`, which has its own. `dialect` is the server to emulate: its messages,
    events, comments, usage, stop reasons and errors. `token_count` is the answer of `count_tokens`
    (default: the number of words in the prompt), and `models` is the list of models: names, or a
    complete body. Either may be an `ErrorReply`. All of these can be changed while the server runs.

    Use it in a `with` block, or call `start()` and `close()`. Raises `TypeError` for a script that
    contains anything but answers, and `ValueError` for an unknown dialect.
    """

    def __init__(
        self,
        script: Script = None,
        *,
        api_key: str | None = KEY,
        deployments: Mapping[str, str] | None = None,
        pause: float = 0.0,
        dialect: DialectName = "anthropic",
        token_count: int | ErrorReply | None = None,
        models: ListedModels = None,
        port: int = 0,
    ) -> None:
        super().__init__(
            script,
            api_key=api_key,
            deployments=deployments,
            pause=pause,
            dialect=dialect,
            token_count=token_count,
            models=models,
        )
        self._port = port
        self._url: str | None = None
        self._running: _Running | None = None

    def start(self) -> Self:
        """Start the server; when this returns, clients can connect."""
        if self._url:
            raise RuntimeError(
                f"this LocalServer already runs at {self.url}: close() it first, or create another"
            )
        self._serve(_bound(self._port))
        return self

    def _serve(self, listener: socket.socket) -> None:
        # Listening from here on: the address is known at once, and those who connect before the
        # thread is under way wait in the backlog.
        listener.listen(_BACKLOG)
        # By name, whatever the program's own loops are: ending cleanly needs remove_reader().
        loop, stop = asyncio.SelectorEventLoop(), asyncio.Event()
        # In development mode asyncio logs what is slow: here that is the caller's own script.
        loop.slow_callback_duration = float("inf")
        thread = threading.Thread(
            target=_run,
            args=(loop, _serve(listener, stop, self._respond, self._log)),
            name="modelslab-llm-local-server",
            daemon=True,
        )
        self._url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._running = _Running(thread, loop, stop)
        thread.start()

    def close(self) -> None:
        """Drop all connections and wait until the thread has ended. A second call does nothing.

        The recorded requests stay readable, and the server can be started again.
        """
        self._url = None
        running, self._running = self._running, None
        if running:
            running.loop.call_soon_threadsafe(running.stop.set)
            running.thread.join()

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Close the port during the `with` block, and drop every connection.

        Afterwards the server is back at the same address, unless it was closed meanwhile.
        """
        url, port = self.url, int(self.url.rpartition(":")[2])
        if not self._running:
            raise RuntimeError("this LocalServer already refuses connections")
        self.close()
        with _bound(port) as listener:  # held, so that no other program gets it; it does not listen
            self._url = url
            try:
                yield
            finally:
                if self._url:
                    self._serve(listener.dup())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Return `http://127.0.0.1:PORT`; raises `RuntimeError` while the server is not running."""
        if not self._url:
            raise RuntimeError(
                "this LocalServer is not running: use `with LocalServer() as server:` "
                "or call start()"
            )
        return self._url

    def _respond(self, request: ReceivedRequest) -> Plan:
        plan = super()._respond(request)
        # A kept connection that ends without a byte is a stale one to clients, ours among them,
        # which send again on a new one: the fault would have no effect.
        return plan.with_headers({"connection": "close"}) if self._replies.breaks_next else plan

    @property
    def _way_here(self) -> Mapping[str, Any]:
        return {"trust_env": False}  # no proxy leads to this machine


def _bound(port: int) -> socket.socket:
    # The protocol is named because asyncio turns off Nagle's delay, 40 ms for each response, only
    # where it is.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


@dataclass(frozen=True)
class _Running:
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


def _run(loop: asyncio.AbstractEventLoop, main: Coroutine[object, object, None]) -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


async def _serve(
    listener: socket.socket,
    stop: asyncio.Event,
    respond: Callable[[ReceivedRequest], Plan],
    log: Log,
) -> None:
    loop = asyncio.get_running_loop()
    connections: set[_Connection] = set()
    server = await loop.create_server(
        lambda: _Connection(respond, log, connections), sock=listener, backlog=_BACKLOG
    )
    await stop.wait()
    # Nobody new from here on. But some may be halfway in, known only as a task inside asyncio
    # that fails if the server is closed meanwhile: continue until they are done.
    loop.remove_reader(listener)
    while connections or len(asyncio.all_tasks()) > 1:
        for connection in tuple(connections):
            connection.abort()
        await asyncio.sleep(0)
    server.close()


class _Connection(asyncio.Protocol):
    """Answer one client's requests one after another, in a task that its leaving cancels."""

    def __init__(
        self, respond: Callable[[ReceivedRequest], Plan], log: Log, connections: set[_Connection]
    ) -> None:
        self._respond = respond
        self._log = log
        self._connections = connections
        self._wire = h11.Connection(h11.SERVER)
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._sending = False

    def abort(self) -> None:
        self._sending = False  # the client is not the one that disconnects
        self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        self._wire.receive_data(data)
        self._arrived.set()

    def eof_received(self) -> None:
        # Not close(), which would first wait for the client to take what is already written.
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._log.disconnects += self._sending
        self._connections.discard(self)
        self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the task does

    async def _converse(self) -> None:
        wire = self._wire
        try:
            while wire.our_state is h11.IDLE:
                await self._send(self._respond(await self._receive()))
                if wire.our_state is wire.their_state is h11.DONE:  # else: one side wants to close
                    wire.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._send(unreadable(error.error_status_hint, str(error)))
        except UNSENDABLE as error:  # a scripted header that HTTP does not allow
            self._log.errors.append(error)
        finally:
            self._transport.close()

    async def _receive(self) -> ReceivedRequest:
        head, body = await self._next_event(), bytearray()
        assert isinstance(head, h11.Request)
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
        return receive(
            head.method.decode("ascii"),
            head.target.decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers],
            bytes(body),
        )

    async def _next_event(self) -> object:
        while (event := self._wire.next_event()) is h11.NEED_DATA:
            if self._wire.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._arrived.clear()
            await self._arrived.wait()
        return event

    async def _send(self, plan: Plan) -> None:
        if plan.status:
            head = h11.Response(status_code=plan.status, headers=list(plan.headers.items()))
            self._write(head)
        self._sending = True
        for chunk in plan.chunks:
            # Without a pause too: others get their turn, and it shows if the client has left.
            await asyncio.sleep(chunk.pause)
            self._write(h11.Data(data=chunk.data))
            await self._writable.wait()
        if plan.ending == "end":
            self._write(h11.EndOfMessage())
        else:
            await self._break_off(plan.ending)
        self._sending = False

    async def _break_off(self, ending: Ending) -> None:
        self._transport.set_write_buffer_limits(0)  # from here on writable means: all is sent
        await self._writable.wait()
        if ending == "stall":
            await asyncio.get_running_loop().create_future()  # until the client leaves
        self._sending = False  # the client is not the one that disconnects
        if ending == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_GOODBYE)
            self._transport.abort()

    def _write(self, event: h11.Event) -> None:
        self._transport.write(self._wire.send(event) or b"")
