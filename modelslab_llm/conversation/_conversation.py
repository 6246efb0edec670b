"""Keep a conversation that can always be sent: whatever was added, cut off or trimmed, it is valid.

Pure: it sends nothing and knows no endpoint. What was said stands in a plain list, to be changed
by list operations; the rules of a valid history, in `_history`, are applied when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._protocol.check import raise_for
from .._protocol.turns import plain_turn
from ..types._json import is_list, is_mapping
from ..types.content import ToolUseBlock
from ..types.message import Message
from ..types.requests import ContentBlockParam, LoadedParam, MessageParam
from . import _history
from ._history import THINKING, Turn, is_a

__all__ = ["Conversation"]


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

    def __init__(self, turns: Iterable[MessageParam | Message | LoadedParam] = ()) -> None:
        self.turns: list[MessageParam] = []
        """Every turn as it was added, in plain dicts. Reading the history changes nothing here."""
        for turn in turns:
            self.add(turn)

    def add(
        self,
        turn: str | MessageParam | Message | ContentBlockParam | Iterable[ContentBlockParam],
    ) -> None:
        """Add a turn to the end.

        A reply may be whole, refused, cut by `max_tokens`, empty, or the `partial_message` of a
        stream that broke off. Calls whose arguments did not arrive whole must not be run; they are
        answered here, with an error that shows the model what did arrive.

        Args:
            turn: A reply of the model; text, a block or blocks of the user's; or any turn as a
                dict.

        Raises:
            InvalidRequestError: It is not a turn.
        """
        given: Any = turn
        if is_mapping(turn) and "type" in turn and "role" not in turn:
            given = {"role": "user", "content": [turn]}
        elif not isinstance(turn, (Message, Mapping)):
            given = {"role": "user", "content": turn}
        self.turns.append(_checked(given, "turn"))
        content: object = turn.tool_uses if isinstance(turn, Message) else given.get("content")
        if is_list(content):
            reason = turn.stop_reason if isinstance(turn, Message) else None
            uses = [block for block in content if isinstance(block, ToolUseBlock)]
            cut = [_history.not_run(use, reason) for use in uses if not use.input_complete]
            if cut:
                self.turns.append({"role": "user", "content": cut})

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
        history: list[Turn] = []
        asked: list[str] = []  # the calls of the turn before
        for role, parts in self._sound_turns():
            if role == "user":
                parts = _history.answered(parts, asked)
            elif not history:
                continue
            _history.append(history, _history.turn_param((role, parts)))
            asked = _history.call_ids(history[-1][1]) if role == "assistant" else []
        if asked:
            history.append(("user", _history.answered([], asked)))
        return [_history.turn_param(turn) for turn in history]

    @property
    def pending(self) -> list[ToolUseBlock]:
        """The calls of the last reply for which no result was added yet."""
        turns = self._sound_turns()
        given = _history.results_in(turns.pop()[1]) if turns and turns[-1][0] == "user" else {}
        calls = [part for part in turns[-1][1] if is_a(part, "tool_use")] if turns else []
        found = [ToolUseBlock.model_validate(call) for call in calls]
        return [use for use in found if use.id not in given]

    def without_thinking(self) -> Conversation:
        """Return a copy without thinking, for another server or model.

        Thinking is only for where it came from. Keep it otherwise, and move while no tool call is
        pending: where a call follows from thinking, Anthropic wants both (protocol.md §4).

        Returns:
            The copy.
        """
        copy = Conversation(self.turns)
        for turn in copy.turns:
            if not isinstance(turn["content"], str):
                kept = [part for part in turn["content"] if not is_a(part, *THINKING)]
                turn["content"] = kept
        return copy

    def _sound_turns(self) -> list[Turn]:
        return _history.sound(_checked(turn, f"turns[{i}]") for i, turn in enumerate(self.turns))

    def __iter__(self) -> Iterator[MessageParam]:
        return iter(self.messages)

    def __eq__(self, other: object) -> bool:
        return self.turns == other.turns if isinstance(other, Conversation) else NotImplemented

    def __repr__(self) -> str:
        return f"Conversation({self.turns!r})"


def _checked(turn: Any, path: str) -> MessageParam:
    problems: list[str] = []
    plain = plain_turn(turn, path, problems)
    raise_for(problems)
    return {"role": plain["role"], "content": plain["content"]}
