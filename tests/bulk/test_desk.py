"""The decisions about rows, without a server: every order of events ends correctly.

The desk is driven directly, in orders that hypothesis finds, against a store in memory.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelslab_llm import (
    AuthenticationError,
    BadRequestError,
    BudgetSpentError,
    InvalidRequestError,
    ModelsLabError,
    TooManyFailuresError,
)
from modelslab_llm.bulk._course import Course
from modelslab_llm.bulk._desk import Desk
from modelslab_llm.bulk._ledger import Ledger
from modelslab_llm.bulk._progress import Tally, duration
from modelslab_llm.bulk._result import BulkResult, Kept
from modelslab_llm.bulk._rows import Ask, Recipe
from modelslab_llm.prices import Budget
from modelslab_llm.types import Message, Usage

IN_FLIGHT = 3

Row = tuple[int, str]


def desk(course: Course, ledger: Ledger | None) -> Desk[Row, None]:
    if ledger is not None:
        course.run = ledger.run
        ledger.index_digests()
    recipe: Recipe[Row] = Recipe(
        make=lambda row: {"messages": [{"role": "user", "content": row[1]}]},
        key=lambda row: row[0],
        default_model="m",
    )
    return Desk(
        course,
        recipe,
        ledger,
        Tally(None, priced=False),
        adapter=None,
        prices=None,
        max_in_flight=IN_FLIGHT,
        include_stored=True,
        waiting=lambda: 0,
        now=lambda: 0.0,
    )


def answer(text: str) -> Message:
    content = [{"type": "text", "text": f"to {text}"}]
    return Message.model_validate({"content": content, "usage": {"output_tokens": 1}})


def outcome(ask: Ask[Row], failing: str) -> Message | ModelsLabError:
    text = ask.row[1]
    return BadRequestError(f"not {text}", status_code=400) if text in failing else answer(text)


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=25),
    earlier=st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=4),
    failing=st.sampled_from(["", "a", "bc"]),
    deduplicate=st.booleans(),
    retry_failed=st.booleans(),
    data=st.data(),
)
def test_every_row_has_its_own_answer_whatever_happens_when(
    rows: list[Row],
    earlier: list[Row],
    failing: str,
    deduplicate: bool,
    retry_failed: bool,
    data: st.DataObject,
) -> None:
    # Closed however it ends: hypothesis may stop an example wherever it draws.
    with closing(Ledger(None)) as ledger:
        before = work(desk(Course(), ledger), ledger, earlier, "a", lambda choices: choices[0])
        assert len(before) == len(earlier)
        ledger.run += 1  # the next run
        course = Course(deduplicate=deduplicate, retry_failed=retry_failed)
        results = work(
            desk(course, ledger),
            ledger,
            rows,
            failing,
            lambda choices: data.draw(st.sampled_from(choices)),
        )
        assert Counter(result.index for result in results) == Counter(range(len(rows)))
        for result in results:
            _, text = rows[result.index]
            if result.error is None:
                assert result.message.text == f"to {text}"
            elif not isinstance(result.error, InvalidRequestError):
                assert result.error.message == f"not {text}"  # type: ignore[attr-defined]
        # A key is refused only to a row that asks something else than the first with that key.
        first: dict[int, str] = {}
        for key, text in rows:
            first.setdefault(key, text)
        refused = {r.index for r in results if isinstance(r.error, InvalidRequestError)}
        assert refused == {i for i, (key, text) in enumerate(rows) if first[key] != text}
        # And the store has one result for each key, which is that of the first row with it.
        for key, text in first.items():
            kept = ledger.find(key, run=ledger.run)
            assert kept is not None
            assert f"to {text}" in (kept.message or "") or f"not {text}" in (kept.error or "")
        # A failure takes no answer away.
        asked: dict[int, str] = {}
        for key, text in earlier:
            asked.setdefault(key, text)
        for key, text in asked.items():
            kept = ledger.find(key)
            assert kept is not None
            assert text == "a" or kept.message is not None


def work(
    desk: Desk[Row, None], ledger: Ledger, rows: list[Row], failing: str, choose: Any
) -> list[BulkResult[Row, None]]:
    """Drive a desk to its end, doing at each moment one of the things that may be done then."""
    left = iter(rows)
    flying: list[Ask[Row]] = []
    written: list[list[tuple[Kept | None, BulkResult[Row, None]]]] = []
    results: list[BulkResult[Row, None]] = []
    asked: list[int] = []
    while not (desk.settled and not desk.ready):
        choices: list[Any] = ["take"] * desk.wants_row
        choices += ["send"] * bool(desk.line and len(flying) < IN_FLIGHT)
        choices += ["end"] * bool(flying)
        choices += ["write"] * bool(desk.unstored)
        choices += ["written"] * bool(written)
        choices += ["hand out"] * bool(desk.ready)
        match choose(choices):
            case "take":
                row = next(left, None)
                if row is None:
                    desk.exhausted = True
                else:
                    desk.take(row)
            case "send":
                ask = desk.next()
                assert ask is not None
                asked.append(ask.index)
                flying.append(ask)
            case "end":
                ask = flying.pop(choose(range(len(flying))))
                desk.ended(ask, outcome(ask, failing))
            case "write":
                batch = desk.take_unstored()
                ledger.write([kept for kept, _ in batch if kept is not None])
                written.append(batch)
            case "written":
                desk.stored(written.pop(0))
            case "hand out":
                result = desk.hand_out()
                if result.key is not None and not isinstance(result.error, InvalidRequestError):
                    assert ledger.find(result.key) is not None  # stored before handed out
                results.append(result)
        assert len(desk.line) <= IN_FLIGHT
        assert desk.tally.taken - len(results) <= 3 * IN_FLIGHT
        assert desk.tally.in_flight == len(flying)
    assert len(asked) == len(set(asked))
    return results


def test_a_row_that_was_dropped_is_not_counted() -> None:
    """When the run ends, queued rows are left to the next run."""
    course = Course(budget=Budget(tokens=1))
    table = desk(course, None)
    for number in range(IN_FLIGHT):
        table.take((number, "a"))
    first = table.next()
    assert first is not None
    table.ended(first, answer("a"))
    assert table.next() is None
    assert isinstance(course.end, BudgetSpentError)
    assert not table.settled or table.ready
    table.hand_out()
    assert table.settled
    assert (table.tally.done, table.tally.failed) == (1, 0)


@pytest.mark.parametrize("deduplicate", [True, False])
def test_who_waits_for_a_row_that_ends_the_run_is_dropped_with_it(deduplicate: bool) -> None:
    ledger = Ledger(None)
    table = desk(Course(deduplicate=deduplicate), ledger)
    for key in (1, 1, 2):
        table.take((key, "a"))
    first = table.next()
    assert first is not None
    table.ended(first, AuthenticationError("who?", status_code=401))
    assert table.next() is None
    assert table.settled
    assert not table.ready
    assert isinstance(table.course.end, AuthenticationError)
    ledger.close()


def test_failures_of_earlier_runs_do_not_count_as_this_runs() -> None:
    ledger = Ledger(None)
    rows = [(number, "a") for number in range(5)]
    work(desk(Course(), ledger), ledger, rows, "a", lambda choices: choices[-1])
    ledger.run += 1
    course = Course(max_failures=1)
    assert len(work(desk(course, ledger), ledger, rows, "a", lambda choices: choices[0])) == 5
    assert course.end is None
    course = Course(max_failures=1, retry_failed=True)
    ledger.run += 1
    work(desk(course, ledger), ledger, rows, "a", lambda choices: choices[-1])
    assert isinstance(course.end, TooManyFailuresError)
    ledger.close()


def test_the_rate_is_that_of_the_last_minute() -> None:
    tally = Tally(1000, priced=False)
    tally.began = 0.0
    result = BulkResult(1, 1, None, "asked", message=answer("a"), usage=Usage())
    progress = tally.snapshot(0.0, 0)
    assert (progress.rate, progress.left) == (0.0, None)
    for second in range(1, 301):
        for _ in range(10 if second <= 100 else 1):
            tally.count(result)
        progress = tally.snapshot(float(second), 0)
        if second == 100:
            assert progress.rate == pytest.approx(10)
            assert progress.left == pytest.approx(0)
    assert progress.rate == pytest.approx(1, rel=0.1)
    assert progress.done == 1200
    assert duration(progress.elapsed) == "5:00"


def test_a_bug_ends_the_run_and_not_in_a_wait_for_ever() -> None:
    class Broken(Budget):
        def add(self, usage: Usage, model: str) -> None:
            raise ZeroDivisionError

    table = desk(Course(budget=Broken(tokens=5)), None)
    table.take((1, "a"))
    first = table.next()
    assert first is not None
    table.ended(first, answer("a"))
    assert isinstance(table.course.end, ZeroDivisionError)
    assert table.settled
