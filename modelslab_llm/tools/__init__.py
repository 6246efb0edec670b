"""Turn typed functions into tools, and their return values into tool results. Runs no loop.

pydantic builds the JSON schema of a tool and validates its arguments. Validation is strict, as
JSON, so a function accepts exactly what its schema says: `"5"` is not an integer.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    overload,
)

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaError, to_json
from typing_extensions import Self, get_type_hints

from .._protocol.problems import problems_in
from .._protocol.schema import for_grammar, json_schema
from .._protocol.seconds import seconds_of
from ..errors import ConfigurationError, ToolInputError
from ..types._json import is_list, is_mapping, is_object
from ..types.content import ToolUseBlock
from ..types.requests import ToolParam, ToolResultBlockParam
from ._docstrings import described

__all__ = ["Tool", "tool", "tool_result"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")

NAME = "[a-zA-Z0-9_-]{1,64}"
"""The names that every server accepts (protocol.md §10)."""


class Tool(Generic[P, R]):
    """A function that a model may call. `tool` creates it; it can still be called as a function."""

    name: str
    description: str
    input_schema: dict[str, Any]
    """JSON schema of the arguments: one object without additional properties. In the definition
    that is sent, keywords without a grammar in llama-server are moved to descriptions."""
    timeout: float | None
    """Timeout of a call in `run_tools`, in seconds; None for no limit."""
    function: Callable[P, R]
    is_async: bool

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        extra: Mapping[str, Any] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = _checked_name(function, name)
        named = f"tool {self.name!r}: timeout"
        self.timeout = None if timeout is None else seconds_of(named, timeout)
        self.is_async = inspect.iscoroutinefunction(function)
        text, of_parameters = described(function.__doc__)
        self.description = text if description is None else description
        self.input_schema, self._arguments = _arguments(function, self.name, of_parameters, names)
        self._extra = dict(extra or {})
        self._unbound = _takes_self(function)
        update_wrapper(self, function, updated=())  # the tool keeps its own attributes

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function directly, without checking its arguments."""
        return self.function(*args, **kwargs)

    def call(self, input: Mapping[str, Any]) -> R:
        """Call the function with a model's arguments; await the result of an async one.

        Args:
            input: The arguments, as in the `input` of a `ToolUseBlock`.

        Returns:
            What the function returns.

        Raises:
            ToolInputError: The arguments do not match `input_schema`. Exceptions of the function
                are raised unchanged.
        """
        args, kwargs = self.read(input)
        function: Callable[..., R] = self.function
        return function(*args, **kwargs)

    def read(self, input: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Validate a model's arguments, and return them in the form that the function takes.

        Args:
            input: The arguments, as in the `input` of a `ToolUseBlock`.

        Returns:
            The positional and the keyword arguments.

        Raises:
            ToolInputError: The arguments do not match `input_schema`.
        """
        if self._unbound:
            raise ConfigurationError(
                f"tool {self.name!r} is a method: pass it from an object, thing.{self.name}"
            )
        try:
            text = to_json(_whole_numbers(dict(input)))
            args, kwargs = self._arguments.validate_json(text, strict=True)
        except ValidationError as error:
            raise ToolInputError(
                f"invalid arguments for {self.name}: {problems_in(error)}"
            ) from None
        except PydanticSerializationError as error:
            raise ToolInputError(f"arguments for {self.name} that are not JSON: {error}") from None
        return args, kwargs

    def to_param(self) -> ToolParam:
        """Return the definition in the form of a request."""
        definition: ToolParam = {"name": self.name}
        if self.description:
            definition["description"] = self.description
        definition["input_schema"] = for_grammar(self.input_schema)
        # `extra` may contain fields that only one server knows.
        return cast("ToolParam", definition | self._extra)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(
        self: Tool[Concatenate[Any, Q], R], instance: object, owner: type
    ) -> Tool[Q, R]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        """Bind a tool made from a method to its object."""
        if instance is None or not self._unbound:
            return self
        bound = object.__new__(type(self))
        vars(bound).update(vars(self))
        function: Callable[..., Any] = self.function
        bound.function = partial(function, instance)
        bound._unbound = False
        return bound

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Any:
    """Turn a function whose parameters all have types into a tool: `@tool`, or `tool(function)`.

    The description of a parameter comes from `Annotated[str, "..."]`, from pydantic's
    `Field(description="...")`, or from the docstring.

    Args:
        function: The function, sync or async.
        name: Name of the tool. Default: the name of the function.
        description: Description for the model. Default: the docstring of the function.
        timeout: Timeout of a call in `run_tools`, in seconds. Default None, no limit.
        extra: Additional fields of the definition, such as `cache_control`. Default none.

    Returns:
        The tool, which can be called like the function.

    Raises:
        ConfigurationError: The function cannot be a tool.

    >>> @tool
    ... def river_level(river: Annotated[str, "Without 'River'"], days: list[int] = []) -> str:
    ...     '''Say how high a river stands.'''
    ...     return f"{river}: 18 cm"
    >>> river_level.to_param()["input_schema"]["required"]
    ['river']
    >>> river_level("Tamar"), river_level.call({"river": "Exe"})
    ('Tamar: 18 cm', 'Exe: 18 cm')
    """
    # For types that exist only where the function is defined, such as inside another function.
    names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage]

    def make(function: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(
            function,
            name=name,
            description=description,
            timeout=timeout,
            extra=extra,
            names=names,
        )

    return make if function is None else make(function)


def tool_result(
    tool_use: ToolUseBlock | str, content: object, is_error: bool = False
) -> ToolResultBlockParam:
    """Return the result of a tool call, which goes first into the next user turn (protocol.md §10).

    Args:
        tool_use: The call, or its ID.
        content: Text, content blocks (one or a list), or anything that has a JSON form, including
            pydantic models and dataclasses.
        is_error: Whether the call failed. The text then begins with `Error:`, because llama-server,
            vLLM and Ollama ignore the flag. Default False.

    Returns:
        The content block.

    Raises:
        TypeError: The content has no JSON form.

    >>> tool_result("toolu_1", {"level": 18})
    {'type': 'tool_result', 'tool_use_id': 'toolu_1', 'content': '{"level":18}'}
    >>> tool_result("toolu_1", "no such river", is_error=True)["content"]
    'Error: no such river'
    """
    sent = _error(_sendable(content)) if is_error else _sendable(content)
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": tool_use if isinstance(tool_use, str) else tool_use.id,
        "content": sent,
    }
    if is_error:
        result["is_error"] = True
    return result


# From function to schema


def _checked_name(function: object, name: str | None) -> str:
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise ConfigurationError(
            f"a tool must be a function or a method, not {type(function).__name__}"
        )
    if name is None and function.__name__ == "<lambda>":
        raise ConfigurationError("a lambda has neither name nor types: write a def")
    name = function.__name__ if name is None else name
    if not re.fullmatch(NAME, name):
        raise ConfigurationError(
            f"tool name {name!r}: servers accept 1 to 64 of the letters a-z and A-Z, digits, '_' "
            "and '-'; choose one with @tool(name=...)"
        )
    return name


def _takes_self(function: Callable[..., Any]) -> bool:
    """Tell whether this is a method in the body of its class."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.name == "self" and first.annotation is first.empty


def _arguments(
    function: Callable[..., Any],
    name: str,
    of_parameters: Mapping[str, str],
    names: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], TypeAdapter[Any]]:
    """Return the schema of a function's arguments, and what reads them into `args, kwargs`."""
    gather = _gatherer(function, name)
    try:
        there = getattr(inspect.unwrap(function), "__globals__", {})
        gather.__annotations__ = hints = get_type_hints(
            gather, there, dict(names or {}), include_extras=True
        )
    except NameError as error:
        raise ConfigurationError(f"tool {name!r}: a type cannot be found: {error}") from None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(gather)
        schema = json_schema(adapter)
    except _NO_SCHEMA as error:
        raise ConfigurationError(f"tool {name!r}: {_culprit(hints, error)}") from None
    for parameter, hint in hints.items():
        said = _said(hint) or of_parameters.get(parameter)
        if said and parameter in schema["properties"]:
            schema["properties"][parameter].setdefault("description", said)
    return schema, adapter


