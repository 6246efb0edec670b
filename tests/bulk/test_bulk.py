"""A bulk run sends each row once, returns each result, and ends when it should.

`test_store.py` tests the store, and `test_kill.py` that no result is lost.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from raw_server import MESSAGE, Connection, RawServer, reply
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    AuthenticationError,
    BadRequestError,
    BudgetSpentError,
    ConfigurationError,
    InvalidRequestError,
    Message,
    ModelsLab,
    OutputInvalidError,
    PaymentRequiredError,
    TooManyFailuresError,
)
from modelslab_llm.bulk import BulkProgress, BulkResult, _desk
from modelslab_llm.bulk._ledger import Ledger
from modelslab_llm.prices import Budget, Price, Prices
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply

SHARED: dict[str, Any] = {"model": "m/1", "max_tokens": 16}


def params(text: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": str(text)}]}


@pytest.fixture
def client(variant: Sync | Async, server: LocalServer) -> Iterator[SyncClient | AsyncClient]:
    made = variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=0)
    yield made
    made.close()


@contextmanager
def crowd(
    variant: Sync | Async, answer: Callable[[str], object]
) -> Iterator[tuple[Any, RawServer]]:
    """Give a client of a server that answers many at the same time, and waits in `answer`."""

    def play(connection: Connection) -> None:
        answer(connection.body["messages"][0]["content"])
        connection.send(reply(200, MESSAGE))

    with RawServer(play) as server:
        client = variant.client(api_key="k", base_url=server.url, max_retries=0)
        yield client, server
        client.close()


@dataclass
class River:
    """A record of a user."""

    name: str
    length: int


RIVERS = [River("Tamar", 98), River("Exe", 96), River("Dart", 75)]


# Rows


def test_each_row_is_asked_once_and_has_its_result(client: Any, server: LocalServer) -> None:
    run = client.bulk(
        RIVERS, make=lambda river: params(river.name), key="name", defaults=SHARED, max_in_flight=2
    )
    results = {result.key: result for result in run.results()}
    assert results.keys() == {"Tamar", "Exe", "Dart"}
    for index, river in enumerate(RIVERS):
        result = results[river.name]
        assert result.row is river
        assert result.index == index
        assert result.error is None
        assert result.message.text == f"You said: {river.name}"
        assert result.parsed is None
        assert result.source == "asked"
        assert result.attempts == 1
        assert result.usage == result.message.usage
        assert result.usage.output_tokens == 3
        assert result.cost is None
    assert sorted(request.text for request in server.requests) == ["Dart", "Exe", "Tamar"]
    assert all(request.model == "m/1" for request in server.requests)


def test_rows_of_parameters_need_no_function(client: Any) -> None:
    rows = [{"id": f"r{n}", **params(n), "max_tokens": n + 1} for n in range(5)]
    run = client.bulk(rows, key="id", defaults=SHARED)
    assert {(r.key, r.message.text) for r in run.results()} == {
        (f"r{n}", f"You said: {n}") for n in range(5)
    }


def test_parameters_of_a_row_take_precedence_over_shared_ones(
    client: Any, server: LocalServer
) -> None:
    rows = [params(1), {**params(2), "max_tokens": 7, "temperature": 0.0}]
    client.bulk(rows, defaults={**SHARED, "temperature": 0.5, "system": None}).finish()
    sent = {request.text: request.body for request in server.requests}
    assert (sent["1"]["max_tokens"], sent["1"]["temperature"]) == (16, 0.5)
    assert (sent["2"]["max_tokens"], sent["2"]["temperature"]) == (7, 0.0)
    assert "system" not in sent["1"]


def test_without_a_key_a_row_is_known_by_its_position(client: Any) -> None:
    run = client.bulk(map(params, "abc"), defaults=SHARED)
    assert {r.key: r.message.text for r in run.results()} == {
        0: "You said: a",
        1: "You said: b",
        2: "You said: c",
    }


def test_what_can_be_iterated_once_is_sent_whole(client: Any, server: LocalServer) -> None:
    def turns() -> Iterator[dict[str, Any]]:
        yield {"role": "user", "content": iter([{"type": "text", "text": "One"}])}

    (result,) = client.bulk([{"messages": turns()}], defaults=SHARED).results()
    assert result.message.text == "You said: One"


@pytest.mark.slow
def test_rows_are_taken_as_they_are_needed(client: Any, server: LocalServer) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for taken in itertools.count(1):
            yield params(taken)

    run = client.bulk(endless(), defaults=SHARED, max_in_flight=4)
    for handed_out in range(1, 60):
        assert run.next() is not None
        assert taken <= handed_out + 3 * 4
    run.close()
    assert len(server.requests) <= taken


def test_results_come_in_order_of_completion(variant: Sync | Async) -> None:
    slow_may_end = threading.Event()

    def answer(text: str) -> None:
        if text == "slow":
            slow_may_end.wait(20)

    with crowd(variant, answer) as (client, _):
        rows = map(params, ["slow", *range(20)])
        run = client.bulk(rows, defaults=SHARED, max_in_flight=3)
        keys = [run.next().key for _ in range(20)]
        assert 0 not in keys
        slow_may_end.set()
        assert run.next().key == 0
        assert run.next() is None


def test_no_more_rows_are_in_flight_than_allowed(variant: Sync | Async) -> None:
    lock, full = threading.Lock(), threading.Event()
    now, most = 0, 0

    def answer(text: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 6:
                full.set()
        full.wait(20)
        with lock:
            now -= 1

    with crowd(variant, answer) as (client, _):
        progress = client.bulk(map(params, range(40)), defaults=SHARED, max_in_flight=6).finish()
    assert most == 6
    assert progress.done == 40


def test_async_rows() -> None:
    """From an async generator, which is advanced and closed in one task."""
    for backend in ("asyncio", "trio"):
        _async_rows(backend)


def _async_rows(backend: str) -> None:
    import anyio

    closed = False

    async def rows() -> AsyncIterator[dict[str, Any]]:
        nonlocal closed
        try:
            with anyio.CancelScope():  # must be left in the task that entered it
                for number in itertools.count():
                    await anyio.lowlevel.checkpoint()
                    yield params(number)
        finally:
            closed = True

    async def main() -> list[Any]:
        async with server.async_client() as client:
            keys: list[Any] = []
            async with client.messages.bulk(rows(), defaults=SHARED, max_in_flight=3) as run:
                async for result in run:
                    keys.append(result.key)
                    if len(keys) == 30:
                        break
            assert closed
            return keys

    with LocalServer() as server:
        assert len(set(anyio.run(main, backend=backend))) == 30


@pytest.mark.slow
def test_rows_of_a_table_are_dicts(client: Any) -> None:
    import pandas
    import polars
    import pyarrow

    table = {"id": ["a", "b"], "question": ["One?", "Two?"], "n": [1, 2]}
    for frame in (pandas.DataFrame(table), polars.DataFrame(table), pyarrow.table(table)):
        run = client.bulk(frame, make=lambda row: params(row["question"]), key="n", defaults=SHARED)
        assert run.plan().rows == 2
        assert {(r.key, r.row["id"], r.message.text) for r in run.results()} == {
            (1, "a", "You said: One?"),
            (2, "b", "You said: Two?"),
        }


# Rows that fail


def test_the_failure_of_a_row_ends_nothing(client: Any, server: LocalServer) -> None:
    def answer(request: ReceivedRequest) -> Any:
        return ErrorReply(400, "Too rude.") if request.text == "3" else "Well."

    server.script = answer
    run = client.bulk(map(params, range(6)), defaults=SHARED)
    results = {result.key: result for result in run.results()}
    assert len(results) == 6
    error = results[3].error
    assert isinstance(error, BadRequestError)
    assert results[3].attempts == 1
    for read in (lambda: results[3].message, lambda: results[3].parsed):
        with pytest.raises(BadRequestError, match="Too rude"):
            read()
    assert run.real.progress.done == 5
    assert run.real.progress.failed == 1


BAD_ROWS: list[tuple[Any, str]] = [
    ({"id": "x", **params("x"), "max_token": 3}, "no parameter 'max_token'"),
    ({"id": "x", "messages": []}, "messages: is empty"),
    ({"id": "x", "messages": [{"role": "user", "content": {1, 2}}]}, r"messages\[0\].content"),
    ({"id": "x", **params("x"), "stop_sequences": [b"x"]}, "bytes"),
    ({"id": "x", **params("x"), "metadata": {"user_id": {1: 2, "a": 3}}}, "JSON"),
    ({"id": None, **params("x")}, "row 1: its key must be a str or an int, not None"),
    ({"id": True, **params("x")}, "row 1: its key must be a str or an int, not True"),
    ({"id": 2**63, **params("x")}, "row 1: its key must be a str or an int"),
    ({"id": "\ud800", **params("x")}, "not text that can be stored"),
    (params("x"), "row 1: has no key: KeyError: 'id'"),
    ("Just a text", "row 1: has no key"),
]


@pytest.mark.parametrize(("row", "why"), BAD_ROWS, ids=[why[:40] for _, why in BAD_ROWS])
@pytest.mark.parametrize("kept", [False, True], ids=["not stored", "stored"])
def test_a_bad_row_fails_alone(
    client: Any, server: LocalServer, row: Any, why: str, kept: bool, tmp_path: Any
) -> None:
    rows = [{"id": 0, **params(0)}, row, {"id": 2, **params(2)}]
    store = tmp_path / "run.sqlite" if kept else None
    run = client.bulk(rows, key="id", defaults=SHARED, store=store)
    results = {result.index: result for result in run.results()}
    assert results[0].message.text
    assert results[2].message.text
    assert isinstance(results[1].error, InvalidRequestError)
    with pytest.raises(InvalidRequestError, match=why):
        results[1].message  # noqa: B018
    assert (results[1].source, results[1].attempts) == ("refused", 0)
    assert len(server.requests) == 2


OWN = "if the row has columns of your own, pass make=..., which returns its parameters"
RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"q": "x"}, f"'q': {OWN}"),
    ({"prompt": "x"}, f"'prompt': {OWN}"),
    ({"mesages": []}, f"'mesages': did you mean 'messages'? {OWN}"),
    (
        {**params("x"), "min_p": 0.1},
        f"'min_p': pass server-specific parameters in extra_body={{'min_p': ...}}; {OWN}",
    ),
    ({**params("x"), "stop": "x"}, f"'stop': use stop_sequences; {OWN}"),
]


@pytest.mark.parametrize(("row", "why"), RECORDS, ids=[str(row) for row, _ in RECORDS])
def test_a_record_without_make_is_told_of_it(
    client: Any, server: LocalServer, row: dict[str, Any], why: str
) -> None:
    (result,) = client.bulk([row], defaults=SHARED).results()
    assert str(result.error) == f"row 0: messages.create() has no parameter {why}"
    assert result.source == "refused"
    assert client.bulk([row], defaults=SHARED).plan().refused == 1
    assert not server.requests


def test_a_row_may_say_that_it_is_not_streamed(client: Any) -> None:
    (result,) = client.bulk([{**params("x"), "stream": False}], defaults=SHARED).results()
    assert result.message.text == "You said: x"


def test_a_function_that_fails_for_a_row_fails_that_row(client: Any) -> None:
    def make(row: int) -> dict[str, Any]:
        return {1: params("fine"), 2: "a text"}[row]  # type: ignore[return-value]

    run = client.bulk([1, 2, 3], make=make, defaults=SHARED)
    errors = {result.row: str(result.error) for result in run.results() if result.error}
    assert errors == {
        2: "row 1: make returned a value of type str, not a dict of parameters",
        3: "row 2: make failed: KeyError: 3",
    }


def test_a_row_that_is_not_a_dict_needs_a_function(client: Any) -> None:
    (result,) = client.bulk(["One?"], defaults=SHARED).results()
    assert str(result.error) == "row 0: is of type str, not a dict of parameters; pass make=..."


def test_every_time_that_a_row_was_sent_counts(variant: Sync | Async, server: LocalServer) -> None:
    again = ErrorReply(500, "Oh.", headers={"retry-after-ms": "1"})
    server.script = [again, again, "Well.", again, again, again]
    client = variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=2)
    run = client.bulk(map(params, range(2)), defaults=SHARED, max_in_flight=1)
    assert {result.key: result.attempts for result in run.results()} == {0: 3, 1: 3}
    client.close()


# Ends


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthenticationError), (402, PaymentRequiredError)]
)
def test_an_error_that_every_call_would_meet_ends_the_run(
    client: Any, server: LocalServer, status: int, error: type[Exception]
) -> None:
    asked = itertools.count()

    def answer(request: ReceivedRequest) -> Any:
        return "Well." if next(asked) < 10 else ErrorReply(status, "No.")

    server.script = answer
    run = client.bulk(map(params, itertools.count()), defaults=SHARED, max_in_flight=4)
    results: list[BulkResult[Any, Any]] = []
    with pytest.raises(error):
        results.extend(run.results())
    assert run.next() is None  # it is over
    # Those before it are handed out, and those in flight are no failures of their own.
    assert all(result.error is None for result in taken_before(run, results))
    assert len(server.requests) <= 10 + 4


def taken_before(run: Any, results: list[BulkResult[Any, Any]]) -> list[BulkResult[Any, Any]]:
    assert run.real.progress.done == 10
    assert run.real.progress.failed == 0
    return results


def test_so_many_failures_and_no_more(client: Any, server: LocalServer) -> None:
    server.script = ErrorReply(400, "No.")
    run = client.bulk(map(params, range(100)), defaults=SHARED, max_failures=7, max_in_flight=1)
    failed = []
    with pytest.raises(TooManyFailuresError, match=r"7 rows failed \(max_failures\).*No\."):
        failed.extend(run.results())
    assert run.real.progress.failed == 7
    assert len(server.requests) == 7


def test_rows_that_cannot_be_read_end_the_run(client: Any, server: LocalServer) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield params(0)
        yield params(1)
        raise OSError("the disk is gone")

    run = client.bulk(rows(), defaults=SHARED)
    keys = {run.next().key, run.next().key}
    assert keys == {0, 1}
    with pytest.raises(OSError, match="the disk is gone"):
        run.next()
    assert run.next() is None


def test_a_bug_in_a_hook_is_not_the_failure_of_a_row(variant: Sync | Async) -> None:
    def hook(request: Any) -> Any:
        raise ZeroDivisionError("a bug of the caller's")

    client = variant.client(api_key="k", base_url="http://127.0.0.1:9", handler=hook)
    with pytest.raises(ZeroDivisionError):
        client.bulk([params(1)], defaults=SHARED).finish()
    client.close()


# Budgets


def test_a_budget_of_tokens_ends_the_run_before_the_next_call(
    client: Any, server: LocalServer
) -> None:
    server.script = Reply("Well.", usage={"input_tokens": 8, "output_tokens": 2})
    budget = Budget(tokens=45)
    run = client.bulk(map(params, range(100)), defaults=SHARED, budget=budget, max_in_flight=1)
    with pytest.raises(BudgetSpentError, match="50 of 45 tokens"):
        for _ in run.results():
            pass
    assert len(server.requests) == 5
    assert budget.tokens_spent == 50


def test_a_budget_of_money_and_what_each_row_cost(client: Any, server: LocalServer) -> None:
    server.script = Reply("Well.", usage={"input_tokens": 1000, "output_tokens": 500})
    prices = Prices({"m/*": Price(input=1, output=2)})
    told: list[BulkProgress] = []
    run = client.bulk(
        map(params, range(100)),
        defaults=SHARED,
        budget=Budget(money=0.007, prices=prices),
        max_in_flight=1,
        progress=told.append,
    )
    costs: list[float | None] = []
    with pytest.raises(BudgetSpentError, match=r"0\.008 of 0\.007"):
        costs.extend(result.cost for result in run.results())
    assert len(server.requests) == 4
    assert told[-1].cost == pytest.approx(0.008)
    assert (told[-1].input_tokens, told[-1].output_tokens) == (4000, 2000)


def test_money_is_not_spent_on_a_model_without_a_price(client: Any, server: LocalServer) -> None:
    budget = Budget(money=1, prices=Prices({"other": Price(1, 1)}))
    with pytest.raises(ConfigurationError, match=r"no entry matches the model 'm/1'"):
        client.bulk([params(1)], defaults=SHARED, budget=budget).finish()
    assert not server.requests


def test_prices_alone_leave_unknown_models_without_a_cost(client: Any) -> None:
    rows = [params(0), {**params(1), "model": "n"}]
    run = client.bulk(rows, defaults=SHARED, prices=Prices({"m/*": Price(1_000_000, 0)}))
    assert {result.key: result.cost for result in run.results()} == {0: 1.0, 1: None}


# Structured output


def test_outputs_are_parsed(client: Any, server: LocalServer) -> None:
    def answer(request: ReceivedRequest) -> Any:
        number = int(request.text)
        given = {"name": f"River {number}", "length": number if number != 2 else "long"}
        return Reply([{"type": "tool_use", "id": "t", "name": "output", "input": given}])

    server.script = answer
    run = client.bulk(map(params, range(4)), defaults=SHARED, output=River)
    results = {result.key: result for result in run.results()}
    assert results[1].parsed == River("River 1", 1)
    assert results[1].message.parsed == River("River 1", 1)
    failed = results[2]
    assert isinstance(failed.error, OutputInvalidError)
    assert failed.usage.output_tokens > 0  # it was paid for
    assert failed.attempts == 1


def test_an_answer_that_is_asked_for_again_counts_twice(client: Any, server: LocalServer) -> None:
    answers = [{"name": "Tamar", "length": "long"}, {"name": "Tamar", "length": 98}]
    server.script = [
        Reply(
            [{"type": "tool_use", "id": "t", "name": "output", "input": given}],
            usage={"input_tokens": 10, "output_tokens": 5},
        )
        for given in answers
    ]
    run = client.bulk([params("Tamar?")], defaults=SHARED, output=River, validation_retries=1)
    (result,) = run.results()
    assert result.parsed == River("Tamar", 98)
    assert (result.usage.input_tokens, result.usage.output_tokens) == (20, 10)
    assert result.attempts == 2


def test_what_is_not_a_type_is_refused_at_once(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="output"):
        client.bulk([params(1)], defaults=SHARED, output=threading.Lock)


# Duplicates


def test_identical_requests_are_asked_once_if_so_wanted(client: Any, server: LocalServer) -> None:
    rows = [params(n % 5) for n in range(50)]
    run = client.bulk(rows, defaults=SHARED, deduplicate=True, max_in_flight=7)
    results = list(run.results())
    assert len(results) == 50
    assert len(server.requests) == 5
    assert all(r.message.text == f"You said: {r.index % 5}" for r in results)
    asked = [result for result in results if result.source == "asked"]
    assert len(asked) == 5
    copies = [result for result in results if result.source == "duplicate"]
    assert len(copies) == 45
    assert all(copy.attempts == 0 and copy.usage.output_tokens == 0 for copy in copies)
    assert run.real.progress.duplicates == 45


def test_by_default_each_row_is_asked(client: Any, server: LocalServer) -> None:
    client.bulk([params("same")] * 5, defaults=SHARED).finish()
    assert len(server.requests) == 5


@pytest.mark.slow
def test_duplicates_share_a_failure(client: Any, server: LocalServer) -> None:
    def refused(request: ReceivedRequest) -> ErrorReply:
        time.sleep(0.3)  # the other rows come meanwhile
        return ErrorReply(400, "No.")

    server.script = refused
    run = client.bulk([params("same")] * 5, defaults=SHARED, deduplicate=True, max_in_flight=5)
    assert [str(r.error)[:8] for r in run.results()] == ["HTTP 400"] * 5
    assert len(server.requests) == 1


# What is told


def test_threads_go_on_while_a_row_is_made_looked_for_and_stored(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of it is done under the lock, for which every thread of the run would wait."""
    seen: list[str] = []
    look, dump = Ledger.find, _desk.message_json

    def note(what: str) -> None:
        asking = threading.Thread(target=lambda: run.progress)
        asking.start()
        asking.join(5)
        seen.append(what if not asking.is_alive() else f"{what}: held up")

    def make(row: int) -> dict[str, Any]:
        note("made")
        return params(row)

    def find(self: Ledger, *args: Any) -> Any:
        note("looked for")
        return look(self, *args)

    def to_json(message: Message) -> str:
        note("as JSON")
        return dump(message)

    monkeypatch.setattr(Ledger, "find", find)
    monkeypatch.setattr(_desk, "message_json", to_json)
    with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
        store = tmp_path / "run.sqlite"
        run = client.messages.bulk([1, 2, 1], make=make, defaults=SHARED, store=store)
        assert [result.error for result in run] == [None] * 3
    assert sorted(seen) == ["as JSON"] * 3 + ["looked for"] * 3 + ["made"] * 3


