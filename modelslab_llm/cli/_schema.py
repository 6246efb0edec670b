"""Make an output type of a JSON schema in a file: what the answer of `ask --schema` must fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

from jsonschema import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from referencing import Registry

from ._json import is_list, is_object
from ._status import Fault

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MANY = 5
"""The maximum number of problems of an answer that are reported, to the model and to the user."""


def type_of(path: str) -> Any:
    """Return the type for `messages.parse`. Raises `Fault` for a file without a JSON schema."""
    schema = _read(path)
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise Fault(f"{path}: is not a JSON schema: {error.message}") from error
    validator: Validator = kind(schema, registry=Registry())  # an empty one, which fetches nothing

    def fits(value: Any) -> Any:
        faults = list(islice(validator.iter_errors(value), MANY))
        if faults:
            told = "; ".join(f"{fault.json_path}: {fault.message}" for fault in faults)
            raise PydanticCustomError("json_schema", "{told}", {"told": told})
        return value

    try:
        told = _Inlined(schema).whole()
    except ValueError as error:
        raise Fault(f"{path}: {error}") from None
    return Annotated[Any, AfterValidator(fits), WithJsonSchema(told)]


_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_DATA = frozenset({"enum", "const", "default", "examples"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
MOST = 10_000
"""Objects that a schema may have once its references are written out."""


class _Inlined:
    """A schema with its references resolved: pydantic knows only those that it made itself.

    Where a definition refers to itself, the model sees nothing more; its answer is still checked
    against the whole schema.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._left = MOST

    def whole(self) -> dict[str, Any]:
        """Return the schema. Raises `ValueError` for a reference that leads out of it."""
        return self._object(self._schema, ())

    def _object(self, schema: Mapping[str, Any], within: tuple[str, ...]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"the schema has more than {MOST} parts with its references resolved")
        told: dict[str, Any] = {}
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                told = {**self._referred(value, within), **told}
            elif name in _MAPS and is_object(value):
                told[name] = {key: self._value(entry, within) for key, entry in value.items()}
            elif name not in _DEFINITIONS:
                told[name] = value if name in _DATA else self._value(value, within)
        return told

    def _value(self, value: Any, within: tuple[str, ...]) -> Any:
        if is_object(value):
            return self._object(value, within)
        if is_list(value):
            return [self._value(entry, within) for entry in value]
        return value

    def _referred(self, pointer: str, within: tuple[str, ...]) -> dict[str, Any]:
        if pointer in within:
            return {}
        found: Any = self._schema
        if pointer[:1] != "#" or (pointer != "#" and pointer[1] != "/"):
            raise ValueError(f"{pointer!r} is not in the file; put it there")
        for step in pointer[2:].split("/") if pointer != "#" else ():
            key = unquote(step).replace("~1", "/").replace("~0", "~")
            if not is_object(found) or key not in found:
                raise ValueError(f"{pointer!r} is not in the file; correct it")
            found = found[key]
        return self._value(found, (*within, pointer)) if is_object(found) else {}


def _read(path: str) -> dict[str, Any]:
    try:
        schema: Any = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # broken JSON, or no UTF-8
        raise Fault(f"{path}: is not JSON: {error}") from error
    if not is_object(schema):
        raise Fault(f"{path}: is not a JSON schema: it must be an object")
    # Without a type it could be anything, and would be wrapped.
    kind = {"type": "object"} if "properties" in schema else {}
    return {**kind, **schema}
