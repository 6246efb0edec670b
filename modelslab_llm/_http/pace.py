"""The limits of time on one attempt: arithmetic over `time.monotonic`. Only `within` ever waits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._protocol.config import Timeout
from .._protocol.reader import Reader
from .._protocol.values import Attempt
from ..errors import APITimeoutError

T = TypeVar("T")

LATE = 0.05  # seconds that async work may go on after its limit
EARLY = 0.01  # seconds; a socket's timeout may end a little before the clock says so


class Pace:
    """When one attempt has to be over, and why."""

    def __init__(self, attempt: Attempt) -> None:
        self._deadline = attempt.until
        self._config = attempt.config
        self._progress = attempt.config.progress_timeout if attempt.request.stream else None
        self._stalls = None if self._progress is None else time.monotonic() + self._progress
        self._held_since: float | None = None
        self.timeout: Timeout = attempt.request.timeout
        self.limited: bool = self._deadline is not None or self._stalls is not None

    def moment(self) -> float | None:
        """Return when the next limit is reached, if there is one."""
        return min((m for m in (self._deadline, self._stalls) if m is not None), default=None)

    def look(self, reader: Reader) -> None:
        """Note progress: only what moves the message on counts, not a ping."""
        if self._progress is not None and reader.moved:
            now = time.monotonic() if self._held_since is None else self._held_since
            self._stalls = now + self._progress
        reader.moved = False

    def hold(self) -> None:
        """Stop the clock of progress while the caller works on what has come."""
        self._held_since = time.monotonic()

    def resume(self) -> None:
        """Let it go on."""
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
            error = APITimeoutError(f"no content came for {self._progress:g} s (progress_timeout)")
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
