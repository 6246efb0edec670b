"""Keep connections: the transports below the HTTP clients that the package uses by itself.

Each stands before many small pools of httpcore's. Nothing here knows the protocol.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, cast
from weakref import WeakSet

import httpx

from .pools import Pools, Small
from .sockets import HandshakeBackend, TimedBackend, bounded, let_go

LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=None, keepalive_expiry=30.0)
SMALL = 1  # connections in one small pool, which walks over all it has for every request
CLOSED = "the client has been closed"

_here = threading.local()  # .inside: whether this thread is inside an operation of a pool
_left: deque[_Tracked | PooledTransport] = deque()  # bodies to be closed as soon as it is not
_read: set[Iterator[bytes]] = set()  # bodies being read; see `_Tracked`


@contextmanager
def _inside_a_pool() -> Generator[None]:
    """Mark an operation that may hold a pool's lock, ours or httpcore's.

    The garbage collector may run in the middle of it and finalise a stream that somebody left.
    To close that at once would wait for the very lock this thread holds, for ever.
    """
    before = getattr(_here, "inside", False)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = before
        while not before and _left:
            with suppress(IndexError):  # another thread was faster
                _left.popleft().close()


Origin = tuple[str, bytes]  # scheme, and host with port


def _origin(request: httpx.Request) -> Origin:
    return request.url.scheme, request.url.netloc


class _Settings:
    """What every small pool of one transport is made with."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.limits: httpx.Limits = settings.pop("limits", LIMITS)
        self.size = SMALL if not settings.get("http2") else 100  # streams on a connection
        kept = self.limits.max_keepalive_connections
        self._settings = settings | {
            "limits": httpx.Limits(
                max_connections=self.size,
                max_keepalive_connections=self.size if kept is None else min(self.size, kept),
                keepalive_expiry=self.limits.keepalive_expiry,
            )
        }
        self._verify: ssl.SSLContext | None = None

    def for_scheme(self, scheme: str) -> dict[str, Any]:
        return self._settings | {"verify": self._context() if scheme == "https" else _no_tls()}

    def _context(self) -> ssl.SSLContext:
        if self._verify is None:
            given: dict[str, Any] = {
                name: value
                for name in ("verify", "cert", "trust_env")
                if (value := self._settings.get(name)) not in (None, True)
            }
            if given.keys() <= {"trust_env"}:
                names = () if given else ("SSL_CERT_FILE", "SSL_CERT_DIR")
                places = tuple(os.environ.get(name) for name in names)
                self._verify = _shared_context(not given, self.size == SMALL, places)
            else:
                self._verify = httpx.create_ssl_context(**given)
        return self._verify


@lru_cache(maxsize=8)
def _shared_context(trust_env: bool, http1: bool, places: tuple[str | None, ...]) -> ssl.SSLContext:
    """Load the certificates once per process, which costs 25 ms. It varies by the arguments."""
    return httpx.create_ssl_context(trust_env=trust_env)


@lru_cache(maxsize=1)
def _no_tls() -> ssl.SSLContext:
    """Return a context for http://, which httpx wants and never uses; it trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def _socks_said_clearly() -> Generator[None]:
    try:
        yield
    except ImportError as error:  # a SOCKS proxy without its package
        raise httpx.UnsupportedProtocol(str(error)) from None


class PooledTransport(httpx.BaseTransport):
    """Send requests over many small pools. `settings` are those of `httpx.HTTPTransport`."""

    def __init__(self, **settings: Any) -> None:
        self._settings = _Settings(settings)
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._pools: Pools[Origin, httpx.HTTPTransport] = Pools(
            self._make, self._settings.limits, self._settings.size
        )

    def _make(self, origin: Origin) -> httpx.HTTPTransport:
        with _socks_said_clearly():
            transport = httpx.HTTPTransport(**self._settings.for_scheme(origin[0]))
        pool = cast("Any", transport)._pool
        pool._network_backend = TimedBackend(pool._network_backend)
        return transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, waiting for a free connection as long as its pool timeout says."""
        with _inside_a_pool():
            small = self._take(request)
            try:
                if self._pools.has_ousted:
                    with self._lock:
                        closing = self._pools.ousted()
                    for transport in closing:
                        transport.close()
                response = small.transport.handle_request(request)
            except BaseException:
                self._give(small, failed=True)
                raise
        if response.is_closed:  # a mock's answer, read already
            self._give(small)
        else:
            stream = cast("httpx.SyncByteStream", response.stream)
            response.stream = _Tracked(stream, lambda: self._give(small))
        return response

    def _take(self, request: httpx.Request) -> Small[Origin, httpx.HTTPTransport]:
        origin = _origin(request)
        with self._lock:
            if small := self._pools.take(origin):
                return small
            waiter = self._pools.queue(origin, served := threading.Event())
        timeout: float | None = request.extensions.get("timeout", {}).get("pool")
        try:
            if not served.wait(bounded(timeout, httpx.PoolTimeout)):
                raise httpx.PoolTimeout("every connection is in use")
            if waiter.small is None:
                raise waiter.failure or RuntimeError(CLOSED)
        except BaseException:
            with self._lock:
                closing = self._pools.leave(waiter)
            for transport in closing:
                transport.close()
            raise
        return waiter.small

    def _give(self, small: Small[Origin, httpx.HTTPTransport], *, failed: bool = False) -> None:
        with self._lock:
            give = self._pools.drop if failed else self._pools.give
            closing = give(small, time.monotonic())
        for transport in closing:
            transport.close()

    def close_if_left(self) -> bool:
        """Close what is open when the client is gone; tell whether anything was."""
        was_used = self._pools.in_use
        if was_used and getattr(_here, "inside", False):
            _left.append(self)
        elif was_used:
            self.close()
        return was_used

    def close(self) -> None:
        """Close every connection."""
        with _inside_a_pool():
            with self._lock:
                closing = self._pools.everything()
            for transport in closing:
                transport.close()


