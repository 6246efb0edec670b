"""Our connections as httpx transports, for everything that goes through an httpx client.

They are `httpx.HTTPTransport`s whose requests go on to a pool of ours. So a replacement
(pytest-httpx, respx) or wrapper (OpenTelemetry) sees each request first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any
from weakref import ref

import httpcore
import httpx
from typing_extensions import Self

from .connection import Answered, Asked, Connection
from .network import AsyncWays, Network
from .pace import Phase, bounded, timeout_of
from .private import is_as_made, set_pool


class PooledTransport(httpx.HTTPTransport):
    """Send requests over our connections."""

    def __init__(self, network: Network) -> None:
        self.network: Network = network
        self._door = Door(self.network)
        set_pool(self, self._door)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection, and wake its users."""
        self._door.close()


class AsyncPooledTransport(httpx.AsyncHTTPTransport):
    """Send requests over our connections, from async code."""

    def __init__(self, network: AsyncWays) -> None:
        self.network = network
        self._door = AsyncDoor(self.network)
        set_pool(self, self._door)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, and wake its users."""
        await self._door.aclose()


class GivenWaits:
    """The timeouts of a request of httpx's, within the moment that its caller set."""

    def __init__(self, request: Any) -> None:  # httpcore's types of extensions have holes
        self._timeouts: dict[str, float | None] = request.extensions.get("timeout", {})

    def seconds(self, phase: Phase) -> float | None:
        """Return how long a wait may last; see `Waits`."""
        return bounded(self._timeouts.get(phase), timeout_of(phase))


def _asked(request: httpcore.Request, network: Network | AsyncWays) -> Asked:
    url = request.url
    route = network.route(url.scheme.decode(), url.host.decode(), url.port)
    target, headers = route.asked(request.url.target, list(request.headers))
    body: Any = request.stream
    if isinstance(body, httpx.ByteStream):
        body = b"".join(body)  # in one piece, so that it can be sent again
    return Asked(route, request.method, target, headers, body)


class NetworkStream(httpcore.NetworkStream):
    """The data of a connection for httpx's `network_stream`; it keeps none alive."""

    def __init__(self, connection: Connection | Answered) -> None:
        self._connection = ref(connection)

    def get_extra_info(self, info: str) -> Any:
        connection = self._connection()
        return None if connection is None else connection.about(info)

    def hang_up(self) -> None:
        """Wake the reader."""
        if connection := self._connection():
            connection.hang_up()


def _extensions(connection: Connection | Answered) -> dict[str, Any]:
    head = connection.head
    return {
        "http_version": head.http_version,
        "reason_phrase": head.reason,
        "network_stream": NetworkStream(connection),
    }


class Door:
    """What `httpx.HTTPTransport` takes for a pool of httpcore's."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._mocked: httpcore.ConnectionPool | None = None

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, or let a replacement of httpcore answer it."""
        if not is_as_made(httpcore.ConnectionPool.handle_request):
            return self._stand_in().handle_request(request)
        network = self._network
        waits = GivenWaits(request)
        connection = network.send(_asked(request, network), waits)
        return httpcore.Response(
            connection.head.status,
            headers=connection.head.headers,
            content=_Body(network, connection, waits),
            extensions=_extensions(connection),
        )

    def _stand_in(self) -> httpcore.ConnectionPool:
        """Return what a mock of httpcore's pool is a part of; what it lets through goes there."""
        if self._mocked is None:
            self._mocked = httpcore.ConnectionPool(ssl_context=self._network.context)
        return self._mocked

    def close(self) -> None:
        self._network.close()
        if self._mocked is not None:
            self._mocked.close()


class _Body:
    """A body, which gives its connection back when it is closed."""

    def __init__(self, network: Network, connection: Connection, waits: GivenWaits) -> None:
        self._network = network
        self._connection: Connection | None = connection
        self._waits = waits

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._read, b"")

    def _read(self) -> bytes:
        return b"" if self._connection is None else self._connection.read(self._waits)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.give(connection)


class AsyncDoor:
    """What `httpx.AsyncHTTPTransport` takes for a pool of httpcore's."""

    def __init__(self, network: AsyncWays) -> None:
        self._network = network
        self._mocked: httpcore.AsyncConnectionPool | None = None

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request; see `Door.handle_request`."""
        if not is_as_made(httpcore.AsyncConnectionPool.handle_async_request):
            return await self._stand_in().handle_async_request(request)
        network = self._network
        waits = GivenWaits(request)
        connection = await network.send(_asked(request, network), waits)
        return httpcore.Response(
            connection.head.status,
            headers=connection.head.headers,
            content=_AsyncBody(network, connection, waits),
            extensions=_extensions(connection),
        )

    def _stand_in(self) -> httpcore.AsyncConnectionPool:
        """Return what a mock of httpcore's pool is a part of; what it lets through goes there."""
        if self._mocked is None:
            self._mocked = httpcore.AsyncConnectionPool(ssl_context=self._network.context)
        return self._mocked

    async def aclose(self) -> None:
        await self._network.aclose()
        if self._mocked is not None:
            await self._mocked.aclose()


class _AsyncBody(AsyncIterator[bytes]):
    """A body, which gives its connection back when it is closed."""

    def __init__(self, network: AsyncWays, connection: Answered, waits: GivenWaits) -> None:
        self._network = network
        self._connection: Answered | None = connection
        self._waits = waits

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None or not (piece := await connection.read(self._waits)):
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.give(connection)
