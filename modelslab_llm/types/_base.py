"""The rules every reply model follows: tolerant in, exact out (design of protocol.md §5, §11)."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import Self

from .._forks import no_fork
from .._hints import Place, no_attribute
from ._json import is_object

log = logging.getLogger("modelslab_llm")

BY_TYPE = Discriminator("type")
FIRST_THAT_FITS = Field(union_mode="left_to_right")


def tolerated(deviation: str, request_id: str | None = None) -> None:
    """Log at DEBUG a tolerated deviation from the documentation.

    `deviation` is a text of this package, without anything that the server or the caller sent.
    """
    log.debug("tolerated: %s%s", deviation, f" (request id {request_id})" if request_id else "")


def telling_once(request_id: str | None) -> Callable[[str], None]:
    """Return a `tolerated` for one stream: each kind of deviation is logged once."""
    told: set[str] = set()

    def tell(deviation: str) -> None:
        if deviation not in told:
            told.add(deviation)
            tolerated(deviation, request_id)

    return tell


class ServerValue(BaseModel):
    """Something a server said: every field may be missing, and unknown fields are kept.

    Unknown fields can be read as attributes, and are listed in `model_extra`.
    """

    # defer_build: a program that only streams text need not pay for every other schema.
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", defer_build=True, protected_namespaces=(), coerce_numbers_to_str=True
    )
    _place: ClassVar[Place] = "reply"
    _dumped: ClassVar[frozenset[str]] = frozenset({"type"})
    """The fields that a dump always has, whether or not they were sent."""
    _told_apart_by: ClassVar[frozenset[str]] = frozenset({"type"})
    """The fields that say which kind of value this is: without them, a dump cannot be loaded."""
    _dumped_beside: ClassVar[Mapping[str, str]] = {}
    """What a dump has beside the fields, and where it is kept."""

    @classmethod
    def model_rebuild(cls, **settings: Any) -> bool | None:
        """Build the schema, as at the first use, with no fork in the middle; see pydantic's."""
        depth: int = settings.pop("_parent_namespace_depth", 2)
        with no_fork():  # pydantic then imports what reads its plugins
            return super().model_rebuild(_parent_namespace_depth=depth + 1, **settings)

    # Without a return type, from which pydantic would make the JSON schema.
    @model_serializer(mode="wrap")
    def _leave_out_unsent(  # type: ignore[no-untyped-def]
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ):
        """Dump what the server sent, so that a dump can be loaded, and sent back unchanged."""
        saved = self._saved()
        dumped: dict[str, Any] = handler(saved)
        fields = type(self).model_fields
        # Of a value that this package or a user made, exclude_unset leaves out even the type.
        for name in self._told_apart_by & fields.keys() - dumped.keys():
            if (value := getattr(saved, name)) and _wanted(name, info):
                dumped = {name: value} | dumped
        unsent = fields.keys() - self.model_fields_set - self._dumped
        for name, kept in self._dumped_beside.items():
            if (value := getattr(self, kept)) not in (None, ()) and _wanted(name, info):
                dumped[name] = value
        return {name: value for name, value in dumped.items() if name not in unsent}

    def _saved(self) -> Self:
        """Return what is dumped in place of this."""
        return self

    if not TYPE_CHECKING:  # to a type checker it would say that every name is there

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                if hasattr(type(self), name):  # a property failed, and says at what
                    raise
                raise no_attribute(self._place, self, name) from None


def _wanted(name: str, info: SerializationInfo) -> bool:
    """Tell whether `include` and `exclude` ask for a name."""
    include: Any = info.include
    exclude: Any = info.exclude or ()
    return name not in exclude and (include is None or name in include)


class Tolerant(ServerValue):
    """A reply that is not lost over a side field: what does not fit its type counts as not sent.

    What the answer consists of is never dropped; if it does not fit, reading it fails.
    """

    _essential: ClassVar[frozenset[str]] = frozenset(
        {"type", "content", "text", "thinking", "input"}
    )

    @model_validator(mode="wrap")
    @classmethod
    def _without_misfits(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            misfits = {
                problem["loc"][0] for problem in error.errors(include_url=False) if problem["loc"]
            }
            if not is_object(value) or not misfits or misfits & cls._essential:
                raise
            dropped = ", ".join(sorted(map(str, misfits & cls.model_fields.keys())))
            tolerated(f"{cls.__name__}: dropped invalid fields: {dropped}")
            return handler({k: v for k, v in value.items() if k not in misfits})


class NullAs:
    """Read `null` as another value: servers send it for what they do not have.

    It makes pydantic's schema itself, which takes pydantic far longer to find out: every type that
    has one is built in the first second of a program.

    Args:
        make: Makes the value.
        last: Whether to ask for a `null` last, for a type that takes none by itself. A text delta
            then costs nothing more; asked first, it costs a seventh.
    """

    def __init__(self, make: Callable[[], object], *, last: bool = False) -> None:
        self._make = make
        self._last = last

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        kinds: list[CoreSchema | tuple[CoreSchema, str]] = [
            core_schema.no_info_after_validator_function(self._read, core_schema.none_schema())
        ]
        kinds.insert(0 if self._last else 1, handler(source))
        return core_schema.union_schema(kinds, mode="left_to_right")

    def _read(self, value: object) -> object:
        made = self._make()
        tolerated(f"null in place of a {type(made).__name__}")
        return made


if TYPE_CHECKING:  # type checkers see the plain type
    Text: TypeAlias = str
    Count: TypeAlias = int
else:
    Text = Annotated[str, NullAs(str, last=True)]
    Count = Annotated[int, NullAs(int, last=True)]

# The `type` of what is unknown is any text. Type checkers are told of a single odd one instead, so
# that `if block.type == "text":` narrows the union to the block that has that type.
if TYPE_CHECKING:
    Unheard: TypeAlias = Literal["<unknown to this version>"]
else:
    Unheard = Text
NO_TYPE: Any = ""
"""The placeholder for an `Unheard` type that was not sent."""


def unheard_of(known: object) -> BeforeValidator:
    """Prevent a value with a known `type` from being read as an unknown one.

    pydantic's discriminator fails for kinds it has not heard of, and servers invent new ones. So
    an unknown one stands last in a union; but what is known, and broken, must not end there.
    """
    kinds = {
        kind
        for member in get_args(known)
        for kind in get_args(member.model_fields["type"].annotation)
    }

    def refuse_known(value: object) -> object:
        kind = value.get("type") if is_object(value) else getattr(value, "type", None)
        if isinstance(kind, str) and kind in kinds:
            raise PydanticCustomError("known_kind", "does not match its type")
        return value

    return BeforeValidator(refuse_known)
