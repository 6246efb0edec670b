"""Run every example as a reader would: by itself, without a key, in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

SHOWN = {
    "conversation": "… is short after all.",
    "from_openai": "Refused: n: Messages gives one answer",
    "quickstart": "→ You said: What is my name?",
    "thinking": "Yes: 391 divided by 23 is 17.",
    "tools": "→ I was told: 214 cm; Error: KeyError: 'Styx'; {\"open\":50}.",
    "with_anthropic": "You said: Hello, gateway!",
}
"""A line that an example must print, so that it is seen to have come to its end."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(example)],
        cwd=tmp_path,
        env=kept | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert SHOWN[example.stem] in ran.stdout
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
