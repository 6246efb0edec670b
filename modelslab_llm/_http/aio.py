"""Send over aiohttp's connections, for several event loops one after another: on asyncio only.

Decides only which of aiohttp's sessions a request goes through, how long a piece of the answer is
waited for, and what aiohttp's errors are called. Loaded only where the extra is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import lru_cache
from io import BytesIO
from typing import Any, ClassVar
from weakref import ref

import aiohttp
from yarl import URL

from . import failures
from .connection import Asked, Waits
from .http1 import Head, Headers, text_of
from .network import Settings, Ways
from .on_asyncio import Loop, Timed, has_ended
from .opening import Route, in_url
from .private import limit_no_reads

WHOLE = 1024 * 1024  # bytes of a body that aiohttp takes in one piece without a warning

_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add to the headers of a request, which are complete."""


class AioNetwork(Ways):
    """The connections of an async client, as aiohttp keeps them: a session for each event loop."""

    bounds_each_wait: ClassVar[bool] = False  # of a head that drips in, aiohttp bounds each drop

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._sessions: dict[Loop, aiohttp.ClientSession] = {}
        self._keepers: dict[Loop, AsyncGenerator[None, None]] = {}

    async def send(self, asked: Asked, waits: Waits) -> AioConnection:
        """Send a request; return its connection once the head of the response has arrived."""
        session = await self._here()
        route = asked.url
        try:
            response = await session.request(
                asked.method.decode("ascii"),
                _url(route, asked.target),
                headers=_texts(asked.headers),
                data=_data(asked.body),
                allow_redirects=False,
                timeout=_timeout(
                    waits.seconds("pool"), waits.seconds("connect"), waits.seconds("read")
                ),
                **_by_proxy(route),
            )
        except Exception as error:
            failure = _renamed(error)
            if failure is None:
                raise
        else:
            return AioConnection(response)
        raise failure  # outside of the block, so that nothing leads back to what it was

    def give(self, connection: AioConnection) -> None:
        """Take a connection back; it is closed unless its response was read to the end."""
        connection.hang_up()

    async def aclose(self) -> None:
        """Close the connections of this event loop and wake their users."""
        self.is_closed = True
        if keeper := self._keepers.pop(asyncio.get_running_loop(), None):
            await keeper.aclose()

    async def _here(self) -> aiohttp.ClientSession:
        """Return the session of this event loop, and drop those of loops that ended."""
        if self.is_closed:
            raise failures.ReadError("the client was closed")
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for ended in filter(has_ended, list(self._sessions)):
                self._sessions.pop(ended, None)
                self._keepers.pop(ended, None)
            session = self._sessions[loop] = self._session()
            self._keepers[loop] = keeper = self._keep(loop)
            await keeper.__anext__()
        return session

    def _session(self) -> aiohttp.ClientSession:
        limits = self._settings.limits
        connector = aiohttp.TCPConnector(
            limit=limits.max_connections or 0,  # without a limit
            keepalive_timeout=limits.keepalive_expiry,
            ssl=self.context,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # a client serves many users
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
        )

    async def _keep(self, loop: Loop) -> AsyncGenerator[None, None]:
        """Close the connections of a loop as it ends: asyncio ends all generators then."""
        try:
            yield
        finally:
            if session := self._sessions.pop(loop, None):
                await session.close()


@lru_cache(maxsize=64)
def _url(route: Route, target: bytes) -> URL:
    url = target.decode("ascii")
    if not route.forwards:  # to a proxy that forwards, the target is the whole URL
        url = f"{route.origin}{url}"
    return URL(url, encoded=True)


def _texts(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("ascii"), text_of(value)) for name, value in headers]


def _data(body: Any) -> Any:
    """Return what aiohttp takes for a body."""
    if not isinstance(body, bytes):
        return body
    return BytesIO(body) if len(body) > WHOLE else body or None


@lru_cache(maxsize=16)
def _timeout(
    pool: float | None, connect: float | None, read: float | None
) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool, sock_connect=connect, sock_read=read)


