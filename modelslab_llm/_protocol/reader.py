"""Read the response to a stream request: from bytes to events to a message.

Pure: the caller feeds the bytes. Nothing here names an HTTP library.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from ..errors import APIError, StreamInterruptedError, UnexpectedResponseError
from ..observers import Outcome
from ..types._base import telling_once
from ..types.call_info import CallInfo
from ..types.events import Event, PingEvent
from ..types.message import Message
from .accumulate import Accumulator
from .replay import replay
from .sse import BLANK, EventDecoder, Translator, is_called_stream, is_stream, too_large

WEIGH = 4 * 1024 * 1024  # bytes of a stream between two checks of the message's size

Events = TypeVar("Events", bound="Iterator[Event] | AsyncIterator[Event]")


class Reader:
    """Read the response to a stream request into events, and accumulate the message.

    `label` is its content type, which may be wrong (protocol.md §6.9). Anything that looks like a
    stream is read as one; anything else is read by `whole` as a message, whose events come at once.
    """

    def __init__(
        self,
        model: str,
        limit: int,
        failure: Callable[[object], APIError],
        hide: Callable[[str], str] = str,
        *,
        label: str = "text/event-stream",
        whole: Callable[[bytes], Message] = Message.model_validate_json,
        request_id: str | None = None,
        translator: Translator | None = None,
        status: int = 200,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.status = status
        self.headers = headers
        self._tolerated = telling_once(request_id)
        self._decoder = EventDecoder(limit, failure, hide, self._tolerated, translator)
        self._limit = limit
        self._label = label
        self._whole = whole
        self.request_id: str | None = request_id
        self._is_stream: bool | None = None
        self._begun = bytearray()
        self._weighed = 0
        self.fed: int = 0
        """Bytes received so far."""
        self.message: Accumulator = Accumulator(model, self._tolerated, request_id)
        self.moved: bool = False
        """Whether anything except pings has arrived since this was last set to False."""

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """Return the events a chunk completes, up to the end of the message."""
        self.fed += len(chunk)
        if self.fed - self._weighed > WEIGH:
            self._weighed = self.fed
            if self.message.weigh() > self._limit:
                raise too_large("the message", self._limit)
        if not self._is_stream:
            chunk = self._look(chunk)
        event = self._decoder.one(chunk)
        if event is None:
            return self._several(chunk)
        self._take(event)
        return (event,)

    def _several(self, chunk: bytes) -> Iterator[Event]:
        if self.message.complete:
            return
        for event in self._decoder.feed(chunk):
            self._take(event)
            yield event
            if self.message.complete:
                return

    def _take(self, event: Event) -> None:
        self.message.add(event)
        if not isinstance(event, PingEvent):
            self.moved = True

    def end(self) -> Iterator[Event]:
        """Yield the events that the end of the body completes; raise if the message is not."""
        if not self._is_stream and (self._begun or not is_called_stream(self._label)):
            message = self._whole(bytes(self._begun))
            self._tolerated("a complete message in response to a stream request")
            rest = replay(message)
        else:
            rest = self._decoder.end()
        try:
            for event in rest:
                self.message.add(event)
                yield event
        except StreamInterruptedError:
            if not self.message.stop_reason_seen:
                raise
            self._tolerated("the last event is truncated, after the stop_reason")
        if not self.message.complete:
            if not self.message.stop_reason_seen:
                words = self._decoder.words
                raise StreamInterruptedError(
                    "the stream ended before the message was complete: no stop_reason arrived"
                    + (f"; the server said {words!r}" if words else "")
                )
            self._tolerated("message_stop missing")
            self.message.finish()

    def _look(self, chunk: bytes) -> bytes:
        """Hold back bytes until it is clear that they are a stream; return what may be decoded."""
        if begun := chunk if self._begun else chunk.lstrip(BLANK):
            self._begun += begun
            self.moved = True
            if self._is_stream is None:
                self._is_stream = is_stream(self._label, bytes(self._begun))
        if not self._is_stream:
            if self.fed > self._limit:
                raise UnexpectedResponseError(
                    f"the response has more than {self._limit} bytes (max_response_bytes)"
                )
            return b""
        if not is_called_stream(self._label):
            self._tolerated("a stream with another content type")
        begun, self._begun = bytes(self._begun), bytearray()
        return begun


class Opened(Generic[Events]):
    """A stream whose answer has begun, and that will not be retried."""

    def __init__(
        self,
        reader: Reader,
        events: Events,
        close: Callable[[], Any],
        message: Accumulator | None = None,
    ) -> None:
        self.reader = reader
        self.message: Accumulator = message or reader.message
        """The events, as the caller sees them."""
        self.events = events
        self.close = close
        self.held: deque[Event] = deque()
        """Events read while looking for the first content."""
        self.first_event: float | None = None
        """When the first event came, on the clock of `time.monotonic`."""
        self.sign: Callable[[APIError], object] = lambda _: None
        """Adds the state of the call to an error."""
        self.describe: Callable[[Opened[Any]], CallInfo | None] = _unknown
        """Returns what is known of the call so far."""
        self.end: Callable[[Opened[Any], Outcome, APIError | None], None] = _no_end
        """Tells observers how the call ended; only the first time counts."""

    def hold(self, event: Event) -> None:
        """Keep an event for later; of consecutive pings, which can be many, keep only one."""
        self.first_event = self.first_event or time.monotonic()
        if not (
            self.held and isinstance(event, PingEvent) and isinstance(self.held[-1], PingEvent)
        ):
            self.held.append(event)

    @property
    def request_id(self) -> str | None:
        """The ID under which the server or its proxy knows the request."""
        return self.message.request_id

    def blame(self, error: APIError) -> APIError:
        """Return the error with everything known, including the partial message."""
        self.sign(error)
        error.request_id = error.request_id or self.request_id
        error.partial_message = self.snapshot()
        return error

    def snapshot(self) -> Message:
        """Return the message as received so far."""
        return self.message.message(self.describe(self))

    def close_ends(self) -> None:
        """Tell observers that nothing more will be read."""
        self.end(self, "complete" if self.message.complete else "left", None)


def _unknown(opened: Opened[Any]) -> None:
    """Return an empty description: the call was never sent."""


def _no_end(opened: Opened[Any], outcome: Outcome, error: APIError | None) -> None:
    """Tell nobody."""
