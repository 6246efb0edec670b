"""Prove that a typed function becomes the tool it says it is, and that nothing else becomes one."""

from __future__ import annotations

import dataclasses
import enum
import json
import pickle
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from typing_extensions import Doc, NotRequired, TypedDict

from modelslab_llm import (
    ConfigurationError,
    InvalidRequestError,
    ModelsLab,
    Tool,
    ToolInputError,
    ToolUseBlock,
    tool,
    tool_result,
)
from modelslab_llm.testing import LocalServer


class Unit(enum.Enum):
    CM = "cm"
    M = "m"


class Gauge(BaseModel):
    """Where a level is measured."""

    name: str
    above: Gauge | None = None


@dataclasses.dataclass
class Span:
    first: int
    last: int = 31


class Options(TypedDict):
    rounded: bool
    note: NotRequired[str]


@tool
def river_level(
    river: Annotated[str, "Its name, without 'River'"],
    gauge: Gauge,
    span: Span,
    days: Annotated[tuple[int, ...], Field(description="Of this month", max_length=31)] = (),
    *,
    unit: Unit = Unit.CM,
    kind: Annotated[Literal["now", 1], Doc("Which one")] = "now",
    options: Options | None = None,
    since: date | None = None,
) -> dict[str, Any]:
    """Say how high a river stands.

    Args:
        river: Not this one, but what is annotated.
        span: The days
            to look at.
    """
    return {"river": river, "gauge": gauge, "span": span, "days": days, "unit": unit, "kind": kind}


def test_a_function_becomes_a_definition() -> None:
    definition = river_level.to_param()
    assert set(definition) == {"name", "description", "input_schema"}
    assert definition["name"] == "river_level"
    assert definition["description"] == "Say how high a river stands."
    schema: Any = definition["input_schema"]
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    assert schema["required"] == ["river", "gauge", "span"]
    of = schema["properties"]
    assert of["river"] == {"type": "string", "description": "Its name, without 'River'"}
    assert of["gauge"] == {"$ref": "#/$defs/Gauge"}
    assert of["span"] == {"$ref": "#/$defs/Span", "description": "The days to look at."}
    assert of["days"]["description"] == "Of this month"
    assert (of["unit"]["default"], of["kind"]["description"]) == ("cm", "Which one")
    assert schema["$defs"]["Unit"]["enum"] == ["cm", "m"]
    assert schema["$defs"]["Gauge"]["description"] == "Where a level is measured."


def test_arguments_arrive_as_the_function_wants_them() -> None:
    given = {
        "river": "Tamar",
        "gauge": {"name": "Gunnislake", "above": {"name": "Greystone"}},
        "span": {"first": 3},
        "unit": "m",
    }
    found = river_level.call(given)
    assert found["gauge"] == Gauge(name="Gunnislake", above=Gauge(name="Greystone"))
    assert (found["span"], found["unit"], found["days"]) == (Span(3), Unit.M, ())
    assert river_level("Exe", Gauge(name="Thorverton"), Span(1))["river"] == "Exe"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "river: is required"),
        ({"river": 57}, "river: Input should be a valid string"),
        ({"river": "x", "colour": "red"}, "colour: is unknown"),
        ({"gauge": {"name": "a", "above": {}}}, "gauge.above.name: is required"),
        ({"days": [1, "2"]}, "days[1]: Input should be a valid integer"),
        ({"unit": "km"}, "unit: Input should be 'cm' or 'm'"),
        ({"river": "x" * 10_000, "days": ["y" * 10_000]}, "days[0]: Input should be a valid"),
        ({"river": "\ud800"}, "JSON"),
    ],
)
def test_what_does_not_fit_is_named_shortly(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ToolInputError) as refused:
        river_level.call(given)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)
    assert "pydantic" not in str(refused.value)
    assert "57" not in str(refused.value)  # a log need not hold what people wrote
    assert "yyy" not in str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)


def test_many_faults_are_counted() -> None:
    with pytest.raises(ToolInputError, match="and 90 more"):
        tool(takes_days).call({"days": ["x"] * 100})


def takes_days(days: list[int]) -> None: ...


def test_what_the_function_raises_is_no_fault_of_the_arguments() -> None:
    @tool
    def strict(name: str) -> Gauge:
        return Gauge.model_validate({"name": 5})

    with pytest.raises(ValueError, match="validation error for Gauge"):
        strict.call({"name": "x"})


