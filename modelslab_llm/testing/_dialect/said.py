"""What servers say by themselves: errors in their envelopes (protocol.md §7.3, §7.4), and lists of
models in the three styles there are (§9). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..._protocol.refusals import STATUS_BY_TYPE, TYPE_BY_STATUS
from .._script.script import ErrorReply
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


def of_new_api(error: Error) -> Json:
    """Wrap as new-api does: variant a, but d for a wrong key; the id is part of the message."""
    message = f"{error.message} (request id: {error.request_id})"
    if error.status == 401:
        return {"error": {"message": message, "type": error.type, "param": "", "code": None}}
    return {"type": "error", "error": {"type": error.type, "message": message}}


# Lists of models

GGUF = "/models/local-echo-q4.gguf"
"""What llama-server calls its model: the path of its file (protocol.md §1)."""

_CREATED = 1767225600  # 2026-01-01, like the dates below


Names: TypeAlias = Sequence[str] | None
"""The ids of the models that are there; None for some of the kit's own."""

Lists: TypeAlias = Callable[[Mapping[str, str], Names], Json | ErrorReply]
"""Lists models, by the query."""


def models_of_v7(query: Mapping[str, str], names: Names = None) -> Json:
    """List models in OpenAI's style; the id of one of the kit's holds a slash."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": _CREATED,
                "owned_by": name.partition("/")[0] if "/" in name else "local",
            }
            for name in names or ("Qwen/Qwen2.5-VL-72B-Instruct-together", "local-echo")
        ],
    }


def models_of_gguf(query: Mapping[str, str], names: Names = None) -> Json:
    """List models, of its own just one, in llama-server's two styles at once (protocol.md §9)."""
    meta = {"n_ctx": 4096, "n_ctx_train": 32768, "n_params": 4022468096, "size": 2497280256}
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "type": "model",
                "capabilities": ["completion"],
                "details": {"format": "gguf"},
            }
            for name in names or (GGUF,)
        ],
        "object": "list",
        "data": [
            {
                "id": name,
                "aliases": [name],
                "tags": [],
                "object": "model",
                "created": _CREATED,
                "owned_by": "llamacpp",
                "meta": meta,
            }
            for name in names or (GGUF,)
        ],
    }


def models_of_gateway(query: Mapping[str, str], names: Names = None) -> Json | ErrorReply:
    """List a page of models, after `after_id` and up to `limit` (protocol.md §9)."""
    names = list(names or ("local-large", "local-medium", "local-small"))
    limit, after = query.get("limit", "20"), query.get("after_id")
    if not re.fullmatch(r"[1-9]\d{0,2}|1000", limit):
        return ErrorReply(400, "limit: must be a whole number from 1 to 1000")
    if after is not None and after not in names:
        return ErrorReply(400, f"after_id: there is no model {after!r}")
    rest = names[names.index(after) + 1 :] if after else names
    page = rest[: int(limit)]
    return {
        "data": [
            {
                "type": "model",
                "id": name,
                "display_name": name.replace("-", " ").title(),
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "active",
                "max_input_tokens": 200000,
                "max_tokens": 64000,
            }
            for name in page
        ],
        "has_more": len(rest) > len(page),
        "first_id": page[0] if page else None,
        "last_id": page[-1] if page else None,
    }


def models_of_litellm(query: Mapping[str, str], names: Names = None) -> Json:
    """List models in Anthropic's style, whose limits LiteLLM knows only of its own table's."""
    ids = list(names or ("local-large", "local-small"))
    return {
        "data": [
            {
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2026-01-01T00:00:00Z",
                "max_input_tokens": None,
                "max_tokens": None,
            }
            for name in ids
        ],
        "has_more": False,
        "first_id": ids[0],
        "last_id": ids[-1],
    }
