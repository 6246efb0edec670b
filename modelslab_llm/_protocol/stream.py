"""What a caller holds while an answer streams in: `MessageStream` and its async twin.

What may be handed out, kept, or raised is decided here once, in `_State`; the twins only iterate.
Nothing here names an HTTP library.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import ClassVar, Generic, Literal, NamedTuple, TypeVar

from typing_extensions import Self

from .._hints import HintsAtNames, Place
from ..errors import APIError, StreamInterruptedError
from ..types.call_info import CallInfo
from ..types.content import TextBlock, TextDelta, ThinkingBlock, ThinkingDelta
from ..types.events import ContentBlockDeltaEvent, ContentBlockStartEvent, Event
from ..types.message import Message
from .reader import Events, Opened


class ContentDelta(NamedTuple):
    """What one event adds to the answer: thinking, or text of the answer itself."""

    kind: Literal["thinking", "text"]
    text: str


def text_of(event: Event) -> str:
    """Return the text an event adds to the answer; `""` for most kinds."""
    if isinstance(event, ContentBlockDeltaEvent):
        delta = event.delta
        return delta.text if isinstance(delta, TextDelta) else ""
    if isinstance(event, ContentBlockStartEvent) and isinstance(event.content_block, TextBlock):
        return event.content_block.text  # a block may begin with text (protocol.md §6.3)
    return ""


def delta_of(event: Event) -> ContentDelta | None:
    """Return the thinking or the text an event adds to the answer; None for most kinds."""
    if text := text_of(event):
        return ContentDelta("text", text)
    grown: object = None
    if isinstance(event, ContentBlockDeltaEvent):
        grown = event.delta
    elif isinstance(event, ContentBlockStartEvent):
        grown = event.content_block
    if isinstance(grown, (ThinkingDelta, ThinkingBlock)) and grown.thinking:
        return ContentDelta("thinking", grown.thinking)
    return None


T = TypeVar("T")


class _State(HintsAtNames, Generic[Events]):
    """The part that sync and async share: the message so far, and how the stream ended."""

    _place: ClassVar[Place] = "stream"

    def __init__(self) -> None:
        self._opened: Opened[Events] | None = None
        self._failure: APIError | None = None
        self._closed = False

    @property
    def current_message(self) -> Message:
        """A copy of the message so far. Each access copies it, so do not read it at every event."""
        return self._opened.snapshot() if self._opened else Message()

    @property
    def is_complete(self) -> bool:
        """Whether the message is complete."""
        return self._opened is not None and self._opened.message.complete

    @property
    def has_failed(self) -> bool:
        """Whether reading it has raised an error."""
        return self._failure is not None

    @property
    def request_id(self) -> str | None:
        """The request ID, to quote to the operator of the server; None before the response, or if
        it has none.
        """
        return self._opened.request_id if self._opened else None

    @property
    def call_info(self) -> CallInfo | None:
        """What is known of the call by now: headers, attempts, times, rate limits, bytes.

        None before the stream is open.
        """
        return self._opened.describe(self._opened) if self._opened else None

    def _check_usable(self) -> None:
        if self._failure:
            raise self._failure
        if self._closed:
            raise StreamInterruptedError("the stream was closed before it was opened")

    def _failed(self, error: APIError) -> APIError:
        self._failure = self._opened.blame(error) if self._opened else error
        if self._opened:
            self._opened.end(self._opened, "failed", self._failure)
        return self._failure

    def _check_whole(self) -> Opened[Events]:
        if self._failure:
            raise self._failure
        if self._opened is None or not self.is_complete:
            raise self._failed(
                StreamInterruptedError("the stream was closed before the message was complete")
            )
        return self._opened

    def _final(self) -> Message:
        return self._check_whole().snapshot()

    def __repr__(self) -> str:
        if self._opened is None:
            state = "closed" if self._closed else "not sent yet"
        elif self.is_complete:
            state = "complete"
        else:
            state = "failed" if self._failure else "closed" if self._closed else "streaming"
        return f"<{type(self).__name__} {state}>"


class MessageStream(_State[Iterator[Event]]):
    """A message as it arrives: iterate for events, or take `text_stream` or `deltas` for the text.

    Use it in a `with` block, which sends the request and closes the connection at the end. It is
    one iterator, so every view of it goes on where the last one stopped. Either the message
    completes, or an error of this package is raised whose `partial_message` holds what arrived.
    """

    def __init__(self, send: Callable[[], Opened[Iterator[Event]]]) -> None:
        super().__init__()
        self._send = send

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._failure:
            raise self._failure
        if self._closed:
            self.close()  # again, for a thread that was just reading when another one closed
            self._check_whole()
            raise StopIteration
        opened = self._opened or self._open()
        if opened.held:
            return opened.held.popleft()
        try:
            return next(opened.events)
        except StopIteration:
            opened.close_ends()
            raise
        except APIError as error:
            raise self._failed(error) from error.__cause__

    @property
    def text_stream(self) -> Iterator[str]:
        """The text of the answer, piece by piece as the server sends it."""
        for event in self:
            if text := text_of(event):
                yield text

    @property
    def deltas(self) -> Iterator[ContentDelta]:
        """The thinking and the text, each with its kind: `for kind, text in stream.deltas`.

        Not `signature`s, and not thinking that the server keeps to itself: those are in the
        blocks of the message.
        """
        for event in self:
            if delta := delta_of(event):
                yield delta

    def get_final_message(self) -> Message:
        """Read the rest of the stream and return the complete message.

        Returns:
            The message.

        Raises:
            APIError: The stream broke off; `partial_message` has what had arrived.
        """
        for _ in self:
            pass
        return self._final()

    def get_final_text(self) -> str:
        """Read the rest of the stream and return the text of the complete message.

        Returns:
            The text.

        Raises:
            APIError: The stream broke off; `partial_message` has what had arrived.
        """
        return self.get_final_message().text

    def close(self) -> None:
        """Stop reading and close the connection, which makes the server stop generating."""
        self._closed = True
        if self._opened:
            try:
                self._opened.close()
            finally:
                self._opened.close_ends()

    def _open(self) -> Opened[Iterator[Event]]:
        if self._opened is None:
            self._check_usable()
            try:
                self._opened = self._send()
            except APIError as error:
                self._failure = error
                raise
        return self._opened


class AsyncMessageStream(_State[AsyncIterator[Event]]):
    """A message as it arrives: iterate for events, or take `text_stream` or `deltas` for the text.

    Use it in an `async with` block, which sends the request and closes the connection at the end.
    It is one iterator, so every view of it goes on where the last one stopped. Either the message
    completes, or an error of this package is raised whose `partial_message` holds what arrived.
    """

    def __init__(self, send: Callable[[], Awaitable[Opened[AsyncIterator[Event]]]]) -> None:
        super().__init__()
        self._send = send

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._failure:
            raise self._failure
        if self._closed:
            await self.close()  # again, for a task that was just reading when another one closed
            self._check_whole()
            raise StopAsyncIteration
        opened = self._opened or await self._open()
        if opened.held:
            return opened.held.popleft()
        try:
            return await opened.events.__anext__()
        except StopAsyncIteration:
            opened.close_ends()
            raise
        except APIError as error:
            raise self._failed(error) from error.__cause__

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """The text of the answer, piece by piece as the server sends it."""
        return _AsyncPicked(self, text_of)

    @property
    def deltas(self) -> AsyncIterator[ContentDelta]:
        """The thinking and the text, each with its kind: `async for kind, text in stream.deltas`.

        Not `signature`s, and not thinking that the server keeps to itself: those are in the blocks
        of the message.
        """
        return _AsyncPicked(self, delta_of)

    async def get_final_message(self) -> Message:
        """Read the rest of the stream and return the complete message.

        Returns:
            The message.

        Raises:
            APIError: The stream broke off; `partial_message` has what had arrived.
        """
        async for _ in self:
            pass
        return self._final()

    async def get_final_text(self) -> str:
        """Read the rest of the stream and return the text of the complete message.

        Returns:
            The text.

        Raises:
            APIError: The stream broke off; `partial_message` has what had arrived.
        """
        return (await self.get_final_message()).text

    async def close(self) -> None:
        """Stop reading and close the connection, which makes the server stop generating."""
        self._closed = True
        if self._opened:
            try:
                await self._opened.close()
            finally:
                self._opened.close_ends()

    async def _open(self) -> Opened[AsyncIterator[Event]]:
        if self._opened is None:
            self._check_usable()
            try:
                self._opened = await self._send()
            except APIError as error:
                self._failure = error
                raise
        return self._opened


class _AsyncPicked(AsyncIterator[T]):
    """What `pick` finds in a stream. No generator: one left early needs closing, this does not."""

    def __init__(
        self, events: AsyncIterator[Event], pick: Callable[[Event], T | Literal[""] | None]
    ) -> None:
        self._events = events
        self._pick = pick

    async def __anext__(self) -> T:
        while True:
            if found := self._pick(await self._events.__anext__()):
                return found
