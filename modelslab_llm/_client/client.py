"""Define the clients `ModelsLab` and `AsyncModelsLab`, and their `ClientSpec`.

Nothing is decided here: a method builds a call, and the drivers run it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType

from typing_extensions import Self, Unpack

from .._hints import HintsAtNames
from .._http.drive import adrive, drive
from .._http.line import Lines
from .._http.wire import AsyncHTTPClient, AsyncWire, HTTPClient, Wire
from .._http.wires import awire_of, wire_of
from .._protocol.config import Config, Options
from .._protocol.flow import Flow
from .._protocol.ready import until_ready
from .._protocol.spec import Spec, StaysInProcess
from ..endpoints import Endpoint
from ..errors import ConfigurationError
from .messages import AsyncMessages, Messages
from .models import AsyncModels, Models
from .takes import changed_options, client_options, takes


def _shown(client: ModelsLab | AsyncModelsLab) -> str:
    # Crash reports also show a client whose construction failed.
    is_built = hasattr(client, "_config")
    where = f"base_url={client.endpoint.base_url!r}" if is_built else "not built"
    return f"{type(client).__name__}({where})"


class ModelsLab(StaysInProcess, HintsAtNames):
    """A client for a server that speaks the Messages format.

        client = ModelsLab(endpoint=endpoints.gguf("dep_123"), max_retries=4)

    Share one client across your whole program; it owns a connection pool and is thread-safe.
    Close it with `close()` or `with`.

    Args:
        api_key: The key. Default: the environment variable `MODELSLAB_API_KEY`. A server with
            `auth=None` needs none.
        endpoint: The server, from `modelslab_llm.endpoints`. Default: that of `base_url` or
            `deployment_id` (pass at most one of the three), then that of `MODELSLAB_BASE_URL` or
            `MODELSLAB_DEPLOYMENT_ID`, then the ModelsLab v7 API.
        base_url: URL of the server, with or without `/v1`; ModelsLab's own addresses are
            recognized, any other is a gateway. Default None.
        deployment_id: ID of a GGUF deployment. Default None.
        http_client: An `httpx.Client` or `httpx2.Client` to send with; you close it yourself.
            Default: the package's own connections.
        timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default: 600
            to read, 60 to write, 5 to connect.
        deadline: Total time budget of a call in seconds: retries, backoff and the whole stream.
            Default None, no limit.
        progress_timeout: Seconds a stream may go without content before it counts as stalled; pings
            and comments are not content. Default None, no limit.
        max_retries: How often a failed call is retried. Default 2.
        max_retry_wait: Longest wait in seconds that a server may ask for before a retry; if it asks
            for more, the call fails. Default 60.
        default_headers: Headers of every request; they take precedence over the package's own.
            Default none.
        max_response_bytes: Maximum size in bytes of one response, streamed or not, and of one
            event. Default 64 MiB.
        observers: Observers that are notified of each call, attempt, retry and outcome. Default
            none.
        budget: The total budget of all calls; once it is spent, the next call raises
            `BudgetSpentError`. Default None, no limit.
        flow_control: Whether calls queue once the server refuses some of them (429, 529). Default
            True.
        max_concurrency: Maximum number of calls in flight, open streams included. Default None, no
            limit.
        max_queue_wait: Seconds a call may wait in the queue; None for no limit. Default 600.

    Raises:
        ConfigurationError: A value that cannot be, no key where one is needed, or two arguments
            that name different servers.
        TypeError: An unknown option; the error says what it is called here.
    """

    messages: Messages
    """`create`, `stream`, `parse`, `parse_stream`, `run_tools`, `bulk` and `count_tokens`."""
    models: Models
    """`list`."""

    @takes("OptionTakes")
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
                **client_options(**options),
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
        """The server that this client talks to."""
        return self._config.endpoint

    @property
    def flow(self) -> Flow:
        """The current flow control state of this client and its copies; see `Flow`."""
        return self._config.flow

    @takes("ChangeTakes")
    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a client with other options on the same connections.

            patient = client.with_options(deadline=None, max_retries=5)

        Closing the copy leaves the connections open.

        Args:
            options: The options to change: every option of the client, as its constructor takes
                them, from `timeout` to `max_queue_wait`. Those left out stay as they are.

        Returns:
            The copy.

        Raises:
            ConfigurationError: A value is invalid.
            TypeError: An unknown option, or one that only the constructor takes, such as `api_key`.
        """
        copy = object.__new__(type(self))
        config = self._config.changed(**changed_options(**options))
        copy._set(config, self._http, closes=False, has_own_http=self._has_own_http)
        return copy

    def __copy__(self) -> Self:
        return self.with_options()

    def spec(self) -> ClientSpec:
        """Return the settings of this client without its key, to send to other processes.

        Returns:
            A small value that can be pickled.

        Raises:
            ConfigurationError: Something cannot be sent: an `http_client`, a `budget`, an
                observer that holds a lock or a connection.
        """
        return ClientSpec.of(self._config, has_own_http=self._has_own_http)

    def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait until the server has loaded its model.

        Returns immediately if it has. A deployment that is `deploying`, unreachable or loading is
        polled: after half a second at first, every five seconds later.

        Args:
            timeout: Total time budget in seconds. Default 600.

        Raises:
            APIError: The last failure, when the time is over; immediately for a deployment that is
                `paused`, a wrong key, or a 404; after ten seconds for an unresolvable hostname.
        """
        config = self._config.changed(deadline=timeout)
        drive(until_ready(config, time.monotonic), self._http)

    def close(self) -> None:
        """Close the connections, except those of an `http_client` you passed or of the original."""
        if self._closes:
            try:
                self._http.close()
            finally:
                self._lines.close()  # calls that wait in it find the wire closed

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
    """An async client for a server that speaks the Messages format, on asyncio or trio.

        client = AsyncModelsLab(endpoint=endpoints.gguf("dep_123"), max_retries=4)

    Share one client across your whole program; it owns a connection pool and can be used in several
    `asyncio.run` calls. Close it with `await close()` or `async with`.

    Args:
        api_key: The key. Default: the environment variable `MODELSLAB_API_KEY`. A server with
            `auth=None` needs none.
        endpoint: The server, from `modelslab_llm.endpoints`. Default: that of `base_url` or
            `deployment_id` (pass at most one of the three), then that of `MODELSLAB_BASE_URL` or
            `MODELSLAB_DEPLOYMENT_ID`, then the ModelsLab v7 API.
        base_url: URL of the server, with or without `/v1`; ModelsLab's own addresses are
            recognized, any other is a gateway. Default None.
        deployment_id: ID of a GGUF deployment. Default None.
        http_client: An `httpx.AsyncClient` or `httpx2.AsyncClient` to send with; you close it
            yourself. Default: the package's own connections.
        timeout: Per-operation timeout in seconds, or a `Timeout`; None for no limit. Default: 600
            to read, 60 to write, 5 to connect.
        deadline: Total time budget of a call in seconds: retries, backoff and the whole stream.
            Default None, no limit.
        progress_timeout: Seconds a stream may go without content before it counts as stalled; pings
            and comments are not content. Default None, no limit.
        max_retries: How often a failed call is retried. Default 2.
        max_retry_wait: Longest wait in seconds that a server may ask for before a retry; if it asks
            for more, the call fails. Default 60.
        default_headers: Headers of every request; they take precedence over the package's own.
            Default none.
        max_response_bytes: Maximum size in bytes of one response, streamed or not, and of one
            event. Default 64 MiB.
        observers: Observers that are notified of each call, attempt, retry and outcome. Default
            none.
        budget: The total budget of all calls; once it is spent, the next call raises
            `BudgetSpentError`. Default None, no limit.
        flow_control: Whether calls queue once the server refuses some of them (429, 529). Default
            True.
        max_concurrency: Maximum number of calls in flight, open streams included. Default None, no
            limit.
        max_queue_wait: Seconds a call may wait in the queue; None for no limit. Default 600.

    Raises:
        ConfigurationError: A value that cannot be, no key where one is needed, or two arguments
            that name different servers.
        TypeError: An unknown option; the error says what it is called here.
    """

    messages: AsyncMessages
    """`create`, `stream`, `parse`, `parse_stream`, `run_tools`, `bulk` and `count_tokens`."""
    models: AsyncModels
    """`list`."""

    @takes("OptionTakes")
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
                **client_options(**options),
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
        """The server that this client talks to."""
        return self._config.endpoint

    @property
    def flow(self) -> Flow:
        """The current flow control state of this client and its copies; see `Flow`."""
        return self._config.flow

    @takes("ChangeTakes")
    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return a client with other options on the same connections.

            patient = client.with_options(deadline=None, max_retries=5)

        Closing the copy leaves the connections open.

        Args:
            options: The options to change: every option of the client, as its constructor takes
                them, from `timeout` to `max_queue_wait`. Those left out stay as they are.

        Returns:
            The copy.

        Raises:
            ConfigurationError: A value is invalid.
            TypeError: An unknown option, or one that only the constructor takes, such as `api_key`.
        """
        copy = object.__new__(type(self))
        config = self._config.changed(**changed_options(**options))
        copy._set(config, self._http, closes=False, has_own_http=self._has_own_http)
        return copy

    def __copy__(self) -> Self:
        return self.with_options()

    def spec(self) -> ClientSpec:
        """Return the settings of this client without its key, to send to other processes.

        Returns:
            A small value that can be pickled.

        Raises:
            ConfigurationError: Something cannot be sent: an `http_client`, a `budget`, an
                observer that holds a lock or a connection.
        """
        return ClientSpec.of(self._config, has_own_http=self._has_own_http)

    async def wait_until_ready(self, timeout: float = 600.0) -> None:
        """Wait until the server has loaded its model.

        Returns immediately if it has. A deployment that is `deploying`, unreachable or loading is
        polled: after half a second at first, every five seconds later.

        Args:
            timeout: Total time budget in seconds. Default 600.

        Raises:
            APIError: The last failure, when the time is over; immediately for a deployment that is
                `paused`, a wrong key, or a 404; after ten seconds for an unresolvable hostname.
        """
        config = self._config.changed(deadline=timeout)
        await adrive(until_ready(config, time.monotonic), self._http)

    async def close(self) -> None:
        """Close the connections, except those of an `http_client` you passed or of the original."""
        if self._closes:
            try:
                await self._http.aclose()
            finally:
                self._lines.close()  # calls that wait in it find the wire closed

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
    """The settings of a client without its key: a small value that can be pickled.

    Create it with `client.spec()`, or from the arguments of a client if there is no key. Send it to
    a worker of Ray, Dask, Daft or `multiprocessing`, and build the client there:

        spec = ModelsLab("a-key", max_concurrency=5).spec()
        client = spec.client()              # in the worker; the key is in its MODELSLAB_API_KEY

    It contains the endpoint, all options and the observers. It does not contain the key, or headers
    of `default_headers` with a credential (`withheld` lists them). Specs compare by value and are
    hashable, so that a worker can keep one client per spec.

    Args:
        endpoint: The server, as for `ModelsLab`.
        base_url: URL of the server, as for `ModelsLab`.
        deployment_id: A GGUF deployment, as for `ModelsLab`.
        options: Every option of `ModelsLab`.

    Raises:
        ConfigurationError: A value is invalid, or cannot be sent to another process.
    """

    __slots__ = ()

    @takes("ChangeTakes")
    def client(
        self,
        api_key: str | None = None,
        *,
        http_client: HTTPClient | None = None,
        **options: Unpack[Options],
    ) -> ModelsLab:
        """Build a sync client in this process.

        Args:
            api_key: The key. Default: that of `MODELSLAB_API_KEY` in this process.
            http_client: An HTTP client of this process, which you close yourself. Default: the
                package's own connections.
            options: Options that replace those of the spec, as `ModelsLab` takes them;
                `default_headers` are added to those of the spec.

        Returns:
            The client.

        Raises:
            ConfigurationError: The key, or a header that was withheld, is missing.
        """
        try:
            arguments = self.arguments(api_key, changed_options(**options))
            return ModelsLab(api_key, http_client=http_client, **arguments)
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame

    @takes("ChangeTakes")
    def async_client(
        self,
        api_key: str | None = None,
        *,
        http_client: AsyncHTTPClient | None = None,
        **options: Unpack[Options],
    ) -> AsyncModelsLab:
        """Build an async client in this process.

        Args:
            api_key: The key. Default: that of `MODELSLAB_API_KEY` in this process.
            http_client: An HTTP client of this process, which you close yourself. Default: the
                package's own connections.
            options: Options that replace those of the spec, as `ModelsLab` takes them;
                `default_headers` are added to those of the spec.

        Returns:
            The client.

        Raises:
            ConfigurationError: The key, or a header that was withheld, is missing.
        """
        try:
            arguments = self.arguments(api_key, changed_options(**options))
            return AsyncModelsLab(api_key, http_client=http_client, **arguments)
        except (ConfigurationError, TypeError) as error:
            raise error.with_traceback(None) from None
        finally:
            del api_key, options  # crash reports show the variables of a frame


takes("OptionTakes")(ClientSpec.__init__)
