"""The HTTP clients that the package uses by itself: httpx's, on transports of the package's own.

They send what they are given, and know nothing of the protocol.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast
from weakref import finalize

import httpx

from .transport import CLOSED, LIMITS, AsyncPooledTransport, PooledTransport


def _close_when_left(http: httpx.Client | httpx.AsyncClient, cure: str) -> None:
    """Close the connections of a client that nobody closed, once it is garbage, and say so.

    What is to be closed must not hang on the client, or it might be garbage before it.
    """
    finalize(http, _close_left, _pooled(http), cure)


def _pooled(
    http: httpx.Client | httpx.AsyncClient,
) -> list[PooledTransport | AsyncPooledTransport]:
    known = cast("Any", http)
    transports = [known._transport, *known._mounts.values()]
    return [t for t in transports if isinstance(t, (PooledTransport, AsyncPooledTransport))]


def close_from_outside(http: httpx.AsyncClient) -> None:
    """Close the connections of an async client where no event loop runs, or another one."""
    for transport in _pooled(http):
        transport.close_if_left()


def _close_left(transports: list[PooledTransport | AsyncPooledTransport], cure: str) -> None:
    if left := [transport for transport in transports if transport.close_if_left()]:
        warnings.warn(
            f"a client was left open: {cure}, or use it as a context manager",
            ResourceWarning,
            stacklevel=2,
            source=left[0],
        )


_ADDS = frozenset({"auth", "base_url", "cookies", "event_hooks", "headers", "params"})


def _as_httpx_has_it(method: Callable[..., Any]) -> object:
    """Return a method to compare with; None if somebody wrapped it before this was imported."""
    return None if hasattr(method, "__wrapped__") else method


_SEND = _as_httpx_has_it(httpx.Client.send)
_ASEND = _as_httpx_has_it(httpx.AsyncClient.send)


def _adds_nothing(http: httpx.Client | httpx.AsyncClient, usual: object) -> bool:
    """Tell that nothing would be missed without `send`, which tracers put themselves around."""
    hooks = http.event_hooks
    return not (
        "send" in vars(http)
        or http.auth
        or http.params
        or http.cookies
        or hooks["request"]
        or hooks["response"]
        or http.headers.raw != usual
    )


class DefaultHttpxClient(httpx.Client):
    """The `httpx.Client` that `ModelsLab` uses by itself, to change one setting of it.

    `settings` are those of `httpx.Client`: `proxy`, `verify`, `limits`, `http2`, `mounts`, …. What
    differs are the limits (1000 connections, idle ones kept 30 seconds) and a pool whose cost
    does not grow with the square of the connections. Close it yourself, it is yours.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("limits", LIMITS)
        super().__init__(**settings)
        _close_when_left(self, "call close()")
        self._usual = None if settings.keys() & _ADDS else self.headers.raw

    # httpx makes its transports in these two, the ones for proxies of the environment included.
    # Should they ever go, its own transports are used: slower, and as correct.
    def _init_transport(self, *_: Any, **settings: Any) -> httpx.BaseTransport:
        return settings.pop("transport", None) or PooledTransport(**settings)

    def _init_proxy_transport(self, proxy: Any, *_: Any, **settings: Any) -> httpx.BaseTransport:
        return PooledTransport(proxy=proxy, **settings)

    @property
    def adds_nothing(self) -> bool:
        """Whether it has no header, parameter, cookie, hook or login to add to a request."""
        ours = type(self) is DefaultHttpxClient
        return ours and httpx.Client.send is _SEND and _adds_nothing(self, self._usual)

    def send_bare(self, request: httpx.Request) -> httpx.Response:
        """Send a request as it is; the body of the answer is not read, nothing is followed.

        It takes two thirds of the time of `send`, and no lock that a fork could find held.
        """
        if self.is_closed:
            raise RuntimeError(CLOSED)
        response = self._transport_for_url(request.url).handle_request(request)
        response.request = request
        return response


class DefaultAsyncHttpxClient(httpx.AsyncClient):
    """The `httpx.AsyncClient` that `AsyncModelsLab` uses; see `DefaultHttpxClient`."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("limits", LIMITS)
        super().__init__(**settings)
        _close_when_left(self, "await close()")
        self._usual = None if settings.keys() & _ADDS else self.headers.raw

    def _init_transport(self, *_: Any, **settings: Any) -> httpx.AsyncBaseTransport:
        return settings.pop("transport", None) or AsyncPooledTransport(**settings)

    def _init_proxy_transport(
        self, proxy: Any, *_: Any, **settings: Any
    ) -> httpx.AsyncBaseTransport:
        return AsyncPooledTransport(proxy=proxy, **settings)

    @property
    def adds_nothing(self) -> bool:
        """Whether it has no header, parameter, cookie, hook or login to add to a request."""
        ours = type(self) in (DefaultAsyncHttpxClient, DefaultAioHttpClient)
        return ours and httpx.AsyncClient.send is _ASEND and _adds_nothing(self, self._usual)

    async def send_bare(self, request: httpx.Request) -> httpx.Response:
        """Send a request as it is; see `DefaultHttpxClient`."""
        if self.is_closed:
            raise RuntimeError(CLOSED)
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        return response


class DefaultAioHttpClient(DefaultAsyncHttpxClient):
    """A `DefaultAsyncHttpxClient` on aiohttp's connections, which cost less in async programs.

    Needs the extra: `pip install modelslab-llm[aiohttp]`. For asyncio only, and HTTP/1.1 only.
    Pass it as `http_client=`, and close it yourself.
    """

    def _init_transport(self, *_: Any, **settings: Any) -> httpx.AsyncBaseTransport:
        return settings.pop("transport", None) or _aiohttp_transport(**settings)

    def _init_proxy_transport(
        self, proxy: Any, *_: Any, **settings: Any
    ) -> httpx.AsyncBaseTransport:
        return _aiohttp_transport(proxy=proxy, **settings)


def _aiohttp_transport(**settings: Any) -> httpx.AsyncBaseTransport:
    try:
        import httpx_aiohttp  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "DefaultAioHttpClient needs aiohttp: pip install 'modelslab-llm[aiohttp]'"
        ) from error
    return cast(
        "httpx.AsyncBaseTransport",
        cast("Any", httpx_aiohttp).AiohttpTransport(**settings),
    )
