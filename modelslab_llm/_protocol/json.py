"""Write a request's body as JSON, or say what in it JSON cannot carry. Knows no field of a request.

Histories are long, so there are two ways: pydantic's writer, which takes what is plain JSON already
and is up to four times as fast, and the standard library's for all else. They agree, but for whole
numbers of more than 4300 digits, which only the first writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator, core_schema, to_json

from .._forks import no_fork
from ..errors import InvalidRequestError
from ..types._json import is_array, is_mapping


def encode(body: Mapping[str, Any]) -> bytes:
    """Return a body as JSON. Raises `InvalidRequestError` that names each place that is not."""
    try:
        return to_json(_plain_json().validate_python(body))
    except ValueError:  # not plain: perhaps a model in it, perhaps a mistake
        pass
    try:
        return json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        try:
            places = "; ".join(_unsendable(body))
        except RecursionError:
            places = ""
        raise InvalidRequestError(places or f"cannot be sent as JSON: {error}") from None


def as_param(model: BaseModel) -> dict[str, Any]:
    """Return a model as a request takes it: of ours what the server sent, of others what is set."""
    to_param = getattr(model, "to_param", None)
    return to_param() if to_param else model.model_dump(exclude_unset=True)


@cache
def _plain_json() -> SchemaValidator:
    """Return what accepts a dict only if JSON has every value in it, down to the last."""
    value = core_schema.definition_reference_schema("value")
    kinds = core_schema.union_schema(
        [
            core_schema.str_schema(strict=True),
            core_schema.dict_schema(core_schema.str_schema(strict=True), value, strict=True),
            core_schema.list_schema(value, strict=True, fail_fast=True),
            core_schema.int_schema(strict=True),
            core_schema.bool_schema(strict=True),
            core_schema.none_schema(),
            core_schema.chain_schema(  # strict or not, it takes whatever has a __float__
                [
                    core_schema.is_instance_schema(float),
                    core_schema.float_schema(strict=True, allow_inf_nan=False),
                ]
            ),
        ],
        mode="left_to_right",
        ref="value",
    )
    with no_fork():  # pydantic's first schema of a process has a lock
        return SchemaValidator(core_schema.definitions_schema(value, [kinds]))


def _plain(value: object) -> object:
    """Convert values that have an obvious JSON form: models, and mappings that are not dicts."""
    if isinstance(value, BaseModel):
        return as_param(value)
    if is_mapping(value):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _unsendable(value: Any, path: str = "") -> Sequence[str]:
    """Return where in a body something stands that JSON cannot carry."""
    if isinstance(value, BaseModel):
        value = as_param(value)
    if is_mapping(value):
        entries = value.items()
        return [at for k, v in entries for at in _unsendable(v, f"{path}.{k}" if path else str(k))]
    if is_array(value):
        return [at for i, v in enumerate(value) for at in _unsendable(v, f"{path}[{i}]")]
    if isinstance(value, str):
        return [f"{path}: contains half a character (a lone surrogate)"] if _broken(value) else []
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{path}: {value} is not JSON"]
    if value is None or isinstance(value, (bool, int, float)):
        return []
    cure = ", encode it: base64.b64encode(data).decode()" if isinstance(value, bytes) else ""
    return [f"{path}: {type(value).__name__} is not JSON{cure}"]


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
