"""What a store keeps of a run, what a later run makes of it, and who may use it."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from pydantic import BaseModel, model_serializer
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BudgetSpentError,
    ConfigurationError,
    InvalidRequestError,
    OutputTruncatedError,
    StoreError,
)
from modelslab_llm.bulk import BulkStore
from modelslab_llm.prices import Budget
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply

SHARED: dict[str, Any] = {"model": "m/1", "max_tokens": 16}


def params(text: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": str(text)}]}


@pytest.fixture
def client(variant: Sync | Async, server: LocalServer) -> Iterator[SyncClient | AsyncClient]:
    made = variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=0)
    yield made
    made.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "a run.sqlite"


class Bulk:
    """The same run, again and again."""

    def __init__(self, client: Any, store: Path) -> None:
        self.client = client
        self.store = store

    def __call__(self, rows: Any, **options: Any) -> dict[Any, Any]:
        options = {"defaults": SHARED, "key": "id", "store": self.store, **options}
        run = self.client.bulk(rows, **options)
        return {result.key: result for result in run.results()}


@pytest.fixture
def bulk(client: Any, store: Path) -> Bulk:
    return Bulk(client, store)


def rows(*texts: object) -> list[dict[str, Any]]:
    return [{"id": f"r{text}", **params(text)} for text in texts]


def asked(server: LocalServer) -> list[str]:
    """Return what was asked since the last look."""
    since, _looked[server] = _looked.get(server, 0), len(server.requests)
    return sorted(request.text for request in server.requests[since:])


_looked: WeakKeyDictionary[LocalServer, int] = WeakKeyDictionary()


# Again


def test_what_is_stored_is_handed_out_and_not_asked(bulk: Bulk, server: LocalServer) -> None:
    first = bulk(rows(1, 2))
    assert asked(server) == ["1", "2"]
    second = bulk(rows(1, 2, 3))
    assert asked(server) == ["3"]
    for key in ("r1", "r2"):
        assert first[key].source == "asked"
        assert second[key].source == "stored"
        assert second[key].message == first[key].message
        assert second[key].message.request_id == first[key].message.request_id
        assert second[key].usage.output_tokens == first[key].usage.output_tokens > 0
        assert second[key].attempts == 1
        assert second[key].row == first[key].row


def test_what_is_stored_need_not_be_handed_out(bulk: Bulk, server: LocalServer) -> None:
    bulk(rows(1, 2))
    assert bulk(rows(1, 2, 3), include_stored=False).keys() == {"r3"}


def test_a_changed_request_is_asked_again(bulk: Bulk, server: LocalServer) -> None:
    bulk(rows(1, 2))
    asked(server)
    changed = [rows(1)[0], {"id": "r2", **params("2 again")}]
    assert bulk(changed)["r2"].message.text == "You said: 2 again"
    assert asked(server) == ["2 again"]
    bulk(changed)
    assert asked(server) == []


SAME: list[dict[str, Any]] = [
    {"messages": [{"content": "1", "role": "user"}]},  # in another order
    {"messages": [{"role": "user", "content": "1"}], "top_k": None},
    {"messages": ({"role": "user", "content": "1"},)},
    {"messages": {"role": "user", "content": "1"}.copy},  # called, it makes a generator of turns
    {"max_tokens": 16, **params(1)},  # said by the row, and not by all
    {"timeout": 5, "extra_headers": {"x-team": "a"}, **params(1)},  # not what is asked
]
OTHER: list[dict[str, Any]] = [
    {**params(1), "max_tokens": 17},
    {**params(1), "temperature": 0.5},
    {**params(1), "model": "m/2"},
    {**params(1), "system": "Be brief."},
    {**params(1), "extra_body": {"seed": 1}},
    {"messages": [{"role": "user", "content": "1 "}]},
]


@pytest.mark.parametrize("again", [*SAME, *OTHER])
def test_what_makes_a_request_another_one(
    bulk: Bulk, server: LocalServer, again: dict[str, Any]
) -> None:
    bulk(rows(1))
    turns = again["messages"]
    given = {**again, "messages": (turn for turn in [turns()])} if callable(turns) else again
    expected = "stored" if again in SAME else "asked"
    assert bulk([{"id": "r1", **given}])["r1"].source == expected


def test_another_output_is_another_request(bulk: Bulk, server: LocalServer) -> None:
    class Short(BaseModel):
        name: str

    class Long(BaseModel):
        name: str
        length: int = 0

    server.script = Reply(
        [{"type": "tool_use", "id": "t", "name": "output", "input": {"name": "Tamar"}}]
    )
    for output, new in ((Short, 1), (Short, 0), (Long, 1), (None, 1)):
        bulk(rows(1), output=output)
        assert len(asked(server)) == new


def test_failures_are_stored_and_asked_again_if_so_wanted(bulk: Bulk, server: LocalServer) -> None:
    server.script = ErrorReply(400, "Too rude.", headers={"request-id": "req_9"})
    first = bulk(rows(1))["r1"]
    assert asked(server) == ["1"]
    stored = bulk(rows(1))["r1"]
    assert asked(server) == []
    assert stored.source == "stored"
    assert isinstance(stored.error, BadRequestError)
    assert str(stored.error) == str(first.error)
    assert stored.error.request_id == "req_9"
    assert stored.error.status_code == 400
    assert stored.attempts == 1
    with pytest.raises(BadRequestError):
        stored.message  # noqa: B018
    again = bulk(rows(1), retry_failed=True)["r1"]
    assert asked(server) == ["1"]
    assert (again.source, again.attempts) == ("asked", 2)
    server.script = "Well."
    assert bulk(rows(1), retry_failed=True)["r1"].message.text == "Well."
    last = bulk(rows(1))["r1"]
    assert (last.message.text, last.attempts) == ("Well.", 3)


@pytest.mark.slow
@pytest.mark.parametrize("why", ["the server", "make"])
def test_a_failure_does_not_replace_an_answer(bulk: Bulk, server: LocalServer, why: str) -> None:
    """It is kept beside it: as what the run came to, and as what the changed request came to."""

    def make(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "messages": 5} if row["id"] == "r1" and why == "make" else row

    def take_back(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name != "id"}

    def failing(row: dict[str, Any]) -> dict[str, Any]:
        return take_back(make(row))

    bulk(rows(1, 2))
    changed = [{"id": "r1", **params("changed")}, rows(2)[0]]
    server.script = lambda request: (
        ErrorReply(400, "No.") if request.text == "changed" else "Never seen."
    )
    for options in ({}, {"retry_failed": True}):
        failed = bulk(changed, make=failing, **options)["r1"]
        assert (failed.source, type(failed.error)) == (
            ("asked", BadRequestError) if why == "the server" else ("refused", InvalidRequestError)
        )
        with BulkStore(bulk.store) as kept:
            found = kept.get("r1")
            assert found is not None
            assert found.message.text == "You said: 1"
            assert [result.error for result in kept] == [None, None]
            assert (len(kept), kept.answered, kept.failed) == (2, 2, 0)
        with BulkStore(bulk.store, last_run=True) as kept:
            found = kept.get("r1")
            assert found is not None
            assert type(found.error) is type(failed.error)
            assert [result.error is None for result in kept] == [False, True]
            assert (len(kept), kept.answered, kept.failed) == (2, 1, 1)
    asked(server)
    if why == "the server":  # what was sent is not sent again by itself
        again = bulk(changed)["r1"]
        assert (again.source, type(again.error)) == ("stored", BadRequestError)
        with BulkStore(bulk.store, last_run=True) as kept:
            assert [result.error is None for result in kept] == [False, True]
    first = bulk(rows(1, 2))["r1"]  # the earlier request has its answer still
    assert (first.source, first.message.text) == ("stored", "You said: 1")
    assert asked(server) == []
    server.script = "Well."
    assert bulk(changed, retry_failed=True)["r1"].message.text == "Well."
    assert bulk(changed)["r1"].message.text == "Well."
    assert asked(server) == ["changed"]


def test_a_key_that_has_a_failure_beside_its_answer_is_still_one_row(
    bulk: Bulk, server: LocalServer
) -> None:
    bulk(rows(1))
    server.script = ErrorReply(400, "No.")
    changed = {"id": "r1", **params("changed")}
    bulk([changed])
    for both in ([changed, rows(1)[0]], [rows(1)[0], changed]):
        run = bulk.client.bulk(both, key="id", defaults=SHARED, store=bulk.store, max_in_flight=1)
        first, second = sorted(run.results(), key=lambda result: result.index)
        assert first.source == "stored"
        assert isinstance(second.error, InvalidRequestError)
        with BulkStore(bulk.store, last_run=True) as kept:
            assert len(kept) == 1


def test_a_store_of_an_earlier_version_gets_what_it_lacks(bulk: Bulk, server: LocalServer) -> None:
    bulk(rows(1))
    _database(bulk.store, "DROP TABLE failures; DROP TABLE files")
    before = bulk.store.read_bytes()
    with BulkStore(bulk.store, last_run=True) as kept:
        assert [result.key for result in kept] == ["r1"]
    assert bulk.store.read_bytes() == before  # who reads changes nothing
    server.script = ErrorReply(400, "No.")
    bulk([{"id": "r1", **params("changed")}])
    with BulkStore(bulk.store) as kept:
        assert [result.message.text for result in kept] == ["You said: 1"]


def test_a_row_refused_before_sending_is_looked_at_anew(bulk: Bulk, server: LocalServer) -> None:
    def make(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "max_tokens": most}

    most = 0
    refused = bulk(rows(1), make=lambda row: {**params(1), "max_tokens": most})["r1"]
    assert isinstance(refused.error, InvalidRequestError)
    with BulkStore(bulk.store) as kept:
        assert (kept.answered, kept.failed) == (0, 1)
    most = 5
    assert bulk(rows(1), make=lambda row: {**params(1), "max_tokens": most})["r1"].message
    with BulkStore(bulk.store) as kept:
        assert (kept.answered, kept.failed) == (1, 0)


@pytest.mark.slow
def test_rows_that_ended_a_run_are_sent_in_the_next(bulk: Bulk, server: LocalServer) -> None:
    count = itertools.count()

    def answer(request: ReceivedRequest) -> Any:
        return "Well." if next(count) < 5 else ErrorReply(401, "Who are you?")

    server.script = answer
    with pytest.raises(AuthenticationError):
        bulk(rows(*range(30)), max_in_flight=2)
    asked(server)
    server.script = "Well."
    results = bulk(rows(*range(30)))
    assert len(asked(server)) == 25
    assert len(results) == 30
    assert all(result.error is None for result in results.values())


@pytest.mark.slow
def test_a_run_that_spent_its_budget_continues_with_another(
    bulk: Bulk, server: LocalServer
) -> None:
    server.script = Reply("Well.", usage={"input_tokens": 10, "output_tokens": 0})
    for _ in range(4):
        with pytest.raises(BudgetSpentError):
            bulk(rows(*range(25)), budget=Budget(tokens=50), max_in_flight=1)
    assert len(set(asked(server))) == 20
    assert len(bulk(rows(*range(25)), budget=Budget(tokens=500))) == 25
    assert len(asked(server)) == 5


@pytest.mark.slow
def test_a_run_that_was_left_continues(bulk: Bulk, client: Any, server: LocalServer) -> None:
    run = client.bulk(rows(*range(50)), key="id", defaults=SHARED, store=bulk.store)
    taken = [run.next().key for _ in range(20)]
    run.close()
    with BulkStore(bulk.store) as kept:
        stored = {result.key for result in kept}
    assert stored >= set(taken)  # a row is stored before it is handed out
    asked(server)
    assert len(bulk(rows(*range(50)))) == 50
    again = {f"r{text}" for text in asked(server)}
    assert not again & stored
    assert len(again) + len(stored) == 50


# Keys


@pytest.mark.slow
def test_the_key_of_another_row_is_refused(bulk: Bulk, server: LocalServer) -> None:
    for max_in_flight in (1, 5):  # when the first is stored, queued or in flight
        bulk.store = bulk.store.with_name(f"{max_in_flight}.sqlite")
        run = bulk.client.bulk(
            [{"id": "a", **params(text)} for text in ("one", "two")] + rows(*range(8)),
            key="id",
            defaults=SHARED,
            store=bulk.store,
            max_in_flight=max_in_flight,
        )
        results = {result.index: result for result in run.results()}
        assert results[0].message.text == "You said: one"
        assert isinstance(results[1].error, InvalidRequestError)
        assert str(results[1].error) == (
            "row 1: another row, with another request, has the same key 'a'"
        )
        with BulkStore(bulk.store) as kept:
            found = kept.get("a")
            assert found is not None
            assert found.message.text == "You said: one"


@pytest.mark.slow
def test_the_same_row_twice_is_asked_once(bulk: Bulk, server: LocalServer) -> None:
    for max_in_flight in (1, 50):
        bulk.store = bulk.store.with_name(f"{max_in_flight}.sqlite")
        run = bulk.client.bulk(
            rows(*[1] * 30),
            key="id",
            defaults=SHARED,
            store=bulk.store,
            max_in_flight=max_in_flight,
        )
        results = list(run.results())
        assert len(results) == 30
        assert {result.message.text for result in results} == {"You said: 1"}
        assert [r.source for r in results].count("asked") == 1
        assert asked(server) == ["1"]
        with BulkStore(bulk.store) as kept:
            assert len(kept) == 1


def test_numbers_and_texts_are_different_keys(bulk: Bulk, server: LocalServer) -> None:
    mixed = [{"id": 1, **params("number")}, {"id": "1", **params("text")}]
    bulk(mixed)
    assert {key: r.message.text for key, r in bulk(mixed).items()} == {
        1: "You said: number",
        "1": "You said: text",
    }
    assert len(asked(server)) == 2


def test_an_integer_of_numpy_is_an_integer(bulk: Bulk) -> None:
    import numpy

    for key in (numpy.int64(7), numpy.uint8(7), 7):
        (result,) = bulk([{"id": key, **params(1)}]).values()
        assert result.key == 7
        assert type(result.key) is int


# Duplicates


def test_duplicates_are_found_in_the_store(bulk: Bulk, server: LocalServer) -> None:
    bulk([{"id": "a", **params("same")}])
    results = bulk(
        [{"id": key, **params("same")} for key in "abcd"], deduplicate=True, max_in_flight=1
    )
    assert len(asked(server)) == 1
    assert {key: result.source for key, result in results.items()} == {
        "a": "stored",
        "b": "duplicate",
        "c": "duplicate",
        "d": "duplicate",
    }
    again = bulk([{"id": key, **params("same")} for key in "abcd"])
    assert asked(server) == []
    assert {result.source for result in again.values()} == {"stored"}
    assert {result.message.text for result in again.values()} == {"You said: same"}
    with BulkStore(bulk.store) as kept:
        assert sum(result.usage.output_tokens for result in kept) == 3  # paid once


# Outputs


@dataclass
class River:
    name: str
    length: int


@pytest.mark.slow
def test_outputs_are_read_again(bulk: Bulk, server: LocalServer) -> None:
    call = {"type": "tool_use", "id": "t", "name": "output"}
    server.script = Reply([{**call, "input": {"name": "Tamar", "length": "98"}}])
    assert bulk(rows(1), output=River)["r1"].parsed == River("Tamar", 98)
    stored = bulk(rows(1), output=River)["r1"]
    assert stored.source == "stored"
    assert stored.parsed == River("Tamar", 98)
    server.script = Reply([{**call, "input": {"value": [1, 2]}}])
    assert bulk(rows(2), output=list[int])["r2"].parsed == [1, 2]
    with BulkStore(bulk.store, list[int]) as kept:
        found = kept.get("r2")
        assert found is not None
        assert found.parsed == [1, 2]


def test_the_text_of_an_output_is_the_same_turn_when_it_is_stored(
    bulk: Bulk, server: LocalServer, tmp_path: Path
) -> None:
    river = {"name": "Tamar", "length": 98}
    server.script = Reply([{"type": "tool_use", "id": "t", "name": "output", "input": river}])
    fresh = bulk(rows(1), output=River)["r1"].message.to_param()
    stored = bulk(rows(1), output=River)["r1"]
    assert stored.source == "stored"
    assert stored.message.to_param() == fresh
    with BulkStore(bulk.store, River) as kept:
        found = kept.get("r1")
        assert found is not None
        assert found.message.to_param() == fresh
        kept.write_jsonl(tmp_path / "out.jsonl")
    written = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert written["text"] == json.dumps(river)
    assert written["message"]["content"] == [{"type": "text", "text": json.dumps(river)}]


def test_an_answer_that_is_not_an_output_is_kept(bulk: Bulk, server: LocalServer) -> None:
    server.script = Reply("I would say", stop_reason="max_tokens")
    bulk(rows(1), output=River)
    stored = bulk(rows(1), output=River)["r1"]
    assert isinstance(stored.error, OutputTruncatedError)
    assert stored.error.message.text == "I would say"
    assert stored.error.raw_text == "I would say"
    assert stored.usage.output_tokens == 3


def test_an_output_that_cannot_be_stored_ends_the_run(bulk: Bulk, server: LocalServer) -> None:
    class Unwritable(BaseModel):
        name: str

        @model_serializer
        def _never(self) -> str:
            raise ValueError("not to be written")

    call = {"type": "tool_use", "id": "t", "name": "output", "input": {"name": "Tamar"}}
    server.script = Reply([call])
    with pytest.raises(ConfigurationError, match="output: cannot be stored as JSON"):
        bulk(rows(1), output=Unwritable)
    run = bulk.client.bulk(rows(1), key="id", defaults=SHARED, output=Unwritable)
    (result,) = run.results()  # nothing needs to be written
    assert result.parsed.name == "Tamar"


# The plan


@pytest.mark.slow
def test_a_plan_asks_nothing_and_is_what_happens(
    bulk: Bulk, client: Any, server: LocalServer
) -> None:
    server.script = [ErrorReply(400, "No."), *["Well."] * 20]
    bulk(rows(0), max_in_flight=1)
    bulk(rows(1, 2, 3))
    asked(server)
    before = bulk.store.read_bytes()
    given = [
        *rows(0, 1, 2),
        {"id": "r3", **params("changed")},
        *rows(4, 5, 5),
        {"id": "r5", **params("taken")},
        {"id": "x", "messages": 5},
        params("no key"),
        {"id": "y", **params(1)},
    ]
    options: dict[str, Any] = {"key": "id", "defaults": SHARED, "store": bulk.store}
    for more, expected in (
        ({}, "11 rows: 5 to send (4 new, 1 changed, 0 failed before), 3 stored, 1 duplicates, 2"),
        (
            {"retry_failed": True},
            "11 rows: 6 to send (4 new, 1 changed, 1 failed before), 2 stored",
        ),
        ({"deduplicate": True}, "11 rows: 4 to send (3 new, 1 changed, 0 failed before), 3 stored"),
    ):
        plan = client.bulk(given, **options, **more).plan()
        assert str(plan).startswith(expected)
    assert plan.refused == 2
    assert plan.first_refusal == "row 7: its key 'r5' is already used by an earlier row"
    assert asked(server) == []
    assert bulk.store.read_bytes() == before
    client.bulk(given, **options).finish()
    assert len(asked(server)) == 4  # the malformed one is refused before it is sent


def test_a_plan_makes_no_store(client: Any, store: Path) -> None:
    assert client.bulk(rows(1), key="id", defaults=SHARED, store=store).plan().to_ask == 1
    assert list(store.parent.iterdir()) == []


def test_a_plan_uses_up_an_iterator(client: Any) -> None:
    run = client.bulk(iter(rows(1)), key="id", defaults=SHARED)
    assert run.plan().to_ask == 1
    with pytest.raises(ValueError, match=r"an iterator, which plan\(\) has used up"):
        run.next()
    begun = client.bulk(rows(1), key="id", defaults=SHARED)
    begun.next()
    with pytest.raises(ValueError, match=r"plan\(\) before the run"):
        begun.plan()
    begun.close()


# Who may use it


@pytest.mark.slow
def test_one_run_at_a_time(bulk: Bulk, client: Any, variant: Any) -> None:
    run = client.bulk(rows(*range(100)), key="id", defaults=SHARED, store=bulk.store)
    run.next()
    with pytest.raises(StoreError, match=r"is in use by another run \(process \d+ on .+\); wait"):
        bulk(rows(1))
    with BulkStore(bulk.store) as kept:  # to look is always allowed
        assert kept.answered >= 1
    run.close()
    assert len(bulk(rows(1))) == 1
    assert not bulk.store.with_name(f"{bulk.store.name}-lock").exists()


HOLD = """
import sys
from modelslab_llm import ModelsLab

