"""Turn the bytes of a stream into typed events (protocol.md §6). Knows no transport, joins nothing.

httpx-sse reads the fields; this module cuts the bytes into whole events for it, bounds them, and
finds out what each one is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from .._forks import no_fork
from ..errors import APIError, StreamInterruptedError, UnexpectedResponseError
from ..types._base import tolerated
from ..types._json import is_object
from ..types._reading import read_json, whole
from ..types.events import Event, KnownEvent, PingEvent, UnknownEvent
from .halves import Halves
from .problems import first_problem
from .refusals import error_inside

if TYPE_CHECKING:
    import httpx
    import httpx_sse

_KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    }
)


LINES = 100_000
"""The most lines of one event; nearly every one has two."""
BLANK = b"\xef\xbb\xbf \r\n"
"""What a body may begin with whatever it is: a BOM, and lines that only keep a proxy waiting."""

# As numbers: `b"\n" in data` makes Python try the one as a number first, and word an error.
_LF, _CR = b"\n\r"
_WRONG_BYTE = "[\udc80-\udcff]"
_FIELD = rb"(event|data|id|retry)?:"


def is_called_stream(label: str) -> bool:
    """Tell whether a content type is that of a stream of events."""
    return "text/event-stream" in label.lower()


def is_stream(label: str, begun: bytes) -> bool | None:
    """Tell by its beginning, without what is `BLANK`, whether a body is a stream of events.

    None if that is too little. The label (its content type) decides only where the bytes could be
    either: gateways send streams as JSON or as plain text, and JSON as a stream.
    """
    if not begun:
        return None
    if is_called_stream(label):
        return not begun.startswith((b"{", b"[", b"<"))
    if re.match(_FIELD, begun):
        return True
    return None if len(begun) < 16 else False


def too_large(what: str, limit: int) -> StreamInterruptedError:
    """Return the error for what is larger than `limit` bytes, and would be again."""
    error = StreamInterruptedError(f"{what} has more than {limit} bytes (max_response_bytes)")
    error.permanent = True
    return error


class Translator(Protocol):
    """Makes the events of a message out of another format's."""

    def add(self, payload: Mapping[str, Any]) -> Iterator[Event] | None:
        """Return the events that one of theirs stands for; None for what is not one of theirs."""
        ...

    def end(self) -> Iterator[Event]:
        """Return the events that end the message, if it is whole."""
        ...


