"""Hold, for functions of any types: the schema accepts exactly what the function accepts.

Left out is what JSON Schema says only half of, formats (of dates, UUIDs …), and where pydantic
takes a little more: an item of a set twice, and `true` for the 1 of an enum of integers.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import math
from typing import Annotated, Any, Literal, NamedTuple, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import NotRequired, TypedDict

from modelslab_llm import Tool, ToolInputError, tool


class Kind(NamedTuple):
    """A type, and JSON that fits it."""

    type: Any
    fits: st.SearchStrategy[Any]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


text = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
whole = st.integers(-(2**70), 2**70)
number = whole | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(st.none(), st.booleans(), number, text, st.sampled_from(["red", 1, 1.0, "1"]))
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)

SIMPLE = [
    Kind(int, whole | whole.map(float).filter(float.is_integer)),
    Kind(float, number),
    Kind(str, text),
    Kind(bool, st.booleans()),
    Kind(None, st.none()),
    Kind(Any, anything),
    Kind(Colour, st.sampled_from(["red", "blue"])),
    Kind(Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    Kind(Annotated[int, Field(ge=0, lt=10)], st.integers(0, 9)),
    Kind(Annotated[float, Field(gt=0.5, le=2)], st.floats(0.6, 2)),
    Kind(
        Annotated[str, Field(min_length=1, max_length=3)], st.text("aé🌊", min_size=1, max_size=3)
    ),
    Kind(Annotated[str, Field(pattern="^[a-c]+$")], st.text("abc", min_size=1)),
]


def _fields(kinds: list[Kind], required: int) -> dict[str, Kind]:
    return {f"field_{i}": kind for i, kind in enumerate(kinds)}


def _objects(kinds: list[Kind], required: int) -> st.SearchStrategy[Any]:
    fields = {name: kind.fits for name, kind in _fields(kinds, required).items()}
    needed = {name: fits for i, (name, fits) in enumerate(fields.items()) if i < required}
    rest = {name: fits for name, fits in fields.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=rest)


def _model(kinds: list[Kind], required: int) -> Kind:
    fields: dict[str, Any] = {
        name: (kind.type, ...) if i < required else (Union[kind.type, None], None)
        for i, (name, kind) in enumerate(_fields(kinds, required).items())
    }
    closed = ConfigDict(extra="forbid" if len(kinds) % 2 else "ignore")
    return Kind(create_model("Model", __config__=closed, **fields), _objects(kinds, required))


def _typed_dict(kinds: list[Kind], required: int) -> Kind:
    fields: Any = {
        name: kind.type if i < required else NotRequired[kind.type]
        for i, (name, kind) in enumerate(_fields(kinds, required).items())
    }
    return Kind(TypedDict("Dict", fields), _objects(kinds, required))  # type: ignore[misc]


def _dataclass(kinds: list[Kind], required: int) -> Kind:
    fields: list[Any] = [
        (name, kind.type) if i < required else (name, Union[kind.type, None], None)
        for i, (name, kind) in enumerate(_fields(kinds, required).items())
    ]
    return Kind(dataclasses.make_dataclass("Data", fields), _objects(kinds, required))


def _nest(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    several = st.lists(inner, min_size=1, max_size=3)
    made = st.sampled_from([_model, _typed_dict, _dataclass])
    return st.one_of(
        inner.map(lambda kind: Kind(list[kind.type], st.lists(kind.fits, max_size=3))),
        inner.map(
            lambda kind: Kind(dict[str, kind.type], st.dictionaries(text, kind.fits, max_size=3))
        ),
        inner.map(lambda kind: Kind(Union[kind.type, None], st.none() | kind.fits)),
        several.map(
            lambda kinds: Kind(
                Union[tuple(kind.type for kind in kinds)], st.one_of([k.fits for k in kinds])
            )
        ),
        several.map(
            lambda kinds: Kind(
                tuple[tuple(kind.type for kind in kinds)],  # type: ignore[misc]
                st.tuples(*(kind.fits for kind in kinds)).map(list),
            )
        ),
        st.builds(lambda make, kinds, n: make(kinds, n), made, several, st.integers(0, 3)),
    )


kinds = st.recursive(st.sampled_from(SIMPLE), _nest, max_leaves=5)


@st.composite
def functions(draw: st.DrawFn) -> tuple[Tool[..., Any], st.SearchStrategy[Any]]:
    """A tool with up to four parameters, and JSON objects that fit it."""
    found = draw(st.lists(kinds, max_size=4))
    required = draw(st.integers(0, len(found)))
    keyword_only = draw(st.integers(0, len(found)))
    parameters = [
        inspect.Parameter(
            f"field_{i}",
            inspect.Parameter.KEYWORD_ONLY
            if i >= keyword_only
            else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=kind.type,
            default=inspect.Parameter.empty if i < required else "the default",
        )
        for i, kind in enumerate(found)
    ]

    def echo(*args: Any, **kwargs: Any) -> Any:
        return inspect.Signature(parameters).bind(*args, **kwargs).arguments

    echo.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return tool(echo), _objects(found, required)


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """The value with one thing in it changed, missing or added."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 4)):
        copy: Any = value.copy()
        at = draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
        if draw(st.integers(0, 3)) == 0:
            del copy[at]
        else:
            copy[at] = draw(damaged(copy[at]))
        return copy
    if isinstance(value, dict) and draw(st.booleans()):
        return value | {draw(text): draw(anything)}
    return draw(anything | st.sampled_from(lookalikes(value)))


def lookalikes(value: Any) -> list[Any]:
    """What a tolerant reader might take for the value."""
    found = [str(value), json.dumps(value), [value], {"value": value}]
    if isinstance(value, (bool, int, float)):
        found += [bool(value), value + 0.5, -value, value == 1]
    return found


@pytest.mark.slow
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_a_schema_accepts_exactly_what_its_function_accepts(data: st.DataObject) -> None:
    made, fits = data.draw(functions())
    schema = made.input_schema
    Draft202012Validator.check_schema(schema)
    sent: Any = made.to_param()["input_schema"]  # it may say less, but allows all that fits
    valid = data.draw(fits)
    for given_input in (valid, data.draw(damaged(valid)), data.draw(damaged(valid))):
        if not isinstance(given_input, dict):
            continue
        try:
            made.call(given_input)
            accepted = True
        except ToolInputError:
            accepted = False
        assert accepted == Draft202012Validator(schema).is_valid(given_input), given_input
        assert accepted or given_input is not valid, given_input
        assert not accepted or Draft202012Validator(sent).is_valid(given_input), given_input


def test_numbers_are_compared_as_json_compares_them() -> None:
    @tool
    def f(days: int, level: float) -> tuple[int, float]:
        return days, level

    days, level = f.call({"days": 3.0, "level": 2})
    assert (type(days), type(level)) == (int, float)
    assert not Draft202012Validator(f.input_schema).is_valid({"days": 3.5, "level": 2})
    assert math.isclose(level, 2)


class Loose(BaseModel):
    days: int


def test_nothing_is_read_loosely_however_deep() -> None:
    @tool
    def f(loose: list[Loose]) -> None: ...

    for wrong in ("5", True, None, 5.5):
        with pytest.raises(ToolInputError, match=r"loose\[0\]\.days"):
            f.call({"loose": [{"days": wrong}]})
