"""Choose what carries the requests of a client: the caller's own client, or our own connections."""

from __future__ import annotations

from .._forks import no_fork
from ..errors import ConfigurationError
from .libraries import is_client
from .own_wire import AsyncOwnWire, OwnWire
from .wire import AsyncHTTPClient, AsyncWire, HTTPClient, Wire


def wire_of(http: HTTPClient | None) -> Wire:
    """Return the wire over the caller's client, or over our own connections.

    Raises `ConfigurationError` for anything else, and for unusable proxies of the environment.
    """
    if http is None:
        return OwnWire()
    if not is_client(http, "Client"):
        raise ConfigurationError(
            "http_client must be an httpx.Client or an httpx2.Client; async has AsyncModelsLab"
        )
    with no_fork():
        from .httpx_wire import HttpxWire

    return HttpxWire(http)


def awire_of(http: AsyncHTTPClient | None) -> AsyncWire:
    """Return the wire over the caller's client, or over our own connections; see `wire_of`."""
    if http is None:
        return AsyncOwnWire()
    if not is_client(http, "AsyncClient"):
        raise ConfigurationError(
            "http_client must be an httpx.AsyncClient or an httpx2.AsyncClient; sync has ModelsLab"
        )
    with no_fork():
        from .httpx_wire import AsyncHttpxWire

    return AsyncHttpxWire(http)
