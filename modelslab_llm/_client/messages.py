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

        A parameter that is left out or None is not sent, and the server's default holds. What each
        server honours is in protocol.md §3.

        Args:
            resume: How often, in this call, the rest of an answer is asked for after its
                connection broke; above 0 the answer is streamed. Default 0, never. See `stream`.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued.
                Default 0, never. See `stream`.
            model: Name of the model. Optional where the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            max_tokens: Required. Most tokens to generate, thinking included; at least 1. No upper
                limit is checked here.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it
                altogether.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            temperature: Sampling temperature, 0 to 1; a gateway may allow more. Documented default
                1; 0.8 on llama-server. The newest Claude models refuse it.
            top_p: Nucleus sampling, 0 to 1. Default 0.95 on llama-server. The newest Claude models
                refuse it.
            top_k: Sample from this many of the likeliest tokens, at least 1. Default 40 on
                llama-server. One of the advanced parameters of v7; undocumented for GGUF.
            stop_sequences: Texts that end the answer. Which one did is in `message.stop_sequence`,
                if the server says so.
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
            extra_headers: Headers of this request only; they win over the client's.
            extra_body: Fields that only one server knows, such as llama-server's
                `chat_template_kwargs`; they win over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The message: its text is in `.text`, its blocks in `.content`, its token counts in
            `.usage`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
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
            resume: How often, in this call, the rest of an answer is asked for after its stream
                broke. Default 0, never. What came is sent back as the last assistant turn, and the
                events go on where they stopped. Works for text, at servers that continue such a
                turn (`Endpoint.continues_prefill`); where the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued in
                the same way, each time with `max_tokens` more. Default 0, never.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the whole message at its end.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                What had arrived is in its `partial_message`.
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
        sync code, at the same time in async code. A refused answer runs nothing and ends the
        conversation. A forced `tool_choice` holds for the first request only.

        Args:
            max_turns: Most messages to ask for. Default 20.
            on_error: What to do when a tool fails: `"report"`, the default, tells the model;
                `"raise"` raises `ToolError`.
            on_cut: What to do with the calls of an answer that was cut off at `max_tokens` or the
                end of the context: `"report"`, the default, tells the model that they were not run;
                `"run"` runs those that arrived whole.
            params: The request: every parameter of `create`.

        Returns:
            The runner: iterate it for each message of the model, or call `get_final_message()`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
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
        """Create a message and return it with an output of a type in `.parsed`.

            message = client.messages.parse(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            )
            print(message.parsed[0])

        Args:
            output: Required. Type to answer with, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to ask for it; default None, the endpoint's own. `"tool"`: the model calls
                a tool. `"response_format"`: the server's chat route, where llama-server constrains
                the model to the schema. `"output_config"`: what Anthropic and newer vLLM have for
                it. `"prompt"`: in words.
            validation_retries: How often an answer that does not fit is shown to the model and
                asked for again. Default 0.
            params: The request: every parameter of `create`.

        Returns:
            The message, with the output in `.parsed`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
            OutputTruncatedError: The answer was cut off at `max_tokens`.
            OutputRefusedError: The model refused.
            OutputInvalidError: The answer does not fit the type.
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
        """Stream an output of a type as it grows.

            with client.messages.parse_stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            ) as stream:
                for rivers in stream.partial_stream:
                    print(rivers)

        Nothing is sent before the stream is entered, and a stream is not asked for again.

        Args:
            output: Required. Type to answer with, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to ask for it; default None, the endpoint's own. `"tool"`: the model calls
                a tool. `"response_format"`: the server's chat route, where llama-server constrains
                the model to the schema. `"output_config"`: what Anthropic and newer vLLM have for
                it. `"prompt"`: in words.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the whole message with the output in
            `.parsed`, and raises as `parse` does where there is none.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                What had arrived is in its `partial_message`.
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
        """Ask many rows concurrently and return each result as soon as it is there.

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
        it again, and only what is missing is asked.

        Args:
            rows: Dicts of parameters for `create`, or records of any kind with `make`: a list, an
                iterator, a DataFrame (row by row, as dicts), in async code an async iterator too.
                They are taken one by one, as they are needed.
            make: Function that returns the parameters for a record. Default None: each row is its
                parameters.
            key: What names a row for good: a field or attribute, or a function of the row. Default:
                its position, which changes when rows are inserted.
            defaults: Parameters that all rows share; those of a row win. Default none.
            output: Type to answer with, as for `parse`; results then have `.parsed`. Default None.
            strategy: How to ask for it, as for `parse`. Default None, the endpoint's own.
            validation_retries: How often an answer that does not fit is asked for again. Default 0.
            store: File that stores the results, created or continued. Rows that it has an answer
                for are not asked again. Default None: nothing is stored.
            max_in_flight: Maximum number of rows in flight. Default 50.
            max_failures: End the run with `TooManyFailuresError` once this many of its rows have
                failed. Default None, no limit.
            retry_failed: Ask rows again that failed in an earlier run. Default False: use the
                stored failure.
            include_stored: Also hand out results that were stored before. Default True.
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
            model: Name of the model. Optional where the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it
                altogether.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            extra_headers: Headers of this request only; they win over the client's.
            extra_body: Fields that only one server knows, such as llama-server's
                `chat_template_kwargs`; they win over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The count, in `.input_tokens`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
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

        A parameter that is left out or None is not sent, and the server's default holds. What each
        server honours is in protocol.md §3.

        Args:
            resume: How often, in this call, the rest of an answer is asked for after its
                connection broke; above 0 the answer is streamed. Default 0, never. See `stream`.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued.
                Default 0, never. See `stream`.
            model: Name of the model. Optional where the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            max_tokens: Required. Most tokens to generate, thinking included; at least 1. No upper
                limit is checked here.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it
                altogether.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            temperature: Sampling temperature, 0 to 1; a gateway may allow more. Documented default
                1; 0.8 on llama-server. The newest Claude models refuse it.
            top_p: Nucleus sampling, 0 to 1. Default 0.95 on llama-server. The newest Claude models
                refuse it.
            top_k: Sample from this many of the likeliest tokens, at least 1. Default 40 on
                llama-server. One of the advanced parameters of v7; undocumented for GGUF.
            stop_sequences: Texts that end the answer. Which one did is in `message.stop_sequence`,
                if the server says so.
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
            extra_headers: Headers of this request only; they win over the client's.
            extra_body: Fields that only one server knows, such as llama-server's
                `chat_template_kwargs`; they win over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The message: its text is in `.text`, its blocks in `.content`, its token counts in
            `.usage`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
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
            resume: How often, in this call, the rest of an answer is asked for after its stream
                broke. Default 0, never. What came is sent back as the last assistant turn, and the
                events go on where they stopped. Works for text, at servers that continue such a
                turn (`Endpoint.continues_prefill`); where the server does not, the failure that
                broke the stream is raised. `message.seams` says where it happened.
            continue_at_max_tokens: How often an answer that reached `max_tokens` is continued in
                the same way, each time with `max_tokens` more. Default 0, never.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the whole message at its end.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                What had arrived is in its `partial_message`.
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
        sync code, at the same time in async code. A refused answer runs nothing and ends the
        conversation. A forced `tool_choice` holds for the first request only.

        Args:
            max_turns: Most messages to ask for. Default 20.
            on_error: What to do when a tool fails: `"report"`, the default, tells the model;
                `"raise"` raises `ToolError`.
            on_cut: What to do with the calls of an answer that was cut off at `max_tokens` or the
                end of the context: `"report"`, the default, tells the model that they were not run;
                `"run"` runs those that arrived whole.
            params: The request: every parameter of `create`.

        Returns:
            The runner: iterate it for each message of the model, or call `get_final_message()`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
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
        """Create a message and return it with an output of a type in `.parsed`.

            message = await client.messages.parse(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            )
            print(message.parsed[0])

        Args:
            output: Required. Type to answer with, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to ask for it; default None, the endpoint's own. `"tool"`: the model calls
                a tool. `"response_format"`: the server's chat route, where llama-server constrains
                the model to the schema. `"output_config"`: what Anthropic and newer vLLM have for
                it. `"prompt"`: in words.
            validation_retries: How often an answer that does not fit is shown to the model and
                asked for again. Default 0.
            params: The request: every parameter of `create`.

        Returns:
            The message, with the output in `.parsed`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
            OutputTruncatedError: The answer was cut off at `max_tokens`.
            OutputRefusedError: The model refused.
            OutputInvalidError: The answer does not fit the type.
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
        """Stream an output of a type as it grows.

            async with client.messages.parse_stream(
                model="local",
                max_tokens=256,
                messages=[{"role": "user", "content": "Name three tidal rivers."}],
                output=list[str],
            ) as stream:
                async for rivers in stream.partial_stream:
                    print(rivers)

        Nothing is sent before the stream is entered, and a stream is not asked for again.

        Args:
            output: Required. Type to answer with, as pydantic reads it from JSON: a model,
                dataclass, TypedDict, list, union or Literal.
            strategy: How to ask for it; default None, the endpoint's own. `"tool"`: the model calls
                a tool. `"response_format"`: the server's chat route, where llama-server constrains
                the model to the schema. `"output_config"`: what Anthropic and newer vLLM have for
                it. `"prompt"`: in words.
            params: The request: every parameter of `create`.

        Returns:
            The stream; `get_final_message()` returns the whole message with the output in
            `.parsed`, and raises as `parse` does where there is none.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: Once the stream is entered: no usable response, or a stream that broke off.
                What had arrived is in its `partial_message`.
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
        """Ask many rows concurrently and return each result as soon as it is there.

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
        it again, and only what is missing is asked.

        Args:
            rows: Dicts of parameters for `create`, or records of any kind with `make`: a list, an
                iterator, a DataFrame (row by row, as dicts), in async code an async iterator too.
                They are taken one by one, as they are needed.
            make: Function that returns the parameters for a record. Default None: each row is its
                parameters.
            key: What names a row for good: a field or attribute, or a function of the row. Default:
                its position, which changes when rows are inserted.
            defaults: Parameters that all rows share; those of a row win. Default none.
            output: Type to answer with, as for `parse`; results then have `.parsed`. Default None.
            strategy: How to ask for it, as for `parse`. Default None, the endpoint's own.
            validation_retries: How often an answer that does not fit is asked for again. Default 0.
            store: File that stores the results, created or continued. Rows that it has an answer
                for are not asked again. Default None: nothing is stored.
            max_in_flight: Maximum number of rows in flight. Default 50.
            max_failures: End the run with `TooManyFailuresError` once this many of its rows have
                failed. Default None, no limit.
            retry_failed: Ask rows again that failed in an earlier run. Default False: use the
                stored failure.
            include_stored: Also hand out results that were stored before. Default True.
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
            model: Name of the model. Optional where the endpoint has a `default_model`, as `gguf()`
                and `llama_server()` do; a llama-server with one model ignores it.
            messages: Required. The conversation: turns with a `role` ("user" or "assistant") and
                `content`, replies of the model among them, or a `Conversation`.
            system: System prompt: a string, or text blocks, which llama-server joins without a
                separator.
            tools: Tools the model may call: functions decorated with `@tool`, or definitions. No
                two may have the same name.
            tool_choice: Whether the model may, must or must not call tools; by default it may.
                llama-server treats `tool` as `any` and ignores `none`; Ollama ignores it
                altogether.
            thinking: Whether the model thinks first, with a budget in tokens. llama-server reads
                only `enabled`; vLLM ignores it; v7 and GGUF do not document it.
            output_config: Effort, and the JSON schema of the answer. For Anthropic and newer vLLM;
                Ollama reads only the effort, llama-server nothing.
            cache_control: Cache the prompt up to its last block. Anthropic only; llama-server
                caches prefixes by itself.
            extra_headers: Headers of this request only; they win over the client's.
            extra_body: Fields that only one server knows, such as llama-server's
                `chat_template_kwargs`; they win over parameters of the same name.
            timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default:
                the client's `timeout`.

        Returns:
            The count, in `.input_tokens`.

        Raises:
            TypeError: An unknown parameter; the error says what it is called here.
            InvalidRequestError: A value that the protocol rules out; nothing was sent.
            APIError: No usable response: its subclasses tell a timeout, a lost connection and each
                refusal of the server apart. Retries are exhausted by then.
            UnsupportedOperationError: The server cannot count, as Ollama and some gateways
                (protocol.md §8).
        """
        return await arun(_calls.count_tokens(self._config, count_params(**params)), self._http)
