"""Say a type as a JSON schema that the servers take. Pure.

What a server cannot put into its grammar is told to the model in words instead, in the
`description`: the answer is checked against the type itself, so nothing is lost by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaError

from ..errors import InvalidRequestError
from ..types._json import fields_of, is_list, is_object

Schema: TypeAlias = dict[str, Any]

WRAPPED = "value"
"""The one property of the object that holds an output which is no object itself."""

MANY_REPEATS = 2000  # llama.cpp refuses grammars that count further

_MAPS = frozenset({"properties", "$defs", "patternProperties"})  # of names to schemas
_DATA = frozenset({"enum", "const", "default", "examples", "required", "discriminator"})
_LENGTHS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})

# What `output_config.format` has no place for; Anthropic answers 400 where it stands.
_BOUNDS = _LENGTHS | {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("pattern", "uniqueItems", "minProperties", "maxProperties"),
}


class _WithoutTitles(GenerateJsonSchema):
    """A title is the name once more, and each word of a schema costs tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(adapter: TypeAdapter[Any]) -> Schema:
    """Return the schema of what an adapter reads. Raises what pydantic does."""
    return adapter.json_schema(schema_generator=_WithoutTitles)


def adapter_of(output: Any) -> TypeAdapter[Any]:
    """Return what reads a type, or refuse what is no type that JSON can be read into."""
    if output is None or isinstance(output, (str, BaseModel, FunctionType)):
        what = "a type" if output is None else f"the type itself, not {output!r:.60}"
        raise InvalidRequestError(f"output: name {what}, such as a pydantic model or list[int]")
    try:
        return TypeAdapter(output)
    except (PydanticUserError, SchemaError, NameError) as error:
        raise InvalidRequestError(
            f"output: {_first_line(error)}: use a pydantic model, a dataclass, a TypedDict, "
            "or a type made of such"
        ) from None


def schema_of(adapter: TypeAdapter[Any]) -> tuple[Schema, bool]:
    """Return a type's schema, and whether the output is wrapped to make the root an object.

    The root must be one that says so: a tool's `input_schema` has `"type": "object"`
    (protocol.md §10).
    """
    try:
        schema = json_schema(adapter)
    except PydanticUserError as error:
        raise InvalidRequestError(f"output: has no JSON schema: {_first_line(error)}") from None
    if schema.get("type") == "object":
        return schema, False
    root: Schema = {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]}
    if "$defs" in schema:
        root["$defs"] = schema.pop("$defs")
    return root, True


def for_grammar(schema: Schema) -> Schema:
    """Return a schema that llama-server can make a grammar of, and any other server read."""
    return _retold(schema, lambda name, value: not _has_grammar(name, value))


def for_output_config(schema: Schema) -> Schema:
    """Return a schema for `output_config.format`, or refuse one that cannot be said there.

    Every object must be closed, and none may hold one of its own kind.
    """
    faults = [f"{at} may have any names" for at in _open_objects(schema, "output")]
    faults += [f"{name} holds one of its own kind" for name in _recursive(schema)]
    if faults:
        raise InvalidRequestError(
            f"{'; '.join(faults)}: output_config cannot say that, use strategy='tool'"
        )
    return _retold(schema, lambda name, _: name in _BOUNDS, closed=True)


def _has_grammar(name: str, value: Any) -> bool:
    if name == "pattern":  # anchored at both ends, without classes such as \d or looking around
        return bool(re.fullmatch(r"\^((?!\(\?)[^\\])*\$", str(value)))
    return not (name in _LENGTHS and value > MANY_REPEATS)


def _retold(schema: Schema, in_words: Callable[[str, Any], bool], closed: bool = False) -> Schema:
    """Return the schema with some of its keywords moved into the descriptions."""

    def inner(value: Any) -> Any:
        if is_object(value):
            return _retold(value, in_words, closed)
        return [inner(each) for each in value] if is_list(value) else value

    told: list[str] = []
    kept: Schema = {}
    for name, value in schema.items():
        if name in _DATA:
            kept[name] = value
        elif name in _MAPS:
            kept[name] = {key: inner(each) for key, each in value.items()}
        elif in_words(name, value):
            told.append(f"{name}: {value}")
        else:
            kept[name] = inner(value)
    if told:
        before = [kept["description"]] if kept.get("description") else []
        kept["description"] = " ".join([*before, f"({', '.join(told)})"])
    if closed and kept.get("type") == "object":
        kept["additionalProperties"] = False
    return kept


def _open_objects(schema: Any, path: str) -> list[str]:
    found: list[str] = []
    for at, each in _inside(schema, path):
        found += _open_objects(each, at)
    fields = fields_of(schema)
    if fields.get("type") == "object" and (
        "properties" not in fields or fields.get("additionalProperties")
    ):
        found.append(path)
    return found


def _recursive(schema: Schema) -> list[str]:
    """Return the names of the definitions that lead back to themselves."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    uses = {name: _references(each) for name, each in definitions.items()}

    def reached(name: str) -> set[str]:
        found: set[str] = set()
        new = set(uses.get(name, ()))
        while new:
            found |= new
            new = {use for each in new for use in uses.get(each, ())} - found
        return found

    return [name for name in definitions if name in reached(name)]


def _references(schema: Any) -> set[str]:
    found: set[str] = set()
    for _, each in _inside(schema, ""):
        found |= _references(each)
    if isinstance(ref := fields_of(schema).get("$ref"), str):
        found.add(ref.rpartition("/")[2])
    return found


def _inside(schema: Any, path: str) -> list[tuple[str, Any]]:
    """Return the schemas that stand directly in this one, with their places."""
    if is_list(schema):
        return [(path, each) for each in schema]
    found: list[tuple[str, Any]] = []
    for name, value in fields_of(schema).items():
        if name in _MAPS:
            found += [(f"{path}.{key}", each) for key, each in value.items()]
        elif name not in _DATA:
            found.append((path, value))
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
