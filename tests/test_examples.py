"""Run each example as a stranger would first: without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

SHOWN = {
    "quickstart.py": "→ You said: What is my name?",
    "tools.py": "→ I was told: 214 cm; Error: KeyError: 'Styx'; {\"open\":50}.",
}
"""What an example must print, so that it is seen to have come to its end."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_it_runs_without_a_key(example: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},  # which holds no key: see conftest
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert SHOWN[example.name] in run.stdout
