"""`client.messages`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

from typing_extensions import TypeForm, Unpack

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol import messages as _calls
from .._protocol.config import Config
from .._protocol.resume import allowed
from .._protocol.spec import StaysInProcess
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
from .run import arun, arun_stream, run, run_stream

R = TypeVar("R")
T = TypeVar("T")


def _leave_output(params: dict[str, object]) -> None:
    """Leave a missing `output` to the verb, which can name the argument that was meant to be it."""
    params.setdefault("output", None)


def _patient(config: Config, options: BulkOptions) -> Config:
    """Return what the calls of a bulk run are made with.

    A row stands in line for as long as it takes: how long is up to the rows before it. A budget
    that the run counts on is not counted on twice.
    """
    shared = config.budget is not None and config.budget is options.get("budget")
    return config.changed(max_queue_wait=None, budget=None if shared else config.budget)


def _route(asked: OutputRequest[Any]) -> _calls.Route | None:
    """Return the way to the answer that is not the usual one, if it was asked for."""
    return CHAT if asked.by_chat else None


class Messages(StaysInProcess, HintsAtNames):
    """The Messages operations of a `ModelsLab`."""

    def __init__(self, config: Config, http: Wire) -> None:
        self._config = config
        self._http = http

    def create(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> Message:
        """Create a message and return the complete response.

        Args:
            resume: how often, in this call, the rest of an answer is asked for after its connection
                broke; default 0, never. Above 0 the answer is streamed. See `stream`.
            continue_at_max_tokens: how often an answer that reached `max_tokens` is continued;
                default 0. See `stream`.
            params: the request, see `MessageCreateParams`.

        Raises `InvalidRequestError` or `APIError`.
        """
        if (more := allowed(resume, continue_at_max_tokens, self._config.endpoint)) is None:
            return run(_calls.create_message(self._config, params), self._http)
        call = _calls.stream_message(self._config, params, "create")
        with MessageStream(lambda: run_stream(call, self._http, more)) as stream:
            return stream.get_final_message()

    def stream(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> MessageStream:
        """Ask for an answer and return it as it comes; the `with` block sends the request.

        Args:
            resume: how often, in this call, the rest of an answer is asked for after its stream
                broke; default 0, never. What came is sent back as the last assistant turn, and the
                events go on where they stopped. Works for text, at servers that continue such a
                turn (`Endpoint.continues_prefill`); where the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: how often an answer that reached `max_tokens` is continued in
                the same way, each time with `max_tokens` more; default 0.
            params: the request, see `MessageCreateParams`.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        more = allowed(resume, continue_at_max_tokens, self._config.endpoint)
        call = _calls.stream_message(self._config, params)
        return MessageStream(lambda: run_stream(call, self._http, more))

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
        loop = ToolLoop(params, self._config.endpoint, max_turns, on_error, on_cut)
        return ToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

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
        asked: OutputRequest[T] = output_request(output, strategy, params, self._config.endpoint)
        flow = parsing(self._config, asked, validation_retries, time.monotonic, _route(asked))
        return drive(flow, self._http)

    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> ParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        endpoint = self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, params, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return ParsedMessageStream(lambda: run(call, self._http), asked)

    @overload
    def bulk(
        self,
        rows: Iterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: None = None,
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[R, None]: ...
    @overload
    def bulk(
        self,
        rows: Iterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[R, T]: ...
    def bulk(
        self,
        rows: Iterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: Any = None,
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> BulkRun[R, Any]:
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
        order: Order[R, Any] = Order(
            rows,
            make=make,
            key=key,
            defaults=defaults,
            default_model=self._config.endpoint.default_model,
            output=output,
            strategy=strategy,
            waiting=lambda: self._config.flow.waiting,
            options=options,
        )
        patient = Messages(_patient(self._config, options), self._http)

        def ask(params: MessageCreateParams) -> Message:
            if output is None:
                return patient.create(**params)
            return patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return BulkRun(ask, order)

    def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return run(_calls.count_tokens(self._config, params), self._http)


class AsyncMessages(StaysInProcess, HintsAtNames):
    """The Messages operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    async def create(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> Message:
        """Create a message and return the complete response.

        Args:
            resume: how often, in this call, the rest of an answer is asked for after its connection
                broke; default 0, never. Above 0 the answer is streamed. See `stream`.
            continue_at_max_tokens: how often an answer that reached `max_tokens` is continued;
                default 0. See `stream`.
            params: the request, see `MessageCreateParams`.

        Raises `InvalidRequestError` or `APIError`.
        """
        if (more := allowed(resume, continue_at_max_tokens, self._config.endpoint)) is None:
            return await arun(_calls.create_message(self._config, params), self._http)
        call = _calls.stream_message(self._config, params, "create")
        async with AsyncMessageStream(lambda: arun_stream(call, self._http, more)) as stream:
            return await stream.get_final_message()

    def stream(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> AsyncMessageStream:
        """Ask for an answer and return it as it comes; the `async with` block sends the request.

        Args:
            resume: how often, in this call, the rest of an answer is asked for after its stream
                broke; default 0, never. What came is sent back as the last assistant turn, and the
                events go on where they stopped. Works for text, at servers that continue such a
                turn (`Endpoint.continues_prefill`); where the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: how often an answer that reached `max_tokens` is continued in
                the same way, each time with `max_tokens` more; default 0.
            params: the request, see `MessageCreateParams`.

        Raises `InvalidRequestError` here, and `APIError` from the block on.
        """
        more = allowed(resume, continue_at_max_tokens, self._config.endpoint)
        call = _calls.stream_message(self._config, params)
        return AsyncMessageStream(lambda: arun_stream(call, self._http, more))

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
        loop = ToolLoop(params, self._config.endpoint, max_turns, on_error, on_cut)
        return AsyncToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

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
        asked: OutputRequest[T] = output_request(output, strategy, params, self._config.endpoint)
        return await adrive(
            parsing(self._config, asked, validation_retries, time.monotonic, _route(asked)),
            self._http,
        )

    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> AsyncParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        endpoint = self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, params, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return AsyncParsedMessageStream(lambda: arun(call, self._http), asked)

    @overload
    def bulk(
        self,
        rows: Iterable[R] | AsyncIterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: None = None,
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> AsyncBulkRun[R, None]: ...
    @overload
    def bulk(
        self,
        rows: Iterable[R] | AsyncIterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> AsyncBulkRun[R, T]: ...
    def bulk(
        self,
        rows: Iterable[R] | AsyncIterable[R],
        *,
        make: Callable[[R], Mapping[str, Any]] | None = None,
        key: str | Callable[[R], str | int] | None = None,
        defaults: Mapping[str, Any] | None = None,
        output: Any = None,
        strategy: Strategy | None = None,
        validation_retries: int = 0,
        **options: Unpack[BulkOptions],
    ) -> AsyncBulkRun[R, Any]:
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
        order: Order[R, Any] = Order(
            rows,
            make=make,
            key=key,
            defaults=defaults,
            default_model=self._config.endpoint.default_model,
            output=output,
            strategy=strategy,
            waiting=lambda: self._config.flow.waiting,
            options=options,
        )
        patient = AsyncMessages(_patient(self._config, options), self._http)

        async def ask(params: MessageCreateParams) -> Message:
            if output is None:
                return await patient.create(**params)
            return await patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return AsyncBulkRun(ask, order)

    async def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Return how many tokens a request has.

        Raises `InvalidRequestError` or `APIError` as `create` does, of the latter
        `UnsupportedOperationError` where the server has no such operation: Ollama and some gateways
        (protocol.md §8).
        """
        return await arun(_calls.count_tokens(self._config, params), self._http)
