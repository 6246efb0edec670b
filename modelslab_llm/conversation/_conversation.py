"""Keep a conversation that can always be sent: it stays valid after any addition, cut or trimming.

Pure: it sends nothing and knows no endpoint. The turns are a plain list that you can edit; the
rules of a valid history, in `_history`, are applied when it is read.
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
    """The turns of a conversation; iterate over it for the history to send.

    >>> conversation = Conversation()
    >>> conversation.add("How high is the Tamar?")
    >>> conversation.add({"role": "assistant", "content": "214 cm."})
    >>> conversation.add("And the Exe?")
    >>> [turn["role"] for turn in conversation]
    ['user', 'assistant', 'user']

    Pass it as `messages=conversation` to `create`, `stream` and `count_tokens`. `turns` is a plain
    list: trim with `del conversation.turns[:2]`, fork with `Conversation(conversation.turns)`, save
    with `json.dumps(conversation.turns)`, and load with `Conversation(json.loads(text))`.
    """

    def __init__(self, turns: Iterable[MessageParam | Message | LoadedParam] = ()) -> None:
        self.turns: list[MessageParam] = []
        """Every turn as it was added, as plain dicts. Reading the history changes nothing here."""
        for turn in turns:
            self.add(turn)

    def add(
        self,
        turn: str | MessageParam | Message | ContentBlockParam | Iterable[ContentBlockParam],
    ) -> None:
        """Add a turn to the end.

        A reply may be complete, refused, truncated by `max_tokens`, empty, or the `partial_message`
        of a stream that broke off. Calls with incomplete arguments must not be run; they are
        answered here, with an error that shows the model what arrived.

        Args:
            turn: A reply of the model; the user's text, block or blocks; or any turn as a dict.

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

        - It begins with the user, and the roles alternate: adjacent turns of one role are merged.
        - No empty text, no empty turn, and no thinking at the end of a turn, where nothing follows
          from it.
        - Each tool call is answered in the very next turn, results first: with the last result
          added for it there, or with one that says that it was not run.
        - No result without its call, as left behind by trimming; no call without an ID or a name,
          because nobody could answer it.
        """
        history: list[Turn] = []
        asked: list[str] = []  # the calls of the previous turn
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
        """The calls of the last reply that have no result yet."""
        turns = self._sound_turns()
        given = _history.results_in(turns.pop()[1]) if turns and turns[-1][0] == "user" else {}
        calls = [part for part in turns[-1][1] if is_a(part, "tool_use")] if turns else []
        found = [ToolUseBlock.model_validate(call) for call in calls]
        return [use for use in found if use.id not in given]

    def without_thinking(self) -> Conversation:
        """Return a copy without thinking, for another server or model.

        Only the server and model that produced thinking can use it. Keep it otherwise, and do not
        move while a tool call is pending: if a call follows thinking, Anthropic requires both
        (protocol.md §4).

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
