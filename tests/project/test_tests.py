"""Hold what CONTRIBUTING.md says of tests: where they stand, what they are called, how they load.

pytest-xdist starts only if all of its workers list the same tests in the same order, and the name
that a failure is reported by has to find the test again. Every worker lists every test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
BESIDE_THE_ROOMS = {"llama", "real", "examples", "project"}
HEAVY = ("anthropic", "django", "fastapi", "nbclient", "playwright", "uvicorn")

LIST = f"""
import sys, pytest
failed = pytest.main(["--collect-only", "-q"])
sys.exit(failed or ", ".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""


def test_every_test_is_in_a_room() -> None:
    package = ROOT / "modelslab_llm"
    rooms = {path.parent.name.strip("_") for path in package.glob("*/__init__.py")}
    rooms |= {path.stem.strip("_") for path in package.glob("[!_]*.py")}
    for path in TESTS.rglob("test_*.py"):
        room = path.relative_to(TESTS).parts[0]
        allowed = room in rooms | BESIDE_THE_ROOMS
        assert allowed, f"{path.relative_to(ROOT)}: put it into a folder of {sorted(rooms)}"


@pytest.mark.slow
def test_every_process_lists_the_same_tests_in_the_same_order() -> None:
    """An id from an address, a time or the order of a set differs between the two.

    The workers of pytest-xdist compare their lists by themselves; then one process is enough.
    """
    seeds = ("1",) if "PYTEST_XDIST_WORKER" in os.environ else ("1", "2")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LIST],
            cwd=ROOT,
            env={**clean, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    (first, loaded), *others = [process.communicate() for process in processes]
    assert not loaded, f"put it behind `Lazy`, see support/lazy.py: {loaded}{first[-1000:]}"
    one = [line for line in first.splitlines() if "::" in line]
    assert len(one) > 1000
    for second, _ in others:
        other = [line for line in second.splitlines() if "::" in line]
        assert [names for names in zip(one, other, strict=True) if names[0] != names[1]] == []
