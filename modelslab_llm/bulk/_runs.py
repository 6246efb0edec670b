"""Define the run objects, sync and async. Loaded with the client, so kept light.

`_course` decides what is asked and handed out. The crews in `_threads` and `_tasks` do it; they are
loaded when a run begins.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from typing_extensions import Self

from .._hints import HintsAtNames, Place
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

LATE = "call plan() before the run; this one has started"
USED_UP = "rows is an iterator, which plan() has used up: pass a list, or new rows"


class BulkRun(HintsAtNames, Generic[R, T]):
    """The results of many rows, each as soon as it is available; made by `client.messages.bulk`.

    Iterate it once; nothing is asked before. To leave it early, use it as a context manager: the
    run ends with the block, rows in flight are abandoned, and stored ones are not asked again. Use
    it in one thread.
    """

    _place: ClassVar[Place] = "run"

    def __init__(self, ask: Callable[[Any], Message], order: Order[R, T]) -> None:
        if not isinstance(order.rows, Iterable):
            raise TypeError("rows is an async iterable: use AsyncModelsLab")
        self._ask = ask
        self._order = order
        self._crew: Crew[R, T] | None = None
        self._planned = False

    @property
    def progress(self) -> BulkProgress:
        """The current progress of the run."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    def plan(self) -> BulkPlan:
        """Say what the run would do, without asking anything: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again.

        Returns:
            The plan: the number of rows, and what would happen to them.

        Raises:
            ConfigurationError: The run has already begun.
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
        """Run to the end, when you need the results only in the store.

        Returns:
            The counts.

        Raises:
            ModelsLabError: The error that ends the run early, as raised by iterating.
        """
        for _ in self:
            pass
        return self.progress

    def close(self) -> None:
        """End the run and abandon rows in flight. Does nothing if the run has ended."""
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


class AsyncBulkRun(HintsAtNames, Generic[R, T]):
    """The results of many rows, each as soon as it is available; made by `client.messages.bulk`.

    Iterate it once, with `async for`; nothing is asked before. To leave it early, use it as an
    async context manager: the run ends with the block, rows in flight are abandoned, and stored
    ones are not asked again. Use it in one task.
    """

    _place: ClassVar[Place] = "run"

    def __init__(self, ask: Callable[[Any], Awaitable[Message]], order: Order[R, T]) -> None:
        self._ask = ask
        self._order = order
        self._crew: AsyncCrew[R, T] | None = None
        self._planned = False

    @property
    def progress(self) -> BulkProgress:
        """The current progress of the run."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    async def plan(self) -> BulkPlan:
        """Say what the run would do, without asking anything: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again.

        Returns:
            The plan: the number of rows, and what would happen to them.

        Raises:
            ConfigurationError: The run has already begun.
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
        """Run to the end, when you need the results only in the store.

        Returns:
            The counts.

        Raises:
            ModelsLabError: The error that ends the run early, as raised by iterating.
        """
        async for _ in self:
            pass
        return self.progress

    async def close(self) -> None:
        """End the run and abandon rows in flight. Does nothing if the run has ended."""
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
