"""Decide which connection a request gets, and limit their number. Never waits; does no I/O.

No counter can go wrong, because there is none. Only its user holds a connection that is in use.
The pool has a weak reference, which disappears with the connection: given back, dropped by a
signal's exception between two instructions, or collected as garbage. A connection that exists and
is not idle is in use.

The lock is held for a few steps of bookkeeping and never during a wait. It is an `RLock`, because a
signal handler or the garbage collector may give a connection back in the middle of those steps. It
is acquired inside `try` and released in `finally`, so a signal cannot come between; a thread that
was interrupted before it had the lock gets an error from `release`.
"""

# ruff: noqa: SIM105  (contextlib.suppress runs Python code, which a signal can interrupt)

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Generic, Protocol, TypeVar
from weakref import ref

_KEYS = count()  # unique among all pools, also across a fork
SWEEP = 1.0  # seconds between checks for connections that were idle for too long


class Pooled(Protocol):
    """What the pool needs to know about a connection."""

    key: int
    idle_since: float

    @property
    def route(self) -> Hashable:
        """The route of the connection."""
        ...

    @property
    def is_clean(self) -> bool:
        """Whether the connection can carry another request."""
        ...


C = TypeVar("C", bound=Pooled)
R = TypeVar("R", bound=Hashable)


class PoolClosedError(Exception):
    """The pool was closed."""


class Waiter:
    """A wait for a connection; `bell` is called when it is time to ask again."""

    __slots__ = ("__weakref__", "bell")

    def __init__(self, bell: Callable[[], object]) -> None:
        self.bell: Callable[[], object] = bell


