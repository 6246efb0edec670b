"""Answer by a script where a client would open a connection: no socket, no thread, no port.

Must not decide anything: what is answered comes as a `Plan` from `_routes`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import h11
import httpx

from ..._http.pace import bounded
from .._script.fault import Ending
from .._script.received import ReceivedRequest, receive
from .plan import Plan
from .scripted import UNSENDABLE, Log, Scripted

__all__ = ["ScriptedTransport"]


class ScriptedTransport(Scripted, httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A Messages server inside the program: the transport of an `httpx` client, sync or async.

    It answers at every address, by its path, as `LocalServer` does, and takes the same arguments.
    Nothing has to be started or closed. Use `client()` and `async_client()`, or pass it to your own
    client: `httpx.Client(transport=…)`, `httpx.AsyncClient(transport=…)`.

    Pauses take real time; in async code, they do not block the event loop.
    """

    _refusing = False

    @property
    def url(self) -> str:
        """Return an origin that leads nowhere but into a transport."""
        return "http://scripted.test"

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Refuse every connection during the `with` block, like a server that is down."""
        self._refusing = True
        try:
            yield
        finally:
            self._refusing = False

    @property
    def _way_here(self) -> Mapping[str, Any]:
        return {"transport": self}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        request.read()
        return self._answered(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await request.aread()
        return self._answered(request)

    def _answered(self, request: httpx.Request) -> httpx.Response:
        if self._refusing:
            raise _broken("refuse", request, begun=False)
        plan = self._respond(_received(request))
        body = _Body(plan, self._log, request)
        if not plan.status:
            body.end()
        try:
            head = h11.Response(status_code=plan.status, headers=list(plan.headers.items()))
        except UNSENDABLE as error:  # a scripted header that HTTP does not allow
            self._log.errors.append(error)
            raise _broken("cut", request, begun=False) from None
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
        self._plan = plan
        self._chunks = list(reversed(plan.chunks))
        self._log = log
        self._request = request
        self._silence: float | None = request.extensions.get("timeout", {}).get("read")
        """The longest the client waits for the next byte."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._chunks:
            self.end()
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
            self.end()
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

    def end(self) -> None:
        """Do what comes after the last byte; raises what httpx would."""
        if self._plan.ending == "stall":
            if self._silence is None:
                self._log.errors.append(error := RuntimeError(_FOR_EVER))
                raise error
            self._log.disconnects += 1
        if self._plan.ending != "end":
            raise _broken(self._plan.ending, self._request, begun=self._plan.status > 0)

    def close(self) -> None:
        """Count a client that leaves what is still to come; whatever the ending, it is over."""
        self._log.disconnects += bool(self._chunks)
        self._chunks.clear()

    async def aclose(self) -> None:
        self.close()


def _shorter(pause: float, silence: float | None) -> float:
    return pause if silence is None else min(pause, silence)


_FOR_EVER = (
    "Fault.stall: this call would wait forever, because it has no read timeout: pass timeout=..."
)


def _broken(ending: Ending, request: httpx.Request, *, begun: bool) -> httpx.TransportError:
    """Return what httpx raises where a connection ends like this."""
    match ending:
        case "refuse":
            return httpx.ConnectError("Connection refused", request=request)
        case "reset":
            return httpx.ReadError("Connection reset by peer", request=request)
        case "stall":
            return httpx.ReadTimeout("timed out", request=request)
        case _ if begun:
            words = "peer closed connection without sending complete message body"
        case _:
            words = "Server disconnected without sending a response."
    return httpx.RemoteProtocolError(words, request=request)