def test_name_description_and_more_can_be_given() -> None:
    @tool(
        name="level",
        description="How high.",
        timeout=3,
        extra={"cache_control": {"type": "ephemeral"}},
    )
    def f(river: str) -> str:
        """Not this."""
        return river

    assert isinstance(f, Tool)
    assert f.to_param() == {
        "name": "level",
        "description": "How high.",
        "input_schema": f.input_schema,
        "cache_control": {"type": "ephemeral"},
    }
    assert f.timeout == 3
    assert f("x") == "x"
    assert repr(f) == "Tool('level')"
    assert tool(takes_days, name="d").name == "d"


def test_a_tool_without_docstring_or_parameters() -> None:
    @tool
    def now() -> str:
        return "noon"

    assert now.call({}) == "noon"
    assert "description" not in now.to_param()
    with pytest.raises(ToolInputError, match="is unknown"):
        now.call({"zone": "UTC"})


def test_methods_keep_their_object() -> None:
    class Station:
        def __init__(self, name: str) -> None:
            self.name = name

        @tool
        def level(self, days: list[int]) -> str:
            """Say it."""
            return f"{self.name}: {days}"

        @classmethod
        def build(cls, name: str) -> str:
            return f"{cls.__name__} {name}"

        @staticmethod
        @tool
        def plain(x: int) -> int:
            return x

        def undecorated(self, x: int) -> str:
            return f"{self.name}{x}"

    exe = Station("Exe")
    assert exe.level.call({"days": [1]}) == "Exe: [1]"
    assert exe.level([2]) == "Exe: [2]"
    assert list(exe.level.input_schema["properties"]) == ["days"]
    assert Station.level(exe, [3]) == "Exe: [3]"
    assert exe.plain.call({"x": 1}) == 1
    assert tool(Station.build).call({"name": "a"}) == "Station a"
    assert tool(exe.undecorated).call({"x": 1}) == "Exe1"
    with pytest.raises(ConfigurationError, match="pass it from an object"):
        Station.level.call({"days": [1]})


def test_a_function_that_is_decorated_twice() -> None:
    import functools

    def doubled(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> str:
            return function(*args, **kwargs) * 2

        return run

    @tool
    @doubled
    def f(gauge: Gauge) -> str:
        """Doc."""
        return gauge.name

    assert f.call({"gauge": {"name": "ab"}}) == "abab"


def test_the_functions_own_attributes_do_not_leak() -> None:
    def f(x: int) -> None: ...

    f.name = "another"  # type: ignore[attr-defined]
    assert tool(f).name == "f"
    assert tool(f).__wrapped__ is f  # type: ignore[attr-defined]


def test_types_of_the_place_where_it_is_written() -> None:
    class Here(BaseModel):
        x: int

    @tool
    def f(here: Here) -> NotDefined:  # type: ignore[name-defined]  # noqa: F821
        return here.x

    assert f.call({"here": {"x": 1}}) == 1


def unannotated(river: str, days): ...  # type: ignore[no-untyped-def]
def positional(a: int, /) -> None: ...
def many(*days: int) -> None: ...
def named(**days: int) -> None: ...
def function(then: Callable[[], int]) -> None: ...
def client(a: int, client: ModelsLab) -> None: ...
def lost(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def naïve(a: int) -> None: ...
def pattern(a: Annotated[str, Field(pattern="(")]) -> None: ...


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (unannotated, r"'unannotated': parameter 'days' has no type"),
        (positional, r"parameter 'a' is positional-only"),
        (many, r"parameter 'days' takes any number"),
        (named, r"parameter 'days' takes arguments with any name"),
        (function, r"for parameter 'then', .*Callable"),
        (client, r"for parameter 'client', modelslab_llm"),
        (lost, r"name 'Nowhere' is not defined"),
        (naïve, r"tool name 'naïve'.*@tool\(name=\.\.\.\)"),
        (pattern, r"for parameter 'a'.*unclosed group"),
        (lambda: 1, r"a lambda has neither name nor types"),
        (len, r"not builtin_function_or_method"),
        (Gauge, r"not ModelMetaclass"),
        ("river_level", r"not str"),
    ],
)
def test_what_cannot_be_a_tool(made: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        tool(made)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x" * 65, "é", "a\n"])
def test_names_that_a_server_may_refuse(name: str) -> None:
    with pytest.raises(ConfigurationError, match="tool name"):
        tool(takes_days, name=name)


def test_a_timeout_must_leave_time() -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        tool(takes_days, timeout=0)


# Results


@dataclasses.dataclass
class Level:
    cm: int
    on: date


PICTURE = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("18 cm", "18 cm"),
        ("", ""),
        (None, "null"),
        (18, "18"),
        (["a", "b"], '["a","b"]'),
        ({"é": (1, 2)}, '{"é":[1,2]}'),
        (Level(18, date(2026, 5, 1)), '{"cm":18,"on":"2026-05-01"}'),
        (Gauge(name="x"), '{"name":"x","above":null}'),
        ([Gauge(name="x")], '[{"name":"x","above":null}]'),
        ({Unit.CM: Decimal("1.5"), "u": UUID(int=1)}, None),
        (PICTURE, [PICTURE]),
        ([PICTURE, "a gauge"], [PICTURE, {"type": "text", "text": "a gauge"}]),
        ([{"type": "text", "text": "x"}], [{"type": "text", "text": "x"}]),
        ({"type": "image"}, '{"type":"image"}'),
        ({"type": "heron", "text": "grey"}, '{"type":"heron","text":"grey"}'),
        ("half \ud83d", "half ?"),
    ],
)
def test_results(content: Any, sent: Any) -> None:
    """Whatever a tool returns is sent as text or blocks that say the same."""
    result = tool_result("toolu_1", content)
    assert result["tool_use_id"] == "toolu_1"
    assert "is_error" not in result
    assert "content" in result
    if sent is None:
        json.loads(str(result["content"]))
    else:
        assert result["content"] == sent


