"""Bound every wait on a socket, and close what nobody else would.

Knows connections and httpcore's interface to them; of requests and the protocol it knows nothing.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any

import httpcore

_moment = threading.local()


@contextmanager
def waits_end_at(moment: float | None) -> Generator[None]:
    """Let every wait on a socket, in this thread and block, end at a moment of `time.monotonic`.

    httpx fixes a timeout when a request starts; a deadline needs it to shrink as time goes by.
    """
    before: float | None = getattr(_moment, "value", None)
    if moment is None or (before is not None and before < moment):
        moment = before  # a limit can only be narrowed
    _moment.value = moment
    try:
        yield
    finally:
        _moment.value = before


def bounded(timeout: float | None, error: type[Exception]) -> float | None:
    """Return how long a wait may still last, or raise `error` if it may not."""
    moment: float | None = getattr(_moment, "value", None)
    if moment is None:
        return timeout
    left = moment - time.monotonic()
    if left <= 0:
        raise error("the time is up")
    return left if timeout is None else min(timeout, left)


class TimedStream(httpcore.NetworkStream):
    """A connection whose every wait obeys `waits_end_at`."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, bounded(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, bounded(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        timeout = bounded(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def hang_up(stream: object) -> None:
    """Wake whatever waits on a connection: to close its socket does not wake another thread."""
    about = getattr(stream, "get_extra_info", None)
    sock = about("socket") if about else None
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # TLS would say goodbye first, and wait


class TimedBackend(httpcore.NetworkBackend):
    """Open connections that obey `waits_end_at`."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = bounded(timeout, httpcore.ConnectTimeout)
        return TimedStream(
            self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        timeout = bounded(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._backend.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Unsecured(httpcore.AsyncNetworkStream):
    """A connection that is closed if its TLS handshake is cancelled, which httpcore forgets."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        import anyio

        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class HandshakeBackend(httpcore.AsyncNetworkBackend):
    """Open connections that a cancelled handshake does not leave open."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Unsecured(
            await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        )

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Unsecured(await self._backend.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def let_go(pool: Any, loop: Any) -> None:
    """Close the connections of httpcore's async pool without waiting, from wherever we are.

    `loop`, asyncio's or trio's token, is the one they belong to; it may have ended. A socket that
    is only forgotten would be closed by the garbage collector, with a warning for each.
    """
    for connection in pool.connections:
        while hasattr(connection, "_connection"):  # proxies stand one inside the other
            connection = connection._connection
        _close_below(getattr(connection, "_network_stream", None), loop)


def _close_below(stream: Any, loop: Any) -> None:
    below = ("_stream", "transport_stream", "_transport", "socket")  # ours, httpcore's, anyio's, …
    while name := next((name for name in below if hasattr(stream, name)), None):
        stream = getattr(stream, name)
    soon = getattr(loop, "call_soon_threadsafe", None) or getattr(loop, "run_sync_soon", None)
    close = getattr(stream, "abort", None) or getattr(stream, "close", None)
    if soon is None or close is None:
        return
    try:
        soon(close)
    except RuntimeError:  # the loop has ended: nobody is left to be told
        if lost := getattr(stream, "_call_connection_lost", None):
            if getattr(stream, "_sock", None) is not None:
                lost(None)
        elif sock := getattr(stream, "_sock", None):
            sock.close()
