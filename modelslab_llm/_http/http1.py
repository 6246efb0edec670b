"""Speak HTTP/1.1 on one connection, without a socket. Pure: bytes in and out.

h11 writes and reads heads, as strictly as it always does. Bodies are read here, everything that a
socket holds at once, because h11 makes several events of each chunk.

Nothing may be lost or left over unnoticed. `is_clean` means that the response was read to its end,
that both sides keep the connection open, and that no further byte has arrived. If anything is
interrupted in the middle, even between two instructions, it stays False.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import h11

from . import failures

Headers = list[tuple[bytes, bytes]]

MOST_HEAD = 100 * 1024  # maximum bytes of a head, as in httpcore
MOST_LINE = 16 * 1024  # maximum bytes of a chunk's size line, and of the trailers
MOST_EARLY = 100  # maximum responses such as "100 Continue" before the real one

State = Literal["idle", "asking", "answered", "done", "broken"]


class Head:
    """The status and headers of a response."""

    __slots__ = ("fields", "headers", "http_version", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, http_version: bytes, headers: Headers, fields: Headers
    ) -> None:
        self.status: int = status
        self.reason: bytes = reason
        self.http_version: bytes = http_version
        self.headers: Headers = headers
        """As the server spells them."""
        self.fields: Headers = fields
        """With lower-case names."""

    @classmethod
    def of(cls, event: h11.Response) -> Head:
        """Return the head that h11 has read."""
        version, names = b"HTTP/" + bytes(event.http_version), event.headers
        reason = bytes(event.reason)
        return cls(event.status_code, reason, version, names.raw_items(), list(names))

    def by_name(self) -> dict[str, str]:
        """Return the headers by their lower-case names; those with one name are joined."""
        found: dict[str, str] = {}
        for raw_name, raw_value in self.fields:
            name, value = raw_name.decode("ascii"), text_of(raw_value)
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


def text_of(value: bytes) -> str:
    """Return the value of a header as text."""
    try:
        return value.decode("utf-8")  # the few servers that send more than ASCII use it
    except UnicodeDecodeError:
        return value.decode("latin-1")


class Http1:
    """One connection: a request, its response, and possibly another."""

    def __init__(self) -> None:
        self.state: State = "idle"
        self.head: Head | None = None
        self.heard = False
        """Whether a byte has arrived since the request began."""
        self._rest = b""
        self._body: Length | Chunked | UntilEnd = Length(0)
        self._keeps = True
        self._method = b""
        self._early = 0
        self._h11 = h11.Connection(h11.CLIENT)

    def ask(self, method: bytes, target: bytes, headers: Headers) -> bytes:
        """Return the head of a request."""
        if self.state != "idle":
            raise RuntimeError(f"a request was made on a connection that is {self.state}")
        self.state = "broken"
        self.head, self.heard, self._early, self._method = None, False, 0, method
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD)
        try:
            sent = self._h11.send(h11.Request(method=method, target=target, headers=headers))
        except h11.LocalProtocolError as error:
            raise failures.LocalProtocolError(str(error)) from None
        self.state = "asking"
        return sent or b""

    def ask_more(self, data: bytes) -> bytes:
        """Return the bytes to send for the next part of the request's body."""
        return self._sent(h11.Data(data=data))

    def ask_no_more(self) -> bytes:
        """Return the bytes to send at the end of the request."""
        return self._sent(h11.EndOfMessage())

    def _sent(self, event: h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self._h11.send(event) or b""
        except h11.LocalProtocolError as error:
            self.state = "broken"
            raise failures.LocalProtocolError(str(error)) from None

    def hear(self, data: bytes) -> Head | None:
        """Take received bytes, b"" at the end; return the head of the response once complete."""
        self.state = "broken"
        if not data:
            raise failures.RemoteProtocolError("Server disconnected without sending a response.")
        self.heard = True
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
            while isinstance(event, h11.InformationalResponse):
                self._bear(event)
                event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise failures.RemoteProtocolError(str(error)) from None
        if isinstance(event, h11.Response):
            self._answered(event)
        else:
            self.state = "asking"
        return self.head

    def _bear(self, event: h11.InformationalResponse) -> None:
        self._early += 1
        if event.status_code == 101:
            raise failures.RemoteProtocolError(
                "the server switched to another protocol without being asked"
            )
        if self._early > MOST_EARLY:
            raise failures.RemoteProtocolError("the server sent only interim responses")

    def _answered(self, event: h11.Response) -> None:
        rest, _ = self._h11.trailing_data
        # h11 knows what both sides said; a response before the request is complete ends it too.
        self._keeps = self._h11.our_state is h11.DONE
        names = [name for name, _ in event.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            self._keeps = False  # RFC 9112, section 6.3: possibly an attack
        self._body = _framing(self._method, event)
        self._rest = bytes(rest)
        self.head = Head.of(event)
        self.state = "done" if self._body.done else "answered"

    def begin(self) -> bytes:
        """Return the part of the body that came with the head; raise the last piece's error."""
        if self._body.fault is not None:
            self.state = "broken"
            raise self._body.fault
        rest, self._rest = self._rest, b""
        if self.state == "answered":
            return self.read(rest) if rest else b""
        self._rest = rest
        return b""

    def read(self, data: bytes) -> bytes:
        """Take received bytes; return their part of the body. `state` says when it is complete."""
        self.state = "broken"  # until every byte is accounted for
        body = self._body
        piece = body.feed(data)
        if not body.done:
            self.state = "answered"
            return piece
        self._rest = body.rest
        self.state = "done"
        return piece

    def end(self) -> None:
        """Take the end of the connection, which ends only some kinds of bodies."""
        self.state = "broken"
        self._keeps = False
        self._body.end()
        self.state = "done"

    @property
    def is_clean(self) -> bool:
        """Whether the response was read to its end, and the connection can be reused."""
        return self.state == "done" and self._keeps and not self._rest

    def take_up(self) -> None:
        """Reserve the connection: it is not usable until `begin_anew`."""
        self.state = "broken"

    def begin_anew(self) -> None:
        """Prepare for another request."""
        self.state = "idle"

    @property
    def left_over(self) -> bytes:
        """The bytes after the response."""
        return self._rest


def _framing(method: bytes, event: h11.Response) -> Length | Chunked | UntilEnd:
    """Return how the body of a response is framed (RFC 9112, 6.3); h11 checked the headers."""
    no_body = event.status_code in (204, 304) or method == b"HEAD"
    if no_body or (method == b"CONNECT" and 200 <= event.status_code < 300):
        return Length(0)
    headers: Iterable[tuple[bytes, bytes]] = event.headers
    found = dict(headers)
    if b"transfer-encoding" in found:
        return Chunked()
    if (length := found.get(b"content-length")) is not None:
        return Length(int(length))
    return UntilEnd()


class Length:
    """A body of a known length."""

    __slots__ = ("_length", "_missing", "done", "rest")
    fault = None

    def __init__(self, length: int) -> None:
        self._length = self._missing = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if len(data) < self._missing:
            self._missing -= len(data)
            return data
        piece, self.rest = data[: self._missing], data[self._missing :]
        self._missing = 0
        self.done = True
        return piece

    def end(self) -> None:
        raise failures.RemoteProtocolError(
            "peer closed connection without sending complete message body"
            f" (received {self._length - self._missing} bytes, expected {self._length})"
        )


class UntilEnd:
    """A body that ends with the connection."""

    __slots__ = ("done", "rest")
    fault = None

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.done = True


_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r\n")


class Chunked:
    """A body in chunks, each after a line with its size; an empty one is the last."""

    __slots__ = ("_held", "_in_trailers", "_missing", "_trailers", "done", "fault", "rest")

    def __init__(self) -> None:
        self._missing = 0  # bytes missing from the current chunk, including its line end
        self._in_trailers = False
        self._trailers = 0  # bytes of trailers so far
        self._held = b""  # part of a line
        self.done = False
        self.fault: failures.RemoteProtocolError | None = None
        """The error found after the piece that was returned last, so that the piece is not lost."""
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        try:
            while at < end and not self.done:
                if self._missing:
                    at = self._take(data, at, pieces)
                elif self._in_trailers:
                    at = self._skip_trailers(data, at)
                else:
                    at = self._read_size(data, at)
        except failures.RemoteProtocolError as error:
            if not pieces:
                raise
            self.fault = error
        self.rest = data[at:] if self.done else b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        missing = self._missing
        if missing > 2:
            piece = data[at : at + missing - 2]
            pieces.append(piece)
            at += len(piece)
            missing -= len(piece)
        if missing <= 2:
            line_end = data[at : at + missing]
            if not b"\r\n"[2 - missing :].startswith(line_end):
                raise failures.RemoteProtocolError(f"malformed chunk footer: {line_end!r}")
            at += len(line_end)
            missing -= len(line_end)
        self._missing = missing
        return at

    def _read_size(self, data: bytes, at: int) -> int:
        line = _SIZE.match(data, at)
        if line is None:
            return self._hold(data, at, "illegal chunk header")
        size = int(line[1], 16)
        self._in_trailers = size == 0
        self._missing = size + 2 if size else 0
        return line.end()

    def _skip_trailers(self, data: bytes, at: int) -> int:
        while (line_end := data.find(b"\r\n", at)) >= 0:
            if line_end == at:
                self.done = True
                return at + 2
            self._trailers += line_end + 2 - at
            if self._trailers > MOST_LINE:
                break
            at = line_end + 2
        return self._hold(data, at, "illegal trailer")

    def _hold(self, data: bytes, at: int, fault: str) -> int:
        """Keep part of a line until the rest arrives."""
        if len(data) - at > MOST_LINE or b"\n" in data[at:]:
            raise failures.RemoteProtocolError(f"{fault}: {data[at : at + 40]!r}")
        self._held = data[at:]
        return len(data)

    def end(self) -> None:
        raise failures.RemoteProtocolError(
            "peer closed connection without sending complete message body (incomplete chunked read)"
        )
