"""How each server says what all of them say: the table of dialects, by name. Pure.

A message and its events come in Anthropic's form and leave as the server of that name sends them.
Each row names its source, sections of protocol.md; what they do not tell is as Anthropic has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from uuid import UUID

from ...endpoints import Prefill
from .._script.script import ErrorReply, Split
from . import rewrites as to
from . import said
from .events import Json, continued, events_of, repeated_at_once
from .forbidden import ANTHROPIC, ANYTHING, Forbidden
from .rewrites import Change, Rewrite
from .said import Envelope, Error, Lists

__all__ = ["DIALECTS", "Dialect", "DialectName", "dialect_named"]

T = TypeVar("T")

DialectName: TypeAlias = Literal[
    "anthropic",
    "llama-server",
    "vllm",
    "vllm-old",
    "litellm",
    "ollama",
    "lm-studio",
    "new-api",
    "openrouter",
    "vercel",
    "deepseek",
    "modelslab",
    "data-only",
]
"""The servers that a script can emulate. `anthropic` is the documented one; `data-only` is a proxy
that sends no `event:` lines."""


@dataclass(frozen=True)
class Dialect:
    """The deviations of one server; an omitted field is as at Anthropic."""

    source: str
    """The sections of protocol.md that describe it."""
    identify: Callable[[int], str] = "msg_local_{:04}".format
    """Names a message, by the number of the call."""
    model: Callable[[str], str] = str
    """Names the model that answers, by the name that was asked for."""
    message: tuple[Change, ...] = ()
    """What is particular to a reply, however it is sent."""
    whole: tuple[Change, ...] = ()
    """What is particular to a reply in one piece."""
    events: tuple[Rewrite, ...] = ()
    """What is particular to a stream."""
    event_lines: bool = True
    comment: bytes = b""
    """Stands before the first event."""
    done: bool = False
    """Whether `data: [DONE]` follows the last event, or an error."""
    json_label: str = "application/json"
    stream_label: str = "text/event-stream; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stream_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    trace: str | None = None
    """The header with the request's id, `""` for none; `None`: as the endpoint has it."""
    envelope: Envelope | None = None
    """What an `ErrorReply` is put into; `None`: as the endpoint has it."""
    types: Mapping[int, str] = field(default_factory=dict[int, str])
    """The types of errors by status, where they are the server's own."""
    wrong_key: ErrorReply | None = None
    """What is answered to a wrong key, without an id; `None`: status 401 in the envelope."""
    event_error: Envelope | None = said.untraced
    """What an error within a stream is; `None` for silence."""
    error_line: bool = True
    """Whether such an error has an `event:` line."""
    event_type: str = "overloaded_error"
    """The type of such an error when none is named."""
    count: Callable[[str, int], Json | None] = lambda model, tokens: {"input_tokens": tokens}
    """Answers count_tokens, by model and count; `None` if the server does not support it."""
    prefill: Prefill | None = None
    """How it continues a last assistant turn; `None`: as the script says."""
    forbidden: Forbidden = ANYTHING
    """What it refuses in a request."""
    models: Lists | None = None
    """`None`: as the endpoint has it."""

    def reworded(self, message: Json) -> Json:
        """Return a filled-in message as this server means it."""
        return _through(self.message, message)

    def in_one_piece(self, message: Json) -> Json:
        """Return the body of a reply in one piece."""
        return _through(self.whole, message)

    def continuing(self, message: Json, prefill: str) -> tuple[Dialect, Json]:
        """Return what is said, and how, to a request that ends in the beginning of an answer."""
        if not prefill or self.prefill is None:
            return self, message
        said = continued(message, prefill, self.prefill)
        if said is message or self.prefill == "rest":
            return self, said
        return replace(self, events=(repeated_at_once(prefill), *self.events)), said

    def in_events(self, message: Mapping[str, Any], split: Split) -> list[Json]:
        """Return the events of a stream."""
        return _through(self.events, list(events_of(message, split)))

    def error_in_events(self, type_: str, message: str, request_id: str) -> Json | None:
        """Return the error that ends a stream, or `None` if it ends silently."""
        type_ = type_ or self.event_type
        error = Error(said.status_of(type_), type_, message, request_id)
        return self.event_error(error) if self.event_error else None


def _through(changes: Iterable[Callable[[T], T]], value: T) -> T:
    for change in changes:
        value = change(value)
    return value


_KNOWN = {reason: reason for reason in ("end_turn", "max_tokens", "tool_use")}

