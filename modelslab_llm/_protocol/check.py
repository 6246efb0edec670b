"""Refuse, before anything is sent, what the documentation rules out (protocol.md §3).

Every bad place is named at once, as a path such as `messages[1].role`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .._hints import hint, right_parameter
from ..endpoints import Endpoint
from ..errors import InvalidRequestError
from ..types._json import fields_of, is_iterable, is_mapping
from ..types.requests import CountTokensParams, MessageCreateParams
from .config import Options
from .problems import joined
from .shapes import wrong_block, wrong_choice, wrong_tool
from .turns import plain_turns

LISTS = ("tools", "system", "stop_sequences", "betas", "mcp_servers")
OPTIONS = frozenset({"extra_headers", "extra_body", "timeout"})
MESSAGE = frozenset(MessageCreateParams.__annotations__)
COUNT = frozenset(CountTokensParams.__annotations__)


def checked(
    params: Mapping[str, Any], known: frozenset[str], endpoint: Endpoint, verb: str
) -> dict[str, Any]:
    """Return the body to send, or raise `InvalidRequestError` with every problem found."""
    refuse_unknown(params, known, verb)
    body = {k: v for k, v in params.items() if v is not None and k in known - OPTIONS}
    problems: list[str] = []
    body["messages"] = _messages(params.get("messages"), problems)
    if known is MESSAGE:
        _numbers(body, endpoint, problems)
    if "thinking" in body:
        _thinking(body["thinking"], body.get("max_tokens"), endpoint, problems)
    for name in LISTS:
        if name in body:
            _list(body, name, problems)
    if "tool_choice" in body and (wrong := wrong_choice(body["tool_choice"])):
        problems.append(f"tool_choice: {wrong}")
    extra: object = params.get("extra_body") or {}
    if not is_mapping(extra):
        problems.append(f"extra_body: must be a dict, not {type(extra).__name__}")
    elif "stream" in extra or "messages" in extra:
        problems.append("extra_body: 'stream' and 'messages' are set by the call itself")
    else:
        body.update(extra)
    _model(body, endpoint, problems)
    raise_for(problems)
    return body


def refuse_unknown(params: Mapping[str, Any], known: frozenset[str], verb: str) -> None:
    """Raise a `TypeError` for an unknown parameter, as any Python call does.

    A parameter whose value is another client's marker raises `InvalidRequestError`.
    """
    for name in params.keys() - known:
        if name != "stream" or params[name]:
            raise TypeError(
                f"messages.{verb}() has no parameter {name!r}: {_cure(name, known, verb)}"
            )
    raise_for(
        [
            f"{name}: leave the parameter out instead of passing {type(value).__name__}"
            for name, value in params.items()
            if type(value).__name__ in ("NotGiven", "Omit")  # what anthropic and openai write
        ]
    )


def raise_for(problems: Sequence[str]) -> None:
    """Raise one `InvalidRequestError` for all problems, if there are any."""
    if problems:
        raise InvalidRequestError(joined(problems))


def refuse_ignored_schema(params: Mapping[str, Any], endpoint: Endpoint) -> None:
    """Refuse a schema that the server is known to ignore: the answer would look as if it held."""
    config: object = params.get("output_config")
    if is_mapping(config) and config.get("format") and "output_config" not in endpoint.strategies:
        raise InvalidRequestError(
            "output_config.format: this server ignores it; use messages.parse(output=...), "
            "or extra_body to send it anyway"
        )


def _cure(name: str, known: frozenset[str], verb: str) -> str:
    if verb.startswith("parse") and (cure := hint("parse", name)):
        return cure
    if name in Options.__annotations__ and not hint("parameter", name):
        return f"set it on the client: client.with_options({name}=...)"
    return right_parameter(name, known)


def _model(body: dict[str, Any], endpoint: Endpoint, problems: list[str]) -> None:
    model = body.setdefault("model", endpoint.default_model)
    if model is None:
        problems.append("model: is required (or set default_model=... on the endpoint)")
    elif not isinstance(model, str) or not model.strip():
        problems.append(f"model: must be a name, not {model!r}")


def _numbers(body: Mapping[str, Any], endpoint: Endpoint, problems: list[str]) -> None:
    unlimited, top = math.inf, endpoint.max_temperature
    least_k = -unlimited if endpoint.min_top_k is None else endpoint.min_top_k
    limits: dict[str, tuple[type, float, float]] = {
        "max_tokens": (int, 1, unlimited),
        "temperature": (float, 0, top),
        "top_p": (float, 0, top),
        "top_k": (int, least_k, unlimited),
    }
    if "max_tokens" not in body:
        problems.append("max_tokens: is required, at least 1")
    for name, (kind, least, most) in limits.items():
        value = body.get(name)
        if value is None:
            continue
        allowed = (int, float) if kind is float else (int,)
        if isinstance(value, bool) or not isinstance(value, allowed) or value != value:
            what = "a number" if kind is float else "a whole number"
            problems.append(f"{name}: must be {what}, not {value!r}")
        elif not least <= value <= most:
            wanted = f"at least {least}" if most == unlimited else f"from {least} to {most}"
            problems.append(f"{name}: must be {wanted}, not {value!r}")


_THINKING = (
    'must be a dict like {"type": "enabled", "budget_tokens": 2048}, '
    '{"type": "adaptive"} or {"type": "disabled"}'
)


def _thinking(value: Any, most: Any, endpoint: Endpoint, problems: list[str]) -> None:
    """Refuse a wrong form, and a budget out of the range that the server has (protocol.md §4)."""
    fields: Mapping[str, Any] = value if is_mapping(value) else {}
    if not isinstance(fields.get("type"), str):
        problems.append(f"thinking: {_THINKING}, not {value!r}")
        return
    budget = fields.get("budget_tokens")
    least = endpoint.min_thinking_budget
    if fields["type"] != "enabled" or (budget is None and least is None):
        return
    if type(budget) is not int:
        problems.append(f"thinking.budget_tokens: must be a whole number, not {budget!r}")
    elif least is None:
        return
    elif budget < least:
        problems.append(f"thinking.budget_tokens: must be at least {least}, not {budget}")
    elif type(most) is int and budget >= most:
        problems.append(
            f"thinking.budget_tokens: must be less than max_tokens, which includes it: "
            f"{budget} of {most}"
        )


def _list(body: dict[str, Any], name: str, problems: list[str]) -> None:
    value = body[name]
    if name == "system" and isinstance(value, str):
        return
    if not is_iterable(value):
        problems.append(f"{name}: must be a list, not {type(value).__name__}")
        return
    body[name] = items = list(value)
    if name == "tools":
        body[name] = _tools(items, problems)
    elif name == "system":
        for i, block in enumerate(items):
            if isinstance(fields_of(block).get("type"), str) and (wrong := wrong_block(block)):
                problems.append(f"system[{i}]{wrong}")


def _tools(items: list[Any], problems: list[str]) -> list[Any]:
    definitions = [tool.to_param() if hasattr(tool, "to_param") else tool for tool in items]
    places: dict[object, int] = {}
    for i, tool in enumerate(definitions):
        fields: Mapping[str, Any] = tool if is_mapping(tool) else {}
        name, schema = fields.get("name"), fields.get("input_schema")
        if wrong := wrong_tool(tool):
            problems.append(f"tools[{i}]: {wrong}")
        elif callable(tool):
            problems.append(f"tools[{i}]: is a plain function, which must be decorated with @tool")
        elif not (name or fields.get("type", "custom") != "custom"):
            problems.append(f"tools[{i}]: must be a dict with a 'name'")
        elif name and places.setdefault(name, i) != i:
            problems.append(
                f"tools[{i}]: the name {name!r} is already used by tools[{places[name]}]"
            )
        if schema is not None and not (
            is_mapping(schema) and schema.get("type", "object") == "object"
        ):
            problems.append(f"tools[{i}].input_schema: must be a JSON schema of type 'object'")
    return definitions


def _messages(value: Any, problems: list[str]) -> list[Any]:
    if not is_iterable(value):
        problems.append('messages: must be a list of turns like {"role": "user", "content": "..."}')
        return []
    return plain_turns(list(value), problems)
