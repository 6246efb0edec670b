"""Send through a client of httpx or httpx2, the caller's or our own: one `Wire` over both.

What the client adds to a request (headers, cookies, parameters, auth, hooks) is sent too, but
redirects and retries are not left to the client.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from functools import lru_cache, partial
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

import httpx

from .._protocol.values import Request
from ..errors import APIError
from .borrowed import BorrowedStream, borrow
from .clients import DefaultAsyncHttpxClient, DefaultHttpxClient
from .foreign import foreign_is_ignored
from .libraries import library_of
from .network import close_from_outside
from .own_wire import LAST_BYTES, LAST_READS, asend, check_open, send
from .pace import Pace, waits_end_at
from .private import carries_as_made
from .requests import headers_of, waits_of
from .transports import NetworkStream
from .unpack import aunpacked, unpacked
from .wire import AsyncHTTPClient, AsyncIncoming, HTTPClient, Incoming

T = TypeVar("T")


class HttpxWire:
    """A `Wire` over a sync client."""

    def __init__(self, http: HTTPClient) -> None:
        self.http = http
        self.has_heard = False
        if not isinstance(http, DefaultHttpxClient):
            borrow(http)

    @property
    def client_closed(self) -> bool:
        return self.http.is_closed

    def send(self, request: Request, pace: Pace) -> Incoming:
        """Send a request; see `Wire`."""
        http = self.http
        check_open(http)
        alone = http.transport_alone if isinstance(http, DefaultHttpxClient) else None
        if alone is not None and carries_as_made(alone):
            incoming = send(alone.network, request, pace)
            self.has_heard = True
            return incoming
        try:
            with waits_end_at(pace.moment()):
                if alone is not None:
                    built: Any = _bare_request(request, pace)
                    response: Any = alone.handle_request(built)
                    response.request = built
                else:
                    built = _built_request(http, request, pace)
                    response = http.send(built, stream=True, follow_redirects=False)
        except RuntimeError:
            check_open(http)
            raise  # from a hook of the caller
        self.has_heard = True
        return HttpxIncoming(http, response, pace)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


class AsyncHttpxWire:
    """A `Wire` over an async client."""

    def __init__(self, http: AsyncHTTPClient) -> None:
        self.http = http
        self.has_heard = False

    @property
    def client_closed(self) -> bool:
        return self.http.is_closed

    async def send(self, request: Request, pace: Pace) -> AsyncIncoming:
        """Send a request; see `Wire`."""
        http = self.http
        check_open(http)
        alone = http.transport_alone if isinstance(http, DefaultAsyncHttpxClient) else None
        if alone is not None and carries_as_made(alone):
            incoming = await asend(alone.network, request, pace)
            self.has_heard = True
            return incoming
        try:
            send: Callable[[], Awaitable[Any]]
            if alone is not None:
                built: Any = _bare_request(request, pace)
                send = partial(alone.handle_async_request, built)
            else:
                built = _built_request(http, request, pace)
                send = partial(http.send, built, stream=True, follow_redirects=False)
            response = await pace.within(send)
            response.request = built
        except RuntimeError:
            check_open(http)
            raise  # from a hook of the caller
        self.has_heard = True
        return AsyncHttpxIncoming(http, response, pace)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    def close_from_outside(self) -> None:
        """Close the connections of our own client where no event loop runs."""
        if isinstance(self.http, DefaultAsyncHttpxClient) and (network := self.http.network):
            close_from_outside(network)


class HttpxIncoming:
    """A response of a sync client."""

    def __init__(self, http: HTTPClient, response: Any, pace: Pace) -> None:
        self._http = http
        self._response = response
        self._pace = pace
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        if response.is_stream_consumed:  # a mock's response, already read and decompressed
            self._source: Iterator[bytes] = response.iter_bytes()
        else:  # raw chunks: the library's decoders cost a generator and have no size limit
            self._source = iter(response.stream)
            if encoding := response.headers.get("content-encoding"):
                self._source = unpacked(self._source, encoding)

    @property
    def client_closed(self) -> bool:
        return self._http.is_closed

    def chunks(self) -> Iterator[bytes]:
        """Return the body, decompressed, within the timeouts."""
        return _timed(self._source, self._pace) if self._pace.limited else self._source

    def finish(self) -> None:
        """Read what follows the message, so that the connection can be reused.

        Only if the wait can be bounded: a server may keep the body open.
        """
        if self._stream is not None:
            with foreign_is_ignored(APIError), waits_end_at(time.monotonic() + LAST_BYTES):
                for _ in islice(self._source, LAST_READS):
                    pass

    def close(self) -> None:
        self._response.close()

    def hang_up(self) -> None:
        if stream := self._stream:
            stream.hang_up()

    @property
    def _stream(self) -> BorrowedStream | NetworkStream | None:
        stream = self._response.extensions.get("network_stream")
        return stream if isinstance(stream, (BorrowedStream, NetworkStream)) else None


class AsyncHttpxIncoming:
    """A response of an async client."""

    def __init__(self, http: AsyncHTTPClient, response: Any, pace: Pace) -> None:
        self._http = http
        self._response = response
        self._pace = pace
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        consumed: bool = response.is_stream_consumed
        self._raw: AsyncIterator[bytes] = aiter(
            response.aiter_bytes() if consumed else response.stream
        )
        self._source = self._raw
        if not consumed and (encoding := response.headers.get("content-encoding")):
            self._source = aunpacked(self._raw, encoding)

    @property
    def client_closed(self) -> bool:
        return self._http.is_closed

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body, decompressed, within the timeouts."""
        return _Timed(self._source, self._pace) if self._pace.limited else self._source

    async def finish(self) -> None:
        """Read what follows the message, briefly, so that the connection can be reused."""
        import anyio

        with foreign_is_ignored(StopAsyncIteration), anyio.move_on_after(LAST_BYTES):
            for _ in range(LAST_READS):
                await self._source.__anext__()

    async def close(self) -> None:
        """Close the response and the generators that read it.

        The libraries read through a chain of generators. If it is left early, they wait for the
        garbage collector; on a closed connection, one more read ends them all. A mock has no
        connection to close, so only the outer generator is closed.
        """
        await self._response.aclose()
        extensions = self._response.extensions
        with foreign_is_ignored(RuntimeError):  # RuntimeError: another task is reading
            # An HTTP/2 connection carries other streams and stays open: a read would wait.
            if "network_stream" in extensions and extensions.get("http_version") != b"HTTP/2":
                async for _ in self._raw:
                    pass
            elif (aclose := getattr(self._raw, "aclose", None)) is not None:  # of a generator
                await aclose()


