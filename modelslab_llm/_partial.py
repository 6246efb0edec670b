"""Read a JSON object while it is still arriving, at a cost linear in its length. Pure.

To read the whole text again at each piece would be quadratic. So it is read only when it has grown
by a part of what was read before: small objects are seen at every piece, large ones in ever larger
steps, and all the readings together take no more than `1 + 1 / STEP` times the text.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import from_json

STEP = 1 / 64
"""By which part of itself a text has to grow before it is read again."""

UNSURE = "0123456789+-.eE"
"""What a number may go on with: 1 may become 12, so the end of an unfinished text is left out."""


class PartialObject:
    """A JSON object of which some has come. What stands before its first brace is skipped."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0
        self._read = 0
        self._value: dict[str, Any] | None = None

    def add(self, piece: str) -> None:
        """Take the next piece of the text."""
        if not self._size:
            piece = piece[max(0, piece.find("{")) :] if "{" in piece else ""
        self._parts.append(piece)
        self._size += len(piece)

    def news(self, *, whole: bool = False) -> dict[str, Any] | None:
        """Return the object as far as it has come; None if there is no more to see than last time.

        Each name and item stays as it was first returned, but the last: that one may still grow.
        `whole` says that no more will come, which makes a last reading.
        """
        grown = self._size - self._read
        if (not grown and not (whole and self._read)) or (grown < self._read * STEP and not whole):
            return None
        text = "".join(self._parts)
        self._parts, self._read = [text], self._size
        try:
            value = from_json(
                text if whole else text.rstrip(UNSURE),
                allow_inf_nan=False,
                allow_partial="trailing-strings",
            )
        except ValueError:  # this is no JSON, and more of it will not make it so
            return None
        if not isinstance(value, dict) or value == self._value:
            return None
        self._value = cast("dict[str, Any]", value)
        return self._value