@pytest.mark.slow
def test_a_function_receives_the_progress(client: Any, server: LocalServer) -> None:
    told: list[BulkProgress] = []
    rows = [params(n) for n in range(20)]
    client.bulk(rows, defaults=SHARED, progress=told.append).finish()
    last = told[-1]
    assert (last.total, last.done, last.failed, last.stored) == (20, 20, 0, 0)
    assert (last.in_flight, last.queued) == (0, 0)
    assert last.output_tokens == 60
    assert last.elapsed > 0
    assert str(last).startswith("20 of 20 done, 0 failed, ")


def test_a_generator_has_no_total_unless_it_is_given(client: Any) -> None:
    told: list[BulkProgress] = []
    for total in (None, 3):
        run = client.bulk(map(params, range(3)), defaults=SHARED, progress=told.append, total=total)
        run.finish()
        assert told[-1].total == total


def test_a_run_has_no_progress_before_it_begins(client: Any, server: LocalServer) -> None:
    run = client.bulk([params(1)], defaults=SHARED)
    assert (run.real.progress.total, run.real.progress.done) == (1, 0)
    assert not server.requests


OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"max_in_flight": 0}, ConfigurationError, "max_in_flight must be a whole number, at least 1"),
    ({"max_in_flight": None}, ConfigurationError, "max_in_flight"),
    ({"max_failures": True}, ConfigurationError, "max_failures"),
    ({"total": -1}, ConfigurationError, "total"),
    ({"budget": 20}, ConfigurationError, "budget must be a Budget, not 20"),
    ({"prices": {"m": 1}}, ConfigurationError, "prices must be a Prices"),
    ({"defaults": "m"}, ConfigurationError, "defaults: must be a dict, not str"),
    ({"defaults": {"max_token": 3}}, TypeError, "no parameter max_token"),
    ({"variant": 5}, TypeError, "no parameter 'variant': known are budget"),
    ({"concurrency": 5}, TypeError, "no parameter 'concurrency': use max_in_flight$"),
    ({"max_concurrency": 5}, TypeError, "use max_in_flight$"),
    ({"max_workers": 5}, TypeError, "use max_in_flight$"),
    ({"max_in_fligth": 5}, TypeError, "did you mean 'max_in_flight'[?] known are budget"),
    ({"outputs": str}, TypeError, "did you mean 'output'[?]"),
    ({"response_model": str}, TypeError, "use output$"),
    ({"max_retries": 5}, TypeError, r"client.with_options\(max_retries=...\)$"),
    ({"model": "m"}, TypeError, r"defaults=\{'model': ...\}"),
]


