"""A JSON object that arrives in pieces: what is seen of it on the way, and what looking costs."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelslab_llm.structured import _partial
from modelslab_llm.structured._partial import STEP, PartialObject

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # No half characters: JSON text can spell them, but no answer can hold them.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), VALUES)


def is_beginning(part: Any, whole: Any) -> bool:
    """Tell whether `part` is what one may see of `whole`: all but the last place stays as it is."""
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, list) and isinstance(whole, list):
        at = len(part) - 1
        return not part or (
            len(part) <= len(whole)
            and part[:at] == whole[:at]
            and is_beginning(part[at], whole[at])
        )
    if isinstance(part, dict) and isinstance(whole, dict):
        names = list(part)
        return (
            names == list(whole)[: len(names)]
            and all(part[name] == whole[name] for name in names[:-1])
            and (not names or is_beginning(part[names[-1]], whole[names[-1]]))
        )
    return bool(part == whole) and type(part) is type(whole)


def seen(pieces: list[str]) -> list[dict[str, Any]]:
    partial, found = PartialObject(), []
    for piece in pieces:
        partial.add(piece)
        found += [value] if (value := partial.news()) is not None else []
    return found + ([value] if (value := partial.news(whole=True)) is not None else [])


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 2]), st.integers(1, 9))
def test_each_prefix_gives_a_beginning_of_the_whole(
    value: dict[str, Any], ascii_only: bool, indent: int | None, size: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    found = seen([text[at : at + size] for at in range(0, len(text), size)])
    for before, after in pairwise(found):
        assert is_beginning(before, after)
    assert all(is_beginning(each, json.loads(text)) for each in found)
    assert found[-1] == json.loads(text)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(OBJECTS, st.text("abc \n`", max_size=20), st.text("abc \n`}", max_size=20))
def test_words_around_the_object_do_not_matter(
    value: dict[str, Any], before: str, after: str
) -> None:
    assert seen(list(before + json.dumps(value) + after))[-1] == value


def test_a_small_object_is_seen_at_every_piece() -> None:
    assert seen(list('{"name": "Ada", "born": 1815}')) == [
        *({}, {"name": ""}, {"name": "A"}, {"name": "Ad"}, {"name": "Ada"}),
        {"name": "Ada", "born": 1815},  # not 1, 18, 181: a number is shown when it is whole
    ]


@pytest.mark.parametrize("text", ["", "no object", "[1, 2]", '{"a" 1', "{'a': 1}", "{,"])
def test_what_is_not_an_object_shows_nothing_wrong(text: str) -> None:
    assert all(value == {} for value in seen(list(text)))


@pytest.mark.parametrize("length", [1_000, 30_000])
@pytest.mark.parametrize("shape", ["one long text", "many numbers", "no JSON"])
def test_all_the_readings_together_cost_a_fixed_multiple_of_the_text(
    length: int, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in characters given to the parser, one character a piece: nothing is timed."""
    read = 0
    parse = _partial.from_json

    def counted(text: str, **how: Any) -> Any:
        nonlocal read
        read += len(text)
        return parse(text, **how)

    monkeypatch.setattr(_partial, "from_json", counted)
    text = {
        "one long text": json.dumps({"text": "x" * length}),
        "many numbers": json.dumps({"numbers": [7] * (length // 3)}),
        "no JSON": "{" + "x" * length,
    }[shape]
    seen(list(text))
    assert len(text) <= read <= (2 + 1 / STEP) * len(text)
