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
"""The only property of the object that wraps an output that is not an object."""

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
    """Return the adapter of a type, or refuse anything that is not a type for JSON."""
    if output is None or isinstance(output, (str, BaseModel, FunctionType)):
        what = "a type" if output is None else f"the type itself, not {output!r:.60}"
        raise InvalidRequestError(f"output: pass {what}, such as a pydantic model or list[int]")
    try:
        return TypeAdapter(output)
    except (PydanticUserError, SchemaError, NameError) as error:
        raise InvalidRequestError(
            f"output: {_first_line(error)}: use a pydantic model, a dataclass, a TypedDict, "
            "or a type built from these"
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
    named = _with_names(schema, schema.get("$defs", {}))
    return _retold(named, lambda name, value: not _has_grammar(name, value))


def for_response_format(schema: Schema) -> Schema:
    """Return a schema that llama-server can compile into a grammar, or refuse one that it cannot
    parse.

    It would refuse these itself, with a status of 400 or 500 and no name of the place. Pydantic
    writes none of them by itself, but takes any schema from whoever gives one.
    """
    told = for_grammar(schema)
    if problems := _unreadable(told, told, "output"):
        raise InvalidRequestError(
            f"{'; '.join(problems)}: llama-server cannot compile that; change the schema, "
            "or use strategy='prompt'"
        )
    return told


def _with_names(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema with objects whose names are among a few as objects with properties.

    That says the same, and llama.cpp's grammar holds a model to properties, not to
    `propertyNames`.
    """
    if is_list(schema):
        return [_with_names(each, definitions) for each in schema]
    if not is_object(schema):
        return schema
    kept = {
        name: value if name in _DATA else _with_names(value, definitions)
        for name, value in schema.items()
    }
    naming = fields_of(kept.get("propertyNames"))
    if isinstance(reference := naming.get("$ref"), str):
        naming = fields_of(definitions.get(reference.rpartition("/")[2]))
    names: object = naming.get("enum", [naming["const"]] if "const" in naming else None)
    value = kept.get("additionalProperties")
    if is_list(names) and is_object(value) and "properties" not in kept:
        del kept["propertyNames"]
        kept["properties"] = {str(name): value for name in names}
        kept["additionalProperties"] = False
    return kept


def for_output_config(schema: Schema) -> Schema:
    """Return a schema for `output_config.format`, or refuse one that it does not support.

    Every object must be closed, and none may be recursive.
    """
    problems = [f"{at} allows arbitrary keys" for at in _open_objects(schema, "output")]
    problems += [f"{name} is recursive" for name in _recursive(schema)]
    if problems:
        raise InvalidRequestError(
            f"{'; '.join(problems)}: output_config does not support that; use strategy='tool'"
        )
    return _retold(schema, lambda name, _: name in _BOUNDS, closed=True)


def _has_grammar(name: str, value: Any) -> bool:
    if name == "pattern":
        repeats = map(int, re.findall(r"\d+", "".join(re.findall(r"\{[^}]*\}", str(value)))))
        return bool(re.fullmatch(_SAFE_PATTERN, str(value), re.VERBOSE)) and all(
            n <= MANY_REPEATS for n in repeats
        )
    return not (name in _LENGTHS and value > MANY_REPEATS)


# What llama.cpp understands of a pattern and keeps within a JSON string. Seen with others: `.`,
# `[^a]` and `"` let a quote through, which ends the string; `é+` and `\d` are refused;
# `[[:alpha:]]` and `[]a]` send the server into a loop that no closed connection ends.
_SAFE_PATTERN = r"""\^(
        (?![\\^$.\[\]"{}()|?*+]) [\x20-\x7e]  # a printable character that means itself
        | \[ (?!\^) ((?!--|[\\\[\]^"&~]) [\x20-\x7e])+ \]  # one of these
        | \((?!\?) | \(\?: | [)|]               # a group, or another choice
        | ([?*+] | \{\d+(,\d*)?\}) (?![?*+{])   # so many, as many as there are
    )*\$"""


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


_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_CHOICES = ("anyOf", "oneOf", "allOf")


def _unreadable(schema: Any, root: Schema, path: str) -> list[str]:
    """Return the paths that llama.cpp's converter rejects, with the reason."""
    if not is_object(schema):
        return [f"{path} is the schema {str(schema).lower()}"]
    found: list[str] = []
    types = schema.get("type", [])
    found += [
        f"{path} has the type {kind!r}"
        for kind in (types if is_list(types) else [types])
        if kind not in _TYPES
    ]
    found += [f"{path} has no {name}" for name in ("enum", *_CHOICES) if schema.get(name) == []]
    if str(schema.get("$ref", "")).startswith("#") and not _resolves(schema["$ref"], root):
        found.append(f"{path} refers to {schema['$ref']}, which does not exist")
    for name in ("properties", "$defs"):
        for key, each in fields_of(schema.get(name)).items():
            found += _unreadable(each, root, f"{path}.{key}")
    parts: list[Any] = [schema[name] for name in ("items",) if name in schema]
    parts += [each for name in ("prefixItems", *_CHOICES) for each in schema.get(name, [])]
    if not isinstance(rest := schema.get("additionalProperties", False), bool):
        parts.append(rest)
    for each in parts:
        found += _unreadable(each, root, path)
    return found


def _resolves(reference: str, root: Schema) -> bool:
    at: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        at = fields_of(at).get(name.replace("~1", "/").replace("~0", "~"))
    return at is not None


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
