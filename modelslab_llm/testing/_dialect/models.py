"""List models in the three styles there are (protocol.md §9). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .._script.script import ErrorReply
from .events import Json

__all__ = ["GGUF", "of_gateway", "of_gguf", "of_v7"]

GGUF = "/models/local-echo-q4.gguf"
"""What llama-server calls its model: the path of its file (protocol.md §1)."""

_CREATED = 1767225600  # 2026-01-01, like the dates below


def of_v7(query: Mapping[str, str]) -> Json:
    """List two models in OpenAI's style; the id of one holds a slash."""
    names = {"Qwen/Qwen2.5-VL-72B-Instruct-together": "Qwen", "local-echo": "local"}
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": owner}
            for name, owner in names.items()
        ],
    }


def of_gguf(query: Mapping[str, str]) -> Json:
    """List the one model in llama-server's two styles at once (protocol.md §9)."""
    meta = {"n_ctx": 4096, "n_ctx_train": 32768, "n_params": 4022468096, "size": 2497280256}
    return {
        "models": [
            {
                "name": GGUF,
                "model": GGUF,
                "type": "model",
                "capabilities": ["completion"],
                "details": {"format": "gguf"},
            }
        ],
        "object": "list",
        "data": [
            {
                "id": GGUF,
                "aliases": [GGUF],
                "tags": [],
                "object": "model",
                "created": _CREATED,
                "owned_by": "llamacpp",
                "meta": meta,
            }
        ],
    }


def of_gateway(query: Mapping[str, str]) -> Json | ErrorReply:
    """List a page of models, after `after_id` and up to `limit` (protocol.md §9)."""
    names = ["local-large", "local-medium", "local-small"]
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
