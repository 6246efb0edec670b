"""What `LocalServer` and `ScriptedTransport` have in common: a script, and a record of requests.

Must not carry a byte: what is answered comes as a `Plan` from `answer`, and the two send it.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
from typing_extensions import Unpack

from ... import endpoints
from ..._client.takes import takes
from .._dialect.dialects import DialectName, dialect_named
from .._script.received import ReceivedRequest
from .._script.script import ErrorReply, Replies, Script
from .answer import ListedModels, Rules, answer
from .plan import Plan

if TYPE_CHECKING:  # what a test that brings its own client need not load
    from ..._client.client import AsyncModelsLab, ModelsLab
    from ..._protocol.config import Options

__all__ = ["KEY", "UNSENDABLE", "Log", "Scripted", "async_client_on", "client_on"]

KEY = "local-test-key"

UNSENDABLE = (h11.LocalProtocolError, UnicodeEncodeError, TypeError)
"""What h11 raises for a header that HTTP does not allow, is not ASCII, or is not text."""


@dataclass
class Log:
    """Hold what was seen, and what went wrong with the script, oldest first."""

    errors: list[BaseException]
    requests: list[ReceivedRequest] = field(default_factory=list[ReceivedRequest])
    disconnects: int = 0


class Scripted(ABC):
    """Answer by a script, and keep what was asked; how the bytes travel is for the subclasses."""

    def __init__(
        self,
        script: Script = None,
        *,
        api_key: str | None = KEY,
        deployments: Mapping[str, str] | None = None,
        pause: float = 0.0,
        dialect: DialectName = "anthropic",
        token_count: int | ErrorReply | None = None,
        models: ListedModels = None,
    ) -> None:
        self.dialect = dialect
        self.token_count = token_count
        """The answer of `count_tokens`; `None`: the number of words in the prompt."""
        self.models = models
        """The list of models: names, or a complete body; `None`: a built-in list."""
        self.api_key: str | None = api_key
        """The key to accept; `None` accepts any key, or none."""
        self.deployments: dict[str, str] = dict(deployments or {})
        """The states of GGUF deployments by ID."""
        self._any_deployment = deployments is None
        self._replies = Replies(script, pause=pause)
        self._log = Log(self._replies.errors)
        # A script is asked by one call at a time; it may itself make a call, hence the R.
        self._one_at_a_time = threading.RLock()

    # Where it is

    @property
    @abstractmethod
    def url(self) -> str:
        """Return the origin of its addresses."""

    def llm_v7(self) -> endpoints.Endpoint:
        """Return this server as the v7 endpoint."""
        return endpoints.llm_v7(origin=self.url)

    def gguf(self, deployment_id: str) -> endpoints.Endpoint:
        """Return this server as the endpoint of a GGUF deployment.

        Args:
            deployment_id: The ID of the deployment; any will do.

        Returns:
            The endpoint.
        """
        return endpoints.gguf(deployment_id, origin=self.url)

    def gateway(self, auth: endpoints.Auth | None = "bearer") -> endpoints.Endpoint:
        """Return this server as a gateway, whose base has a path prefix.

        Args:
            auth: The header that carries the key. Default `"bearer"`.

        Returns:
            The endpoint.
        """
        return endpoints.gateway(f"{self.url}/gateway", auth=auth)

    # Clients for it

    @takes("OptionTakes")
    def client(
        self,
        api_key: str | None = None,
        *,
        endpoint: endpoints.Endpoint | None = None,
        deployment_id: str | None = None,
        **options: Unpack[Options],
    ) -> ModelsLab:
        """Return a client of this server.

        Closing it closes its connections, not the server.

        Args:
            api_key: The key. Default: the server's own.
            endpoint: The endpoint of this server to talk to. Default: `llm_v7()`.
            deployment_id: A GGUF deployment of this server to talk to instead. Default None.
            options: Every option of `ModelsLab`.

        Returns:
            The client.
        """
        key, where = self._who_and_where(api_key, endpoint, deployment_id)
        return client_on(self._way_here, key, where, **options)

    @takes("OptionTakes")
    def async_client(
        self,
        api_key: str | None = None,
        *,
        endpoint: endpoints.Endpoint | None = None,
        deployment_id: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncModelsLab:
        """Return an async client of this server.

        Closing it closes its connections, not the server.

        Args:
            api_key: The key. Default: the server's own.
            endpoint: The endpoint of this server to talk to. Default: `llm_v7()`.
            deployment_id: A GGUF deployment of this server to talk to instead. Default None.
            options: Every option of `ModelsLab`.

        Returns:
            The client.
        """
        key, where = self._who_and_where(api_key, endpoint, deployment_id)
        return async_client_on(self._way_here, key, where, **options)

    def _who_and_where(
        self,
        api_key: str | None,
        endpoint: endpoints.Endpoint | None,
        deployment_id: str | None,
    ) -> tuple[str, endpoints.Endpoint]:
        if endpoint is not None and deployment_id is not None:
            raise TypeError("endpoint and deployment_id each name a server: pass only one")
        if deployment_id is not None:
            endpoint = self.gguf(deployment_id)
        return api_key or self.api_key or KEY, endpoint or self.llm_v7()

    @property
    @abstractmethod
    def _way_here(self) -> Mapping[str, Any]:
        """The settings of the httpx clients that are led here."""

    # What it says

    @property
    def script(self) -> Script:
        """The answers of `POST …/v1/messages`. A new script starts with its first answer."""
        return self._replies.script

    @script.setter
    def script(self, script: Script) -> None:
        with self._one_at_a_time:
            self._replies.script = script

    @property
    def pause(self) -> float:
        """Seconds between the events of streams that do not come from a `Reply`."""
        return self._replies.pause

    @pause.setter
    def pause(self, seconds: float) -> None:
        self._replies.pause = seconds

    @property
    def dialect(self) -> DialectName:
        """The server to emulate."""
        return self._dialect

    @dialect.setter
    def dialect(self, name: DialectName) -> None:
        self._speaks = dialect_named(name)
        self._dialect: DialectName = name

    def _respond(self, request: ReceivedRequest) -> Plan:
        with self._one_at_a_time:
            self._log.requests.append(request)
            rules = Rules(
                self.api_key,
                self.deployments,
                self._any_deployment,
                self._speaks,
                self.token_count,
                self.models,
            )
            return answer(request, self._replies, rules, number=len(self._log.requests))

    @abstractmethod
    def refusing(self) -> AbstractContextManager[None]:
        """Refuse every connection during the `with` block, like a server that is down."""

    # What it saw

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Return a new list of all requests so far, in order of arrival."""
        return self._log.requests.copy()

    @property
    def disconnects(self) -> int:
        """Return the number of clients that disconnected before the end of their response.

        A real server notices this a moment after the client has closed. A short stream without
        pauses is written at once, so no client can leave it early. In a transport, both are exact.
        """
        return self._log.disconnects

    @property
    def script_errors(self) -> list[BaseException]:
        """Return the errors of the script, oldest first: exceptions of functions, and answers that
        cannot be sent.

        Those calls were answered with status 500 and the reason.
        """
        return self._log.errors.copy()

    # What a test says of it

    @property
    def _calls(self) -> list[ReceivedRequest]:
        return [request for request in self.requests if request.is_message_call]

    def assert_called(self, **fields: object) -> ReceivedRequest:
        """Fail unless the last message call has these fields.

        Args:
            fields: The expected fields, as for `ReceivedRequest.assert_has`.

        Returns:
            The request.

        Raises:
            AssertionError: It differs; the error shows the difference, and no key.
        """
        __tracebackhide__ = True
        if not self._calls:
            raise AssertionError(f"there was no message call; {_listed(self.requests)}")
        last = self._calls[-1]
        last.assert_has(**fields)
        return last

    def assert_called_once(self, **fields: object) -> ReceivedRequest:
        """Fail unless there was one message call, with these fields.

        A retry counts as a call.

        Args:
            fields: The expected fields, as for `ReceivedRequest.assert_has`.

        Returns:
            The request.

        Raises:
            AssertionError: It differs, or there were none or several.
        """
        __tracebackhide__ = True
        if len(self._calls) > 1:
            raise AssertionError(
                f"{len(self._calls)} message calls were made: {_listed(self.requests)}"
            )
        return self.assert_called(**fields)

    def assert_not_called(self) -> None:
        """Fail if there was a message call."""
        __tracebackhide__ = True
        if self._calls:
            raise AssertionError(f"there was a message call: {_listed(self.requests)}")

    def assert_script_used(self) -> None:
        """Fail unless every answer of the script was used, and there were no further calls.

        It also fails if a script function raised, or an answer could not be sent. A script that is
        not a list must have been used at least once.
        """
        __tracebackhide__ = True
        for error in self.script_errors:
            raise AssertionError(f"the script raised {type(error).__name__}: {error}") from error
        if words := self._replies.unused():
            raise AssertionError(words)


