"""Define messages, with their usage and stop reason (protocol.md §5)."""

import json
import re
from collections.abc import Container, Mapping, Sequence
from itertools import count, groupby
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar, Union

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from typing_extensions import Self

from ._base import NullAs, ServerValue, Text, Tolerant, tolerated
from ._json import is_array, is_list
from .call_info import Beside, CallInfo
from .content import ContentBlock, ServerToolUseBlock, TextBlock, ThinkingBlock, ToolUseBlock
from .seams import Seam
from .turns import MessageParam
from .usage import Usage

__all__ = [
    "Message",
    "StopDetails",
    "StopReason",
    "TokenCount",
]

StopReason: TypeAlias = Union[
    Literal[
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
    ],
    str,
]
"""Why the model stopped. Gateways send other words too, so any text may come."""

CUT = frozenset({"max_tokens", "model_context_window_exceeded", "length"})
"""The stop reasons of an answer that was cut (protocol.md §5); the last is OpenAI's word, which
gateways pass through."""

REFUSED = frozenset({"refusal", "content_filter"})
"""The stop reasons of an answer that the model, or a filter after it, refused; the last is OpenAI's
word, which gateways pass through."""


class StopDetails(Tolerant):
    """More about a refusal."""

    type: Text = ""
    category: str | None = None
    explanation: str | None = None


class Message(Tolerant):
    """What the model answered."""

    id: Text = ""
    type: Annotated[Literal["message"], NullAs(lambda: "message")] = "message"
    role: Annotated[Literal["assistant"], NullAs(lambda: "assistant")] = "assistant"
    content: list[ContentBlock] = []
    model: Text = ""
    """The model that answered; llama-server gives a file path here, not what was asked for."""
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    """The stop text that was hit. llama-server says `end_turn` and still fills this."""
    stop_details: StopDetails | None = None
    container: dict[str, Any] | None = None
    usage: Annotated[Usage, NullAs(Usage)] = Field(default_factory=Usage)

    _dumped: ClassVar[frozenset[str]] = Tolerant._dumped | {"role", "content"}
    _told_apart_by: ClassVar[frozenset[str]] = frozenset()  # nothing else is in its place
    _dumped_beside: ClassVar[Mapping[str, str]] = {
        "request_id": "_request_id",
        "seams": "_seams",
    }
    _request_id: str | None = PrivateAttr(default=None)
    _beside: Beside | None = PrivateAttr(default=None)
    _seams: tuple[Seam, ...] = PrivateAttr(default=())

    @property
    def request_id(self) -> str | None:
        """The request ID, to quote to the operator of the server; None if it sends none."""
        return self._request_id

    @property
    def seams(self) -> tuple[Seam, ...]:
        """The places where the answer was resumed or continued; usually empty."""
        return self._seams

    @property
    def call_info(self) -> CallInfo | None:
        """Metadata about the call: headers, attempts, times, rate limits.

        It is not part of the message's JSON. Copies and pickles of the message keep it; a message
        that you built or read from JSON has None.
        """
        return self._beside.call_info if self._beside else None

    @property
    def total_usage(self) -> Usage:
        """The usage of the whole call: of the answer and of failed attempts before it."""
        info = self.call_info
        return info.retried_usage + self.usage if info and info.retried_usage else self.usage

    @property
    def text(self) -> str:
        """The text of the answer: all text blocks joined; `""` if there are none."""
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))

    @property
    def thinking(self) -> str:
        """The thinking of the model: all thinking blocks joined; `""` if there are none.

        To send a turn back, use the message itself or its `content`: blocks keep the signatures
        that some servers require (protocol.md §4).
        """
        return "".join(block.thinking for block in self.content if isinstance(block, ThinkingBlock))

    @property
    def tool_uses(self) -> list[ToolUseBlock]:
        """The calls of your tools. Rely on these, not on `stop_reason` (protocol.md §5)."""
        return [block for block in self.content if isinstance(block, ToolUseBlock)]

    def to_param(self) -> MessageParam:
        """Return the message as a turn of the next request, unknown blocks unchanged.

        Empty text blocks are left out: some gateways send them, and others refuse them (protocol.md
        §11).
        """
        # Any: an unknown block is sent back unchanged, and matches no type.
        blocks: list[Any] = [b.to_param() for b in self.content if not is_empty_text(b)]
        return {"role": "assistant", "content": blocks}

    def _repr_markdown_(self) -> str:
        """Render the message in a notebook: its text unchanged, other blocks with a label."""
        parts: list[str] = []
        for is_text, blocks in groupby(self.content, lambda block: isinstance(block, TextBlock)):
            shown = [_as_markdown(block) for block in blocks]
            parts += ["".join(shown)] if is_text else shown  # one sentence may be many text blocks
        return "\n\n".join(filter(None, parts))

    @field_validator("content", mode="before")
    @classmethod
    def _content_as_list(cls, value: Any) -> Any:
        """Read null as nothing, and a plain string as a text block (protocol.md §5)."""
        if value is None or isinstance(value, str):
            tolerated("content was null" if value is None else "content was a string")
        blocks = [value] if isinstance(value, str) else [] if value is None else value
        if not is_list(blocks):
            return blocks
        if None in blocks:
            tolerated("null among the content blocks")
        return [
            {"type": "text", "text": block} if isinstance(block, str) else block
            for block in blocks
            if block is not None
        ]

    @model_validator(mode="after")
    def _settled(self) -> Self:
        beside = self.__pydantic_extra__ or {}
        if isinstance(beside.get("request_id"), str):  # a dump has it
            self._request_id = beside.pop("request_id")
            self.model_fields_set.discard("request_id")
        if seams := _seams_in(beside.get("seams")):
            self._seams = seams
            del beside["seams"]
            self.model_fields_set.discard("seams")
        mark_cut_arguments(self)
        give_own_ids(self)
        return self