@pytest.mark.parametrize(("options", "kind", "why"), OPTIONS, ids=[str(o[0]) for o in OPTIONS])
def test_options_are_checked_before_anything_is_done(
    client: Any, options: dict[str, Any], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind, match=why):
        client.bulk([params(1)], **options)


@pytest.mark.parametrize("rows", [None, "text", {"messages": []}, 5])
def test_rows_must_be_rows(client: Any, rows: Any) -> None:
    with pytest.raises(TypeError, match="rows must be an iterable of rows"):
        client.bulk(rows, defaults=SHARED)


# Leaving early


@pytest.mark.slow
def test_a_run_that_is_closed_asks_nothing_more(client: Any, server: LocalServer) -> None:
    run = client.bulk(map(params, itertools.count()), defaults=SHARED, max_in_flight=3)
    for _ in range(10):
        run.next()
    run.close()
    asked = len(server.requests)
    assert run.next() is None
    run.close()
    client.create(**SHARED, **params("last"))
    assert len(server.requests) <= asked + 1 + 3  # threads that were about to ask


def test_what_is_in_flight_is_given_up(variant: Sync | Async) -> None:
    """The caller does not wait for calls that may take minutes."""
    never = threading.Event()
    asked = threading.Semaphore(0)

    def answer(text: str) -> None:
        if text != "0":
            asked.release()
            never.wait(20)

    with crowd(variant, answer) as (client, server):
        run = client.bulk(map(params, itertools.count()), defaults=SHARED, max_in_flight=3)
        assert run.next().key == 0
        for _ in range(3):
            assert asked.acquire(timeout=20)
        run.close()
        assert run.next() is None
        assert server.requests == 4
        never.set()