def _by_proxy(route: Route) -> dict[str, Any]:
    """Return what aiohttp is told of the proxy that stands before a server."""
    proxy = route.proxy
    if proxy is None:
        return {}
    if proxy.is_socks:
        raise failures.ProxyError("aiohttp does not speak SOCKS")
    told: dict[str, Any] = {"proxy": f"{proxy.scheme}://{in_url(proxy.host)}:{proxy.port}"}
    if not route.forwards:  # else they are among the headers of the request
        told["proxy_headers"] = dict(_texts(proxy.own_headers()))
    return told


class AioConnection:
    """A response of aiohttp's, read within limits of time as one of our own connections is."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._clock = _Clock(asyncio.get_running_loop(), self)
        self._is_waiting = False
        self._is_late = False
        self.head: Head = _head(response)
        """The head of the response."""
        limit_no_reads(response)

    async def read(self, waits: Waits) -> bytes:
        """Return the next piece of the body, whatever has arrived; b"" at its end."""
        self._clock.limit(waits.seconds("read"))
        self._is_waiting = True
        try:
            return await self._response.content.readany()
        except RuntimeError as error:  # what aiohttp says of a connection that is gone
            failure: Exception = failures.ReadError(str(error))
        except Exception as error:
            renamed = _renamed(error)
            if renamed is None:
                raise
            failure = renamed
        finally:
            self._is_waiting = False
        raise failures.ReadTimeout("timed out") if self._is_late else failure

    def too_late(self) -> None:
        """Wake whoever waits: the time is up."""
        if self._is_waiting:
            self._is_late = True
            self._response.close()

    def hang_up(self) -> None:
        """Wake whoever reads. The connection is closed unless its response was read to the end."""
        self._clock.stop_timer()
        self._response.close()

    def about(self, info: str) -> Any:
        """Return what httpx's `network_stream` says about a connection."""
        names = {"client_addr": "sockname", "server_addr": "peername"}
        connection = self._response.connection
        transport = None if connection is None else connection.transport
        return None if transport is None else transport.get_extra_info(names.get(info, info))


class _Clock(Timed):
    """The timer of a connection, which does not keep that from being noticed as garbage."""

    __slots__ = ("_connection",)

    def __init__(self, loop: Loop, connection: AioConnection) -> None:
        super().__init__(loop)
        self._connection = ref(connection)

    def too_late(self) -> None:
        if connection := self._connection():
            connection.too_late()


def _head(response: aiohttp.ClientResponse) -> Head:
    raw = list(response.raw_headers)
    version = response.version or aiohttp.HttpVersion11
    return Head(
        response.status,
        (response.reason or "").encode("utf-8", "surrogateescape"),
        b"HTTP/%d.%d" % version,
        raw,
        [(name.lower(), value) for name, value in raw],
    )


def _renamed(error: Exception) -> Exception | None:
    """Return what httpcore would raise for an error of aiohttp's; None for any other error.

    Some of aiohttp's errors hold the request with its headers, and so the key.
    """
    name = _name_of(error)
    if name is None:
        return None
    renamed: Exception = getattr(failures, name)(str(getattr(error, "message", "") or error))
    if not hasattr(error, "request_info"):
        renamed.__cause__ = error
    return renamed


_NAMES = {
    "ConnectionTimeoutError": "ConnectTimeout",
    "SocketTimeoutError": "ReadTimeout",
    "ServerTimeoutError": "ReadTimeout",
    "ClientProxyConnectionError": "ProxyError",
    "ClientHttpProxyError": "ProxyError",
    "ClientConnectorError": "ConnectError",
    "InvalidURL": "UnsupportedProtocol",
    "ClientResponseError": "RemoteProtocolError",
    "ClientError": "ReadError",
    "HttpProcessingError": "RemoteProtocolError",
}


def _name_of(error: Exception) -> str | None:
    for kind in type(error).__mro__:
        if kind.__module__.partition(".")[0] == "aiohttp" and kind.__name__ in _NAMES:
            return _NAMES[kind.__name__]
    return None
