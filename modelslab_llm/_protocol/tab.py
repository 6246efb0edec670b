"""Put what a call costs on the budget of its client: the one place for sync and async. Pure."""

from __future__ import annotations

from typing import Any

from ..prices import Budget
from ..types.message import Message
from .accumulate import Accumulator
from .values import Call


class Tab:
    """What one call has cost so far."""

    def __init__(self, budget: Budget, model: str) -> None:
        self._budget = budget
        self._model = model
        self._is_settled = False
        self._counted: Message | None = None

    @classmethod
    def of(cls, call: Call[Any]) -> Tab | None:
        """Return the tab of a call that begins now; None without a budget.

        Raises `BudgetSpentError`, and `ConfigurationError` for a model without a price.
        """
        budget = call.config.budget
        if budget is None or not call.queues:  # which is to say, it makes no model work
            return None
        model = str(call.asked.get("model", ""))
        budget.check(model)
        return cls(budget, model)

    def put(self, message: Message, *, is_partial: bool) -> None:
        """Count an attempt, as far as the server has counted it; the same one is counted once."""
        if message is self._counted:
            return
        self._counted = message
        estimated = any(seam.estimated_tokens for seam in message.seams)
        if message.usage.model_fields_set:
            self._budget.add(message.usage, self._model, is_partial=is_partial or estimated)

    def settle(self, message: Message | None, *, is_partial: bool) -> None:
        """Count the last attempt; only the first time counts."""
        if not self._is_settled:
            self._is_settled = True
            if message is not None:
                self.put(message, is_partial=is_partial)

    def settle_left(self, growing: Accumulator) -> None:
        """Count a stream that was dropped, up to the tokens reported so far."""
        if not self._is_settled:
            self.settle(growing.message(), is_partial=not growing.complete)
