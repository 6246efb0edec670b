"""Read a JSON object while it is still arriving, at a cost linear in its length. Pure.

Parsing the whole text again for each piece would be quadratic. So it is parsed only after it has
grown by a fraction of its size: small objects are seen at every piece, large ones in growing steps,
and all parses together take at most `1 + 1 / STEP` times the text.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

from ..types._json import is_object

STEP = 1 / 64
"""The fraction by which a text has to grow before it is parsed again."""

_NUMBER = "0123456789+-.eE"
"""Characters that may continue a number: 1 may become 12."""

_ESCAPE = (  # after an even number of backslashes, which are escaped themselves
    r"(?<!\\)(?:\\\\)*"
    r"((?:\\u[dD][89abAB][0-9a-fA-F]{2})?(?:\\(?:u[0-9a-fA-F]{0,3})?)?)\Z"
)
"""An escape at the end of a text that is incomplete, or half of a surrogate pair."""
_SURROGATE = (
    r"(?<!\\)((?:\\\\)*)(?:"
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""An escape of a surrogate; the second group matches if the pair is complete."""


class PartialObject:
    """A JSON object that is still arriving. Text before its first brace is skipped."""

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
        """Return the object as received so far; None if it has not changed since the last call.

        Every returned name and item is final, except the last, which may still grow. `whole` says
        that nothing more will arrive, and forces a last parse.
        """
        grown = self._size - self._read
        if (not grown and not (whole and self._read)) or (grown < self._read * STEP and not whole):
            return None
        text = "".join(self._parts)
        self._parts, self._read = [text], self._size
        value = _read(text if whole else _sure(text))
        if not is_object(value) or value == self._value:
            return None
        self._value = value
        return value


def _read(text: str) -> object:
    """Return the object so far; None if the text is not JSON and cannot become it."""
    while True:
        try:
            return from_json(text, allow_inf_nan=False, allow_partial="trailing-strings")
        except ValueError:
            text, before = _with_whole_characters(text), text
        if text == before:
            return None


def _with_whole_characters(text: str) -> str:
    r"""Return JSON with U+FFFD for each escape of a lone surrogate.

    >>> _with_whole_characters(r'["\ud83d\ude00", "\ud83d", "\\ud83d"]')
    '["\\ud83d\\ude00", "\\ufffd", "\\\\ud83d"]'
    """
    return re.sub(_SURROGATE, lambda found: found[0] if found[2] else found[1] + "\\ufffd", text)


def _sure(text: str) -> str:
    r"""Return an unfinished text without an end that may still become something else.

    >>> _sure('{"n": 12'), _sure('{"t": "caf\\u00')
    ('{"n": ', '{"t": "caf')
    """
    text = text.rstrip(_NUMBER)
    unfinished = re.compile(_ESCAPE).search(text, max(0, len(text) - 24))
    return text[: unfinished.start(1)] if unfinished else text
