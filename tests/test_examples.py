"""Run every example as a reader would: by itself, without a key, in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

SHOWN = {
    "conversation": ["… is short after all."],
    "from_openai": ["Refused: n: Messages gives one answer"],
    "pictures": [
        "I was sent: image of image/png,",
        "I was sent: document of text/plain, 26 characters.",
        "characters; image of image/png,",
        "'letter.png': is no picture: servers take JPEG, PNG, GIF and WebP",
        "'empty.png': is empty",
        "'huge.png': has 9000 × 64 pixels, a side may have 8000",
    ],
    "quickstart": ["→ You said: What is my name?"],
    "structured_output": [
        "Pancakes, easy",
        "['sweet', 'sour']",
        "{'title': 'Bread', 'difficulty': 'fair', 'ingredients': [{'name': 'flour'}]}",
        "→ Bread of 2 ingredients",
        "Soup, after 1 that did not fit",
        "OutputTruncatedError: the answer was cut (max_tokens) after 20 tokens",
        """it began '{"title": "Goulash", "diffi', and cost 20 tokens""",
    ],
    "thinking": ["Yes: 391 divided by 23 is 17."],
    "tools": ["→ I was told: 214 cm; Error: KeyError: 'Styx'; {\"open\":50}."],
    "with_anthropic": ["You said: Hello, gateway!"],
}
"""What an example must print, so that it is seen to do its work and to come to its end."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    if example.stem == "with_anthropic":
        pytest.importorskip("anthropic", reason="anthropic is not installed")
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env=kept | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert example.stem in SHOWN, f"say in SHOWN what {example.name} must print"
    for line in SHOWN[example.stem]:
        assert line in ran.stdout
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
