"""Make an output type of a JSON schema in a file: what the answer of `ask --schema` must fit."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from jsonschema import SchemaError
from jsonschema.validators import validator_for
from pydantic import AfterValidator, WithJsonSchema
from referencing import Registry
from referencing.exceptions import Unresolvable

from ._status import Fault

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

MANY = 5
"""How many faults of an answer are told: the model is to mend them, a person to see them."""


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
        try:
            faults = list(islice(validator.iter_errors(value), MANY))
        except Unresolvable as error:
            raise Fault(f"{path}: {error.ref!r} cannot be resolved within the file") from error
        if faults:
            raise ValueError("; ".join(f"{fault.json_path}: {fault.message}" for fault in faults))
        return value

    return Annotated[Any, AfterValidator(fits), WithJsonSchema(schema)]


def _read(path: str) -> dict[str, Any]:
    try:
        schema: Any = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # broken JSON, or no UTF-8
        raise Fault(f"{path}: is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise Fault(f"{path}: is not a JSON schema: it must be an object")
    # Without a type it could be anything, and would be wrapped.
    is_object = {"type": "object"} if "properties" in schema else {}
    return {**is_object, **cast("dict[str, Any]", schema)}  # the keys of JSON are strings
