"""Answer by a script where a client would open a connection: no socket, no thread, no port.

Must not decide anything: what is answered comes as a `Plan` from `_routes`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING

import h11
import httpx

from .._sockets import bounded
from ._plan import Plan
from ._received import ReceivedRequest, receive
from ._script import Script
from ._scripted import KEY, Log, Scripted

if TYPE_CHECKING:
    from .._transport import DefaultAsyncHttpxClient, DefaultHttpxClient

__all__ = ["ScriptedTransport"]


class ScriptedTransport(Scripted, httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Be a Messages server inside the program: the transport of an `httpx` client of either colour.

    It answers whatever address is asked, by its path, as `LocalServer` does, and takes the same
    arguments; nothing has to be started or closed. Use `client()` and `async_client()`, or give
    it to a client of your own: `httpx.Client(transport=…)`, `httpx.AsyncClient(transport=…)`.

    Pauses are waited for, in async without holding up the event loop.
    """

    def __init__(
        self,
        script: Script = None,
        *,
        api_key: str | None = KEY,
        deployments: Mapping[str, str] | None = None,
        pause: float = 0.0,
    ) -> None:
        super().__init__(script, api_key=api_key, deployments=deployments, pause=pause)

    @property
    def url(self) -> str:
        """Return an origin that leads nowhere but into a transport."""
        return "http://scripted.test"

    def _connections(self) -> DefaultHttpxClient:
        from .._transport import DefaultHttpxClient

        return DefaultHttpxClient(transport=self)

    def _async_connections(self) -> DefaultAsyncHttpxClient:
        from .._transport import DefaultAsyncHttpxClient

        return DefaultAsyncHttpxClient(transport=self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()
        return self._answered(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await request.aread()
        return self._answered(request)

    def _answered(self, request: httpx.Request) -> httpx.Response:
        plan = self._respond(_received(request))
        try:
            head = h11.Response(status_code=plan.status, headers=list(plan.headers.items()))
        except h11.LocalProtocolError as error:  # a scripted header that HTTP does not allow
            self._log.errors.append(error)
            raise httpx.RemoteProtocolError(
                "Server disconnected without sending a response.", request=request
            ) from None
        body = _Body(plan, self._log, request)
        return httpx.Response(head.status_code, headers=list(head.headers), stream=body)


def _received(request: httpx.Request) -> ReceivedRequest:
    return receive(
        request.method,
        request.url.raw_path.decode("latin-1"),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
        request.content,
    )


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Play the chunks of a plan to one client. No generators: one left early needs closing."""

    def __init__(self, plan: Plan, log: Log, request: httpx.Request) -> None:
        self._chunks = list(reversed(plan.chunks))
        self._log = log
        self._request = request
        self._silence: float | None = request.extensions.get("timeout", {}).get("read")
        """The longest the client waits for the next byte."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._chunks:
            raise StopIteration
        chunk = self._chunks.pop()
        if chunk.pause:
            silence = bounded(self._silence, httpx.ReadTimeout)  # a deadline may come first
            time.sleep(_shorter(chunk.pause, silence))
            self._bear(chunk.pause, silence)
        return chunk.data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        chunk = self._chunks.pop()
        if chunk.pause:
            import anyio  # where httpx is, so is anyio

            await anyio.sleep(_shorter(chunk.pause, self._silence))
            self._bear(chunk.pause, self._silence)
        return chunk.data

    def _bear(self, pause: float, silence: float | None) -> None:
        if silence is not None and pause > silence:
            raise httpx.ReadTimeout("timed out", request=self._request)

    def close(self) -> None:
        self._log.disconnects += bool(self._chunks)
        self._chunks.clear()

    async def aclose(self) -> None:
        self.close()


def _shorter(pause: float, silence: float | None) -> float:
    return pause if silence is None else min(pause, silence)
