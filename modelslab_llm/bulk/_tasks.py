"""Run a bulk run on tasks of asyncio or trio: one brings rows, some ask, one stores.

What is asked and handed out is decided in `_course` and kept in order by the desk; here is only who
waits for whom. All tasks are children of one, which belongs to the event loop and not to the
caller's task: an `async for` that is left with `break` tells nobody, and no scope of the caller's
is open across a `yield`.
"""

from __future__ import annotations

import contextvars
import sys
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel
from typing_extensions import Self

from ..errors import ConfigurationError
from ._desk import Desk
from ._order import Abandoned, LeftEarly, Order
from ._plan import BulkPlan
from ._progress import BulkProgress
from ._result import BulkResult
from ._rows import Ask, records
from ._threads import GATHER, TICK

if TYPE_CHECKING:
    from .._client.messages import AsyncMessages
    from ..types.message import Message
    from ..types.requests import MessageCreateParams

R = TypeVar("R")
T = TypeVar("T")

WITHOUT_A_PAUSE = 100  # rows that are taken before other tasks have a turn


class AsyncBulkRun(Generic[R, T]):
    """The results of many rows, each as soon as it is there; made by `client.messages.bulk`.

    Iterate it once, with `async for`. Nothing is asked before that. Where you leave it early, use
    it as an async context manager, so that it ends there; rows in flight are then given up, stored
    ones are not asked again. It belongs to one task.
    """

    def __init__(self, messages: AsyncMessages, rows: Any, order: Order[R, T]) -> None:
        self._messages = messages
        self._rows = rows
        self._order = order
        self._crew: _Crew[R, T] | None = None
        self._planned = False

    @classmethod
    def of(cls, messages: AsyncMessages, rows: Any, **told: Any) -> Self:
        """Return a run as it was told to `messages.bulk`; called by that alone."""
        rows = records(rows)
        return cls(messages, rows, Order(rows, **told))

    @property
    def progress(self) -> BulkProgress:
        """How far the run has come."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    async def plan(self) -> BulkPlan:
        """Say what the run would do, and ask nothing: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again. Raises
        `ConfigurationError` if the run has begun.
        """
        if self._crew is not None:
            raise ConfigurationError("plan() comes before the run; this one has begun")
        self._planned = isinstance(self._rows, (Iterator, AsyncIterator))
        planner = self._order.planner()
        try:
            rows = _Rows(self._rows)
            async for row in rows:
                planner.take(row)
        finally:
            planner.close()
        return planner.plan

    async def finish(self) -> BulkProgress:
        """Run to the end, where the results are wanted in the store alone; return the counts.

        Raises what ends the run early, as iterating does.
        """
        async for _ in self:
            pass
        return self.progress

    async def close(self) -> None:
        """End the run; rows in flight are given up. A run that has ended is left as it is."""
        if self._crew is not None:
            await self._crew.leave(LeftEarly())

    aclose = close

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BulkResult[R, T]:
        if self._crew is None:
            if self._planned:
                raise ConfigurationError(
                    "rows is an iterator, which plan() has used up: pass a list, or new rows"
                )
            crew = _Crew(self._messages, self._rows, self._order)
            weakref.finalize(self, crew.abandon)
            self._crew = crew
        try:
            return await self._crew.next()
        except StopAsyncIteration:
            raise
        except BaseException as error:
            await self._crew.leave(error)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._crew is not None:
            await self._crew.leave(exc or LeftEarly())


class _Crew(Generic[R, T]):
    """The tasks of one run. They know nothing of the `AsyncBulkRun`, which may be garbage."""

    def __init__(self, messages: AsyncMessages, rows: Any, order: Order[R, T]) -> None:
        self._messages = messages
        self._rows = rows
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
        self._told = False  # whether the caller knows why it ended
        self._soon = spawn(self._run)

    async def next(self) -> BulkResult[R, T]:
        """Return the next result. Raises what ended the run, or `StopAsyncIteration`."""
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

    async def leave(self, why: BaseException) -> None:
        """Give up what is in flight; store what is done. Does nothing once the run has ended."""
        if not self._ended.is_set():
            self._why = self._why or why
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
            self._why = self._why or error
            if not isinstance(error, Exception):  # cancelled with the loop
                raise
            self._desk.course.stop(error)
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
                tasks.start_soon(self._store)
            tasks.start_soon(self._show)
            await self._bring(tasks)
            while not self._desk.settled:
                self._room = anyio.Event()
                await self._room.wait()
            tasks.cancel_scope.cancel()

    async def _bring(self, tasks: Any) -> None:
        """Take rows while there is room, and put their requests in line."""
        desk, in_a_row = self._desk, 0
        rows = _Rows(self._rows)
        try:
            while await self._has_room():
                try:
                    row = await anext(rows)
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
        """Let somebody know of what has come: who asks, who stores, or who waits for results."""
        desk = self._desk
        if desk.line:
            if self._idle:
                self._idle.pop().set()
            elif self._workers < self._order.max_in_flight and len(desk.line) > 0:
                self._workers += 1
                tasks.start_soon(self._work)
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
        params, output = cast("MessageCreateParams", ask.params), self._order.output
        try:
            if output is None:
                return await self._messages.create(**params)
            return await self._messages.parse(
                output=output.type,
                strategy=output.strategy,
                validation_retries=output.validation_retries,
                **params,
            )
        except Exception as error:  # noqa: BLE001  the desk says what it is
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
        """Store results; where that fails the run ends, and they are handed out all the same."""
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
            if screen.is_due:
                screen.show(self.progress())
            await anyio.sleep(TICK)


class _Rows(AsyncIterator[Any]):
    """The caller's rows, sync or async. No generator: one that is left early needs closing."""

    def __init__(self, rows: Any) -> None:
        self._async = aiter(rows) if isinstance(rows, AsyncIterable) else None
        self._sync = iter(rows) if self._async is None else None

    async def __anext__(self) -> Any:
        if self._async is not None:
            return await anext(self._async)
        for row in cast("Iterator[Any]", self._sync):
            return row
        raise StopAsyncIteration

    async def close(self) -> None:
        """Close an async generator of the caller's: nobody else can while it is in this task."""
        if hasattr(self._async, "aclose"):
            await cast("Any", self._async).aclose()


_RUNNING: set[Any] = set()
"""asyncio itself holds tasks weakly."""


def spawn(run: Callable[[], Awaitable[None]]) -> Any:
    """Start a task that belongs to the running event loop; return what calls a function there."""
    if (trio := cast("Any", sys.modules.get("trio"))) and trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())
        return trio.lowlevel.current_trio_token().run_sync_soon
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(cast("Any", run()))
    _RUNNING.add(task)
    task.add_done_callback(_RUNNING.discard)
    return loop.call_soon_threadsafe