with ModelsLab(base_url=sys.argv[1], api_key="local-test-key") as client:
    turn = {"role": "user", "content": "x"}
    shared = {"model": "m", "max_tokens": 5, "messages": [turn]}
    run = client.messages.bulk([{}] * 100, defaults=shared, store=sys.argv[2], max_in_flight=1)
    next(run)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_one_process_at_a_time(bulk: Bulk, server: LocalServer) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, server.llm_v7().base_url, str(bulk.store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid} on "):
            bulk(rows(1))
        holder.kill()
        holder.wait()
    assert "r1" in bulk(rows(1))  # nothing is left to be cleaned up


NOT_STORES = {
    "a text": (lambda path: path.write_text("Dear diary, " * 100), "file is not a database"),
    "a folder": (lambda path: path.mkdir(), "unable to open database file"),
    "in no folder": (lambda path: None, "No such file or directory"),
    "another program's": (
        lambda path: _database(path, "CREATE TABLE cakes(name)"),
        "is not a store of bulk runs; name another file",
    ),
    "of the future": (
        lambda path: _database(
            path,
            "CREATE TABLE results(x); PRAGMA application_id = 1296854125;PRAGMA user_version = 99",
        ),
        "has schema 99, and modelslab_llm .+ reads 1",
    ),
}


