"""Fixtures for all tests: sync and async clients, a clean environment, the local server."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from llama.fixtures import (  # noqa: F401  # fixtures for every test file
    llama_crowded,
    llama_slow,
    llama_story,
    llama_text,
    llama_thinking,
    llama_tools,
)
from scripted import Way, way_named
from variants import Async, Sync, variant_named

from modelslab_llm.testing import LocalServer

# The same examples in every run, so that a failure is of the change and not of the day; a busy
# machine is no failure.
settings.register_profile(
    "always the same",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("always the same")


def pytest_collection_finish() -> None:
    """Spare whoever collects garbage the thousands of tests: many tests do, and look it over."""
    gc.collect()
    gc.freeze()


collect_ignore = ["typing", "support/real"]  # programs for type checkers and other environments


@pytest.fixture(params=["sync", "asyncio", "trio"])
def variant(request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Both clients, the async one on both event loops; see `variants`."""
    with variant_named(request.param) as found:
        yield found


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them."""
    for name in ("API_KEY", "BASE_URL", "DEPLOYMENT_ID"):
        monkeypatch.delenv(f"MODELSLAB_{name}", raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """An echoing local server over real sockets."""
    with LocalServer() as running:
        yield running


@pytest.fixture(params=["server", "transport"])
def way(request: pytest.FixtureRequest, variant: Sync | Async) -> Iterator[Way]:
    """A scripted server, over a real socket and as a transport, sync and async; see `scripted`."""
    with way_named(request.param, variant) as found:
        yield found
