"""Look at the arguments of an operation before Python does, which would say less of a wrong one.

Around the operation, so that its signature stays true. What is said is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Look: TypeAlias = Callable[[dict[str, object]], None]
"""Raises for what is wrong with the arguments, or completes them."""


def hinting(look: Look) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have `look` at the arguments of a verb by name."""

    def around(verb: Callable[P, R]) -> Callable[P, R]:
        @wraps(verb)
        def called(*args: P.args, **params: P.kwargs) -> R:
            look(params)
            return verb(*args, **params)

        return called

    return around


def ahinting(
    look: Look,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """Do the same for an async verb, which has to be seen to be one."""

    def around(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @wraps(verb)
        async def called(*args: P.args, **params: P.kwargs) -> R:
            look(params)
            return await verb(*args, **params)

        return called

    return around
