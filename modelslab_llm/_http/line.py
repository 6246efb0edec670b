"""Wait in a client's queue, from threads, tasks and several event loops at once.

All decisions are made in `_protocol/flow`. This module adds a lock, the clock, and waking the calls
whose turn it is. It sends no request.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from math import inf as INFINITY
from typing import Any, Literal, TypeVar

from .._protocol.flow import Flow, Gate, Ticket
from .._protocol.headers import keys_in
from .._protocol.line import LineRules, NotSent, WhyNotSent
from ..errors import APIError, APIStatusError

T = TypeVar("T")

GRACE, LONGEST_SLEEP = 5.0, 30.0
"""Seconds after a due look, and in total, after which any waiting call looks by itself. Usually one
call looks for all in time, but its event loop may have stopped."""

MANY = 1000
"""When a client has more accounts than this, the state of those without calls is dropped: a service
may send each request with a different key."""

_open_streams: ContextVar[tuple[PlaceInLine, ...]] = ContextVar("open_streams", default=())
"""The open streams of this task or thread, the innermost last."""


class Lines:
    """The queues of a client and its `with_options` copies: one for each account they use."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}

    def place(
        self, origin: str, headers: Mapping[str, str], rules: LineRules
    ) -> PlaceInLine | None:
        """Return the place of a call, for queueing; None if nothing limits the call."""
        line = self._line(origin, headers, rules)
        return PlaceInLine(line, rules) if line else None

    def flow(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Flow:
        """Return the current state of an account's queue."""
        line = self._line(origin, headers, rules)
        return line.flow if line else Flow(None, 0, 0, 0)

    def close(self) -> None:
        """Release all waiting calls; the closed wire then raises their errors."""
        if self._pid == os.getpid():
            for line in list(self._lines.values()):
                line.dissolve()

    def _line(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Line | None:
        if not rules.flow_control and rules.max_concurrency is None:
            return None
        if self._pid != os.getpid():
            self._start()  # the queues and locks belong to the parent
        # Hashed, so that no key is kept here. The salt is Python's own, new in each process.
        keys = tuple(sorted(keys_in(headers)))
        account = hash((origin, keys, rules.flow_control, rules.max_concurrency))
        line = self._lines.get(account)
        if line is None:
            gate = Gate(max_concurrency=rules.max_concurrency, learns=rules.flow_control)
            with self._lock:
                if len(self._lines) >= MANY:
                    self._lines = {key: each for key, each in self._lines.items() if each.is_used}
                line = self._lines.setdefault(account, Line(gate))
        return line


class Line:
    """One gate, the lock around it, and the calls that wait."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._lock = threading.Lock()
        self._waiting: dict[Ticket, PlaceInLine] = {}
        self._watch: PlaceInLine | None = None
        """The call that looks when the gate asks for it; the others wait to be woken."""
        self._abandoned: deque[Ticket] = deque()
        self.refusal: APIError | None = None
        """The latest refusal of the server."""
        self.pid: int = os.getpid()

    @property
    def flow(self) -> Flow:
        """The current state of the queue."""
        return self._gate.flow

    @property
    def is_used(self) -> bool:
        """Whether it has a call, waiting or at the server."""
        return self.flow.in_flight + self.flow.waiting > 0

    def enter(self, place: PlaceInLine, deadline: float) -> Ticket:
        """Take a place, or take it again after a failure."""
        rules, ticket = place.rules, place.ticket
        patience = INFINITY if rules.max_queue_wait is None else rules.max_queue_wait
        with self._lock:
            now = time.monotonic()
            if ticket is None:
                ticket = place.ticket = self._gate.join(
                    now,
                    until=min(deadline, now + patience),
                    max_retries=rules.max_retries,
                    max_retry_wait=rules.max_retry_wait,
                    inside=place.inside(),
                )
            elif ticket.state == "over" and not ticket.reason:
                ticket.until = min(deadline, now + patience)
                self._gate.rejoin(ticket, now)
            if ticket.is_waiting:
                self._waiting[ticket] = place
            woken = self._moved(now)
        self._finish(woken)
        return ticket

    def tell(self, report: Callable[..., T], ticket: Ticket, *said: float | None) -> T:
        """Report the outcome of a request to the gate, and wake the calls whose turn it is."""
        with self._lock:
            now = time.monotonic()
            told = report(self._gate, ticket, now, *said)
            woken = self._moved(now)
        self._finish(woken)
        return told

    def look(self, *, due: bool) -> None:
        """Wake the calls whose turn it is; `due` if only the passing of time led here."""
        with self._lock:
            woken = self._moved(time.monotonic(), due=due)
        self._finish(woken)

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket that is no longer used."""
        with self._lock:
            now = time.monotonic()
            self._waiting.pop(ticket, None)
            self._gate.leave(ticket, now)
            woken = self._moved(now)
        self._finish(woken)

    def may_retry(self) -> bool:
        """Take one retry after a failure from the client's retry budget, if one is left."""
        with self._lock:
            return self._gate.may_retry(time.monotonic())

    def abandon(self, ticket: Ticket) -> None:
        """Free the slot of a stream that nobody holds any more.

        The garbage collector calls this, perhaps while this thread holds the lock, so it never
        waits for the lock. Whoever has the lock looks here afterwards.
        """
        self._abandoned.append(ticket)
        self._sweep()

    def dissolve(self) -> None:
        """Release all waiting calls."""
        with self._lock:
            now = time.monotonic()
            left, self._waiting, self._watch = self._waiting, {}, None
            for ticket, place in left.items():
                self._gate.leave(ticket, now)
                place.let_go = True
        _wake(left.values())

    def timeout(self, place: PlaceInLine) -> float:
        """Return how long a place may wait to be woken before it looks by itself."""
        assert place.ticket is not None
        with self._lock:
            now, look = time.monotonic(), self._gate.next_look
            if look is None:
                look = INFINITY
            if place is not self._watch:
                look = min(look + GRACE, now + LONGEST_SLEEP)
            place.armed_for = min(place.ticket.until, look)
        return max(0.0, min(place.armed_for - now, threading.TIMEOUT_MAX))

    def _moved(self, now: float, *, due: bool = False) -> list[PlaceInLine]:
        """Return the places to wake. The lock is held."""
        gate, waiting = self._gate, self._waiting
        while self._abandoned:
            gate.leave(self._abandoned.popleft(), now)
        moved = gate.look(now, due=due)
        if not waiting:
            return []
        woken = [place for ticket in moved if (place := waiting.pop(ticket, None))]
        watch = self._watch
        if waiting and (watch is None or watch.ticket not in waiting):
            # The last one waits longest, and so hands this on least often.
            self._watch = watch = next(reversed(waiting.values()))
            watch.armed_for = INFINITY
        if waiting and watch and (gate.next_look or INFINITY) < watch.armed_for:
            woken.append(watch)
        return woken

    def _finish(self, woken: Iterable[PlaceInLine]) -> None:
        _wake(woken)
        if self._abandoned:
            self._sweep()

    def _sweep(self) -> None:
        if self.pid == os.getpid() and self._lock.acquire(blocking=False):
            try:
                woken = self._moved(time.monotonic())
            finally:
                self._lock.release()
            _wake(woken)


class PlaceInLine:
    """A call's place in the queue, and how it waits."""

    def __init__(self, line: Line, rules: LineRules) -> None:
        self.rules = rules
        self.ticket: Ticket | None = None
        self.waited: float = 0.0
        """Total seconds in the queue."""
        self.armed_for: float = INFINITY
        """When this place looks by itself."""
        self.let_go: bool = False
        """Whether the queue was dissolved."""
        self.wake: Callable[[], object] = bool
        self._line = line

    @property
    def flow(self) -> Flow:
        """The current state of the queue."""
        return self._line.flow

    @property
    def last_refusal(self) -> APIError | None:
        """The server's latest refusal, of this call or another one."""
        return self._line.refusal

    @property
    def is_sent_away(self) -> bool:
        """Whether the call was refused for good and will not be sent again."""
        return self.ticket is not None and self.ticket.reason != ""

    # Waiting

    def wait(self, deadline: float | None) -> NotSent | None:
        """Wait until this call may be sent; return why it may not, if it may not."""
        if self._goes_at_once(deadline):
            return None
        bell = threading.Lock()
        bell.acquire()
        self.wake = partial(_ring, bell)
        started = time.monotonic()
        try:
            while not (end := self._end()):
                rung = bell.acquire(timeout=self._line.timeout(self))
                self._line.look(due=not rung)
        finally:
            self._stops_waiting(started)
        return None if end == "sent" else NotSent(end)

    async def await_turn(self, deadline: float | None) -> NotSent | None:
        """Wait until this call may be sent; `wait` for async."""
        if self._goes_at_once(deadline):
            return None
        import anyio  # where httpx is, so is anyio

        soon = _soon()
        started = time.monotonic()
        try:
            while True:
                bell = anyio.Event()
                self.wake = partial(soon, bell.set)
                if end := self._end():
                    break
                with anyio.move_on_after(self._line.timeout(self)) as scope:
                    await bell.wait()
                self._line.look(due=scope.cancelled_caught)
        finally:
            self._stops_waiting(started)
        return None if end == "sent" else NotSent(end)

    def _goes_at_once(self, deadline: float | None) -> bool:
        if self.ticket is not None and self.ticket.may_go:
            return True  # a redirect: the slot is still ours
        return self._line.enter(self, INFINITY if deadline is None else deadline).may_go

    def _end(self) -> WhyNotSent | Literal["sent"] | None:
        """Return why the wait is over; None if it is not."""
        ticket = self.ticket
        assert ticket is not None
        state = ticket.state  # read once: without the lock, another thread may send it meanwhile
        if state == "sent" or self.let_go:
            return "sent"
        if state == "over":
            return ticket.reason or "refused"
        if time.monotonic() < ticket.until:
            return None
        patience = self.rules.max_queue_wait
        return (
            "deadline" if patience is None or ticket.until < ticket.joined + patience else "queue"
        )

    def _stops_waiting(self, started: float) -> None:
        self.waited += time.monotonic() - started
        if self.ticket is not None and self.ticket.is_waiting:
            self._line.leave(self.ticket)

    # Outcomes of the request

    def refused(self, failure: APIStatusError) -> float:
        """Note a refusal: the call queues again, or is sent away. Return the hint."""
        self._line.refusal = failure
        return self._tell(Gate.refused, failure.retry_after) or 0.0

    def answered(self) -> None:
        """Note that the request is over, and that the server did not refuse it."""
        self._tell(Gate.answered)

    def failed(self) -> None:
        """Note that the request is over, without learning whether the server accepts any."""
        self._tell(Gate.failed)

    def opened(self) -> None:
        """Note that a stream has begun, which holds its slot until it ends."""
        self._tell(Gate.admitted)
        _open_streams.set((*_still_open(), self))

    def abandoned(self) -> None:
        """Free the slot from the garbage collector, which must not wait for a lock."""
        if self.ticket is not None and self.ticket.may_go:
            self._line.abandon(self.ticket)

    def leave(self) -> None:
        """Give up, in whatever state; does nothing after the call is over."""
        if self.ticket is not None and self._is_ours():
            self._line.leave(self.ticket)

    def may_retry(self) -> bool:
        """Take one retry after a failure from the client's retry budget, if one is left."""
        return not self.rules.flow_control or self._line.may_retry()

    def inside(self) -> Ticket | None:
        """Return the open stream of this task or thread that should lend its slot, if any."""
        tickets = [place.ticket for place in _still_open() if place._line is self._line]
        free = (ticket for ticket in reversed(tickets) if ticket and not ticket.lends_to)
        return next(free, tickets[-1] if tickets else None)

    def _tell(self, report: Callable[..., T], *said: float | None) -> T | None:
        if self.ticket is None or not self.ticket.may_go or not self._is_ours():
            return None
        return self._line.tell(report, self.ticket, *said)

    def _is_ours(self) -> bool:
        return self._line.pid == os.getpid()  # otherwise the lock is the parent's, and may be held


def _still_open() -> tuple[PlaceInLine, ...]:
    return tuple(
        place for place in _open_streams.get() if place.ticket is not None and place.ticket.may_go
    )


def _ring(bell: threading.Lock) -> None:
    with suppress(RuntimeError):  # already ringing
        bell.release()


def _soon() -> Callable[[Callable[[], object]], object]:
    """Return a function that schedules callbacks in the current event loop, from any thread."""
    if (trio := sys.modules.get("trio")) is not None:
        with suppress(RuntimeError):  # another loop runs here
            token: Any = trio.lowlevel.current_trio_token()
            return token.run_sync_soon  # type: ignore[no-any-return]
    import asyncio  # an event loop runs here, so it is loaded

    return asyncio.get_running_loop().call_soon_threadsafe


def _wake(places: Iterable[PlaceInLine]) -> None:
    for place in places:
        try:
            place.wake()
        except RuntimeError:  # its event loop is gone, and so is the waiting call
            place.leave()
