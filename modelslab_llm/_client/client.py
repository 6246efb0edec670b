"""What users hold: `ModelsLab`, `AsyncModelsLab` and their `ClientSpec`, a line an operation.

Nothing is decided here: a method makes a call, and the drivers run it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType

from typing_extensions import Self, Unpack

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._http.httpx_wire import awire_of, wire_of
from .._http.line import Lines
from .._http.wire import AsyncHTTPClient, AsyncWire, HTTPClient, Wire
from .._protocol.config import Config, Options
from .._protocol.flow import Flow
from .._protocol.ready import until_ready
from .._protocol.spec import Spec, StaysInProcess
from ..endpoints import Endpoint
from ..errors import ConfigurationError
from .messages import AsyncMessages, Messages
from .models import AsyncModels, Models


def _shown(client: ModelsLab | AsyncModelsLab) -> str:
    # Crash reports also show a client whose construction failed.
    is_built = hasattr(client, "_config")
    where = f"base_url={client.endpoint.base_url!r}" if is_built else "not built"
    return f"{type(client).__name__}({where})"


class ModelsLab(StaysInProcess, HintsAtNames):
    """Talk to a server of the Messages format. One client serves many threads.

    Without arguments it is the ModelsLab v7 API with the key of `MODELSLAB_API_KEY`. Name another
    server by one of `endpoint` (from `modelslab_llm.endpoints`), `base_url` or `deployment_id`;
    without them `MODELSLAB_BASE_URL` or `MODELSLAB_DEPLOYMENT_ID` do. `http_client` is an
    `httpx.Client` or `httpx2.Client` of your own, which you close yourself. Raises
    `ConfigurationError`.
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
        http_client: HTTPClient | None = None,
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
        self._lines = Lines()
        config = replace(config, lines=self._lines)
        wire = wire_of(http_client)
        self._set(config, wire, closes=http_client is None, has_own_http=http_client is not None)

    def _set(self, config: Config, http: Wire, *, closes: bool, has_own_http: bool) -> None:
        self._config = config
        self._http = http
        self._closes = closes
        self._has_own_http = has_own_http
        self.messages = Messages(config, http)
        self.models = Models(config, http)

    @property
    def endpoint(self) -> Endpoint:
        """The server this client talks to."""
        return self._config.endpoint

    @property
    def flow(self) -> Flow:
        """How the calls of this client and its copies flow now: see `Flow`."""
        return self._config.flow

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a changed copy on the same connections; closing it leaves them open.

        Raises `ConfigurationError` for a value that cannot be, `TypeError` for an unknown name.
        """
        copy = object.__new__(type(self))
        config = self._config.changed(**options)
        copy._set(config, self._http, closes=False, has_own_http=self._has_own_http)
        return copy

    def __copy__(self) -> Self:
        return self.with_options()

    def spec(self) -> ClientSpec:
        """Return what this client is set to, without its key, to be sent to other processes.

        Raises `ConfigurationError` for what cannot be sent: an `http_client`, an observer that
        holds a lock or a connection.
        """
        return ClientSpec.of(self._config, has_own_http=self._has_own_http)

    def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait, at most `timeout` seconds, until the server has its model loaded.

        Returns at once if it has. While a deployment is `deploying`, unreachable or loading it is
        asked again, every half second at first and every five later. Raises the last failure when
        there is no time for another try, at once for `paused`, a wrong key, or a 404, and after ten
        seconds for a host name that nobody knows.
        """
        config = self._config.changed(deadline=timeout)
        drive(until_ready(config, time.monotonic), self._http)

    def close(self) -> None:
        """Close the connections, unless they belong to a client you passed, or to the original."""
        if self._closes:
            try:
                self._http.close()
            finally:
                self._lines.close()  # whoever waits in it finds the wire closed

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


