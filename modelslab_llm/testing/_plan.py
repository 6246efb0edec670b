"""Say what is sent for one request, byte by byte and pause by pause. Pure: who holds it sends it.

The two that do are `LocalServer`, on a socket, and `ScriptedTransport`, without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._events import events_of
from ._script import Split

__all__ = ["Chunk", "Plan", "dripping", "streamed", "whole"]


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
    headers: Mapping[str, str]
    chunks: tuple[Chunk, ...]

    def with_headers(self, headers: Mapping[str, str]) -> Plan:
        """Return the same with these headers, which replace those of the same name."""
        own = {name.lower(): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **own})


def whole(status: int, body: Mapping[str, Any] | bytes) -> Plan:
    """Return a response in one piece: JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else _dumped(body)
    headers = {"content-type": "application/json", "content-length": str(len(data))}
    return Plan(status, headers, (Chunk(data),))


def dripping(plan: Plan, split: Split, pause: float) -> Plan:
    """Return a response in one piece cut up, if `split` is a number of bytes."""
    if not isinstance(split, int):
        return plan
    return replace(plan, chunks=_chunks([chunk.data for chunk in plan.chunks], split, pause))


def streamed(message: Mapping[str, Any], split: Split, pause: float) -> Plan:
    """Return a message as a stream of events."""
    events = [
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _dumped(event))
        for event in events_of(message, split)
    ]
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    return Plan(200, headers, _chunks(events, split, pause))


def _chunks(pieces: list[bytes], split: Split, pause: float) -> tuple[Chunk, ...]:
    if isinstance(split, int):
        data = b"".join(pieces)
        pieces = [data[at : at + split] for at in range(0, len(data), split)]
    return tuple(Chunk(data, pause if index else 0.0) for index, data in enumerate(pieces))


# Made once: json.dumps() would make one for each event.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _dumped(value: Mapping[str, Any]) -> bytes:
    # Half a surrogate pair has no UTF-8 form; `backslashreplace` writes its JSON escape.
    return _to_json(dict(value)).encode("utf-8", "backslashreplace")
