"""Fixtures for all tests: sync and async clients, a clean environment, the local server."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator

import pytest
from _pytest.runner import runtestprotocol
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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while tests are listed, and spare whoever does later to look them over."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Leave out, in a worker of pytest-xdist, the report that a set-up or a teardown passed.

    To send and to count the three reports of a test costs twice what it takes to run an empty one.
    Those two matter only where durations or a file of results are asked for. With `-x`, a failure
    has to be known before the teardown.
    """
    option = item.config.option
    all_matter = option.durations is not None or option.xmlpath or option.maxfail
    if all_matter or not hasattr(item.config, "workerinput"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


collect_ignore = ["typing", "support/real"]  # programs for type checkers and other environments


@pytest.fixture(params=["sync", "asyncio", "trio"])
def variant(request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Both clients, the async one on both event loops; see `variants`."""
    with variant_named(request.param) as found:
        yield found


@pytest.fixture(autouse=True, scope="module")
def _little_to_look_over() -> Iterator[None]:
    """Freeze what a file of tests leaves, above all what it imported, for those that collect."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """Keep the environment of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("API_KEY", "BASE_URL", "DEPLOYMENT_ID"):
            monkeypatch.delenv(f"MODELSLAB_{name}", raising=False)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        # Every process that a test starts would look for some in all that is installed.
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
        yield


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a millisecond where a call would wait half a second before it is sent again."""
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 0.001)
    monkeypatch.setattr("modelslab_llm._protocol.allowance.BACKOFF", 0.001)


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
