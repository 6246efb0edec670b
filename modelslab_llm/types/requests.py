"""What a caller sends, as TypedDicts: absent means not sent (protocol.md §3, §4, §10).

Plain dicts of these shapes are all that is needed; nothing here runs. Servers differ in what they
honour: protocol.md §3 has the table, and `docs/endpoints.md` the short of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, Union

from typing_extensions import NotRequired, Required, TypedDict

from .content import ContentBlock
from .message import Message

__all__ = [
    "Base64SourceParam",
    "CacheControlParam",
    "ContainerUploadBlockParam",
    "ContentBlockParam",
    "ContentSourceParam",
    "CountTokensParams",
    "DocumentBlockParam",
    "FileSourceParam",
    "HasToolParam",
    "ImageBlockParam",
    "MessageCreateParams",
    "MessageParam",
    "MetadataParam",
    "MidConvSystemBlockParam",
    "OutputConfigParam",
    "OutputFormatParam",
    "RedactedThinkingBlockParam",
    "SearchResultBlockParam",
    "ServerToolParam",
    "ServerToolUseBlockParam",
    "TextBlockParam",
    "TextSourceParam",
    "ThinkingBlockParam",
    "ThinkingParam",
    "TimeoutLike",
    "ToolChoiceParam",
    "ToolParam",
    "ToolReferenceBlockParam",
    "ToolResultBlockParam",
    "ToolUseBlockParam",
    "URLSourceParam",
]


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
    """A picture, for models that can see."""

    type: Literal["image"]
    source: Base64SourceParam | URLSourceParam | FileSourceParam
    cache_control: NotRequired[CacheControlParam | None]


class ContentSourceParam(TypedDict):
    """A document made of blocks."""

    type: Literal["content"]
    content: str | Sequence[TextBlockParam | ImageBlockParam]


class DocumentBlockParam(TypedDict):
    """A document. llama-server and Ollama drop it without a word (protocol.md §4)."""

    type: Literal["document"]
    source: (
        Base64SourceParam | TextSourceParam | ContentSourceParam | URLSourceParam | FileSourceParam
    )
    title: NotRequired[str | None]
    context: NotRequired[str | None]
    citations: NotRequired[Mapping[str, bool] | None]
    cache_control: NotRequired[CacheControlParam | None]


class SearchResultBlockParam(TypedDict):
    """A search result of the caller's, which the model may cite."""

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
    """What a tool call gave. Put results first in their turn; say `Error:` in the text of one
    that failed, since llama-server, vLLM and Ollama ignore `is_error` (protocol.md §10)."""

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
    """Thinking of an earlier turn, sent back unchanged and only to the server it came from."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlockParam(TypedDict):
    """Hidden thinking of an earlier turn, sent back unchanged."""

    type: Literal["redacted_thinking"]
    data: str


class ServerToolUseBlockParam(TypedDict):
    """A call of a server's own tool, from an earlier turn."""

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
    ContentBlock,  # of a reply, just as it came
]
"""One block of a turn. For a block that only one server knows, cast its dict to this."""


class MessageParam(TypedDict):
    """One turn. `content` is text or blocks, as dicts or just as a reply brought them."""

    role: Literal["user", "assistant"]
    content: str | Iterable[ContentBlockParam]


class MetadataParam(TypedDict, total=False):
    """Whom the request is for, as an opaque id."""

    user_id: str | None


class OutputFormatParam(TypedDict):
    """Make the answer JSON of this schema, where the server can."""

    type: Literal["json_schema"]
    schema: Mapping[str, Any]


