"""The async stream over a socket on asyncio, and how to wait there. Loaded only where asyncio runs.

The sockets are ours and not a transport's, so that they can be let go of wherever the event loop
has gone. Reading stays registered with the loop from one piece to the next, and one timer serves
all waits of a stream.
"""

from __future__ import annotations

import asyncio
import select
from contextlib import suppress
from math import inf
from typing import Any
from weakref import finalize

from . import failures
from .sockets import OUR_END, READ, Socket, shut_down

Loop = asyncio.AbstractEventLoop


def running_loop() -> Loop:
    """Return the event loop that runs. Raises `RuntimeError` where none does."""
    return asyncio.get_running_loop()


def has_ended(loop: Loop) -> bool:
    """Tell whether an event loop will never run again."""
    return loop.is_closed()


class Bell:
    """What one task waits for and anybody may ring, in any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rang = asyncio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the waiting calls with it
            self._loop.call_soon_threadsafe(self._rang.set)

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, but no longer than that."""
        timer = self._loop.call_later(seconds, self._rang.set)
        try:
            await self._rang.wait()
        finally:
            timer.cancel()
        self._rang.clear()


async def writable(waiting: list[Socket], seconds: float) -> list[Socket]:
    """Wait until one of the sockets can be written to, or has failed."""
    loop = asyncio.get_running_loop()
    ready: list[Socket] = []
    some = loop.create_future()

    def note(sock: Socket | None) -> None:
        if sock is not None:
            ready.append(sock)
        if not some.done():
            some.set_result(None)

    try:
        for sock in waiting:
            loop.add_writer(sock, note, sock)
    except NotImplementedError:  # Windows: its loop can wait for a socket's doings alone
        return await loop.run_in_executor(None, _select, waiting, seconds)
    timer = loop.call_later(seconds, note, None)
    try:
        await some
    finally:
        timer.cancel()
        for sock in waiting:
            loop.remove_writer(sock)
    return ready


def _select(waiting: list[Socket], seconds: float | None) -> list[Socket]:
    _, writable, failed = select.select([], waiting, waiting, seconds)
    return list({*writable, *failed})


