"""Choose a small connection pool for each request. Pure bookkeeping: never waits, does no I/O.

httpcore's pool walks all its connections for every request, so many small ones cost less than a
large one, whose cost grows with the square of what is in flight.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

SWEEP = 1.0  # seconds between looks for pools that nobody uses


class Signal(Protocol):
    """What `threading.Event` and `anyio.Event` have in common."""

    def set(self) -> object: ...


class Small(Generic[T]):
    """One small pool: its transport, and how many requests it carries."""

    __slots__ = ("busy", "idle_since", "scheme", "transport")

    def __init__(self, scheme: str, transport: T) -> None:
        self.scheme = scheme
        self.transport = transport
        self.busy = 0
        self.idle_since = 0.0


class Waiter(Generic[T]):
    """A request for which there is no connection yet. `served` is set to wake it."""

    def __init__(self, scheme: str, served: Signal) -> None:
        self.scheme = scheme
        self.served = served
        self.small: Small[T] | None = None


class Pools(Generic[T]):
    """The small pools of one transport; requests are served first come first served."""

    def __init__(self, make: Callable[[str], T], limits: httpx.Limits, size: int) -> None:
        self._make = make
        self._limits = limits
        self._most = sys.maxsize if limits.max_connections is None else limits.max_connections
        self._size = min(size, max(1, self._most))
        self._roomy: dict[str, list[Small[T]]] = {}  # by scheme: those with room for one more
        self._all: set[Small[T]] = set()
        self._waiting: deque[Waiter[T]] = deque()
        self._busy = 0
        self._swept = 0.0

    @property
    def in_use(self) -> bool:
        """Whether there is anything that `everything` would return."""
        return bool(self._all)

    def take(self, scheme: str) -> Small[T] | None:
        """Return a pool with room for a request; None if it must `queue`."""
        return None if self._waiting else self._find(scheme)

    def queue(self, scheme: str, served: Signal) -> Waiter[T]:
        """Stand in line; `served` is set when the waiter has its pool."""
        waiter: Waiter[T] = Waiter(scheme, served)
        self._waiting.append(waiter)
        return waiter

    def leave(self, waiter: Waiter[T]) -> list[T]:
        """Leave the line, or give back what came too late; return what is to be closed."""
        if waiter.small:
            return self.give(waiter.small, time.monotonic())
        with suppress(ValueError):  # sent home already
            self._waiting.remove(waiter)
        return []

    def give(self, small: Small[T], now: float) -> list[T]:
        """Take a request off a pool and serve who waits; return what is to be closed."""
        if small not in self._all:
            return []  # closed meanwhile, with all others
        small.busy -= 1
        self._busy -= 1
        small.idle_since = now
        if small.busy == self._size - 1:
            self._roomy[small.scheme].append(small)
        while self._waiting and (found := self._find(self._waiting[0].scheme)):
            waiter = self._waiting.popleft()
            waiter.small = found
            waiter.served.set()
        if now - self._swept < SWEEP:
            return []
        self._swept = now
        return self._unused(small.scheme, now)

    def everything(self) -> list[T]:
        """Return all transports and forget them; send home who waits."""
        while self._waiting:
            self._waiting.popleft().served.set()
        transports = [small.transport for small in self._all]
        self._all.clear()
        self._roomy.clear()
        self._busy = 0
        return transports

    def _find(self, scheme: str) -> Small[T] | None:
        if self._busy >= self._most:
            return None
        roomy = self._roomy.setdefault(scheme, [])
        if not roomy:
            roomy.append(Small(scheme, self._make(scheme)))
            self._all.add(roomy[0])
        small = roomy[-1]  # the last used, so that the others fall idle and are let go
        small.busy += 1
        self._busy += 1
        if small.busy == self._size:
            roomy.pop()
        return small

    def _unused(self, scheme: str, now: float) -> list[T]:
        """Let go of pools whose connections have expired, or are more than may be kept."""
        kept, expiry = self._limits.max_keepalive_connections, self._limits.keepalive_expiry
        idle = [small for small in self._roomy[scheme] if not small.busy]
        idle.sort(key=lambda small: small.idle_since)
        too_many = 0 if kept is None else len(idle) - -(-kept // self._size)
        gone = [
            small
            for place, small in enumerate(idle)
            if place < too_many or (expiry is not None and now - small.idle_since > expiry)
        ]
        for small in gone:
            self._roomy[scheme].remove(small)
            self._all.discard(small)
        return [small.transport for small in gone]
