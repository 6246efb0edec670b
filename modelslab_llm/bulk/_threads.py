"""Execute a bulk run on threads: the caller's reads rows and takes results, others ask and store.

`_course` decides what is asked and handed out, and the desk keeps it in order; this module only
makes threads wait for each other. The caller's rows, `key=` and `make=` run in the caller's thread.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ..types.message import Message
from ._desk import Desk
from ._order import Abandoned, LeftEarly, Order
from ._progress import BulkProgress
from ._result import BulkResult
from ._rows import Ask

R = TypeVar("R")
T = TypeVar("T")

GATHER = 0.005  # seconds in which results are collected into one transaction
TICK = 0.5  # seconds between checks by a waiting caller: progress, and Ctrl-C on Windows


class Crew(Generic[R, T]):
    """The threads of one run. They do not hold the `BulkRun`, so that it can be collected."""

    def __init__(self, ask: Callable[[Any], Message], order: Order[R, T]) -> None:
        self._send = ask
        self._order = order
        self._rows: Iterator[R] = iter(order.rows)
        # A plain lock instead of a condition: Ctrl-C cannot strike between acquiring it and
        # entering the block that releases it, because both are in C.
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._caller_waits = False
        self._news: SimpleQueue[bool] = SimpleQueue()
        self._permits: SimpleQueue[bool] = SimpleQueue()
        """One item per queued request; False ends a thread."""
        self._permitted = 0
        self._workers = 0
        self._unsafe: SimpleQueue[bool] = SimpleQueue()
        """One item when there are results to store; False ends the writer."""
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
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("a bulk run belongs to one thread, and another thread is using it")
        try:
            return self._next()
        except StopIteration:
            raise
        except BaseException as error:
            self.leave(error)
            raise
        finally:
            self._turn.release()

    def _next(self) -> BulkResult[R, T]:
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
                waits = self._caller_waits = not desk.wants_row
            if waits:
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

    def leave(self, error: BaseException | None = None) -> None:
        """Abandon what is in flight and store what is done. Does nothing if the run has ended."""
        why = error or LeftEarly()
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
        """Leave from wherever the garbage collector runs, which may be a thread of this run that
        holds the lock."""
        if self._left:
            return
        if threading.get_ident() in self._threads:
            with suppress(RuntimeError):  # the interpreter is shutting down
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
        desk = self._desk
        taken = desk.read(row)  # not under the lock, for which all threads would wait meanwhile
        if self._ledger is not None:
            with self._lock:
                is_in_hand = desk.has_in_hand(taken)
            if not is_in_hand:
                desk.look(taken)
        with self._lock:
            desk.put(taken)
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
            json = desk.json_of(outcome)
            with self._lock:
                if self._left:
                    return
                desk.ended(ask, outcome, json)
                self._tell_writer()
                if desk.ready or desk.settled:
                    self._wake()

    def _ask(self, ask: Ask[R]) -> Message | BaseException:
        try:
            return self._send(ask.params)
        except BaseException as error:  # noqa: BLE001  the desk decides what it means
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
        """Store results; if that fails, the run ends, and the results are still handed out."""
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
        # Daemons: a call that takes minutes must not delay the end of the program.
        context = contextvars.copy_context()

        def run() -> None:
            self._threads.add(threading.get_ident())
            context.run(work)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread
