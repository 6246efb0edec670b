"""A budget that a client has: every token is counted once, and the next call is not sent."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from patience import until
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIError,
    BudgetSpentError,
    ConfigurationError,
    ModelsLab,
    OutputInvalidError,
    tool,
)
from modelslab_llm.prices import Budget, Price, Prices
from modelslab_llm.testing import Fault, LocalServer, Reply

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say Tamar."}],
}


def usage(prompt: int, answer: int) -> dict[str, int]:
    return {"input_tokens": prompt, "output_tokens": answer}


def client_of(
    variant: Sync | Async, server: LocalServer, budget: Budget | None, **options: Any
) -> SyncClient | AsyncClient:
    return variant.client(
        api_key=server.api_key, endpoint=server.gateway(), budget=budget, **options
    )


def test_the_call_after_the_last_one_is_not_sent(
    variant: Sync | Async, server: LocalServer
) -> None:
    server.script = [Reply("Tamar", usage=usage(60, 5)), Reply("Tamar", usage=usage(60, 5))]
    budget = Budget(tokens=100)
    client = client_of(variant, server, budget)
    client.create(**ASK)
    assert budget.tokens_spent == 65
    with client.stream(**ASK) as stream:
        stream.message()
    assert budget.tokens_spent == 130
    sent = len(server.requests)
    with pytest.raises(BudgetSpentError, match="130 of 100 tokens"):
        client.create(**ASK)
    with pytest.raises(BudgetSpentError), client.stream(**ASK):
        pass
    with pytest.raises(BudgetSpentError):
        client.parse(output=dict[str, str], **ASK)
    assert len(server.requests) == sent
    assert client.count_tokens(messages=ASK["messages"], model="m").input_tokens
    assert client.models() is not None
    client.close()
    assert (budget.tokens_spent, budget.partial_calls) == (130, 0)


def test_copies_share_it_unless_they_have_their_own(
    variant: Sync | Async, server: LocalServer
) -> None:
    server.script = [Reply("Tamar", usage=usage(6, 5))] * 4
    budget, other = Budget(tokens=20), Budget(tokens=20)
    client = client_of(variant, server, budget)
    client.with_options(timeout=7).create(**ASK)
    client.with_options(budget=other).create(**ASK)
    client.with_options(budget=None).create(**ASK)
    assert (budget.tokens_spent, other.tokens_spent) == (11, 11)
    client.create(**ASK)
    with pytest.raises(BudgetSpentError):
        client.with_options(timeout=8).create(**ASK)
    client.close()


def test_money_is_counted_by_the_price_of_the_model(
    variant: Sync | Async, server: LocalServer
) -> None:
    server.script = [Reply("Tamar", usage=usage(1_000_000, 0))]
    prices = Prices({"m": Price(input=2, output=3)})
    client = client_of(variant, server, budget := Budget(money=1.5, prices=prices))
    with pytest.raises(ConfigurationError, match="no entry matches the model 'other'"):
        client.create(**{**ASK, "model": "other"})
    assert not server.requests
    client.create(**ASK)
    assert budget.money_spent == 2.0
    with pytest.raises(BudgetSpentError, match=r"2 of 1\.5"):
        client.create(**ASK)
    client.close()


def test_a_stream_that_breaks_or_is_left_counts_as_far_as_it_came(
    variant: Sync | Async, server: LocalServer
) -> None:
    text = "Tamar, Dart, Exe, Fal, Camel and Fowey"
    server.script = [
        Reply(text, usage=usage(40, 9), fault=Fault.cut(after=5)),
        Reply(text, usage=usage(50, 9)),
        Reply(text, usage=usage(60, 9)),
    ]
    client = client_of(variant, server, budget := Budget(tokens=10**6), max_retries=0)
    with client.stream(**ASK) as stream, pytest.raises(APIError):
        stream.message()
    assert 40 <= budget.tokens_spent < 49
    assert budget.partial_calls == 1
    spent = budget.tokens_spent
    with client.stream(**ASK) as stream:
        next(stream.texts())
        stream.close()
        stream.close()
    assert spent + 50 <= budget.tokens_spent < spent + 59
    assert budget.partial_calls == 2
    spent = budget.tokens_spent
    with client.stream(**ASK) as stream:
        stream.message()
    assert (budget.tokens_spent, budget.partial_calls) == (spent + 69, 2)
    client.close()


def test_a_stream_that_is_dropped_is_counted_too(server: LocalServer) -> None:
    server.script = [Reply("Tamar, Dart, Exe, Fal, Camel", usage=usage(40, 9))]
    budget = Budget(tokens=100)
    with ModelsLab(api_key=server.api_key, endpoint=server.gateway(), budget=budget) as client:
        stream = client.messages.stream(**ASK)
        next(stream)
        del stream
        gc.collect()
        until(lambda: budget.tokens_spent > 0)
    assert 40 <= budget.tokens_spent < 49
    assert budget.partial_calls == 1


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("how", ["read", "left", "dropped"])
def test_a_stream_that_is_resumed_counts_with_all_its_parts(
    variant: Sync | Async, server: LocalServer, how: str
) -> None:
    text = "Tamar, Dart, Exe, Fal, Camel and Fowey"
    server.script = [
        Reply(text, usage=usage(40, 9), fault=Fault.cut(after=5)),
        Reply(" and more rivers than that", usage=usage(50, 7)),
    ]
    endpoint = replace(server.gateway(), continues_prefill="rest")
    budget = Budget(tokens=10**6)
    client = variant.client(api_key=server.api_key, endpoint=endpoint, budget=budget)
    with ExitStack() as stack:
        stream = stack.enter_context(client.stream(**ASK, resume=1))
        if how == "read":
            message = stream.message()
            stack.close()
            assert message.seams
            total = message.total_usage.input_tokens + message.total_usage.output_tokens
            assert budget.tokens_spent == total
            assert budget.tokens_spent > 97
        else:
            texts = stream.texts()
            while len(server.requests) < 2:
                next(texts)
            if how == "left":
                stack.close()
            else:  # nobody closes it
                stack.pop_all()
                del stream, texts
                gc.collect()
                until(lambda: budget.tokens_spent > 0)
            assert 90 <= budget.tokens_spent < 40 + 9 + 50 + 7
    assert budget.partial_calls == 1
    client.close()


@pytest.mark.usefixtures("short_pauses")
def test_an_attempt_that_is_sent_again_is_counted(
    variant: Sync | Async, server: LocalServer
) -> None:
    """A server may count the prompt, and fail before the first content: then it is retried."""
    server.script = [
        Reply("Tamar", usage=usage(40, 9), fault=Fault.cut(after=1)),
        Reply("Tamar", usage=usage(41, 2)),
    ]
    client = client_of(variant, server, budget := Budget(tokens=10**6))
    with client.stream(**ASK) as stream:
        message = stream.message()
    client.close()
    total = message.total_usage
    assert budget.tokens_spent == total.input_tokens + total.output_tokens
    assert budget.tokens_spent >= 40 + 43
    assert budget.partial_calls == 1


def test_answers_that_did_not_fit_are_counted_and_kept(
    variant: Sync | Async, server: LocalServer
) -> None:
    server.script = [Reply("no", usage=usage(10, 3)), Reply("no", usage=usage(20, 4))]
    client = client_of(variant, server, budget := Budget(tokens=30))
    with pytest.raises(BudgetSpentError) as caught:
        client.parse(output=dict[str, str], validation_retries=5, **ASK)
    client.close()
    assert budget.tokens_spent == 37
    assert len(server.requests) == 2
    unfit = caught.value.__cause__
    assert isinstance(unfit, OutputInvalidError)
    assert unfit.total_usage.output_tokens == 7


@tool
def level(river: str) -> int:
    """Return the level of a river in cm."""
    return len(river)


def test_every_turn_of_tools_is_counted(variant: Sync | Async, server: LocalServer) -> None:
    call = {"type": "tool_use", "id": "t", "name": "level", "input": {"river": "Tamar"}}
    server.script = [
        Reply(content=[call], usage=usage(10, 3)),
        Reply(content=[{**call, "id": "u"}], usage=usage(20, 4)),
        Reply("5 cm", usage=usage(30, 5)),
    ]
    client = client_of(variant, server, budget := Budget(tokens=35))
    runner = client.run_tools(tools=[level], **ASK)
    with pytest.raises(BudgetSpentError):
        runner.message()
    client.close()
    assert budget.tokens_spent == 37
    assert runner.real.total_usage.input_tokens == 30


@pytest.mark.parametrize("shared", [True, False])
def test_a_bulk_run_counts_once_and_ends(
    variant: Sync | Async, server: LocalServer, shared: bool
) -> None:
    server.script = lambda _: Reply("Tamar", usage=usage(6, 4))
    client = client_of(variant, server, budget := Budget(tokens=50))
    rows = [{**ASK, "max_tokens": n} for n in range(1, 40)]
    options: dict[str, Any] = {"budget": budget} if shared else {}
    with pytest.raises(BudgetSpentError):
        client.bulk(rows, max_in_flight=1, **options).finish()
    client.close()
    assert budget.tokens_spent == 10 * len(server.requests) == 50


def test_a_budget_does_not_travel() -> None:
    with ModelsLab(api_key="k", base_url="http://h.invalid", budget=Budget(tokens=1)) as client:
        with pytest.raises(ConfigurationError, match=r"with_options\(budget=None\)\.spec\(\)"):
            client.spec()
        assert client.with_options(budget=None).spec()


def test_what_is_not_a_budget_is_refused() -> None:
    for wrong in (100, {"tokens": 100}, Budget):
        with pytest.raises(ConfigurationError, match="budget must be a Budget"):
            ModelsLab(api_key="k", budget=wrong)  # type: ignore[arg-type]
