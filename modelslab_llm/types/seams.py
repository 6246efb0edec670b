"""Where one answer was made of several (docs/streaming.md)."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

__all__ = ["Seam", "SeamReason"]

SeamReason: TypeAlias = Literal["interrupted", "max_tokens"]
"""Why another request was needed: the stream broke, or the answer reached `max_tokens`."""


class Seam(BaseModel):
    """A place in the text of an answer at which another request went on."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)

    at: int
    """How many characters of `message.text` stand before it."""
    why: SeamReason
    error: str = ""
    """What broke the stream, in the words of the error; empty if nothing did."""
    request_id: str | None = None
    """The id of the request that ended here."""
    estimated_tokens: int = 0
    """Output tokens before the seam that no server counted. They are part of `message.usage`, as
    far as they can be told from the text."""