def _timed(source: Iterator[bytes], pace: Pace) -> Iterator[bytes]:
    while True:
        pace.check()
        with waits_end_at(pace.moment()):
            chunk = next(source, None)
        if chunk is None:
            return
        pace.hold()
        yield chunk
        pace.resume()


class _Timed(AsyncIterator[bytes]):
    """`_timed` for async. Not a generator, which would need closing when it is left early."""

    def __init__(self, source: AsyncIterator[bytes], pace: Pace) -> None:
        self._source = source
        self._pace = pace

    async def __anext__(self) -> bytes:
        self._pace.resume()
        self._pace.check()
        chunk = await self._pace.within(self._source.__anext__)
        self._pace.hold()
        return chunk


def _bare_request(request: Request, pace: Pace) -> httpx.Request:
    """Make a request for a transport alone.

    Building it through a client costs more than the rest, and takes a lock for cookies, which could
    be held during a fork or left held by a signal's exception.
    """
    url = httpx.URL(request.url)
    headers = {"host": url.netloc.decode("ascii"), **headers_of(request)}  # theirs wins
    if request.content is not None:
        headers["content-length"] = str(len(request.content))
    made = httpx.Request(
        request.method,
        url,
        headers=headers,
        stream=_sent(library_of(None))(request.content or b""),
        extensions={"timeout": waits_of(request, pace)},
    )
    made.read()  # so that a mocked transport finds `content`
    return made


def _built_request(http: HTTPClient | AsyncHTTPClient, request: Request, pace: Pace) -> Any:
    """Let a client build the request with the same headers: it may add some, and cookies."""
    headers = headers_of(request)
    del headers["connection"]  # the client's own setting: "keep-alive" by default
    built = http.build_request(
        request.method,
        request.url,
        headers=headers,
        content=request.content,
        extensions={"timeout": waits_of(request, pace)},
    )
    if request.content is not None:
        built.stream = _sent(library_of(built))(request.content)
    return built


@lru_cache(maxsize=2)
def _sent(library: ModuleType) -> Callable[[bytes], Any]:
    """Return the class that one library takes for a request body in one piece.

    The libraries' own are generators, which a failed send leaves open.
    """

    byte_stream: Any = library.ByteStream

    class Sent(byte_stream):  # type: ignore[misc]
        def __init__(self, content: bytes) -> None:
            byte_stream.__init__(self, content)
            self._content = content

        def __iter__(self) -> Iterator[bytes]:
            return iter((self._content,))

        def __aiter__(self) -> AsyncIterator[bytes]:
            return _Ready((self._content,))

    return Sent


class _Ready(AsyncIterator[T]):
    """Iterate asynchronously over available items; not a generator, which would need closing when
    it is left early."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        raise StopAsyncIteration
