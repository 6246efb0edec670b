"""Build clients of this package on connections that were opened for them alone.

Nothing else is decided here: a client that is given connections leaves them open, these close them.
"""

from __future__ import annotations

from typing_extensions import Unpack

from .._client import AsyncModelsLab, ModelsLab
from .._config import Options
from .._http_clients import DefaultAsyncHttpxClient, DefaultHttpxClient
from ..endpoints import Endpoint

__all__ = ["async_client_on", "client_on"]


def client_on(
    http: DefaultHttpxClient, api_key: str, endpoint: Endpoint, **options: Unpack[Options]
) -> ModelsLab:
    """Return a client that closes `http` when it is closed."""
    client = ModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client


def async_client_on(
    http: DefaultAsyncHttpxClient, api_key: str, endpoint: Endpoint, **options: Unpack[Options]
) -> AsyncModelsLab:
    """Return a client that closes `http` when it is closed; `client_on` for async."""
    client = AsyncModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client
