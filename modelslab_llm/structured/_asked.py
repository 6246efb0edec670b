"""Decide how an output is asked for, what an answer gives, and how to ask again. Pure.

`asked_for` turns a type and the caller's parameters into those that are sent; the `Asked` it
returns reads the answer, or says why it is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from .._protocol.check import MESSAGE, refuse_unknown
from .._protocol.faults import faults_in
from .._protocol.schema import WRAPPED, adapter_of, for_grammar, for_output_config, schema_of
from ..endpoints import Endpoint, Strategy
from ..errors import (
    InvalidRequestError,
    OutputError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
)
from ..tools import tool_result
from ..types._reading import STRICT_JSON, whole
from ..types.content import InputJSONDelta, TextBlock, TextDelta, ToolUseBlock
from ..types.events import ContentBlockDeltaEvent, ContentBlockStartEvent, Event
from ..types.message import CUT, Message
from ..types.parsed import ParsedMessage
from ..types.requests import MessageParam
from ._partial import PartialObject

T = TypeVar("T")

TOOL = "output"
"""The name of the tool whose arguments are the output."""


class _Misfit(Exception):
    """An answer is not the output; the text says why, to the caller and to the model."""


@dataclass(frozen=True)
class Asked(Generic[T]):
    """A request for an output, and all it takes to read what comes."""

    params: Mapping[str, Any]
    """The parameters of `messages.create`."""
    adapter: TypeAdapter[Any]
    wrapped: bool
    """Whether the output is the one property of an object."""
    tool: str | None
    """The tool that the model was told to call, if the output comes as a call."""
    previous_attempts: tuple[Message, ...] = ()

    def read(self, message: Message) -> ParsedMessage[T]:
        """Return the message with its output, or raise the `OutputError` that says what it is.

        What is there whole counts, even where the server says that the answer was cut after it.
        """
        if message.stop_reason == "refusal":
            details = message.stop_details
            why = (details.explanation or details.category) if details else None
            reason = f"the model refused to answer{f': {why}' if why else ''}"
            raise self._failed(OutputRefusedError(reason), message)
        try:
            value = self._value(message)
        except _Misfit as misfit:
            if message.stop_reason in CUT:
                reason = (
                    f"the answer was cut ({message.stop_reason}) after "
                    f"{message.usage.output_tokens} tokens, before the output was whole: "
                    "raise max_tokens, or shorten the history"
                )
                raise self._failed(OutputTruncatedError(reason), message) from None
            error = OutputInvalidError(str(misfit))
            raise self._failed(error, message) from misfit.__cause__
        kind: type[ParsedMessage[T]] = ParsedMessage  # ParsedMessage[T] would be made at run time
        return kind.of(message, value, self.tool, self.previous_attempts)

    def again(self, error: OutputError) -> Asked[T]:
        """Return the next request: what is asked again, and the answer that is paid for."""
        params = {**self.params, "messages": error.messages}
        return replace(
            self, params=params, previous_attempts=(*self.previous_attempts, error.message)
        )

    def growing(self) -> Growing:
        """Return what follows the output while it streams in."""
        return Growing(self.tool, self.wrapped)

    def _failed(self, error: OutputError, message: Message) -> OutputError:
        error.message, error.raw_text, error.previous_attempts = (
            message,
            self._raw(message),
            self.previous_attempts,
        )
        error.tool_use = self._call(message)
        error.messages = list(self.params["messages"])
        if isinstance(error, OutputInvalidError):
            error.messages += self._shown(message, error.reason)
        return error

    def _shown(self, message: Message, reason: str) -> list[MessageParam]:
        """Return the answer with what is wrong with it, every call answered (protocol.md §10).

        An empty answer cannot be sent back: then the same is asked again.
        """
        turn = message.to_param()
        if not turn["content"]:
            return []
        how = f"Call {self.tool} again" if self.tool else "Give the whole JSON object again"
        results = [tool_result(use, f"{reason}.", is_error=True) for use in message.tool_uses]
        content = results or f"Error: {reason}. {how}, and mend this."
        return [turn, {"role": "user", "content": content}]

    def _call(self, message: Message) -> ToolUseBlock | None:
        return next((use for use in message.tool_uses if use.name == self.tool), None)

    def _raw(self, message: Message) -> str:
        if (call := self._call(message)) is None:
            return message.text
        if call.input_complete:
            return json.dumps(call.input, ensure_ascii=False)
        return call.raw_input or ""

    def _value(self, message: Message) -> T:
        """Return the output. Where no call came the text may hold it: Ollama ignores tool_choice
        (protocol.md §11)."""
        if (call := self._call(message)) is not None:
            if not call.input_complete:
                raise _Misfit("the arguments are not one whole JSON object")
            return self._validated(call.input)
        if self.tool and message.tool_uses:
            raise _Misfit(f"{message.tool_uses[0].name} was called, and not {self.tool}")
        return self._out_of(message.text)

    def _out_of(self, text: str) -> T:
        """Return the output that stands in a text, if there is exactly one that fits."""
        candidates = json_objects(text)
        if not candidates:
            what = "there is no call and no JSON object" if self.tool else "there is no JSON object"
            raise _Misfit(f"{what} in the answer")
        fitting: list[tuple[object, T]] = []
        misfit = _Misfit()
        for candidate in candidates:
            if all(candidate != known for known, _ in fitting):
                try:
                    fitting.append((candidate, self._validated(candidate)))
                except _Misfit as error:
                    misfit = error
        if not fitting:
            raise misfit
        if len(fitting) > 1:
            raise _Misfit(f"{len(fitting)} different JSON objects in the answer fit: give only one")
        return fitting[0][1]

    def _validated(self, given: Mapping[str, Any]) -> T:
        if self.wrapped and list(given) != [WRAPPED]:
            raise _Misfit(f"the object must hold {WRAPPED!r} and nothing else")
        found = given[WRAPPED] if self.wrapped else given
        try:  # as JSON: there a date is a string even where a type is strict
            return cast("T", self.adapter.validate_json(json.dumps(found)))
        except ValidationError as error:
            raise _Misfit(faults_in(error, WRAPPED if self.wrapped else "")) from error


def asked_for(
    output: Any,
    strategy: Strategy | None,
    params: Mapping[str, Any],
    endpoint: Endpoint,
    verb: str = "parse",
) -> Asked[Any]:
    """Return the request for an output. Raises `InvalidRequestError` for what cannot be asked."""
    refuse_unknown(params, MESSAGE, verb)  # first: of an output under another name
    adapter = adapter_of(output)
    schema, wrapped = schema_of(adapter)
    strategy = endpoint.default_strategy if strategy is None else strategy
    if strategy not in endpoint.strategies:
        known = ", ".join(map(repr, endpoint.strategies))
        raise InvalidRequestError(f"strategy: must be one of {known}, not {strategy!r}")
    params = {name: value for name, value in params.items() if value is not None}
    _check_turns(params)
    _check_free(params, strategy)
    if strategy == "tool":
        _check_thinking(params, endpoint)
        params = _by_tool(params, for_grammar(schema), alone=endpoint.output_tool_stands_alone)
    elif strategy == "output_config":
        form = {"type": "json_schema", "schema": for_output_config(schema)}
        params["output_config"] = {**params.get("output_config", {}), "format": form}
    else:
        params = _in_words(params, schema)
        if strategy == "json_schema":
            extra = params.get("extra_body", {})
            params["extra_body"] = {**extra, "json_schema": for_grammar(schema)}
    return Asked(params, adapter, wrapped, TOOL if strategy == "tool" else None)


def json_objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that stand in a text, fenced or not; none if one of them is broken.

    What is left of a broken object is never taken for a whole one.

    >>> json_objects('Here it is: ```json\\n{"a": {"b": 1}}\\n``` Use {braces} well.')
    [{'a': {'b': 1}}]
    >>> json_objects('{"a": {"b": 1}, "c": ')
    []
    """
    found: list[dict[str, Any]] = []
    end = 0
    while begin := _OBJECT.search(text, end):
        try:
            value, end = STRICT_JSON.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            return []
        found.append(whole(value))
    return found


