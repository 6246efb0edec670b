"""Build the headers and timeouts of a request, the same for every transport. Sends nothing."""

from __future__ import annotations

import time

from .._protocol.values import Request
from .pace import Pace
from .unpack import ACCEPTED


def headers_of(request: Request) -> dict[str, str]:
    """Return every header but `host` and `content-length`; those of the caller win.

    A stream is asked for as it is: what compresses it on the way holds its events back.
    """
    encodings = "identity" if request.stream else ACCEPTED
    return {"accept-encoding": encodings, "connection": "keep-alive", **request.headers}


def waits_of(request: Request, pace: Pace) -> dict[str, float | None]:
    """Return the timeouts as httpx takes them: the configured ones, or what time is left."""
    timeout = request.timeout
    waits = {
        "connect": timeout.connect,
        "read": timeout.read,
        "write": timeout.write,
        "pool": timeout.pool,
    }
    moment = pace.moment()
    if moment is None:
        return waits
    left = max(0.001, moment - time.monotonic())
    return {name: left if wait is None else min(wait, left) for name, wait in waits.items()}
