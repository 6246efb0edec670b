"""Send requests over our own connections: which connection to use, which call waits, what is sent
again.

`Network` is thread-safe; an `AsyncNetwork` keeps the connections of each event loop apart. Nothing
here knows the protocol above HTTP.
"""

# ruff: noqa: SIM105  (contextlib.suppress runs Python code, which a signal can interrupt)

from __future__ import annotations

import logging
import os
import ssl
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import field
from functools import partial
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol
from weakref import WeakSet, finalize

from .._forks import no_fork
from .._records import record
from . import failures
from .certificates import context_of
from .connection import Answered, Asked, AsyncConnection, Connection, Waits
from .opening import PORTS, Proxies, Route
from .pool import Pool, PoolClosedError, Waiter
from .sockets import shorter

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("modelslab_llm")

_AGAIN = "the server had closed the connection; sent again on a new one"


class Limits(NamedTuple):
    """How many connections there may be; names as in `httpx.Limits`, defaults our own."""

    max_connections: int | None = 1000
    max_keepalive_connections: int | None = None
    keepalive_expiry: float | None = 30.0


@record
class Settings:
    """The connection settings of one client; they mean what they mean for `httpx.Client`."""

    verify: Any = True
    cert: Any = None
    trust_env: bool = True
    limits: httpx.Limits | Limits = field(default_factory=Limits)
    proxy: Any = None

    def context(self) -> ssl.SSLContext:
        """Return the TLS context. Certificates are not read until they are needed."""
        return context_of(self.verify, self.cert, trust_env=self.trust_env)


class Ways:
    """The ways to the servers, and whom to trust there: the part that all networks share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._proxies = Proxies(settings.proxy, trust_env=settings.trust_env)
        self._routes: dict[tuple[str, str, int], Route] = {}
        self._context_kept: ssl.SSLContext | None = None
        self.is_closed = False
        """Whether `close` was called."""

    def route(self, scheme: str, host: str, port: int | None) -> Route:
        """Return the route to a server; always the same for the same server."""
        if scheme not in PORTS:
            words = f"an unsupported protocol {scheme!r}" if scheme else "no protocol"
            raise failures.UnsupportedProtocol(f"the URL has {words}, not http:// or https://")
        place = (scheme, host, port or PORTS[scheme])
        route = self._routes.get(place)
        if route is None:
            route = Route(*place, self._proxies.before(*place))
            route = self._routes.setdefault(place, route)
        return route

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context."""
        if self._context_kept is None:
            self._context_kept = self._settings.context()
        return self._context_kept


class AsyncWays(Protocol):
    """What async requests are sent over: our own connections, or aiohttp's."""

    bounds_each_wait: ClassVar[bool]
    """Whether sending ends by itself when no time is left, and need not be cancelled."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        ...

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context."""
        ...

    def route(self, scheme: str, host: str, port: int | None) -> Route:
        """Return the route to a server; always the same for the same server."""
        ...

    async def send(self, asked: Asked, waits: Waits) -> Answered:
        """Send a request; return its connection once the head of the response has arrived."""
        ...

    def give(self, connection: Any) -> None:
        """Give a connection of its own back; it is closed unless it was read to the end."""
        ...

    async def aclose(self) -> None:
        """Close every connection of this event loop and wake its users."""
        ...


class _Network(Ways):
    """The part that our own networks share, sync and async."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        raise NotImplementedError

    def _all(self) -> list[Connection | AsyncConnection]:
        raise NotImplementedError

    def _trusted(self) -> ssl.SSLContext:
        return self.context

    def _pool(self, make: Callable[[Route, int], Any]) -> Pool[Route, Any]:
        limits = self._settings.limits
        return Pool(
            make,
            most=limits.max_connections,
            most_idle=limits.max_keepalive_connections,
            expiry=limits.keepalive_expiry,
        )

    def forget(self) -> None:
        """Start afresh in a forked child: the connections belong to the parent."""
        for connection in self._all():
            connection.forget()
        self._start()


class _Line:
    """A wait for a connection, and how long it may last."""

    def __init__(self, waits: Waits) -> None:
        seconds = waits.seconds("pool")
        self._until = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until the next look. Raises if the wait took too long."""
        left = None if self._until is None else self._until - time.monotonic()
        if left is not None and left <= 0:
            raise failures.PoolTimeout("every connection is in use")
        return shorter(None, left)