def _database(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


@pytest.mark.parametrize("kind", NOT_STORES)
def test_what_is_not_a_store_is_refused(
    client: Any, server: LocalServer, tmp_path: Path, kind: str
) -> None:
    make, why = NOT_STORES[kind]
    path = tmp_path / ("none/x" if kind == "in no folder" else "x")
    make(path)
    before = path.read_bytes() if path.is_file() else None
    run = client.bulk(rows(1), key="id", defaults=SHARED, store=path)
    with pytest.raises(StoreError, match=why) as refused:
        run.next()
    assert str(path) in str(refused.value)
    assert not server.requests
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not list(tmp_path.glob("*-lock"))


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_hides_nothing(
    client: Any, server: LocalServer, store: Path
) -> None:
    server.script = "A long answer. " * 500
    run = client.bulk(rows(*range(60)), key="id", defaults=SHARED, store=store, max_in_flight=2)
    keys = {run.next().key}
    run.real._order.ledger._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(StoreError, match="database or disk is full"):
        for result in run.results():
            keys.add(result.key)
    with BulkStore(store) as kept:
        stored = {result.key for result in kept}
    assert stored
    assert stored <= keys  # what could not be stored was handed out all the same
    asked(server)
    server.script = "Short."
    results = {
        result.key: result
        for result in client.bulk(
            rows(*range(60)), key="id", defaults=SHARED, store=store
        ).results()
    }
    assert len(results) == 60
    assert not {f"r{text}" for text in asked(server)} & stored


def test_every_error_comes_back_as_it_was(bulk: Bulk, server: LocalServer) -> None:
    statuses = [400, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529]

    def answer(request: ReceivedRequest) -> Any:
        return ErrorReply(int(request.text), "No.", headers={"retry-after": "7"})

    server.script = answer
    first, second = bulk(rows(*statuses)), bulk(rows(*statuses))
    assert len(second) == len(statuses)
    for key, result in second.items():
        was, now = first[key].error, result.error
        assert isinstance(now, APIStatusError)
        assert type(now) is type(was)
        assert str(now) == str(was)
        kept = {name for name in vars(was) if name not in ("headers", "body")}
        assert {name: vars(now)[name] for name in kept} == {name: vars(was)[name] for name in kept}
        assert now.headers == {}
        assert now.body is None
