"""Choose a small connection pool for each request. Pure bookkeeping: never waits, does no I/O.

httpcore's pool walks all its connections for every request, so many small ones, of one connection
each, cost less than a large one, whose cost grows with the square of what is in flight.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import httpx

O = TypeVar("O", bound=Hashable)  # noqa: E741 - an origin
T = TypeVar("T")

SWEEP = 1.0  # seconds between looks for pools that nobody uses


class Signal(Protocol):
    """What `threading.Event` and `anyio.Event` have in common."""

    def set(self) -> object: ...


class Small(Generic[O, T]):
    """One small pool: its transport, and how many requests it carries."""

    __slots__ = ("busy", "idle_since", "origin", "transport")

    def __init__(self, origin: O, transport: T) -> None:
        self.origin = origin
        self.transport = transport
        self.busy = 0
        self.idle_since = 0.0


class Waiter(Generic[O, T]):
    """A request for which there is no connection yet. `served` is set to wake it.

    It then has its pool, or why that could not be made, or neither: all have been sent home.
    """

    def __init__(self, origin: O, served: Signal) -> None:
        self.origin = origin
        self.served = served
        self.small: Small[O, T] | None = None
        self.failure: Exception | None = None


class Pools(Generic[O, T]):
    """The small pools of one transport; requests are served first come first served.

    What a method returns is to be closed by the caller, who can wait.
    """

    def __init__(self, make: Callable[[O], T], limits: httpx.Limits, size: int) -> None:
        self._make = make
        self._limits = limits
        self._most = sys.maxsize if limits.max_connections is None else limits.max_connections
        self._size = min(size, max(1, self._most))
        self._roomy: dict[O, list[Small[O, T]]] = {}  # those with room for one more
        self._all: set[Small[O, T]] = set()
        self._waiting: deque[Waiter[O, T]] = deque()
        self._ousted: list[T] = []
        self._busy = 0
        self._swept = 0.0

    @property
    def in_use(self) -> bool:
        """Whether there is anything that `everything` would return."""
        return bool(self._all or self._ousted)

    def take(self, origin: O) -> Small[O, T] | None:
        """Return a pool with room for a request; None if it must `queue`."""
        return None if self._waiting else self._find(origin)

    def queue(self, origin: O, served: Signal) -> Waiter[O, T]:
        """Stand in line; `served` is set when the waiter has its pool."""
        waiter: Waiter[O, T] = Waiter(origin, served)
        self._waiting.append(waiter)
        return waiter

    def leave(self, waiter: Waiter[O, T]) -> list[T]:
        """Leave the line, or give back what came too late."""
        if waiter.small:
            return self.give(waiter.small, time.monotonic())
        with suppress(ValueError):  # sent home already
            self._waiting.remove(waiter)
        return []

    def give(self, small: Small[O, T], now: float) -> list[T]:
        """Take a request off a pool and serve who waits."""
        return self._take_off(small, now, failed=False)

    def drop(self, small: Small[O, T], now: float) -> list[T]:
        """Take a request off a pool that failed it, and let go of the pool if no other uses it.

        httpcore loses count of a connection whose request is cancelled at the wrong moment: the
        next request would wait for it in vain.
        """
        return self._take_off(small, now, failed=True)

    @property
    def has_ousted(self) -> bool:
        """Whether `ousted` has something to close."""
        return bool(self._ousted)

    def ousted(self) -> list[T]:
        """Return what had to go, to make room for what was taken."""
        gone, self._ousted = self._ousted, []
        return gone

    def everything(self) -> list[T]:
        """Return all transports and forget them; send home who waits."""
        while self._waiting:
            self._waiting.popleft().served.set()
        transports = [small.transport for small in self._all] + self.ousted()
        self._all.clear()
        self._roomy.clear()
        self._busy = 0
        return transports

    def _take_off(self, small: Small[O, T], now: float, *, failed: bool) -> list[T]:
        if small not in self._all:
            return []  # closed meanwhile, with all others
        small.busy -= 1
        self._busy -= 1
        small.idle_since = now
        if small.busy == self._size - 1:
            self._roomy.setdefault(small.origin, []).append(small)
        if failed and not small.busy:
            self._ousted += self._let_go([small])
        self._serve()
        if now - self._swept >= SWEEP or self._may_keep_too_many():
            self._swept = now
            self._ousted += self._let_go(self._unused(now))
        return self.ousted()

    def _serve(self) -> None:
        while self._waiting and self._busy < self._most:
            waiter = self._waiting.popleft()
            try:
                waiter.small = self._find(waiter.origin)
            except Exception as error:  # noqa: BLE001 - no matter of who gives, nor of the next
                waiter.failure = error
            waiter.served.set()

    def _find(self, origin: O) -> Small[O, T] | None:
        if self._busy >= self._most:
            return None
        roomy = self._roomy.setdefault(origin, [])
        if not roomy:
            roomy.append(Small(origin, self._make(origin)))
            self._all.add(roomy[0])
            if len(self._all) > self._most // self._size:  # one idle elsewhere makes room
                self._ousted += self._let_go(self._idle()[:1])
        small = roomy[-1]  # the last used, so that the others fall idle and are let go
        small.busy += 1
        self._busy += 1
        if small.busy == self._size:
            roomy.pop()
        return small

    def _idle(self) -> list[Small[O, T]]:
        """Return the pools that nobody uses, the one that is so for longest first."""
        idle = [small for roomy in self._roomy.values() for small in roomy if small.idle_since]
        return sorted((s for s in idle if not s.busy), key=lambda small: small.idle_since)

    def _may_keep_too_many(self) -> bool:
        """Tell, without a look at each, whether more may be idle than may be kept."""
        kept = self._limits.max_keepalive_connections
        return kept is not None and len(self._all) * self._size - self._busy > kept

    def _unused(self, now: float) -> list[Small[O, T]]:
        """Return the pools whose connections have expired, or are more than may be kept."""
        kept, expiry = self._limits.max_keepalive_connections, self._limits.keepalive_expiry
        idle = self._idle()
        too_many = 0 if kept is None else len(idle) - -(-kept // self._size)
        return [
            small
            for place, small in enumerate(idle)
            if place < too_many or (expiry is not None and now - small.idle_since > expiry)
        ]

    def _let_go(self, gone: list[Small[O, T]]) -> list[T]:
        if gone:
            self._all.difference_update(gone)
            for origin in {small.origin for small in gone}:
                left = [s for s in self._roomy.pop(origin) if s in self._all]
                if left:
                    self._roomy[origin] = left
        return [small.transport for small in gone]
