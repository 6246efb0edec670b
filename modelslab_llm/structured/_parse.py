"""Ask for an output: the flow behind `parse`, and the streams of `parse_stream`.

What is asked and how an answer is read is decided in `_output`; the twins here only iterate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from .._protocol.config import Config
from .._protocol.exchange import exchange
from .._protocol.messages import Route, create_message
from .._protocol.reader import Opened
from .._protocol.stream import AsyncMessageStream, MessageStream
from .._protocol.values import Attempt, Deadline, Outcome
from ..errors import InvalidRequestError, OutputInvalidError
from ..types.events import Event
from ..types.parsed import ParsedMessage
from ._asked import Asked, Growing

T = TypeVar("T")


def parsing(
    config: Config,
    asked: Asked[T],
    validation_retries: int,
    clock: Callable[[], float],
    route: Route | None = None,
) -> Generator[Attempt, Outcome, ParsedMessage[T]]:
    """Ask until an answer fits, `validation_retries` times again at most, before one deadline.

    Only an invalid answer is asked for again: one that was cut or refused would be again.
    """
    if type(validation_retries) is not int or validation_retries < 0:
        given = repr(validation_retries)
        raise InvalidRequestError(
            f"validation_retries: must be a whole number, at least 0, not {given}"
        )
    deadline = Deadline.of(config, clock)
    while True:
        message = yield from exchange(
            create_message(config, asked.params, "parse", route), deadline
        )
        try:
            return asked.read(message)
        except OutputInvalidError as error:
            if len(asked.previous_attempts) >= validation_retries:
                raise
            asked = asked.again(error)


class ParsedMessageStream(MessageStream, Generic[T]):
    """An output as it comes: a `MessageStream` with `partial_stream` beside `text_stream`.

    Its final message has `.parsed`, the output validated whole.
    """

    def __init__(self, send: Callable[[], Opened[Iterator[Event]]], asked: Asked[T]) -> None:
        super().__init__(send)
        self._asked = asked
        self._growing: Growing = asked.growing()

    def __next__(self) -> Event:
        event = super().__next__()
        self._growing.add(event)
        return event

    @property
    def partial_stream(self) -> Iterator[Any]:
        """The output as far as it has come, again and again as it grows.

        These are plain JSON values, not validated: a dict for a model, whose last value may still
        grow. The last one is whole. Large outputs grow in larger steps, which keeps the cost of
        looking linear.
        """
        for _ in self:
            yield from self._growing.news()
        yield from self._growing.news(whole=True)

    def get_final_message(self) -> ParsedMessage[T]:
        """Read what is left; return the whole message, with its output in `parsed`.

        Raises `APIError` if the stream breaks off, `OutputError` if the answer is not the output.
        """
        return self._asked.read(super().get_final_message())


class AsyncParsedMessageStream(AsyncMessageStream, Generic[T]):
    """An output as it comes: an `AsyncMessageStream` with `partial_stream` beside `text_stream`.

    Its final message has `.parsed`, the output validated whole.
    """

    def __init__(
        self, send: Callable[[], Awaitable[Opened[AsyncIterator[Event]]]], asked: Asked[T]
    ) -> None:
        super().__init__(send)
        self._asked = asked
        self._growing: Growing = asked.growing()

    async def __anext__(self) -> Event:
        event = await super().__anext__()
        self._growing.add(event)
        return event

    @property
    def partial_stream(self) -> AsyncIterator[Any]:
        """The output as far as it has come; as for `ParsedMessageStream`."""
        return _AsyncPartials(self, self._growing)

    async def get_final_message(self) -> ParsedMessage[T]:
        """Read what is left; return the whole message, with its output in `parsed`.

        Raises `APIError` if the stream breaks off, `OutputError` if the answer is not the output.
        """
        return self._asked.read(await super().get_final_message())


class _AsyncPartials(AsyncIterator[Any]):
    """The outputs in a stream. No generator: one that is left early needs closing."""

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
