"""`client.models`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from .._hints import HintsAtNames, hint
from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol.config import Config
from .._protocol.models import all_models
from ..types.models import ModelList

P = ParamSpec("P")
R = TypeVar("R")


def _hinting(verb: Callable[P, R]) -> Callable[P, R]:
    """Say of a parameter that it does not take what to do instead; its signature stays true."""

    @wraps(verb)
    def called(*args: P.args, **params: P.kwargs) -> R:
        _refuse(params)
        return verb(*args, **params)

    return called


def _ahinting(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """`_hinting` for an async verb, which has to be seen to be one."""

    @wraps(verb)
    async def called(*args: P.args, **params: P.kwargs) -> R:
        _refuse(params)
        return await verb(*args, **params)

    return called


def _refuse(params: Iterable[str]) -> None:
    for name in params:
        cure = hint("list", name) or "it takes none"
        raise TypeError(f"models.list() has no parameter {name!r}: {cure}")


class Models(HintsAtNames):
    """The models operations of a `ModelsLab`."""

    def __init__(self, config: Config, http: Wire) -> None:
        self._config = config
        self._http = http

    @_hinting
    def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        return drive(all_models(self._config, time.monotonic), self._http)


class AsyncModels(HintsAtNames):
    """The models operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    @_ahinting
    async def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        return await adrive(all_models(self._config, time.monotonic), self._http)