def test_errors_say_so_in_words() -> None:
    use = ToolUseBlock(id="toolu_2", name="x")
    result = tool_result(use, "no such river", is_error=True)
    assert result == {
        "type": "tool_result",
        "tool_use_id": "toolu_2",
        "content": "Error: no such river",
        "is_error": True,
    }
    assert tool_result(use, "Error: twice", is_error=True).get("content") == "Error: twice"
    text = {"type": "text", "text": "too dark"}
    dark = [{"type": "text", "text": "Error: too dark"}]
    assert tool_result(use, [text], is_error=True).get("content") == dark
    photo = tool_result(use, [PICTURE, text], is_error=True).get("content")
    assert photo == [{"type": "text", "text": "Error:"}, PICTURE, text]
    assert text["text"] == "too dark"


@pytest.mark.parametrize("content", [object(), b"\xff", {1: {2: object()}}, lambda: 1])
def test_what_is_not_a_result(content: Any) -> None:
    with pytest.raises(TypeError, match="is not JSON"):
        tool_result("toolu_1", content)


# Requests


def test_tools_go_where_definitions_go(server: LocalServer) -> None:
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
        client.messages.create(max_tokens=5, tools=[river_level, {"name": "other"}], **asked)
        client.messages.count_tokens(tools=iter([river_level]), **asked)
        assert server.requests[0].body["tools"] == [river_level.to_param(), {"name": "other"}]
        assert server.requests[1].body["tools"] == [river_level.to_param()]


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (
            [river_level, river_level],
            r"tools\[1\]: the name 'river_level' is already used by tools\[0\]",
        ),
        (
            [{"name": "a"}, {"name": "b"}, {"name": "a"}],
            r"tools\[2\]: the name 'a' is already used",
        ),
        ([takes_days], r"tools\[0\]: is a plain function, which must be decorated with @tool"),
        ([{"name": "a", "input_schema": {"type": "array"}}], r"tools\[0\].input_schema: must be"),
        ([{"name": "a", "input_schema": "x"}], r"tools\[0\].input_schema: must be"),
        (river_level, r"tools: must be a list"),
    ],
)
@pytest.mark.parametrize("verb", ["create", "stream", "run_tools"])
def test_tools_that_servers_refuse(server: LocalServer, tools: Any, said: str, verb: str) -> None:
    with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
        with pytest.raises(InvalidRequestError, match=said):
            getattr(client.messages, verb)(
                model="m",
                max_tokens=5,
                messages=[{"role": "user", "content": "Hi"}],
                tools=tools,
            )
    assert not server.requests