_OBJECT = re.compile(r'\{\s*["}]')  # a brace followed by anything else is prose


class Growing:
    """Follow an output through the events of a stream: the first call of its tool, or the text."""

    def __init__(self, tool: str | None, wrapped: bool) -> None:
        self._tool = tool
        self._wrapped = wrapped
        self._index: int | None = None
        self._object = PartialObject()

    def add(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, ContentBlockStartEvent):
            self._begin(event)
        elif isinstance(event, ContentBlockDeltaEvent):
            delta = event.delta
            if self._tool is None and isinstance(delta, TextDelta):
                self._object.add(delta.text)
            elif event.index == self._index and isinstance(delta, InputJSONDelta):
                self._object.add(delta.partial_json)

    def news(self, *, whole: bool = False) -> list[Any]:
        """Return the output as far as it has come, if there is more of it than last time.

        It is a list of one or none, since None may be an output.
        """
        value = self._object.news(whole=whole)
        if value is None or (self._wrapped and WRAPPED not in value):
            return []
        return [value[WRAPPED] if self._wrapped else value]

    def _begin(self, event: ContentBlockStartEvent) -> None:
        block = event.content_block
        if self._tool is None and isinstance(block, TextBlock):
            self._object.add(block.text)
        elif isinstance(block, ToolUseBlock) and block.name == self._tool and self._index is None:
            self._index = event.index
            if block.input:  # all of it at once
                self._object.add(json.dumps(block.input))
        elif event.index == self._index:  # the index was given again, to another block
            self._index = -1


