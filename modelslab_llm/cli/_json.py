"""Tell what a value read from JSON or TOML is, to Python and to type checkers at once."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeIs


def is_object(value: object) -> TypeIs[dict[str, Any]]:
    """Tell whether it is an object, or a table."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeIs[list[Any]]:
    """Tell whether it is an array."""
    return isinstance(value, list)
