"""aiohttp's connections as a transport of httpx's, for several event loops one after another.

Decides only which of aiohttp's sessions a request goes through, and what its errors are called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import httpx

from .network import Settings
from .opening import PORTS, Proxies, Proxy


class AioTransport(httpx.AsyncBaseTransport):
    """Send requests over aiohttp's connections, those of each event loop apart."""

    def __init__(self, settings: Settings) -> None:
        try:
            import httpx_aiohttp  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                "DefaultAioHttpClient needs aiohttp: pip install 'modelslab-llm[aiohttp]'"
            ) from error
        self._kind: Any = cast("Any", httpx_aiohttp).AiohttpTransport
        self._settings = settings
        self._proxies = Proxies(settings.proxy, trust_env=settings.trust_env)
        self._by_loop: dict[object, dict[Proxy | None, httpx.AsyncBaseTransport]] = {}
        self._keepers: dict[object, AsyncGenerator[None, None]] = {}
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        transport = await self._here(request.url)
        try:
            response = await transport.handle_async_request(request)
        except Exception as error:
            failure = _renamed(error)
            if failure is None:
                raise
        else:
            if isinstance(response.stream, httpx.AsyncByteStream):
                response.stream = _Body(response.stream)
            return response
        raise failure  # outside of the block, so that nothing leads back to what it was

    async def _here(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        loop = asyncio.get_running_loop()
        transports = self._by_loop.get(loop)
        if transports is None:
            for ended in [known for known in list(self._by_loop) if _has_ended(known)]:
                self._by_loop.pop(ended, None)
                self._keepers.pop(ended, None)
            transports = self._by_loop[loop] = {}
            self._keepers[loop] = keeper = self._keep(loop)
            await keeper.__anext__()
        proxy = self._proxies.before(url.scheme, url.host, url.port or PORTS.get(url.scheme, 0))
        if proxy not in transports:
            transports[proxy] = self._kind(
                verify=self._settings.context(),
                limits=self._settings.limits,
                proxy=proxy and proxy.given,
            )
        return transports[proxy]

    async def _keep(self, loop: object) -> AsyncGenerator[None, None]:
        """Close the connections of a loop as it ends: asyncio ends all generators then."""
        try:
            yield
        finally:
            for transport in self._by_loop.pop(loop, {}).values():
                await transport.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        self.is_closed = True
        if keeper := self._keepers.pop(asyncio.get_running_loop(), None):
            await keeper.aclose()


class _Body(httpx.AsyncByteStream, AsyncIterator[bytes]):
    """A body whose errors are called by their name."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream
        self._source = aiter(stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._source.__anext__()
        except Exception as error:
            failure = _renamed(error)
            if failure is None:
                raise
        raise failure

    async def aclose(self) -> None:
        await self._stream.aclose()


def _renamed(error: Exception) -> Exception | None:
    """Return what httpx would raise for an error of aiohttp's; None for any other error.

    httpx-aiohttp takes any connection that cannot be made, or breaks, for one that took too long,
    and some of aiohttp's errors hold the request with its headers, and so the key.
    """
    behind = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    name = _name_of(behind)
    if name is None:
        return None
    renamed = cast("Exception", getattr(httpx, name)(_words(behind)))
    if not hasattr(behind, "request_info"):
        renamed.__cause__ = behind
    return renamed


def _words(error: BaseException | None) -> str:
    return str(getattr(error, "message", "") or error)


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


def _name_of(error: BaseException | None) -> str | None:
    """Return what httpx calls an error of aiohttp's; None for any other error."""
    for kind in type(error).__mro__:
        if kind.__module__.partition(".")[0] == "aiohttp" and kind.__name__ in _NAMES:
            return _NAMES[kind.__name__]
    return None


def _has_ended(loop: object) -> bool:
    return cast("asyncio.AbstractEventLoop", loop).is_closed()
