"""Join the events of a stream into a message, and know whether it is complete (protocol.md §6).

Parts are kept in lists and joined on demand, so the cost is linear in the stream's length. Reads
no bytes, and raises only for events that cannot belong to one message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import StreamInterruptedError
from ..types._base import tolerated
from ..types._reading import read_arguments
from ..types.call_info import CallInfo
from ..types.content import (
    Citation,
    CitationsDelta,
    CompactionBlock,
    CompactionDelta,
    ContentBlock,
    Delta,
    InputJSONDelta,
    ServerToolUseBlock,
    SignatureDelta,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    UnknownBlock,
)
from ..types.events import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    ContentBlockStopEvent,
    Event,
    MessageDelta,
    MessageDeltaEvent,
    MessageStartEvent,
    MessageStopEvent,
)
from ..types.message import Message, give_own_ids, made, mark_cut_arguments
from ..types.seams import Seam
from ..types.usage import Usage

_FED_BY: dict[type, tuple[type, str]] = {  # block: the delta that extends it, and its field
    TextBlock: (TextDelta, "text"),
    ThinkingBlock: (ThinkingDelta, "thinking"),
    ToolUseBlock: (InputJSONDelta, "partial_json"),
    ServerToolUseBlock: (InputJSONDelta, "partial_json"),
    UnknownBlock: (InputJSONDelta, "partial_json"),
    CompactionBlock: (CompactionDelta, "content"),
}


BLOCK = 2000  # estimated bytes of a block in addition to its content


class _Growing:
    """One block and the parts received for it."""

    __slots__ = ("_fed_by", "_field", "_own", "block", "citations", "closed", "parts", "signature")

    def __init__(self, block: ContentBlock) -> None:
        self.block = block
        self._fed_by, self._field = _FED_BY.get(type(block), (type(None), ""))
        self._own: int | None = None
        self.parts: list[str] = []
        self.signature: str | None = None
        self.citations: list[Citation] = []
        self.closed = False

    def take(self, delta: Delta) -> bool:
        """Add a delta; return False if it does not fit this kind of block."""
        if type(delta) is self._fed_by:
            self.parts.append(getattr(delta, self._field))
        elif isinstance(delta, SignatureDelta) and isinstance(self.block, ThinkingBlock):
            self.signature = delta.signature  # sent complete, so the last one counts
        elif isinstance(delta, CitationsDelta) and isinstance(self.block, TextBlock):
            self.citations.append(delta.citation)
        else:
            return False
        return True

    def weigh(self) -> int:
        """Return the approximate size of this block in bytes, and join its parts."""
        self.parts = ["".join(self.parts)]
        if self._own is None:
            self._own = BLOCK + len(self.block.model_dump_json())
        return self._own + len(self.parts[0]) + sum(len(str(found)) for found in self.citations)

    def joined(self, message_complete: bool) -> ContentBlock:
        """Return the block as received so far."""
        block, more = self.block, "".join(self.parts)
        changes: dict[str, Any] = {}
        if isinstance(block, TextBlock):
            changes["text"] = block.text + more
            if self.citations:
                changes["citations"] = [*(block.citations or ()), *self.citations]
        elif isinstance(block, ThinkingBlock):
            changes["thinking"] = block.thinking + more
            changes["signature"] = block.signature if self.signature is None else self.signature
        elif isinstance(block, CompactionBlock):
            changes["content"] = (block.content or "") + more
        elif isinstance(block, (ToolUseBlock, ServerToolUseBlock)):
            if more.strip():
                return block.with_arguments(more)
            if not (self.closed or message_complete):
                return block.with_arguments(None)
        elif isinstance(block, UnknownBlock) and more:  # an unknown kind of tool call
            found = read_arguments(more)
            changes["input"] = more if found is None else found
        return block.model_copy(update=changes)


class Accumulator:
    """Take events one by one; give the message at any time.

    `model` is the requested model, shown until the server names one.
    """

    def __init__(
        self,
        model: str = "",
        tolerated: Callable[[str], None] = tolerated,
        request_id: str | None = None,
    ) -> None:
        self._tolerated = tolerated
        self.request_id = request_id
        """The ID of the request."""
        self.seams: list[Seam] = []
        """Where the message was resumed or continued."""
        # Unvalidated: validation would build a schema that a stream does not need otherwise.
        self._start = Message.model_construct({"model"}, model=model, usage=Usage.model_construct())
        self._started = False
        self._blocks: list[tuple[int, _Growing]] = []
        self._latest: dict[int, _Growing] = {}
        self._end: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self.has_content: bool = False
        """Whether any part of the answer itself has arrived."""
        self.complete: bool = False
        """Whether the server said that the message is over."""

    @property
    def stop_reason_seen(self) -> bool:
        """Whether the server gave a stop reason, which it does after all content."""
        return bool(self._end.get("stop_reason"))

    @property
    def usage(self) -> Usage:
        """The tokens counted so far."""
        return Usage.model_validate(self._usage)

    def add(self, event: Event) -> None:
        """Take one event. Raises `StreamInterruptedError` if a second message begins."""
        if isinstance(event, ContentBlockDeltaEvent):
            self.has_content = True
            growing = self._latest.get(event.index)
            if growing is None or not growing.take(event.delta):
                self._take_stray(event)
        elif isinstance(event, ContentBlockStartEvent):
            self._open(event.index, event.content_block)
        elif isinstance(event, ContentBlockStopEvent):
            if growing := self._latest.get(event.index):
                growing.closed = True
            else:
                self._tolerated("content_block_stop for a block that was never started")
        elif isinstance(event, MessageStartEvent):
            self._begin_message(event)
        elif isinstance(event, MessageDeltaEvent):
            self._take_end(event)
        elif isinstance(event, MessageStopEvent):
            self.finish()

    def finish(self) -> None:
        """Treat the message as complete, and log what is missing."""
        self.complete = True
        if not self._started and not self._blocks:
            self._tolerated("message_start missing")
        if any(not growing.closed for _, growing in self._blocks):
            self._tolerated("content_block_stop missing")
        if not self.stop_reason_seen:
            self._tolerated("stop_reason missing")
        if not self._usage.keys() & {"input_tokens", "output_tokens"}:
            self._tolerated("usage missing")

    def message(self, info: CallInfo | None = None) -> Message:
        """Return a snapshot of the message. Copies what has arrived."""
        in_order = sorted(self._blocks, key=lambda entry: entry[0])
        content = [growing.joined(self.complete) for _, growing in in_order]
        changes = {
            "content": [*self._start.content, *content],
            "usage": self.usage,
            **self._end,
        }
        known = self.request_id or self._start.request_id
        message = made(Message, self._start, known, changes, info, self.seams)
        # Only arguments that came in parts show whether they were cut off.
        came_whole = bool(in_order and in_order[-1][1].parts)
        mark_cut_arguments(message, came_whole=came_whole)
        give_own_ids(message)  # a call that was cut off differs from one without arguments
        return message

    def weigh(self) -> int:
        """Return the approximate size in bytes, and join the parts, at the same cost."""
        beside = sum(len(str(value)) for kept in (self._end, self._usage) for value in kept.items())
        return beside + sum(growing.weigh() for _, growing in self._blocks)

    def _take_stray(self, event: ContentBlockDeltaEvent) -> None:
        """Begin a block for a delta that has no start, or does not fit the open block."""
        if (block := _block_for(event.delta)) is None:
            self._tolerated("a delta of unknown type was ignored")
            return
        self._tolerated(f"content_block_start missing; began a {block.type} block at its delta")
        self._begin(event.index, block).take(event.delta)

    def _begin_message(self, event: MessageStartEvent) -> None:
        message = event.message
        if self._started:
            if message.id == self._start.id:
                self._tolerated("message_start again")
                return
            raise StreamInterruptedError("a second message began before the first was complete")
        self._started = True
        model = message.model or self._start.model
        self._start = message.model_copy(update={"model": model})
        self.count(message.usage)
        beside = (event.model_extra or {}).get("usage")  # where some proxies put it
        if isinstance(beside, dict):
            self.count(Usage.model_validate(beside))

    def _open(self, index: int, block: ContentBlock) -> None:
        # Servers open an empty block at once; a failure after that may still be retried.
        if block.type not in ("text", "thinking") or is_begun(block):
            self.has_content = True
        now = self._latest.get(index)
        if now and not now.closed and _same(now.block, block):
            self._tolerated("content_block_start again")
            return
        if now:
            self._tolerated("a second block with the same index")
        self._begin(index, block)

    def _begin(self, index: int, block: ContentBlock) -> _Growing:
        if not self._started and not self._blocks:
            self._tolerated("message_start missing; began at a content block")
        growing = self._latest[index] = _Growing(block)
        self._blocks.append((index, growing))
        return growing

    def _take_end(self, event: MessageDeltaEvent) -> None:
        """Set what is known now; a later null or empty value overwrites nothing."""
        for name in MessageDelta.model_fields:
            if (value := getattr(event.delta, name)) not in (None, ""):
                self._end[name] = value
        beside = (event.delta.model_extra or {}) | (event.model_extra or {})
        for name in beside.keys() - Message.model_fields.keys():  # e.g. context_management
            self._end[name] = beside[name]
        self.count(event.usage)

    def count(self, usage: Usage) -> None:
        """Take totals, which overwrite earlier ones; but a 0 does not."""
        for name, value in usage.model_dump(exclude_unset=True).items():
            if value != 0 or not self._usage.get(name):
                self._usage[name] = value


def is_begun(block: ContentBlock) -> bool:
    """Tell whether a text or thinking block already contains text when it starts."""
    if isinstance(block, TextBlock):
        return bool(block.text)
    return isinstance(block, ThinkingBlock) and bool(block.thinking)


def _same(one: ContentBlock, other: ContentBlock) -> bool:
    return one.type == other.type and getattr(one, "id", None) == getattr(other, "id", None)


def _block_for(delta: Delta) -> ContentBlock | None:
    """Return an empty block of the kind that this delta extends (protocol.md §6.3)."""
    if isinstance(delta, (TextDelta, CitationsDelta)):
        return TextBlock()
    if isinstance(delta, (ThinkingDelta, SignatureDelta)):
        return ThinkingBlock()
    if isinstance(delta, InputJSONDelta):
        return ToolUseBlock()
    return CompactionBlock() if isinstance(delta, CompactionDelta) else None
