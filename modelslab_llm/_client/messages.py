"""`client.messages`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from typing_extensions import TypeForm, Unpack

import modelslab_llm  # loads late what few programs use, and then `get_type_hints` finds it here

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._protocol import calls as _calls
from .._protocol.stream import AsyncMessageStream, MessageStream
from ..types.message import Message, TokenCount
from ..types.requests import CountTokensParams, MessageCreateParams

if TYPE_CHECKING:  # what few programs use is loaded by the methods that need it
    from ..structured._asked import Asked

from .session import AsyncSession, Session

T = TypeVar("T")


class Messages(HintsAtNames):
    """The Messages operations of a `ModelsLab`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, **params: Unpack[MessageCreateParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return self._session.run(_calls.create_message(self._session.config, params))

    def stream(self, **params: Unpack[MessageCreateParams]) -> MessageStream:
        """Ask for an answer and return it as it comes; the request is sent by the `with` block.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        call = _calls.stream_message(self._session.config, params)
        return MessageStream(lambda: self._session.open(call))

    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.ToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        Nothing is sent before the runner is asked: iterate it, or take `get_final_message()`. At
        most `max_turns` messages are asked for. What goes wrong with a call is told to the model,
        or raised as `ToolError` with `on_error="raise"`. A forced `tool_choice` holds for the first
        request alone. Raises `InvalidRequestError` here.
        """
        from ..conversation._runner import ToolRunner
        from ..conversation._tool_loop import ToolLoop

        loop = ToolLoop(params, self._session.config.endpoint, max_turns, on_error)
        return ToolRunner(
            loop,
            lambda params: self.create(**cast("MessageCreateParams", params)),
            lambda params: self.stream(**cast("MessageCreateParams", params)),
        )

    def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        validation_retries: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        `output` is any type pydantic can read from JSON: a model, a dataclass, a TypedDict, a
        list, a union, a Literal. `strategy` says how it is asked for: `"tool"` has the model call
        a tool, `"output_config"` and `"json_schema"` use what some servers have for it,
        `"prompt"` only asks. An answer that does not fit is shown to the model and asked for
        again, at most `validation_retries` times.

        Raises `InvalidRequestError` or `APIError` as `create` does, and where there is an answer
        but no output: `OutputTruncatedError`, `OutputRefusedError`, `OutputInvalidError`.
        """
        from ..structured._asked import asked_for
        from ..structured._parse import parsing

        session = self._session
        asked: Asked[T] = asked_for(output, strategy, params, session.config.endpoint)
        flow = parsing(session.config, asked, validation_retries, time.monotonic)
        return drive(flow, session.http)

    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.ParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        from ..structured._asked import asked_for
        from ..structured._parse import ParsedMessageStream

        config = self._session.config
        asked: Asked[T] = asked_for(output, strategy, params, config.endpoint, "parse_stream")
        call = _calls.stream_message(config, asked.params, "parse_stream")
        return ParsedMessageStream(lambda: self._session.open(call), asked)

    def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return self._session.run(_calls.count_tokens(self._session.config, params))


class AsyncMessages(HintsAtNames):
    """The Messages operations of an `AsyncModelsLab`."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def create(self, **params: Unpack[MessageCreateParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return await self._session.run(_calls.create_message(self._session.config, params))

    def stream(self, **params: Unpack[MessageCreateParams]) -> AsyncMessageStream:
        """Ask for an answer and return it as it comes; the `async with` block sends the request.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        call = _calls.stream_message(self._session.config, params)
        return AsyncMessageStream(lambda: self._session.open(call))

    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.AsyncToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        All is as for the sync one, but that calls run at the same time.
        """
        from ..conversation._runner import AsyncToolRunner
        from ..conversation._tool_loop import ToolLoop

        loop = ToolLoop(params, self._session.config.endpoint, max_turns, on_error)
        return AsyncToolRunner(
            loop,
            lambda params: self.create(**cast("MessageCreateParams", params)),
            lambda params: self.stream(**cast("MessageCreateParams", params)),
        )

    async def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        validation_retries: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        All is as for the sync one.
        """
        from ..structured._asked import asked_for
        from ..structured._parse import parsing

        session = self._session
        asked: Asked[T] = asked_for(output, strategy, params, session.config.endpoint)
        flow = parsing(session.config, asked, validation_retries, time.monotonic)
        return await adrive(flow, session.http)

    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        **params: Unpack[MessageCreateParams],
    ) -> modelslab_llm.AsyncParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        from ..structured._asked import asked_for
        from ..structured._parse import AsyncParsedMessageStream

        config = self._session.config
        asked: Asked[T] = asked_for(output, strategy, params, config.endpoint, "parse_stream")
        call = _calls.stream_message(config, asked.params, "parse_stream")
        return AsyncParsedMessageStream(lambda: self._session.open(call), asked)

    async def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return await self._session.run(_calls.count_tokens(self._session.config, params))


# Type checkers want an `output`. At run time its absence is left to `asked_for`, which can name the
# argument that was meant to be it.
for _verb in (
    Messages.parse,
    Messages.parse_stream,
    AsyncMessages.parse,
    AsyncMessages.parse_stream,
):
    _verb.__kwdefaults__ = {**(_verb.__kwdefaults__ or {}), "output": None}
