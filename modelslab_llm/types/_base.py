"""The rules every reply model follows: tolerant in, exact out (design of protocol.md §5, §11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, TypeAlias, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag


class Reply(BaseModel):
    """Something a server said: every field may be missing, and unknown fields are kept.

    Unknown fields can be read as attributes, and are listed in `model_extra`.
    """

    # defer_build: a program that only streams text need not pay for every other schema.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", defer_build=True, protected_namespaces=()
    )


def or_empty(empty: Callable[[], object]) -> BeforeValidator:
    """Read `null` as the empty value: servers send it for what they do not have."""
    return BeforeValidator(lambda value: empty() if value is None else value)


Text: TypeAlias = Annotated[str, or_empty(str)]
Count: TypeAlias = Annotated[int, or_empty(int)]


def by_kind(tagged: object, other: str = "unknown") -> Discriminator:
    """Choose the member of a tagged union by the value's own `type`, or the one tagged `other`.

    pydantic's plain discriminator fails for kinds it has not heard of; servers invent new ones.
    """
    tags = {
        mark.tag
        for member in get_args(tagged)
        for mark in get_args(member)[1:]
        if isinstance(mark, Tag)
    }

    def kind(value: object) -> str:
        if isinstance(value, dict):
            name = cast("dict[str, object]", value).get("type")
        else:
            name = getattr(value, "type", None)
        return name if isinstance(name, str) and name in tags else other

    return Discriminator(kind)