_VLLM = Dialect(
    source="§5 usage, ids, stop reasons; §6; §7.3 a and f, §7.4; §8; §11",
    identify="chatcmpl-{:032x}".format,
    message=(
        to.counting(to.whole_prompt),
        to.stopping({**_KNOWN, "stop_sequence": "end_turn"}, otherwise=None),
        to.signing(to.signature_of_hex),
    ),
    whole=(to.without_nulls,),
    events=(
        to.without_pings,
        to.started(to.without("type", "role")),
        to.opened(to.without("signature")),
        to.without_empty_arguments,
        to.ended(to.stop_reason_alone),
        to.index_last,
    ),
    trace="",
    envelope=said.of_vllm,
    types={400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"},
    event_type="internal_error",
    count=lambda model, tokens: {
        "input_tokens": tokens,
        "context_management": {"original_input_tokens": tokens},
    },
    models=said.models_of_v7,
)

DIALECTS: Mapping[DialectName, Dialect] = {
    "anthropic": Dialect(
        source="§3, §5, §6, §7; §3 prefill: as older models",
        event_error=said.wrapped,
        prefill="rest",
        forbidden=ANTHROPIC,
    ),
    "llama-server": Dialect(
        source="§1 model; §2 headers; §3 prefill; §5 usage, ids; §6 order; §7.1, §7.3 c, §7.4; §11",
        identify="chatcmpl-{:032}".format,
        model=lambda asked: said.GGUF,
        message=(
            to.counting(to.with_cache_read),
            to.stop_sequence_as_end_turn,
            to.signing(to.signature_empty),
        ),
        events=(
            to.without_pings,
            to.opened(to.without("input", "signature")),
            to.without_empty_arguments,
            to.stops_at_the_end,
            to.ended(to.output_tokens_alone),
        ),
        json_label="application/json; charset=utf-8",
        stream_label="text/event-stream",
        headers={"server": "llama.cpp"},
        stream_headers={"x-accel-buffering": "no"},
        error_headers={"connection": "close"},
        trace="",
        envelope=said.with_code,
        types={500: "server_error", 501: "not_supported_error", 503: "unavailable_error"},
        event_error=said.bare,
        event_type="server_error",
        prefill="repeats",
        models=said.models_of_gguf,
    ),
    "vllm": _VLLM,
    "vllm-old": replace(_VLLM, source="as vllm; §6, §7.4, §11 [DONE]", done=True),
    "litellm": Dialect(
        source="§2 header; §5 ids, stop reasons; §7.3 a and d; §11: all of it seen with 1.108.7, "
        "in front of a llama-server",
        identify=lambda call: f"msg_{UUID(int=call)}",
        message=(
            to.counting(to.with_cache_read_if_any),
            to.stopping({**_KNOWN, "refusal": "refusal"}, otherwise="end_turn"),
        ),
        whole=(
            to.named("chatcmpl-"),
            to.signing(to.signature_null),
            to.empty_text_before_calls,
            to.with_stop_details,
        ),
        events=(
            to.without_pings,
            to.started(to.without("stop_details")),
            to.started(to.counting(to.zeros_of_four)),
            to.without_signatures,
            to.without_empty_arguments,
            to.ended(to.stop_reason_alone),
        ),
        stream_headers={"x-accel-buffering": "no"},
        trace="x-litellm-call-id",
        envelope=said.untraced,
        wrong_key=ErrorReply(
            400,
            body=b'{"error":{"message":"No connected db.","type":"no_db_connection",'
            b'"param":null,"code":"400"}}',
        ),
        count=lambda model, tokens: {
            "input_tokens": tokens,
            "litellm_count_source": "local_estimate",
        },
        models=said.models_of_litellm,
    ),
    "ollama": Dialect(
        source="§4 thinking; §5 content, stop reasons, ids; §7.3 a, §7.4; §8; §11",
        identify="msg_{:024x}".format,
        message=(
            to.counting(to.whole_prompt),
            to.stop_sequence_as_end_turn,
            to.without("stop_sequence"),
            to.signing(to.without("signature")),
        ),
        whole=(to.null_when_empty,),
        events=(
            to.without_pings,
            to.started(to.without("stop_reason")),
            to.started(to.counting(to.estimate)),
            to.opened(to.without("signature")),
            to.without_signatures,
            to.arguments_at_once,
        ),
        trace="",
        envelope=said.wrapped,
        event_error=None,
        count=lambda model, tokens: None,
        models=said.models_of_v7,
    ),
    "lm-studio": Dialect(
        source="§11: the six events, and no more",
        events=(to.without_pings,),
        models=said.models_of_v7,
    ),
    "new-api": Dialect(
        source="§2 header; §4 thinking; §5 usage, ids; §7.3 a and d; §9; §11",
        identify="chatcmpl-{:032x}".format,
        message=(to.counting(to.cache_read_twice), to.signing(to.without("signature"))),
        whole=(to.tools_alone,),
        events=(
            to.without_pings,
            to.opened(to.without("signature")),
            to.without_signatures,
            to.tools_in_turns,
            to.silent_without_usage,
        ),
        comment=b": PING\n\n",
        trace="x-oneapi-request-id",
        envelope=said.of_new_api,
        types=dict.fromkeys((400, 401, 403, 404, 429, 500, 502, 503), "new_api_error"),
        models=said.models_of_gateway,
    ),
    "openrouter": Dialect(
        source="§2 header; §7.3 i; §11",
        comment=b": OPENROUTER PROCESSING\n\n",
        trace="x-generation-id",
        envelope=said.with_metadata,
        event_error=said.with_metadata,
        error_line=False,
        models=said.models_of_v7,
    ),
    "vercel": Dialect(
        source="§11: usage of message_start; count_tokens of other models than Anthropic's",
        events=(to.started(to.counting(to.zeros)),),
        count=lambda model, tokens: {"input_tokens": tokens} if "claude" in model else None,
        models=said.models_of_v7,
    ),
    "deepseek": Dialect(
        source="§11: names of Claude models lead to another one",
        model=lambda asked: "deepseek-chat" if asked.startswith("claude") else asked,
        models=said.models_of_v7,
    ),
    "modelslab": Dialect(
        source="§5: the documented subset",
        message=(to.counting(to.tokens_alone), to.without("stop_sequence")),
    ),
    "data-only": Dialect(
        source="§6 data-only streams; §7.4; §11 some proxies",
        events=(to.without_pings, to.ended(to.output_tokens_alone)),
        event_lines=False,
        done=True,
        envelope=said.with_code,
        event_error=said.with_code,
        error_line=False,
        models=said.models_of_v7,
    ),
}


def dialect_named(name: DialectName) -> Dialect:
    """Return the dialect of that name. Raises `ValueError` with the names there are."""
    if name not in DIALECTS:
        known = ", ".join(repr(known) for known in get_args(DialectName))
        raise ValueError(f"dialect {name!r} is unknown: there are {known}")
    return DIALECTS[name]
