"""Read the streams of one answer one after the other, sync and async side by side.

`_protocol/joining` decides what is delivered, and whether another stream is opened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from .._protocol.joining import Joining
from .._protocol.reader import Opened
from ..errors import APIError
from ..types.events import Event
from .drive import adrive, drive
from .wire import AsyncWire, Wire


def joined(joining: Joining, wire: Wire) -> Opened[Iterator[Event]]:
    """Open the first stream, and return what reads it and those that follow."""
    drive(joining.begin(), wire)
    first, message = joining.opened, joining.message
    events, close = _Events(joining, wire), partial(_close, joining)
    outer = Opened[Iterator[Event]](first.reader, events, close, message)
    joining.lend(outer)
    return outer


async def ajoined(joining: Joining, wire: AsyncWire) -> Opened[AsyncIterator[Event]]:
    """Open the first stream, and return what reads it and those that follow."""
    await adrive(joining.begin(), wire)
    first, message = joining.opened, joining.message
    events, close = _AsyncEvents(joining, wire), partial(_aclose, joining)
    outer = Opened[AsyncIterator[Event]](first.reader, events, close, message)
    joining.lend(outer)
    return outer


class _Events(Iterator[Event]):
    def __init__(self, joining: Joining, wire: Wire) -> None:
        self._joining = joining
        self._wire = wire

    def __next__(self) -> Event:
        while not self._joining.out:
            _raise_if_over(self._joining, StopIteration)
            self._read_on()
        return self._joining.out.popleft()

    def _read_on(self) -> None:
        joining = self._joining
        came = _next(joining.opened)
        if came is not None and not isinstance(came, APIError):
            joining.take(came)
        elif joining.went(came):
            drive(joining.go_on(), self._wire)
        if joining.over:
            joining.opened.close()


class _AsyncEvents(AsyncIterator[Event]):
    # No generator: one that is left early needs closing.
    def __init__(self, joining: Joining, wire: AsyncWire) -> None:
        self._joining = joining
        self._wire = wire

    async def __anext__(self) -> Event:
        while not self._joining.out:
            _raise_if_over(self._joining, StopAsyncIteration)
            await self._read_on()
        return self._joining.out.popleft()

    async def _read_on(self) -> None:
        joining = self._joining
        came = await _anext(joining.opened)
        if came is not None and not isinstance(came, APIError):
            joining.take(came)
        elif joining.went(came):
            await adrive(joining.go_on(), self._wire)
        if joining.over:
            await joining.opened.close()


def _raise_if_over(joining: Joining, end: type[Exception]) -> None:
    if joining.failure:
        raise joining.failure
    if joining.over:
        raise end


def _next(opened: Opened[Iterator[Event]]) -> Event | APIError | None:
    """Return the next event, or the end or error that came instead."""
    if opened.held:
        return opened.held.popleft()
    try:
        return next(opened.events, None)
    except APIError as error:
        return error


async def _anext(opened: Opened[AsyncIterator[Event]]) -> Event | APIError | None:
    if opened.held:
        return opened.held.popleft()
    try:
        return await opened.events.__anext__()
    except StopAsyncIteration:
        return None
    except APIError as error:
        return error


def _close(joining: Joining) -> Any:
    joining.closed = True
    joining.opened.close()


async def _aclose(joining: Joining) -> None:
    joining.closed = True
    await joining.opened.close()
