"""The three kinds of endpoint: their paths, their keys, what they say by themselves. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import said
from .forbidden import MODELSLAB, Forbidden
from .said import Envelope, Lists

__all__ = ["Kind", "kind_at"]


@dataclass(frozen=True)
class Kind:
    place: re.Pattern[str]
    """The paths of this kind; `rest` is what comes after the base."""
    credentials: tuple[str, ...]
    """The headers that may carry the key (protocol.md §2)."""
    envelope: Envelope
    models: Lists
    openai: str
    """Where the routes of the OpenAI format begin: their base is not everywhere one with `/v1`."""
    traced: bool = False
    """Whether each response has a `request-id` header."""
    guarded: bool = False
    """Whether key and deployment are checked before the server that has the dialect is asked."""
    forbidden: Forbidden | None = None
    """What its documents rule out; None: what the dialect does."""


_KINDS = (
    Kind(
        re.compile(r"/api/v7/llm(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key"),
        said.of_v7,
        said.models_of_v7,
        "",
        forbidden=MODELSLAB,
    ),
    Kind(
        re.compile(r"/api/gguf/(?P<deployment>[^/]+)(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key", "key"),
        said.of_gguf,
        said.models_of_gguf,
        "/v1",
        guarded=True,
        forbidden=MODELSLAB,
    ),
    # Matches whatever is left. A prefix has no empty part and no `v1`: badly joined URLs, such
    # as `//v1/messages` and `/v1/v1/messages`, are to fail here as they do elsewhere.
    Kind(
        re.compile(r"(/(?!v1/)[^/]+)*(?P<rest>.*)", re.DOTALL),
        ("authorization", "x-api-key", "key"),
        said.wrapped,
        said.models_of_gateway,
        "/v1",
        traced=True,
    ),
)


def kind_at(path: str) -> tuple[Kind, re.Match[str]]:
    """Return the kind of endpoint that a path belongs to, and what the path names."""
    return next((kind, found) for kind in _KINDS if (found := kind.place.fullmatch(path)))
