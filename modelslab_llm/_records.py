"""Make the classes of values that only this package sees: fields that are set once, and no more.

A frozen dataclass would also compile five methods, for each class in each program, which takes a
twentieth of a short program's time. That a field is not set again is left to the type checkers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Give a class an `__init__` for its fields; its values are equal to themselves alone."""
    return dataclass(eq=False, repr=False, match_args=False)(cls)
