"""Decide what is asked, what is handed out, and when a run ends. Pure: no clock, thread or file.

The drivers (`_threads`, `_tasks`) and the desk between them carry out these decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import (
    AuthenticationError,
    BudgetSpentError,
    ConfigurationError,
    InvalidRequestError,
    ModelsLabError,
    PaymentRequiredError,
    TooManyFailuresError,
)
from ..prices import Budget
from ._result import Kept
from ._rows import GOING_ON, PARAMETERS, Ask

ENDS = (AuthenticationError, PaymentRequiredError, ConfigurationError, BudgetSpentError)
"""Errors that every other row would raise too."""

Verdict: TypeAlias = Literal["ask", "stored", "equal", "follow", "taken"]
"""What happens to a row: it is asked; it gets its stored result; it gets the stored answer of
another row; it shares the answer that another row waits for; it is refused, because another row of
this run has its key."""


@dataclass
class Course:
    """The options of a run, and the state that decides whether it continues."""

    run: int = 0
    retry_failed: bool = False
    deduplicate: bool = False
    max_failures: int | None = None
    budget: Budget | None = None
    failures: int = 0
    """Rows that failed in this run."""
    end: BaseException | None = None
    """Why no more rows are asked; None while the run goes on."""
    rows_raised: BaseException | None = None
    """The error that the caller's rows raised; the rows before it are still asked."""

    def verdict(
        self,
        ask: Ask[Any],
        same: Ask[Any] | None,
        stored: Kept | None,
        twin: Ask[Any] | None,
        equal: Kept | None,
    ) -> Verdict:
        """Return what happens to a row.

        `same` is the row in flight with its key, `stored` the stored row with its key. With
        `deduplicate`, `twin` is a row in flight with the same request, and `equal` a stored answer
        to it.
        """
        if same is not None:
            return "follow" if same.digest == ask.digest else "taken"
        if stored is not None:
            here = stored.run == self.run
            if stored.digest != ask.digest and here:
                return "taken"
            if stored.digest == ask.digest and (
                stored.error is None or here or not self.retry_failed
            ):
                return "stored"
        if twin is not None:
            return "follow"
        return "ask" if equal is None else "equal"

    @property
    def why(self) -> BaseException | None:
        """The error that ends the run; None if it runs to its end."""
        return self.end or self.rows_raised

    def may_ask(self, model: str) -> bool:
        """Tell whether another request may be sent; if not, `end` says why."""
        if self.end is None and self.budget is not None:
            try:
                self.budget.check(model)
            except ModelsLabError as error:
                self.end = error
        return self.end is None

    def failed(self, error: BaseException) -> ModelsLabError | None:
        """Count a row that failed; None if that ends the run and is not the row's own failure."""
        if isinstance(error, ENDS) or not isinstance(error, ModelsLabError):
            self.stop(error)
            return None
        self.failures += 1
        if self.max_failures is not None and self.failures >= self.max_failures:
            rows = "1 row" if self.failures == 1 else f"{self.failures} rows"
            self.stop(TooManyFailuresError(f"{rows} failed (max_failures); the last one: {error}"))
        return error

    def stop(self, why: BaseException) -> None:
        """Ask nothing more; the first reason is the one reported."""
        self.end = self.end or why


def blamed(ask: Ask[Any], error: BaseException) -> BaseException:
    """Return the error to report: an unknown parameter is a mistake in the row."""
    if isinstance(error, TypeError) and not ask.params.keys() <= PARAMETERS - GOING_ON:
        return InvalidRequestError(str(error))
    return error
