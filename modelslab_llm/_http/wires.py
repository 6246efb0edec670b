"""Choose how a client sends requests: with the caller's HTTP client, or on our own connections.

Our own connections do not need httpx, and loading it would add a quarter to a cold start. But if
the program has loaded httpx or httpcore, a mock or a tracer may be installed and must see each
request. Requests then go through an httpx client on the same connections.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._forks import no_fork
from .._protocol.values import Request
from ..errors import ConfigurationError
from .libraries import is_client
from .network import AsyncNetwork, Network, Settings, close_from_outside, say_when_left
from .own_wire import asend, check_open, send
from .pace import Pace
from .wire import AsyncHTTPClient, AsyncIncoming, AsyncWire, HTTPClient, Incoming, Wire

if TYPE_CHECKING:
    from .httpx_wire import AsyncHttpxWire, HttpxWire


def wire_of(http: HTTPClient | None) -> Wire:
    """Return the wire over the caller's client, or over our own connections.

    Raises `ConfigurationError` for anything else, and for unusable proxies of the environment.
    """
    if http is None:
        return DefaultWire()
    if not is_client(http, "Client"):
        raise ConfigurationError(
            "http_client must be an httpx.Client or an httpx2.Client; for async use AsyncModelsLab"
        )
    with no_fork():
        from .httpx_wire import HttpxWire

    return HttpxWire(http)


def awire_of(http: AsyncHTTPClient | None) -> AsyncWire:
    """Return the wire over the caller's client, or over our own connections; see `wire_of`."""
    if http is None:
        return AsyncDefaultWire()
    if not is_client(http, "AsyncClient"):
        raise ConfigurationError(
            "http_client must be an httpx.AsyncClient or an httpx2.AsyncClient; for sync use "
            "ModelsLab"
        )
    with no_fork():
        from .httpx_wire import AsyncHttpxWire

    return AsyncHttpxWire(http)


class DefaultWire:
    """A `Wire` over our own connections."""

    def __init__(self) -> None:
        self.network: Network = Network(Settings())
        self.has_heard = False
        self._by_httpx: HttpxWire | None = None
        say_when_left(self, self.network, "call close()")

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed."""
        return self.network.is_closed

    def send(self, request: Request, pace: Pace) -> Incoming:
        """Send a request; see `Wire`."""
        check_open(self.network)
        incoming: Incoming
        if may_be_wrapped():
            incoming = self.by_httpx.send(request, pace)
        else:
            incoming = send(self.network, request, pace)
        self.has_heard = True
        return incoming

    @property
    def by_httpx(self) -> HttpxWire:
        """The same connections below a client of httpx's."""
        if self._by_httpx is None:  # a `cached_property` has a lock, which a fork may copy
            with no_fork():
                from .clients import DefaultHttpxClient
                from .httpx_wire import HttpxWire
                from .transports import PooledTransport

            transport = PooledTransport(self.network)
            self._by_httpx = HttpxWire(DefaultHttpxClient(transport=transport))
        return self._by_httpx

    def close(self) -> None:
        """Close the connections."""
        self.network.close()
        if self._by_httpx is not None:
            self._by_httpx.close()


class AsyncDefaultWire:
    """An `AsyncWire` over our own connections."""

    def __init__(self) -> None:
        self.network: AsyncNetwork = AsyncNetwork(Settings())
        self.has_heard = False
        self._by_httpx: AsyncHttpxWire | None = None
        say_when_left(self, self.network, "await close()")

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed."""
        return self.network.is_closed

    async def send(self, request: Request, pace: Pace) -> AsyncIncoming:
        """Send a request; see `Wire`."""
        check_open(self.network)
        incoming: AsyncIncoming
        if may_be_wrapped():
            incoming = await self.by_httpx.send(request, pace)
        else:
            incoming = await asend(self.network, request, pace)
        self.has_heard = True
        return incoming

    @property
    def by_httpx(self) -> AsyncHttpxWire:
        """The same connections below a client of httpx's."""
        if self._by_httpx is None:
            with no_fork():
                from .clients import DefaultAsyncHttpxClient
                from .httpx_wire import AsyncHttpxWire
                from .transports import AsyncPooledTransport

            transport = AsyncPooledTransport(self.network)
            self._by_httpx = AsyncHttpxWire(DefaultAsyncHttpxClient(transport=transport))
        return self._by_httpx

    async def aclose(self) -> None:
        """Close the connections."""
        self.network.close()
        if self._by_httpx is not None:
            await self._by_httpx.aclose()

    def close_from_outside(self) -> None:
        """Close the connections where no event loop runs."""
        close_from_outside(self.network)


def may_be_wrapped() -> bool:
    """Return whether a mock or a tracer may be installed, which needs a loaded target."""
    return "httpx" in sys.modules or "httpcore" in sys.modules
