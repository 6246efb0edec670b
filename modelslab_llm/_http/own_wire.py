"""Send over our own connections, or aiohttp's, without httpx, as long as nobody has wrapped them.

See `wires`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache, partial
from time import monotonic
from typing import Protocol

from .._forks import no_fork
from .._protocol.values import Request
from ..errors import APITimeoutError, ClientClosedError
from .connection import Answered, Asked, Connection
from .foreign import foreign_is_ignored
from .network import AsyncWays, Network
from .opening import PORTS
from .pace import Pace, Phase
from .requests import headers_of
from .unpack import aunpacked, unpacked

LAST_READS = 8
LAST_BYTES = 0.1  # seconds to wait for the end of the body, to keep the connection


class _Closable(Protocol):
    @property
    def is_closed(self) -> bool: ...


def check_open(connections: _Closable) -> None:
    """Raise if a client, or its connections, were closed."""
    if connections.is_closed:
        raise ClientClosedError(
            "this client is closed: create a new one, or make calls inside its with block"
        ) from None


def send(network: Network, request: Request, pace: Pace) -> OwnIncoming:
    """Send a request; see `Wire`."""
    return OwnIncoming(network, network.send(_asked(network, request), pace), pace)


async def asend(network: AsyncWays, request: Request, pace: Pace) -> OwnAsyncIncoming:
    """Send a request; see `AsyncWire`."""
    asked = _asked(network, request)
    if network.bounds_each_wait:
        connection = await network.send(asked, pace)
    else:
        connection = await pace.within(partial(network.send, asked, pace))
    return OwnAsyncIncoming(network, connection, pace)


def _asked(network: Network | AsyncWays, request: Request) -> Asked:
    scheme, host, port, netloc, target = parsed(request.url)
    headers = {"host": netloc, **headers_of(request)}  # the request's own host wins
    if request.content is not None:
        headers["content-length"] = str(len(request.content))
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    route = network.route(scheme, host, port)
    target, raw = route.asked(target, raw)
    return Asked(route, request.method.encode("ascii"), target, raw, request.content or b"")


_OCTET = r"(?:[1-9]?\d|1\d\d|2[0-4]\d|25[0-5])"
_PLAIN = (
    rf"(https?)://([a-z][a-z0-9._-]*|{_OCTET}(?:\.{_OCTET}){{3}})(?::([1-9]\d{{0,3}}|[1-5]\d{{4}}))?"
    r"(/|(?:/[\w~-][\w.~-]*)+)"
)
"""URLs that httpx does not change."""


@lru_cache(maxsize=64)
def parsed(url: str) -> tuple[str, str, int | None, str, bytes]:
    """Return the scheme, host, port, host header and target of a URL, as httpx reads it."""
    if plain := re.fullmatch(_PLAIN, url, re.ASCII):
        scheme, host, port, target = plain.groups()
        if port is None or PORTS[scheme] == int(port):
            return scheme, host, None, host, target.encode("ascii")
        return scheme, host, int(port), f"{host}:{port}", target.encode("ascii")
    with no_fork():
        import httpx  # handles international names and escaping

    read = httpx.URL(url)
    host = read.raw_host.decode("ascii")
    return read.scheme, host, read.port, read.netloc.decode("ascii"), read.raw_path


class _Shortly:
    """Waits for a short time only."""

    def __init__(self, seconds: float) -> None:
        self._until = monotonic() + seconds

    def seconds(self, phase: Phase) -> float | None:
        return max(0.001, self._until - monotonic())


class OwnIncoming:
    """A response over one of our own connections."""

    def __init__(self, network: Network, connection: Connection, pace: Pace) -> None:
        self._network = network
        self._connection: Connection | None = connection
        self._pace = pace
        self.status: int = connection.head.status
        self.headers: Mapping[str, str] = connection.head.by_name()

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed meanwhile."""
        return self._network.is_closed

    def chunks(self) -> Iterator[bytes]:
        """Return the body, decompressed, within the timeouts."""
        source = iter(self._read_in_time if self._pace.limited else self._read, b"")
        encoding = self.headers.get("content-encoding")
        return unpacked(source, encoding) if encoding else source

    def _read(self) -> bytes:
        connection = self._connection
        return b"" if connection is None else connection.read(self._pace)

    def _read_in_time(self) -> bytes:
        pace = self._pace
        pace.resume()
        pace.check()
        piece = self._read()
        pace.hold()
        return piece

    def finish(self) -> None:
        """Read what follows the message, briefly, so that the connection can be reused."""
        waits = _Shortly(LAST_BYTES)
        if (connection := self._connection) is not None:
            with foreign_is_ignored(APITimeoutError):
                for _ in range(LAST_READS):
                    if not connection.read(waits):
                        break

    def close(self) -> None:
        """Give the connection back; it is closed unless the response was read to the end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.give(connection)

    def hang_up(self) -> None:
        """Wake the thread that reads, and stop the server. Callable from any other thread."""
        if connection := self._connection:
            connection.hang_up()


class OwnAsyncIncoming(AsyncIterator[bytes]):
    """An async response over such a connection; it iterates over its own body."""

    def __init__(self, network: AsyncWays, connection: Answered, pace: Pace) -> None:
        self._network = network
        self._connection: Answered | None = connection
        self._pace = pace
        self.status: int = connection.head.status
        self.headers: Mapping[str, str] = connection.head.by_name()

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed meanwhile."""
        return self._network.is_closed

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body, decompressed, within the timeouts."""
        encoding = self.headers.get("content-encoding")
        return aunpacked(self, encoding) if encoding else self

    async def __anext__(self) -> bytes:
        connection, pace = self._connection, self._pace
        if connection is None:
            raise StopAsyncIteration
        if pace.limited:
            pace.resume()
            pace.check()
        piece = await connection.read(pace)
        if pace.limited:
            pace.hold()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def finish(self) -> None:
        """Read what follows the message, briefly, so that the connection can be reused."""
        waits = _Shortly(LAST_BYTES)
        if (connection := self._connection) is not None:
            with foreign_is_ignored():
                for _ in range(LAST_READS):
                    if not await connection.read(waits):
                        break

    async def close(self) -> None:
        """Give the connection back; it is closed unless the response was read to the end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.give(connection)
