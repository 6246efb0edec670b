"""The HTTP libraries whose clients callers bring, for tests that run on each that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from variants import Async, Sync

from modelslab_llm._http.private import carries_as_made

LIBRARIES = ("httpx", "httpx2")

OURS = "modelslab_llm"
"""What stands among them for the package's own clients."""


def installed(*names: str) -> list[Any]:
    return [
        pytest.param(
            name, marks=pytest.mark.skipif(not find_spec(name), reason=f"{name} is not installed")
        )
        for name in names
    ]


each_library = pytest.mark.parametrize("library", installed(*LIBRARIES))
each_client = pytest.mark.parametrize("library", installed(OURS, *LIBRARIES))


def module(library: str) -> ModuleType:
    return importlib.import_module(library)


@contextmanager
def client_of(library: str, variant: Sync | Async, **settings: Any) -> Iterator[Any]:
    """Give a plain client of that library, as callers make it.

    Where a test says nothing of TLS there is none, and to read the CA certificates takes a while.
    """
    settings.setdefault("verify", False)
    if isinstance(variant, Sync):
        with module(library).Client(**settings) as http:
            yield http
    else:
        http = module(library).AsyncClient(**settings)
        yield http
        variant.portal.call(http.aclose)


def goes_straight(http: Any) -> bool:
    """Tell whether a client of ours sends over its connections with nothing in between."""
    transport = http.transport_alone
    return transport is not None and carries_as_made(transport)
