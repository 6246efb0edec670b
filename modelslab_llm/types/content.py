"""What a message is made of: content blocks, their deltas and citations (protocol.md §4, §6).

These are the server's side; what a caller sends is in `requests`. Nothing here joins deltas into
blocks, that is `_protocol/accumulate`.
"""

import json
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union

from pydantic import model_validator
from typing_extensions import Self

from ._base import (
    BY_TYPE,
    FIRST_THAT_FITS,
    NO_TYPE,
    Count,
    NullAs,
    ServerValue,
    Text,
    Tolerant,
    Unheard,
    tolerated,
    unheard_of,
)
from ._json import is_object
from ._reading import is_sendable, read_arguments

__all__ = [
    "CharLocationCitation",
    "Citation",
    "CitationsDelta",
    "CompactionBlock",
    "CompactionDelta",
    "ContainerUploadBlock",
    "ContentBlock",
    "ContentBlockLocationCitation",
    "Delta",
    "InputJSONDelta",
    "PageLocationCitation",
    "RedactedThinkingBlock",
    "SearchResultLocationCitation",
    "ServerToolResultBlock",
    "ServerToolUseBlock",
    "SignatureDelta",
    "TextBlock",
    "TextDelta",
    "ThinkingBlock",
    "ThinkingDelta",
    "ToolUseBlock",
    "UnknownBlock",
    "UnknownCitation",
    "UnknownDelta",
    "WebSearchResultLocationCitation",
]


class _Cited(Tolerant):
    cited_text: Text = ""


class CharLocationCitation(_Cited):
    """A span of characters in a plain-text document."""

    type: Literal["char_location"] = "char_location"
    document_index: Count = 0
    document_title: str | None = None
    start_char_index: Count = 0
    end_char_index: Count = 0
    file_id: str | None = None


class PageLocationCitation(_Cited):
    """A span of pages in a PDF; `end_page_number` is exclusive."""

    type: Literal["page_location"] = "page_location"
    document_index: Count = 0
    document_title: str | None = None
    start_page_number: Count = 0
    end_page_number: Count = 0
    file_id: str | None = None


class ContentBlockLocationCitation(_Cited):
    """A span of blocks in a document made of blocks; `end_block_index` is exclusive."""

    type: Literal["content_block_location"] = "content_block_location"
    document_index: Count = 0
    document_title: str | None = None
    start_block_index: Count = 0
    end_block_index: Count = 0
    file_id: str | None = None


class SearchResultLocationCitation(_Cited):
    """A span of blocks in a search result the caller gave."""

    type: Literal["search_result_location"] = "search_result_location"
    search_result_index: Count = 0
    source: Text = ""
    title: str | None = None
    start_block_index: Count = 0
    end_block_index: Count = 0


class WebSearchResultLocationCitation(_Cited):
    """A page the server found on the web."""

    type: Literal["web_search_result_location"] = "web_search_result_location"
    url: Text = ""
    title: str | None = None
    encrypted_index: Text = ""


class UnknownCitation(ServerValue):
    """A citation of an unknown type; its fields are kept unchanged."""

    type: Unheard = NO_TYPE


_KnownCitation: TypeAlias = Union[
    CharLocationCitation,
    PageLocationCitation,
    ContentBlockLocationCitation,
    SearchResultLocationCitation,
    WebSearchResultLocationCitation,
]
Citation: TypeAlias = Annotated[
    Union[
        Annotated[_KnownCitation, BY_TYPE], Annotated[UnknownCitation, unheard_of(_KnownCitation)]
    ],
    FIRST_THAT_FITS,
]


class _Block(Tolerant):
    def to_param(self) -> dict[str, Any]:
        """Return the block as a request takes it: what the server sent, unknown fields included."""
        ours = {"input_complete", "raw_input"}
        sent = self.model_dump(exclude_unset=True, exclude=ours)
        return sent | {"type": self.__dict__["type"]}  # which every kind of block has


class TextBlock(_Block):
    """Text of the answer."""

    type: Literal["text"] = "text"
    text: Text = ""
    citations: list[Citation] | None = None


class ThinkingBlock(_Block):
    """What the model thought before it answered; `text` is not part of the answer."""

    _dumped: ClassVar[frozenset[str]] = _Block._dumped | {"signature"}

    type: Literal["thinking"] = "thinking"
    thinking: Text = ""
    signature: Text = ""
    """Proof for the server that made it; `""` where the server makes none (protocol.md §4)."""

    def to_param(self) -> dict[str, Any]:
        """Return the block as a request takes it, always with a signature (protocol.md §4)."""
        return super().to_param() | {"signature": self.signature}


class RedactedThinkingBlock(_Block):
    """Thinking that only the server can read."""

    type: Literal["redacted_thinking"] = "redacted_thinking"
    data: Text = ""