class Timed:
    """Something whose waits are limited by one timer, which is set again if it goes off too early.

    It must hold nothing that is to be noticed when nobody else holds it: the event loop holds it.
    """

    __slots__ = ("_due", "_loop", "_timer", "_timer_at")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._due = 0.0

    def too_late(self) -> None:
        """End the wait, if there still is one."""
        raise NotImplementedError

    def limit(self, seconds: float | None) -> None:
        """Let the wait that begins now end after so long, if at all."""
        if seconds is None:
            self._due = inf
            return
        self._due = due = self._loop.time() + seconds
        if self._timer is None or due < self._timer_at:
            self._set_timer(due)

    def stop_timer(self) -> None:
        """Limit nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, due: float) -> None:
        self.stop_timer()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._loop.time() >= self._due:
            self.too_late()
        elif self._due < inf:
            self._set_timer(self._due)


class _Inlet(Timed):
    """What the event loop holds of a stream, which does not lead to the stream itself.

    A stream that nobody holds any more can so be noticed, though the loop waits on its socket.
    """

    __slots__ = ("held", "is_on", "sock", "waiter", "writer")

    def __init__(self, sock: Socket, loop: Loop) -> None:
        super().__init__(loop)
        self.sock: Socket | None = sock
        self.held: bytes | OSError | None = None
        """Bytes that arrived while no reader waited; reading pauses until they are taken."""
        self.is_on = False
        self.waiter: asyncio.Future[bytes | Exception] | None = None
        self.writer: asyncio.Future[None] | None = None

    def switch_on(self) -> None:
        if not self.is_on and self.sock is not None:
            self._loop.add_reader(self.sock, self.readable)
            self.is_on = True

    def switch_off(self) -> None:
        if self.is_on and self.sock is not None:
            self._loop.remove_reader(self.sock)
            self.is_on = False

    def readable(self) -> None:
        """Read the available bytes, for the waiting reader or for later."""
        came: bytes | OSError
        try:
            came = self.sock.recv(READ) if self.sock is not None else b""
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            came = error
        waiter = self.waiter
        if waiter is None or waiter.done():
            self.held = came
            self.switch_off()
            return
        self.waiter = None
        waiter.set_result(came)
        if not came or isinstance(came, OSError):
            self.switch_off()

    def too_late(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(failures.ReadTimeout("timed out"))

    def shut(self) -> None:
        """Close the connection and release the socket; for the loop's own thread, or if it does not
        run.
        """
        sock = self.sock
        if sock is None:
            return
        shut_down(sock)
        self.switch_off()
        self.stop_timer()
        self.sock = None
        if self._loop.is_closed():
            return  # and the reader is gone with it
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(b"")
        if self.writer is not None and not self.writer.done():
            self._loop.remove_writer(sock)
            self.writer.set_result(None)


class Stream:
    """A connected socket whose every wait is bounded, for one task at a time."""

    def __init__(self, sock: Socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._inlet = _Inlet(sock, self._loop)
        self._is_hung_up = False
        self._left = finalize(self, _let_go, self._loop, self._inlet)
        self._left.atexit = False

    @property
    def socket(self) -> Socket | None:
        """The socket, until it is shut down."""
        return self._inlet.sock

    async def receive(self, seconds: float | None) -> bytes:
        """Return what comes, b"" at its end. Raises `httpcore` errors."""
        inlet = self._inlet
        if inlet.held is not None:
            held, inlet.held = inlet.held, None
            return self._came(held)
        if not inlet.is_on:
            if inlet.sock is None:
                raise failures.ReadError(OUR_END)
            try:
                inlet.switch_on()
            except NotImplementedError:
                return await self._receive_alone(inlet.sock, seconds)
        waiter = inlet.waiter = self._loop.create_future()
        inlet.limit(seconds)
        try:
            return self._came(await waiter)
        finally:
            inlet.waiter = None

    def _came(self, came: bytes | Exception) -> bytes:
        """Return the result, or raise the error."""
        if isinstance(came, bytes):
            if not came and self._is_hung_up:
                raise failures.ReadError(OUR_END)
            return came
        if isinstance(came, OSError):
            raise failures.ReadError(str(came)) from came
        raise came

    async def _receive_alone(self, sock: Socket, seconds: float | None) -> bytes:
        """Receive where the loop does not tell when a socket can be read: Windows."""
        try:
            return self._came(await asyncio.wait_for(self._loop.sock_recv(sock, READ), seconds))
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise failures.ReadTimeout("timed out") from error
        except OSError as error:
            raise failures.ReadError(str(error)) from error

    async def send(self, data: bytes, seconds: float | None) -> None:
        """Send it all; `seconds` bound each wait until the other side takes more of it."""
        sent = self._sent(data)
        if sent < len(data):
            with memoryview(data) as view:
                while sent < len(data):
                    await self._until_writable(seconds)
                    sent += self._sent(view[sent:])

    def _sent(self, data: bytes | memoryview) -> int:
        sock = self._inlet.sock
        if sock is None:
            raise failures.WriteError(OUR_END)
        try:
            return sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise failures.WriteError(str(error)) from error

    async def _until_writable(self, seconds: float | None) -> None:
        inlet, sock = self._inlet, self._inlet.sock
        if sock is None:
            return
        inlet.writer = writer = self._loop.create_future()
        timer = None
        try:
            self._loop.add_writer(sock, _end, writer)
        except NotImplementedError:
            await self._loop.run_in_executor(None, _select, [sock], seconds)
            return
        if seconds is not None:
            timer = self._loop.call_later(seconds, _time_out, writer)
        try:
            await writer
        finally:
            inlet.writer = None
            if timer is not None:
                timer.cancel()
            if inlet.sock is not None:
                self._loop.remove_writer(sock)

    def look(self) -> bytes | None:
        """Return the bytes that have arrived, b"" at the end; None if there are none."""
        inlet = self._inlet
        if inlet.held is not None or inlet.sock is None:
            held, inlet.held = inlet.held, None
            return held if isinstance(held, bytes) else b""
        try:
            return inlet.sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    def hang_up(self) -> None:
        """Wake the task that waits, and tell the other side. For any thread."""
        self._is_hung_up = True
        if sock := self._inlet.sock:
            shut_down(sock)

    def shut(self) -> None:
        """Close the connection, and release the socket. From another thread, that takes until the
        loop runs.
        """
        self.hang_up()
        _let_go(self._loop, self._inlet)
        self._left.detach()

    def forget(self) -> None:
        """Release the socket silently: it and the loop belong to another process."""
        self._left.detach()
        sock, self._inlet.sock = self._inlet.sock, None
        if sock:
            sock.close()


def _let_go(loop: Loop, inlet: _Inlet) -> None:
    """Shut an inlet in the thread of its loop, if that runs."""
    if loop.is_running() and _running_here() is not loop:
        with suppress(RuntimeError):  # it ended just now
            loop.call_soon_threadsafe(inlet.shut)
            return
    inlet.shut()


def _running_here() -> Loop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _end(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def _time_out(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(failures.WriteTimeout("timed out"))
