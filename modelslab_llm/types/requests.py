"""Define the parameters of the operations, as TypedDicts (protocol.md §3, §4, §10).

Absent means not sent. Plain dicts of these shapes are all that is needed; nothing here runs.
Servers differ in what they support: protocol.md §3 has the table, `docs/endpoints.md` a summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, Union

from typing_extensions import NotRequired, Required, TypedDict

from .message import Message
from .turns import *  # noqa: F403
from .turns import CacheControlParam, LoadedParam, MessageParam, TextBlockParam

__all__ = [
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


class MetadataParam(TypedDict, total=False):
    """The user that the request is for, as an opaque ID."""

    user_id: str | None


class OutputFormatParam(TypedDict):
    """Make the answer JSON that matches this schema, if the server supports it."""

    type: Literal["json_schema"]
    schema: Mapping[str, Any]


class OutputConfigParam(TypedDict, total=False):
    """The effort, and the format of the answer."""

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
    """JSON schema of the arguments. Required for your own tools."""
    type: str
    """`"custom"`, the default."""
    strict: bool
    cache_control: CacheControlParam | None
    eager_input_streaming: bool
    defer_loading: bool
    input_examples: Sequence[Mapping[str, Any]]
    allowed_callers: Sequence[str]


class HasToolParam(Protocol):
    """An object with its own definition, such as a `Tool`."""

    def to_param(self) -> ToolParam:
        """Return the definition."""
        ...


class ServerToolParam(TypedDict, total=False):
    """A tool that the server runs itself, such as Anthropic's web search."""

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
        """Without the server accepting a byte."""
        ...

    @property
    def pool(self) -> float | None:
        """For a free connection."""
        ...


class _Options(TypedDict, total=False):
    extra_headers: Mapping[str, str] | None
    """Headers of this request only; they take precedence over the client's."""
    extra_body: Mapping[str, Any] | None
    """Server-specific fields, such as llama-server's `chat_template_kwargs`; they take precedence
    over parameters of the same name."""
    timeout: float | TimeoutLike | None
    """Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default: the client's
    `timeout`."""


class CountTokensParams(_Options, total=False):
    """The parameters of `messages.count_tokens` (protocol.md §8)."""

    messages: Required[Iterable[MessageParam | Message | LoadedParam]]
    """Required. The conversation: turns with a `role` ("user" or "assistant") and `content`,
    replies of the model among them, or a `Conversation`."""
    model: str | None
    """Name of the model. Optional if the endpoint has a `default_model`, as `gguf()` and
    `llama_server()` do; a llama-server with one model ignores it."""
    system: str | Iterable[TextBlockParam | LoadedParam] | None
    """System prompt: a string, or text blocks, which llama-server joins without a separator."""
    tools: Iterable[HasToolParam | ToolParam | ServerToolParam | LoadedParam] | None
    """Tools the model may call: functions decorated with `@tool`, or definitions. No two may have
    the same name."""
    tool_choice: ToolChoiceParam | None
    """Whether the model may, must or must not call tools; by default it may. llama-server treats
    `tool` as `any` and ignores `none`; Ollama ignores it."""
    thinking: ThinkingParam | None
    """Whether the model thinks first, with a budget in tokens. llama-server reads only `enabled`;
    vLLM ignores it; v7 and GGUF do not document it."""
    output_config: OutputConfigParam | None
    """Effort, and the JSON schema of the answer. For Anthropic and newer vLLM; Ollama reads only
    the effort, llama-server nothing."""
    cache_control: CacheControlParam | None
    """Cache the prompt up to its last block. Anthropic only; llama-server caches prefixes by
    itself."""


class MessageCreateParams(CountTokensParams, total=False):
    """The parameters of `messages.create` and `messages.stream` (protocol.md §3).

    A parameter that is absent or None is not sent, and the server's default applies.
    """

    max_tokens: Required[int]
    """Required. Maximum number of tokens to generate, thinking included; at least 1. No upper limit
    is checked here."""
    temperature: float | None
    """Sampling temperature, 0 to 1; a gateway may allow more. Documented default 1; 0.8 on
    llama-server. The newest Claude models refuse it."""
    top_p: float | None
    """Nucleus sampling, 0 to 1. Default 0.95 on llama-server. The newest Claude models refuse
    it."""
    top_k: int | None
    """Sample from this many of the most likely tokens, at least 1. Default 40 on llama-server. One
    of the advanced parameters of v7; undocumented for GGUF."""
    stop_sequences: Sequence[str] | None
    """Texts that end the answer. `message.stop_sequence` is the one that did, if the server reports
    it."""
    metadata: MetadataParam | None
    """Opaque ID of the user the request is for. Anthropic only."""
    service_tier: Literal["auto", "standard_only"] | None
    """Capacity to serve the request from. Anthropic only."""
    inference_geo: str | None
    """Region to run the model in. Anthropic only."""
    container: str | Mapping[str, Any] | None
    """Container for code execution, by ID or with its settings. Anthropic only."""
    speed: Literal["standard", "fast"] | None
    """Speed of inference. Anthropic only, and not for every model."""
    diagnostics: Mapping[str, Any] | None
    """What to diagnose, such as `{"previous_message_id": ...}`. Anthropic only."""
    context_management: Mapping[str, Any] | None
    """How the server trims a long context. Beta of Anthropic."""
    mcp_servers: Sequence[Mapping[str, Any]] | None
    """MCP servers whose tools the model may call. Beta of Anthropic."""
    betas: Sequence[str] | None
    """Beta features to turn on; sent as the header `anthropic-beta`."""
