"""Read the output of an answer, or raise the error that says why there is none. Pure.

An `OutputRequest` is the request, and also creates the next one. Nothing is sent here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from .._protocol.problems import problems_in
from .._protocol.schema import WRAPPED
from ..errors import (
    OutputError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
)
from ..tools import tool_result
from ..types._reading import STRICT_JSON, whole
from ..types.content import ToolUseBlock
from ..types.message import CUT, REFUSED, Message
from ..types.parsed import ParsedMessage
from ..types.requests import MessageParam

T = TypeVar("T")


class _Misfit(Exception):
    """An answer is not the output; the text says why, to the caller and to the model."""


@dataclass(frozen=True)
class OutputRequest(Generic[T]):
    """A request for an output, with everything needed to read the answer."""

    params: Mapping[str, Any]
    """The parameters of `messages.create`."""
    adapter: TypeAdapter[T]
    wrapped: bool
    """Whether the output is wrapped as the only property of an object."""
    tool: str | None
    """The tool that the model must call, if the output comes as a call."""
    by_chat: bool
    """Whether the request uses the server's chat route."""
    previous_attempts: tuple[Message, ...] = ()

    def read(self, message: Message) -> ParsedMessage[T]:
        """Return the message with its output, or raise the matching `OutputError`.

        A complete output is accepted, even if the answer was truncated after it.
        """
        if message.stop_reason in REFUSED:
            details = message.stop_details
            why = (details.explanation or details.category) if details else None
            reason = f"the model refused to answer{f': {why}' if why else ''}"
            raise self._failed(OutputRefusedError(reason), message)
        try:
            value = self._value(message)
        except _Misfit as misfit:
            if message.stop_reason in CUT:
                reason = (
                    f"the answer was truncated ({message.stop_reason}) after "
                    f"{message.usage.output_tokens} tokens, before the output was complete: "
                    f"{self._cure_of_cut(message)}"
                )
                raise self._failed(OutputTruncatedError(reason), message) from None
            error = OutputInvalidError(str(misfit))
            raise self._failed(error, message) from misfit.__cause__
        kind: type[ParsedMessage[T]] = ParsedMessage  # ParsedMessage[T] would be made at run time
        return kind.of(message, value, self.tool, self.previous_attempts)

    def _cure_of_cut(self, message: Message) -> str:
        """Say what to do about a truncated answer: one of two limits was hit.

        llama-server gives the same reason for both (protocol.md §5), but different token counts.
        """
        most, spent = self.params.get("max_tokens"), message.usage.output_tokens
        if message.stop_reason == "model_context_window_exceeded" or 0 < spent < (most or 0):
            return "the context is full: shorten the messages, or enlarge the server's context"
        return (
            f"raise max_tokens (it was {most}); if the model never stops, "
            "limit the lengths of strings and lists in the type"
        )

    def again(self, error: OutputError) -> OutputRequest[T]:
        """Return the next request, which includes the invalid answers."""
        params = {**self.params, "messages": error.messages}
        return replace(
            self, params=params, previous_attempts=(*self.previous_attempts, error.message)
        )

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
        """Return the answer with its error, every call answered (protocol.md §10).

        An empty answer cannot be sent back; then the same request is repeated.
        """
        turn = message.to_param()
        if not turn["content"]:
            return []
        how = f"Call {self.tool} again" if self.tool else "Give the whole JSON object again"
        results = [tool_result(use, f"{reason}.", is_error=True) for use in message.tool_uses]
        content = results or f"Error: {reason}. {how}, and fix this."
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
        """Return the output. Without a call, the text may contain it: Ollama ignores tool_choice
        (protocol.md §11).
        """
        if (call := self._call(message)) is not None:
            if not call.input_complete:
                raise _Misfit("the arguments are not one complete JSON object")
            return self._validated(call.input)
        if self.tool and message.tool_uses:
            raise _Misfit(f"{message.tool_uses[0].name} was called instead of {self.tool}")
        return self._out_of(message.text)

    def _out_of(self, text: str) -> T:
        """Return the output in a text, if exactly one object in it is valid."""
        candidates = json_objects(text)
        if not candidates:
            what = (
                "there is neither a tool call nor a JSON object"
                if self.tool
                else "there is no JSON object"
            )
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
            raise _Misfit(
                f"{len(fitting)} different JSON objects in the answer match: return only one"
            )
        return fitting[0][1]

    def _validated(self, given: Mapping[str, Any]) -> T:
        if self.wrapped and list(given) != [WRAPPED]:
            raise _Misfit(f"the object must contain only {WRAPPED!r}")
        found = given[WRAPPED] if self.wrapped else given
        try:  # as JSON: there a date is a string even if the type is strict
            return self.adapter.validate_json(json.dumps(found))
        except ValidationError as error:
            raise _Misfit(problems_in(error, WRAPPED if self.wrapped else "")) from error


def json_objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text, fenced or not; none if one of them is broken.

    Part of a broken object is never mistaken for a whole one.

    >>> json_objects('Here it is: ```json\\n{"a": {"b": 1}}\\n``` Use {braces} well.')
    [{'a': {'b': 1}}]
    >>> json_objects('{"a": {"b": 1}, "c": ')
    []
    """
    found: list[dict[str, Any]] = []
    end = 0
    while begin := re.compile(_OBJECT).search(text, end):
        try:
            value, end = STRICT_JSON.raw_decode(text, begin.start())
        except (ValueError, RecursionError):
            return []
        found.append(whole(value))
    return found


_OBJECT = r'\{\s*["}]'  # a brace followed by anything else is prose
