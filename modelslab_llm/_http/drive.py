"""Do what the exchange decides: wait, send, read. `drive` and `adrive` stand side by side.

Every exception of the HTTP library ends here and leaves as one of ours; what it becomes is decided
in `_foreign`, what is done about it in `_exchange`.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from typing import Literal, TypeAlias, TypeVar, cast

import httpx

from .._protocol.reader import Opened, Reader
from .._protocol.refusals import request_id
from .._protocol.values import Answer, Attempt, Outcome
from ..errors import APIError, ConfigurationError, UnexpectedResponseError
from ..types.events import Event
from .clients import DefaultAsyncHttpxClient, DefaultHttpxClient
from .foreign import FOREIGN, failure_of, foreign_is_ours
from .pace import Pace
from .sockets import TimedStream, hang_up, waits_end_at
from .unpack import ACCEPTED, aunpacked, unpacked

T = TypeVar("T")

Reading: TypeAlias = Literal["answer", "stream"]

ERROR_PAGE = 1024 * 1024  # bytes read of an answer that says no; its first words are what counts
LOOK_AHEAD = 1024 * 1024  # bytes of a stream that are kept while looking for its first content
LAST_CHUNKS = 8
LAST_BYTES = 0.1  # seconds a server has to end the body after the message, to keep a connection


def drive(flow: Generator[Attempt, Outcome, T], http: httpx.Client) -> T:
    """Run an exchange to its result."""
    attempt = next(flow)
    while True:
        if attempt.pause:
            time.sleep(attempt.pause)
        try:
            attempt = flow.send(_send(http, attempt))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def adrive(flow: Generator[Attempt, Outcome, T], http: httpx.AsyncClient) -> T:
    """Run an exchange to its result; `drive` for async."""
    attempt = next(flow)
    while True:
        if attempt.pause:
            import anyio  # where httpx is, so is anyio

            await anyio.sleep(attempt.pause)
        try:
            attempt = flow.send(await _asend(http, attempt))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def _send(http: httpx.Client, attempt: Attempt) -> Outcome:
    pace = Pace(attempt)
    try:
        with waits_end_at(pace.moment()):
            if isinstance(http, DefaultHttpxClient) and http.adds_nothing:
                response = http.send_bare(_bare_request(attempt, pace))
            else:
                request = _request(http, attempt, pace)
                response = http.send(request, stream=True, follow_redirects=False)
    except FOREIGN as error:
        return failure_of(error, pace, "sending")
    except RuntimeError:
        _raise_if_closed(http)
        raise  # out of a hook of the caller's
    headers = _headers(response, attempt)
    if attempt.reader and response.is_success:
        reader = attempt.reader(response.status_code, headers)
        events = _events(response, reader, pace)
        opened = Opened(reader, events, partial(_shut, events, response))
        try:
            for event in events:
                opened.hold(event)
                if reader.message.has_content or reader.fed > LOOK_AHEAD:
                    break
        except APIError as error:
            return opened.blame(error)
        return opened
    body = _Body(response.status_code, headers, attempt)
    try:
        with foreign_is_ours(pace, "answer"):
            for chunk in _chunks(response, pace):
                if not body.take(chunk):
                    break
    except APIError as error:
        return body.broken(error)
    finally:
        response.close()
    return body.answer()


async def _asend(http: httpx.AsyncClient, attempt: Attempt) -> Outcome:
    pace = Pace(attempt)
    try:
        if isinstance(http, DefaultAsyncHttpxClient) and http.adds_nothing:
            send = partial(http.send_bare, _bare_request(attempt, pace))
        else:
            request = _request(http, attempt, pace)
            send = partial(http.send, request, stream=True, follow_redirects=False)
        response = await pace.within(send)
    except FOREIGN as error:
        return failure_of(error, pace, "sending")
    except APIError as error:
        return error
    except RuntimeError:
        _raise_if_closed(http)
        raise  # out of a hook of the caller's
    headers = _headers(response, attempt)
    if attempt.reader and response.is_success:
        reader = attempt.reader(response.status_code, headers)
        events = _aevents(response, reader, pace)
        opened = Opened(reader, events, partial(_ashut, events, response))
        try:
            async for event in events:
                opened.hold(event)
                if reader.message.has_content or reader.fed > LOOK_AHEAD:
                    break
        except APIError as error:
            return opened.blame(error)
        return opened
    body = _Body(response.status_code, headers, attempt)
    source = _asource(response)
    try:
        with foreign_is_ours(pace, "answer"):
            async for chunk in _achunks(source, pace):
                if not body.take(chunk):
                    break
    except APIError as error:
        return body.broken(error)
    finally:
        await _aleave(response, source)
    return body.answer()


def _events(response: httpx.Response, reader: Reader, pace: Pace) -> Generator[Event]:
    """Yield a stream's events; close the response when they end, however that is."""
    chunks = _chunks(response, pace)
    try:
        with foreign_is_ours(pace, "stream"):
            for chunk in chunks:
                yield from reader.feed(chunk)
                if reader.message.complete:
                    _read_to_end(response, chunks)
                    return
                if pace.limited:
                    pace.look(reader)
        yield from reader.end()
    finally:
        response.close()


