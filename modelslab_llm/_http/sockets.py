"""Sockets: racing to connect over all addresses of a host, and the sync stream over one.

A socket in use is never closed while a call waits on it: it is shut down, which wakes the call and
tells the server, and it is closed when the last reference is gone.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeAlias

from . import failures
from .names import Address, look_up

READ = 64 * 1024  # bytes asked of a socket in one go
STAGGER = 0.25  # seconds until the next address is tried beside those before (RFC 8305, section 5)
OUR_END = "the connection was closed on this side"
LOOK = 0.25  # seconds between checks of a waiting call

_BEGUN = {
    errno.EINPROGRESS,
    errno.EWOULDBLOCK,
    errno.EAGAIN,
    errno.EINTR,
    getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS),
}


class Socket(socket.socket):
    """A socket that is closed without a warning when the last reference is gone.

    It is closed by a function in C, between whose steps no signal can break in.
    """

    __del__ = socket.SocketType.close


def shut_down(sock: socket.socket) -> None:
    """Wake the calls that wait on a socket and tell the other side, even if other processes hold it
    too.
    """
    with suppress(OSError):  # it is not connected, or not any more
        sock.shutdown(socket.SHUT_RDWR)


Race: TypeAlias = Generator["tuple[list[Socket], float | None]", "list[Socket]", Socket]


def racing(
    addresses: list[Address],
    prepare: Callable[[Socket], object] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Race:
    """Connect to the first address that answers; each is given a head start over the next.

    Yields the sockets to wait for until one can be written to, and for how long at most; is sent
    those that can. Returns a connected socket that does not block. Raises `OSError`.
    """
    waiting: list[Socket] = []
    left = list(addresses)
    failure = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    next_at = clock()
    failed = False
    while left or waiting:
        if left and (not waiting or clock() >= next_at):
            next_at = clock() + STAGGER
            try:
                sock, is_connected = _begun(left.pop(0), prepare)
            except OSError as error:
                failure, failed = (failure if failed else error), True
                continue
            if is_connected:
                return sock
            waiting.append(sock)
        wait = max(0.0, next_at - clock()) if left else None
        for sock in (yield list(waiting), wait):
            if (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                return sock
            waiting.remove(sock)
            next_at = clock()  # waiting for the one that failed is useless
            failure, failed = (failure if failed else OSError(code, os.strerror(code))), True
    raise failure


def _begun(address: Address, prepare: Callable[[Socket], object]) -> tuple[Socket, bool]:
    """Return a socket that is being connected, and whether it is already."""
    sock = Socket(address[0], socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    prepare(sock)
    code = sock.connect_ex(address[1])
    if code not in (0, errno.EISCONN) and code not in _BEGUN:
        raise OSError(code, os.strerror(code))
    return sock, code in (0, errno.EISCONN)


class Stream:
    """A connected socket whose every wait is bounded, for one thread at a time."""

    def __init__(self, sock: Socket) -> None:
        self._sock: Socket | None = sock
        self._is_hung_up = False
        self._wait: float | None = -1.0  # what the socket is set to
        sock.setblocking(True)

    def receive(self, seconds: float | None) -> bytes:
        """Return what comes, b"" at its end. Raises `httpcore` errors."""
        try:
            came = self._waiting(seconds).recv(READ)
        except TimeoutError as error:
            raise failures.ReadTimeout(str(error)) from error
        except OSError as error:
            raise failures.ReadError(str(error)) from error
        if not came and self._is_hung_up:
            raise failures.ReadError(OUR_END)
        return came

    def send(self, data: bytes, seconds: float | None) -> None:
        """Send it all; `seconds` bound each wait until the other side takes more of it."""
        try:
            sock = self._waiting(seconds)
            sent = sock.send(data)
            if sent < len(data):
                with memoryview(data) as view:
                    while sent < len(data):
                        sent += sock.send(view[sent:])
        except TimeoutError as error:
            raise failures.WriteTimeout(str(error)) from error
        except OSError as error:
            raise failures.WriteError(str(error)) from error

    def look(self) -> bytes | None:
        """Return the bytes that have arrived, b"" at the end; None if there are none."""
        try:
            return self._waiting(0.0).recv(READ)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _waiting(self, seconds: float | None) -> Socket:
        sock = self._sock
        if sock is None:
            raise OSError(errno.EBADF, "the connection was closed")
        if seconds != self._wait:
            sock.settimeout(seconds)  # asks the system each time
            self._wait = seconds
        return sock

    @property
    def socket(self) -> Socket | None:
        """The socket, until it is shut down."""
        return self._sock

    @property
    def is_readable(self) -> bool:
        """Whether bytes, or the end, have arrived."""
        if (sock := self._sock) is None:
            return True
        if not hasattr(select, "poll"):
            return bool(select.select([sock], [], [], 0)[0])
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def hang_up(self) -> None:
        """Wake the thread that waits, and tell the other side. For any thread."""
        self._is_hung_up = True  # first, so that the end is not taken for the other side's
        if sock := self._sock:
            shut_down(sock)

    def shut(self) -> None:
        """Close the connection, and release the socket."""
        self.hang_up()
        self._sock = None

    def forget(self) -> None:
        """Release the socket silently: it belongs to another process."""
        sock, self._sock = self._sock, None
        if sock:
            sock.close()


Left: TypeAlias = Callable[[], "float | None"]
Talk: TypeAlias = Generator["bytes | None", bytes, None]


def carry(talk: Talk, stream: Stream, left: Left) -> None:
    """Run a handshake: send its bytes and pass it the replies, until it is over."""
    came = b""
    try:
        words = next(talk)
        while True:
            if words is None:
                came = stream.receive(left())
            else:
                stream.send(words, left())
            words = talk.send(came)
    except StopIteration:
        pass


def connect(
    host: str, port: int, left: Left, prepare: Callable[[Socket], object] = lambda _: None
) -> Stream:
    """Connect to a host by its name or address, within the time that `left` says is left.

    `left` is asked before each wait, at least every `LOOK` seconds, and may raise. Raises `OSError`
    where no address answers, and what the resolver raises.
    """
    race = racing(_addresses(host, port, left), prepare)
    ready: list[Socket] | None = None
    try:
        while True:
            waiting, wait = race.send(ready) if ready is not None else next(race)
            ready = _writable(waiting, shorter(wait, left()))
    except StopIteration as done:
        return Stream(done.value)
    finally:
        race.close()


def _addresses(host: str, port: int, left: Left) -> list[Address]:
    lookup = look_up(host, port)
    if lookup.found is None:
        told: SimpleQueue[None] = SimpleQueue()  # all C: no signal can break it
        lookup.ring(partial(told.put, None))
        while lookup.found is None:
            with suppress(Empty):
                told.get(timeout=shorter(None, left()))
    return lookup.addresses()


def shorter(wait: float | None, left: float | None) -> float:
    """Return how long to wait before looking again."""
    return min(seconds for seconds in (wait, left, LOOK) if seconds is not None)


def _writable(waiting: list[Socket], seconds: float) -> list[Socket]:
    """Wait until one of the sockets can be written to, or has failed."""
    if not hasattr(select, "poll"):  # Windows, where a failure is an exceptional condition
        _, writable, failed = select.select([], waiting, waiting, seconds)
        return list({*writable, *failed})
    poll = select.poll()
    by_number = {sock.fileno(): sock for sock in waiting}
    for number in by_number:
        poll.register(number, select.POLLOUT)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]
