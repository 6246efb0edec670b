"""Execute a bulk run on tasks of asyncio or trio: one reads rows, some ask, one stores.

`_course` decides what is asked and handed out, and the desk keeps it in order; this module only
makes tasks wait for each other. All tasks are children of one task, which belongs to the event loop
instead of the caller's task, because an `async for` that is left with `break` notifies nobody, and
no cancel scope may be open across a `yield`.
"""

from __future__ import annotations

import contextvars
import sys
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from contextlib import suppress
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from ..types.message import Message
from ._desk import Desk
from ._order import Abandoned, LeftEarly, Order
from ._progress import BulkProgress
from ._result import BulkResult
from ._rows import Ask
from ._threads import GATHER, TICK

R = TypeVar("R")
T = TypeVar("T")
W = TypeVar("W", bound=Callable[..., Awaitable[Any]])

WITHOUT_A_PAUSE = 100  # rows taken before other tasks get a turn


class AsyncCrew(Generic[R, T]):
    """The tasks of one run. They do not hold the `AsyncBulkRun`, so that it can be collected."""

    def __init__(self, ask: Callable[[Any], Awaitable[Message]], order: Order[R, T]) -> None:
        self._send = ask
        self._order = order
        self._desk: Desk[R, T] = order.begin()
        self._ledger = order.ledger
        self._scope = anyio.CancelScope()
        self._idle: list[anyio.Event] = []
        self._workers = 0
        self._room = anyio.Event()
        self._unsafe = anyio.Event()
        self._news = anyio.Event()
        self._ended = anyio.Event()
        self._why: BaseException | None = None
        self._told = False  # whether the caller knows why the run ended
        self._waits = False
        self._soon = spawn(self._run)

    async def next(self) -> BulkResult[R, T]:
        """Return the next result. Raises what ended the run, or `StopAsyncIteration`."""
        if self._waits:
            raise RuntimeError("a bulk run belongs to one task, and another task is using it")
        self._waits = True
        try:
            return await without_ctrl_c(self._next)()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            await self.leave(error)
            raise
        finally:
            self._waits = False

    async def _next(self) -> BulkResult[R, T]:
        desk = self._desk
        while not desk.ready:
            if self._ended.is_set():
                if self._told or desk.course.why is None:
                    raise StopAsyncIteration
                self._told = True
                raise desk.course.why
            self._news = anyio.Event()
            await self._news.wait()
        result = desk.hand_out()
        if desk.wants_rows:
            self._room.set()
        return result

    def progress(self) -> BulkProgress:
        return self._desk.progress(time.monotonic())

    async def leave(self, error: BaseException | None = None) -> None:
        """Cancel what is in flight and store what is done. Does nothing if the run has ended."""
        if not self._ended.is_set():
            self._why = self._why or error or LeftEarly()
            self._scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
        self._desk.ready.clear()
        self._told = True

    def abandon(self) -> None:
        """Leave from wherever the garbage collector runs."""
        if not self._ended.is_set():
            self._why = self._why or Abandoned()
            with suppress(RuntimeError):  # the loop has ended, and everything with it
                self._soon(self._scope.cancel)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work_to_the_end()
            if self._scope.cancelled_caught:
                self._desk.course.stop(self._why or LeftEarly())
        except BaseException as error:
            cause = _cause(error)
            self._why = self._why or cause
            if isinstance(cause, anyio.get_cancelled_exc_class()):  # together with the loop
                raise
            # Ctrl-C may strike in the caller's rows, but belongs to the caller's task.
            self._desk.course.stop(cause)
        finally:
            self._finish()

    def _finish(self) -> None:
        try:
            self._write()
            self._order.close(self._desk, self._why)
        except Exception as error:  # noqa: BLE001  raised by the run
            self._desk.course.stop(error)
        finally:
            self._ended.set()
            self._news.set()

    async def _work_to_the_end(self) -> None:
        async with anyio.create_task_group() as tasks:
            if self._ledger is not None:
                tasks.start_soon(without_ctrl_c(self._store))
            tasks.start_soon(without_ctrl_c(self._show))
            await self._bring(tasks)
            while not self._desk.settled:
                self._room = anyio.Event()
                await self._room.wait()
            tasks.cancel_scope.cancel()

    async def _bring(self, tasks: Any) -> None:
        """Take rows while there is room, and queue their requests."""
        desk, in_a_row = self._desk, 0
        rows = Rows(self._order.rows)
        next_row = with_ctrl_c(rows.__anext__)
        try:
            while await self._has_room():
                try:
                    row = await next_row()
                except StopAsyncIteration:
                    desk.exhausted = True
                    return
                desk.take(row)
                self._spread(tasks)
                in_a_row += 1
                if in_a_row % WITHOUT_A_PAUSE == 0:
                    await anyio.lowlevel.checkpoint()
        except Exception as error:  # noqa: BLE001  the caller's rows may raise anything
            desk.exhausted, desk.course.rows_raised = True, error
        finally:
            with anyio.CancelScope(shield=True):
                await rows.close()

    async def _has_room(self) -> bool:
        desk = self._desk
        while not desk.wants_row:
            if desk.course.end is not None:
                return False
            self._room = anyio.Event()
            await self._room.wait()
        return True

    def _spread(self, tasks: Any) -> None:
        """Wake the tasks that ask or store, and the caller if it waits for results."""
        desk = self._desk
        if desk.line:
            if self._idle:
                self._idle.pop().set()
            elif self._workers < self._order.max_in_flight and len(desk.line) > 0:
                self._workers += 1
                tasks.start_soon(without_ctrl_c(self._work))
        if desk.unstored:
            self._unsafe.set()
        elif desk.ready:
            self._news.set()

    async def _work(self) -> None:
        desk = self._desk
        while True:
            ask = desk.next()
            if desk.wants_rows or ask is None:
                self._room.set()
            if ask is None:
                self._idle.append(event := anyio.Event())
                await event.wait()
                continue
            outcome = await self._ask(ask)
            desk.ended(ask, outcome)
            if desk.unstored:
                self._unsafe.set()
            else:
                self._news.set()
            self._room.set()

    async def _ask(self, ask: Ask[R]) -> Message | BaseException:
        try:
            return await self._send(ask.params)
        except Exception as error:  # noqa: BLE001  the desk decides what it means
            return error

    async def _store(self) -> None:
        while True:
            await self._unsafe.wait()
            self._unsafe = anyio.Event()
            if self._desk.tally.in_flight:
                await anyio.sleep(GATHER)
            self._write()
            self._news.set()
            self._room.set()

    def _write(self) -> None:
        """Store results; if that fails, the run ends, and the results are still handed out."""
        batch = self._desk.take_unstored()
        try:
            if self._ledger is not None:
                self._ledger.write([kept for kept, _ in batch if kept is not None])
        except Exception as error:  # noqa: BLE001  raised by the run
            self._desk.course.stop(error)
        self._desk.stored(batch)

    async def _show(self) -> None:
        screen = self._order.screen
        while True:
            try:
                if screen.is_due:
                    screen.show(self.progress())
            except Exception as error:  # noqa: BLE001  the caller's function may raise anything
                self._desk.course.stop(error)
            await anyio.sleep(TICK)


