"""The result of one row, and the JSON in which the store keeps it. Pure.

The store contains only data: nothing read from it is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaError

from .. import errors
from .._hints import HintsAtNames, Place
from ..errors import APIError, ConfigurationError, ModelsLabError, OutputError
from ..types.message import Message
from ..types.parsed import ParsedMessage
from ..types.usage import Usage
from ._rows import Key

R = TypeVar("R")
T = TypeVar("T")

Source: TypeAlias = Literal["asked", "refused", "stored", "duplicate"]
"""The source of a result: asked in this run, refused by it before anything was sent, found in the
store, or taken from another row with the same request (`deduplicate=True`)."""


class Kept(NamedTuple):
    """One row as stored."""

    key: Key
    digest: bytes
    position: int
    run: int
    message: str | None
    """The answer as JSON; of a failed row the partial answer, if any."""
    output: str | None
    """The parsed output as JSON."""
    error: str | None
    """The failure as JSON; None for an answered row."""
    attempts: int
    model: str
    request_id: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    finished: float


class BulkResult(HintsAtNames, Generic[R, T]):
    """The result of one row: an answer, or the error that the row failed with."""

    __slots__ = (
        "_error",
        "_kept",
        "_message",
        "_read",
        "attempts",
        "cost",
        "index",
        "key",
        "row",
        "source",
        "usage",
    )
    _place: ClassVar[Place] = "result"

    key: Key | None
    """The row's key; `None` only if the row failed because it has no key."""
    index: int
    """The row's position, starting at 0."""
    row: R
    """The row as you passed it; `None` if the result is read from a `BulkStore`."""
    source: Source
    """`"asked"` in this run, `"refused"` by it before anything was sent, `"stored"` by an earlier
    run, or `"duplicate"` of another row."""
    attempts: int
    """How many times the row's request was sent, in all runs; 0 if never."""
    usage: Usage
    """The tokens of the row: its answer, and earlier answers that did not fit `output`. All zero
    for a duplicate, which costs nothing."""
    cost: float | None
    """The cost of the row by `prices`; `None` without prices, or if they lack the model."""

    def __init__(
        self,
        key: Key | None,
        index: int,
        row: R,
        source: Source,
        *,
        message: Message | None = None,
        error: ModelsLabError | None = None,
        kept: Kept | None = None,
        read: Callable[[str], T] | None = None,
        attempts: int = 0,
        usage: Usage,
        cost: float | None = None,
    ) -> None:
        self.key = key
        self.index = index
        self.row = row
        self.source = source
        self.attempts = attempts
        self.usage = usage
        self.cost = cost
        self._message = message
        self._error = error
        self._kept = kept
        self._read = read

    @property
    def error(self) -> ModelsLabError | None:
        """The error that the row failed with; `None` if it was answered.

        `body` and `headers` of a stored error are not kept.
        """
        if self._error is None and self._kept is not None and self._kept.error is not None:
            self._error = error_from(self._kept.error, self._kept.message)
        return self._error

    @property
    def message(self) -> Message:
        """The answer. Raises the row's error if it failed."""
        if (error := self.error) is not None:
            raise error
        if self._message is None:
            kept = self._kept
            assert kept is not None  # a result has one of them
            assert kept.message is not None
            self._message = message_from(kept.message, kept.request_id)
        return self._message

    @property
    def parsed(self) -> T:
        """The output, or `None` without `output=`. Raises the row's error."""
        message = self.message
        if isinstance(message, ParsedMessage):
            return cast("ParsedMessage[T]", message).parsed
        if self._read is None or self._kept is None or self._kept.output is None:
            return cast("T", None)
        return self._read(self._kept.output)

    def __repr__(self) -> str:
        what = "answered" if self.error is None else f"failed: {self.error}"
        return f"BulkResult({self.key!r}, {self.source}, {what})"


def usage_of(message: Message | None, error: ModelsLabError | None) -> Usage:
    """Return the usage of an answer or a failure, including earlier answers to the row."""
    answers = answers_of(message, error)
    if len(answers) == 1:
        return answers[0].usage
    return Usage(
        input_tokens=sum(answer.usage.input_tokens for answer in answers),
        output_tokens=sum(answer.usage.output_tokens for answer in answers),
        cache_read_input_tokens=sum(answer.usage.cache_read_input_tokens for answer in answers),
        cache_creation_input_tokens=sum(
            answer.usage.cache_creation_input_tokens for answer in answers
        ),
    )


def answers_of(message: Message | None, error: ModelsLabError | None) -> list[Message]:
    """Return all answers to a row, oldest first, including invalid and truncated ones."""
    if isinstance(error, OutputError):
        return [*error.previous_attempts, error.message]
    if isinstance(error, APIError):
        return [error.partial_message] if error.partial_message is not None else []
    if isinstance(message, ParsedMessage):
        return [*message.previous_attempts, message]
    return [message] if message is not None else []


def usage_from(kept: Kept) -> Usage:
    """Return the usage of a stored row."""
    return Usage(
        input_tokens=kept.input_tokens,
        output_tokens=kept.output_tokens,
        cache_read_input_tokens=kept.cache_read_tokens,
        cache_creation_input_tokens=kept.cache_write_tokens,
    )


def message_json(message: Message) -> str:
    """Return an answer as JSON: what the server sent, unknown fields included."""
    return message.model_dump_json(exclude_unset=True)


def message_from(text: str, request_id: str | None) -> Message:
    """Return a stored answer."""
    message = Message.model_validate_json(text)
    message._request_id = request_id  # pyright: ignore[reportPrivateUsage]
    return message


def adapter_of(output: Any) -> TypeAdapter[Any]:
    """Return the adapter of an output. Raises `ConfigurationError` if it is not a type."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(output)
        adapter.json_schema()
    except (PydanticUserError, SchemaError, NameError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"output: is not a type that can be read from JSON: {first}"
        ) from error
    return adapter


def error_json(error: ModelsLabError) -> str:
    """Return a failure as JSON: its class, its text, and its plain values."""
    plain = {
        name: value
        for name, value in vars(error).items()
        if value is None or isinstance(value, (str, int, float, bool))
    }
    text = str(error.args[0]) if error.args else ""
    return json.dumps({"class": type(error).__name__, "text": text, "with": plain})


def error_from(text: str, message: str | None) -> ModelsLabError:
    """Return a stored failure: an error of the same class with the stored values."""
    kept: dict[str, Any] = json.loads(text)
    known = kept["class"] in errors.__all__
    kind: type[ModelsLabError] = getattr(errors, kept["class"]) if known else ModelsLabError
    error = kind.__new__(kind, kept["text"])
    vars(error).update({**_NOT_KEPT, **kept["with"]})
    answer = Message.model_validate_json(message) if message is not None else None
    if isinstance(error, OutputError):
        error.message = answer or Message()
    elif isinstance(error, APIError):
        error.partial_message = answer
    return error


_NOT_KEPT: dict[str, Any] = {
    "headers": {},
    "body": None,
    "messages": [],
    "tool_use": None,
    "previous_attempts": (),
}
