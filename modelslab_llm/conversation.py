"""Keep a conversation that can always be sent: whatever was added, cut off or trimmed, it is valid.

Pure: it sends nothing and knows no endpoint. What was said stands in a plain list, to be changed
by list operations; the rules of a valid history are applied when it is read, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, Union, cast

from ._check import plain_turn, raise_for
from .tools import tool_result
from .types.content import ToolUseBlock
from .types.message import Message
from .types.requests import ContentBlockParam, MessageParam

__all__ = ["Conversation"]

_Part: TypeAlias = Union[str, Mapping[str, Any]]
"""A block; text that was given as a plain string stays one where it is all there is."""
_Turn: TypeAlias = tuple[str, list[_Part]]

THINKING = {"thinking", "redacted_thinking"}


class Conversation:
    """What was said so far, turn by turn; iterate over it for the history to send.

    >>> conversation = Conversation()
    >>> conversation.add("How high is the Tamar?")
    >>> conversation.add({"role": "assistant", "content": "214 cm."})
    >>> conversation.add("And the Exe?")
    >>> [turn["role"] for turn in conversation]
    ['user', 'assistant', 'user']

    It is sent as `messages=conversation`, by `create`, `stream` and `count_tokens` alike. `turns`
    is a plain list: trim with `del conversation.turns[:2]`, fork with
    `Conversation(conversation.turns)`, save with `json.dumps(conversation.turns)`, and load with
    `Conversation(json.loads(text))`.
    """

    def __init__(self, turns: Iterable[MessageParam | Message] = ()) -> None:
        self.turns: list[MessageParam] = []
        """Every turn as it was added, in plain dicts. Reading the history changes nothing here."""
        for turn in turns:
            self.add(turn)

    def add(
        self,
        turn: str | MessageParam | Message | ContentBlockParam | Iterable[ContentBlockParam],
    ) -> None:
        """Add a turn: a reply; text, a block or blocks of the user's; or any turn as a dict.

        A reply may be whole, refused, cut by `max_tokens`, empty, or the `partial_message` of a
        stream that broke off. Calls whose arguments did not arrive whole must not be run; they are
        answered here, with an error that shows the model what did arrive. Raises
        `InvalidRequestError` for what is no turn.
        """
        given: Any = turn
        if isinstance(turn, Mapping) and "type" in turn and "role" not in turn:
            given = {"role": "user", "content": [cast("Any", turn)]}
        elif not isinstance(turn, (Message, Mapping)):
            given = {"role": "user", "content": turn}
        self.turns.append(_checked(given, "turn"))
        content: object = turn.tool_uses if isinstance(turn, Message) else given.get("content")
        if isinstance(content, list):
            blocks = cast("list[object]", content)
            uses = [block for block in blocks if isinstance(block, ToolUseBlock)]
            if cut := [_not_run(use.id, use.raw_input) for use in uses if not use.input_complete]:
                self.turns.append({"role": "user", "content": cast("Any", cut)})

    @property
    def messages(self) -> list[MessageParam]:
        """The history to send, by these rules (protocol.md §3, §4, §10, §13); `[]` if none is left.

        - It begins with the user, and the roles alternate: neighbours of one role become one turn.
        - No empty text, no empty turn, and no thinking at the end of a turn, where it led to
          nothing.
        - Each tool call is answered in the very next turn, results first: by the last result added
          for it there, or else by one that says that it was not run.
        - No result without its call, as trimming leaves behind; no call without an id or a name,
          which nobody could answer.
        """
        history: list[_Turn] = []
        asked: list[str] = []  # the calls of the turn before
        for role, parts in self._sound_turns():
            if role == "user":
                parts = _answered(parts, asked)
            elif not history:
                continue
            if parts:
                _append(history, role, parts)
            asked = _ids(history[-1][1]) if role == "assistant" else []
        if asked:
            history.append(("user", _answered([], asked)))
        return [_as_param(role, parts) for role, parts in history]

    @property
    def pending(self) -> list[ToolUseBlock]:
        """The calls of the last reply for which no result was added yet."""
        turns = self._sound_turns()
        given = _results(turns.pop()[1]) if turns and turns[-1][0] == "user" else {}
        calls = [part for part in turns[-1][1] if _is(part, "tool_use")] if turns else []
        found = [ToolUseBlock.model_validate(call) for call in calls]
        return [use for use in found if use.id not in given]

    def without_thinking(self) -> Conversation:
        """Return a copy for another server or model: thinking is only for where it came from.

        Leave it in otherwise, and move while no tool call is pending: where a call follows from
        thinking, Anthropic wants both (protocol.md §4).
        """
        copy = Conversation(self.turns)
        for turn in copy.turns:
            if not isinstance(turn["content"], str):
                kept = [part for part in turn["content"] if not _is(part, *THINKING)]
                turn["content"] = kept
        return copy

    def _sound_turns(self) -> list[_Turn]:
        """Return the turns that say something, neighbours of one role as one."""
        sound: list[_Turn] = []
        for number, turn in enumerate(self.turns):
            plain = _checked(turn, f"turns[{number}]")
            if parts := _sound(plain):
                _append(sound, plain["role"], parts)
        return sound

    def __iter__(self) -> Iterator[MessageParam]:
        return iter(self.messages)

    def __eq__(self, other: object) -> bool:
        return self.turns == other.turns if isinstance(other, Conversation) else NotImplemented

    def __repr__(self) -> str:
        return f"Conversation({self.turns!r})"


def _checked(turn: Any, path: str) -> MessageParam:
    faults: list[str] = []
    plain = plain_turn(turn, path, faults)
    raise_for(faults)
    return cast("MessageParam", {"role": plain["role"], "content": plain["content"]})


def _sound(turn: MessageParam) -> list[_Part]:
    """Return the parts of a turn that can be sent, whatever stands before and after it."""
    content = turn["content"]
    given = [content] if isinstance(content, str) else cast("list[_Part]", content)
    parts = [part for part in given if not _is_empty(part)]
    if turn["role"] == "assistant":
        _drop_last_thinking(parts)
    return parts


def _drop_last_thinking(parts: list[_Part]) -> None:
    while parts and _is(parts[-1], *THINKING):
        parts.pop()


def _is_empty(part: _Part) -> bool:
    if isinstance(part, str):
        return not part
    if part["type"] == "tool_use":
        return not (part.get("id") and part.get("name"))
    return part["type"] == "text" and not part.get("text")


def _is(part: object, *kinds: str) -> bool:
    return isinstance(part, Mapping) and cast("Mapping[str, Any]", part).get("type") in kinds


def _ids(parts: list[_Part]) -> list[str]:
    return [
        part["id"] for part in parts if not isinstance(part, str) and part["type"] == "tool_use"
    ]


def _results(parts: list[_Part]) -> dict[str, _Part]:
    """Return the results among the parts by the ids of their calls; of several, the last."""
    return {
        part.get("tool_use_id", ""): part
        for part in parts
        if not isinstance(part, str) and part["type"] == "tool_result"
    }


def _answered(parts: list[_Part], asked: list[str]) -> list[_Part]:
    """Return a user's parts with exactly one result for each call asked, before all else."""
    given = _results(parts)
    others = [part for part in parts if not _is(part, "tool_result")]
    return [*(given.get(call) or _not_run(call) for call in asked), *others]


def _not_run(call: str, arrived: str | None = None) -> dict[str, Any]:
    why = "" if arrived is None else f": its arguments did not arrive as whole JSON: {arrived}"
    return dict(tool_result(call, f"the call was not run{why}", is_error=True))


def _append(turns: list[_Turn], role: str, parts: list[_Part]) -> None:
    """Append a turn, or lengthen the last one if it is of the same role."""
    if not (turns and turns[-1][0] == role):
        turns.append((role, []))
    last = turns[-1][1]
    for part in parts:
        if not (_is(part, "tool_use") and _ids([part])[0] in _ids(last)):  # once is enough
            last.append(part)
    if role == "assistant":
        _drop_last_thinking(last)  # a call left out may have stood behind it


def _as_param(role: str, parts: list[_Part]) -> MessageParam:
    content: Any = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    if len(parts) == 1 and isinstance(parts[0], str):
        content = parts[0]
    return cast("MessageParam", {"role": role, "content": content})