class Network(_Network):
    """The connections of a sync client."""

    _connections: Pool[Route, Connection]

    def _start(self) -> None:
        self._connections = self._pool(lambda route, key: Connection(route, key, self._trusted))
        self._connections.closed = self.is_closed

    def _all(self) -> list[Connection | AsyncConnection]:
        return [*self._connections.everything()]

    def send(self, asked: Asked, waits: Waits) -> Connection:
        """Send a request; return its connection once the head of the response has arrived.

        The server may have closed a reused connection before it read this request. If such a
        connection dies before the first byte of a response, the request is sent again once, on a
        new connection.
        """
        connection = self._take(asked.url, waits)
        if not connection.is_new:
            try:
                return self._asked(connection, asked, waits)
            except (failures.ReadError, failures.RemoteProtocolError):
                if connection.has_heard or not asked.is_repeatable or self.is_closed:
                    raise
                log.debug(_AGAIN)
            connection = self._take(asked.url, waits, new=True)
        return self._asked(connection, asked, waits)

    def give(self, connection: Connection) -> None:
        """Give a connection back; it is closed unless its response was read to the end."""
        self._connections.give(connection)
        _tidy(self._connections)

    @property
    def in_use(self) -> bool:
        """Whether any connection is open."""
        return not self._connections.is_empty

    def close(self) -> None:
        """Close every connection and wake their users. Callable from any thread."""
        self.is_closed = True
        for connection in self._connections.close():
            connection.hang_up()
        _tidy(self._connections)

    def _asked(self, connection: Connection, asked: Asked, waits: Waits) -> Connection:
        try:
            if connection.is_new:
                connection.open(waits)
            connection.ask(asked, waits)
        except BaseException:
            self.give(connection)
            raise
        return connection

    def _take(self, route: Route, waits: Waits, *, new: bool = False) -> Connection:
        pool = self._connections
        waiter: Waiter | None = None
        line: _Line | None = None
        bell: SimpleQueue[None] | None = None
        try:
            while True:
                connection = pool.take(route, waiter, new=new)
                _tidy(pool)
                if connection is not None:
                    if connection.is_new or connection.look():
                        return connection
                    waiter = None  # it was served
                    pool.give(connection)
                elif waiter is None or line is None or bell is None:
                    line, bell = _Line(waits), SimpleQueue[None]()  # all C: no signal can break it
                    waiter = pool.queue(partial(bell.put, None))
                else:
                    try:
                        bell.get(timeout=line.left())
                    except Empty:
                        pass
        except PoolClosedError:
            raise failures.ReadError("the client was closed") from None
        finally:
            if waiter is not None:
                pool.leave(waiter)


