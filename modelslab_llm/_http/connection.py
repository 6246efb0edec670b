"""One connection to a server, sync and async: a socket, perhaps TLS, and HTTP/1.1 on it.

A connection knows whether it can carry another request (`is_clean`). Nothing waits when it is
dropped: `shut` closes it and returns. So no cancellation or signal can interrupt that, and none is
caught here.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .._records import record
from . import failures, sockets
from .http1 import Head, Headers, Http1
from .names import Address, look_up
from .opening import Route, opening
from .pace import Phase
from .pool import Pool
from .tls import PIECE, Layers

Context: TypeAlias = Callable[[], ssl.SSLContext]

JOINED = 64 * 1024  # bytes of a body that are sent together with the head


class Waits(Protocol):
    """How long to wait."""

    def seconds(self, phase: Phase) -> float | None:
        """Return how long a wait that begins now may last; None for no limit.

        Raises if no time is left.
        """
        ...


@record
class Asked:
    """A request to send: all its headers, and its body as bytes or in pieces."""

    url: Route
    """Where to send it."""
    method: bytes
    target: bytes
    headers: Headers
    body: bytes | Iterable[bytes] | AsyncIterable[bytes] = b""

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be sent again."""
        return isinstance(self.body, bytes)

    def __repr__(self) -> str:  # the headers hold the key
        return f"Asked({self.method!r})"


class Answered(Protocol):
    """A connection on which the head of a response has arrived, for async: ours or aiohttp's."""

    @property
    def head(self) -> Head:
        """The head."""
        ...

    async def read(self, waits: Waits) -> bytes:
        """Return the next piece of the body, whatever has arrived; b"" at its end."""
        ...

    def about(self, info: str) -> Any:
        """Return what httpx's `network_stream` says about a connection."""
        ...

    def hang_up(self) -> None:
        """Close the connection and wake its user."""
        ...


class _Stream(Protocol):
    """The methods of a stream that do not wait."""

    @property
    def socket(self) -> sockets.Socket | None: ...

    def look(self) -> bytes | None: ...

    def hang_up(self) -> None: ...

    def shut(self) -> None: ...

    def forget(self) -> None: ...


StreamT = TypeVar("StreamT", bound=_Stream)


class _Connection(Generic[StreamT]):
    """The part that sync and async share: the state of a connection, and how its bytes are read."""

    _stream: StreamT | None = None

    def __init__(self, route: Route, key: int, context: Context) -> None:
        self.route = route
        self.key = key
        self.idle_since: float = 0.0
        self.is_new = True
        """Whether it still has to be opened."""
        self.is_hung_up: bool = False
        """Whether this side closed it: then its end says nothing about the server."""
        self._context = context
        self._http = Http1()
        self._layers = Layers()

    @property
    def is_clean(self) -> bool:
        """Whether its response was read to the end, with nothing left over on either side."""
        return self._http.is_clean and not self._layers.has_ended and not self.is_hung_up

    @property
    def has_heard(self) -> bool:
        """Whether a byte of a response has arrived."""
        return self._http.heard

    @property
    def head(self) -> Head:
        """The head of the response, after `ask`."""
        head = self._http.head
        if head is None:
            raise RuntimeError("the response has no headers yet")
        return head

    def _words(self, asked: Asked) -> Iterator[bytes]:
        """Yield the bytes of a request whose body is in one piece."""
        http, body = self._http, asked.body
        head = http.ask(asked.method, asked.target, asked.headers)
        if not isinstance(body, bytes):
            yield from self._sealed(head)
            return
        if len(body) <= JOINED:
            rest = http.ask_more(body) if body else b""
            yield from self._sealed(head + rest + http.ask_no_more())
            return
        yield from self._sealed(head)
        yield from self._sealed(http.ask_more(body))
        yield from self._sealed(http.ask_no_more())

    def _sealed(self, data: bytes) -> Iterator[bytes]:
        """Yield what to send through the socket for these bytes."""
        if self._layers.is_plain:
            if data:
                yield data
            return
        for at in range(0, len(data), PIECE):
            yield self._layers.encode(data[at : at + PIECE])

    def _check_quiet(self, stream: _Stream) -> None:
        """Raise if a server sends before it is asked: that would pass for the first response."""
        came = stream.look()
        if came is not None and self._layers.decode(came):
            raise failures.RemoteProtocolError("the server sent data before the request")

    def look(self) -> bool:
        """Prepare for another request; return whether nothing that would disturb it has arrived.

        Anything that arrived since the last response is unsolicited, or the end of the connection.
        """
        if not self.is_clean:
            return False
        self._http.take_up()
        while self._stream is not None:
            came = self._stream.look()
            if came is None:
                self._http.begin_anew()
                return not self.is_hung_up
            try:
                data = self._layers.decode(came)
            except failures.ReadError:  # TLS that was cut off
                return False
            if data or self._layers.has_ended:
                return False  # and it stays so: what arrived is gone
        return False

    def _check_whole(self, piece: bytes) -> None:
        """Raise if a body ended before it was complete."""
        if not piece and self._http.state != "done":
            raise failures.ReadError("the response was interrupted")

    def hang_up(self) -> None:
        """Close the connection and wake its user. Callable from any thread."""
        self.is_hung_up = True
        if stream := self._stream:
            stream.hang_up()

    def shut(self) -> None:
        """Close the connection and the socket, without waiting."""
        self.is_hung_up = True
        if stream := self._stream:
            stream.shut()

    def forget(self) -> None:
        """Drop the socket without closing the connection: it belongs to another process."""
        self.is_hung_up = True
        if stream := self._stream:
            stream.forget()

    def about(self, info: str) -> Any:
        """Return what httpx's `network_stream` says about a connection."""
        sock = None if self._stream is None else self._stream.socket
        return about(sock, self._layers, info)

    def _clock(self, waits: Waits) -> sockets.Left:
        """Return the time left to connect: DNS, TCP, proxy and TLS together."""
        seconds = waits.seconds("connect")
        until = None if seconds is None else time.monotonic() + seconds

        def left() -> float | None:
            if self.is_hung_up:
                raise failures.ConnectError(sockets.OUR_END)
            if until is None:
                return None
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise failures.ConnectTimeout("timed out")
            return remaining

        return left


