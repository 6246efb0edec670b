"""The HTTP clients that the package uses by itself: httpx's, on connections of the package's own.

They send what they are given, and know nothing of the protocol.
"""

from __future__ import annotations

from typing import Any

import httpx

from ..errors import ConfigurationError
from .network import AsyncNetwork, Network, Settings, say_when_left
from .private import sends_by
from .transports import AsyncPooledTransport, PooledTransport

_NO_HTTP2 = (
    "http2=True: the package's own clients speak HTTP/1.1, so that leaving a stream stops the "
    "server;"
    " if that is not needed, pass your own httpx.Client(http2=True) as http_client"
)


def _settings(given: dict[str, Any]) -> Settings:
    """Take out what is about connections."""
    if given.pop("http2", False) or not given.pop("http1", True):
        raise ConfigurationError(_NO_HTTP2)
    names = ("verify", "cert", "limits", "proxy")
    found = {name: given.pop(name) for name in names if given.get(name) is not None}
    given.pop("proxy", None)
    return Settings(trust_env=given.get("trust_env", True), **found)


_ADDS = frozenset({"auth", "base_url", "cookies", "event_hooks", "headers", "params"})


def _adds_nothing(http: httpx.Client | httpx.AsyncClient, usual: object) -> bool:
    """Tell whether a client has no header, parameter, cookie, hook or login to add."""
    hooks = http.event_hooks
    return not (
        http.auth
        or http.params
        or http.cookies
        or hooks["request"]
        or hooks["response"]
        or http.headers.raw != usual
    )


class DefaultHttpxClient(httpx.Client):
    """The `httpx.Client` that `ModelsLab` uses by itself, to change one setting of it.

    `settings` are those of `httpx.Client`: `proxy`, `verify`, `limits`, `mounts`, `headers`, … What
    differs are the limits (1000 connections, idle ones kept 30 seconds) and the connections below:
    see the documentation. `http2` they do not speak. Close it yourself, it is yours.

    Args:
        keep_cookies: whether cookies that servers set are sent back, as sticky load balancers need;
            default False. The cookies are in `cookies`.
        settings: those of `httpx.Client`.

    Raises `ConfigurationError` for `http2=True` and for a `proxy` that is not one.
    """

    def __init__(self, *, keep_cookies: bool = False, **settings: Any) -> None:
        usual = not keep_cookies and not settings.keys() & _ADDS
        transport: Any = settings.get("transport")
        if transport is None:
            transport = settings["transport"] = PooledTransport(Network(_settings(settings)))
            say_when_left(self, transport.network, "call close()")
        is_ours = isinstance(transport, PooledTransport)
        self._transport_of_ours: PooledTransport | None = transport if is_ours else None
        super().__init__(**settings)
        self._usual = self.headers.raw if usual else None

    @property
    def network(self) -> Network | None:
        """Its connections; None if it was given a `transport`."""
        return None if self._transport_of_ours is None else self._transport_of_ours.network

    @property
    def transport_alone(self) -> PooledTransport | None:
        """Its transport, if the client does nothing to a request except send it."""
        transport = self._transport_of_ours
        if (
            transport is not None
            and type(self) is DefaultHttpxClient
            and sends_by(self, transport)
            and _adds_nothing(self, self._usual)
        ):
            return transport
        return None


class DefaultAsyncHttpxClient(httpx.AsyncClient):
    """The `httpx.AsyncClient` that `AsyncModelsLab` uses; see `DefaultHttpxClient`."""

    def __init__(self, *, keep_cookies: bool = False, **settings: Any) -> None:
        usual = not keep_cookies and not settings.keys() & _ADDS
        transport: Any = settings.get("transport")
        is_made = transport is None
        if is_made:
            transport = settings["transport"] = self._make_transport(_settings(settings))
        is_ours = isinstance(transport, AsyncPooledTransport)
        self._transport_of_ours: AsyncPooledTransport | None = transport if is_ours else None
        super().__init__(**settings)
        self._usual = self.headers.raw if usual else None
        if is_made and self.network is not None:  # aiohttp warns by itself
            say_when_left(self, self.network, "await close()")

    def _make_transport(self, settings: Settings) -> AsyncPooledTransport:
        return AsyncPooledTransport(AsyncNetwork(settings))

    @property
    def network(self) -> AsyncNetwork | None:
        """Its connections; None if they are not ours."""
        network = self._transport_of_ours and self._transport_of_ours.network
        return network if isinstance(network, AsyncNetwork) else None

    @property
    def transport_alone(self) -> AsyncPooledTransport | None:
        """Its transport; see `DefaultHttpxClient.transport_alone`."""
        transport = self._transport_of_ours
        if (
            transport is not None
            and type(self) in (DefaultAsyncHttpxClient, DefaultAioHttpClient)
            and sends_by(self, transport)
            and _adds_nothing(self, self._usual)
        ):
            return transport
        return None


# Where `inspect` and `help` find what the settings are: `__wrapped__`, as of a decorated function.
vars(DefaultHttpxClient.__init__)["__wrapped__"] = httpx.Client.__init__
vars(DefaultAsyncHttpxClient.__init__)["__wrapped__"] = httpx.AsyncClient.__init__


class DefaultAioHttpClient(DefaultAsyncHttpxClient):
    """A `DefaultAsyncHttpxClient` on aiohttp's connections, which cost less in async programs.

    Needs the extra: `pip install modelslab-llm[aiohttp]`. For asyncio only, and HTTP/1.1 only.
    Pass it as `http_client=`, and close it yourself.
    """

    def _make_transport(self, settings: Settings) -> AsyncPooledTransport:
        try:
            from .aio import AioNetwork  # loads asyncio and aiohttp
        except ImportError as error:
            raise ImportError(
                "DefaultAioHttpClient needs aiohttp: pip install 'modelslab-llm[aiohttp]'"
            ) from error
        return AsyncPooledTransport(AioNetwork(settings))
