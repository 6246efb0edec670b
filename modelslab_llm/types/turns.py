"""Define the turns and blocks of a request, as TypedDicts (protocol.md §3, §10).

Plain dicts of these shapes are all that is needed; nothing here runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union

from typing_extensions import NotRequired, TypedDict

from .content import ContentBlock

__all__ = [
    "Base64SourceParam",
    "CacheControlParam",
    "ContainerUploadBlockParam",
    "ContentBlockParam",
    "ContentSourceParam",
    "DocumentBlockParam",
    "FileSourceParam",
    "ImageBlockParam",
    "LoadedParam",
    "MessageParam",
    "MidConvSystemBlockParam",
    "RedactedThinkingBlockParam",
    "SearchResultBlockParam",
    "ServerToolUseBlockParam",
    "TextBlockParam",
    "TextSourceParam",
    "ThinkingBlockParam",
    "ToolReferenceBlockParam",
    "ToolResultBlockParam",
    "ToolUseBlockParam",
    "URLSourceParam",
]


if TYPE_CHECKING:

    class _LoadedJSON:
        """The values of a dict that was loaded: to a type checker only `Any` is one of these."""
else:
    _LoadedJSON = Any

LoadedParam: TypeAlias = dict[str, _LoadedJSON]
"""A turn, a block or a tool as `dict[str, Any]`: loaded from JSON, or made by another library.

It is only checked when it is sent. A dict that is written out in the program is still checked
against the shapes here, because its values are not `Any`.
"""


class CacheControlParam(TypedDict):
    """Mark where a cached prefix ends; at most four of them in one request."""

    type: Literal["ephemeral"]
    ttl: NotRequired[Literal["5m", "1h"]]


class Base64SourceParam(TypedDict):
    """The data itself. Images: JPEG, PNG, GIF or WebP; documents: `application/pdf`."""

    type: Literal["base64"]
    media_type: str
    data: str


class URLSourceParam(TypedDict):
    """Data the server fetches. Ollama and new-api take only base64."""

    type: Literal["url"]
    url: str


class FileSourceParam(TypedDict):
    """Data uploaded to the server before."""

    type: Literal["file"]
    file_id: str


class TextSourceParam(TypedDict):
    """A plain-text document."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


class TextBlockParam(TypedDict):
    """Text; Anthropic refuses an empty one."""

    type: Literal["text"]
    text: str
    citations: NotRequired[Sequence[Mapping[str, Any]] | None]
    cache_control: NotRequired[CacheControlParam | None]


class ImageBlockParam(TypedDict):
    """An image, for vision models."""

    type: Literal["image"]
    source: Base64SourceParam | URLSourceParam | FileSourceParam
    cache_control: NotRequired[CacheControlParam | None]


class ContentSourceParam(TypedDict):
    """A document made of blocks."""

    type: Literal["content"]
    content: str | Sequence[TextBlockParam | ImageBlockParam]


class DocumentBlockParam(TypedDict):
    """A document. llama-server and Ollama silently drop it (protocol.md §4)."""

    type: Literal["document"]
    source: (
        Base64SourceParam | TextSourceParam | ContentSourceParam | URLSourceParam | FileSourceParam
    )
    title: NotRequired[str | None]
    context: NotRequired[str | None]
    citations: NotRequired[Mapping[str, bool] | None]
    cache_control: NotRequired[CacheControlParam | None]


class SearchResultBlockParam(TypedDict):
    """A search result from the caller, which the model may cite."""

    type: Literal["search_result"]
    source: str
    title: str
    content: Sequence[TextBlockParam]
    citations: NotRequired[Mapping[str, bool]]
    cache_control: NotRequired[CacheControlParam | None]


class ToolReferenceBlockParam(TypedDict):
    """A tool found by a tool search."""

    type: Literal["tool_reference"]
    tool_name: str
    cache_control: NotRequired[CacheControlParam | None]


class ToolUseBlockParam(TypedDict):
    """A tool call the model made in an earlier turn."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Mapping[str, Any]
    caller: NotRequired[Mapping[str, Any] | None]
    toolset_name: NotRequired[str | None]
    cache_control: NotRequired[CacheControlParam | None]


class ToolResultBlockParam(TypedDict):
    """The result of a tool call. Put results first in their turn. Start the text of a failed one
    with `Error:`, because llama-server, vLLM and Ollama ignore `is_error` (protocol.md §10).
    """

    type: Literal["tool_result"]
    tool_use_id: str
    content: NotRequired[
        str
        | Sequence[
            TextBlockParam
            | ImageBlockParam
            | DocumentBlockParam
            | SearchResultBlockParam
            | ToolReferenceBlockParam
        ]
    ]
    is_error: NotRequired[bool]
    cache_control: NotRequired[CacheControlParam | None]


class ThinkingBlockParam(TypedDict):
    """Thinking of an earlier turn, sent back unchanged, and only to the server that produced it."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlockParam(TypedDict):
    """Hidden thinking of an earlier turn, sent back unchanged."""

    type: Literal["redacted_thinking"]
    data: str


class ServerToolUseBlockParam(TypedDict):
    """A call of a server tool, from an earlier turn."""

    type: Literal["server_tool_use"]
    id: str
    name: str
    input: Mapping[str, Any]
    caller: NotRequired[Mapping[str, Any] | None]


class ContainerUploadBlockParam(TypedDict):
    """A file to put into the server's container."""

    type: Literal["container_upload"]
    file_id: str
    cache_control: NotRequired[CacheControlParam | None]


class MidConvSystemBlockParam(TypedDict):
    """An instruction in the middle of a conversation; newest Claude models only."""

    type: Literal["mid_conv_system"]
    content: Sequence[TextBlockParam]


ContentBlockParam: TypeAlias = Union[
    TextBlockParam,
    ImageBlockParam,
    DocumentBlockParam,
    SearchResultBlockParam,
    ToolUseBlockParam,
    ToolResultBlockParam,
    ThinkingBlockParam,
    RedactedThinkingBlockParam,
    ServerToolUseBlockParam,
    ContainerUploadBlockParam,
    MidConvSystemBlockParam,
    ContentBlock,  # of a reply, unchanged
    LoadedParam,
]
"""One block of a turn. A server-specific block is a `dict[str, Any]`."""


class MessageParam(TypedDict):
    """One turn. `content` is text or blocks, as dicts or as the blocks of a reply."""

    role: Literal["user", "assistant"]
    content: str | Iterable[ContentBlockParam]
