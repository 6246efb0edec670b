"""Say what is sent for one request, byte by byte and pause by pause. Pure: who holds it sends it.

The two that do are `LocalServer`, on a socket, and `ScriptedTransport`, without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._dialect.dialects import Dialect
from .._dialect.events import Json
from .._script.fault import ENDINGS, Ending, Fault, Frame, struck, struck_whole
from .._script.script import Split

__all__ = ["Chunk", "Manner", "Plan", "broken", "in_one_piece", "streamed", "whole"]


@dataclass(frozen=True)
class Manner:
    """Say how an answer is sent, whatever it says."""

    split: Split = "word"
    pause: float = 0.0
    fault: Fault | None = None


@dataclass(frozen=True)
class Chunk:
    """Hold bytes of a body that are sent at once, after a pause in seconds."""

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Hold a whole response: status, headers (lower-case names), and the body piece by piece.

    Without a `content-length` among the headers the length is known only at the end.
    """

    status: int
    """0: not even the headers are sent, and the ending is all that happens."""
    headers: Mapping[str, str]
    chunks: tuple[Chunk, ...]
    ending: Ending = "end"
    """What comes after the last chunk."""

    def with_headers(self, headers: Mapping[str, str]) -> Plan:
        """Return the same with these headers, which replace those of the same name."""
        own = {name.lower(): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **own})


def broken(fault: Fault) -> Plan:
    """Return the fault itself as the answer: nothing is sent before it."""
    return Plan(0, {}, (), ending_of(fault))


def ending_of(fault: Fault | None) -> Ending:
    """Return how a body with this fault ends."""
    return fault.kind if fault and fault.kind in ENDINGS else "end"


def whole(status: int, body: Mapping[str, Any] | bytes, label: str = "application/json") -> Plan:
    """Return a response in one piece: JSON, or bytes as they are, of this content type."""
    data = body if isinstance(body, bytes) else _dumped(body)
    headers = {"content-type": label, "content-length": str(len(data))}
    return Plan(status, headers, (Chunk(data),))


def in_one_piece(message: Mapping[str, Any], manner: Manner, dialect: Dialect) -> Plan:
    """Return a message as JSON. Raises `ValueError` for a fault that only a stream can have."""
    plan = whole(200, message, dialect.json_label)
    data = plan.chunks[0].data
    if manner.fault:
        data = struck_whole(manner.fault, data)
        if ending_of(manner.fault) == "end":  # in good order: the length is what is sent
            plan = plan.with_headers({"content-length": str(len(data))})
    drips = manner if isinstance(manner.split, int) else Manner()
    return replace(plan, chunks=_chunks([data], drips), ending=ending_of(manner.fault))


def streamed(message: Mapping[str, Any], manner: Manner, dialect: Dialect, request_id: str) -> Plan:
    """Return a message as a stream. Raises `ValueError` for a fault in events it has not."""
    fault, split = manner.fault, manner.split
    frames = [_frame(event, dialect.event_lines) for event in dialect.in_events(message, split)]
    pieces = [frame.data for frame in frames]
    if fault:
        pieces = struck(fault, frames, _error(fault, dialect, request_id))
    if pieces:
        pieces[0] = dialect.comment + pieces[0]
    if dialect.done and not (fault and fault.kind in ENDINGS):
        pieces[-1] += b"data: [DONE]\n\n"
    headers = {"content-type": dialect.stream_label, "cache-control": "no-cache"}
    headers |= dialect.stream_headers
    return Plan(200, headers, _chunks(pieces, manner), ending_of(fault))


def _frame(event: Json, named: bool, name: str = "") -> Frame:
    name = name or event.get("type") or event["object"]  # a chunk of a completion has no type
    line = b"event: %b\n" % name.encode() if named else b""
    return Frame(name, b"%bdata: %b\n\n" % (line, _dumped(event)))


def _error(fault: Fault, dialect: Dialect, request_id: str) -> bytes:
    said = dialect.error_in_events(fault.type, fault.message, request_id)
    return b"" if said is None else _frame(said, dialect.error_line, "error").data


def _chunks(pieces: list[bytes], manner: Manner) -> tuple[Chunk, ...]:
    size = manner.split
    if isinstance(size, int):
        data = b"".join(pieces)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return tuple(Chunk(data, manner.pause if at else 0.0) for at, data in enumerate(pieces))


# Made once: json.dumps() would make one for each event.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _dumped(value: Mapping[str, Any]) -> bytes:
    # Half a surrogate pair has no UTF-8 form; `backslashreplace` writes its JSON escape.
    return _to_json(dict(value)).encode("utf-8", "backslashreplace")
