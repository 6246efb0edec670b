"""How servers put an error into JSON: the envelopes of protocol.md §7.3 and §7.4. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..._protocol.refusals import STATUS_BY_TYPE, TYPE_BY_STATUS
from .events import Json


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
    return TYPE_BY_STATUS.get(status) or TYPE_BY_STATUS[400 if status < 500 else 500]


def status_of(type_: str) -> int:
    """Return the status that a type of error would have had, were it not in a stream."""
    return STATUS_BY_TYPE.get(type_, 500)


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
