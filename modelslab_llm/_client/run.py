"""Run a call on a client's connections, sync and async. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from .._http.drive import adrive, drive
from .._http.join import ajoined, joined
from .._http.wire import AsyncWire, Wire
from .._protocol.exchange import exchange
from .._protocol.joining import Joining
from .._protocol.reader import Opened
from .._protocol.resume import Allowed
from .._protocol.values import Call, Deadline
from ..types.events import Event

T = TypeVar("T")


def run(call: Call[T], http: Wire) -> T:
    """Send a call until it has its result, or its stream has begun."""
    return drive(exchange(call, Deadline.of(call.config, time.monotonic)), http)


async def arun(call: Call[T], http: AsyncWire) -> T:
    """Send a call until it has its result, or its stream has begun."""
    return await adrive(exchange(call, Deadline.of(call.config, time.monotonic)), http)


def run_stream(
    call: Call[Opened[Iterator[Event]]], http: Wire, allowed: Allowed | None
) -> Opened[Iterator[Event]]:
    """Send a call until its stream has begun, which may then be continued as far as is allowed."""
    if allowed is None:
        return run(call, http)
    return joined(Joining(call, Deadline.of(call.config, time.monotonic), allowed), http)


async def arun_stream(
    call: Call[Opened[AsyncIterator[Event]]], http: AsyncWire, allowed: Allowed | None
) -> Opened[AsyncIterator[Event]]:
    """Send a call until its stream has begun, which may then be continued as far as is allowed."""
    if allowed is None:
        return await arun(call, http)
    return await ajoined(Joining(call, Deadline.of(call.config, time.monotonic), allowed), http)
