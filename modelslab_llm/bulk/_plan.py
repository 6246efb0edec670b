"""Count what a run would do with each row, without asking: same decisions, on a copy in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from typing_extensions import Self

from ..errors import InvalidRequestError
from ._course import Course
from ._result import Kept
from ._rows import Ask, Recipe

R = TypeVar("R")


@dataclass
class BulkPlan:
    """What a run would do with its rows."""

    rows: int = 0
    """The number of rows."""
    to_ask: int = 0
    """Rows that would be sent, including the three groups below."""
    new: int = 0
    """Rows that are not in the store."""
    changed: int = 0
    """Rows that are in the store with a different request."""
    failed_before: int = 0
    """Rows that failed and would be sent again because of `retry_failed`."""
    stored: int = 0
    """Rows that would get their stored result."""
    duplicates: int = 0
    """Rows that would get the answer of another row."""
    refused: int = 0
    """Rows that would fail without being sent: no key, no request, or a key used twice."""
    first_refusal: str = ""
    """The reason for the first refusal."""

    def __str__(self) -> str:
        text = (
            f"{self.rows:,} rows: {self.to_ask:,} to send ({self.new:,} new, {self.changed:,} "
            f"changed, {self.failed_before:,} failed before), {self.stored:,} stored, "
            f"{self.duplicates:,} duplicates, {self.refused:,} refused"
        )
        return f"{text} (first: {self.first_refusal})" if self.refused else text


class Planner(Generic[R]):
    """Count rows. Asked rows are noted in a temporary store, so memory is bounded."""

    def __init__(self, course: Course, recipe: Recipe[R], store: Path | None) -> None:
        from ._ledger import Ledger, Shelf  # SQLite, as in `_order`

        self.plan: BulkPlan = BulkPlan()
        self._course = course
        self._recipe = recipe
        self._shelf = Shelf(store) if store is not None and store.exists() else None
        self._keeps = store is not None or course.deduplicate
        self._noted = Ledger(None)
        self._noted.index_digests()
        course.run = -1  # no run in the store has this number

    def take(self, row: R) -> None:
        """Count a row."""
        plan = self.plan
        index = plan.rows
        plan.rows += 1
        try:
            ask = self._recipe.ask(index, row, self._recipe.key_of(index, row))
        except InvalidRequestError as error:
            self._refuse(str(error))
            return
        if not self._keeps:
            plan.to_ask += 1
            plan.new += 1
            return
        noted = self._noted.find(ask.key)
        stored = noted or (self._shelf.find(ask.key, ask.digest) if self._shelf else None)
        equal = self._equal(ask) if stored is None or stored.digest != ask.digest else None
        verdict = self._course.verdict(ask, None, stored, None, equal)
        if verdict == "taken":
            self._refuse(f"row {index}: its key {ask.key!r} is already used by an earlier row")
        elif verdict == "equal" or noted is not None:
            plan.duplicates += 1
        elif verdict == "stored":
            plan.stored += 1
        else:
            plan.to_ask += 1
            if stored is None:
                plan.new += 1
            elif stored.digest != ask.digest:
                plan.changed += 1
            else:
                plan.failed_before += 1
        if noted is None and verdict != "taken":
            self._note(ask)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._noted.close()
        if self._shelf is not None:
            self._shelf.close()

    def _equal(self, ask: Ask[Any]) -> Kept | None:
        if not self._course.deduplicate:
            return None
        found = self._noted.find_equal(ask.digest)
        return found or (self._shelf.find_equal(ask.digest) if self._shelf is not None else None)

    def _note(self, ask: Ask[Any]) -> None:
        """Note a row as answered."""
        nothing = (None, None, None, 0, ask.model, None, 0, 0, 0, 0, 0.0)
        self._noted.write([Kept(ask.key, ask.digest, ask.index, self._course.run, *nothing)])

    def _refuse(self, why: str) -> None:
        self.plan.refused += 1
        self.plan.first_refusal = self.plan.first_refusal or why