class Rows(AsyncIterator[R]):
    """The caller's rows, sync or async. Not a generator, which would need closing if left early."""

    def __init__(self, rows: Iterable[R] | AsyncIterable[R]) -> None:
        if isinstance(rows, AsyncIterable):
            self._async: AsyncIterator[R] | None = aiter(rows)
            self._sync: Iterator[R] = iter(())
        else:
            self._async, self._sync = None, iter(rows)

    async def __anext__(self) -> R:
        if self._async is not None:
            return await anext(self._async)
        for row in self._sync:
            return row
        raise StopAsyncIteration

    async def close(self) -> None:
        """Close the caller's async generator, which only this task can do."""
        source: Any = self._async
        if isinstance(source, AsyncGenerator):
            await source.aclose()


def _cause(error: BaseException) -> BaseException:
    """Return the cause in a group of errors, ignoring tasks that it cancelled."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    cancelled = anyio.get_cancelled_exc_class()
    causes = [cause for cause in map(_cause, inner) if not isinstance(cause, cancelled)]
    return causes[0] if causes else error


_RUNNING: set[Any] = set()
"""asyncio itself holds tasks only weakly."""


def spawn(run: Callable[[], Coroutine[Any, Any, None]]) -> Any:
    """Start a task that belongs to the event loop; return what calls a function in the loop."""
    if (trio := _running_trio()) is not None:
        trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())
        return trio.lowlevel.current_trio_token().run_sync_soon
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(run())
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    return loop.call_soon_threadsafe


def without_ctrl_c(work: W) -> W:
    """Have Ctrl-C interrupt the caller's task where it waits, and not `work`.

    asyncio does so by itself, but trio raises KeyboardInterrupt in any Python code. Within our own
    bookkeeping, tasks would then wait for each other forever; within pydantic, it would become
    another error.
    """
    trio = _running_trio()
    return work if trio is None else trio.lowlevel.enable_ki_protection(work)


def with_ctrl_c(work: W) -> W:
    """Have Ctrl-C interrupt `work`: it is the caller's code, and may block."""
    trio = _running_trio()
    return work if trio is None else trio.lowlevel.disable_ki_protection(work)


def _running_trio() -> Any:
    trio: Any = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None
