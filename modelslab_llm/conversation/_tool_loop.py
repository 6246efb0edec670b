"""Decide how a conversation with tools continues: what to send, which calls to run, when to end.

Pure: sends nothing, runs no tool, waits for nothing. The runners in `_runner`, sync and async, pass
in the model's answers and the tools' results, and do the rest.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from .._hints import HintsAtNames
from .._protocol.check import LISTS, MESSAGE, checked
from ..endpoints import Endpoint
from ..errors import InvalidRequestError, ToolError, ToolInputError, TooManyTurnsError
from ..tools import Tool, tool_result
from ..types._json import is_iterable, is_mapping
from ..types.content import ToolUseBlock
from ..types.message import CUT, REFUSED, Message
from ..types.requests import MessageParam, ToolResultBlockParam
from ..types.usage import Usage
from ._history import call_ids, not_run_after_cut, sound, turn_param, why_not_run

log = logging.getLogger("modelslab_llm")

OnError: TypeAlias = Literal["report", "raise"]
OnCut: TypeAlias = Literal["report", "run"]
SAID = 1000  # characters of an exception that the model is shown


class ToolCall(HintsAtNames):
    """A tool call of the model. Inspect it, change its `input`, or answer it yourself.

    If you neither answer nor refuse it, it runs when the runner continues.
    """

    tool_use: ToolUseBlock
    """The call as the model made it."""
    tool: Tool[..., Any] | None
    """The tool that will run; None if the definition has no function."""
    input: dict[str, Any]
    """The arguments for the tool; the conversation keeps the model's arguments."""
    result: ToolResultBlockParam | None
    """The answer, if there is one yet."""
    error: Exception | None
    """Why the call failed, if it did."""

    def __init__(self, tool_use: ToolUseBlock, tool: Tool[..., Any] | None) -> None:
        self.tool_use = tool_use
        self.tool = tool
        self.input = self._given = copy.deepcopy(tool_use.input)
        self.result = None
        self.error = None

    @property
    def name(self) -> str:
        """The tool's name, as the model wrote it."""
        return self.tool_use.name

    @property
    def input_complete(self) -> bool:
        """False if the arguments were truncated or are not JSON, until you set `input`."""
        return self.tool_use.input_complete or self.input_changed

    @property
    def input_changed(self) -> bool:
        """True after you set or changed `input`: the call then runs, even if incomplete."""
        return self.input is not self._given or self.input != self.tool_use.input

    def answer(self, content: object, is_error: bool = False) -> None:
        """Answer the call without running anything.

        Args:
            content: The result, as for `tool_result`.
            is_error: Whether to tell the model that the call failed. Default False.

        Raises:
            TypeError: The content has no JSON form.
        """
        self.result = tool_result(self.tool_use, content, is_error)
        self.error = None

    def refuse(self, reason: str) -> None:
        """Answer the call with an error that tells the model why it was not run.

        Args:
            reason: The reason, for the model.
        """
        self.answer(reason, is_error=True)

    def fail(self, error: Exception) -> None:
        """Answer the call with an exception: its type and message, never the traceback.

        Args:
            error: The exception of the tool.
        """
        log.info("tool %s failed", self.name, exc_info=error)
        said = str(error)[:SAID]
        self.refuse(said if isinstance(error, ToolError) else f"{type(error).__name__}: {said}")
        self.error = error

    def __repr__(self) -> str:
        state = "open" if self.result is None else "failed" if self.error else "answered"
        return f"<ToolCall {self.name}({self.input}) {state}>"


