"""Show the warnings of the package's log as lines of the command: `modelslab: ...`.

The only place where the command adds a handler. With MODELSLAB_LOG the log is written as it says,
by the package itself, and nothing is shown here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress

from ._terminal import note

_SAID_BY_THE_COMMAND = "modelslab_llm.bulk"
"""The log of bulk runs, which speaks of parameters in Python; `bulk` tells of its end itself."""


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.name != _SAID_BY_THE_COMMAND:
            with suppress(OSError):  # the stream may be closed
                note(f"modelslab: {' '.join(record.getMessage().split())}")


_LINES = _Lines(logging.WARNING)


@contextmanager
def warnings_shown() -> Generator[None]:
    """Show warnings while a command runs. Without a handler Python would print them bare."""
    if os.environ.get("MODELSLAB_LOG", "").strip():
        yield
        return
    log = logging.getLogger("modelslab_llm")
    log.addHandler(_LINES)
    try:
        yield
    finally:
        log.removeHandler(_LINES)


@contextmanager
def warnings_hidden() -> Generator[None]:
    """Hide warnings where failures are expected, as in a wait; with MODELSLAB_LOG they are
    logged.
    """
    _LINES.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        _LINES.setLevel(logging.WARNING)
