"""The events of a stream, as they come over the wire (protocol.md §6).

An `error` event is never handed out as a value: it is raised, as one of `errors`.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union

from pydantic import Field

from .._hints import Place
from ._base import BY_TYPE, NO_TYPE, Count, NullAs, ServerValue, Tolerant, Unheard
from .content import ContentBlock, Delta
from .message import Message, StopDetails, StopReason
from .usage import Usage

__all__ = [
    "ContentBlockDeltaEvent",
    "ContentBlockStartEvent",
    "ContentBlockStopEvent",
    "Event",
    "KnownEvent",
    "MessageDelta",
    "MessageDeltaEvent",
    "MessageStartEvent",
    "MessageStopEvent",
    "PingEvent",
    "UnknownEvent",
]


class _Event(ServerValue):
    _place: ClassVar[Place] = "event"


class MessageStartEvent(_Event):
    """The message begins; its content is still empty."""

    type: Literal["message_start"] = "message_start"
    message: Annotated[Message, NullAs(Message)] = Field(default_factory=Message)


class ContentBlockStartEvent(_Event):
    """A block begins; several may be open at once."""

    type: Literal["content_block_start"] = "content_block_start"
    index: Count = 0
    content_block: ContentBlock


class ContentBlockDeltaEvent(_Event):
    """A block grows."""

    type: Literal["content_block_delta"] = "content_block_delta"
    index: Count = 0
    delta: Delta


class ContentBlockStopEvent(_Event):
    """A block is whole."""

    type: Literal["content_block_stop"] = "content_block_stop"
    index: Count = 0


class MessageDelta(Tolerant):
    """What became known of the message at its end."""

    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    container: dict[str, Any] | None = None


class MessageDeltaEvent(_Event):
    """The end of the message is known; `usage` holds totals so far, not increments."""

    type: Literal["message_delta"] = "message_delta"
    delta: Annotated[MessageDelta, NullAs(MessageDelta)] = Field(default_factory=MessageDelta)
    usage: Annotated[Usage, NullAs(Usage)] = Field(default_factory=Usage)


class MessageStopEvent(_Event):
    """The message is complete."""

    type: Literal["message_stop"] = "message_stop"


class PingEvent(_Event):
    """The server is still there."""

    type: Literal["ping"] = "ping"


class UnknownEvent(_Event):
    """An event of an unknown type; its fields are kept unchanged."""

    type: Unheard = NO_TYPE


KnownEvent: TypeAlias = Annotated[
    Union[
        MessageStartEvent,
        ContentBlockStartEvent,
        ContentBlockDeltaEvent,
        ContentBlockStopEvent,
        MessageDeltaEvent,
        MessageStopEvent,
        PingEvent,
    ],
    BY_TYPE,
]

Event: TypeAlias = Union[
    MessageStartEvent,
    ContentBlockStartEvent,
    ContentBlockDeltaEvent,
    ContentBlockStopEvent,
    MessageDeltaEvent,
    MessageStopEvent,
    PingEvent,
    UnknownEvent,
]
"""Everything an iteration over a stream can yield."""
