"""Say how the bytes of a stream are framed: its event lines, pings, comments and end. Pure."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .._json import is_object


@dataclass
class Framing:
    """The contents of a stream, counted."""

    events: Counter[str] = field(default_factory=lambda: Counter[str]())
    """Events by their type."""
    named: int = 0
    """Events with an `event:` line."""
    comments: int = 0
    broken: int = 0
    """Events whose data is not JSON with a type."""
    done: bool = False
    """Whether `data: [DONE]` came, as OpenAI's streams end."""
    stop_reason: bool = False
    last: str = ""
    """The type of the last event."""
    odd: list[str] = field(default_factory=list[str])
    """What is missing in the events that carry the message."""

    @property
    def ends_well(self) -> bool:
        """Whether the message is complete at the end (docs/protocol.md, section 6)."""
        return self.events["message_stop"] > 0 or self.stop_reason


def framing_of(body: bytes) -> Framing:
    r"""Read a stream by the rules of server-sent events.

    >>> framing_of(b'event: ping\ndata: {"type": "ping"}\n\n: note\n\ndata: [DONE]\n\n').done
    True
    """
    found = Framing()
    text = body.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    for block in text.split("\n\n"):
        _add(found, block)
    if not found.events["message_start"]:
        found.odd.append("no message_start")
    if not found.events["message_delta"]:
        found.odd.append("no message_delta")
    return found


def _add(found: Framing, block: str) -> None:
    data: list[str] = []
    named = False
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if line.startswith(":"):
            found.comments += 1
        elif name == "event":
            named = True
        elif name == "data":
            data.append(value.removeprefix(" "))
    if data:
        found.named += named
        _add_event(found, "\n".join(data))


def _add_event(found: Framing, data: str) -> None:
    if data.strip() == "[DONE]":
        found.done = True
        return
    try:
        event: Any = json.loads(data)
        found.last = str(event["type"])
    except (ValueError, TypeError, KeyError):
        found.broken += 1
        return
    found.events[found.last] += 1
    if found.last == "message_start":
        _miss(found, "message_start", event.get("message"), "type role content model usage")
    elif found.last == "message_delta":
        _miss(found, "message_delta", event, "usage")
        delta = event.get("delta")
        found.stop_reason |= is_object(delta) and delta.get("stop_reason") is not None


def _miss(found: Framing, where: str, given: Any, fields: str) -> None:
    missing = [name for name in fields.split() if not is_object(given) or name not in given]
    if missing:
        found.odd.append(f"{where} without {', '.join(missing)}")
