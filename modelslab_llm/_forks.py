"""Prevent a fork at a moment when the child could not continue, such as during an import.

A lock that another thread holds at a fork stays locked in the child forever. Therefore everything
that is done once per process and takes such a lock runs under `no_fork()`, and a fork waits for it.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

LONGEST = 10.0
"""Seconds that a fork waits, because the forking thread may hold what the other thread waits
for."""

_lock = threading.RLock()
_taken: list[bool] = []


def no_fork() -> AbstractContextManager[object]:
    """Return the lock to hold while something is done for the first time."""
    return _lock


def _before() -> None:
    _taken.append(_lock.acquire(timeout=LONGEST))


def _after_in_parent() -> None:
    if _taken.pop():
        _lock.release()


def _after_in_child() -> None:
    global _lock
    _taken.clear()
    _lock = threading.RLock()  # the thread that held the other one is not in this process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
