"""`client.messages`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Literal

from typing_extensions import TypeForm, TypeVar, Unpack

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol import messages as _calls
from .._protocol.config import Config
from .._protocol.stream import AsyncMessageStream, MessageStream
from ..bulk import AsyncBulkRun, BulkOptions, BulkRun
from ..bulk._order import Order
from ..conversation import AsyncToolRunner, ToolRunner
from ..conversation._tool_loop import ToolLoop
from ..endpoints import Strategy
from ..openai._route import CHAT
from ..structured import AsyncParsedMessageStream, ParsedMessageStream
from ..structured._ask import output_request, parsing
from ..structured._read import OutputRequest
from ..types.message import Message, TokenCount
from ..types.parsed import ParsedMessage
from ..types.requests import CountTokensParams, MessageCreateParams
from .hinting import ahinting, hinting
from .run import arun, run
from .takes import bulk_options, count_params, message_params, takes

R = TypeVar("R")
T = TypeVar("T")
OutputT = TypeVar("OutputT", default=None)  # None is its own type form, which mypy is yet to learn


def _leave_output(params: dict[str, object]) -> None:
    """Leave a missing `output` to the verb, which can name the argument that was meant to be it."""
    params.setdefault("output", None)


def _route(asked: OutputRequest[Any]) -> _calls.Route | None:
    """Return the way to the answer that is not the usual one, if it was asked for."""
    return CHAT if asked.by_chat else None


class Messages(HintsAtNames):
    """The Messages operations of a `ModelsLab`."""

    def __init__(self, config: Config, http: Wire) -> None:
        self._config = config
        self._http = http

    @takes("MessageTakes")
    def create(self, **params: Unpack[MessageCreateParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return run(_calls.create_message(self._config, message_params(**params)), self._http)

    @takes("MessageTakes")
    def stream(self, **params: Unpack[MessageCreateParams]) -> MessageStream:
        """Ask for an answer and return it as it comes; the request is sent by the `with` block.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        call = _calls.stream_message(self._config, message_params(**params))
        return MessageStream(lambda: run(call, self._http))

    @takes("MessageTakes")
    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        on_cut: Literal["report", "run"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> ToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        Nothing is sent before the runner is asked: iterate it, or take `get_final_message()`. At
        most `max_turns` messages are asked for. What goes wrong with a call is told to the model,
        or raised as `ToolError` with `on_error="raise"`. The calls of an answer that was cut off at
        `max_tokens` or the end of the context are not run, and the model is told so, unless
        `on_cut="run"` runs those that came whole. A refused answer runs nothing and ends it. A
        forced `tool_choice` holds for the first request alone. Raises `InvalidRequestError` here.
        """
        given = message_params(**params)
        loop = ToolLoop(given, self._config.endpoint, max_turns, on_error, on_cut)
        return ToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

    @takes("MessageTakes")
    @hinting(_leave_output)
    def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        `output` is any type pydantic can read from JSON: a model, a dataclass, a TypedDict, a
        list, a union, a Literal. `strategy` says how it is asked for; None, the default, means the
        endpoint's own: `"tool"` has the model call a tool, `"response_format"` asks the server's
        chat route, where llama-server holds the model to the schema, `"output_config"` uses what
        Anthropic has for it, `"prompt"` only asks. An answer that does not fit is shown to the
        model and asked for again, at most `validation_retries` times.

        Raises `InvalidRequestError` or `APIError` as `create` does, and where there is an answer
        but no output: `OutputTruncatedError`, `OutputRefusedError`, `OutputInvalidError`.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint)
        flow = parsing(self._config, asked, validation_retries, time.monotonic, _route(asked))
        return drive(flow, self._http)

    @takes("MessageTakes")
    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> ParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return ParsedMessageStream(lambda: run(call, self._http), asked)

    @takes("BulkTakes")
    def bulk(
        self,
        rows: Iterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: TypeForm[OutputT] = None,  # type: ignore[assignment]  # noqa: RUF013
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[R, OutputT]:
        """Ask many rows at once and hand out each result as soon as it is there.

        Iterate the run that is returned: nothing is asked before. Nothing is lost when it is
        killed, if it has a `store`: run it again, and only what is missing is asked.

        Args:
            rows: dicts of parameters for `create`, or records of any kind with `make`; taken one by
                one, as they are needed. A DataFrame is taken row by row, as dicts.
            make: returns the parameters of a record.
            key: what names a row for good: a field or attribute, or a function of the row. By
                default its position, which changes when rows are inserted.
            defaults: parameters that all rows share; those of a row win.
            output: a type to answer with, as for `parse`; then results have `.parsed`.
            strategy: as for `parse`.
            validation_retries: as for `parse`; default 0.
            options: the store, limits, budget and progress; see `BulkOptions`.

        Raises `ConfigurationError` for options that cannot be. The failure of a row is in its
        result; iterating raises what ends the run: `AuthenticationError`, `PaymentRequiredError`,
        `TooManyFailuresError`, `BudgetSpentError`, `StoreError`, and what `rows` raises.
        """
        order: Order[R, OutputT] = Order(
            rows,
            make=make,
            key=key,
            defaults=defaults,
            default_model=self._config.endpoint.default_model,
            output=output,
            strategy=strategy,
            waiting=lambda: self._config.flow.waiting,
            options=bulk_options(**options),
        )
        # A row stands in line for as long as it takes: how long is up to the rows before it.
        patient = Messages(self._config.changed(max_queue_wait=None), self._http)

        def ask(params: MessageCreateParams) -> Message:
            if order.adapter is None:
                return patient.create(**params)
            return patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return BulkRun(ask, order)

    @takes("CountTakes")
    def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return run(_calls.count_tokens(self._config, count_params(**params)), self._http)


class AsyncMessages(HintsAtNames):
    """The Messages operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    @takes("MessageTakes")
    async def create(self, **params: Unpack[MessageCreateParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return await arun(_calls.create_message(self._config, message_params(**params)), self._http)

    @takes("MessageTakes")
    def stream(self, **params: Unpack[MessageCreateParams]) -> AsyncMessageStream:
        """Ask for an answer and return it as it comes; the `async with` block sends the request.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        call = _calls.stream_message(self._config, message_params(**params))
        return AsyncMessageStream(lambda: arun(call, self._http))

    @takes("MessageTakes")
    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        on_cut: Literal["report", "run"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> AsyncToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        All is as for the sync one, but that calls run at the same time.
        """
        given = message_params(**params)
        loop = ToolLoop(given, self._config.endpoint, max_turns, on_error, on_cut)
        return AsyncToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

    @takes("MessageTakes")
    @ahinting(_leave_output)
    async def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        All is as for the sync one.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint)
        return await adrive(
            parsing(self._config, asked, validation_retries, time.monotonic, _route(asked)),
            self._http,
        )

    @takes("MessageTakes")
    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> AsyncParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return AsyncParsedMessageStream(lambda: arun(call, self._http), asked)

    @takes("BulkTakes")
    def bulk(
        self,
        rows: Iterable[R] | AsyncIterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: TypeForm[OutputT] = None,  # type: ignore[assignment]  # noqa: RUF013
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> AsyncBulkRun[R, OutputT]:
        """Ask many rows at once and hand out each result as soon as it is there.

        Iterate the run that is returned: nothing is asked before. Nothing is lost when it is
        killed, if it has a `store`: run it again, and only what is missing is asked.

        Args:
            rows: dicts of parameters for `create`, or records of any kind with `make`, sync or
                async; taken one by one, as they are needed. A DataFrame is taken row by row, as
                dicts.
            make: returns the parameters of a record.
            key: what names a row for good: a field or attribute, or a function of the row. By
                default its position, which changes when rows are inserted.
            defaults: parameters that all rows share; those of a row win.
            output: a type to answer with, as for `parse`; then results have `.parsed`.
            strategy: as for `parse`.
            validation_retries: as for `parse`; default 0.
            options: the store, limits, budget and progress; see `BulkOptions`.

        Raises `ConfigurationError` for options that cannot be. The failure of a row is in its
        result; iterating raises what ends the run: `AuthenticationError`, `PaymentRequiredError`,
        `TooManyFailuresError`, `BudgetSpentError`, `StoreError`, and what `rows` raises.
        """
        order: Order[R, OutputT] = Order(
            rows,
            make=make,
            key=key,
            defaults=defaults,
            default_model=self._config.endpoint.default_model,
            output=output,
            strategy=strategy,
            waiting=lambda: self._config.flow.waiting,
            options=bulk_options(**options),
        )
        patient = AsyncMessages(self._config.changed(max_queue_wait=None), self._http)

        async def ask(params: MessageCreateParams) -> Message:
            if order.adapter is None:
                return await patient.create(**params)
            return await patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return AsyncBulkRun(ask, order)

    @takes("CountTakes")
    async def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return await arun(_calls.count_tokens(self._config, count_params(**params)), self._http)
