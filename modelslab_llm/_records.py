"""Make the classes of values that only this package sees: fields that are set once, and no more.

A frozen dataclass would also compile four methods for each class, in each program, which takes a
fortieth of a short program's time. That a field is not set again is left to the type checkers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Give a class an `__init__` for its fields, and compare its values by them."""
    return dataclass(repr=False)(cls)
