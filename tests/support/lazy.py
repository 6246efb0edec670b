"""Modules that take seconds to import: loaded by the first test that uses one, not to list tests.

Every worker lists every test, so what a module of tests imports is paid once for each of them.
"""

from __future__ import annotations

from typing import Any

import pytest


class Lazy:
    """A module, imported when a name of it is first read; where it is not installed, that skips."""

    def __init__(self, module: str, oldest: str | None = None) -> None:
        self._module = module
        self._oldest = oldest

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest looks every global of a module over, for fixtures
            raise AttributeError(name)
        wanted = f"{self._module} {self._oldest or ''}".strip()
        reason = f"{wanted} is not installed"
        return getattr(pytest.importorskip(self._module, self._oldest, reason=reason), name)
