"""What the resources of one client share: its configuration and its connections."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar, cast

from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol.config import Config
from .._protocol.exchange import exchange
from .._protocol.reader import Opened
from .._protocol.values import Call
from ..types.events import Event
from ..types.message import Message

T = TypeVar("T")


class Session:
    """What the parts of one client share: its configuration and its connections."""

    def __init__(self, config: Config, http: Wire) -> None:
        self.config = config
        self.http = http

    def open(self, call: Call[Message]) -> Opened[Iterator[Event]]:
        """Send a call that streams until its answer begins to come in."""
        return cast("Opened[Iterator[Event]]", self._send(call))

    def run(self, call: Call[T]) -> T:
        """Send a call that does not stream until it has its result."""
        return cast("T", self._send(call))

    def _send(self, call: Call[T]) -> T | Opened[Iterator[Event]]:
        flow = exchange(call, self.config, self.config.retry, time.monotonic)
        return drive(flow, self.http)


class AsyncSession:
    """`Session` for async."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self.config = config
        self.http = http

    async def open(self, call: Call[Message]) -> Opened[AsyncIterator[Event]]:
        """Send a call that streams until its answer begins to come in."""
        return cast("Opened[AsyncIterator[Event]]", await self._send(call))

    async def run(self, call: Call[T]) -> T:
        """Send a call that does not stream until it has its result."""
        return cast("T", await self._send(call))

    async def _send(self, call: Call[T]) -> T | Opened[AsyncIterator[Event]]:
        flow = exchange(call, self.config, self.config.retry, time.monotonic)
        return await adrive(flow, self.http)
