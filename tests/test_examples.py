"""Run every example as a reader would: by itself, without a key, in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def run(example: Path, cwd: Path) -> str:
    """Return what an example prints; fail if it fails, warns, or complains."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=cwd,
        env=kept | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    assert len(run(example, tmp_path).splitlines()) >= 3
    assert not list(tmp_path.iterdir())


def test_without_anthropic_its_example_says_so(tmp_path: Path) -> None:
    example = next(path for path in EXAMPLES if path.stem == "with_anthropic")
    code = (
        "import importlib.util, runpy; importlib.util.find_spec = lambda name: None; "
        f"runpy.run_path({str(example)!r}, run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pip install anthropic" in ran.stdout
