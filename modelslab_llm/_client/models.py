"""`client.models`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time

from .._hints import HintsAtNames, hint
from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol.config import Config
from .._protocol.models import all_models
from .._protocol.spec import StaysInProcess
from ..types.models import ModelList
from .hinting import ahinting, hinting


def _refuse(params: dict[str, object]) -> None:
    for name in params:
        cure = hint("list", name) or "it takes none"
        raise TypeError(f"models.list() has no parameter {name!r}: {cure}")


class Models(StaysInProcess, HintsAtNames):
    """The models operations of a `ModelsLab`."""

    def __init__(self, config: Config, http: Wire) -> None:
        self._config = config
        self._http = http

    @hinting(_refuse)
    def list(self) -> ModelList:
        """List all models that the server has, page after page.

        Returns:
            A sequence of `ModelInfo`, with the `context_window` in tokens if the server reports it.

        Raises:
            APIError: No usable response.
            TypeError: Any argument: the method takes none.
        """
        return drive(all_models(self._config, time.monotonic), self._http)


class AsyncModels(StaysInProcess, HintsAtNames):
    """The models operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    @ahinting(_refuse)
    async def list(self) -> ModelList:
        """List all models that the server has, page after page.

        Returns:
            A sequence of `ModelInfo`, with the `context_window` in tokens if the server reports it.

        Raises:
            APIError: No usable response.
            TypeError: Any argument: the method takes none.
        """
        return await adrive(all_models(self._config, time.monotonic), self._http)
