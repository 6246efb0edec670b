"""`client.models`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time

from .._http.drive import adrive, drive
from .._protocol.exchange import all_models
from ..types.models import ModelList
from .session import AsyncSession, Session


class Models:
    """The models operations of a `ModelsLab`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        session = self._session
        flow = all_models(session.config, session.config.retry, time.monotonic)
        return drive(flow, session.http)


class AsyncModels:
    """The models operations of an `AsyncModelsLab`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        session = self._session
        flow = all_models(session.config, session.config.retry, time.monotonic)
        return await adrive(flow, session.http)