def _seams_in(dumped: object) -> tuple[Seam, ...]:
    """Return the seams that a dump has; a field of that name that is none of ours is left alone."""
    try:
        return tuple(map(Seam.model_validate, dumped)) if is_array(dumped) else ()
    except ValidationError:
        return ()


M = TypeVar("M", bound=Message)


def made(
    kind: type[M],
    like: Message,
    request_id: str | None,
    changes: Mapping[str, object] = MappingProxyType({}),
    info: CallInfo | None = None,
    seams: Sequence[Seam] = (),
) -> M:
    """Make a message like another one, with what is known of the request that it answers.

    The parts must have been checked: here they are taken as they are.
    """
    fields = like.model_fields_set | changes.keys()
    # dict(like) would ask for its `keys`, and be told at length that a message has none.
    message = kind.model_construct(fields, **{**dict(iter(like)), **changes})
    message._request_id = request_id  # pyright: ignore[reportPrivateUsage] - the one place
    message._beside = Beside(info) if info else None  # pyright: ignore[reportPrivateUsage]
    message._seams = tuple(seams) or like.seams  # pyright: ignore[reportPrivateUsage]
    return message


def mark_cut_arguments(message: Message, *, came_whole: bool = False) -> Message:
    """Mark a last tool call without input as truncated, if the message was (protocol.md §5).

    llama-server then sends `input: {}`, which nothing else tells from a call without arguments.
    Where it is known that they came whole, that is noted: a dump of it says so too.
    """
    last = message.content[-1] if message.stop_reason in CUT and message.content else None
    if (
        not isinstance(last, ToolUseBlock)
        or last.input
        or "input_complete" in last.model_fields_set
    ):
        return message
    if came_whole:
        message.content[-1] = last.model_copy(update={"input_complete": True})
    else:
        message.content[-1] = last.with_arguments(None)
    return message


def give_own_ids(message: Message) -> None:
    """Give a call with the ID of another call a new ID; the same call again keeps it.

    Some gateways give parallel calls the same ID. Results are matched by it, so one of the calls
    would be lost. No server remembers the IDs; it uses those of the history.
    """
    taken = {use.id for use in message.tool_uses}
    seen: dict[str, list[tuple[ToolUseBlock, str]]] = {}
    for at, use in enumerate(message.content):
        if not (isinstance(use, ToolUseBlock) and use.id and use.name):
            continue
        others = seen.setdefault(use.id, [])
        known = next((own for other, own in others if _is_same_call(use, other)), None)
        own = known or (own_id(use.id, taken) if others else use.id)
        if known is None:
            others.append((use, own))
            taken.add(own)
        if own != use.id:
            tolerated("two tool calls with the same id: the second got a new id")
            message.content[at] = use.model_copy(update={"id": own})


def own_id(id: str, taken: Container[str]) -> str:
    """Return an unused ID that resembles a used one.

    >>> own_id("call_0", {"call_0", "call_0_2"})
    'call_0_3'
    """
    return next(new for n in count(2) if (new := f"{id}_{n}") not in taken)


def _is_same_call(one: ToolUseBlock, other: ToolUseBlock) -> bool:
    return (one.name, one.raw_input) == (other.name, other.raw_input) and (
        # As JSON: to Python 1, 1.0 and True are equal.
        json.dumps(one.input, sort_keys=True) == json.dumps(other.input, sort_keys=True)
    )


def is_empty_text(block: object) -> bool:
    """Tell whether this is a text block without text."""
    return isinstance(block, TextBlock) and not block.text


def _as_markdown(block: ContentBlock) -> str:
    match block:
        case TextBlock():
            return block.text
        case ThinkingBlock():
            return block.thinking.strip() and "> " + block.thinking.strip().replace("\n", "\n> ")
        case ToolUseBlock() | ServerToolUseBlock() if block.input_complete:
            given = json.dumps(block.input, ensure_ascii=False, indent=2)
            return _as_code(f"{block.name}({given})")
        case ToolUseBlock() | ServerToolUseBlock():
            return _as_code(f"{block.name}({block.raw_input} ... cut")
        case _:
            return _as_code(f"[{block.type}]")


def _as_code(text: str) -> str:
    """Return a block of code, between fences longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


class TokenCount(ServerValue):
    """The number of tokens of a request."""

    input_tokens: int

    _beside: Beside | None = PrivateAttr(default=None)

    @property
    def call_info(self) -> CallInfo | None:
        """Metadata about the call: headers, attempts, times, rate limits."""
        return self._beside.call_info if self._beside else None


def counted(count: TokenCount, info: CallInfo | None) -> TokenCount:
    """Return a count with what is known of the call that brought it."""
    count._beside = Beside(info) if info else None  # pyright: ignore[reportPrivateUsage]
    return count
