"""Define the streams of `parse_stream`: a `MessageStream` that also yields its output as it grows.

Requests are made in `_ask` and answers are read in `_read`; nothing is decided here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from .._protocol.reader import Opened
from .._protocol.schema import WRAPPED
from .._protocol.stream import AsyncMessageStream, MessageStream
from ..types.content import InputJSONDelta, TextBlock, TextDelta, ToolUseBlock
from ..types.events import ContentBlockDeltaEvent, ContentBlockStartEvent, Event
from ..types.parsed import ParsedMessage
from ._partial import PartialObject
from ._read import OutputRequest

T = TypeVar("T")


class ParsedMessageStream(MessageStream, Generic[T]):
    """A streamed output: a `MessageStream` with `partial_stream` besides `text_stream`.

    Its final message has `.parsed`, the complete, validated output.
    """

    def __init__(
        self, send: Callable[[], Opened[Iterator[Event]]], asked: OutputRequest[T]
    ) -> None:
        super().__init__(send)
        self._asked = asked
        self._growing = Growing(asked.tool, asked.wrapped)

    def __next__(self) -> Event:
        event = super().__next__()
        self._growing.add(event)
        return event

    @property
    def partial_stream(self) -> Iterator[Any]:
        """The output received so far, yielded again as it grows.

        Yields plain JSON values that are not validated: for a model, a dict whose last value may
        still grow. The last one is complete. Large outputs grow in larger steps, which keeps the
        cost linear.
        """
        for _ in self:
            yield from self._growing.news()
        yield from self._growing.news(whole=True)

    def get_final_message(self) -> ParsedMessage[T]:
        """Read the rest of the stream and return the complete message, with its output in `parsed`.

        Returns:
            The message.

        Raises:
            APIError: The stream broke off; `partial_message` has the message so far.
            OutputError: The answer is not the output: truncated, refused or invalid.
        """
        return self._asked.read(super().get_final_message())


class AsyncParsedMessageStream(AsyncMessageStream, Generic[T]):
    """A streamed output: an `AsyncMessageStream` with `partial_stream` besides `text_stream`.

    Its final message has `.parsed`, the complete, validated output.
    """

    def __init__(
        self, send: Callable[[], Awaitable[Opened[AsyncIterator[Event]]]], asked: OutputRequest[T]
    ) -> None:
        super().__init__(send)
        self._asked = asked
        self._growing = Growing(asked.tool, asked.wrapped)

    async def __anext__(self) -> Event:
        event = await super().__anext__()
        self._growing.add(event)
        return event

    @property
    def partial_stream(self) -> AsyncIterator[Any]:
        """The output received so far, yielded again as it grows.

        Yields plain JSON values that are not validated: for a model, a dict whose last value may
        still grow. The last one is complete. Large outputs grow in larger steps, which keeps the
        cost linear.
        """
        return _AsyncPartials(self, self._growing)

    async def get_final_message(self) -> ParsedMessage[T]:
        """Read the rest of the stream and return the complete message, with its output in `parsed`.

        Returns:
            The message.

        Raises:
            APIError: The stream broke off; `partial_message` has the message so far.
            OutputError: The answer is not the output: truncated, refused or invalid.
        """
        return self._asked.read(await super().get_final_message())


class _AsyncPartials(AsyncIterator[Any]):
    """The outputs in a stream. Not a generator, which would need closing when left early."""

    def __init__(self, events: AsyncIterator[Event], growing: Growing) -> None:
        self._events = events
        self._growing = growing

    async def __anext__(self) -> Any:
        async for _ in self._events:
            for value in self._growing.news():
                return value
        for value in self._growing.news(whole=True):
            return value
        raise StopAsyncIteration


class Growing:
    """Follow an output through the events of a stream: the first call of its tool, or the text."""

    def __init__(self, tool: str | None, wrapped: bool) -> None:
        self._tool = tool
        self._wrapped = wrapped
        self._index: int | None = None
        self._object = PartialObject()

    def add(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, ContentBlockStartEvent):
            self._begin(event)
        elif isinstance(event, ContentBlockDeltaEvent):
            delta = event.delta
            if self._tool is None and isinstance(delta, TextDelta):
                self._object.add(delta.text)
            elif event.index == self._index and isinstance(delta, InputJSONDelta):
                self._object.add(delta.partial_json)

    def news(self, *, whole: bool = False) -> list[Any]:
        """Return the output received so far, if it has grown since the last call.

        It is a list of one or no item, because None may be an output.
        """
        value = self._object.news(whole=whole)
        if value is None or (self._wrapped and WRAPPED not in value):
            return []
        return [value[WRAPPED] if self._wrapped else value]

    def _begin(self, event: ContentBlockStartEvent) -> None:
        block = event.content_block
        if self._tool is None and isinstance(block, TextBlock):
            self._object.add(block.text)
        elif isinstance(block, ToolUseBlock) and block.name == self._tool and self._index is None:
            self._index = event.index
            if block.input:  # complete at once
                self._object.add(json.dumps(block.input))
        elif event.index == self._index:  # another block reuses the index
            self._index = -1
