"""Breakpoints stand where they pay, never more than four, and nothing the caller holds changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from variants import Async, Sync

from modelslab_llm import InvalidRequestError, tool
from modelslab_llm.caching import MAX_BREAKPOINTS, CacheUse, cache_use, with_breakpoints
from modelslab_llm.testing import LocalServer
from modelslab_llm.types import Message, Usage

MARK = {"type": "ephemeral"}


def marked(params: Any) -> list[str]:
    """Return where marks stand, as `system[0]` or `messages[2].content[1]`."""
    found: list[str] = []
    for name in ("tools", "system"):
        for i, block in enumerate(params.get(name) or []):
            found += (
                [f"{name}[{i}]"] if isinstance(block, dict) and "cache_control" in block else []
            )
    for i, turn in enumerate(params["messages"]):
        if isinstance(turn["content"], list):
            for k, block in enumerate(turn["content"]):
                found += [f"messages[{i}].content[{k}]"] if "cache_control" in block else []
    return found


def asked(*turns: tuple[str, Any], **more: Any) -> Any:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"model": "m", "max_tokens": 9, "messages": messages, **more}


@tool
def level(river: str) -> int:
    """Return the level of a river in cm."""
    return len(river)


LONG = asked(
    ("user", "one"),
    ("assistant", "two"),
    ("user", [{"type": "text", "text": "three"}, {"type": "text", "text": "more"}]),
    ("assistant", "four"),
    ("user", "five"),
    system="Be brief.",
    tools=[{"name": "a", "input_schema": {"type": "object"}}, level],
)


def test_the_four_breakpoints_that_pay() -> None:
    before = copy.deepcopy({**LONG, "tools": None})
    found = with_breakpoints(LONG)
    assert marked(found) == [
        "tools[1]",
        "system[0]",
        "messages[2].content[1]",
        "messages[4].content[0]",
    ]
    assert before == {**LONG, "tools": None}
    assert found["messages"][0] == LONG["messages"][0]


def test_marks_that_are_there_count() -> None:
    given = [{"type": "text", "text": str(i), "cache_control": MARK} for i in range(3)]
    params = asked(("user", given), ("assistant", "yes"), ("user", "go on"), system="Be brief.")
    assert marked(with_breakpoints(params)) == [
        *(f"messages[0].content[{i}]" for i in range(3)),
        "messages[2].content[0]",
    ]


def test_asked_again_it_adds_nothing() -> None:
    once = with_breakpoints(LONG)
    assert with_breakpoints(once) == once


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_how_many_turns(turns: int) -> None:
    places = marked(with_breakpoints(LONG, turns=turns))
    assert len(places) == min(MAX_BREAKPOINTS, 2 + min(turns, 3))


def test_a_block_that_cannot_be_marked_is_passed_over() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]
    assert marked(with_breakpoints(asked(("user", content)))) == ["messages[0].content[0]"]


@pytest.mark.parametrize(
    "given", [{}, {"messages": None}, {"messages": "hello"}, {"messages": [7]}, {"system": 7}]
)
def test_what_is_wrong_is_left_to_the_request(given: Any) -> None:
    assert with_breakpoints(given) == given


@pytest.mark.parametrize("wrong", [{"ttl": "1d"}, {"turns": -1}, {"turns": True}])
def test_what_cannot_be_asked(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        with_breakpoints(LONG, **wrong)


def test_it_is_sent(variant: Sync | Async, server: LocalServer) -> None:
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    client.create(**with_breakpoints(LONG, ttl="1h"))
    client.close()
    sent = server.requests[-1].body
    assert sent["tools"][1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert sent["messages"][4]["content"] == [
        {"type": "text", "text": "five", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]


def test_hits_are_read_from_usage() -> None:
    usage = Usage(input_tokens=20, cache_read_input_tokens=60, cache_creation_input_tokens=20)
    use = cache_use(Message(usage=usage))
    assert (use, use.hit_rate) == (CacheUse(60, 20, 20), 0.6)
    assert cache_use(Usage()).hit_rate == 0
