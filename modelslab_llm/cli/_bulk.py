"""`modelslab bulk`: send a prompt for every row of a file, and lose nothing.

Results are stored in an SQLite file as soon as they arrive; the output is written from it at the
end, in the order of the rows. The same command continues where it stopped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelslab_llm.bulk import BulkOptions, BulkProgress, BulkResult, BulkStore
from modelslab_llm.errors import InvalidRequestError, UnsupportedOperationError
from modelslab_llm.prices import Budget, Price, Prices

from ._ask import MAX_TOKENS, check_strategy, model_of, params_of, text_of, type_of
from ._places import Places
from ._status import Fault, Status, writing
from ._table import Row, Table, form_of, maker
from ._target import Target, Where, target_of
from ._terminal import can_draw, console, note, write_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from modelslab_llm import AsyncModelsLab, Strategy
    from modelslab_llm.bulk import AsyncBulkRun

EVERY = 10.0
"""Seconds between two lines about the progress, where no bar can be drawn."""
SAMPLE = 20
"""Rows whose tokens are counted for an estimate."""


@dataclass(frozen=True)
class Asked:
    """What is asked of each row, and how."""

    make: Callable[[Row], dict[str, Any]]
    defaults: Mapping[str, Any]
    key: str | None
    output: Any
    strategy: Strategy | None
    options: BulkOptions
    prices: Prices | None


def bulk(
    *,
    where: Where,
    source: str,
    out: str,
    form: str | None,
    prompt: str | None,
    system: str | None,
    model: str | None,
    max_tokens: int | None,
    temperature: float | None,
    schema: str | None,
    strategy: Strategy | None,
    key: str | None,
    store: str | None,
    failures: str | None,
    concurrency: int,
    max_failures: int | None,
    retry_failed: bool,
    deduplicate: bool,
    input_price: float | None,
    output_price: float | None,
    budget: float | None,
    dry_run: bool,
    as_json: bool,
) -> Status:
    """Send every row, write the results, and return the exit status."""
    places = Places(source, out, store, failures)
    places.check()
    if not dry_run:
        places.check_free()
    prices = _prices(input_price, output_price)
    if budget is not None and prices is None:
        raise Fault("--budget requires --input-price and --output-price, per million tokens")
    options: BulkOptions = {
        "store": places.store,
        "max_in_flight": concurrency,
        "max_failures": max_failures,
        "retry_failed": retry_failed,
        "deduplicate": deduplicate,
        "prices": prices,
        "budget": None if budget is None else Budget(money=budget, prices=prices),
    }
    most = MAX_TOKENS if max_tokens is None else max_tokens
    defaults = dict(params_of(max_tokens=most, temperature=temperature))
    output = None if schema is None else type_of(schema)
    check_strategy(strategy, schema)
    asked = Asked(maker(prompt, system, key), defaults, key, output, strategy, options, prices)
    with _table(source, form) as table:
        needs_model = _checked(table, asked)
        target = target_of(where, model)
        if not needs_model and target.model is None:  # each row names its own
            target = replace(target, model="")
        if dry_run:
            return asyncio.run(_planned(target, table, asked, places, as_json=as_json))
        with _Stop() as stop:
            return asyncio.run(_run(target, table, asked, places, stop, as_json=as_json))


def _checked(table: Table, asked: Asked) -> bool:
    """Find out, before anything is sent, whether each row can be asked; return whether some row
    names no model. Raises `Fault`.
    """
    needs_model = False

    def check(row: Row) -> None:
        nonlocal needs_model
        with suppress(InvalidRequestError):  # that row fails alone, and is reported in the failures
            needs_model |= "model" not in asked.make(row)

    table.check(check)
    return needs_model


def _prices(input_price: float | None, output_price: float | None) -> Prices | None:
    if (input_price is None) != (output_price is None):
        raise Fault("--input-price and --output-price require each other")
    if input_price is None or output_price is None:
        return None
    return Prices({"*": Price(input=input_price, output=output_price)})


@contextmanager
def _table(source: str, form: str | None) -> Generator[Table]:
    """Give the rows of a file; what is piped in is kept in one, to be read more than once."""
    if source != "-":
        yield Table(Path(source), form_of(Path(source), form))
        return
    if form is None:
        raise Fault("standard input: the format is unknown; pass --format jsonl, csv or tsv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "standard input")
        with writing(path), path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield Table(path, form_of(path, form))


# A dry run


async def _planned(
    target: Target, table: Table, asked: Asked, places: Places, *, as_json: bool
) -> Status:
    async with target.client() as client:
        model = await _model(target, client)
        plan = await _of(client, table, asked, model).plan()
        estimate = await _estimate(client, table, asked, model)
    to_ask = plan.to_ask / max(1, plan.rows)
    tokens = round(estimate.total * to_ask)
    most = plan.to_ask * asked.defaults["max_tokens"]
    cost = None
    if asked.prices is not None and (price := asked.prices.find(model)) is not None:
        cost = (tokens * price.input / 1e6, (tokens * price.input + most * price.output) / 1e6)
    if as_json:
        write_json(
            vars(plan)
            | {"input_tokens": tokens, "most_output_tokens": most, "counted": estimate.counted}
            | {"least_cost": cost and cost[0], "most_cost": cost and cost[1]}
        )
        return Status.OK
    note(str(plan))
    how = "counted" if estimate.counted else "estimated from the length"
    note(f"about {tokens:,} tokens in ({how}, of {estimate.sampled} rows), at most {most:,} out")
    if cost is not None:
        note(f"cost: {cost[0]:.4g} for the prompts, at most {cost[1]:.4g} with the answers")
    return Status.OK


@dataclass(frozen=True)
class Estimate:
    """How many tokens all prompts have, by a sample of them."""

    total: int
    sampled: int
    counted: bool
    """Whether the server counted; else four characters are taken for a token."""


async def _estimate(client: AsyncModelsLab, table: Table, asked: Asked, model: str) -> Estimate:
    step = max(1, len(table) // SAMPLE)
    counts: list[int] = []
    counted = True
    for number, row in enumerate(table):
        if number % step or len(counts) == SAMPLE:
            continue
        with suppress(InvalidRequestError):
            params = {"model": model, **asked.make(row)}
            found = await _count(client, params) if counted else None
            counted = found is not None
            counts.append(found if found is not None else len(json.dumps(params["messages"])) // 4)
    return Estimate(sum(counts) * len(table) // max(1, len(counts)), len(counts), counted)


async def _count(client: AsyncModelsLab, params: Mapping[str, Any]) -> int | None:
    known = ("model", "messages", "system", "tools", "tool_choice", "thinking")
    given: Any = {name: params[name] for name in known if name in params}
    try:
        return (await client.messages.count_tokens(**given)).input_tokens
    except UnsupportedOperationError:
        return None


# A run


def _of(
    client: AsyncModelsLab,
    table: Table,
    asked: Asked,
    model: str,
    show: Callable[[BulkProgress], None] | None = None,
) -> AsyncBulkRun[Row, Any]:
    options: BulkOptions = {**asked.options, "total": len(table), "progress": show or False}
    return client.messages.bulk(
        table,
        make=asked.make,
        key=asked.key,
        defaults={**asked.defaults, **({"model": model} if model else {})},
        output=asked.output,
        strategy=asked.strategy,
        **options,
    )


async def _model(target: Target, client: AsyncModelsLab) -> str:
    return "" if target.model == "" else await model_of(target, client)


class _Stop:
    """Say once that a run ended early, and by what.

    In the event loop every signal is a cancellation; which one it was is known outside of it.
    """

    progress: BulkProgress | None = None
    """The progress at the end of the run; None before that."""

    def __enter__(self) -> _Stop:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and self.progress is not None:
            by = _SIGNALS.get(kind, "")
            note(f"stopped{by}: {self.progress}; the same command continues where it stopped")


_SIGNALS: dict[type[BaseException], str] = {
    KeyboardInterrupt: " by Ctrl-C",
    SystemExit: " by SIGTERM",  # as `_main` has it
}


async def _run(
    target: Target, table: Table, asked: Asked, places: Places, stop: _Stop, *, as_json: bool
) -> Status:
    failures = _Failures(places)
    async with target.client() as client:
        run = await _asked(target, client, table, asked, failures, places, stop)
    _write(table, asked, places, failures)
    if as_json:
        told = vars(run.progress).items()
        write_json({name: value for name, value in told if name not in _PASSING})
    note(str(run.progress))
    if failures.count:
        note(f"failed rows: {places.failures}; --retry-failed sends them again")
        return Status.FAULTY
    return Status.OK


async def _asked(
    target: Target,
    client: AsyncModelsLab,
    table: Table,
    asked: Asked,
    failures: _Failures,
    places: Places,
    stop: _Stop,
) -> AsyncBulkRun[Row, Any]:
    """Send all rows; if that ends early, write the results so far."""
    model = await _model(target, client)
    run: AsyncBulkRun[Row, Any] | None = None
    begun = False
    try:
        with progress_bar() as show:
            run = _of(client, table, asked, model, show)
            async with run:
                async for result in run:
                    begun = True
                    failures.add(result)
    except BaseException as error:
        if run is not None and (begun or not isinstance(error, Exception)):
            stop.progress = run.progress
        if begun:
            _write(table, asked, places, failures)
        raise
    return run


_PASSING = frozenset({"in_flight", "queued", "rate", "left"})


class _Failures:
    """The rows that failed, in a file that is there only if there are any."""

    def __init__(self, places: Places) -> None:
        self.count = 0
        self._places = places
        self._open = ExitStack()
        self._file: IO[str] | None = None

    def add(self, result: BulkResult[Row, Any]) -> None:
        """Note a row, if it failed."""
        if (error := result.error) is None:
            return
        self.count += 1
        about = {"key": result.key, "row": result.row}
        about |= {"error": type(error).__name__, "message": str(error)}
        if (text := text_of(error)) is not None:
            about["text"] = text
        path = self._places.failures
        if self._file is None:
            self._file = self._open.enter_context(self._places.replacing(path))
        with writing(path):
            self._file.write(_line(about))

    def close(self) -> None:
        """Put the file in its place; one of an earlier run goes."""
        if self._file is None:
            self._places.remove(self._places.failures)
        self._open.close()


def _write(table: Table, asked: Asked, places: Places, failures: _Failures) -> None:
    """Write what the run came to, in the order of the rows. Raises `Fault`."""
    try:
        with (
            BulkStore(places.store, asked.output, last_run=True) as store,
            places.replacing(places.out) as file,
        ):
            file.writelines(_lines(table, store, asked))
    finally:
        failures.close()


def _line(about: dict[str, Any]) -> str:
    return json.dumps(about, ensure_ascii=False) + "\n"


def _lines(table: Table, store: BulkStore[Any], asked: Asked) -> Iterator[str]:
    rows = enumerate(table)
    for result in store:
        row = next((row for number, row in rows if number == result.index), None)
        if result.error is not None:
            continue
        message = result.message
        about: dict[str, Any] = {"key": result.key, "row": row, "text": message.text}
        if asked.output is not None:
            about["output"] = result.parsed
        about |= {"stop_reason": message.stop_reason, "model": message.model}
        about["usage"] = message.usage.model_dump(mode="json", exclude_none=True)
        yield _line(about)


# Progress


@contextmanager
def progress_bar() -> Generator[Callable[[BulkProgress], None]]:
    """Give what shows the progress on standard error: a bar at a terminal, else a line now and
    then.
    """
    if not can_draw(sys.stderr):
        yield _Lines().show
        return
    with _Bar() as bar:
        yield bar.show


class _Lines:
    """Progress as lines."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def show(self, progress: BulkProgress) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            note(str(progress))


class _Bar:
    """Progress as a bar, with what it has done, its rate, the time left, tokens and cost."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._bars: Progress = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[facts]}"),
            console=console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._task: TaskID = self._bars.add_task("rows", total=1, facts="")

    def __enter__(self) -> _Bar:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def show(self, progress: BulkProgress) -> None:
        """Draw the progress; called in the event loop, a few times a second."""
        done = progress.done + progress.failed
        self._bars.update(
            self._task, completed=done, total=progress.total or done or 1, facts=_facts(progress)
        )
        self._bars.refresh()


def _facts(progress: BulkProgress) -> str:
    tokens = progress.input_tokens + progress.output_tokens
    facts = [f"{progress.rate:.3g}/s"] if progress.rate else []
    facts += [f"{progress.left:.0f} s left"] if progress.left is not None else []
    facts += [f"{progress.failed:,} failed"] if progress.failed else []
    facts.append(f"{tokens:,} tokens")
    facts += [f"cost {progress.cost:.4g}"] if progress.cost is not None else []
    return ", ".join(facts)
