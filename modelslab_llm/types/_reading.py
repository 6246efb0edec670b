"""Read the JSON that a server sent, with the mistakes that servers make in writing it. Pure.

pydantic reads nearly everything, and faster; this is for what it refuses and an answer must not be
lost over (protocol.md §11), and for the arguments of a tool call, which must never be guessed.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from ._base import tolerated
from ._json import is_list, is_object

REPLACEMENT = "\ufffd"
"""The replacement for a character of which only half arrived."""

_HALF = "[\ud800-\udfff]"  # compiled when it is needed, as most regexes here
_BOM = "\ufeff"


def read_json(data: bytes | str) -> object:
    """Parse JSON, or raise `ValueError`.

    Beyond the standard it reads a byte order mark, UTF-16 and UTF-32, surrogates written as UTF-8,
    control characters inside strings, and integers of any length (as text where Python has no
    text for them). Halves of characters stay in: see `whole` and `edges`.

    >>> read_json(b'\\xef\\xbb\\xbf{"a": 1}')
    {'a': 1}
    """
    text = _decoded(data) if isinstance(data, bytes) else data
    if text.startswith(_BOM):
        tolerated("a byte order mark")
    try:
        found: object = _TOLERANT.decode(text.lstrip(_BOM))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found


M = TypeVar("M", bound=BaseModel)


def from_json(model: type[M], body: bytes) -> M:
    """Read a model from JSON, by pydantic where the JSON is as the standard has it.

    Raises `ValidationError` for what neither reader can read, or what is not the model.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        try:
            payload = whole(read_json(body))
        except (ValueError, RecursionError):
            raise error from None
    return model.model_validate(payload)


def whole(value: Any) -> Any:
    """Return a value whose every text can be encoded.

    Two halves of a surrogate pair become their character, a lone half becomes U+FFFD.

    >>> whole({"a": ["\\ud83d\\ude00", "b\\ud83d"]})
    {'a': ['😀', 'b\ufffd']}
    """
    if isinstance(value, str):
        return str(_mended(value))
    if is_object(value):
        return {whole(name): whole(entry) for name, entry in value.items()}
    if is_list(value):
        return [whole(entry) for entry in value]
    return value


def edges(text: str) -> tuple[str, str, str]:
    """Split off a half that the text before, or the text after, may have the other half of.

    >>> [ascii(part) for part in edges("\\ude00abc\\ud83d")]
    ["'\\\\ude00'", "'abc'", "'\\\\ud83d'"]
    """
    low = text[:1] if "\udc00" <= text[:1] <= "\udfff" else ""
    text = text[len(low) :]
    high = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    return low, text[: len(text) - len(high)], high


def read_arguments(text: str) -> dict[str, Any] | None:
    """Read a tool's arguments by strict JSON; None when they are cut, broken or not an object.

    Strict because half a value or a guess would be executed: NaN, numbers too large for a float
    and repeated names are refused too (protocol.md §6.4).

    >>> read_arguments('{"city": "Paris"}')
    {'city': 'Paris'}
    >>> read_arguments('{"city": "Par')
    >>> read_arguments('{"n": NaN}')
    >>> read_arguments('{"n": 1e400}')
    >>> read_arguments('{"n": 1, "n": 2}')
    """
    try:
        found = STRICT_JSON.decode(text)
        return whole(found) if is_object(found) else None
    except (ValueError, RecursionError):
        return None


def is_sendable(value: object) -> bool:
    """Tell whether JSON can carry a value that was read from JSON: it has no infinite numbers."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode("utf-8" if encoding == "utf-8-sig" else encoding)
    except UnicodeDecodeError:
        # Some Java servers write each half of a surrogate pair as three bytes (CESU-8).
        return data.decode(encoding, "surrogatepass")


def _mended(text: str) -> str:
    if not re.search(_HALF, text):
        return text
    mended = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    lost = REPLACEMENT in mended
    tolerated("half a surrogate pair" if lost else "a character as two surrogates")
    return mended


class _Digits(str):
    """An integer of more digits than Python converts: more than 4300, unless told otherwise."""


def _integer(text: str) -> int | _Digits:
    try:
        return int(text)
    except ValueError:
        tolerated("an integer with more digits than Python converts, kept as text")
        return _Digits(text)


def _call_as_written(fields: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call as their text where a number in them became text: a tool must
    not run with a guess.
    """
    given = fields.get("input")
    if not (is_object(given) and _holds_digits(given)):
        return fields
    return {**fields, "input": to_json(_with_numbers(given)).decode()}


def _holds_digits(value: object) -> bool:
    if is_object(value):
        return any(map(_holds_digits, value.values()))
    if is_list(value):
        return any(map(_holds_digits, value))
    return isinstance(value, _Digits)


def _with_numbers(value: Any) -> Any:
    if is_object(value):
        return {name: _with_numbers(entry) for name, entry in value.items()}
    if is_list(value):
        return [_with_numbers(entry) for entry in value]
    return int(Decimal(value)) if isinstance(value, _Digits) else value


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


_TOLERANT = json.JSONDecoder(strict=False, parse_int=_integer, object_hook=_call_as_written)

STRICT_JSON = json.JSONDecoder(
    parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_without_repeats
)
"""JSON as the standard has it, where Python's own takes NaN and lets the last of two names win."""
