"""Read what comes in: whole answers into `Answer`, streams into `Opened`, sync and async alike.

What an answer means is decided in the protocol; here it is only read, within its bounds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress
from functools import partial

from .._protocol.headers import NEVER_KEPT
from .._protocol.reader import Opened, Reader
from .._protocol.refusals import request_id
from .._protocol.values import Answer, Attempt, Outcome
from ..errors import APIError, UnexpectedResponseError
from ..types.events import Event
from .foreign import foreign_is_ours
from .pace import Pace
from .wire import AsyncIncoming, Incoming

ERROR_PAGE = 1024 * 1024  # bytes read of an answer that says no; its first words are what counts
LOOK_AHEAD = 1024 * 1024  # bytes of a stream that are kept while looking for its first content


def read(incoming: Incoming, attempt: Attempt, pace: Pace) -> Outcome:
    """Return the outcome of an attempt: an opened stream, a complete answer, or a failure."""
    headers = _headers(incoming, attempt)
    if attempt.reader and 200 <= incoming.status < 300:
        return _opened(incoming, attempt.reader(incoming.status, headers), pace)
    body = _Body(incoming.status, headers, attempt)
    try:
        with foreign_is_ours(pace, "answer", incoming):
            for chunk in incoming.chunks():
                if not body.take(chunk):
                    break
    except APIError as error:
        return body.broken(error)
    finally:
        incoming.close()
    return body.answer()


async def aread(incoming: AsyncIncoming, attempt: Attempt, pace: Pace) -> Outcome:
    """Return the outcome of an attempt; `read` for async."""
    headers = _headers(incoming, attempt)
    if attempt.reader and 200 <= incoming.status < 300:
        return await _aopened(incoming, attempt.reader(incoming.status, headers), pace)
    body = _Body(incoming.status, headers, attempt)
    try:
        with foreign_is_ours(pace, "answer", incoming):
            async for chunk in incoming.chunks():
                if not body.take(chunk):
                    break
    except APIError as error:
        return body.broken(error)
    finally:
        await incoming.close()
    return body.answer()


def _opened(incoming: Incoming, reader: Reader, pace: Pace) -> Outcome:
    """Read a stream as far as its first content: until then it may be sent again."""
    events = _events(incoming, reader, pace)
    opened = Opened(reader, events, partial(_shut, events, incoming))
    try:
        for event in events:
            opened.hold(event)
            if _has_begun(reader):
                break
    except APIError as error:
        return opened.blame(error)
    return opened


async def _aopened(incoming: AsyncIncoming, reader: Reader, pace: Pace) -> Outcome:
    events = _aevents(incoming, reader, pace)
    opened = Opened(reader, events, partial(_ashut, events, incoming))
    try:
        async for event in events:
            opened.hold(event)
            if _has_begun(reader):
                break
    except APIError as error:
        return opened.blame(error)
    return opened


def _has_begun(reader: Reader) -> bool:
    return reader.message.has_content or reader.fed > LOOK_AHEAD


def _events(incoming: Incoming, reader: Reader, pace: Pace) -> Generator[Event]:
    """Yield a stream's events; close the answer when they end, however that is."""
    try:
        with foreign_is_ours(pace, "stream", incoming):
            for chunk in incoming.chunks():
                yield from reader.feed(chunk)
                if reader.message.complete:
                    incoming.finish()
                    return
                if pace.limited:
                    pace.look(reader)
        yield from reader.end()
    finally:
        incoming.close()


async def _aevents(incoming: AsyncIncoming, reader: Reader, pace: Pace) -> AsyncGenerator[Event]:
    try:
        with foreign_is_ours(pace, "stream", incoming):
            async for chunk in incoming.chunks():
                for event in reader.feed(chunk):
                    yield event
                if reader.message.complete:
                    await incoming.finish()
                    return
                if pace.limited:
                    pace.look(reader)
        for event in reader.end():
            yield event
    finally:
        await incoming.close()


def _shut(events: Generator[Event], incoming: Incoming) -> None:
    try:
        events.close()
    except ValueError:  # another thread is reading; woken, it closes the answer
        incoming.hang_up()
    else:
        incoming.close()


async def _ashut(events: AsyncGenerator[Event], incoming: AsyncIncoming) -> None:
    with suppress(RuntimeError):  # another task is reading
        await events.aclose()
    await incoming.close()


class _Body:
    """A body that is read whole: how much of it, and what it becomes."""

    def __init__(self, status: int, headers: Mapping[str, str], attempt: Attempt) -> None:
        self._status = status
        self._headers = headers
        self._ok = 200 <= status < 300
        self._limit = attempt.config.max_response_bytes if self._ok else ERROR_PAGE
        self._hide = attempt.config.hide_key
        self._bytes = bytearray()  # a list would cost far more than the bytes, if they drip in

    def take(self, chunk: bytes) -> bool:
        """Add a chunk; False if no more is wanted. Raises if an answer is too large."""
        if len(self._bytes) + len(chunk) > self._limit:
            if not self._ok:
                return False
            raise UnexpectedResponseError(
                f"the response has more than {self._limit} bytes (max_response_bytes)"
            )
        self._bytes += chunk
        return True

    def answer(self) -> Answer:
        return Answer(self._status, self._headers, bytes(self._bytes), self._hide)

    def broken(self, error: APIError) -> Answer | APIError:
        """Return what a body that broke off still tells: a refusal, or else the failure."""
        if not self._ok:
            return self.answer()
        error.request_id = error.request_id or request_id(self._headers)
        return error


def _headers(incoming: Incoming | AsyncIncoming, attempt: Attempt) -> dict[str, str]:
    hide = attempt.config.hide_key
    return {name: hide(value) for name, value in incoming.headers.items() if name not in NEVER_KEPT}