class OutputConfigParam(TypedDict, total=False):
    """How hard to try, and in which form to answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"]
    format: OutputFormatParam


class _ThinkingEnabled(TypedDict):
    type: Literal["enabled"]
    budget_tokens: int
    """At least 1024, and less than `max_tokens`."""
    display: NotRequired[Literal["summarized", "omitted"]]


class _ThinkingAdaptive(TypedDict):
    type: Literal["adaptive"]
    display: NotRequired[Literal["summarized", "omitted"]]


class _ThinkingOther(TypedDict):
    type: Literal["disabled", "between_tools"]


ThinkingParam: TypeAlias = Union[_ThinkingEnabled, _ThinkingAdaptive, _ThinkingOther]
"""Whether the model thinks first. llama-server reads only `enabled` (protocol.md §3)."""


class _ToolChoiceAutoAny(TypedDict):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: NotRequired[bool]


class _ToolChoiceTool(TypedDict):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: NotRequired[bool]


class _ToolChoiceNone(TypedDict):
    type: Literal["none"]


ToolChoiceParam: TypeAlias = Union[_ToolChoiceAutoAny, _ToolChoiceTool, _ToolChoiceNone]
"""Whether the model may, must or must not call tools. llama-server takes `tool` for `any` and
ignores `none`: leave `tools` out to be sure (protocol.md §3, §10)."""


class ToolParam(TypedDict, total=False):
    """A tool the model may call; a name of letters, digits, `_` and `-` is safe everywhere."""

    name: Required[str]
    description: str
    input_schema: Mapping[str, Any]
    """JSON schema of the arguments. Required for tools of your own."""
    type: str
    """`"custom"`, which is what it is without saying so."""
    strict: bool
    cache_control: CacheControlParam | None
    eager_input_streaming: bool
    defer_loading: bool
    input_examples: Sequence[Mapping[str, Any]]
    allowed_callers: Sequence[str]


class HasToolParam(Protocol):
    """What knows its own definition, as a `Tool` does."""

    def to_param(self) -> ToolParam:
        """Return the definition."""
        ...


class ServerToolParam(TypedDict, total=False):
    """A tool the server runs by itself, such as Anthropic's web search."""

    type: Required[str]
    name: str
    cache_control: CacheControlParam | None
    max_uses: int
    allowed_domains: Sequence[str]
    blocked_domains: Sequence[str]
    user_location: Mapping[str, Any]
    mcp_server_name: str


class TimeoutLike(Protocol):
    """What `Timeout` and `httpx.Timeout` have in common: seconds, or None for no limit."""

    @property
    def connect(self) -> float | None:
        """To reach the server."""
        ...

    @property
    def read(self) -> float | None:
        """Without a byte from the server."""
        ...

    @property
    def write(self) -> float | None:
        """Without the server taking a byte."""
        ...

    @property
    def pool(self) -> float | None:
        """For a free connection."""
        ...


class _Options(TypedDict, total=False):
    extra_headers: Mapping[str, str] | None
    """Headers for this request only; they win over the client's."""
    extra_body: Mapping[str, Any] | None
    """Fields that only one server knows, such as llama-server's `chat_template_kwargs`."""
    timeout: float | TimeoutLike | None
    """Seconds for this request instead of the client's `timeout`; None for no limit."""


class CountTokensParams(_Options, total=False):
    """The parameters of `messages.count_tokens` (protocol.md §8)."""

    messages: Required[Iterable[MessageParam | Message]]
    model: str | None
    """Needed unless the endpoint has a default model."""
    system: str | Iterable[TextBlockParam] | None
    tools: Iterable[HasToolParam | ToolParam | ServerToolParam] | None
    """Tools made by `@tool`, or definitions. No two may have the same name."""
    tool_choice: ToolChoiceParam | None
    thinking: ThinkingParam | None
    output_config: OutputConfigParam | None
    cache_control: CacheControlParam | None


class MessageCreateParams(CountTokensParams, total=False):
    """The parameters of `messages.create` and `messages.stream` (protocol.md §3).

    A parameter that is absent or None is not sent, and the server's default holds.
    """

    max_tokens: Required[int]
    """The most tokens to answer with, at least 1. No upper limit is checked here."""
    temperature: float | None
    """0 to 1; a gateway may allow more. The newest Claude models refuse it."""
    top_p: float | None
    """0 to 1."""
    top_k: int | None
    """At least 1. In the advanced parameters of v7; undocumented for GGUF."""
    stop_sequences: Sequence[str] | None
    """Texts that end the answer. What was hit is in `message.stop_sequence`, if at all."""
    metadata: MetadataParam | None
    service_tier: Literal["auto", "standard_only"] | None
    inference_geo: str | None
    container: str | Mapping[str, Any] | None
    speed: Literal["standard", "fast"] | None
    diagnostics: Mapping[str, Any] | None
    context_management: Mapping[str, Any] | None
    mcp_servers: Sequence[Mapping[str, Any]] | None
    betas: Sequence[str] | None
    """Sent as the header `anthropic-beta`."""
