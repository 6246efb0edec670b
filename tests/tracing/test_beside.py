"""The table that compares the spans with another library's is what our spans really have."""

from __future__ import annotations

from pathlib import Path

from benchmarks.traces import FACTS, traced

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"


def test_the_page_says_what_is_on_our_spans() -> None:
    """Run `python -m benchmarks.traces spans` when this fails, and copy its table to the page."""
    found = traced("modelslab_llm")
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    said = {row[0].removeprefix("| "): row[1] for row in rows if len(row) == 3}
    assert {fact: said.get(fact) for fact in FACTS} == {
        fact: str(told(found)) for fact, told in FACTS.items()
    }
