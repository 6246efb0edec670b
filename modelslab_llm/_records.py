"""Define the classes of internal values, at a low cost at import.

A frozen dataclass compiles six methods for each class, which every program waits for; these compile
two. Only type checkers prevent a second assignment to a field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a dataclass with `__init__` and `__eq__`, to be treated as frozen."""
    return dataclass(repr=False)(cls)