def test_a_run_belongs_to_one_thread_or_task(variant: Sync | Async) -> None:
    """Two that wait for results would take them from each other, and wait for ever."""
    goes_on = threading.Event()
    with crowd(variant, lambda text: goes_on.wait(20)) as (client, _):
        run = client.bulk(map(params, range(9)), defaults=SHARED, max_in_flight=2)
        first: list[Any] = []
        waits = threading.Thread(target=lambda: first.append(run.next()))
        waits.start()
        until = time.monotonic() + 20
        while True:  # until it waits
            assert time.monotonic() < until
            if run.real._crew is not None and run.real.progress.in_flight == 2:
                break
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match="a bulk run belongs to one"):
            run.next()
        goes_on.set()
        waits.join()
        assert first[0].message.text
        assert len(list(run.results())) == 8  # and nothing is lost by it


def test_a_function_for_the_progress_may_fail(client: Any) -> None:
    def tell(progress: BulkProgress) -> None:
        raise ZeroDivisionError("a bug of the caller's")

    with pytest.raises(ZeroDivisionError):
        client.bulk(map(params, range(9)), defaults=SHARED, progress=tell).finish()


def test_async_rows_are_not_for_the_sync_client(server: LocalServer) -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        yield params(1)

    with server.client() as client, pytest.raises(TypeError, match="use AsyncModelsLab"):
        client.messages.bulk(rows(), defaults=SHARED)  # type: ignore[call-overload]
