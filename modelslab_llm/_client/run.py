"""Run a call on a client's connections, sync and async. Nothing is decided here."""

from __future__ import annotations

import time
from typing import TypeVar

from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol.exchange import exchange
from .._protocol.values import Call, Deadline

T = TypeVar("T")


def run(call: Call[T], http: Wire) -> T:
    """Send a call until it has its result, or its stream has begun."""
    return drive(exchange(call, Deadline.of(call.config, time.monotonic)), http)


async def arun(call: Call[T], http: AsyncWire) -> T:
    """Send a call until it has its result, or its stream has begun."""
    return await adrive(exchange(call, Deadline.of(call.config, time.monotonic)), http)
