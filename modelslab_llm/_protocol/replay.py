"""Take a message apart into the events of a stream that brings exactly it (protocol.md §6). Pure.

Servers do so, the scripted one of `modelslab_llm.testing` too, and the client where a whole message
came in reply to a stream request: the order of the events is decided here for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ..types.content import TextBlock, TextDelta, ThinkingBlock, ThinkingDelta
from ..types.events import Event
from ..types.message import Message
from .sse import known_events

TakesApart: TypeAlias = Callable[[Any], tuple[object, Sequence[object]]]
"""Returns a block as it begins, and the deltas that complete it."""

# What a message knows only at its end, so that a stream says it in message_delta.
_KNOWN_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")


def events_of(message: Mapping[str, Any], take_apart: TakesApart) -> Iterator[dict[str, Any]]:
    """Yield the events that build a message given as JSON, in Anthropic's order."""
    late = {key: message[key] for key in _KNOWN_LATE if key in message}
    start: dict[str, Any] = {**message, **dict.fromkeys(late), "content": []}
    totals: dict[str, Any] = {}
    if message.get("usage"):
        totals["usage"] = dict(message["usage"])
        start["usage"] = {k: 0 if k == "output_tokens" else v for k, v in totals["usage"].items()}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"] or ()):
        opening, deltas = take_apart(block)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": late, **totals}
    yield {"type": "message_stop"}


def replay(message: Message) -> Iterator[Event]:
    """Yield the events of a stream that brings exactly this message."""
    told = message.model_dump(exclude_unset=True, exclude={"content", "request_id", "seams"})
    # The blocks as they are: what is known of a call that was cut does not stand in its JSON.
    whole = {**told, "type": "message", "content": message.content}
    return map(known_events().validate_python, events_of(whole, _in_one_piece))


def _in_one_piece(block: object) -> tuple[object, Sequence[object]]:
    if isinstance(block, TextBlock):
        return block.model_copy(update={"text": ""}), [TextDelta(text=block.text)]
    if isinstance(block, ThinkingBlock):
        thought = ThinkingDelta(thinking=block.thinking)
        return block.model_copy(update={"thinking": ""}), [thought]
    return block, []
