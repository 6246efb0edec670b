"""The package's logger, and the handler that a script can ask for. A program configures its own."""

from __future__ import annotations

import logging

from ..errors import ConfigurationError

log = logging.getLogger("modelslab_llm")

_STDERR = "modelslab_llm to stderr"
"""The name of our handler, to be told from the program's own."""

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def log_to_stderr(level: str) -> None:
    """Write the package's log to stderr, as `MODELSLAB_LOG=debug|info|warning` asks a script to.

    Raises `ConfigurationError` for another word. A second call changes nothing but the level.
    """
    if level.lower() not in LEVELS:
        raise ConfigurationError(f"MODELSLAB_LOG must be debug, info or warning, not {level!r}")
    log.setLevel(LEVELS[level.lower()])
    if all(handler.name != _STDERR for handler in log.handlers):
        handler = logging.StreamHandler()
        handler.name = _STDERR
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)
        log.propagate = False  # or a program that logs by itself would write each line twice
