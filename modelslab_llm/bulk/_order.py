"""Check the options of a run, set up its desk, and log its beginning and end.

Sync and async share all of this; it happens once per run. Sends nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from .._hints import did_you_mean, hint
from ..endpoints import Strategy
from ..errors import ConfigurationError
from ..prices import Budget, Prices
from ..types._json import is_mapping
from ._course import Course
from ._desk import Desk
from ._display import Screen
from ._plan import Planner
from ._progress import BulkProgress, Counts, Tally
from ._result import adapter_of
from ._rows import PARAMETERS, Key, Recipe, records

if TYPE_CHECKING:
    from ._ledger import Ledger

R = TypeVar("R")
T = TypeVar("T")

log = logging.getLogger("modelslab_llm.bulk")

IN_FLIGHT = 50


class BulkOptions(TypedDict, total=False):
    """The options of `messages.bulk`, in addition to the rows and the request parameters."""

    store: str | os.PathLike[str] | None
    """File that stores the results, created or continued. Rows with a stored answer are not sent
    again. Default None: nothing is stored."""
    max_in_flight: int
    """Maximum number of rows in flight. Default 50."""
    max_failures: int | None
    """End the run with `TooManyFailuresError` once this many of its rows have failed. Default None,
    no limit."""
    retry_failed: bool
    """Send rows again that failed in an earlier run. Default False: use the stored failure."""
    include_stored: bool
    """Also return results that were stored before. Default True."""
    deduplicate: bool
    """Send identical requests once and share the answer among their rows. Default False."""
    prices: Prices | None
    """Token prices, for `result.cost` and the progress. Default: the prices of `budget`."""
    budget: Budget | None
    """End the run with `BudgetSpentError` before the next request once this is spent. Default None,
    no limit."""
    progress: bool | Callable[[BulkProgress], None]
    """Show a progress bar (tqdm or rich, otherwise log lines), or call a function with the
    `BulkProgress`, at most five times a second. Default False."""
    total: int | None
    """The number of rows, if `len(rows)` does not tell. Default None."""


class Order(Generic[R, T]):
    """All options of one run, checked. Raises `ConfigurationError` or `TypeError`."""

    def __init__(
        self,
        rows: Any,
        *,
        make: Callable[[R], Mapping[str, Any]] | None,
        key: str | Callable[[R], Key] | None,
        defaults: Mapping[str, Any] | None,
        default_model: str | None,
        output: Any,
        strategy: Strategy | None,
        waiting: Callable[[], int],
        options: BulkOptions,
    ) -> None:
        _check(options, defaults or {})
        self.rows: Any = records(rows)
        self.options = options
        self._waiting = waiting
        self.adapter: TypeAdapter[T] | None = None
        about: dict[str, Any] | None = None
        if output is not None:
            self.adapter = adapter_of(output)
            about = {"schema": self.adapter.json_schema(), "strategy": strategy}
        self.recipe: Recipe[R] = Recipe(make, key, dict(defaults or {}), default_model, about)
        self.max_in_flight: int = options.get("max_in_flight", IN_FLIGHT)
        self.screen: Screen = Screen(options.get("progress", False), time.monotonic)
        store = options.get("store")
        self.store: Path | None = None if store is None else Path(store).absolute()
        self.ledger: Ledger | None = None
        self._total = options.get("total")
        if self._total is None and isinstance(self.rows, Sized):
            self._total = len(self.rows)

    def begin(self) -> Desk[R, T]:
        """Open the store, log what will be done, and return the desk. Raises `StoreError`."""
        desk = self._desk()
        stored = Counts(0, 0)
        if self.ledger is not None:
            stored = self.ledger.counts()
        log.info("bulk run: %s", self._opening(stored))
        self.screen.open(self._total)
        return desk

    def planner(self) -> Planner[R]:
        """Return the planner, which counts the rows without asking."""
        return Planner(self._course(), self.recipe, self.store)

    def close(self, desk: Desk[R, T], why: BaseException | None = None) -> None:
        """Close the store and log the result; `why` says why the run was left early."""
        if self.ledger is not None:
            self.ledger.close()
        progress = desk.progress(time.monotonic())
        self.screen.close(progress)
        end = why or desk.course.why
        if end is None:
            log.info("bulk run: ended: %s%s", progress, self._failed_rows(progress))
            return
        level = logging.INFO if type(end) is LeftEarly else logging.WARNING
        log.log(level, "bulk run: stopped by %s: %s; %s", _named(end), progress, self._go_on())

    def nothing_yet(self) -> BulkProgress:
        """Return the progress of a run that has not begun."""
        return Tally(self._total, priced=self._prices() is not None).snapshot(0.0, 0)

    def _desk(self) -> Desk[R, T]:
        from ._ledger import Ledger  # SQLite, which a program without bulk runs need not load

        options = self.options
        course = self._course()
        if self.store is not None or course.deduplicate:
            self.ledger = Ledger(self.store)
            course.run = self.ledger.run
            if course.deduplicate:
                self.ledger.index_digests()
        prices = self._prices()
        tally = Tally(self._total, priced=prices is not None)
        tally.began = time.monotonic()
        return Desk(
            course,
            self.recipe,
            self.ledger,
            tally,
            adapter=self.adapter,
            prices=prices,
            max_in_flight=self.max_in_flight,
            include_stored=options.get("include_stored", True),
            waiting=self._waiting,
            now=time.time,
        )

    def _course(self) -> Course:
        options = self.options
        return Course(
            retry_failed=options.get("retry_failed", False),
            deduplicate=options.get("deduplicate", False),
            max_failures=options.get("max_failures"),
            budget=options.get("budget"),
        )

    def _prices(self) -> Prices | None:
        budget = self.options.get("budget")
        return self.options.get("prices") or (budget.prices if budget is not None else None)

    def _opening(self, stored: Counts) -> str:
        rows = "an unknown number of rows" if self._total is None else f"{self._total:,} rows"
        facts = [f"{rows}, at most {self.max_in_flight} in flight"]
        if self.store is not None:
            again = "are sent again" if self.options.get("retry_failed") else "count as failed"
            facts.append(
                f"{self.store} has {stored.answered:,} answers, which are not sent again, and "
                f"{stored.failed:,} failures, which {again}"
            )
        if (budget := self.options.get("budget")) is not None:
            facts.append(f"{budget!r}")
        return "; ".join(facts)

    def _failed_rows(self, progress: BulkProgress) -> str:
        if not progress.failed or self.store is None:
            return ""
        return "; run it again with retry_failed=True to send the failed rows again"

    def _go_on(self) -> str:
        if self.store is None:
            return "nothing was stored, so another run sends all rows again"
        return f"run it again with store={str(self.store)!r} to continue where it stopped"


class LeftEarly(Exception):
    """Marks that the caller closed the run before its end. Never raised."""


class Abandoned(LeftEarly):
    """Marks that the caller is gone: the loop was left by `break` or an exception."""


def _named(end: BaseException) -> str:
    if isinstance(end, LeftEarly):
        return "its caller"
    if isinstance(end, KeyboardInterrupt):
        return "Ctrl-C"
    if type(end).__name__ in ("CancelledError", "Cancelled"):
        return "cancellation"
    return f"{type(end).__name__}: {end}" if str(end) else type(end).__name__


def _cure(name: str, known: Iterable[str]) -> str:
    if name in PARAMETERS:
        return f"pass parameters that all rows share in defaults={{{name!r}: ...}}"
    if cure := hint("bulk", name):
        return cure
    named = sorted({*known, "make", "key", "defaults", "output", "strategy", "validation_retries"})
    return f"{did_you_mean(name, named)}known are {', '.join(named)}"


def _check(options: Mapping[str, Any], defaults: object) -> None:
    known = BulkOptions.__annotations__.keys()
    for name in options.keys() - known:
        raise TypeError(f"messages.bulk() has no parameter {name!r}: {_cure(name, known)}")
    if not is_mapping(defaults):
        raise ConfigurationError(f"defaults: must be a dict, not {type(defaults).__name__}")
    unknown = sorted(map(str, defaults.keys() - PARAMETERS))
    if unknown:
        raise TypeError(f"defaults: messages.create() has no parameter {', '.join(unknown)}")
    for name in ("max_in_flight", "max_failures", "total"):
        value, least = options.get(name), 0 if name == "total" else 1
        if name in options and value is None and name != "max_in_flight":
            continue
        if name in options and not (type(value) is int and value >= least):
            raise ConfigurationError(
                f"{name} must be a whole number, at least {least}, not {value!r}"
            )
    for name, kind in (("prices", Prices), ("budget", Budget)):
        value = options.get(name)
        if value is not None and not isinstance(value, kind):
            raise ConfigurationError(f"{name} must be a {kind.__name__}, not {value!r:.60}")
