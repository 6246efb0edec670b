"""Define a message together with its parsed output. Holds both; parses and validates nothing."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

from pydantic import PrivateAttr
from typing_extensions import Self

from .content import ContentBlock, TextBlock, ToolUseBlock
from .message import Message, made
from .turns import MessageParam
from .usage import Usage, sum_usage

__all__ = ["ParsedMessage"]

T = TypeVar("T")


class ParsedMessage(Message, Generic[T]):
    """A message with its structured output in `parsed`."""

    _parsed: Any = PrivateAttr(default=None)
    _tool: str | None = PrivateAttr(default=None)
    _previous_attempts: tuple[Message, ...] = PrivateAttr(default=())

    @property
    def parsed(self) -> T:
        """The validated output: an instance of the requested type."""
        found: T = self._parsed
        return found

    @property
    def previous_attempts(self) -> tuple[Message, ...]:
        """The earlier invalid answers, which used tokens too.

        Empty unless `validation_retries` was set.
        """
        return self._previous_attempts

    @property
    def total_usage(self) -> Usage:
        """The usage of all answers: the invalid ones and this one."""
        paid = [message.total_usage for message in self.previous_attempts]
        return sum_usage([*paid, super().total_usage])

    @property
    def tool_uses(self) -> list[ToolUseBlock]:
        """The calls of your tools, without the call that contains the output."""
        return [use for use in super().tool_uses if use.name != self._tool]

    def to_param(self) -> MessageParam:
        """Return the message as a turn of the next request, with its output as text."""
        return self.in_text().to_param()

    def in_text(self) -> Message:
        """Return the message with its output as JSON text instead of a call.

        This is the form for a history: a call would need a result in the next turn, and its tool in
        the request (protocol.md §10).
        """
        blocks: list[ContentBlock] = [
            TextBlock(text=json.dumps(block.input, ensure_ascii=False))
            if isinstance(block, ToolUseBlock) and block.name == self._tool
            else block
            for block in self.content
        ]
        return made(Message, self, self.request_id, {"content": blocks}, self.call_info)

    def _saved(self) -> Self:
        return made(type(self), self, self.request_id, {"content": self.in_text().content})

    @classmethod
    def of(
        cls, message: Message, parsed: T, tool: str | None, previous_attempts: tuple[Message, ...]
    ) -> ParsedMessage[T]:
        """Return a message with the output read from it; `tool` is what was called to bring it."""
        found = made(cls, message, message.request_id, info=message.call_info)
        found._parsed, found._tool = parsed, tool
        found._previous_attempts = previous_attempts
        return found
