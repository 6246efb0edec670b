"""Build clients of this package on connections that were opened for them alone.

Nothing else is decided here: a client that is given connections leaves them open, these close them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from ..._client.client import AsyncModelsLab, ModelsLab
from ..._http.clients import DefaultAsyncHttpxClient, DefaultHttpxClient
from ..._protocol.config import Options
from ...endpoints import Endpoint

__all__ = ["async_client_on", "client_on"]


def client_on(
    settings: Mapping[str, Any], api_key: str, endpoint: Endpoint, **options: Unpack[Options]
) -> ModelsLab:
    """Return a client on connections of its own, with these settings of `httpx.Client`."""
    http = DefaultHttpxClient(**settings)
    client = ModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client


def async_client_on(
    settings: Mapping[str, Any], api_key: str, endpoint: Endpoint, **options: Unpack[Options]
) -> AsyncModelsLab:
    """Return a client on connections of its own; `client_on` for async."""
    http = DefaultAsyncHttpxClient(**settings)
    client = AsyncModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client