async def _aevents(response: httpx.Response, reader: Reader, pace: Pace) -> AsyncGenerator[Event]:
    source = _asource(response)
    chunks = _achunks(source, pace)
    try:
        with foreign_is_ours(pace, "stream"):
            async for chunk in chunks:
                for event in reader.feed(chunk):
                    yield event
                if reader.message.complete:
                    await _aread_to_end(chunks)
                    return
                if pace.limited:
                    pace.look(reader)
        for event in reader.end():
            yield event
    finally:
        await _aleave(response, source)


def _read_to_end(response: httpx.Response, chunks: Iterator[bytes]) -> None:
    """Read what follows the message, so that the connection can be used again.

    Only where the wait can be bounded: a server may keep the body open.
    """
    if isinstance(response.extensions.get("network_stream"), TimedStream):
        with suppress(APIError, *FOREIGN), waits_end_at(time.monotonic() + LAST_BYTES):
            for _ in islice(chunks, LAST_CHUNKS):
                pass


async def _aread_to_end(chunks: AsyncIterator[bytes]) -> None:
    import anyio

    with suppress(APIError, StopAsyncIteration, *FOREIGN), anyio.move_on_after(LAST_BYTES):
        for _ in range(LAST_CHUNKS):
            await chunks.__anext__()


def _chunks(response: httpx.Response, pace: Pace) -> Iterator[bytes]:
    """Return the body, decompressed, within the limits of time."""
    if response.is_stream_consumed:  # a mock's answer, which was read already, and unpacked
        source = response.iter_bytes()
    else:  # the stream's own chunks: httpx's cost one generator more, and are unpacked unbounded
        source = iter(cast("httpx.SyncByteStream", response.stream))
        if encoding := response.headers.get("content-encoding"):
            source = unpacked(source, encoding)
    return _timed(source, pace) if pace.limited else source


def _achunks(source: AsyncIterator[bytes], pace: Pace) -> AsyncIterator[bytes]:
    return _Timed(source, pace) if pace.limited else source


