"""Find the real parts, and decide what happens where one is missing; it starts nothing.

`make real` brings them: each environment of `environments/` into `.venv-real/`, because the parts
do not agree on the versions of what they share, and the model beside them. In CI a missing part is
a failure; anywhere else its tests skip, and name it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from llama.server import llama_unavailable, runs_on_this_platform

HOME = Path(__file__).parents[3] / ".venv-real"
MODEL = HOME / "smollm2-135m-instruct-f16.gguf"


def python_of(environment: str) -> Path:
    """Return the interpreter of an environment, or end the test."""
    return _there(HOME / environment / "bin" / "python", f"the environment {environment!r}")


def small_model() -> Path:
    """Return the small model, or end the test."""
    if reason := llama_unavailable():
        _missing(reason)
    return _there(MODEL, "the small model")


def claude_code() -> Path:
    """Return the program of Claude Code, which is inside the package for this machine."""
    found = (HOME / "claude-code" / "node_modules").glob("@anthropic-ai/claude-code-*/claude")
    program = next(found, None)
    if program is None:
        pytest.skip("Claude Code is missing: make claude-code brings it")
    return program


def _there(path: Path, name: str) -> Path:
    if not path.exists():
        _missing(f"{name} is missing: make real brings it")
    return path


def _missing(reason: str) -> None:
    if os.environ.get("CI") and runs_on_this_platform():
        pytest.fail(f"CI must have every real part: {reason}")
    pytest.skip(reason)


@contextmanager
def clean(**variables: str) -> Iterator[Mapping[str, str]]:
    """Give an environment with an empty home and these variables, and nothing of whoever runs us.

    What the parts would fetch or tell anybody on their own is switched off: tests talk to this
    machine alone.
    """
    with tempfile.TemporaryDirectory(prefix="real-") as home:
        yield {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "NO_PROXY": "*",
            "DO_NOT_TRACK": "1",
            "ANONYMIZED_TELEMETRY": "False",
            "DAFT_ANALYTICS_ENABLED": "0",
            "LANGSMITH_TRACING": "false",
            "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
            # Where no clusters are supported Ray keeps to the loopback address; so it does here.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_TMPDIR": home,
            "RAY_USAGE_STATS_ENABLED": "0",
            **variables,
        }
