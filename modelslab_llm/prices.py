"""Calculate the cost of tokens, and enforce budgets, by the caller's own price table.

    from modelslab_llm.prices import Budget, Price, Prices

    prices = Prices({
        "Qwen/*": Price(input=0.9, output=0.9),               # per million tokens, any currency
        "claude-*": Price(input=3, output=15, cache_read=0.3, cache_write=3.75),
    })
    budget = Budget(money=20, prices=prices)
    client = client.with_options(budget=budget)
    message = client.messages.create(                         # raises once the budget is spent
        model="Qwen/Qwen2.5-VL-72B-Instruct-together",
        max_tokens=50,
        messages=[{"role": "user", "content": "Hello!"}],
    )
    print(budget.money_spent)

Nothing here sends, waits or reads a file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from ._forks import no_fork
from .errors import BudgetSpentError, ConfigurationError
from .types.usage import Usage

__all__ = ["Budget", "Price", "Prices", "total_tokens"]

MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """The price of a million tokens of one model, in a currency of your choice.

    Raises `ConfigurationError` for a price that is not a number of at least 0.

    >>> Price(input=3, output=15).cost(Usage(input_tokens=1_000_000, output_tokens=100_000))
    4.5
    """

    input: float
    """Tokens of the prompt."""
    output: float
    """Tokens of the answer, thinking included."""
    cache_read: float | None = None
    """Prompt tokens read from the cache; `None`: the price of `input`."""
    cache_write: float | None = None
    """Prompt tokens written to the cache; `None`: the price of `input`."""
    cache_write_1h: float | None = None
    """The same with a lifetime of an hour, if the server counts them separately; `None`: the price
    of `cache_write`."""
    input_includes_cache: bool = False
    """True for servers that include cached tokens in `input_tokens` (protocol.md §5)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "input_includes_cache":
                fits = isinstance(value, bool)
            else:
                optional = field.default is None
                fits = optional if value is None else _is_amount(value)
            if not fits:
                raise ConfigurationError(
                    f"Price.{field.name}: must be a price per million tokens, not {value!r}"
                    if field.name != "input_includes_cache"
                    else f"Price.input_includes_cache: must be True or False, not {value!r}"
                )

    def cost(self, usage: Usage) -> float:
        """Return the cost of these tokens."""
        cached, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
        prompt = usage.input_tokens
        if self.input_includes_cache:
            prompt = max(0, prompt - cached - written)
        total = prompt * self.input + usage.output_tokens * self.output
        if cached:
            total += cached * _or(self.cache_read, self.input)
        if written:
            an_hour = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0
            an_hour = min(an_hour, written)
            write = _or(self.cache_write, self.input)
            total += (written - an_hour) * write + an_hour * _or(self.cache_write_1h, write)
        return total / MILLION


class Prices:
    """A table of prices by model.

    `table` has a `Price`, or a dict with its fields, for each model or pattern (`*`, `?`). An exact
    name takes precedence over patterns, and the first matching pattern is used. Raises
    `ConfigurationError` for an entry that is not a price.

    >>> prices = Prices({"claude-*": Price(3, 15), "*": {"input": 0.9, "output": 0.9}})
    >>> prices.cost(Usage(input_tokens=1_000_000), "any/model")
    0.9
    """

    def __init__(self, table: Mapping[str, Price | Mapping[str, float]]) -> None:
        self._table = {pattern: _price(pattern, entry) for pattern, entry in table.items()}
        self._found: dict[str, Price | None] = {}

    def find(self, model: str) -> Price | None:
        """Return the price of a model, or `None` if the table has none."""
        if model not in self._found:
            fitting = (p for pattern, p in self._table.items() if fnmatchcase(model, pattern))
            self._found[model] = self._table.get(model) or next(fitting, None)
        return self._found[model]

    def cost(self, usage: Usage, model: str) -> float:
        """Return the cost of these tokens for a model.

        Pass the requested model: some servers name another one in their response. Raises
        `ConfigurationError` if the table has no price for it.
        """
        price = self.find(model)
        if price is None:
            raise ConfigurationError(
                f"prices: no entry matches the model {model!r}; add it, or a pattern such as '*'"
            )
        return price.cost(usage)

    def __repr__(self) -> str:
        return f"Prices({self._table!r})"


