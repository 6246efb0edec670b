"""The rules every reply model follows: tolerant in, exact out (design of protocol.md §5, §11)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, cast, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Tag,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

log = logging.getLogger("modelslab_llm")


def tolerated(deviation: str, request_id: str | None = None) -> None:
    """Tell who wants to know (DEBUG) where an answer is not as documented, and was read anyway.

    `deviation` is words of this package: nothing that the server or the caller said.
    """
    log.debug("tolerated: %s%s", deviation, f" (request id {request_id})" if request_id else "")


def telling_once(request_id: str | None) -> Callable[[str], None]:
    """Return a `tolerated` for one stream: what it has in a thousand events is told once."""
    told: set[str] = set()

    def tell(deviation: str) -> None:
        if deviation not in told:
            told.add(deviation)
            tolerated(deviation, request_id)

    return tell


def fault_in(error: ValueError) -> str:
    """Return the place and the kind of the first fault, and nothing of what was sent."""
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))


class Reply(BaseModel):
    """Something a server said: every field may be missing, and unknown fields are kept.

    Unknown fields can be read as attributes, and are listed in `model_extra`.
    """

    # defer_build: a program that only streams text need not pay for every other schema.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", defer_build=True, protected_namespaces=(), coerce_numbers_to_str=True
    )


class Tolerant(Reply):
    """A reply that is not lost over a side field: what does not fit its type counts as not sent.

    What the answer consists of is never dropped; if it does not fit, reading it fails.
    """

    essential: ClassVar[frozenset[str]] = frozenset(
        {"type", "content", "text", "thinking", "input"}
    )

    @model_validator(mode="wrap")
    @classmethod
    def _without_misfits(cls, value: Any, handler: Any) -> Self:
        try:
            return cast("Self", handler(value))
        except ValidationError as error:
            misfits = {fault["loc"][0] for fault in error.errors(include_url=False) if fault["loc"]}
            if not isinstance(value, dict) or not misfits or misfits & cls.essential:
                raise
            fields = cast("dict[str, Any]", value)
            dropped = ", ".join(sorted(map(str, misfits & cls.model_fields.keys())))
            tolerated(f"{cls.__name__}: dropped what does not fit: {dropped}")
            return cast("Self", handler({k: v for k, v in fields.items() if k not in misfits}))


def or_empty(empty: Callable[[], object]) -> BeforeValidator:
    """Read `null` as the empty value: servers send it for what they do not have."""

    def filled(value: object) -> object:
        if value is not None:
            return value
        tolerated(f"null in place of a {type(empty()).__name__}")
        return empty()

    return BeforeValidator(filled)


Text: TypeAlias = Annotated[str, or_empty(str)]
Count: TypeAlias = Annotated[int, or_empty(int)]

# The `type` of what is unknown is any text. Type checkers are told of a single odd one instead, so
# that `if block.type == "text":` narrows the union to the block that has that type.
if TYPE_CHECKING:
    Unheard: TypeAlias = Literal["<unknown to this version>"]
else:
    Unheard = Text


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
