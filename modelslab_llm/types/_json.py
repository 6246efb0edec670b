"""Tell what a JSON value is, to Python and to type checkers at once, and what a file can hold.

`isinstance(value, dict)` leaves a type checker with a dict of unknown things, and every use of it
with a cast; these say what JSON says: names are strings, and what they name can be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from typing_extensions import TypeIs


def is_object(value: object) -> TypeIs[dict[str, Any]]:
    """Tell whether it is a JSON object."""
    return isinstance(value, dict)


def is_mapping(value: object) -> TypeIs[Mapping[str, Any]]:
    """Tell whether it can represent a JSON object: callers may pass other mappings than dicts."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeIs[list[Any]]:
    """Tell whether it is a JSON array."""
    return isinstance(value, list)


def is_array(value: object) -> TypeIs[Sequence[Any]]:
    """Tell whether it is written as a JSON array, which a tuple is too."""
    return isinstance(value, (list, tuple))


def is_iterable(value: object) -> TypeIs[Iterable[Any]]:
    """Tell whether it can represent a JSON array, which text and mappings cannot."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))


def fields_of(value: object) -> dict[str, Any]:
    """Return the fields of a JSON object; none for anything else."""
    return value if is_object(value) else {}


def encodable(text: str) -> str:
    r"""Return text that can be encoded as UTF-8: a lone surrogate becomes its JSON escape.

    >>> encodable('{"half": "a\ud83d"}')
    '{"half": "a\\ud83d"}'
    """
    return text.encode("utf-8", "backslashreplace").decode()
