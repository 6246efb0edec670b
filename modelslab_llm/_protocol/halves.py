"""Join characters that a server cut in two between one delta and the next. Pure.

JavaScript services cut strings at UTF-16 units, inside an emoji: `"\\ud83d"` ends one delta and
`"\\ude00"` begins the next. The first half is held back until the second comes, and whatever is
handed out can be encoded. A half that stays alone becomes U+FFFD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..types._json import is_object
from ..types._reading import edges, whole
from ..types.content import CompactionDelta, InputJSONDelta, TextDelta, ThinkingDelta
from ..types.events import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    ContentBlockStopEvent,
    Event,
    MessageDeltaEvent,
    MessageStopEvent,
)

_TEXT_OF: dict[type[BaseModel], str] = {  # a delta and the field of it that lengthens a block
    TextDelta: "text",
    ThinkingDelta: "thinking",
    InputJSONDelta: "partial_json",
    CompactionDelta: "content",
}
_KIND = {field: kind.model_fields["type"].default for kind, field in _TEXT_OF.items()}


class Halves:
    """What is held back of one stream: a half for each block whose text ended with one."""

    def __init__(self) -> None:
        self.held: dict[tuple[int, str], str] = {}
        """By block index and field. While it is empty nothing else need be asked."""
        self._low = self._high = ""

    def cut(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return an event's fields without halves of characters.

        Those at the edges of its text are kept for `settle`, which must be called next.
        """
        fields = dict(payload)
        for place in ("delta", "content_block"):
            part: object = fields.get(place)
            if is_object(part):
                part = fields[place] = dict(part)
                for name in _KIND.keys() & part.keys():
                    if isinstance(part[name], str):
                        self._low, part[name], self._high = edges(part[name])
                        break
        cleaned: dict[str, Any] = whole(fields)
        return cleaned

    def settle(self, event: Event) -> list[Event]:
        """Return the event with the halves that belong to it, after what no half came for."""
        low, high, self._low, self._high = self._low, self._high, "", ""
        if isinstance(event, ContentBlockDeltaEvent):
            field = _TEXT_OF.get(type(event.delta), "")
            before = self._lone(event.index, but=field)
            if field and not (low or high or getattr(event.delta, field)):
                return [*before, event]  # empty: the other half may still come
            head = self.held.pop((event.index, field), "") + low
            if head and field:
                text = whole(head) + getattr(event.delta, field)
                delta = event.delta.model_copy(update={field: text})
                event = event.model_copy(update={"delta": delta})
            if high:
                self.held[event.index, field] = high
            return [*before, event]
        if isinstance(event, ContentBlockStartEvent):
            before = self._lone(event.index)
            block = event.content_block
            field = next(
                (name for name in _KIND if isinstance(getattr(block, name, None), str)), ""
            )
            if low:
                update = {field: whole(low) + getattr(block, field)}
                event = event.model_copy(update={"content_block": block.model_copy(update=update)})
            if high:
                self.held[event.index, field] = high
            return [*before, event]
        if isinstance(event, ContentBlockStopEvent):
            return [*self._lone(event.index), event]
        if isinstance(event, (MessageDeltaEvent, MessageStopEvent)):
            return [*self.rest(), event]
        return [event]

    def rest(self) -> list[Event]:
        """Return what is still held, as deltas that say half a character was lost."""
        return [event for index in {key[0] for key in self.held} for event in self._lone(index)]

    def _lone(self, index: int, but: str = "") -> list[Event]:
        keys = [key for key in self.held if key[0] == index and key[1] != but]
        return [self._alone(key) for key in keys]

    def _alone(self, key: tuple[int, str]) -> Event:
        index, field = key
        text = whole(self.held.pop(key))
        delta = {"type": _KIND[field], field: text}
        return ContentBlockDeltaEvent.model_validate({"index": index, "delta": delta})
