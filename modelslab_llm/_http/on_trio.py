"""The async stream over a socket on trio, and how to wait there. Loaded only where trio runs."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import Any

import trio

from . import failures
from .sockets import OUR_END, READ, Socket, shut_down


def running_loop() -> Any:
    """Return the token of the current run. Raises `RuntimeError` without one."""
    trio.lowlevel.current_task()  # inside another loop's program trio runs, but not everywhere
    return trio.lowlevel.current_trio_token()


def has_ended(loop: Any) -> bool:
    """Tell whether a run is over."""
    try:
        loop.run_sync_soon(bool)  # there is no better check
    except RuntimeError:
        return True
    return False


class Bell:
    """What one task waits for and anybody may ring, in any thread."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._rang = trio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the run is over, and the waiting calls with it
            self._token.run_sync_soon(self._set)

    def _set(self) -> None:
        self._rang.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, but no longer than that."""
        with trio.move_on_after(seconds):
            await self._rang.wait()
        self._rang = trio.Event()


async def writable(waiting: list[Socket], seconds: float) -> list[Socket]:
    """Wait until one of the sockets can be written to, or has failed."""
    ready: list[Socket] = []
    with trio.move_on_after(seconds):
        if len(waiting) == 1:
            await trio.lowlevel.wait_writable(waiting[0])
            return waiting
        async with trio.open_nursery() as nursery:

            async def wait(sock: Socket) -> None:
                await trio.lowlevel.wait_writable(sock)
                ready.append(sock)
                nursery.cancel_scope.cancel()

            for sock in waiting:
                nursery.start_soon(wait, sock)
    return ready


class Stream:
    """A connected socket whose every wait is bounded, for one task at a time."""

    def __init__(self, sock: Socket) -> None:
        self._sock: Socket | None = sock
        self._is_hung_up = False

    @property
    def socket(self) -> Socket | None:
        """The socket, until it is shut down."""
        return self._sock

    async def receive(self, seconds: float | None) -> bytes:
        """Return what comes, b"" at its end. Raises `httpcore` errors."""
        sock = self._sock
        came = self._received(sock)
        if came is not None:
            await trio.lowlevel.checkpoint()  # others get their turn
            return came
        with trio.move_on_after(inf if seconds is None else seconds):
            while came is None and sock is not None:
                await trio.lowlevel.wait_readable(sock)
                came = self._received(sock)
            return came or b""
        raise failures.ReadTimeout("timed out")

    def _received(self, sock: Socket | None) -> bytes | None:
        try:
            came = b"" if sock is None else sock.recv(READ)
        except BlockingIOError:
            return None
        except OSError as error:
            raise failures.ReadError(str(error)) from error
        if not came and self._is_hung_up:
            raise failures.ReadError(OUR_END)
        return came

    async def send(self, data: bytes, seconds: float | None) -> None:
        """Send it all; `seconds` bound each wait until the other side takes more of it."""
        await trio.lowlevel.checkpoint()
        with memoryview(data) as view:
            sent = self._sent(view)
            while sent < len(data):
                sock = self._sock
                if sock is None:
                    raise failures.WriteError(OUR_END)
                with trio.move_on_after(inf if seconds is None else seconds) as scope:
                    await trio.lowlevel.wait_writable(sock)
                if scope.cancelled_caught:
                    raise failures.WriteTimeout("timed out")
                sent += self._sent(view[sent:])

    def _sent(self, data: memoryview) -> int:
        if self._sock is None:
            raise failures.WriteError(OUR_END)
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise failures.WriteError(str(error)) from error

    def look(self) -> bytes | None:
        """Return the bytes that have arrived, b"" at the end; None if there are none."""
        if self._sock is None:
            return b""
        try:
            return self._sock.recv(READ)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def hang_up(self) -> None:
        """Wake the task that waits, and tell the other side. For any thread."""
        self._is_hung_up = True
        if sock := self._sock:
            shut_down(sock)

    def shut(self) -> None:
        """Close the connection, and release the socket; a task that waits on it holds it a little
        longer.
        """
        self.hang_up()
        self._sock = None

    def forget(self) -> None:
        """Release the socket silently: it and the run belong to another process."""
        sock, self._sock = self._sock, None
        if sock:
            sock.close()
