"""Do what the exchange decides: wait, and send. `drive` and `adrive` stand side by side.

Every exception of the HTTP library ends here and leaves as one of ours; what it becomes is decided
in `foreign`, what is done about it in the exchange, and what comes in is read in `bodies`.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from .._protocol.values import Attempt, Outcome
from ..errors import APIError, ConfigurationError
from .bodies import aread, read
from .foreign import failure_of, foreign
from .pace import Pace
from .wire import AsyncWire, Wire

T = TypeVar("T")


def drive(flow: Generator[Attempt, Outcome, T], wire: Wire) -> T:
    """Run an exchange to its result."""
    with closing(flow):  # when interrupted too: the flow tells who watches the call
        attempt = next(flow)
        while True:
            if attempt.pause:
                time.sleep(attempt.pause)
            try:
                outcome = _outcome(wire, attempt)
            except ConfigurationError as error:  # in the certificates, which are read only now
                flow.throw(error)
                raise
            try:
                attempt = flow.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]


async def adrive(flow: Generator[Attempt, Outcome, T], wire: AsyncWire) -> T:
    """Run an exchange to its result; `drive` for async."""
    with closing(flow):
        attempt = next(flow)
        while True:
            if attempt.pause:
                import anyio  # where httpx is, so is anyio

                await anyio.sleep(attempt.pause)
            try:
                outcome = await _aoutcome(wire, attempt)
            except ConfigurationError as error:  # in the certificates, which are read only now
                flow.throw(error)
                raise
            try:
                attempt = flow.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]


def _outcome(wire: Wire, attempt: Attempt) -> Outcome:
    if attempt.place and (stopped := attempt.place.wait(attempt.until)):
        return stopped
    attempt.starts()
    return _send(wire, attempt)


async def _aoutcome(wire: AsyncWire, attempt: Attempt) -> Outcome:
    if attempt.place and (stopped := await attempt.place.await_turn(attempt.until)):
        return stopped
    attempt.starts()
    return await _asend(wire, attempt)


def _send(wire: Wire, attempt: Attempt) -> Outcome:
    pace = Pace(attempt, has_heard=wire.has_heard)
    try:
        incoming = wire.send(attempt.request, pace)
    except foreign() as error:
        return failure_of(error, pace, "sending", wire)
    except APIError as error:
        return error
    return read(incoming, attempt, pace)


async def _asend(wire: AsyncWire, attempt: Attempt) -> Outcome:
    pace = Pace(attempt, has_heard=wire.has_heard)
    try:
        incoming = await wire.send(attempt.request, pace)
    except foreign() as error:
        return failure_of(error, pace, "sending", wire)
    except APIError as error:
        return error
    return await aread(incoming, attempt, pace)
