"""Answers of a real small model go on after a break, and nearly always as they would have."""

from __future__ import annotations

from llama.server import LlamaServer
from real.resumed import PROMPTS, measured


def test_resumed_answers_are_those_it_would_have_given(small: LlamaServer) -> None:
    """Another word now and then is the model's own affair; an answer that is lost is not."""
    (row,) = measured(small, [10], PROMPTS[:8])
    assert row.resumed >= 6
    assert len(row.different) <= 1