def _gatherer(function: Callable[..., Any], name: str) -> Any:
    """Return a function with the same parameters that only returns its arguments.

    pydantic validates arguments by calling a function; with this one, arguments that do not fit
    cannot be confused with exceptions of the function itself.
    """

    def gather(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    parameters = list(inspect.signature(function).parameters.values())
    if _takes_self(function):
        del parameters[0]
    for parameter in parameters:
        _check_parameter(parameter, name)
    gather.__module__, gather.__qualname__ = function.__module__, function.__qualname__
    gather.__annotations__ = {p.name: p.annotation for p in parameters}
    gather.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return gather


_CURES: Mapping[object, str] = {
    inspect.Parameter.POSITIONAL_ONLY: (
        "is positional-only, but a model passes arguments by name: remove the '/'"
    ),
    inspect.Parameter.VAR_POSITIONAL: "takes any number of arguments: use one list instead",
    inspect.Parameter.VAR_KEYWORD: "takes arguments with any name: use one dict, or name them",
}


def _check_parameter(parameter: inspect.Parameter, name: str) -> None:
    cure = _CURES.get(parameter.kind)
    if cure is None and parameter.annotation is parameter.empty:
        cure = f"has no type: write {parameter.name}: str, for example"
    if cure:
        raise ConfigurationError(f"tool {name!r}: parameter {parameter.name!r} {cure}")


_NO_SCHEMA = (PydanticUserError, SchemaError, TypeError)


def _culprit(hints: Mapping[str, Any], error: Exception) -> str:
    """Name the parameter whose type has no schema."""
    for parameter, hint in hints.items():
        try:
            TypeAdapter(hint).json_schema()
        except _NO_SCHEMA as reason:
            why = str(reason).strip().splitlines()[-1 if isinstance(reason, SchemaError) else 0]
            kind = inspect.formatannotation(hint)
            return f"cannot build a JSON schema for parameter {parameter!r}, {kind}: {why}"
    return str(error).splitlines()[0]


def _said(hint: Any) -> str | None:
    """Return the description in `Annotated[str, "…"]` or `Annotated[str, Doc("…")]`."""
    for mark in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        text = getattr(mark, "documentation", mark)
        if isinstance(text, str):
            return text
    return None


# From the model's input to arguments


def _whole_numbers(value: Any) -> Any:
    """Write 5.0 as 5: the same number in JSON, and an integer in every schema."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if is_object(value):
        return {k: _whole_numbers(v) for k, v in value.items()}
    if is_list(value):
        return [_whole_numbers(v) for v in value]
    return value


# From return value to content

_ESSENTIAL = {
    "text": "text",
    "image": "source",
    "document": "source",
    "search_result": "source",
    "tool_reference": "tool_name",
}
"""The blocks that a tool result may contain, and the fields that tell them from other data."""


def _sendable(content: Any) -> Any:
    if isinstance(content, str):
        return _text(content)
    if _is_block(content):
        return [content]
    parts: Sequence[object] = content if type(content) in (list, tuple) else ()
    if any(map(_is_block, parts)) and all(_is_block(p) or isinstance(p, str) for p in parts):
        return [{"type": "text", "text": _text(p)} if isinstance(p, str) else p for p in parts]
    try:
        return to_json(content).decode()
    except (PydanticSerializationError, ValueError) as error:
        raise TypeError(
            f"it returned {type(content).__name__}, which is not JSON: {error}"
        ) from None


def _error(content: Any) -> Any:
    """Begin the content with `Error:`, unless it already does."""
    if isinstance(content, str):
        return content if content.startswith("Error:") else f"Error: {content}"
    first, *rest = content
    if first["type"] == "text":
        return [{**first, "text": _error(first["text"])}, *rest]
    return [{"type": "text", "text": "Error:"}, *content]


def _is_block(value: object) -> bool:
    if isinstance(value, BaseModel) or not is_mapping(value):
        return False
    kind = value.get("type")
    return isinstance(kind, str) and kind in _ESSENTIAL and _ESSENTIAL[kind] in value


def _text(text: str) -> str:
    """Replace lone surrogates, which file names may contain and requests cannot."""
    return text.encode(errors="replace").decode()