class AsyncNetwork(_Network):
    """The connections of an async client, separate for each event loop."""

    bounds_each_wait: ClassVar[bool] = True

    _by_loop: dict[object, tuple[ModuleType, Pool[Route, AsyncConnection]]]

    def _start(self) -> None:
        self._by_loop = {}

    def _all(self) -> list[Connection | AsyncConnection]:
        return [c for _, pool in list(self._by_loop.values()) for c in pool.everything()]

    async def send(self, asked: Asked, waits: Waits) -> AsyncConnection:
        """Send a request; return its connection once the head of the response has arrived.

        Sends again as `Network.send` does.
        """
        net, pool = self._here()
        connection = await self._take(net, pool, asked.url, waits)
        if not connection.is_new:
            try:
                return await self._asked(pool, connection, asked, waits)
            except (failures.ReadError, failures.RemoteProtocolError):
                if connection.has_heard or not asked.is_repeatable or self.is_closed:
                    raise
                log.debug(_AGAIN)
            connection = await self._take(net, pool, asked.url, waits, new=True)
        return await self._asked(pool, connection, asked, waits)

    def give(self, connection: AsyncConnection) -> None:
        """Give a connection back; it is closed unless its response was read to the end."""
        connection.pool.give(connection)
        _tidy(connection.pool)

    @property
    def in_use(self) -> bool:
        """Whether any connection is open, in any event loop."""
        return any(not pool.is_empty for _, pool in list(self._by_loop.values()))

    def close(self) -> None:
        """Close every connection in every event loop and wake their users. For any thread."""
        self.is_closed = True
        for _, pool in list(self._by_loop.values()):
            for connection in pool.close():
                connection.hang_up()
            _tidy(pool)

    async def aclose(self) -> None:
        """Close every connection; nothing is waited for."""
        self.close()

    def _here(self) -> tuple[ModuleType, Pool[Route, AsyncConnection]]:
        """Return the pool of this event loop, and drop the pools of loops that ended."""
        net, loop = _running()
        known = self._by_loop.get(loop)
        if known is None:
            self._let_go_of_the_ended()
            pool = self._pool(
                lambda route, key: AsyncConnection(route, key, self._trusted, net, pool)
            )
            pool.closed = self.is_closed
            known = self._by_loop[loop] = net, pool
        return known

    def _let_go_of_the_ended(self) -> None:
        for loop, (net, _) in list(self._by_loop.items()):  # other threads have their own loops
            if net.has_ended(loop) and (ended := self._by_loop.pop(loop, None)):
                for connection in ended[1].close():
                    connection.shut()
                _tidy(ended[1])

    async def _asked(
        self,
        pool: Pool[Route, AsyncConnection],
        connection: AsyncConnection,
        asked: Asked,
        waits: Waits,
    ) -> AsyncConnection:
        try:
            if connection.is_new:
                await connection.open(waits)
            await connection.ask(asked, waits)
        except BaseException:
            pool.give(connection)
            _tidy(pool)
            raise
        return connection

    async def _take(
        self,
        net: Any,
        pool: Pool[Route, AsyncConnection],
        route: Route,
        waits: Waits,
        *,
        new: bool = False,
    ) -> AsyncConnection:
        waiter: Waiter | None = None
        line: _Line | None = None
        bell: Any = None
        try:
            while True:
                connection = pool.take(route, waiter, new=new)
                _tidy(pool)
                if connection is not None:
                    if connection.is_new or connection.look():
                        return connection
                    waiter = None  # it was served
                    pool.give(connection)
                elif waiter is None or line is None:
                    line, bell = _Line(waits), net.Bell()
                    waiter = pool.queue(bell.ring)
                else:
                    await bell.wait(line.left())
        except PoolClosedError:
            raise failures.ReadError("the client was closed") from None
        finally:
            if waiter is not None:
                pool.leave(waiter)


def say_when_left(owner: object, network: Network | AsyncNetwork, cure: str) -> None:
    """Close connections that nobody closed, once their owner is garbage, and say so.

    What is to be closed must not hang on the owner, or it might be garbage before it.
    """
    finalize(owner, _close_left, network, cure)


def _close_left(network: Network | AsyncNetwork, cure: str) -> None:
    if close_from_outside(network):
        warnings.warn(
            f"a client was left open: {cure}, or use it as a context manager",
            ResourceWarning,
            stacklevel=2,
            source=network,
        )


def close_from_outside(network: Network | AsyncNetwork) -> bool:
    """Close connections wherever this runs; tell whether there were any."""
    was_used = network.in_use and not network.is_closed
    network.close()
    return was_used


def _tidy(pool: Pool[Route, Any]) -> None:
    """Close the connections that a pool dropped."""
    while pool.gone:
        try:
            pool.gone.popleft().shut()
        except IndexError:  # another thread was faster
            return


def _running() -> tuple[ModuleType, object]:
    """Return the module for the kind of event loop that runs here, and the loop.

    This loads no async library, because one must be loaded already. trio is checked first, because
    it may run inside asyncio.
    """
    if "trio" in sys.modules:
        on_trio = net_for("trio")
        try:
            return on_trio, on_trio.running_loop()
        except RuntimeError:
            pass
    on_asyncio = net_for("asyncio")
    return on_asyncio, on_asyncio.running_loop()


def net_for(library: str) -> ModuleType:
    """Return the module for one kind of event loop."""
    if library not in _NETS:
        with no_fork():
            if library == "trio":
                from . import on_trio

                _NETS[library] = on_trio
            else:
                from . import on_asyncio

                _NETS[library] = on_asyncio
    return _NETS[library]


_NETS: dict[str, ModuleType] = {}


_ALL: WeakSet[_Network] = WeakSet()


def _after_fork() -> None:
    for network in list(_ALL):
        network.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
