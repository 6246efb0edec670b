"""What users hold: `ModelsLab` and `AsyncModelsLab`, one line for each operation.

Nothing is decided here: a method makes a call, and the drivers run it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import httpx
from typing_extensions import Self, TypeForm, Unpack

import modelslab_llm  # loads late what few programs use, and then `get_type_hints` finds it here

from . import _calls
from ._calls import Call
from ._config import Config, Options
from ._drive import adrive, drive
from ._exchange import all_models, exchange, until_ready
from ._foreign import proxies_of_the_environment
from ._http_clients import DefaultAsyncHttpxClient, DefaultHttpxClient
from ._moved import HintsAtNames
from ._reader import Opened
from ._stream import AsyncMessageStream, MessageStream
from .endpoints import Endpoint
from .errors import ConfigurationError
from .types.events import Event
from .types.message import Message, TokenCount
from .types.models import ModelList
from .types.requests import CountTokensParams, MessageParams

if TYPE_CHECKING:  # what few programs use is loaded by the methods that need it
    from ._output import Asked

T = TypeVar("T")


def _shown(client: ModelsLab | AsyncModelsLab) -> str:
    # Crash reports also show a client whose construction failed.
    is_built = hasattr(client, "_session")
    where = f"base_url={client.endpoint.base_url!r}" if is_built else "not built"
    return f"{type(client).__name__}({where})"


class _Session:
    """What the parts of one client share: its configuration and its connections."""

    def __init__(self, config: Config, http: httpx.Client) -> None:
        self.config = config
        self.http = http

    def open(self, call: Call[Message]) -> Opened[Iterator[Event]]:
        """Send a call that streams until its answer begins to come in."""
        return cast("Opened[Iterator[Event]]", self._send(call))

    def run(self, call: Call[T]) -> T:
        """Send a call that does not stream until it has its result."""
        return cast("T", self._send(call))

    def _send(self, call: Call[T]) -> T | Opened[Iterator[Event]]:
        flow = exchange(call, self.config, self.config.retry, time.monotonic)
        return drive(flow, self.http)


class ModelsLab(HintsAtNames):
    """Talk to a server of the Messages format. One client serves many threads.

    Without arguments it is the ModelsLab v7 API with the key of `MODELSLAB_API_KEY`. Name another
    server by one of `endpoint` (from `modelslab_llm.endpoints`), `base_url` or `deployment_id`;
    without them `MODELSLAB_BASE_URL` or `MODELSLAB_DEPLOYMENT_ID` do. `http_client` is an
    `httpx.Client` of your own, which you close yourself. Raises `ConfigurationError`.
    """

    messages: Messages
    """`create`, `stream`, `parse`, `parse_stream`, `run_tools` and `count_tokens`."""
    models: Models
    """`list`."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        http_client: httpx.Client | None = None,
        **options: Unpack[Options],
    ) -> None:
        try:
            config = Config.build(
                api_key=api_key,
                endpoint=endpoint,
                base_url=base_url,
                deployment_id=deployment_id,
                **options,
            )
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame
        if http_client is not None and not isinstance(http_client, httpx.Client):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                "http_client must be an httpx.Client; async has AsyncModelsLab"
            )
        with proxies_of_the_environment():
            http = http_client or DefaultHttpxClient()
        self._set(_Session(config, http), closes=http_client is None)

    def _set(self, session: _Session, *, closes: bool) -> None:
        self._session = session
        self._closes = closes
        self.messages = Messages(session)
        self.models = Models(session)

    @property
    def endpoint(self) -> Endpoint:
        """The server this client talks to."""
        return self._session.config.endpoint

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a changed copy on the same connections; closing it leaves them open.

        Raises `ConfigurationError` for a value that cannot be, `TypeError` for an unknown name.
        """
        copy = object.__new__(type(self))
        config = self._session.config.changed(**options)
        copy._set(_Session(config, self._session.http), closes=False)
        return copy

    def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait, at most `timeout` seconds, until the server has its model loaded.

        Returns at once if it has. While a deployment is `deploying`, unreachable or loading it is
        asked again, every half second at first and every five later. Raises the last failure when
        there is no time for another try, at once for `paused`, a wrong key, or a 404, and after ten
        seconds for a host name that nobody knows.
        """
        config = self._session.config.changed(deadline=timeout)
        drive(until_ready(config, time.monotonic), self._session.http)

    def close(self) -> None:
        """Close the connections, unless they belong to a client you passed, or to the original."""
        if self._closes:
            self._session.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return _shown(self)


