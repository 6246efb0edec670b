"""Load the packages of the features when one of their methods is first accessed.

They take 5.6 % of a cold start, which programs that only create and stream do not pay. An accessed
method is a plain function in a module with all the names of its annotations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._forks import no_fork

F = TypeVar("F", bound=Callable[..., Any])


class _Late:
    """A method that replaces this descriptor when it is first accessed."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:
        with no_fork():
            from . import features

        names = {n: found for n, found in vars(features).items() if not n.startswith("__")}
        vars(sys.modules[self._owner.__module__]).update(names)
        if vars(self._owner).get(self._name) is self:
            setattr(self._owner, self._name, self._method)
        return self._method.__get__(instance, owner)


if TYPE_CHECKING:

    def late(method: F) -> F:
        """Mark a method whose names are in `features`."""
        return method
else:
    late = _Late
