"""How servers put an error into JSON: the envelopes of protocol.md §7.3 and §7.4. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .events import Json

# Where Anthropic's type is not the usual one of 4xx or 5xx (protocol.md §7.1).
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# The other way round, for errors in a stream (protocol.md §7.6).
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    **{type_: status for status, type_ in _TYPES.items()},
    "unavailable_error": 503,
}


@dataclass(frozen=True)
class Error:
    """What an envelope holds."""

    status: int
    type: str
    message: str
    request_id: str


Envelope: TypeAlias = Callable[[Error], Json]


def type_of(status: int) -> str:
    """Return the type that Anthropic gives to a status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def status_of(type_: str) -> int:
    """Return the status that a type of error would have had, were it not in a stream."""
    return _STATUS.get(type_, 500)


def wrapped(error: Error) -> Json:
    """Wrap as Anthropic does: variant a, with the request's id."""
    return {**untraced(error), "request_id": error.request_id}


def untraced(error: Error) -> Json:
    """Wrap as Anthropic does, without an id."""
    return {"type": "error", "error": {"type": error.type, "message": error.message}}


def of_gguf(error: Error) -> Json:
    """Wrap as the gateway before GGUF deployments does: variant b."""
    return {"error": {"type": error.type, "message": error.message}}


def bare(error: Error) -> Json:
    """Say it without an envelope, as llama-server does in a stream."""
    return {"code": error.status, "message": error.message, "type": error.type}


def with_code(error: Error) -> Json:
    """Wrap as llama-server does: variant c, with the status as a number."""
    return {"error": bare(error)}


def of_v7(error: Error) -> Json:
    """Wrap as v7 is documented: variant d, with a code in words."""
    code = error.type.removesuffix("_error")
    return {"error": {"message": error.message, "type": error.type, "code": code}}


def with_metadata(error: Error) -> Json:
    """Wrap as OpenRouter does: variant i."""
    return {"error": {"code": error.status, "message": error.message, "metadata": {}}}


def of_vllm(error: Error) -> Json:
    """Wrap as vLLM does: variant a, but f for a wrong key."""
    return {"error": "Unauthorized"} if error.status == 401 else untraced(error)


def of_litellm(error: Error) -> Json:
    """Wrap as LiteLLM does: variant a, with its own id inside."""
    said = {"type": error.type, "message": error.message, "litellm_call_id": error.request_id}
    return {"type": "error", "error": said}


def of_new_api(error: Error) -> Json:
    """Wrap as new-api does: variant a, but d for a wrong key; the id is part of the message."""
    message = f"{error.message} (request id: {error.request_id})"
    if error.status == 401:
        return {"error": {"message": message, "type": error.type, "param": "", "code": None}}
    return {"type": "error", "error": {"type": error.type, "message": message}}
