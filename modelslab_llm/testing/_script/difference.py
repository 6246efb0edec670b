"""Show how two JSON values differ, for the message of a failed assertion. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from typing import Any

__all__ = ["difference", "lines_of"]

WIDTH = 100
MANY = 60  # lines shown of one difference


def difference(expected: Any, found: Any) -> str:
    """Return the lines that differ with those around them: `-` is expected, `+` was found.

    >>> print(difference({"model": "a", "max_tokens": 5}, {"model": "b", "max_tokens": 5}))
     {
    -  "model": "a"
    +  "model": "b"
       "max_tokens": 5
     }
    """
    lines = unified_diff(lines_of(expected), lines_of(found), lineterm="")
    shown = [line for line in islice(lines, 3, MANY + 3) if not line.startswith("@@")]
    if more := sum(1 for _ in lines):
        shown.append(f"... and {more} more lines")
    return "\n".join(shown)


def lines_of(value: Any) -> list[str]:
    """Return a value as lines of JSON, long texts in several.

    Without commas: the last entry would differ where another came after it.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, separators=("", ": "))
    return [part for line in text.split("\n") for part in _parts(line)]


def _parts(line: str) -> Iterator[str]:
    """Break a line after what JSON writes for the end of a line, and where it is too long."""
    for text in line.replace("\\n", "\\n\n").split("\n"):
        for start in range(0, max(1, len(text)), WIDTH):
            yield text[start : start + WIDTH]