class EventDecoder:
    """Decode chunks as they come, however they are cut.

    `limit` is the most bytes one event may have; `failure` makes the error for an error event,
    `hide` takes the key out of what an error shows, `translator` reads a stream in another format.
    """

    def __init__(
        self,
        limit: int,
        failure: Callable[[object], APIError],
        hide: Callable[[str], str] = str,
        tolerated: Callable[[str], None] = tolerated,
        translator: Translator | None = None,
    ) -> None:
        self._tolerated = tolerated
        self._translator = translator
        self._limit = limit
        self._failure = failure
        self._hide = hide
        self._pending = bytearray()  # a list would cost far more than the bytes, if they drip in
        self._first = True
        self._halves = Halves()
        self.words: str = ""
        """The last data in words: should the message never be complete, they may say why."""

    def one(self, chunk: bytes) -> Event | None:
        """Return the event of a chunk that is just one of the usual form, as most chunks are.

        For any other return None, and take nothing of it.
        """
        usual = chunk.endswith(b"\n\n") and len(chunk) <= self._limit
        if self._pending or self._halves.held or not usual:
            return None
        return _usual(chunk[:-2])

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes."""
        if not self._pending and chunk.endswith(b"\n\n"):  # the usual cut: nothing to hold back
            return self._decode(chunk)
        # An event ends with a blank line, whose line ends may be cut from each other by the
        # chunks; of an earlier chunk its last byte is all that can matter.
        before = bytes(self._pending[-1:])
        seam = before + chunk
        cut = seam.rfind(b"\n\n")
        if _CR in seam:
            cut = max(cut, seam.rfind(b"\n\r"), seam.rfind(b"\r\r"))
        if cut < 0:
            self._hold(chunk)
            return iter(())
        cut += 2 - len(before)
        self._pending.extend(chunk[:cut])
        whole, self._pending = bytes(self._pending), bytearray()
        return self._decode_and_hold(whole, chunk[cut:])

    def end(self) -> Iterator[Event]:
        """Yield the event that the end of the body completes: its blank line may be missing."""
        whole, self._pending = bytes(self._pending), bytearray()
        if whole.strip():
            self._tolerated("the last event without its blank line")
            yield from self._decode(whole)
        yield from self._halves.rest()
        if self._translator:
            yield from self._translator.end()

    def _decode_and_hold(self, whole: bytes, rest: bytes) -> Iterator[Event]:
        yield from self._decode(whole)
        if rest:  # only now, as it may be too large: what came before it is not lost
            self._hold(rest)

    def _hold(self, chunk: bytes) -> None:
        self._pending.extend(chunk)
        self._check_size(len(self._pending))

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise too_large("one event of the stream", self._limit)

    def _decode(self, whole: bytes) -> Iterator[Event]:
        if self._first:
            whole = whole.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        if _CR in whole:
            whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
        frames = whole.split(b"\n\n")
        del whole  # it may be large, and is not needed while the events are read
        for frame in frames:
            if len(frame) > self._limit:
                self._check_size(len(frame))
            event = _usual(frame)
            if event is not None and not self._halves.held:
                yield event
            elif event is not None:
                yield from self._halves.settle(event)
            elif frame:
                yield from self._decode_unusual(frame)

    def _decode_unusual(self, frame: bytes) -> Iterator[Event]:
        if frame.count(b"\n") > LINES:  # as text each line would cost fifty bytes more
            raise self._broken("", f"has more than {LINES} lines")
        text, wrong = _decoded(frame)
        # A cast: it asks a response for no more than `_Text` has.
        source = cast("httpx.Response", _Text(text + "\n\n"))
        for event in _event_source()(source).iter_sse():
            data = event.data
            if self._translator and data:
                yield from self._translated(self._translator, event.event, data)
            elif data == "[DONE]":
                self._tolerated("[DONE], the end of a stream in another format")
            elif data:
                data, broken = wrong.subn("\ufffd", data) if wrong else (data, 0)
                found = self._read(event.event, data)
                if broken:
                    self._check_no_content(found, data)
                yield from self._halves.settle(found)

    def _translated(self, translator: Translator, name: str, data: str) -> Iterator[Event]:
        if data == "[DONE]":
            return translator.end()
        payload = whole(_payload(data))
        if name == "error" or error_inside(payload, in_stream=True):
            raise self._failure(data if payload is _NOT_JSON else payload)
        if not is_object(payload):
            return iter((self._read_words(name, data, "is not a JSON object"),))
        if (events := translator.add(payload)) is None:
            raise self._broken(data, "is not in the requested format")
        return events

    def _read(self, name: str, data: str) -> Event:
        try:
            return known_events().validate_json(data)
        except (ValidationError, UnicodeEncodeError) as error:
            reason = error
        # Outside the handler, so that no error carries this one, which quotes the whole event.
        return self._read_unusual(name, data, reason)

    def _read_unusual(self, name: str, data: str, reason: ValueError) -> Event:
        """Read what is not one of the usual events, which is not a matter of speed."""
        payload = _payload(data)
        if payload is _NOT_JSON:
            return self._read_words(name, data, "is not JSON")
        if name == "error" or error_inside(payload, in_stream=True):
            raise self._failure(whole(payload))
        if not is_object(payload):
            return self._read_words(name, data, "is not an object")
        fields = self._halves.cut(payload)
        if fields.get("type") in _KNOWN:
            return self._known(fields, data, f"does not match its type ({first_problem(reason)})")
        if name in _KNOWN:  # the type is said by the event line alone
            self._tolerated("an event with its type only on the event line")
            return self._known({**fields, "type": name}, data, "does not match its event line")
        if "choices" in fields:
            foreign = UnexpectedResponseError(
                "the stream is in the OpenAI format: use the base URL of the Messages format"
            )
            foreign.permanent = True
            raise foreign
        return UnknownEvent.model_validate(fields)

    def _known(self, fields: dict[str, Any], data: str, what: str) -> Event:
        try:
            return known_events().validate_python(fields)
        except ValidationError as error:
            why = first_problem(error)
        if fields["type"] == "ping":  # says nothing, in whichever form
            self._tolerated("a ping in another form")
            return PingEvent()
        raise self._broken(data, f"{what} ({why})")

    def _read_words(self, name: str, data: str, what: str) -> Event:
        """Read data that is not a JSON object: an error in words, or a sign of life.

        Content is always an object, so a frame that is not meant to carry any is not judged by it:
        a ping, an event of a name that is not the protocol's, and a bare word without a name.
        """
        if name == "error":
            raise self._failure(whole(data))
        if name not in _KNOWN - {"ping"} and (
            name not in ("", "message") or _is_a_word(self._hide(data))
        ):
            self._tolerated(f"a keep-alive whose data {what}")
            self.words = self._shown(data)
            return PingEvent()
        raise self._broken(data, what)

    def _check_no_content(self, event: Event, data: str) -> None:
        """Refuse a byte that is not UTF-8 in what the answer is made of."""
        if not isinstance(event, (PingEvent, UnknownEvent)):
            raise self._broken(data, "is not UTF-8")
        self._tolerated("a byte that is not UTF-8 in an event without content")

    def _broken(self, data: str, what: str) -> StreamInterruptedError:
        return StreamInterruptedError(f"the stream broke: an event {what}: {self._shown(data)!r}")

    def _shown(self, data: str) -> str:
        return self._hide(data[:5000].encode("utf-8", "replace").decode())[:80]


_NOT_JSON = object()


def _payload(data: str) -> object:
    # The error of the reader quotes all of the data, so it must not stay behind another one.
    try:
        return read_json(data)
    except ValueError:
        return _NOT_JSON


def _decoded(frame: bytes) -> tuple[str, re.Pattern[str] | None]:
    """Return a frame as text, and what its bytes that are not UTF-8 have become in it, if any are.

    Each half of a surrogate pair as three bytes (CESU-8) is what some Java servers write.
    """
    try:
        return frame.decode("utf-8", "surrogatepass"), None
    except UnicodeDecodeError:
        return frame.decode("utf-8", "surrogateescape"), re.compile(_WRONG_BYTE)


@cache
def _event_source() -> type[httpx_sse.EventSource]:
    # It loads httpx, which costs a short program more than the rest, and few streams need it.
    with no_fork():
        import httpx_sse

    return httpx_sse.EventSource


def _is_a_word(data: str) -> bool:
    """Tell whether data is too little to be a piece of JSON that was meant to carry content."""
    return len(data) <= 100 and not set(data.strip('"')) & set('{}[]"')


class _Text:
    """What `httpx_sse.EventSource` asks of a response: a content type and text."""

    headers = {"content-type": "text/event-stream"}

    def __init__(self, text: str) -> None:
        self._text = text

    def iter_text(self) -> tuple[str]:
        return (self._text,)


def _usual(frame: bytes) -> Event | None:
    """Read a frame if it is like nearly every frame of nearly every server.

    That is one event line and one data line of a known kind. Read here, and not by httpx-sse, it
    costs a third.
    """
    head, _, data = frame.partition(b"\ndata: ")
    if data and head.startswith(b"event: ") and _LF not in head and _LF not in data:
        try:
            return _from_json()(data)
        except ValidationError:
            pass
    return None


@cache
def known_events() -> TypeAdapter[Event]:
    """Return what reads an event of a kind that is known."""
    # Built at the first event: building costs more than importing the rest of the package.
    with no_fork():
        return TypeAdapter(KnownEvent)


@cache
def _from_json() -> Callable[[bytes], Event]:
    """Return what the adapter itself calls, which is one call less for each event."""
    return known_events().validator.validate_json
