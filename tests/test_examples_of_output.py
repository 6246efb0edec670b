"""Run the examples on structured output and pictures, as a reader would: without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "structured_output.py",
            [
                "Pancakes, easy",
                "['sweet', 'sour']",
                "{'title': 'Bread', 'difficulty': 'fair', 'ingredients': [{'name': 'flour'}]}",
                "→ Bread of 2 ingredients",
                "Soup, after 1 that did not fit",
                "OutputTruncatedError: the answer was cut (max_tokens) after 20 tokens",
                """it began '{"title": "Goulash", "diffi', and cost 20 tokens""",
            ],
        ),
        (
            "pictures.py",
            [
                "I was sent: image of image/png,",
                "I was sent: document of text/plain, 26 characters.",
                "characters; image of image/png,",
                "'letter.png': is no picture: servers take JPEG, PNG, GIF and WebP",
                "'empty.png': is empty",
                "'huge.png': has 9000 × 64 pixels, a side may have 8000",
            ],
        ),
    ],
)
def test_the_example_shows_what_it_says(name: str, lines: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        encoding="utf-8",
        env={k: v for k, v in os.environ.items() if not k.startswith("MODELSLAB_")}
        | {"PYTHONIOENCODING": "utf-8"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert line in done.stdout