class Messages(HintsAtNames):
    """The Messages operations of a `ModelsLab`."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def create(self, **params: Unpack[MessageParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return self._session.run(_calls.create_message(self._session.config, params))

    def stream(self, **params: Unpack[MessageParams]) -> MessageStream:
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
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.ToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        Nothing is sent before the runner is asked: iterate it, or take `get_final_message()`. At
        most `max_turns` messages are asked for. What goes wrong with a call is told to the model,
        or raised as `ToolError` with `on_error="raise"`. A forced `tool_choice` holds for the first
        request alone. Raises `InvalidRequestError` here.
        """
        from ._runner import ToolRunner
        from ._tool_loop import ToolLoop

        loop = ToolLoop(params, self._session.config.endpoint, max_turns, on_error)
        return ToolRunner(
            loop,
            lambda params: self.create(**cast("MessageParams", params)),
            lambda params: self.stream(**cast("MessageParams", params)),
        )

    def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        retries: int = 0,
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        `output` is any type pydantic can read from JSON: a model, a dataclass, a TypedDict, a
        list, a union, a Literal. `strategy` says how it is asked for: `"tool"` has the model call
        a tool, `"output_config"` and `"json_schema"` use what some servers have for it,
        `"prompt"` only asks. An answer that does not fit is shown to the model and asked for
        again, at most `retries` times.

        Raises `InvalidRequestError` or `APIError` as `create` does, and where there is an answer
        but no output: `OutputTruncatedError`, `OutputRefusedError`, `OutputInvalidError`.
        """
        from ._output import asked_for
        from ._parse import parsing

        session = self._session
        asked: Asked[T] = asked_for(output, strategy, params, session.config.endpoint)
        flow = parsing(session.config, asked, retries, time.monotonic)
        return drive(flow, session.http)

    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.ParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        from ._output import asked_for
        from ._parse import ParsedMessageStream

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


class Models:
    """The models operations of a `ModelsLab`."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        session = self._session
        flow = all_models(session.config, session.config.retry, time.monotonic)
        return drive(flow, session.http)


class _AsyncSession:
    """`_Session` for async."""

    def __init__(self, config: Config, http: httpx.AsyncClient) -> None:
        self.config = config
        self.http = http

    async def open(self, call: Call[Message]) -> Opened[AsyncIterator[Event]]:
        """Send a call that streams until its answer begins to come in."""
        return cast("Opened[AsyncIterator[Event]]", await self._send(call))

    async def run(self, call: Call[T]) -> T:
        """Send a call that does not stream until it has its result."""
        return cast("T", await self._send(call))

    async def _send(self, call: Call[T]) -> T | Opened[AsyncIterator[Event]]:
        flow = exchange(call, self.config, self.config.retry, time.monotonic)
        return await adrive(flow, self.http)