class AsyncModelsLab(StaysInProcess, HintsAtNames):
    """Talk to a server of the Messages format from async code, on asyncio or trio.

    It takes what `ModelsLab` takes, but an `httpx.AsyncClient` or `httpx2.AsyncClient`. One client
    lives through several `asyncio.run` calls.
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
        http_client: AsyncHTTPClient | None = None,
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
        self._lines = Lines()
        config = replace(config, lines=self._lines)
        wire = awire_of(http_client)
        self._set(config, wire, closes=http_client is None, has_own_http=http_client is not None)

    def _set(self, config: Config, http: AsyncWire, *, closes: bool, has_own_http: bool) -> None:
        self._config = config
        self._http = http
        self._closes = closes
        self._has_own_http = has_own_http
        self.messages = AsyncMessages(config, http)
        self.models = AsyncModels(config, http)

    @property
    def endpoint(self) -> Endpoint:
        """The server this client talks to."""
        return self._config.endpoint

    @property
    def flow(self) -> Flow:
        """How the calls of this client and its copies flow now: see `Flow`."""
        return self._config.flow

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a changed copy on the same connections; closing it leaves them open.

        Raises `ConfigurationError` for a value that cannot be, `TypeError` for an unknown name.
        """
        copy = object.__new__(type(self))
        config = self._config.changed(**options)
        copy._set(config, self._http, closes=False, has_own_http=self._has_own_http)
        return copy

    def __copy__(self) -> Self:
        return self.with_options()

    def spec(self) -> ClientSpec:
        """Return what this client is set to, without its key, to be sent to other processes.

        Raises `ConfigurationError` for what cannot be sent: an `http_client`, an observer that
        holds a lock or a connection.
        """
        return ClientSpec.of(self._config, has_own_http=self._has_own_http)

    async def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait, at most `timeout` seconds, until the server has its model loaded.

        Returns at once if it has. While a deployment is `deploying`, unreachable or loading it is
        asked again, every half second at first and every five later. Raises the last failure when
        there is no time for another try, at once for `paused`, a wrong key, or a 404, and after ten
        seconds for a host name that nobody knows.
        """
        config = self._config.changed(deadline=timeout)
        await adrive(until_ready(config, time.monotonic), self._http)

    async def close(self) -> None:
        """Close the connections, unless they belong to a client you passed, or to the original."""
        if self._closes:
            try:
                await self._http.aclose()
            finally:
                self._lines.close()  # whoever waits in it finds the wire closed

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


class ClientSpec(Spec):
    """What a client is set to, without its key: a small value that pickles.

    Make it with `client.spec()`, or of the arguments of a client where no key is at hand. Send it
    to a worker of Ray, Dask, Daft or `multiprocessing`, and build the client there:

        spec = ModelsLab("a-key", max_concurrency=5).spec()
        client = spec.client()              # in the worker, with the key of MODELSLAB_API_KEY

    It carries the endpoint, all options and the observers, and neither the key nor a header of
    `default_headers` that holds a credential (`withheld` names them). Equal specs are equal and
    have one hash, so that a worker can keep one client for each.

    Raises `ConfigurationError` for what cannot be sent to another process.
    """

    __slots__ = ()

    def client(
        self,
        api_key: str | None = None,
        *,
        http_client: HTTPClient | None = None,
        **options: Unpack[Options],
    ) -> ModelsLab:
        """Build a sync client in this process.

        Args:
            api_key: The key; by default that of `MODELSLAB_API_KEY` in this process.
            http_client: An HTTP client of this process, which you close yourself.
            **options: Options that are to differ; `default_headers` are added to those of the spec.

        Raises:
            ConfigurationError: Without a key, or without a header that was withheld.
        """
        try:
            arguments = self.arguments(api_key, options)
            return ModelsLab(api_key, http_client=http_client, **arguments)
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame

    def async_client(
        self,
        api_key: str | None = None,
        *,
        http_client: AsyncHTTPClient | None = None,
        **options: Unpack[Options],
    ) -> AsyncModelsLab:
        """Build an async client in this process.

        Args:
            api_key: The key; by default that of `MODELSLAB_API_KEY` in this process.
            http_client: An HTTP client of this process, which you close yourself.
            **options: Options that are to differ; `default_headers` are added to those of the spec.

        Raises:
            ConfigurationError: Without a key, or without a header that was withheld.
        """
        try:
            arguments = self.arguments(api_key, options)
            return AsyncModelsLab(api_key, http_client=http_client, **arguments)
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame
