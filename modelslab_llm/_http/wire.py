"""Define the interface between decisions and HTTP: what a wire does for `drive`, and what a
caller's client has.

A `Wire` sends one request and hands out the answer as it comes in. Nothing here names an HTTP
library, and nothing decides what is sent or what an answer means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol

from .._protocol.values import Request
from .pace import Pace


class HTTPClient(Protocol):
    """What `http_client=` takes: an `httpx.Client` or an `httpx2.Client`."""

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        ...

    def build_request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None,
        extensions: dict[str, Any],
    ) -> Any:
        """Return a request, with the client's own headers and cookies."""
        ...

    def send(self, request: Any, *, stream: bool = ..., follow_redirects: bool = ...) -> Any:
        """Send a request."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AsyncHTTPClient(Protocol):
    """What `http_client=` takes in async: an `httpx.AsyncClient` or an `httpx2.AsyncClient`."""

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        ...

    def build_request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        content: bytes | None,
        extensions: dict[str, Any],
    ) -> Any:
        """Return a request, with the client's own headers and cookies."""
        ...

    async def send(self, request: Any, *, stream: bool = ..., follow_redirects: bool = ...) -> Any:
        """Send a request."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Incoming(Protocol):
    """An answer whose headers have arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        ...

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed meanwhile."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Return the body as it comes, decompressed, within the limits of time."""
        ...

    def finish(self) -> None:
        """Read what follows a message for a moment, so that the connection can be used again."""
        ...

    def close(self) -> None:
        """Be done with the answer; what has not come of it is not waited for."""
        ...

    def hang_up(self) -> None:
        """Wake the thread that reads the answer, and stop the server. For any other thread."""
        ...


class AsyncIncoming(Protocol):
    """`Incoming` for async."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        ...

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed meanwhile."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body as it comes, decompressed, within the limits of time."""
        ...

    async def finish(self) -> None:
        """Read what follows a message for a moment, so that the connection can be used again."""
        ...

    async def close(self) -> None:
        """Be done with the answer; what has not come of it is not waited for."""
        ...


class Wire(Protocol):
    """What carries requests."""

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed."""
        ...

    @property
    def has_heard(self) -> bool:
        """Whether any response has arrived."""
        ...

    def send(self, request: Request, pace: Pace) -> Incoming:
        """Send a request and return its answer once the head has come.

        Raises what its library raises, which `foreign` translates, and our own errors for limits of
        time and for a client that was closed.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AsyncWire(Protocol):
    """`Wire` for async."""

    @property
    def client_closed(self) -> bool:
        """Whether the client was closed."""
        ...

    @property
    def has_heard(self) -> bool:
        """Whether any response has arrived."""
        ...

    async def send(self, request: Request, pace: Pace) -> AsyncIncoming:
        """Send a request and return its answer once the head has come; see `Wire`."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...

    def close_from_outside(self) -> None:
        """Close the connections where no event loop runs, or another one."""
        ...
