"""Pytest fixtures: one running llama-server per scripted model, started when first asked for.

``conftest.py`` imports them. They decide in one place what happens where llama-server cannot run;
they test nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from llama.scripts import (
    SLOW_MODEL,
    STORY_MODEL,
    TEXT_MODEL,
    THINKING_MODEL,
    TOOL_MODEL,
    ScriptedModel,
)
from llama.server import LlamaServer, llama_unavailable, runs_on_this_platform

MODEL_NAME = "local"
"""What the servers call their model, whatever a request calls it."""


def require_llama() -> None:
    """Skip the test where llama-server cannot run; in CI, fail where it should."""
    reason = llama_unavailable()
    if reason is None:
        return
    if os.environ.get("CI") and runs_on_this_platform():
        pytest.fail(f"CI must run llama-server: {reason}")
    pytest.skip(reason)


def serve(
    model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory, **options: Any
) -> Iterator[LlamaServer]:
    require_llama()
    path = tmp_path_factory.mktemp("llama") / "model.gguf"
    model.write(path)
    options.setdefault("extra_args", ())
    options["extra_args"] = ["--alias", MODEL_NAME, *options["extra_args"]]
    with LlamaServer(path, **options) as server:
        yield server


@pytest.fixture(scope="session")
def llama_text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Says ``TEXT``; asked for the "tower", ``SPLIT_CHARACTER``; asked for "nothing", nothing."""
    yield from serve(TEXT_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def llama_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Calls ``RIVER_LEVEL`` once, or twice if asked for "both"; after a tool result, ``ANSWER``."""
    yield from serve(TOOL_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def llama_thinking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Thinks, then talks; given ``RIVER_LEVEL``, thinks, talks and calls it."""
    yield from serve(THINKING_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def llama_slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Counts to 2000, which takes seconds."""
    yield from serve(SLOW_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def llama_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Says ``STORY``, and goes on with it wherever a prefill ends."""
    yield from serve(STORY_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def llama_crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """Counts too, but two replies share room for one: at the same time, both end in an error."""
    yield from serve(
        SLOW_MODEL, tmp_path_factory, slots=2, context=128, extra_args=["--kv-unified"]
    )