class AsyncPooledTransport(httpx.AsyncBaseTransport):
    """The same for async; connections belong to the event loop that opened them."""

    def __init__(self, **settings: Any) -> None:
        self._settings = _Settings(settings)
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        self._by_loop: dict[object, Pools[Origin, httpx.AsyncHTTPTransport]] = {}

    def _make(self, origin: Origin) -> httpx.AsyncHTTPTransport:
        with _socks_said_clearly():
            transport = httpx.AsyncHTTPTransport(**self._settings.for_scheme(origin[0]))
        if origin[0] == "https":
            pool = cast("Any", transport)._pool
            pool._network_backend = HandshakeBackend(pool._network_backend)
        return transport

    def _pools(self) -> Pools[Origin, httpx.AsyncHTTPTransport]:
        """Return the pools of this event loop; those of loops that ended cannot be used."""
        loop = _event_loop()
        pools = self._by_loop.get(loop)
        if pools is None:
            for other in list(self._by_loop):  # a copy: other threads have loops of their own
                if _has_ended(other) and (ended := self._by_loop.pop(other, None)):
                    _let_go(ended, other)
            pools = Pools(self._make, self._settings.limits, self._settings.size)
            self._by_loop[loop] = pools
        return pools

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, waiting for a free connection as long as its pool timeout says."""
        pools = self._pools()
        small = pools.take(_origin(request)) or await self._queue(pools, request)
        try:
            if pools.has_ousted:
                await _close_all(pools.ousted())
            response = await small.transport.handle_async_request(request)
        except BaseException:
            await _close_all(pools.drop(small, time.monotonic()))
            raise
        if response.is_closed:  # a mock's answer, read already
            await _close_all(pools.give(small, time.monotonic()))
        else:
            stream = cast("httpx.AsyncByteStream", response.stream)
            response.stream = _AsyncTracked(stream, pools, small)
        return response

    async def _queue(
        self, pools: Pools[Origin, httpx.AsyncHTTPTransport], request: httpx.Request
    ) -> Small[Origin, httpx.AsyncHTTPTransport]:
        import anyio  # where httpx is, so is anyio; sync programs do not load it

        waiter = pools.queue(_origin(request), served := anyio.Event())
        try:
            with anyio.move_on_after(request.extensions.get("timeout", {}).get("pool")):
                await served.wait()
            if waiter.small is None:
                if not served.is_set():
                    raise httpx.PoolTimeout("every connection is in use")
                raise waiter.failure or RuntimeError(CLOSED)
        except BaseException:
            await _close_all(pools.leave(waiter))
            raise
        return waiter.small

    def close_if_left(self) -> bool:
        """Close what is open when the client is gone; tell whether anything was."""
        was_used = any(pools.in_use for pools in self._by_loop.values())
        for loop, pools in self._by_loop.items():
            _let_go(pools, loop)
        return was_used

    async def aclose(self) -> None:
        """Close every connection of this event loop."""
        await _close_all(self._pools().everything())


class _Tracked(httpx.SyncByteStream):
    """A body that says when it is done with its connection.

    httpcore reads by a generator that takes its pool's lock when it is finalised. `_read` keeps it
    from the garbage collector, so that a body that was left is closed here and nowhere else.
    """

    def __init__(self, stream: httpx.SyncByteStream, release: Callable[[], None]) -> None:
        self._stream = stream
        self._release: Callable[[], None] | None = release
        self._reading: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        self._reading = iter(self._stream)
        _read.add(self._reading)
        return self._reading

    def close(self) -> None:
        if getattr(_here, "inside", False):
            _left.append(self)
            return
        release, self._release = self._release, None
        with _inside_a_pool():
            try:
                self._stream.close()
            finally:
                _read.discard(self._reading)
                if release:
                    release()


class _AsyncTracked(httpx.AsyncByteStream):
    """The same for async."""

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        pools: Pools[Origin, httpx.AsyncHTTPTransport],
        small: Small[Origin, httpx.AsyncHTTPTransport],
    ) -> None:
        self._stream = stream
        self._pools = pools
        self._small: Small[Origin, httpx.AsyncHTTPTransport] | None = small

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        small, self._small = self._small, None
        try:
            await self._stream.aclose()
        except BaseException:
            if small:
                await _close_all(self._pools.drop(small, time.monotonic()))
            raise
        if small:
            await _close_all(self._pools.give(small, time.monotonic()))


def _let_go(pools: Pools[Origin, httpx.AsyncHTTPTransport], loop: object) -> None:
    for transport in pools.everything():
        let_go(cast("Any", transport)._pool, loop)


async def _close_all(transports: list[httpx.AsyncHTTPTransport]) -> None:
    for transport in transports:
        await transport.aclose()


def _event_loop() -> object:
    """Return the loop that runs, without loading an async library: one of them has to be there."""
    if asyncio := cast("Any", sys.modules.get("asyncio")):
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            pass
    return cast("Any", sys.modules["trio"]).lowlevel.current_trio_token()


def _has_ended(loop: Any) -> bool:
    if hasattr(loop, "is_closed"):
        return cast("bool", loop.is_closed())
    try:
        loop.run_sync_soon(bool)  # trio has no better way to ask
    except RuntimeError:
        return True
    return False


_ALL: WeakSet[PooledTransport | AsyncPooledTransport] = WeakSet()


def _after_fork() -> None:
    """Forget connections in a child: they are the parent's, and the locks may have been held."""
    _left.clear()
    for transport in list(_ALL):
        transport._start()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