def client_on(
    settings: Mapping[str, Any],
    api_key: str,
    endpoint: endpoints.Endpoint,
    **options: Unpack[Options],
) -> ModelsLab:
    """Return a client with its own connections and these settings of `httpx.Client`.

    A client that is given connections leaves them open; this one closes them.
    """
    from ..._client.client import ModelsLab
    from ..._http.clients import DefaultHttpxClient

    http = DefaultHttpxClient(**settings)
    client = ModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client


def async_client_on(
    settings: Mapping[str, Any],
    api_key: str,
    endpoint: endpoints.Endpoint,
    **options: Unpack[Options],
) -> AsyncModelsLab:
    """Return a client with its own connections; `client_on` for async."""
    from ..._client.client import AsyncModelsLab
    from ..._http.clients import DefaultAsyncHttpxClient

    http = DefaultAsyncHttpxClient(**settings)
    client = AsyncModelsLab(api_key, endpoint=endpoint, http_client=http, **options)
    client._closes = True  # pyright: ignore[reportPrivateUsage]
    return client


def _listed(requests: list[ReceivedRequest]) -> str:
    if not requests:
        return "there was no request at all"
    return "the requests were\n" + "\n".join(
        f"  {number}. {request.method} {request.path}"
        + (f" {request.model}: {_beginning(request)}" if request.is_message_call else "")
        for number, request in enumerate(requests, 1)
    )


def _beginning(request: ReceivedRequest) -> str:
    return repr(request.hide_keys(request.text)[:60])