def _asource(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:
        return response.aiter_bytes()
    source = aiter(cast("httpx.AsyncByteStream", response.stream))
    encoding = response.headers.get("content-encoding")
    return aunpacked(source, encoding) if encoding else source


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
    """`_timed` for async. No generator: one that is left early needs closing, this does not."""

    def __init__(self, source: AsyncIterator[bytes], pace: Pace) -> None:
        self._source = source
        self._pace = pace

    async def __anext__(self) -> bytes:
        self._pace.resume()
        self._pace.check()
        chunk = await self._pace.within(self._source.__anext__)
        self._pace.hold()
        return chunk


async def _aleave(response: httpx.Response, source: AsyncIterator[bytes]) -> None:
    """Close a response and the generators that read it.

    httpx reads through a chain of them. Left early they would lie about until the garbage
    collector finds them; on a closed connection one more look ends them all.
    """
    await response.aclose()
    if "network_stream" in response.extensions:
        with suppress(*FOREIGN):
            async for _ in source:
                pass


def _shut(events: Generator[Event], response: httpx.Response) -> None:
    try:
        events.close()
    except ValueError:  # another thread is reading; woken, it closes the response
        hang_up(response.extensions.get("network_stream"))
    else:
        response.close()


async def _ashut(events: AsyncGenerator[Event], response: httpx.Response) -> None:
    with suppress(RuntimeError):  # another task is reading
        await events.aclose()
    await response.aclose()


class _Body:
    """A body that is read whole: how much of it, and what it becomes."""

    def __init__(self, status: int, headers: Mapping[str, str], attempt: Attempt) -> None:
        self._status = status
        self._headers = headers
        self._ok = 200 <= status < 300
        self._limit = attempt.config.max_response_bytes if self._ok else ERROR_PAGE
        self._hide = attempt.config.hide_key
        self._bytes = bytearray()  # a list would cost far more than the bytes, if they drip in

    def take(self, chunk: bytes) -> bool:
        """Add a chunk; False if no more is wanted. Raises if an answer is too large."""
        if len(self._bytes) + len(chunk) > self._limit:
            if not self._ok:
                return False
            raise UnexpectedResponseError(
                f"the answer has more than {self._limit} bytes (max_response_bytes)"
            )
        self._bytes += chunk
        return True

    def answer(self) -> Answer:
        return Answer(self._status, self._headers, bytes(self._bytes), self._hide)

    def broken(self, error: APIError) -> Answer | APIError:
        """Return what a body that broke off still tells: a refusal, or else the failure."""
        if not self._ok:
            return self.answer()
        error.request_id = error.request_id or request_id(self._headers)
        return error


def _bare_request(attempt: Attempt, pace: Pace) -> httpx.Request:
    """Make a request as it is. What httpx would find out for each anew costs more than the rest."""
    asked = attempt.request
    url = _parsed(asked.url)
    headers = {"host": url.netloc.decode("ascii"), **asked.headers}  # theirs wins
    if asked.content is not None:
        headers["Content-Length"] = str(len(asked.content))
    request = httpx.Request(
        asked.method,
        url,
        headers=headers,
        stream=_Sent(asked.content or b""),
        extensions={"timeout": _waits(attempt, pace)},
    )
    request.read()  # so that who mocks the transport finds its `content`
    return request


def _request(http: httpx.Client | httpx.AsyncClient, attempt: Attempt, pace: Pace) -> httpx.Request:
    """Let a caller's own client make the request: it may add headers and cookies."""
    asked = attempt.request
    request = http.build_request(
        asked.method,
        asked.url,
        headers={"accept-encoding": ACCEPTED, **asked.headers},
        content=asked.content,
        extensions={"timeout": _waits(attempt, pace)},
    )
    if asked.content is not None:
        request.stream = _Sent(asked.content)
    return request


def _waits(attempt: Attempt, pace: Pace) -> dict[str, float | None]:
    """Return httpx's timeouts: the configured ones, or what time is left."""
    timeout = attempt.request.timeout
    waits = {
        "connect": timeout.connect,
        "read": timeout.read,
        "write": timeout.write,
        "pool": timeout.pool,
    }
    moment = pace.moment()
    if moment is None:
        return waits
    left = max(0.001, moment - time.monotonic())
    return {name: left if wait is None else min(wait, left) for name, wait in waits.items()}


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


class _Sent(httpx.ByteStream):
    """A request's body in one piece. httpx's is a generator, which a failed send leaves open."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._content,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Ready((self._content,))


class _Ready(AsyncIterator[T]):
    """Iterate asynchronously over what is there already; no generator, which would
    want closing when it is left early."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)

    async def __anext__(self) -> T:
        for item in self._items:
            return item
        raise StopAsyncIteration


def _headers(response: httpx.Response, attempt: Attempt) -> dict[str, str]:
    hide = attempt.config.hide_key
    return {name: hide(value) for name, value in response.headers.items()}


def _raise_if_closed(http: httpx.Client | httpx.AsyncClient) -> None:
    if http.is_closed:
        raise ConfigurationError(
            "this client is closed: build one, or keep its with block open"
        ) from None
