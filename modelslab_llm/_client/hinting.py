"""Look at the arguments of an operation before Python does, which would say less of a wrong one.

Around the operation, so that its signature stays true. What is said is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
"""A verb comes back as what it was, which jedi understands; of a ParamSpec it shows `self`."""

Look: TypeAlias = Callable[[dict[str, object]], None]
"""Raises for what is wrong with the arguments, or completes them."""


def hinting(look: Look) -> Callable[[F], F]:
    """Have `look` at the arguments of a verb by name."""

    def around(verb: F) -> F:
        @wraps(verb)
        def called(*args: Any, **params: Any) -> Any:
            look(params)
            return verb(*args, **params)

        return cast("F", called)  # which takes and returns what the verb does

    return around


def ahinting(look: Look) -> Callable[[F], F]:
    """Do the same for an async verb, which has to be seen to be one."""

    def around(verb: F) -> F:
        @wraps(verb)
        async def called(*args: Any, **params: Any) -> Any:
            look(params)
            return await verb(*args, **params)

        return cast("F", called)

    return around
