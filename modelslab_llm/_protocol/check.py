"""Refuse, before anything is sent, what the documentation rules out (protocol.md §3).

Every bad place is named at once, as a path such as `messages[1].role`. Pure, and light: a history
of megabytes is walked, never copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from .._hints import did_you_mean, hint
from ..endpoints import Endpoint
from ..errors import InvalidRequestError
from ..types._json import is_iterable, is_mapping
from ..types.message import Message, is_empty_text
from ..types.requests import CountTokensParams, MessageCreateParams
from .config import Options
from .faults import joined
from .json import as_param

LISTS = ("tools", "system", "stop_sequences", "betas", "mcp_servers")
OPTIONS = frozenset({"extra_headers", "extra_body", "timeout"})
MESSAGE = frozenset(MessageCreateParams.__annotations__)
COUNT = frozenset(CountTokensParams.__annotations__)


def checked(
    params: Mapping[str, Any], known: frozenset[str], endpoint: Endpoint, verb: str
) -> dict[str, Any]:
    """Return the body to send, or raise `InvalidRequestError` with every fault found."""
    refuse_unknown(params, known, verb)
    body = {k: v for k, v in params.items() if v is not None and k in known - OPTIONS}
    faults: list[str] = []
    body["messages"] = _messages(params.get("messages"), faults)
    if known is MESSAGE:
        _numbers(body, endpoint, faults)
    _thinking(body, endpoint, faults)
    for name in LISTS:
        _list(body, name, faults)
    extra: object = params.get("extra_body") or {}
    if not is_mapping(extra):
        faults.append(f"extra_body: must be a dict, not {type(extra).__name__}")
    elif "stream" in extra or "messages" in extra:
        faults.append("extra_body: 'stream' and 'messages' are set by the call itself")
    else:
        body.update(extra)
    _model(body, endpoint, faults)
    raise_for(faults)
    return body


def refuse_unknown(params: Mapping[str, Any], known: frozenset[str], verb: str) -> None:
    """Raise a `TypeError` for a name that is no parameter, as any Python call does.

    A parameter that another client's mark stands for is refused as `InvalidRequestError`.
    """
    for name in params.keys() - known:
        if name != "stream" or params[name]:
            raise TypeError(
                f"messages.{verb}() has no parameter {name!r}: {_cure(name, known, verb)}"
            )
    raise_for(
        [
            f"{name}: leave it out, instead of {type(value).__name__}"
            for name, value in params.items()
            if type(value).__name__ in ("NotGiven", "Omit")  # what anthropic and openai write
        ]
    )


def raise_for(faults: Sequence[str]) -> None:
    """Raise one `InvalidRequestError` for all faults, if there are any."""
    if faults:
        raise InvalidRequestError(joined(faults))


def _cure(name: str, known: frozenset[str], verb: str) -> str:
    if verb.startswith("parse") and (cure := hint("parse", name)):
        return cure
    if cure := hint("parameter", name):
        return cure
    if name in Options.__annotations__:
        return f"it is an option of the client, client.with_options({name}=…)"
    return (
        f"{did_you_mean(name, known)}what only your server knows goes in extra_body={{{name!r}: …}}"
    )


def _model(body: dict[str, Any], endpoint: Endpoint, faults: list[str]) -> None:
    model = body.setdefault("model", endpoint.default_model)
    if model is None:
        faults.append("model: name one, or give the endpoint a default_model=…")
    elif not isinstance(model, str) or not model.strip():
        faults.append(f"model: must be a name, not {model!r}")


def _numbers(body: Mapping[str, Any], endpoint: Endpoint, faults: list[str]) -> None:
    unlimited, top = math.inf, endpoint.max_temperature
    least_k = -unlimited if endpoint.min_top_k is None else endpoint.min_top_k
    limits: dict[str, tuple[type, float, float]] = {
        "max_tokens": (int, 1, unlimited),
        "temperature": (float, 0, top),
        "top_p": (float, 0, top),
        "top_k": (int, least_k, unlimited),
    }
    if "max_tokens" not in body:
        faults.append("max_tokens: is required, at least 1")
    for name, (kind, least, most) in limits.items():
        value = body.get(name)
        if value is None:
            continue
        allowed = (int, float) if kind is float else (int,)
        if isinstance(value, bool) or not isinstance(value, allowed) or value != value:
            what = "a number" if kind is float else "a whole number"
            faults.append(f"{name}: must be {what}, not {value!r}")
        elif not least <= value <= most:
            wanted = f"at least {least}" if most == unlimited else f"from {least} to {most}"
            faults.append(f"{name}: must be {wanted}, not {value!r}")


_THINKING = (
    'must be a dict like {"type": "enabled", "budget_tokens": 2048}, '
    '{"type": "adaptive"} or {"type": "disabled"}'
)


def _thinking(body: Mapping[str, Any], endpoint: Endpoint, faults: list[str]) -> None:
    """Refuse a wrong form, and a budget out of the range that the server has (protocol.md §4)."""
    value = body.get("thinking")
    if value is None:
        return
    fields: Mapping[str, Any] = value if is_mapping(value) else {}
    if not isinstance(fields.get("type"), str):
        faults.append(f"thinking: {_THINKING}, not {value!r}")
        return
    budget, most = fields.get("budget_tokens"), body.get("max_tokens")
    least = endpoint.min_thinking_budget
    if fields["type"] != "enabled" or (budget is None and least is None):
        return
    if type(budget) is not int:
        faults.append(f"thinking.budget_tokens: must be a whole number, not {budget!r}")
    elif least is None:
        return
    elif budget < least:
        faults.append(f"thinking.budget_tokens: must be at least {least}, not {budget}")
    elif type(most) is int and budget >= most:
        faults.append(
            f"thinking.budget_tokens: must be less than max_tokens, of which it is a part: "
            f"{budget} of {most}"
        )


def _list(body: dict[str, Any], name: str, faults: list[str]) -> None:
    value = body.get(name)
    if value is None or (name == "system" and isinstance(value, str)):
        return
    if not is_iterable(value):
        faults.append(f"{name}: must be a list, not {type(value).__name__}")
        return
    body[name] = items = list(value)
    if name == "tools":
        body[name] = _tools(items, faults)


def _tools(items: list[Any], faults: list[str]) -> list[Any]:
    definitions = [tool.to_param() if hasattr(tool, "to_param") else tool for tool in items]
    places: dict[object, int] = {}
    for i, tool in enumerate(definitions):
        fields: Mapping[str, Any] = tool if is_mapping(tool) else {}
        name, schema = fields.get("name"), fields.get("input_schema")
        if callable(tool):
            faults.append(f"tools[{i}]: is a plain function, decorate it with @tool")
        elif not (name or fields.get("type", "custom") != "custom"):
            faults.append(f"tools[{i}]: must be a dict with a 'name'")
        elif name and places.setdefault(name, i) != i:
            faults.append(f"tools[{i}]: the name {name!r} is taken by tools[{places[name]}]")
        if schema is not None and not (
            is_mapping(schema) and schema.get("type", "object") == "object"
        ):
            faults.append(f"tools[{i}].input_schema: must be a JSON schema of type 'object'")
    return definitions


def _messages(value: Any, faults: list[str]) -> list[Any]:
    if not is_iterable(value):
        faults.append('messages: must be a list of turns like {"role": "user", "content": "…"}')
        return []
    turns = list(value)
    if not turns:
        faults.append("messages: is empty, the first turn is the user's")
    return [plain_turn(turn, f"messages[{i}]", faults) for i, turn in enumerate(turns)]


def _kind_of(content: object) -> str:
    if isinstance(content, Message):
        return "a Message: pass it by itself as the turn"
    if isinstance(content, BaseModel) or (is_mapping(content) and "type" in content):
        return "one block: put it into a list, [block]"
    return type(content).__name__


def plain_turn(turn: Any, path: str, faults: list[str]) -> Any:
    """Return a turn without models in it, as a request takes it, and note what is wrong with it."""
    if isinstance(turn, Message):
        return turn.to_param()
    if not is_mapping(turn):
        faults.append(f"{path}: must be a dict with 'role' and 'content'")
        return None
    role, content = turn.get("role"), turn.get("content")
    if role == "system":
        faults.append(f"{path}.role: 'system' is no role here, use the parameter system=…")
    elif role not in ("user", "assistant"):
        faults.append(f"{path}.role: must be 'user' or 'assistant', not {role!r}")
    if isinstance(content, str):
        return turn
    if isinstance(content, BaseModel) or not is_iterable(content):
        kind = _kind_of(content) if "content" in turn else "missing"
        faults.append(f"{path}.content: must be text or a list of blocks, not {kind}")
        return None
    blocks: list[Any] = []
    for i, block in enumerate(content):
        if is_empty_text(block):
            continue
        plain = as_param(block) if isinstance(block, BaseModel) else block
        if is_mapping(plain) and isinstance(plain.get("type"), str):
            blocks.append(plain)
        else:
            message = isinstance(content, Message) or isinstance(block, Message)
            faults.append(
                f"{path}.content[{i}]: must be a block, a dict with a 'type'"
                + ("; pass the message itself as the turn" if message else "")
            )
    return {**turn, "content": blocks}
