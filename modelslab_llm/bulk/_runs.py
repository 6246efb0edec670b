"""The runs that users hold, sync and async: one line each. Loaded with the client, so kept light.

What is asked and handed out is decided in `_course`; who does it are the crews, in `_threads` and
`_tasks`, which are loaded when a run begins.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import Self

from ..errors import ConfigurationError
from ..types.message import Message
from ._order import Order
from ._plan import BulkPlan
from ._progress import BulkProgress
from ._result import BulkResult

if TYPE_CHECKING:  # the crews are loaded when a run begins
    from ._tasks import AsyncCrew
    from ._threads import Crew

R = TypeVar("R")
T = TypeVar("T")

LATE = "plan() comes before the run; this one has begun"
USED_UP = "rows is an iterator, which plan() has used up: pass a list, or new rows"


class BulkRun(Generic[R, T]):
    """The results of many rows, each as soon as it is there; made by `client.messages.bulk`.

    Iterate it once. Nothing is asked before that. Where you leave it early, use it as a context
    manager, so that it ends there; rows in flight are then given up, stored ones are not asked
    again. It belongs to one thread.
    """

    def __init__(self, ask: Callable[[Any], Message], order: Order[R, T]) -> None:
        if not isinstance(order.rows, Iterable):
            raise TypeError("rows is an async iterable: AsyncModelsLab takes those")
        self._ask = ask
        self._order = order
        self._crew: Crew[R, T] | None = None
        self._planned = False

    @property
    def progress(self) -> BulkProgress:
        """How far the run has come."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    def plan(self) -> BulkPlan:
        """Say what the run would do, without asking anything: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again.

        Returns:
            The plan: how many rows, and what would become of them.

        Raises:
            ConfigurationError: The run has begun.
        """
        if self._crew is not None:
            raise ConfigurationError(LATE)
        rows = self._order.rows
        self._planned = isinstance(rows, Iterator)
        with self._order.planner() as planner:
            for row in rows:
                planner.take(row)
        return planner.plan

    def finish(self) -> BulkProgress:
        """Run to the end, where the results are wanted in the store alone.

        Returns:
            The counts.

        Raises:
            ModelsLabError: What ends the run early, as iterating raises it.
        """
        for _ in self:
            pass
        return self.progress

    def close(self) -> None:
        """End the run; rows in flight are given up. A run that has ended is left as it is."""
        if self._crew is not None:
            self._crew.leave()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BulkResult[R, T]:
        if self._crew is None:
            self._crew = self._begun()
        return self._crew.next()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._crew is not None:
            self._crew.leave(exc)

    def _begun(self) -> Crew[R, T]:
        from ._threads import Crew

        if self._planned:
            raise ConfigurationError(USED_UP)
        crew = Crew(self._ask, self._order)
        weakref.finalize(self, crew.abandon)  # also at the end of the program
        return crew


class AsyncBulkRun(Generic[R, T]):
    """The results of many rows, each as soon as it is there; made by `client.messages.bulk`.

    Iterate it once, with `async for`. Nothing is asked before that. Where you leave it early, use
    it as an async context manager, so that it ends there; rows in flight are then given up, stored
    ones are not asked again. It belongs to one task.
    """

    def __init__(self, ask: Callable[[Any], Awaitable[Message]], order: Order[R, T]) -> None:
        self._ask = ask
        self._order = order
        self._crew: AsyncCrew[R, T] | None = None
        self._planned = False

    @property
    def progress(self) -> BulkProgress:
        """How far the run has come."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    async def plan(self) -> BulkPlan:
        """Say what the run would do, without asking anything: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again.

        Returns:
            The plan: how many rows, and what would become of them.

        Raises:
            ConfigurationError: The run has begun.
        """
        from ._tasks import Rows

        if self._crew is not None:
            raise ConfigurationError(LATE)
        rows = self._order.rows
        self._planned = isinstance(rows, (Iterator, AsyncIterator))
        with self._order.planner() as planner:
            async for row in Rows[R](rows):
                planner.take(row)
        return planner.plan

    async def finish(self) -> BulkProgress:
        """Run to the end, where the results are wanted in the store alone.

        Returns:
            The counts.

        Raises:
            ModelsLabError: What ends the run early, as iterating raises it.
        """
        async for _ in self:
            pass
        return self.progress

    async def close(self) -> None:
        """End the run; rows in flight are given up. A run that has ended is left as it is."""
        if self._crew is not None:
            await self._crew.leave()

    aclose = close

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BulkResult[R, T]:
        if self._crew is None:
            self._crew = self._begun()
        return await self._crew.next()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._crew is not None:
            await self._crew.leave(exc)

    def _begun(self) -> AsyncCrew[R, T]:
        from ._tasks import AsyncCrew

        if self._planned:
            raise ConfigurationError(USED_UP)
        crew = AsyncCrew(self._ask, self._order)
        weakref.finalize(self, crew.abandon)
        return crew
