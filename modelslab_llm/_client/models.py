"""`client.models`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time

from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol.config import Config
from .._protocol.models import all_models
from ..types.models import ModelList


class Models:
    """The models operations of a `ModelsLab`."""

    def __init__(self, config: Config, http: Wire) -> None:
        self._config = config
        self._http = http

    def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        return drive(all_models(self._config, time.monotonic), self._http)


class AsyncModels:
    """The models operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    async def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        return await adrive(all_models(self._config, time.monotonic), self._http)
