"""The limits of time on one attempt: arithmetic over `time.monotonic`. Only `within` ever waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Literal, TypeAlias, TypeVar

from .._protocol.config import Timeout
from .._protocol.reader import Reader
from .._protocol.values import Attempt
from ..errors import APITimeoutError
from . import failures

T = TypeVar("T")

Phase: TypeAlias = Literal["connect", "write", "read", "pool"]


def timeout_of(phase: Phase) -> type[Exception]:
    """Return the HTTP library's error for a wait that took too long."""
    error: type[Exception] = getattr(failures, f"{phase.title()}Timeout")
    return error


LATE = 0.05  # seconds that async work may go on after its limit
EARLY = 0.01  # seconds; a socket's timeout may end a little before the clock says so


class Pace:
    """When one attempt has to be over, and why."""

    def __init__(self, attempt: Attempt, *, has_heard: bool = False) -> None:
        self._deadline = attempt.until
        self._config = attempt.config
        self._progress = attempt.config.progress_timeout if attempt.request.stream else None
        self._stalls = None if self._progress is None else time.monotonic() + self._progress
        self._held_since: float | None = None
        self.timeout: Timeout = attempt.request.timeout
        self.is_plain: bool = attempt.request.url.startswith("http://")
        """Whether it is sent without TLS."""
        self.has_heard = has_heard
        """Whether the client has had an answer before, from anywhere."""
        self.limited: bool = self._deadline is not None or self._stalls is not None

    def moment(self) -> float | None:
        """Return when the next limit is reached, if there is one."""
        return min((m for m in (self._deadline, self._stalls) if m is not None), default=None)

    def seconds(self, phase: Phase) -> float | None:
        """Return how long a wait may last that begins now; None for as long as it takes.

        Raises the HTTP library's timeout if a limit is reached already.
        """
        wait: float | None = getattr(self.timeout, phase)
        moment = self.moment() if self.limited else None
        if moment is None:
            return wait
        left = moment - time.monotonic()
        if left <= 0:
            raise timeout_of(phase)("the time is up")
        return left if wait is None else min(wait, left)

    def look(self, reader: Reader) -> None:
        """Note progress: only what moves the message on counts, not a ping."""
        if self._progress is not None and reader.moved:
            now = time.monotonic() if self._held_since is None else self._held_since
            self._stalls = now + self._progress
        reader.moved = False

    def hold(self) -> None:
        """Pause the progress timeout while the caller works."""
        self._held_since = time.monotonic()

    def resume(self) -> None:
        """Resume it."""
        if self._held_since is not None and self._stalls is not None:
            self._stalls += time.monotonic() - self._held_since
        self._held_since = None

    def check(self) -> None:
        """Raise if a limit is reached."""
        if failure := self.failure():
            raise failure

    def failure(self) -> APITimeoutError | None:
        """Return the error for the limit that is reached, if one is."""
        now = time.monotonic() + EARLY
        if self._deadline is not None and now >= self._deadline:
            error = APITimeoutError(f"the deadline of {self._config.deadline:g} s has passed")
            error.phase, error.permanent = "deadline", True
        elif self._stalls is not None and now >= self._stalls:
            error = APITimeoutError(
                f"no content arrived for {self._progress:g} s (progress_timeout)"
            )
            error.phase = "progress"
        else:
            return None
        return error

    async def within(self, step: Callable[[], Awaitable[T]]) -> T:
        """Run one step of async work until the next limit, and raise if that is reached.

        The HTTP library's own timeouts, set to the same limit, come first: it tidies up after
        them, and leaks a socket that is cancelled in the middle of a TLS handshake.
        """
        moment = self.moment()
        if moment is None:
            return await step()
        import anyio

        with anyio.move_on_after(max(0.0, moment - time.monotonic()) + LATE):
            return await step()
        self.check()
        raise APITimeoutError("the time is up")


_moment = threading.local()


@contextmanager
def waits_end_at(moment: float | None) -> Generator[None]:
    """Let every wait on a socket, in this thread and block, end at a moment of `time.monotonic`.

    httpx fixes a timeout when a request starts; a deadline needs it to shrink as time goes by. Only
    connections that httpx makes need it: our own are told.
    """
    _moment.value = moment
    try:
        yield
    finally:
        _moment.value = None


def bounded(timeout: float | None, error: type[Exception]) -> float | None:
    """Return how long a wait may still last, or raise `error` if it may not."""
    moment: float | None = getattr(_moment, "value", None)
    if moment is None:
        return timeout
    left = moment - time.monotonic()
    if left <= 0:
        raise error("the time is up")
    return left if timeout is None else min(timeout, left)