class AsyncModelsLab(HintsAtNames):
    """Talk to a server of the Messages format from async code, on asyncio or trio.

    It takes what `ModelsLab` takes, but an `httpx.AsyncClient`. One client lives through several
    `asyncio.run` calls.
    """

    messages: AsyncMessages
    """`create`, `stream`, `parse`, `parse_stream`, `run_tools` and `count_tokens`."""
    models: AsyncModels
    """`list`."""

    def __init__(
        self,
        api_key: str | None = None,
        *,
        endpoint: Endpoint | None = None,
        base_url: str | None = None,
        deployment_id: str | None = None,
        http_client: httpx.AsyncClient | None = None,
        **options: Unpack[Options],
    ) -> None:
        try:
            config = Config.build(
                api_key=api_key,
                endpoint=endpoint,
                base_url=base_url,
                deployment_id=deployment_id,
                **options,
            )
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame
        if http_client is not None and not isinstance(http_client, httpx.AsyncClient):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("http_client must be an httpx.AsyncClient; sync has ModelsLab")
        with proxies_of_the_environment():
            http = http_client or DefaultAsyncHttpxClient()
        self._set(_AsyncSession(config, http), closes=http_client is None)

    def _set(self, session: _AsyncSession, *, closes: bool) -> None:
        self._session = session
        self._closes = closes
        self.messages = AsyncMessages(session)
        self.models = AsyncModels(session)

    @property
    def endpoint(self) -> Endpoint:
        """The server this client talks to."""
        return self._session.config.endpoint

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a changed copy on the same connections; closing it leaves them open.

        Raises `ConfigurationError` for a value that cannot be, `TypeError` for an unknown name.
        """
        copy = object.__new__(type(self))
        config = self._session.config.changed(**options)
        copy._set(_AsyncSession(config, self._session.http), closes=False)
        return copy

    async def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait, at most `timeout` seconds, until the server has its model loaded.

        Returns at once if it has. While a deployment is `deploying`, unreachable or loading it is
        asked again, every half second at first and every five later. Raises the last failure when
        there is no time for another try, at once for `paused`, a wrong key, or a 404, and after ten
        seconds for a host name that nobody knows.
        """
        config = self._session.config.changed(deadline=timeout)
        await adrive(until_ready(config, time.monotonic), self._session.http)

    async def close(self) -> None:
        """Close the connections, unless they belong to a client you passed, or to the original."""
        if self._closes:
            await self._session.http.aclose()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return _shown(self)


class AsyncMessages(HintsAtNames):
    """The Messages operations of an `AsyncModelsLab`."""

    def __init__(self, session: _AsyncSession) -> None:
        self._session = session

    async def create(self, **params: Unpack[MessageParams]) -> Message:
        """Ask for an answer and return it whole. Raises `InvalidRequestError` or `APIError`."""
        return await self._session.run(_calls.create_message(self._session.config, params))

    def stream(self, **params: Unpack[MessageParams]) -> AsyncMessageStream:
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
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.AsyncToolRunner:
        """Run a conversation in which the model calls `tools`, until it answers without a call.

        All is as for the sync one, but that calls run at the same time.
        """
        from ._runner import AsyncToolRunner
        from ._tool_loop import ToolLoop

        loop = ToolLoop(params, self._session.config.endpoint, max_turns, on_error)
        return AsyncToolRunner(
            loop,
            lambda params: self.create(**cast("MessageParams", params)),
            lambda params: self.stream(**cast("MessageParams", params)),
        )

    async def parse(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        retries: int = 0,
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.ParsedMessage[T]:
        """Ask for an output of a type, and return the answer with it in `.parsed`.

        All is as for the sync one.
        """
        from ._output import asked_for
        from ._parse import parsing

        session = self._session
        asked: Asked[T] = asked_for(output, strategy, params, session.config.endpoint)
        flow = parsing(session.config, asked, retries, time.monotonic)
        return await adrive(flow, session.http)

    def parse_stream(
        self,
        *,
        output: TypeForm[T],
        strategy: modelslab_llm.Strategy = "tool",
        **params: Unpack[MessageParams],
    ) -> modelslab_llm.AsyncParsedMessageStream[T]:
        """Ask for an output and return it as it grows; the rest is as for `stream` and `parse`."""
        from ._output import asked_for
        from ._parse import AsyncParsedMessageStream

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


class AsyncModels:
    """The models operations of an `AsyncModelsLab`."""

    def __init__(self, session: _AsyncSession) -> None:
        self._session = session

    async def list(self) -> ModelList:
        """Return all models the server has, page after page. Raises `APIError`."""
        session = self._session
        flow = all_models(session.config, session.config.retry, time.monotonic)
        return await adrive(flow, session.http)


# Type checkers want an `output`. At run time its absence is left to `asked_for`, which can name the
# argument that was meant to be it.
for _verb in (
    Messages.parse,
    Messages.parse_stream,
    AsyncMessages.parse,
    AsyncMessages.parse_stream,
):
    _verb.__kwdefaults__ = {**(_verb.__kwdefaults__ or {}), "output": None}
