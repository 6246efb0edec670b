"""Run conversations with tools: `ToolRunner` and its async version, side by side.

They send requests and run functions, but decide nothing: `ToolLoop` decides what comes next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import copy_context
from inspect import isawaitable
from threading import Thread
from types import TracebackType
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from .._hints import HintsAtNames
from .._protocol.stream import AsyncMessageStream, MessageStream
from ..errors import InvalidRequestError, ToolError
from ..types.message import Message
from ..types.requests import MessageParam
from ..types.usage import Usage, sum_usage
from ._tool_loop import ToolCall, ToolLoop

S = TypeVar("S", MessageStream, AsyncMessageStream)


class _State(HintsAtNames, Generic[S]):
    """The part that sync and async share: the conversation, and the answer being streamed."""

    def __init__(self, loop: ToolLoop) -> None:
        self._loop = loop
        self._stream: S | None = None
        self._heard = True

    @property
    def total_usage(self) -> Usage:
        """The usage of all turns so far, including answers that broke off.

        For these, the tokens that the server had reported are counted.
        """
        usages = list(self._loop.usages)
        if self._stream and self._stream.has_failed:
            usages.append(self._stream.current_message.total_usage)
        return sum_usage(usages)

    @property
    def messages(self) -> list[MessageParam]:
        """The conversation so far, in the form of a request.

        An answer whose calls are not answered yet is not part of it.
        """
        return list(self._loop.messages)

    @property
    def calls(self) -> list[ToolCall]:
        """The calls in the last answer, which run when the runner continues.

        Raises `ToolError` while that answer is still streaming: its calls come at its end.
        """
        if self._stream and not self._heard:
            if not self._stream.is_complete:
                raise ToolError("the calls are known once the stream has been read to its end")
            self._hear(self._stream.current_message)
        return self._loop.calls

    def _take_stream(self) -> S | None:
        """Return the answer being streamed, if it is still worth reading, and release it."""
        stream, self._stream = self._stream, None
        if stream and stream.has_failed:
            self._loop.usages.append(stream.current_message.total_usage)
            return None
        return stream

    def _hear(self, message: Message) -> None:
        if not self._heard:
            self._heard = True
            self._loop.add_reply(message)

    def _final(self) -> Message:
        message = self._loop.message
        assert message is not None  # the loop ends with an answer or an error
        return message


class ToolRunner(_State[MessageStream]):
    """A conversation in which tools are run: iterate over the model's messages, one per turn.

    It is one iterator, so each way of reading continues where the last one stopped. Between two
    turns, the calls in `calls` run one after the other. Use `with` if you may leave it early while
    an answer is streaming. After an `APIError`, it is as before the request: continue to try again.
    """

    def __init__(
        self,
        loop: ToolLoop,
        create: Callable[[Mapping[str, Any]], Message],
        stream: Callable[[Mapping[str, Any]], MessageStream],
    ) -> None:
        super().__init__(loop)
        for tool in loop.tools.values():
            if tool.is_async:
                raise InvalidRequestError(f"tool {tool.name!r} is async: use AsyncModelsLab")
        self._create = create
        self._open = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        params = self._next_request()
        if params is None:
            raise StopIteration
        message = self._create(params)
        self._loop.add_reply(message)
        return message

    def stream(self) -> Iterator[MessageStream]:
        """Iterate over the turns as streams, which are opened and read to their end for you.

        Returns:
            An iterator of one stream per turn.
        """
        return _Streams(self)

    def get_final_message(self) -> Message:
        """Run the conversation to its end and return the last message.

        It is the first message without calls, one that the model refused to continue (its calls are
        not run), or one with a call that you have to answer yourself (see `calls`) because its
        definition has no function.

        Returns:
            The message.

        Raises:
            TooManyTurnsError: `max_turns` messages brought no final answer.
            ToolError: A tool failed, with `on_error="raise"`.
            APIError: No usable response; the runner is as it was before the request, so call this
                again to try again.
        """
        for _ in self:
            pass
        return self._final()

    def close(self) -> None:
        """Close the connection of an answer that is being streamed."""
        if self._stream:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next_stream(self) -> MessageStream | None:
        params = self._next_request()
        if params is None:
            return None
        self._stream = self._open(params)
        self._heard = False
        return self._stream

    def _next_request(self) -> dict[str, Any] | None:
        """End the turn: read the answer, run its calls."""
        if stream := self._take_stream():
            with stream:
                message = stream.get_final_message()
            self._hear(message)
        for call in self._loop.calls_to_run():
            _run(call)
        return self._loop.next_request()


class _Streams(Iterator[MessageStream]):
    def __init__(self, runner: ToolRunner) -> None:
        self._runner = runner

    def __next__(self) -> MessageStream:
        stream = self._runner._next_stream()  # pyright: ignore[reportPrivateUsage]
        if stream is None:
            raise StopIteration
        return stream


def _run(call: ToolCall) -> None:
    assert call.tool is not None
    tool = call.tool
    try:
        call.answer(_within(tool.timeout, lambda: tool.call(call.input)))
    except Exception as error:  # noqa: BLE001 - the model is told, and `call.error` keeps it
        call.fail(error)


def _within(seconds: float | None, run: Callable[[], Any]) -> Any:
    """Run a function with a timeout. A thread cannot be stopped, so it is abandoned."""
    if seconds is None:
        return run()
    from concurrent.futures import Future, wait

    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(run())
        except BaseException as error:  # noqa: BLE001 - passed to the thread that waits
            future.set_exception(error)

    Thread(target=copy_context().run, args=(work,), daemon=True).start()
    if not wait([future], seconds).done:
        raise _too_slow(seconds)
    return future.result()


def _too_slow(seconds: float | None) -> TimeoutError:
    return TimeoutError(f"no result within {seconds} s")


class AsyncToolRunner(_State[AsyncMessageStream]):
    """A conversation in which tools are run: iterate over the model's messages, one per turn.

    It is one iterator, so each way of reading continues where the last one stopped. Between two
    turns, the calls in `calls` run concurrently, functions that are not async in threads. Use
    `async with` if you may leave it early while an answer is streaming. After an `APIError`, it is
    as before the request: continue to try again.
    """

    def __init__(
        self,
        loop: ToolLoop,
        create: Callable[[Mapping[str, Any]], Awaitable[Message]],
        stream: Callable[[Mapping[str, Any]], AsyncMessageStream],
    ) -> None:
        super().__init__(loop)
        self._create = create
        self._open = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        params = await self._next_request()
        if params is None:
            raise StopAsyncIteration
        message = await self._create(params)
        self._loop.add_reply(message)
        return message

    def stream(self) -> AsyncIterator[AsyncMessageStream]:
        """Iterate over the turns as streams, which are opened and read to their end for you.

        Returns:
            An iterator of one stream per turn.
        """
        return _AsyncStreams(self)

    async def get_final_message(self) -> Message:
        """Run the conversation to its end and return the last message.

        It is the first message without calls, one that the model refused to continue (its calls are
        not run), or one with a call that you have to answer yourself (see `calls`) because its
        definition has no function.

        Returns:
            The message.

        Raises:
            TooManyTurnsError: `max_turns` messages brought no final answer.
            ToolError: A tool failed, with `on_error="raise"`.
            APIError: No usable response; the runner is as it was before the request, so call this
                again to try again.
        """
        async for _ in self:
            pass
        return self._final()

    async def close(self) -> None:
        """Close the connection of an answer that is being streamed."""
        if self._stream:
            await self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _next_stream(self) -> AsyncMessageStream | None:
        params = await self._next_request()
        if params is None:
            return None
        self._stream = self._open(params)
        self._heard = False
        return self._stream

    async def _next_request(self) -> dict[str, Any] | None:
        """End the turn: read the answer, run its calls."""
        if stream := self._take_stream():
            async with stream:
                message = await stream.get_final_message()
            self._hear(message)
        await _arun_all(self._loop.calls_to_run())
        return self._loop.next_request()


class _AsyncStreams(AsyncIterator[AsyncMessageStream]):
    def __init__(self, runner: AsyncToolRunner) -> None:
        self._runner = runner

    async def __anext__(self) -> AsyncMessageStream:
        stream = await self._runner._next_stream()  # pyright: ignore[reportPrivateUsage]
        if stream is None:
            raise StopAsyncIteration
        return stream


async def _arun_all(calls: list[ToolCall]) -> None:
    """Run calls concurrently. An exception that ends a program, such as `SystemExit`, ends all."""
    if not calls:
        return
    import anyio  # where httpx is, so is anyio

    ended_by: list[BaseException] = []

    async def run(call: ToolCall) -> None:
        try:
            await _arun(call)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, outside the group
            ended_by.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(run, call)
    if ended_by:
        raise ended_by[0]


async def _arun(call: ToolCall) -> None:
    assert call.tool is not None
    try:
        call.answer(await _awithin(call.tool.timeout, call.tool, call.input))
    except Exception as error:  # noqa: BLE001 - the model is told, and `call.error` keeps it
        call.fail(error)


async def _awithin(seconds: float | None, tool: Any, input: dict[str, Any]) -> Any:
    """Run a tool with a timeout: an async one is cancelled, a thread is abandoned."""
    import anyio
    from anyio import to_thread

    with anyio.move_on_after(seconds):
        if tool.is_async:
            return await tool.call(input)
        # In a tuple, because trio accepts no awaitable from a thread.
        (found,) = await to_thread.run_sync(lambda: (tool.call(input),), abandon_on_cancel=True)
        return await found if isawaitable(found) else found
    raise _too_slow(seconds)
