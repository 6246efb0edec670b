"""The parameters of the operations, as TypedDicts: absent means not sent (protocol.md §3, §4, §10).

Plain dicts of these shapes are all that is needed; nothing here runs. Servers differ in what they
honour: protocol.md §3 has the table, and `docs/endpoints.md` the short of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, Union

from typing_extensions import NotRequired, Required, TypedDict

from . import turns
from .message import Message
from .turns import *  # noqa: F403
from .turns import CacheControlParam, LoadedParam, MessageParam, TextBlockParam

__all__: list[str] = [
    "CountTokensParams",
    "HasToolParam",
    "MessageCreateParams",
    "MetadataParam",
    "OutputConfigParam",
    "OutputFormatParam",
    "ServerToolParam",
    "ThinkingParam",
    "TimeoutLike",
    "ToolChoiceParam",
    "ToolParam",
]
__all__ += turns.__all__


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

    messages: Required[Iterable[MessageParam | Message | LoadedParam]]
    model: str | None
    """Needed unless the endpoint has a default model."""
    system: str | Iterable[TextBlockParam | LoadedParam] | None
    tools: Iterable[HasToolParam | ToolParam | ServerToolParam | LoadedParam] | None
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
