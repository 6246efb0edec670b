"""The rules of a history that every server accepts, turn by turn (protocol.md §3, §4, §10, §13).

Pure functions on blocks as plain dicts. `Conversation` applies them to a whole history, and a
`ToolLoop` to what it adds to one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, Union

from ..tools import tool_result
from ..types._json import is_mapping
from ..types.content import ToolUseBlock
from ..types.message import CUT, own_id
from ..types.requests import MessageParam, ToolResultBlockParam

Part: TypeAlias = Union[str, Mapping[str, Any]]
"""A block; text passed as a plain string stays one if it is the only part."""
Turn: TypeAlias = tuple[str, list[Part]]

THINKING = ("thinking", "redacted_thinking")
SHOWN = 1000  # characters of broken arguments shown to the model


def is_a(part: object, *kinds: str) -> bool:
    """Tell whether a part is a block of one of these kinds."""
    return is_mapping(part) and part.get("type") in kinds


def sound(given: Iterable[MessageParam]) -> list[Turn]:
    """Return the turns that have content, each without the parts that no server accepts."""
    turns: list[Turn] = []
    for turn in _with_own_ids(given):
        append(turns, turn)
    return turns


def _with_own_ids(given: Iterable[MessageParam]) -> Iterator[MessageParam]:
    """Give calls that share an ID in one turn their own IDs, and their results the same.

    Replies get such IDs when they are read; this is for histories saved as dicts. Results are
    matched to calls by their order. A repeated call keeps its ID.
    """
    calls: dict[str, list[Mapping[str, Any]]] = {}  # by the ID that they share
    results: Counter[str] = Counter()
    before = ""
    for turn in given:
        if turn["role"] == "assistant" != before:
            calls, results = {}, Counter()
        before = turn["role"]
        content: Any = turn["content"]
        if not isinstance(content, str):
            content = [_with_own_id(part, calls, results) for part in content]
        yield {"role": turn["role"], "content": content}


def _with_own_id(
    part: Part, calls: dict[str, list[Mapping[str, Any]]], results: Counter[str]
) -> Part:
    if isinstance(part, str):
        return part
    if is_a(part, "tool_result") and (owners := calls.get(part.get("tool_use_id", ""))):
        nth = results[part["tool_use_id"]]
        results[part["tool_use_id"]] += 1
        return {**part, "tool_use_id": _id(owners[min(nth, len(owners) - 1)])}
    if not is_a(part, "tool_use") or _is_empty(part):
        return part
    owners = calls.setdefault(_id(part), [])
    for owner in owners:
        if all(owner.get(name) == part.get(name) for name in ("name", "input")):
            return {**part, "id": _id(owner)}
    taken = {_id(call) for shared in calls.values() for call in shared}
    if _id(part) in taken:
        part = {**part, "id": own_id(_id(part), taken)}
    owners.append(part)
    return part


def append(turns: list[Turn], turn: MessageParam) -> None:
    """Add a turn without parts that no server accepts; merge adjacent turns of one role.

    Empty turns are dropped. So are empty text, calls that cannot be answered (no name, no ID, or
    the ID of another call in that turn), and thinking at the end of a turn, where nothing follows.
    """
    content, role = turn["content"], turn["role"]
    given: Iterable[Any] = [content] if isinstance(content, str) else content
    joins = bool(turns) and turns[-1][0] == role
    parts = turns[-1][1] if joins else []
    for part in given:
        if not (_is_empty(part) or (is_a(part, "tool_use") and _id(part) in call_ids(parts))):
            parts.append(part)
    while role == "assistant" and parts and is_a(parts[-1], *THINKING):
        parts.pop()
    if parts and not joins:
        turns.append((role, parts))


def call_ids(parts: list[Part]) -> list[str]:
    """Return the IDs of the calls in a turn."""
    return [_id(part) for part in parts if is_a(part, "tool_use")]


def results_in(parts: list[Part]) -> dict[str, Part]:
    """Return the results among the parts by the IDs of their calls; of several, the last."""
    results = [part for part in parts if not isinstance(part, str) and is_a(part, "tool_result")]
    return {part.get("tool_use_id", ""): part for part in results}


def answered(parts: list[Part], asked: list[str]) -> list[Part]:
    """Return a user's parts with exactly one result for each call, before everything else."""
    given = results_in(parts)
    others = [part for part in parts if not is_a(part, "tool_result")]
    unanswered = "the call was not run"
    return [
        *(given.get(call) or dict(tool_result(call, unanswered, is_error=True)) for call in asked),
        *others,
    ]


def turn_param(turn: Turn) -> MessageParam:
    """Return a turn in the form of a request."""
    role, parts = turn
    content: Any = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    if len(parts) == 1 and isinstance(parts[0], str):
        content = parts[0]
    return {"role": "user" if role == "user" else "assistant", "content": content}


def not_run(use: ToolUseBlock, stop_reason: str | None) -> ToolResultBlockParam:
    """Return the answer to a call with incomplete arguments, which must not be run."""
    return tool_result(use, why_not_run(use, stop_reason), is_error=True)


def why_not_run(use: ToolUseBlock, stop_reason: str | None) -> str:
    """Tell the model why a call was not run, what arrived of it, and what to do."""
    came = f": {use.raw_input[:SHOWN]}" if use.raw_input else ""
    if stop_reason in CUT:
        return (
            f"not run, because the arguments were truncated ({stop_reason}); "
            f"call it again with shorter ones{came}"
        )
    return f"not run, because the arguments are not a complete JSON object; call it again{came}"


def not_run_after_cut(stop_reason: str | None) -> str:
    """Tell the model why a complete call was not run in a turn that was cut off after it."""
    return (
        f"not run, because the answer was truncated ({stop_reason}) and its other calls may be "
        "missing; call it again in a shorter answer"
    )


def _is_empty(part: Part) -> bool:
    if isinstance(part, str):
        return not part
    if part["type"] == "tool_use":
        return not (part.get("id") and part.get("name"))
    return part["type"] == "text" and not part.get("text")


def _id(part: Part) -> str:
    return "" if isinstance(part, str) else str(part.get("id", ""))