class ToolLoop:
    """One conversation with tools, from the first request to the answer."""

    def __init__(
        self,
        params: Mapping[str, Any],
        endpoint: Endpoint,
        max_turns: int,
        on_error: OnError,
        on_cut: OnCut = "report",
    ) -> None:
        """Raise `InvalidRequestError` for what is not allowed, before anything is sent."""
        if type(max_turns) is not int or max_turns < 1:
            raise InvalidRequestError(f"max_turns: must be at least 1, not {max_turns!r}")
        if on_error not in ("report", "raise"):
            raise InvalidRequestError(f"on_error: must be 'report' or 'raise', not {on_error!r}")
        if on_cut not in ("report", "run"):
            raise InvalidRequestError(f"on_cut: must be 'report' or 'run', not {on_cut!r}")
        given = params.get("tools")
        if is_iterable(given):  # also if it is an iterator, because it is read twice
            params = {**params, "tools": list(given)}
        body = checked(params, MESSAGE, endpoint, "run_tools")
        tools: list[Any] = list(params.get("tools") or ())
        self.tools: dict[str, Tool[..., Any]] = {t.name: t for t in tools if isinstance(t, Tool)}
        self._names = [str(definition.get("name")) for definition in body.get("tools", ())]
        self._params = {**params, **{name: body[name] for name in LISTS if params.get(name)}}
        self._max_turns = max_turns
        self._on_error = on_error
        self._on_cut = on_cut
        self._turns = 0
        self._unanswered = False
        self._reply: list[MessageParam] = []
        self.messages: list[MessageParam] = body["messages"]
        """The conversation with all its calls answered, so that a request can continue it."""
        self.message: Message | None = None
        """The last answer of the model."""
        self.usages: list[Usage] = []
        """The usage of each answer, including those that broke off."""
        self.calls: list[ToolCall] = []
        """The calls in it that can be answered: each has a name and its own ID."""

    def add_reply(self, message: Message) -> None:
        """Take the model's answer to the last request."""
        self.usages.append(message.total_usage)
        self._turns += 1
        self.message = message
        turns = sound([message.to_param()])  # one or none
        self._reply = [turn_param(turn) for turn in turns]
        asked = [id for _, parts in turns for id in call_ids(parts)]
        uses = {use.id: use for use in reversed(message.tool_uses) if use.name}  # the first counts
        self.calls = [ToolCall(uses[id], self.tools.get(uses[id].name)) for id in asked]
        lost = sum(not (use.id and use.name) for use in message.tool_uses)
        if lost and self.calls:
            log.warning("%d tool calls without a name or an id left out", lost)
        for call in self.calls:
            if call.name not in self._names:
                names = ", ".join(self._names)
                call.fail(ToolError(f"there is no tool {call.name!r}; the tools are: {names}"))
        if self._refused() and self.calls:
            log.warning("the model refused to answer: %d tool calls not run", len(self.calls))
            for call in self.calls:
                call.fail(ToolError("not run, because the model refused to answer"))
        self._unanswered = bool(message.tool_uses)
        if not self._unanswered:
            self.messages += self._reply

    def calls_to_run(self) -> list[ToolCall]:
        """Return the calls that must be run before the next request; answer those that must not.

        None is run while another one, without a function, waits for the caller.
        """
        stopped = self.message.stop_reason if self.message else None
        if stopped in CUT and self._on_cut == "report":
            for call in self._waiting():
                if not call.input_complete:
                    call.fail(ToolInputError(why_not_run(call.tool_use, stopped)))
                elif not call.input_changed:
                    call.fail(ToolError(not_run_after_cut(stopped)))
        if any(call.tool is None for call in self._waiting()):
            return []
        for call in self._waiting():
            if self._turns >= self._max_turns:
                call.refuse(f"not run, because the limit of {self._turns} turns is reached")
            elif not call.input_complete:
                call.fail(ToolInputError(why_not_run(call.tool_use, stopped)))
        return self._waiting()

    def _waiting(self) -> list[ToolCall]:
        return [call for call in self.calls if call.result is None]

    def next_request(self) -> dict[str, Any] | None:
        """Return the parameters of the next request, or None if there is none to make.

        There is none after an answer without calls, after one that the model refused to continue,
        and while a call waits for the caller. Raises `TooManyTurnsError`, and `ToolError` for a
        failed call if errors are to be raised; the conversation is valid then, and can continue.
        """
        if self._unanswered and not self._answered():
            return None
        if self._turns and (self._refused() or not (self.calls or self._paused())):
            return None
        if self._turns >= self._max_turns:
            raise TooManyTurnsError(
                f"there is no final answer after {self._turns} turns: raise max_turns",
                tool_use=self.calls[0].tool_use if self.calls else None,
                messages=self.messages,
            )
        return {**self._params, "messages": list(self.messages), "tool_choice": self._choice()}

    def _answered(self) -> bool:
        """Close the turn if all its calls have answers, which go first, in order, in one turn."""
        results = [call.result for call in self.calls if call.result is not None]
        if len(results) < len(self.calls):
            return False
        self._unanswered = False
        if not self.calls:
            assert self.message is not None
            raise ToolError(
                "the model made a call without a name or an id, which can be neither run nor "
                "answered: send the request again",
                tool_use=self.message.tool_uses[0],
                messages=self.messages,
            )
        answers: MessageParam = {"role": "user", "content": results}
        self.messages += [*self._reply, answers]
        failed = next((call for call in self.calls if call.error), None)
        if failed and self._on_error == "raise":
            raise ToolError(
                f"tool {failed.name} failed: {type(failed.error).__name__}: {failed.error}",
                tool_use=failed.tool_use,
                messages=self.messages,
            ) from failed.error
        return True

    def _paused(self) -> bool:
        """Tell whether the server expects its turn back to continue it (protocol.md §5)."""
        return self.message is not None and self.message.stop_reason == "pause_turn"

    def _refused(self) -> bool:
        return self.message is not None and self.message.stop_reason in REFUSED

    def _choice(self) -> Any:
        """Return the choice of tools: if it stayed forced, the model could never give an answer."""
        choice = self._params.get("tool_choice")
        if not self._turns or not is_mapping(choice) or choice.get("type") not in ("any", "tool"):
            return choice
        return {k: v for k, v in choice.items() if k != "name"} | {"type": "auto"}
