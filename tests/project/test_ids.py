"""Hold that a test has one name: whoever lists the tests, in whatever process, lists the same.

pytest-xdist starts only if all of its workers list the same tests in the same order; and the name
that a failure is reported by has to find the test again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_process_lists_the_same_tests_in_the_same_order() -> None:
    """An id from an address, a time or the order of a set differs between the two."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (process.communicate()[0].splitlines() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], first[-5:]
    first, second = (ids_in(lines) for lines in (first, second))
    assert len(first) > 1000
    assert [names for names in zip(first, second, strict=True) if names[0] != names[1]] == []


def ids_in(lines: list[str]) -> list[str]:
    return [line for line in lines if "::" in line]
