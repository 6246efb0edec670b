"""Make the connections of a caller's own client obey a deadline, and wake who waits when closed.

httpx fixes the timeout of each wait when a request starts, looks up names and tries one address
after the other as long as that takes, and closes a socket under a thread that reads from it. Where
a caller's sync client opens a connection, this stands in between. Async needs none of it.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

from . import failures
from .connection import about
from .pace import bounded
from .private import BACKEND, pools_of
from .sockets import Socket, Stream, carry, connect
from .tls import PIECE, Layers


def borrow(http: Any) -> None:
    """Stand in between a caller's sync client and the connections that it opens from now on."""
    for pool in pools_of(http):
        backend = getattr(pool, BACKEND)
        if not isinstance(backend, Backend):
            setattr(pool, BACKEND, Backend(backend))


class Backend:
    """What opens a pool's connections, in the place of httpcore's or httpcore2's own."""

    def __init__(self, theirs: object) -> None:
        self._core = sys.modules[type(theirs).__module__.partition(".")[0]]

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> BorrowedStream:
        """Connect to a host by its name or address."""

        def prepare(sock: Socket) -> None:
            if local_address is not None:
                sock.bind((local_address, 0))
            for option in socket_options or ():
                sock.setsockopt(*option)

        with self._as_theirs():
            return BorrowedStream(connect(host, port, _clock(timeout), prepare), self._as_theirs)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> BorrowedStream:
        """Connect to a socket in the file system."""
        with self._as_theirs():
            sock = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            for option in socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(_clock(timeout)())
            sock.connect(path)
            return BorrowedStream(Stream(sock), self._as_theirs)

    def sleep(self, seconds: float) -> None:
        """Wait between two tries to connect."""
        time.sleep(bounded(seconds, self._core.ConnectTimeout) or 0.0)

    @contextmanager
    def _as_theirs(self, connecting: bool = True) -> Generator[None]:
        """Raise what their own would: httpcore2's errors are not httpcore's."""
        try:
            yield
        except (failures.TimeoutException, failures.NetworkError, failures.ProtocolError) as error:
            name = type(error).__name__
            if connecting:
                name = name.replace("Read", "Connect").replace("Write", "Connect")
            raise getattr(self._core, name)(str(error)) from error
        except TimeoutError as error:
            raise self._core.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise self._core.ConnectError(str(error)) from error


def _clock(timeout: float | None) -> Callable[[], float | None]:
    until = None if timeout is None else time.monotonic() + timeout

    def left() -> float | None:
        remaining = None if until is None else until - time.monotonic()
        if remaining is not None and remaining <= 0:
            raise failures.ConnectTimeout("timed out")
        return bounded(remaining, failures.ConnectTimeout)

    return left


Translated: TypeAlias = Callable[[bool], AbstractContextManager[None]]


class BorrowedStream:
    """A connection of a caller's client: httpcore's interface to one of our sockets.

    A closed one is shut down, and the socket is closed when the last thread that uses it lets go.
    """

    def __init__(self, stream: Stream, translated: Translated) -> None:
        self._stream = stream
        self._translated = translated
        self._layers = Layers()
        self._ready = b""  # received and not read yet
        self._lock = threading.Lock()  # HTTP/2 reads and writes at the same time; not held for I/O

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what comes, b"" at its end."""
        with self._translated(False):
            while not self._ready and not self._layers.has_ended:
                came = self._stream.receive(bounded(timeout, failures.ReadTimeout))
                with self._lock:
                    self._ready += self._layers.decode(came)
                    words = self._layers.to_send()
                if words:
                    self._stream.send(words, bounded(timeout, failures.WriteTimeout))
        came, self._ready = self._ready[:max_bytes], self._ready[max_bytes:]
        return came

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send it all."""
        with self._translated(False):
            for at in range(0, len(buffer), PIECE):
                with self._lock:
                    words = self._layers.encode(bytes(buffer[at : at + PIECE]))
                self._stream.send(words, bounded(timeout, failures.WriteTimeout))

    def close(self) -> None:
        """Hang up. A thread that waits wakes up; the socket's number stays taken until it has."""
        self._stream.shut()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> BorrowedStream:
        """Shake hands for TLS, inside of what is there already."""
        left = _clock(timeout)
        talk = self._layers.add(ssl_context, server_hostname or "")
        try:
            with self._translated(True):
                carry(talk, self._stream, left)
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> Any:
        """Tell of the connection what httpcore asks for."""
        if info == "is_readable":
            return bool(self._ready) or self._layers.has_ended or self._stream.is_readable
        return about(self._stream.socket, self._layers, info)

    def hang_up(self) -> None:
        """Wake the reader."""
        self._stream.hang_up()
