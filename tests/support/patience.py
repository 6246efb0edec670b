"""Wait, and test limits of time, so that only a wrong program fails and not a busy machine.

What such a test claims (this limit ended the call, after that text) is true at any scale; a machine
that is starved for a tenth of a second makes it fail at a small one. So it runs in units of
less than a tenth of a second, and only where that fails, again in longer ones.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from modelslab_llm import APIError

UNITS = (0.05, 0.4, 2.5)
"""Seconds, tried in turn until the test passes."""

MISSED = (AssertionError, APIError, LookupError, pytest.fail.Exception)
"""How a test fails whose time ran out: a limit ended what should have gone on, the server never saw
the connection it is asked for, or `pytest.raises` saw nothing raised."""


def patient(test: Callable[..., None]) -> Callable[..., None]:
    """Give the test its `unit`, in seconds, and longer ones until it passes or has had the last."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        for unit in UNITS[:-1]:
            try:
                test(*args, **kwargs, unit=unit)
            except MISSED:
                continue
            return
        test(*args, **kwargs, unit=UNITS[-1])

    signature = inspect.signature(test)
    fixtures = [known for known in signature.parameters.values() if known.name != "unit"]
    run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
    return run


def until(reached: Callable[[], object], seconds: float = 20) -> None:
    """Wait for what comes at once, but on a busy machine later; without end is a failure."""
    give_up = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < give_up
        time.sleep(0.005)