class _CallBlock(_Block):
    _essential: ClassVar[frozenset[str]] = _Block._essential | {"id", "name"}
    _dumped: ClassVar[frozenset[str]] = _Block._dumped | {"input"}

    id: Text = ""
    name: Text = ""
    input: Annotated[dict[str, Any], NullAs(dict)] = {}
    """The arguments. Trust it only while `input_complete` is true."""
    caller: dict[str, Any] | None = None

    input_complete: bool = True
    """False when the arguments were cut off, are not JSON, or whose they are is not known, since
    no name came; `input` is then empty."""
    raw_input: str | None = None
    """The text of the arguments as it arrived, kept when it could not be read as JSON."""

    def to_param(self) -> dict[str, Any]:
        """Return the block as a request takes it, always with an input: servers insist on one."""
        return super().to_param() | {"input": self.input}

    def with_arguments(self, text: str | None) -> Self:
        """Return a copy with another input.

        Args:
            text: The input as JSON; None means that none arrived.

        Returns:
            The copy; its `input_complete` says whether the text was a complete JSON object.
        """
        found = read_arguments(text) if text is not None and self.name else None
        if found is not None:
            return self.model_copy(update={"input": found})
        marks: dict[str, Any] = {"input": {}, "input_complete": False, "raw_input": text or ""}
        return self.model_copy(update=marks)

    @model_validator(mode="before")
    @classmethod
    def _input_as_text(cls, value: Any) -> Any:
        """Accept arguments as a string of JSON; mark null or anything else (protocol.md §5)."""
        if not is_object(value):  # a block already
            return value
        given = value.get("input", {})
        fits = is_object(given) and is_sendable(given)
        if fits and value.get("name"):
            return value
        if not fits:
            tolerated("the input of a tool call was not an object")
        text = (given or "{}") if isinstance(given, str) else json.dumps(given)
        if value.get("name") and (found := read_arguments(text)) is not None:
            return {**value, "input": found}
        return {**value, "input": {}, "input_complete": False, "raw_input": text}


class ToolUseBlock(_CallBlock):
    """A call of one of the caller's tools."""

    type: Literal["tool_use"] = "tool_use"


class ServerToolUseBlock(_CallBlock):
    """A call of a tool that the server runs by itself."""

    type: Literal["server_tool_use"] = "server_tool_use"


class ServerToolResultBlock(_Block):
    """The result of a tool that the server ran; the form of `content` depends on the type."""

    type: Literal[
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
    ]
    tool_use_id: Text = ""
    content: Any = None


class ContainerUploadBlock(_Block):
    """A file the server put into its container."""

    type: Literal["container_upload"] = "container_upload"
    file_id: Text = ""


class CompactionBlock(_Block):
    """A summary that replaces earlier turns."""

    type: Literal["compaction"] = "compaction"
    content: str | None = None


class UnknownBlock(_Block):
    """A block of an unknown type; its fields are kept unchanged."""

    type: Unheard = NO_TYPE


_KnownBlock: TypeAlias = Union[
    TextBlock,
    ThinkingBlock,
    RedactedThinkingBlock,
    ToolUseBlock,
    ServerToolUseBlock,
    ServerToolResultBlock,
    ContainerUploadBlock,
    CompactionBlock,
]
ContentBlock: TypeAlias = Annotated[
    Union[Annotated[_KnownBlock, BY_TYPE], Annotated[UnknownBlock, unheard_of(_KnownBlock)]],
    FIRST_THAT_FITS,
]


class TextDelta(ServerValue):
    """More text for a text block."""

    type: Literal["text_delta"] = "text_delta"
    text: Text = ""


class InputJSONDelta(ServerValue):
    """More of a tool call's arguments: a piece of JSON text."""

    type: Literal["input_json_delta"] = "input_json_delta"
    partial_json: Text = ""


class ThinkingDelta(ServerValue):
    """More thinking."""

    type: Literal["thinking_delta"] = "thinking_delta"
    thinking: Text = ""


class SignatureDelta(ServerValue):
    """The signature of a thinking block, whole."""

    type: Literal["signature_delta"] = "signature_delta"
    signature: Text = ""


class CitationsDelta(ServerValue):
    """One more citation for a text block."""

    type: Literal["citations_delta"] = "citations_delta"
    citation: Citation


class CompactionDelta(ServerValue):
    """More of a compaction block's summary."""

    type: Literal["compaction_delta"] = "compaction_delta"
    content: Text = ""


class UnknownDelta(ServerValue):
    """A delta of a kind this version does not know; it changes no block."""

    type: Unheard = NO_TYPE


_KnownDelta: TypeAlias = Union[
    TextDelta,
    InputJSONDelta,
    ThinkingDelta,
    SignatureDelta,
    CitationsDelta,
    CompactionDelta,
]
Delta: TypeAlias = Annotated[
    Union[Annotated[_KnownDelta, BY_TYPE], Annotated[UnknownDelta, unheard_of(_KnownDelta)]],
    FIRST_THAT_FITS,
]