@contextmanager
def _failing_to_connect() -> Generator[None]:
    """Turn any failure here into an error that no connection could be made."""
    try:
        yield
    except (failures.ReadTimeout, failures.WriteTimeout) as error:
        raise failures.ConnectTimeout(str(error)) from error
    except (failures.ReadError, failures.WriteError, OSError) as error:
        raise failures.ConnectError(str(error)) from error


class Connection(_Connection[sockets.Stream]):
    """A connection, used by one thread at a time."""

    def open(self, waits: Waits) -> None:
        """Connect, through a proxy if there is one, including the TLS handshake."""
        left = self._clock(waits)
        if self.route.wants_context:
            self._context()  # bad certificates are not a connection failure
        with _failing_to_connect():
            self._stream = stream = sockets.connect(*self.route.address, left)
            left()  # it may have been closed before there was a socket
            sockets.carry(opening(self.route, self._layers, self._context), stream, left)
        self._check_quiet(stream)
        self.is_new = False

    def ask(self, asked: Asked, waits: Waits) -> None:
        """Send a request and receive the head of its response."""
        try:
            for words in self._words(asked):
                self._send(words, waits)
            if not isinstance(asked.body, bytes):
                self._send_pieces(asked, waits)
        except failures.WriteError:
            pass  # a server may respond and close before it has read the whole request
        while self._http.hear(self._receive(waits)) is None:
            pass

    def _send_pieces(self, asked: Asked, waits: Waits) -> None:
        pieces: Any = asked.body
        for piece in pieces:
            for words in self._sealed(self._http.ask_more(piece)):
                self._send(words, waits)
        for words in self._sealed(self._http.ask_no_more()):
            self._send(words, waits)

    def read(self, waits: Waits) -> bytes:
        """Return the next piece of the body, whatever has arrived; b"" at its end."""
        http = self._http
        piece = http.begin()
        while not piece and http.state == "answered":
            if came := self._receive(waits):
                piece = http.read(came)
            else:
                http.end()
        self._check_whole(piece)
        return piece

    def _send(self, words: bytes, waits: Waits) -> None:
        if self._stream is None:
            raise failures.WriteError(sockets.OUR_END)
        self._stream.send(words, waits.seconds("write"))

    def _receive(self, waits: Waits) -> bytes:
        """Return the next bytes, decrypted; b"" at the end."""
        layers = self._layers
        while not layers.has_ended:
            if self._stream is None:
                raise failures.ReadError(sockets.OUR_END)
            came = layers.decode(self._stream.receive(waits.seconds("read")))
            if words := layers.to_send():
                self._stream.send(words, waits.seconds("write"))
            if came:
                return came
        return b""