class Pool(Generic[R, C]):
    """The connections of one client; in async, those of one event loop.

    `make(route, key)` returns a new connection, which the caller opens. Connections to be closed
    are put into `gone`; the caller closes them after the lock is released.
    """

    def __init__(
        self,
        make: Callable[[R, int], C],
        *,
        most: int | None = None,
        most_idle: int | None = None,
        expiry: float | None = None,
    ) -> None:
        self._make = make
        self._most = sys.maxsize if most is None else most
        self._most_idle = sys.maxsize if most_idle is None else most_idle
        self._expiry = expiry
        self._lock = threading.RLock()
        self._live: dict[int, ref[C]] = {}
        self._idle: dict[Hashable, deque[C]] = {}  # by route, the one used last at the right
        self._line: deque[ref[Waiter]] = deque()
        self._swept = 0.0
        self.closed: bool = False
        self.gone: deque[C] = deque()
        """Connections to be closed."""

    def take(self, route: R, waiter: Waiter | None = None, *, new: bool = False) -> C | None:
        """Return the idle connection used last, or a new one; None means: `queue`.

        Waiters pass `waiter`. With `new`, the connection is never a reused one.
        Raises `PoolClosedError`.
        """
        bell = None
        try:
            self._lock.acquire()
            if self.closed:
                raise PoolClosedError
            if self._first() is not waiter:
                return None
            found = None if new else self._unpark(route)
            found = found or self._made(route)
            if found is not None and waiter is not None:
                self._line.popleft()
                bell = self._next_bell()  # there may be room for the next one too
        finally:
            try:
                self._lock.release()
            except RuntimeError:
                pass
        if bell is not None:
            bell()
        return found

    def queue(self, bell: Callable[[], object]) -> Waiter:
        """Wait for a connection, first come, first served."""
        waiter = Waiter(bell)
        self._line.append(ref(waiter))
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting."""
        bell = None
        try:
            self._lock.acquire()
            with suppress(ValueError):  # served already
                self._line.remove(ref(waiter))
            bell = self._next_bell()
        finally:
            try:
                self._lock.release()
            except RuntimeError:
                pass
        if bell is not None:
            bell()

    def give(self, connection: C) -> None:
        """Give a connection back. It is kept if it is clean, and dropped otherwise."""
        bell = None
        try:
            self._lock.acquire()
            now = time.monotonic()
            if connection.is_clean and not self.closed and connection.key in self._live:
                connection.idle_since = now
                self._idle.setdefault(connection.route, deque()).append(connection)
            else:
                self._let_go(connection)
            bell = self._next_bell()
            if now - self._swept >= SWEEP or self._keeps_too_many():
                self._swept = now
                self._sweep(now)
        finally:
            try:
                self._lock.release()
            except RuntimeError:
                pass
        if bell is not None:
            bell()

    def close(self) -> list[C]:
        """Close the pool; return the connections in use, which the caller must close."""
        bells: list[Callable[[], object]] = []
        try:
            self._lock.acquire()
            self.closed = True
            for connections in list(self._idle.values()):
                while connections:
                    self._let_go(connections.pop())
            self._idle.clear()
            while (waiter := self._first()) is not None:
                self._line.popleft()
                bells.append(waiter.bell)
            in_use = self.everything()
        finally:
            try:
                self._lock.release()
            except RuntimeError:
                pass
        for bell in bells:
            bell()
        return in_use

    def everything(self) -> list[C]:
        """Return every connection, idle or in use."""
        return [found for known in list(self._live.values()) if (found := known()) is not None]

    @property
    def is_empty(self) -> bool:
        """Whether there is no connection, in use or not."""
        return not self._live and not self.gone

    def _first(self) -> Waiter | None:
        """Return the first waiter, skipping those that are gone."""
        while self._line:
            waiter = self._line[0]()
            if waiter is not None:
                return waiter
            self._line.popleft()
        return None

    def _next_bell(self) -> Callable[[], object] | None:
        """Return the bell of the first waiter, if there may be a connection for it."""
        waiter = self._first()
        if waiter is not None and (len(self._live) < self._most or self._idle):
            return waiter.bell
        return None

    def _unpark(self, route: R) -> C | None:
        connections = self._idle.get(route)
        while connections:
            found = connections.pop()
            if not connections:
                self._idle.pop(route, None)
            if not self._has_expired(found, time.monotonic()):
                return found
            self._let_go(found)
        return None

    def _has_expired(self, connection: C, now: float) -> bool:
        return self._expiry is not None and now - connection.idle_since > self._expiry

    def _made(self, route: R) -> C | None:
        if len(self._live) >= self._most and not self._oust():
            return None
        key = next(_KEYS)
        made = self._make(route, key)
        # The callback is all in C: it runs with the connection's end, and nothing can interrupt it.
        self._live[key] = ref(made, partial(self._live.pop, key))
        if len(self._live) > self._most:  # a signal handler took one meanwhile
            self._live.pop(key, None)
            return None
        return made

    def _oust(self) -> bool:
        """Drop the connection that was idle longest, to make room."""
        oldest = min(
            (connections[0] for connections in list(self._idle.values()) if connections),
            key=lambda connection: connection.idle_since,
            default=None,
        )
        if oldest is not None:
            self._unlist(oldest)
        return oldest is not None

    def _sweep(self, now: float) -> None:
        """Drop connections that were idle for too long, or exceed the limit."""
        idle = [c for connections in list(self._idle.values()) for c in list(connections)]
        idle.sort(key=lambda connection: connection.idle_since)
        too_many = len(idle) - self._most_idle
        for place, connection in enumerate(idle):
            if place < too_many or self._has_expired(connection, now):
                self._unlist(connection)

    def _keeps_too_many(self) -> bool:
        return sum(map(len, list(self._idle.values()))) > self._most_idle

    def _unlist(self, connection: C) -> None:
        connections = self._idle.get(connection.route)
        if connections:
            with suppress(ValueError):
                connections.remove(connection)
            if not connections:
                self._idle.pop(connection.route, None)
        self._let_go(connection)

    def _let_go(self, connection: C) -> None:
        if connection.key in self._live:
            self.gone.append(connection)  # first, so that an interruption loses nothing
            self._live.pop(connection.key, None)
