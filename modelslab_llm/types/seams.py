"""Define the seams of an answer that consists of several (docs/streaming.md)."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = ["Seam", "SeamReason"]

SeamReason: TypeAlias = Literal["interrupted", "max_tokens"]
"""Why another request was needed: the stream broke, or the answer reached `max_tokens`."""


class Seam(BaseModel):
    """A place in the text of an answer where another request continued it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)

    at: int
    """The number of characters of `message.text` before it."""
    why: SeamReason
    error: str = ""
    """The error that broke the stream, as text; empty if nothing did."""
    request_id: str | None = None
    """The ID of the request that ended here."""
    estimated_tokens: int = 0
    """Output tokens before the seam that no server reported, estimated from the text. They are part
    of `message.usage`."""
