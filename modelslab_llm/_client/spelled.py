"""Spell out the keyword parameters of the operations, once for each kind, in reading order.

The operations take TypedDicts as `**params`, which only type checkers can read. These are for
everyone else, by way of `takes`: a program that nobody asks for a signature never loads them. A
test keeps them equal to the TypedDicts. `...` is a default that is set elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol

from .._protocol.config import Options, Timeout
from ..bulk import BulkOptions, BulkProgress
from ..observers import Observer
from ..prices import Budget, Prices
from ..types.message import Message
from ..types.requests import (
    CacheControlParam,
    CountTokensParams,
    HasToolParam,
    LoadedParam,
    MessageCreateParams,
    MessageParam,
    MetadataParam,
    OutputConfigParam,
    ServerToolParam,
    TextBlockParam,
    ThinkingParam,
    TimeoutLike,
    ToolChoiceParam,
    ToolParam,
)


class MessageTakes(Protocol):
    """`MessageCreateParams`; a timeout that is left out is the client's."""

    def __call__(
        self,
        *,
        model: str | None = None,
        messages: Iterable[MessageParam | Message | LoadedParam],
        max_tokens: int,
        system: str | Iterable[TextBlockParam | LoadedParam] | None = None,
        tools: Iterable[HasToolParam | ToolParam | ServerToolParam | LoadedParam] | None = None,
        tool_choice: ToolChoiceParam | None = None,
        thinking: ThinkingParam | None = None,
        output_config: OutputConfigParam | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        stop_sequences: Sequence[str] | None = None,
        cache_control: CacheControlParam | None = None,
        metadata: MetadataParam | None = None,
        service_tier: Literal["auto", "standard_only"] | None = None,
        inference_geo: str | None = None,
        container: str | Mapping[str, Any] | None = None,
        speed: Literal["standard", "fast"] | None = None,
        diagnostics: Mapping[str, Any] | None = None,
        context_management: Mapping[str, Any] | None = None,
        mcp_servers: Sequence[Mapping[str, Any]] | None = None,
        betas: Sequence[str] | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        timeout: float | TimeoutLike | None = ...,
    ) -> MessageCreateParams: ...


class CountTakes(Protocol):
    """`CountTokensParams`."""

    def __call__(
        self,
        *,
        model: str | None = None,
        messages: Iterable[MessageParam | Message | LoadedParam],
        system: str | Iterable[TextBlockParam | LoadedParam] | None = None,
        tools: Iterable[HasToolParam | ToolParam | ServerToolParam | LoadedParam] | None = None,
        tool_choice: ToolChoiceParam | None = None,
        thinking: ThinkingParam | None = None,
        output_config: OutputConfigParam | None = None,
        cache_control: CacheControlParam | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        timeout: float | TimeoutLike | None = ...,
    ) -> CountTokensParams: ...


class OptionTakes(Protocol):
    """`Options`, with what a new client has by default."""

    def __call__(
        self,
        *,
        timeout: float | TimeoutLike | None = Timeout(),  # noqa: B008 - frozen
        deadline: float | None = None,
        progress_timeout: float | None = None,
        max_retries: int = 2,
        max_retry_wait: float = 60.0,
        default_headers: Mapping[str, str] | None = None,
        max_response_bytes: int = 64 * 1024 * 1024,
        observers: Sequence[Observer] = (),
        budget: Budget | None = None,
        flow_control: bool = True,
        max_concurrency: int | None = None,
        max_queue_wait: float | None = 600.0,
    ) -> Options: ...


class ChangeTakes(Protocol):
    """`Options`, of which those that are left out stay as they are."""

    def __call__(
        self,
        *,
        timeout: float | TimeoutLike | None = ...,
        deadline: float | None = ...,
        progress_timeout: float | None = ...,
        max_retries: int = ...,
        max_retry_wait: float = ...,
        default_headers: Mapping[str, str] | None = ...,
        max_response_bytes: int = ...,
        observers: Sequence[Observer] = ...,
        budget: Budget | None = ...,
        flow_control: bool = ...,
        max_concurrency: int | None = ...,
        max_queue_wait: float | None = ...,
    ) -> Options: ...


class BulkTakes(Protocol):
    """`BulkOptions`."""

    def __call__(
        self,
        *,
        store: str | PathLike[str] | None = None,
        max_in_flight: int = 50,
        max_failures: int | None = None,
        retry_failed: bool = False,
        include_stored: bool = True,
        deduplicate: bool = False,
        prices: Prices | None = None,
        budget: Budget | None = None,
        progress: bool | Callable[[BulkProgress], None] = False,
        total: int | None = None,
    ) -> BulkOptions: ...