def _by_tool(params: Mapping[str, Any], schema: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """Force a call (protocol.md §10). llama-server takes it for a call of any tool, and has a
    grammar that allows nothing else; `disable_parallel_tool_use` is for those who heed it.

    So behind GGUF the tool stands `alone`: a history that used others needs none of them there.
    """
    others: Any = params.get("tools", ())
    description = "Give the answer by calling this, once."
    if about := schema.get("description"):
        description += f" It is: {about}"
    tool = {"name": TOOL, "description": description, "input_schema": schema}
    if isinstance(others, Iterable):
        others = list(cast("Iterable[Any]", others))
        if any(_name(definition) == TOOL for definition in others):
            raise InvalidRequestError(f"tools: {TOOL!r} is the name of the tool for the output")
        others = [tool] if alone else [*others, tool]
    choice = {"type": "tool", "name": TOOL, "disable_parallel_tool_use": True}
    return {**params, "tools": others, "tool_choice": choice}


def _name(tool: Any) -> object:
    return (
        cast("Any", tool).get("name") if isinstance(tool, Mapping) else getattr(tool, "name", None)
    )


def _in_words(params: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the model what to answer; the schema is not shown to it by llama-server either."""
    words = (
        "Answer with one JSON object and nothing else: no words before or after it. "
        f"It must fit this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )
    system: Any = params.get("system")
    if isinstance(system, str) and system:
        system = f"{system}\n\n{words}"
    elif isinstance(system, Iterable) and not isinstance(system, (str, Mapping)):
        # llama-server joins the blocks with nothing between them (protocol.md §3)
        system = [*cast("Iterable[Any]", system), {"type": "text", "text": f"\n\n{words}"}]
    elif not system:
        system = words
    return {**params, "system": system}


def _check_turns(params: dict[str, Any]) -> None:
    """Refuse a prefilled answer: servers differ in whether they repeat it (protocol.md §3)."""
    turns: Any = params.get("messages")
    if not isinstance(turns, Iterable) or isinstance(turns, (str, bytes, Mapping)):
        return  # said in full when the request is checked
    params["messages"] = turns = list(cast("Iterable[Any]", turns))
    last: Any = turns[-1] if turns else None
    role = cast("Any", last).get("role") if isinstance(last, Mapping) else None
    if role == "assistant" or isinstance(last, Message):
        raise InvalidRequestError(
            f"messages[{len(turns) - 1}].role: an output is asked for in a user's turn, the last"
        )


def _check_free(params: Mapping[str, Any], strategy: Strategy) -> None:
    """Refuse what would take the place of what the strategy sends."""
    field = {"tool": "tool_choice", "prompt": None}.get(strategy, strategy)
    extra: Any = params.get("extra_body", {})
    taken = [f"extra_body[{field!r}]"] if isinstance(extra, Mapping) and field in extra else []
    config: Any = params.get("output_config", {})
    if field == "tool_choice" and field in params:
        taken.append(field)
    if isinstance(config, Mapping) and "format" in config:
        taken.append("output_config['format']")
    if taken:
        raise InvalidRequestError(f"{', '.join(taken)}: is set by parse(), leave it out")


def _check_thinking(params: Mapping[str, Any], endpoint: Endpoint) -> None:
    """Refuse what Anthropic does (protocol.md §4); llama-server, behind GGUF, thinks and calls."""
    thinking: Any = params.get("thinking")
    enabled = isinstance(thinking, Mapping) and cast("Any", thinking).get("type") == "enabled"
    if enabled and not endpoint.thinks_before_forced_tool:
        raise InvalidRequestError(
            "thinking: 'enabled' and a tool that must be called exclude each other; "
            "use strategy='output_config' or 'prompt', or leave thinking out"
        )
