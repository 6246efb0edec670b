"""What tokens cost by a table, and when a budget is spent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from modelslab_llm import BudgetSpentError, ConfigurationError
from modelslab_llm.prices import Budget, Price, Prices, total_tokens
from modelslab_llm.types import CacheCreation, Usage

M = 1_000_000

COSTS: list[tuple[Price, dict[str, Any], float]] = [
    (Price(3, 15), {"input_tokens": M, "output_tokens": M}, 18),
    (Price(3, 15), {"input_tokens": M, "cache_read_input_tokens": M}, 6),
    (Price(3, 15, cache_read=0.3), {"cache_read_input_tokens": M}, 0.3),
    (Price(3, 15, cache_read=0), {"cache_read_input_tokens": M}, 0),
    (Price(3, 15), {"cache_creation_input_tokens": M}, 3),
    (Price(3, 15, cache_write=3.75), {"cache_creation_input_tokens": M}, 3.75),
    (
        Price(3, 15, cache_write=3.75, cache_write_1h=6),
        {
            "cache_creation_input_tokens": 2 * M,
            "cache_creation": CacheCreation(
                ephemeral_5m_input_tokens=M, ephemeral_1h_input_tokens=M
            ),
        },
        9.75,
    ),
    (
        Price(3, 15, cache_write=3.75),
        {
            "cache_creation_input_tokens": M,
            "cache_creation": CacheCreation(ephemeral_1h_input_tokens=M),
        },
        3.75,
    ),
    (  # a server that counts what is cached twice
        Price(3, 15, cache_read=0.3, cache_write=4, input_includes_cache=True),
        {
            "input_tokens": 3 * M,
            "cache_read_input_tokens": M,
            "cache_creation_input_tokens": M,
        },
        7.3,
    ),
    (
        Price(3, 15, cache_read=1, input_includes_cache=True),
        {"input_tokens": 0, "cache_read_input_tokens": M},
        1,
    ),
]


@pytest.mark.parametrize(("price", "usage", "cost"), COSTS)
def test_what_tokens_cost(price: Price, usage: dict[str, Any], cost: float) -> None:
    assert price.cost(Usage(**usage)) == pytest.approx(cost)


def test_which_price_a_model_has() -> None:
    prices = Prices(
        {
            "claude-*": Price(2, 2),
            "claude-small": Price(1, 1),
            "Qwen/[odd]": Price(4, 4),
            "*": {"input": 3, "output": 3},
        }
    )
    for model, cost in [
        ("claude-large", 2),
        ("claude-small", 1),  # its own name, before any pattern
        ("Qwen/[odd]", 4),
        ("Qwen/o", 4),
        ("CLAUDE-large", 3),
        ("", 3),
    ]:
        assert prices.cost(Usage(input_tokens=M), model) == cost
    assert Prices({"a": Price(1, 1)}).find("b") is None
    with pytest.raises(ConfigurationError, match=r"no entry matches the model 'b'; add it"):
        Prices({"a": Price(1, 1)}).cost(Usage(), "b")


WRONG: list[tuple[Any, str]] = [
    (lambda: Price(-1, 1), r"Price\.input: must be a price per million tokens, not -1"),
    (lambda: Price(1, float("nan")), r"Price\.output"),
    (lambda: Price(1, None), r"Price\.output"),  # type: ignore[arg-type]
    (lambda: Price(1, True), r"Price\.output"),
    (lambda: Price(1, 1, cache_read="3"), r"Price\.cache_read"),  # type: ignore[arg-type]
    (lambda: Price(1, 1, input_includes_cache=1), "must be True or False"),  # type: ignore[arg-type]
    (lambda: Prices({"m": {"input": 1}}), r"prices\['m'\]: must be a Price, or a dict"),
    (lambda: Prices({"m": {"input": 1, "output": 1, "in": 1}}), r"prices\['m'\]"),
    (lambda: Prices({"m": 3}), r"prices\['m'\]"),  # type: ignore[dict-item]
    (Budget, r"pass tokens=\.\.\. or money=\.\.\."),
    (lambda: Budget(money=5), r"needs prices=Prices\(\.\.\.\)"),
    (lambda: Budget(tokens=-5), r"Budget\(tokens=\.\.\.\) must be a number, at least 0, not -5"),
]


@pytest.mark.parametrize(("make", "why"), WRONG)
def test_what_is_not_a_price_or_budget_is_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make()


def test_a_budget_of_both() -> None:
    budget = Budget(tokens=1000, money=1, prices=Prices({"m": Price(1000, 0)}))
    budget.check("m")
    budget.add(Usage(input_tokens=900), "m")
    budget.check("m")
    assert budget.money_spent == pytest.approx(0.9)
    assert repr(budget) == "Budget(tokens=900 of 1000, money=0.9 of 1)"
    budget.add(Usage(output_tokens=100), "m")
    with pytest.raises(BudgetSpentError, match="the budget is spent: 1000 of 1000 tokens"):
        budget.check()


def test_a_model_without_a_price_costs_no_money_only_where_none_is_counted() -> None:
    prices = Prices({"m": Price(1, 1)})
    free = Budget(tokens=100, prices=prices)
    free.check("unknown")
    free.add(Usage(input_tokens=5), "unknown")
    assert (free.tokens_spent, free.money_spent) == (5, 0)
    counted = Budget(money=1, prices=prices)
    counted.check()
    with pytest.raises(ConfigurationError, match="unknown"):
        counted.check("unknown")
    with pytest.raises(ConfigurationError, match="unknown"):
        counted.add(Usage(input_tokens=5), "unknown")
    assert counted.tokens_spent == 5


def test_a_budget_of_nothing_allows_nothing() -> None:
    with pytest.raises(BudgetSpentError):
        Budget(tokens=0).check()


def test_many_threads_share_a_budget() -> None:
    budget = Budget(money=10**9, prices=Prices({"*": Price(M, 0)}))
    usage = Usage(input_tokens=1)

    def spend() -> None:
        for _ in range(2000):
            budget.add(usage, "m")

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.tokens_spent == 16_000
    assert budget.money_spent == 16_000


def test_tokens_of_every_kind_count() -> None:
    usage = Usage(
        input_tokens=1,
        output_tokens=20,
        cache_read_input_tokens=300,
        cache_creation_input_tokens=4000,
    )
    assert total_tokens(usage) == 4321
