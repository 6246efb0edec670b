"""Turn the caller's rows into requests, each with a key and a digest. Pure: nothing is sent.

The key identifies the row, and the digest its request. A stored answer belongs to a row with the
same key and digest.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, SupportsIndex, TypeAlias, TypeVar

from pydantic import BaseModel

from .._hints import did_you_mean, right_parameter
from ..errors import InvalidRequestError
from ..types._json import encodable, is_iterable, is_mapping
from ..types.requests import MessageCreateParams

R = TypeVar("R")

Key: TypeAlias = str | int
"""The permanent name of a row: a string or an integer."""

GOING_ON = frozenset({"resume", "continue_at_max_tokens"})
"""What `create` accepts and `parse` does not."""
PARAMETERS = frozenset(MessageCreateParams.__annotations__) | GOING_ON
NOT_ASKED = frozenset({"extra_headers", "timeout", "resume"})
"""Options about how a request is sent, not what it asks."""
LARGEST = 2**63


@dataclass
class Ask(Generic[R]):
    """A row and its request."""

    index: int
    row: R
    key: Key
    params: dict[str, Any]
    digest: bytes
    model: str
    attempts: int = 0
    """How often it was sent in earlier runs."""
    followers: list[Ask[R]] = field(default_factory=list["Ask[R]"])
    """Rows that share the answer of this one."""


@dataclass(frozen=True)
class Recipe(Generic[R]):
    """How a row becomes a request."""

    make: Callable[[R], Mapping[str, Any]] | None = None
    key: str | Callable[[R], Key] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    default_model: str | None = None
    output: Mapping[str, Any] | None = None
    """What distinguishes requests with equal parameters: the schema of an output."""

    def key_of(self, index: int, row: R) -> Key:
        """Return the key of a row: its position if no `key` was given.

        Raises `InvalidRequestError` for a row without a key.
        """
        if self.key is None:
            return index
        try:
            found = self.key(row) if callable(self.key) else _field(row, self.key)
        except Exception as error:
            raise InvalidRequestError(f"row {index}: has no key: {_said(error)}") from error
        return _checked_key(index, found)

    def ask(self, index: int, row: R, key: Key) -> Ask[R]:
        """Return the request of a row. Raises `InvalidRequestError` if it has none."""
        params = self._params(index, row)
        model = params.get("model", self.default_model)
        try:
            digest = self._digest(params, model)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(f"row {index}: cannot be sent as JSON: {error}") from error
        # The client refuses a model that cannot be encoded; the store must hold the refusal.
        name = encodable(model) if isinstance(model, str) else ""
        return Ask(index, row, key, params, digest, name)

    def _params(self, index: int, row: R) -> dict[str, Any]:
        made: Any = row
        if self.make is not None:
            try:
                made = self.make(row)
            except Exception as error:
                raise InvalidRequestError(f"row {index}: make failed: {_said(error)}") from error
        if not is_mapping(made):
            kind = type(made).__name__
            raise InvalidRequestError(
                f"row {index}: make returned a value of type {kind}, not a dict of parameters"
                if self.make is not None
                else f"row {index}: is of type {kind}, not a dict of parameters; pass make=..."
            )
        given = {**self.defaults, **made}
        if self.make is None and isinstance(self.key, str) and self.key not in PARAMETERS:
            given.pop(self.key, None)
        params = {name: _lasting(value) for name, value in given.items() if value is not None}
        if self.make is None:  # what make returns is no record, and the client says what is wrong
            _refuse_columns(index, params)
        return params

    def _digest(self, params: dict[str, Any], model: object) -> bytes:
        asked = {name: value for name, value in params.items() if name not in NOT_ASKED}
        asked["model"] = model
        if self.output is not None:
            asked["(output)"] = self.output
        try:
            text = _encoded(asked)
        except _OneShotError:  # nested somewhere; the copy made for the digest is then sent
            params.update({name: _solid(value) for name, value in params.items()})
            text = _encoded({name: params.get(name, value) for name, value in asked.items()})
        return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _refuse_columns(index: int, params: Mapping[str, Any]) -> None:
    """Refuse a record in place of the parameters that `make` would return for it."""
    for name in params:
        if name in PARAMETERS or (name == "stream" and not params[name]):
            continue
        cure = "if the row has columns of your own, pass make=..., which returns its parameters"
        if "messages" in params:
            cure = f"{right_parameter(name, PARAMETERS)}; {cure}"
        else:
            cure = did_you_mean(name, PARAMETERS) + cure
        raise InvalidRequestError(
            f"row {index}: messages.create() has no parameter {name!r}: {cure}"
        )


def records(rows: Any) -> Any:
    """Return what to iterate over: the rows, or the rows of a table as dicts.

    Without this, a pandas or polars DataFrame and an Arrow table are iterated by column.
    """
    if hasattr(rows, "iter_rows") and hasattr(rows, "columns"):  # polars
        return _Again(lambda: rows.iter_rows(named=True), len(rows))
    if hasattr(rows, "itertuples") and hasattr(rows, "columns"):  # pandas
        return _Again(lambda: _of_pandas(rows), len(rows))
    if hasattr(rows, "to_batches") and hasattr(rows, "column_names"):  # pyarrow
        return _Again(lambda: _of_arrow(rows), len(rows))
    if is_iterable(rows) or hasattr(rows, "__aiter__"):
        return rows
    raise TypeError(f"rows must be an iterable of rows, not {type(rows).__name__}")


class _Again:
    """An iterable of known length that can be iterated again."""

    def __init__(self, start: Callable[[], Iterator[Any]], length: int) -> None:
        self._start = start
        self._length = length

    def __iter__(self) -> Iterator[Any]:
        return self._start()

    def __len__(self) -> int:
        return self._length


def _of_pandas(frame: Any) -> Iterator[dict[str, Any]]:
    names = list(frame.columns)
    rows = frame.itertuples(index=False, name=None)
    return (dict(zip(names, values, strict=True)) for values in rows)


def _of_arrow(table: Any) -> Iterator[dict[str, Any]]:
    return (row for batch in table.to_batches() for row in batch.to_pylist())


def _field(row: Any, name: str) -> Any:
    return row[name] if is_mapping(row) else getattr(row, name)


def plain_key(key: Any) -> Key | None:
    """Return a key as it is stored; None if it cannot be stored."""
    if isinstance(key, str):
        return key if key.isascii() or _is_text(key) else None
    if isinstance(key, SupportsIndex) and not isinstance(key, bool):  # numpy's integers, too
        number = operator.index(key)
        return number if -LARGEST <= number < LARGEST else None
    return None


def _checked_key(index: int, key: object) -> Key:
    if (plain := plain_key(key)) is not None:
        return plain
    if isinstance(key, str):
        raise InvalidRequestError(f"row {index}: its key {key!r} is not text that can be stored")
    raise InvalidRequestError(
        f"row {index}: its key must be a str or an int, not {key!r:.60}; "
        "use key=lambda row: str(...)"
    )


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class _OneShotError(Exception):
    """A request contains an iterator: computing the digest would use it up."""


def _lasting(value: Any) -> Any:
    """Return a list for an iterator, such as a generator of turns."""
    return list(value) if is_iterable(value) and isinstance(value, Iterator) else value


def _solid(value: Any) -> Any:
    """Return a value with all iterators in it replaced by lists."""
    if is_mapping(value):
        return {k: _solid(v) for k, v in value.items()}
    if is_iterable(value) and not isinstance(value, (bytearray, memoryview)):
        return [_solid(each) for each in value]
    return value


def _plain(value: Any) -> Any:
    """Return the JSON form of a value that is not JSON, as the client sends it."""
    if hasattr(value, "to_param"):  # a tool, a message, a block
        return value.to_param()
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if is_mapping(value):
        return dict(value)
    if isinstance(value, Iterator):
        raise _OneShotError
    if is_iterable(value) and not isinstance(value, (bytearray, memoryview)):
        return list(value)
    return repr(value)  # the client refuses it before sending, and says where it is


# Keys are sorted: the same request with its keys in another order is not asked again.
_encoded = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain).encode
