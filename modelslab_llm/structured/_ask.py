"""Decide how to ask for an output, and ask until an answer is valid. Sends nothing itself.

`output_request` turns a type and the caller's parameters into the parameters to send. `parsing` is
the flow behind `parse`: it yields each attempt and receives its outcome.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from .._protocol.check import MESSAGE, refuse_unknown
from .._protocol.config import Config
from .._protocol.exchange import exchange
from .._protocol.messages import Route, create_message
from .._protocol.schema import (
    adapter_of,
    for_grammar,
    for_output_config,
    for_response_format,
    schema_of,
)
from .._protocol.values import Attempt, Deadline, Outcome
from ..endpoints import Endpoint, Strategy
from ..errors import BudgetSpentError, InvalidRequestError, OutputInvalidError
from ..types._json import is_iterable, is_mapping
from ..types.message import Message
from ..types.parsed import ParsedMessage
from ._read import OutputRequest

T = TypeVar("T")

TOOL = "output"
"""The name of the tool whose arguments are the output."""


def output_request(
    output: Any,
    strategy: Strategy | None,
    params: Mapping[str, Any],
    endpoint: Endpoint,
    verb: str = "parse",
) -> OutputRequest[Any]:
    """Return the request for an output. Raises `InvalidRequestError` if it cannot be asked for."""
    refuse_unknown(params, MESSAGE, verb)  # first: a misspelled `output`
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
        if strategy == "response_format":  # the route converts it
            form = {"type": "json_schema", "schema": for_response_format(schema)}
            params["output_config"] = {**params.get("output_config", {}), "format": form}
    return OutputRequest(
        params,
        adapter,
        wrapped,
        TOOL if strategy == "tool" else None,
        by_chat=strategy == "response_format",
    )


def parsing(
    config: Config,
    asked: OutputRequest[T],
    validation_retries: int,
    clock: Callable[[], float],
    route: Route | None = None,
) -> Generator[Attempt, Outcome, ParsedMessage[T]]:
    """Ask until an answer is valid, with up to `validation_retries` retries and one deadline.

    Only an invalid answer is retried: a truncated or refused one would be the same again. If the
    budget is spent by then, the cause of `BudgetSpentError` is the error of the answer.
    """
    if type(validation_retries) is not int or validation_retries < 0:
        given = repr(validation_retries)
        raise InvalidRequestError(
            f"validation_retries: must be a whole number, at least 0, not {given}"
        )
    deadline = Deadline.of(config, clock)
    unfit: OutputInvalidError | None = None
    while True:
        try:
            message = yield from exchange(
                create_message(config, asked.params, "parse", route), deadline
            )
        except BudgetSpentError as spent:
            raise spent from unfit
        try:
            return asked.read(message)
        except OutputInvalidError as error:
            if len(asked.previous_attempts) >= validation_retries:
                raise
            unfit, asked = error, asked.again(error)


def _by_tool(params: Mapping[str, Any], schema: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """Force a call (protocol.md §10); some servers honor `disable_parallel_tool_use`.

    llama-server forces a call of any tool, so the tool is sent `alone` there; a history with other
    tools does not need them. Its grammar holds a call to the schema, but does not force a call.
    """
    others: Any = params.get("tools", ())
    description = "Give the answer by calling this, once."
    if about := schema.get("description"):
        description += f" It is: {about}"
    tool = {"name": TOOL, "description": description, "input_schema": schema}
    if is_iterable(others):
        others = list(others)
        if any(_name(definition) == TOOL for definition in others):
            raise InvalidRequestError(f"tools: {TOOL!r} is the name of the tool for the output")
        others = [tool] if alone else [*others, tool]
    choice = {"type": "tool", "name": TOOL, "disable_parallel_tool_use": True}
    return {**params, "tools": others, "tool_choice": choice}


def _name(tool: Any) -> object:
    return tool.get("name") if is_mapping(tool) else getattr(tool, "name", None)


def _in_words(params: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the answer to the model in words; llama-server does not show it the schema."""
    words = (
        "Answer with one JSON object and nothing else: no words before or after it. "
        f"It must fit this JSON schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )
    system: Any = params.get("system")
    if isinstance(system, str) and system:
        system = f"{system}\n\n{words}"
    elif is_iterable(system):
        # llama-server joins the blocks without a separator (protocol.md §3)
        system = [*system, {"type": "text", "text": f"\n\n{words}"}]
    elif not system:
        system = words
    return {**params, "system": system}


def _check_turns(params: dict[str, Any]) -> None:
    """Refuse a prefilled answer: servers differ in whether they repeat it (protocol.md §3)."""
    turns: Any = params.get("messages")
    if not is_iterable(turns):
        return  # reported in full when the request is checked
    params["messages"] = turns = list(turns)
    last: object = turns[-1] if turns else None
    role = last.get("role") if is_mapping(last) else None
    if role == "assistant" or isinstance(last, Message):
        raise InvalidRequestError(
            f"messages[{len(turns) - 1}].role: must be 'user', because a request for an output "
            f"ends with a user turn"
        )


_SETS: Mapping[Strategy, tuple[str, ...]] = {
    "tool": ("tool_choice",),
    "response_format": ("response_format", "tool_choice"),
    "output_config": ("output_config",),
    "prompt": (),
}
"""The fields of a request that a strategy sets, or that would prevent its output."""


def _check_free(params: Mapping[str, Any], strategy: Strategy) -> None:
    """Refuse parameters that would replace what the strategy sends."""
    fields = _SETS[strategy]
    extra: Any = params.get("extra_body", {})
    taken = [
        f"extra_body[{field!r}]"
        for field in fields
        if isinstance(extra, Mapping) and field in extra
    ]
    config: Any = params.get("output_config", {})
    taken += [field for field in fields if field == "tool_choice" and field in params]
    origin = ""
    if isinstance(config, Mapping) and "format" in config:
        taken.append("output_config['format']")
        origin = " (to_messages makes it from response_format: leave that out of the body)"
    if taken:
        raise InvalidRequestError(f"{', '.join(taken)}: is set by parse(); leave it out{origin}")


def _check_thinking(params: Mapping[str, Any], endpoint: Endpoint) -> None:
    """Refuse what Anthropic refuses (protocol.md §4); llama-server, behind GGUF, allows both."""
    thinking: Any = params.get("thinking")
    enabled = is_mapping(thinking) and thinking.get("type") == "enabled"
    if enabled and not endpoint.thinks_before_forced_tool:
        raise InvalidRequestError(
            "thinking: 'enabled' cannot be combined with a forced tool; "
            "use strategy='output_config' or 'prompt', or leave thinking out"
        )
