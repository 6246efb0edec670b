"""`client.messages`, sync and async: one line for each operation. Nothing is decided here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import TypeForm, TypeVar, Unpack

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._http.wire import AsyncWire, Wire
from .._protocol import messages as _calls
from .._protocol.config import Config
from .._protocol.resume import allowed
from .._protocol.spec import StaysInProcess
from .._protocol.stream import AsyncMessageStream, MessageStream
from ..endpoints import Strategy
from ..types.message import Message, TokenCount
from ..types.parsed import ParsedMessage
from ..types.requests import CountTokensParams, MessageCreateParams
from .hinting import ahinting, hinting
from .late import late
from .run import arun, arun_stream, run, run_stream
from .takes import bulk_options, count_params, message_params, takes

if TYPE_CHECKING:  # at run time `late` brings them
    from .features import (
        CHAT,
        AsyncBulkRun,
        AsyncParsedMessageStream,
        AsyncToolRunner,
        BulkOptions,
        BulkRun,
        Order,
        OutputRequest,
        ParsedMessageStream,
        ToolLoop,
        ToolRunner,
        output_request,
        parsing,
    )

R = TypeVar("R")
T = TypeVar("T")
OutputT = TypeVar("OutputT", default=None)  # None is its own type form, which mypy is yet to learn


def _leave_output(params: dict[str, object]) -> None:
    """Leave a missing `output` to the verb, which can name the argument that was meant to be it."""
    params.setdefault("output", None)


def _patient(config: Config, options: BulkOptions) -> Config:
    """Return what the calls of a bulk run are made with.

    A row waits in the queue without a limit, because its wait depends on the rows before it. A
    budget that the run already counts against is not charged twice.
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

    @takes("MessageTakes")
    def create(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> Message:
        """Create a message and return the complete response.

            message = client.messages.create(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name a tidal river."}],
            )
            print(message.text)

        A parameter that is left out or None is not sent, and the server's default applies.
        protocol.md §3 lists what each server supports.

        Args:
            resume: How often this call may request the rest of an answer after its connection
                broke; above 0, the answer is streamed. Default 0, never. See `stream`.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued.
                Default 0, never. See `stream`.
            model: Name of the model. Optional if the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            max_tokens: Required. Maximum number of tokens to generate, thinking included; at least
                1. No upper limit is checked here.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            temperature: Sampling temperature, 0 to 1; a gateway may allow more. Documented default
                1; 0.8 on llama-server. The newest Claude models refuse it.
            top_p: Nucleus sampling, 0 to 1. Default 0.95 on llama-server. The newest Claude models
                refuse it.
            top_k: Sample from this many of the most likely tokens, at least 1. Default 40 on
                llama-server. One of the advanced parameters of v7; undocumented for GGUF.
            stop_sequences: Texts that end the answer. `message.stop_sequence` is the one that did,
                if the server reports it.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            metadata: Opaque ID of the user the request is for. Anthropic only.
            service_tier: Capacity to serve the request from. Anthropic only.
            inference_geo: Region to run the model in. Anthropic only.
            container: Container for code execution, by ID or with its settings. Anthropic only.
            speed: Speed of inference. Anthropic only, and not for every model.
            diagnostics: What to diagnose, such as `{"previous_message_id": ...}`. Anthropic only.
            context_management: How the server trims a long context. Beta of Anthropic.
            mcp_servers: MCP servers whose tools the model may call. Beta of Anthropic.
            betas: Beta features to turn on; sent as the header `anthropic-beta`.
            extra_headers: Headers of this request only; they take precedence over the client's.
            extra_body: Server-specific fields, such as llama-server's `chat_template_kwargs`; they
                take precedence over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The message: its text is in `.text`, its blocks in `.content`, its token counts in
            `.usage`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
        """
        given = message_params(**params)
        if (more := allowed(resume, continue_at_max_tokens, self._config.endpoint)) is None:
            return run(_calls.create_message(self._config, given), self._http)
        call = _calls.stream_message(self._config, given, "create")
        with MessageStream(lambda: run_stream(call, self._http, more)) as stream:
            return stream.get_final_message()

    @takes("MessageTakes")
    def stream(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> MessageStream:
        """Stream a message: return its events and text as they arrive.

            with client.messages.stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name a tidal river."}],
            ) as stream:
                for text in stream.text_stream:
                    print(text, end="")

        Nothing is sent before the stream is entered. Leaving it early makes the server stop
        generating.

        Args:
            resume: How often this call may request the rest of an answer after its stream broke.
                Default 0, never. The text so far is sent back as the last assistant turn, and the
                events continue where they stopped. Works for text, with servers that continue such
                a turn (`Endpoint.continues_prefill`); if the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued in
                the same way, each time with another `max_tokens`. Default 0, never.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the complete message.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                The message so far is in its `partial_message`.
        """
        more = allowed(resume, continue_at_max_tokens, self._config.endpoint)
        call = _calls.stream_message(self._config, message_params(**params))
        return MessageStream(lambda: run_stream(call, self._http, more))

    @late
    @takes("MessageTakes")
    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        on_cut: Literal["report", "run"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> ToolRunner:
        """Run a conversation in which the model calls tools, until it answers without a call.

            @tool
            def level(river: str) -> str:
                '''Return the level of a river in cm.'''
                return "214"

            runner = client.messages.run_tools(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "How high is the Tamar?"}],
                tools=[level],
            )
            print(runner.get_final_message().text)

        Nothing is sent before the runner is used. The calls of one turn run one after the other in
        sync code, and concurrently in async code. If the model refuses, nothing runs and the
        conversation ends. A forced `tool_choice` applies to the first request only.

        Args:
            max_turns: Maximum number of messages to request. Default 20.
            on_error: What to do when a tool fails: `"report"`, the default, tells the model;
                `"raise"` raises `ToolError`.
            on_cut: What to do with the calls of an answer that was truncated at `max_tokens` or the
                end of the context: `"report"`, the default, tells the model that they were not run;
                `"run"` runs the complete ones.
            params: The request: every parameter of `create`.

        Returns:
            The runner: iterate it for each message of the model, or call `get_final_message()`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
        """
        given = message_params(**params)
        loop = ToolLoop(given, self._config.endpoint, max_turns, on_error, on_cut)
        return ToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

    @late
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
        """Create a message with structured output, and return it with the value in `.parsed`.

            message = client.messages.parse(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            )
            print(message.parsed[0])

        Args:
            output: Required. Type of the output, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to request it. Default None: that of the endpoint. `"tool"`: the model
                calls a tool. `"response_format"`: the server's chat route, where llama-server
                constrains the model to the schema. `"output_config"`: for Anthropic and newer vLLM.
                `"prompt"`: in the system prompt.
            validation_retries: How often an invalid answer is shown to the model, and the output
                requested again. Default 0.
            params: The request: every parameter of `create`.

        Returns:
            The message, with the output in `.parsed`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
            OutputTruncatedError: The answer was truncated at `max_tokens`.
            OutputRefusedError: The model refused.
            OutputInvalidError: The answer does not match the type.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint)
        flow = parsing(self._config, asked, validation_retries, time.monotonic, _route(asked))
        return drive(flow, self._http)

    @late
    @takes("MessageTakes")
    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> ParsedMessageStream[T]:
        """Stream structured output, and return partial values as they arrive.

            with client.messages.parse_stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            ) as stream:
                for rivers in stream.partial_stream:
                    print(rivers)

        Nothing is sent before the stream is entered, and an invalid answer is not retried.

        Args:
            output: Required. Type of the output, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to request it. Default None: that of the endpoint. `"tool"`: the model
                calls a tool. `"response_format"`: the server's chat route, where llama-server
                constrains the model to the schema. `"output_config"`: for Anthropic and newer vLLM.
                `"prompt"`: in the system prompt.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the complete message with the output in
            `.parsed`, or raises as `parse` does.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                The message so far is in its `partial_message`.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return ParsedMessageStream(lambda: run(call, self._http), asked)

    @late
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
        """Send many rows concurrently, and return each result as soon as it arrives.

            rows = [{"question": "Name a tidal river."}, {"question": "Name a hill."}]
            run = client.messages.bulk(
                rows,
                make=lambda row: {"messages": [{"role": "user", "content": row["question"]}]},
                defaults={"model": "local", "max_tokens": 256},
                store="answers.sqlite",
            )
            for result in run:
                print(result.row["question"], result.message.text)

        Nothing is sent before the run is iterated. A run with a `store` survives being killed: run
        it again, and only the missing rows are sent.

        Args:
            rows: Dicts of parameters for `create`, or records of any kind with `make`: a list, an
                iterator, a DataFrame (row by row, as dicts), in async code an async iterator too.
                They are read one by one, as needed.
            make: Function that returns the parameters for a record. Default None: each row is its
                parameters.
            key: The stable identifier of a row: a field or attribute, or a function of the row.
                Default: its position, which changes when rows are inserted.
            defaults: Parameters that all rows share; those of a row take precedence. Default none.
            output: Type to answer with, as for `parse`; results then have `.parsed`. Default None.
            strategy: How to request it, as for `parse`. Default None: that of the endpoint.
            validation_retries: How often an invalid answer is requested again. Default 0.
            store: File that stores the results, created or continued. Rows with a stored answer are
                not sent again. Default None: nothing is stored.
            max_in_flight: Maximum number of rows in flight. Default 50.
            max_failures: End the run with `TooManyFailuresError` once this many of its rows have
                failed. Default None, no limit.
            retry_failed: Send rows again that failed in an earlier run. Default False: use the
                stored failure.
            include_stored: Also return results that were stored before. Default True.
            deduplicate: Send identical requests once and share the answer among their rows. Default
                False.
            prices: Token prices, for `result.cost` and the progress. Default: the prices of
                `budget`.
            budget: End the run with `BudgetSpentError` before the next request once this is spent.
                Default None, no limit.
            progress: Show a progress bar (tqdm or rich, otherwise log lines), or call a function
                with the `BulkProgress`, at most five times a second. Default False.
            total: The number of rows, if `len(rows)` does not tell. Default None.

        Returns:
            The run, to be iterated once.

        Raises:
            ConfigurationError: An option that cannot be. The failure of a row is in its result
                instead; what ends a run is raised when it is iterated: `AuthenticationError`,
                `PaymentRequiredError`, `TooManyFailuresError`, `BudgetSpentError`, `StoreError`,
                and what `rows` raises.
            TypeError: An unknown option.
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
        patient = Messages(_patient(self._config, options), self._http)

        def ask(params: MessageCreateParams) -> Message:
            if order.adapter is None:
                return patient.create(**params)
            return patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return BulkRun(ask, order)

    @takes("CountTakes")
    def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Count the input tokens of a request without running it.

            count = client.messages.count_tokens(
                model="local", messages=[{"role": "user", "content": "Name a tidal river."}]
            )
            print(count.input_tokens)

        Args:
            model: Name of the model. Optional if the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            extra_headers: Headers of this request only; they take precedence over the client's.
            extra_body: Server-specific fields, such as llama-server's `chat_template_kwargs`; they
                take precedence over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The count, in `.input_tokens`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
            UnsupportedOperationError: The server cannot count, as Ollama and some gateways
                (protocol.md §8).
        """
        return run(_calls.count_tokens(self._config, count_params(**params)), self._http)


class AsyncMessages(StaysInProcess, HintsAtNames):
    """The Messages operations of an `AsyncModelsLab`."""

    def __init__(self, config: Config, http: AsyncWire) -> None:
        self._config = config
        self._http = http

    @takes("MessageTakes")
    async def create(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> Message:
        """Create a message and return the complete response.

            message = await client.messages.create(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name a tidal river."}],
            )
            print(message.text)

        A parameter that is left out or None is not sent, and the server's default applies.
        protocol.md §3 lists what each server supports.

        Args:
            resume: How often this call may request the rest of an answer after its connection
                broke; above 0, the answer is streamed. Default 0, never. See `stream`.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued.
                Default 0, never. See `stream`.
            model: Name of the model. Optional if the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            max_tokens: Required. Maximum number of tokens to generate, thinking included; at least
                1. No upper limit is checked here.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            temperature: Sampling temperature, 0 to 1; a gateway may allow more. Documented default
                1; 0.8 on llama-server. The newest Claude models refuse it.
            top_p: Nucleus sampling, 0 to 1. Default 0.95 on llama-server. The newest Claude models
                refuse it.
            top_k: Sample from this many of the most likely tokens, at least 1. Default 40 on
                llama-server. One of the advanced parameters of v7; undocumented for GGUF.
            stop_sequences: Texts that end the answer. `message.stop_sequence` is the one that did,
                if the server reports it.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            metadata: Opaque ID of the user the request is for. Anthropic only.
            service_tier: Capacity to serve the request from. Anthropic only.
            inference_geo: Region to run the model in. Anthropic only.
            container: Container for code execution, by ID or with its settings. Anthropic only.
            speed: Speed of inference. Anthropic only, and not for every model.
            diagnostics: What to diagnose, such as `{"previous_message_id": ...}`. Anthropic only.
            context_management: How the server trims a long context. Beta of Anthropic.
            mcp_servers: MCP servers whose tools the model may call. Beta of Anthropic.
            betas: Beta features to turn on; sent as the header `anthropic-beta`.
            extra_headers: Headers of this request only; they take precedence over the client's.
            extra_body: Server-specific fields, such as llama-server's `chat_template_kwargs`; they
                take precedence over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The message: its text is in `.text`, its blocks in `.content`, its token counts in
            `.usage`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
        """
        given = message_params(**params)
        if (more := allowed(resume, continue_at_max_tokens, self._config.endpoint)) is None:
            return await arun(_calls.create_message(self._config, given), self._http)
        call = _calls.stream_message(self._config, given, "create")
        async with AsyncMessageStream(lambda: arun_stream(call, self._http, more)) as stream:
            return await stream.get_final_message()

    @takes("MessageTakes")
    def stream(
        self,
        *,
        resume: int = 0,
        continue_at_max_tokens: int = 0,
        **params: Unpack[MessageCreateParams],
    ) -> AsyncMessageStream:
        """Stream a message: return its events and text as they arrive.

            async with client.messages.stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name a tidal river."}],
            ) as stream:
                async for text in stream.text_stream:
                    print(text, end="")

        Nothing is sent before the stream is entered. Leaving it early makes the server stop
        generating.

        Args:
            resume: How often this call may request the rest of an answer after its stream broke.
                Default 0, never. The text so far is sent back as the last assistant turn, and the
                events continue where they stopped. Works for text, with servers that continue such
                a turn (`Endpoint.continues_prefill`); if the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued in
                the same way, each time with another `max_tokens`. Default 0, never.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the complete message.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                The message so far is in its `partial_message`.
        """
        more = allowed(resume, continue_at_max_tokens, self._config.endpoint)
        call = _calls.stream_message(self._config, message_params(**params))
        return AsyncMessageStream(lambda: arun_stream(call, self._http, more))

    @late
    @takes("MessageTakes")
    def run_tools(
        self,
        *,
        max_turns: int = 20,
        on_error: Literal["report", "raise"] = "report",
        on_cut: Literal["report", "run"] = "report",
        **params: Unpack[MessageCreateParams],
    ) -> AsyncToolRunner:
        """Run a conversation in which the model calls tools, until it answers without a call.

            @tool
            def level(river: str) -> str:
                '''Return the level of a river in cm.'''
                return "214"

            runner = client.messages.run_tools(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "How high is the Tamar?"}],
                tools=[level],
            )
            print((await runner.get_final_message()).text)

        Nothing is sent before the runner is used. The calls of one turn run one after the other in
        sync code, and concurrently in async code. If the model refuses, nothing runs and the
        conversation ends. A forced `tool_choice` applies to the first request only.

        Args:
            max_turns: Maximum number of messages to request. Default 20.
            on_error: What to do when a tool fails: `"report"`, the default, tells the model;
                `"raise"` raises `ToolError`.
            on_cut: What to do with the calls of an answer that was truncated at `max_tokens` or the
                end of the context: `"report"`, the default, tells the model that they were not run;
                `"run"` runs the complete ones.
            params: The request: every parameter of `create`.

        Returns:
            The runner: iterate it for each message of the model, or call `get_final_message()`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
        """
        given = message_params(**params)
        loop = ToolLoop(given, self._config.endpoint, max_turns, on_error, on_cut)
        return AsyncToolRunner(
            loop,
            lambda params: self.create(**params),
            lambda params: self.stream(**params),
        )

    @late
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
        """Create a message with structured output, and return it with the value in `.parsed`.

            message = await client.messages.parse(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            )
            print(message.parsed[0])

        Args:
            output: Required. Type of the output, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to request it. Default None: that of the endpoint. `"tool"`: the model
                calls a tool. `"response_format"`: the server's chat route, where llama-server
                constrains the model to the schema. `"output_config"`: for Anthropic and newer vLLM.
                `"prompt"`: in the system prompt.
            validation_retries: How often an invalid answer is shown to the model, and the output
                requested again. Default 0.
            params: The request: every parameter of `create`.

        Returns:
            The message, with the output in `.parsed`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
            OutputTruncatedError: The answer was truncated at `max_tokens`.
            OutputRefusedError: The model refused.
            OutputInvalidError: The answer does not match the type.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint)
        return await adrive(
            parsing(self._config, asked, validation_retries, time.monotonic, _route(asked)),
            self._http,
        )

    @late
    @takes("MessageTakes")
    @hinting(_leave_output)
    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: Strategy | None = None,
        **params: Unpack[MessageCreateParams],
    ) -> AsyncParsedMessageStream[T]:
        """Stream structured output, and return partial values as they arrive.

            async with client.messages.parse_stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            ) as stream:
                async for rivers in stream.partial_stream:
                    print(rivers)

        Nothing is sent before the stream is entered, and an invalid answer is not retried.

        Args:
            output: Required. Type of the output, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to request it. Default None: that of the endpoint. `"tool"`: the model
                calls a tool. `"response_format"`: the server's chat route, where llama-server
                constrains the model to the schema. `"output_config"`: for Anthropic and newer vLLM.
                `"prompt"`: in the system prompt.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the complete message with the output in
            `.parsed`, or raises as `parse` does.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                The message so far is in its `partial_message`.
        """
        given, endpoint = message_params(**params), self._config.endpoint
        asked: OutputRequest[T] = output_request(output, strategy, given, endpoint, "parse_stream")
        call = _calls.stream_message(self._config, asked.params, "parse_stream", _route(asked))
        return AsyncParsedMessageStream(lambda: arun(call, self._http), asked)

    @late
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
        """Send many rows concurrently, and return each result as soon as it arrives.

            rows = [{"question": "Name a tidal river."}, {"question": "Name a hill."}]
            run = client.messages.bulk(
                rows,
                make=lambda row: {"messages": [{"role": "user", "content": row["question"]}]},
                defaults={"model": "local", "max_tokens": 256},
                store="answers.sqlite",
            )
            async for result in run:
                print(result.row["question"], result.message.text)

        Nothing is sent before the run is iterated. A run with a `store` survives being killed: run
        it again, and only the missing rows are sent.

        Args:
            rows: Dicts of parameters for `create`, or records of any kind with `make`: a list, an
                iterator, a DataFrame (row by row, as dicts), in async code an async iterator too.
                They are read one by one, as needed.
            make: Function that returns the parameters for a record. Default None: each row is its
                parameters.
            key: The stable identifier of a row: a field or attribute, or a function of the row.
                Default: its position, which changes when rows are inserted.
            defaults: Parameters that all rows share; those of a row take precedence. Default none.
            output: Type to answer with, as for `parse`; results then have `.parsed`. Default None.
            strategy: How to request it, as for `parse`. Default None: that of the endpoint.
            validation_retries: How often an invalid answer is requested again. Default 0.
            store: File that stores the results, created or continued. Rows with a stored answer are
                not sent again. Default None: nothing is stored.
            max_in_flight: Maximum number of rows in flight. Default 50.
            max_failures: End the run with `TooManyFailuresError` once this many of its rows have
                failed. Default None, no limit.
            retry_failed: Send rows again that failed in an earlier run. Default False: use the
                stored failure.
            include_stored: Also return results that were stored before. Default True.
            deduplicate: Send identical requests once and share the answer among their rows. Default
                False.
            prices: Token prices, for `result.cost` and the progress. Default: the prices of
                `budget`.
            budget: End the run with `BudgetSpentError` before the next request once this is spent.
                Default None, no limit.
            progress: Show a progress bar (tqdm or rich, otherwise log lines), or call a function
                with the `BulkProgress`, at most five times a second. Default False.
            total: The number of rows, if `len(rows)` does not tell. Default None.

        Returns:
            The run, to be iterated once.

        Raises:
            ConfigurationError: An option that cannot be. The failure of a row is in its result
                instead; what ends a run is raised when it is iterated: `AuthenticationError`,
                `PaymentRequiredError`, `TooManyFailuresError`, `BudgetSpentError`, `StoreError`,
                and what `rows` raises.
            TypeError: An unknown option.
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
        patient = AsyncMessages(_patient(self._config, options), self._http)

        async def ask(params: MessageCreateParams) -> Message:
            if order.adapter is None:
                return await patient.create(**params)
            return await patient.parse(
                output=output, strategy=strategy, validation_retries=validation_retries, **params
            )

        return AsyncBulkRun(ask, order)

    @takes("CountTakes")
    async def count_tokens(self, **params: Unpack[CountTokensParams]) -> TokenCount:
        """Count the input tokens of a request without running it.

            count = await client.messages.count_tokens(
                model="local", messages=[{"role": "user", "content": "Name a tidal river."}]
            )
            print(count.input_tokens)

        Args:
            model: Name of the model. Optional if the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            extra_headers: Headers of this request only; they take precedence over the client's.
            extra_body: Server-specific fields, such as llama-server's `chat_template_kwargs`; they
                take precedence over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The count, in `.input_tokens`.

        Raises:
            TypeError: An unknown parameter; the error suggests the right name.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response, after all retries. Its subclasses distinguish timeouts,
                lost connections and each error of the server.
            UnsupportedOperationError: The server cannot count, as Ollama and some gateways
                (protocol.md §8).
        """
        return await arun(_calls.count_tokens(self._config, count_params(**params)), self._http)