class Budget:
    """Count what calls spend, and refuse further calls once the limit is reached. Thread-safe.

    Args:
        tokens: The maximum number of tokens, of any kind (`total_tokens`).
        money: The maximum cost, in the currency of `prices`.
        prices: The table of prices; required with `money`.

    Pass it to a client, `ModelsLab(budget=...)`, which shares it with its `with_options` copies, or
    to a bulk run. It is checked before a call and counted after it, so concurrent calls may exceed
    it by their cost. Raises `ConfigurationError` without a limit, or for money without prices.

    >>> budget = Budget(tokens=1000)
    >>> budget.add(Usage(input_tokens=900, output_tokens=150), "any")
    >>> budget.check()
    Traceback (most recent call last):
    modelslab_llm.errors.BudgetSpentError: the budget is spent: 1050 of 1000 tokens
    """

    def __init__(
        self,
        *,
        tokens: int | None = None,
        money: float | None = None,
        prices: Prices | None = None,
    ) -> None:
        if tokens is None and money is None:
            raise ConfigurationError("Budget: pass tokens=... or money=...")
        for name, limit in (("tokens", tokens), ("money", money)):
            if limit is not None and not _is_amount(limit):
                raise ConfigurationError(
                    f"Budget({name}=...) must be a number, at least 0, not {limit!r}"
                )
        if money is not None and prices is None:
            raise ConfigurationError("Budget: money=... needs prices=Prices(...)")
        self.tokens = tokens
        self.money = money
        self.prices = prices
        self._tokens = 0
        self._money = 0.0
        self._partial_calls = 0

    @property
    def tokens_spent(self) -> int:
        """The number of tokens spent."""
        return self._tokens

    @property
    def money_spent(self) -> float:
        """The money spent; 0.0 without prices."""
        return self._money

    @property
    def partial_calls(self) -> int:
        """The number of counted attempts that broke off before the server reported all tokens.

        Their real cost may be higher than the counted one.
        """
        return self._partial_calls

    def check(self, model: str | None = None) -> None:
        """Raise `BudgetSpentError` if the budget is spent.

        With `model`, also raise `ConfigurationError` if the budget is in money and the model has no
        price, because its calls would seem free.
        """
        with no_fork():  # a child has a copy of it, whose lock would never be released
            tokens, money = self._tokens, self._money
        if self.tokens is not None and tokens >= self.tokens:
            raise BudgetSpentError(f"the budget is spent: {tokens} of {self.tokens} tokens")
        if self.money is not None and money >= self.money:
            raise BudgetSpentError(f"the budget is spent: {money:.4g} of {self.money:g}")
        if model is not None and self.money is not None and self.prices is not None:
            self.prices.cost(Usage(), model)

    def add(self, usage: Usage, model: str, *, is_partial: bool = False) -> None:
        """Count the usage of a call; `is_partial` says that the real usage may be higher.

        Raises `ConfigurationError` if the budget is in money and the model has no price; its tokens
        are counted all the same.
        """
        with no_fork():
            self._tokens += total_tokens(usage)
            self._partial_calls += is_partial
            if self.prices is not None and (self.money is not None or self.prices.find(model)):
                self._money += self.prices.cost(usage, model)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "Budget cannot be pickled or copied, because it counts what one process spends: make"
            " one in each worker, with its share"
        )

    def __repr__(self) -> str:
        limits = [f"tokens={self._tokens} of {self.tokens}"] if self.tokens is not None else []
        limits += [f"money={self._money:.4g} of {self.money:g}"] if self.money is not None else []
        return f"Budget({', '.join(limits)})"


def total_tokens(usage: Usage) -> int:
    """Return the number of tokens that a call used: prompt, cache and answer.

    If a server includes cached tokens in `input_tokens` (protocol.md §5), they are counted twice.

    Args:
        usage: The token counts of an answer.

    Returns:
        The tokens.

    >>> total_tokens(Usage(input_tokens=12, cache_read_input_tokens=100, output_tokens=8))
    120
    """
    return (
        usage.input_tokens
        + usage.output_tokens
        + usage.cache_read_input_tokens
        + usage.cache_creation_input_tokens
    )


def _price(pattern: str, entry: Price | Mapping[str, float]) -> Price:
    if isinstance(entry, Price):
        return entry
    fields: Any = entry
    try:
        return Price(**fields)
    except TypeError:
        raise ConfigurationError(
            f"prices[{pattern!r}]: must be a Price, or a dict with its fields, not {entry!r}"
        ) from None


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= sys.float_info.max  # compared: an int may be larger than any float


def _or(price: float | None, instead: float) -> float:
    return instead if price is None else price
