"""Run a bulk run on threads: the caller's brings rows and takes results, others ask and store.

What is asked and handed out is decided in `_course` and kept in order by the desk; here is only who
waits for whom. The caller's rows, `key=` and `make=` are used in the caller's own thread.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from typing_extensions import Self

from ..errors import ConfigurationError
from ._desk import Desk
from ._order import Abandoned, LeftEarly, Order
from ._plan import BulkPlan
from ._progress import BulkProgress
from ._result import BulkResult
from ._rows import Ask, records

if TYPE_CHECKING:
    from .._client.messages import Messages
    from ..types.message import Message
    from ..types.requests import MessageCreateParams

R = TypeVar("R")
T = TypeVar("T")

GATHER = 0.005  # seconds in which results are gathered into one transaction
TICK = 0.5  # seconds until a caller who waits looks up: at the progress, and for Ctrl-C on Windows


class BulkRun(Generic[R, T]):
    """The results of many rows, each as soon as it is there; made by `client.messages.bulk`.

    Iterate it once. Nothing is asked before that. Where you leave it early, use it as a context
    manager, so that it ends there; rows in flight are then given up, stored ones are not asked
    again. It belongs to one thread.
    """

    def __init__(self, messages: Messages, rows: Any, order: Order[R, T]) -> None:
        self._messages = messages
        self._rows = rows
        self._order = order
        self._crew: _Crew[R, T] | None = None
        self._planned = False

    @classmethod
    def of(cls, messages: Messages, rows: Any, **told: Any) -> Self:
        """Return a run as it was told to `messages.bulk`; called by that alone."""
        rows = records(rows)
        return cls(messages, rows, Order(rows, **told))

    @property
    def progress(self) -> BulkProgress:
        """How far the run has come."""
        return self._order.nothing_yet() if self._crew is None else self._crew.progress()

    def plan(self) -> BulkPlan:
        """Say what the run would do, and ask nothing: a dry run.

        It reads all rows, so they must be a list or another iterable that can be read again. Raises
        `ConfigurationError` if the run has begun.
        """
        if self._crew is not None:
            raise ConfigurationError("plan() comes before the run; this one has begun")
        self._planned = isinstance(self._rows, Iterator)
        planner = self._order.planner()
        try:
            for row in self._rows:
                planner.take(row)
        finally:
            planner.close()
        return planner.plan

    def finish(self) -> BulkProgress:
        """Run to the end, where the results are wanted in the store alone; return the counts.

        Raises what ends the run early, as iterating does.
        """
        for _ in self:
            pass
        return self.progress

    def close(self) -> None:
        """End the run; rows in flight are given up. A run that has ended is left as it is."""
        if self._crew is not None:
            self._crew.leave(LeftEarly())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BulkResult[R, T]:
        if self._crew is None:
            if self._planned:
                raise ConfigurationError(
                    "rows is an iterator, which plan() has used up: pass a list, or new rows"
                )
            crew = _Crew(self._messages, iter(self._rows), self._order)
            weakref.finalize(self, crew.abandon)  # also at the end of the program
            self._crew = crew
        try:
            return self._crew.next()
        except StopIteration:
            raise
        except BaseException as error:
            self._crew.leave(error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._crew is not None:
            self._crew.leave(exc or LeftEarly())


class _Crew(Generic[R, T]):
    """The threads of one run. They know nothing of the `BulkRun`, which may be garbage."""

    def __init__(self, messages: Messages, rows: Iterator[R], order: Order[R, T]) -> None:
        self._messages = messages
        self._rows = rows
        self._order = order
        # A plain lock, and no condition: Ctrl-C cannot strike between its being taken and the block
        # that lets go of it, since both are in C.
        self._lock = threading.Lock()
        self._caller_waits = False
        self._news: SimpleQueue[bool] = SimpleQueue()
        self._permits: SimpleQueue[bool] = SimpleQueue()
        """One for each request in line; False sends a thread home."""
        self._permitted = 0
        self._workers = 0
        self._unsafe: SimpleQueue[bool] = SimpleQueue()
        """Something in it: there are results to be stored. False sends the writer home."""
        self._told_writer = False
        self._threads: set[int] = set()
        self._left = False
        self._desk: Desk[R, T] = order.begin()
        self._ledger = order.ledger
        self._writer: threading.Thread | None = None
        if self._ledger is not None:
            self._writer = self._start(self._store, "modelslab-bulk-store")

    def next(self) -> BulkResult[R, T]:
        """Return the next result. Raises what ended the run, or `StopIteration`."""
        desk = self._desk
        while True:
            with self._lock:
                if self._left:
                    raise StopIteration
                if not desk.wants_row:
                    if desk.ready:
                        return self._handed_out()
                    if desk.settled:
                        break
                self._caller_waits = not desk.wants_row
            if self._caller_waits:
                self._wait()
            else:
                self._bring()
        self._go_home()
        self._order.close(desk)
        if desk.course.why is not None:
            raise desk.course.why
        raise StopIteration

    def progress(self) -> BulkProgress:
        with self._lock:
            return self._desk.progress(time.monotonic())

    def leave(self, why: BaseException) -> None:
        """Give up what is in flight; store what is done. Does nothing once the run has ended."""
        with self._lock:
            if self._left:
                return
            self._left = True
            self._desk.course.stop(why)
        self._go_home()
        try:
            if self._ledger is not None:
                self._write(self._desk.take_unstored())
        finally:
            self._order.close(self._desk, why)

    def abandon(self) -> None:
        """Leave from wherever the garbage collector runs: that may be a thread of the run's own,
        which may hold the lock."""
        if self._left:
            return
        if threading.get_ident() in self._threads:
            with suppress(RuntimeError):  # the interpreter is ending
                _thread.start_new_thread(self.leave, (Abandoned(),))
        else:
            self.leave(Abandoned())

    def _bring(self) -> None:
        """Take one row from the caller's iterable, in the caller's thread."""
        try:
            row = next(self._rows)
        except StopIteration:
            self._desk.exhausted = True
            return
        except Exception as error:  # noqa: BLE001  the caller's rows may raise anything
            self._desk.exhausted, self._desk.course.rows_raised = True, error
            return
        with self._lock:
            self._desk.take(row)
            more = len(self._desk.line) > self._permitted
            self._tell_writer()
            if not more:
                return
            self._permitted += 1
            needs_worker = self._permitted + self._desk.tally.in_flight > self._workers
        self._permits.put(True)
        if needs_worker and self._workers < self._order.max_in_flight:
            self._workers += 1
            self._start(self._work, f"modelslab-bulk-{self._workers}")

    def _work(self) -> None:
        desk = self._desk
        while self._permits.get():
            with self._lock:
                self._permitted -= 1
                ask = desk.next()
                if ask is None:
                    self._wake()
                    continue
            outcome = self._ask(ask)
            with self._lock:
                if self._left:
                    return
                desk.ended(ask, outcome)
                self._tell_writer()
                if desk.ready or desk.settled:
                    self._wake()

    def _ask(self, ask: Ask[R]) -> Message | BaseException:
        params, output = cast("MessageCreateParams", ask.params), self._order.output
        try:
            if output is None:
                return self._messages.create(**params)
            return self._messages.parse(
                output=output.type,
                strategy=output.strategy,
                validation_retries=output.validation_retries,
                **params,
            )
        except BaseException as error:  # noqa: BLE001  the desk says what it is
            return error

    def _store(self) -> None:
        while self._unsafe.get():
            if self._desk.tally.in_flight:
                time.sleep(GATHER)
            with self._lock:
                self._told_writer = False
                batch = self._desk.take_unstored()
            self._write(batch)
            with self._lock:
                self._desk.stored(batch)
                self._wake()

    def _write(self, batch: list[Any]) -> None:
        """Store results; where that fails the run ends, and they are handed out all the same."""
        assert self._ledger is not None
        try:
            self._ledger.write([kept for kept, _ in batch if kept is not None])
        except Exception as error:  # noqa: BLE001  raised by the run
            self._desk.course.stop(error)

    def _handed_out(self) -> BulkResult[R, T]:
        if self._order.screen.is_due:
            self._order.screen.show(self._desk.progress(time.monotonic()))
        return self._desk.hand_out()

    def _wait(self) -> None:
        with suppress(Empty):
            self._news.get(timeout=TICK)
        if self._order.screen.is_due:
            self._order.screen.show(self._desk.progress(time.monotonic()))

    def _tell_writer(self) -> None:
        if self._desk.unstored and not self._told_writer:
            self._told_writer = True
            self._unsafe.put(True)

    def _wake(self) -> None:
        if self._caller_waits:
            self._caller_waits = False
            self._news.put(True)

    def _go_home(self) -> None:
        for _ in range(self._workers):
            self._permits.put(False)
        self._left = True
        if self._writer is not None:
            self._unsafe.put(False)
            self._writer.join()

    def _start(self, work: Any, name: str) -> threading.Thread:
        # Daemons: a call that takes minutes does not hold up a program that wants to end.
        context = contextvars.copy_context()

        def run() -> None:
            self._threads.add(threading.get_ident())
            context.run(work)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