class AsyncConnection(_Connection[Any]):  # a stream of `on_asyncio` or `on_trio`
    """A connection, used by one task at a time, on the event loop that opened it."""

    def __init__(
        self,
        route: Route,
        key: int,
        context: Context,
        net: ModuleType,
        pool: Pool[Route, AsyncConnection],
    ) -> None:
        super().__init__(route, key, context)
        self._net: Any = net
        self.pool = pool

    async def open(self, waits: Waits) -> None:
        """Connect, through a proxy if there is one, including the TLS handshake."""
        left = self._clock(waits)
        if self.route.wants_context:
            self._context()  # bad certificates are not a connection failure
        with _failing_to_connect():
            self._stream = stream = await self._connected(left)
            left()  # it may have been closed before there was a socket
            await _carry(opening(self.route, self._layers, self._context), stream, left)
        self._check_quiet(stream)
        self.is_new = False

    async def _connected(self, left: sockets.Left) -> Any:
        net = self._net
        race = sockets.racing(await self._addresses(left))
        ready: list[sockets.Socket] | None = None
        try:
            while True:
                waiting, wait = race.send(ready) if ready is not None else next(race)
                ready = await net.writable(waiting, sockets.shorter(wait, left()))
        except StopIteration as done:
            return net.Stream(done.value)
        finally:
            race.close()

    async def _addresses(self, left: sockets.Left) -> list[Address]:
        lookup = look_up(*self.route.address)
        if lookup.found is None:
            bell = self._net.Bell()
            lookup.ring(bell.ring)
            while lookup.found is None:
                await bell.wait(sockets.shorter(None, left()))
        return lookup.addresses()

    async def ask(self, asked: Asked, waits: Waits) -> None:
        """Send a request and receive the head of its response."""
        try:
            for words in self._words(asked):
                await self._send(words, waits)
            if not isinstance(asked.body, bytes):
                await self._send_pieces(asked, waits)
        except failures.WriteError:
            pass  # a server may respond and close before it has read the whole request
        while self._http.hear(await self._receive(waits)) is None:
            pass

    async def _send_pieces(self, asked: Asked, waits: Waits) -> None:
        pieces: Any = asked.body
        async for piece in pieces:
            for words in self._sealed(self._http.ask_more(piece)):
                await self._send(words, waits)
        for words in self._sealed(self._http.ask_no_more()):
            await self._send(words, waits)

    async def read(self, waits: Waits) -> bytes:
        """Return the next piece of the body, whatever has arrived; b"" at its end."""
        http = self._http
        piece = http.begin()
        while not piece and http.state == "answered":
            if came := await self._receive(waits):
                piece = http.read(came)
            else:
                http.end()
        self._check_whole(piece)
        return piece

    async def _send(self, words: bytes, waits: Waits) -> None:
        if self._stream is None:
            raise failures.WriteError(sockets.OUR_END)
        await self._stream.send(words, waits.seconds("write"))

    async def _receive(self, waits: Waits) -> bytes:
        """Return the next bytes, decrypted; b"" at the end."""
        layers = self._layers
        while not layers.has_ended:
            if self._stream is None:
                raise failures.ReadError(sockets.OUR_END)
            came = layers.decode(await self._stream.receive(waits.seconds("read")))
            if words := layers.to_send():
                await self._stream.send(words, waits.seconds("write"))
            if came:
                return came
        return b""


async def _carry(talk: sockets.Talk, stream: Any, left: sockets.Left) -> None:
    """Run a handshake: send what it wants to send and pass it the replies, until it is over."""
    came = b""
    try:
        words = next(talk)
        while True:
            if words is None:
                came = await stream.receive(left())
            else:
                await stream.send(words, left())
            words = talk.send(came)
    except StopIteration:
        pass


def about(sock: sockets.Socket | None, layers: Layers, info: str) -> Any:
    """Return what httpcore's `get_extra_info` returns."""
    if info == "ssl_object":
        return layers.innermost and layers.innermost.ssl_object
    if info == "socket" or sock is None:
        return sock
    addresses = {"client_addr": sock.getsockname, "server_addr": sock.getpeername}
    return addresses[info]() if info in addresses else None
