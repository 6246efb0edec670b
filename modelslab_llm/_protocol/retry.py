"""Decide whether a failed call is sent again, and after how long. Never sleeps, never sends."""

from __future__ import annotations

import random

from .._records import record
from ..errors import APIConnectionError, APIError, APIStatusError, EndpointNotReadyError

FIRST, LONGEST = 0.5, 8.0  # seconds, before jitter; the usual backoff (protocol.md §7.5)

NAMELESS = 6
"""Tries, over ten seconds, before an unresolvable hostname fails while waiting for a server: a
container gets its name when it starts; a misspelled name never resolves."""


@record
class Retry:
    """Decide how many seconds to wait after a failure. `tries` counts the requests sent so far."""

    max_retries: int = 2
    max_wait: float = 60.0

    def pause(self, failure: APIError, tries: int) -> float | None:
        """Return the seconds to wait before the next try, or None to give up."""
        if tries > self.max_retries or not self.worth_it(failure):
            return None
        hint = failure.retry_after if isinstance(failure, APIStatusError) else None
        if hint is None:
            return min(FIRST * 2.0 ** min(tries - 1, 10), LONGEST) * random.uniform(0.75, 1)
        return hint if hint <= self.max_wait else None

    def given_up(self, failure: APIError, tries: int) -> str:
        """Say why a failure that could be retried is not, if the wait is the reason."""
        wait = failure.retry_after if isinstance(failure, APIStatusError) else None
        if tries > self.max_retries or not self.worth_it(failure) or (wait or 0) <= self.max_wait:
            return ""
        return f"not retried: the wait is above max_retry_wait, {self.max_wait:g} s"

    def worth_it(self, failure: APIError) -> bool:
        """Tell whether the same request may succeed later (protocol.md §7.5)."""
        if isinstance(failure, APIStatusError):
            verdict = failure.headers.get("x-should-retry")
            if verdict in ("true", "false"):
                return verdict == "true"
            status = failure.status_code
            return not failure.permanent and (status in (408, 409, 429) or status >= 500)
        return not failure.permanent and isinstance(failure, APIConnectionError)


@record
class UntilReady(Retry):
    """Keep asking a server that is starting up, until the deadline of the call."""

    def pause(self, failure: APIError, tries: int) -> float | None:
        """Return the seconds to wait: 0.5 to 5, or more if the server asks for more."""
        if not self.worth_it(failure):
            return None
        if isinstance(failure, APIConnectionError) and failure.unknown_host and tries > NAMELESS:
            return None
        hint = failure.retry_after if isinstance(failure, APIStatusError) else None
        return max(hint or 0.0, min(FIRST * 1.5 ** min(tries - 1, 10), 5.0))

    def given_up(self, failure: APIError, tries: int) -> str:
        """Return nothing: no wait is too long."""
        return ""

    def worth_it(self, failure: APIError) -> bool:
        """Tell whether a server may respond like this while it starts up."""
        return not failure.permanent and (
            isinstance(failure, (APIConnectionError, EndpointNotReadyError))
            or (isinstance(failure, APIStatusError) and failure.status_code in (502, 503, 504))
        )
