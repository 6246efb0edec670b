"""The clients at a real `llama-server` with a real small model.

What it says is its own affair. What is claimed here holds whatever it says: types, limits, counts,
states, and that nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama.server import LlamaServer
from real.gateway import Gateway
from real.questions import QUESTIONS
from real.rates import CONTEXT, SLOTS, SMALL, Rate, rate, rows
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    ContextOverflowError,
    Conversation,
    Message,
    ModelsLab,
    ToolRunner,
    endpoints,
    tool,
)

HELLO = [{"role": "user", "content": "Name a river in England."}]


def client_of(variant: Sync | Async, server: LlamaServer) -> SyncClient | AsyncClient:
    endpoint = endpoints.llama_server(server.url, auth="bearer", default_model=SMALL)
    return variant.client(api_key=server.api_key, endpoint=endpoint)


def created(client: Any, **params: Any) -> Message:
    message: Message = client.create(**params)
    return message


def streamed(client: Any, **params: Any) -> Message:
    with client.stream(**params) as stream:
        pieces = list(stream.texts())
        message: Message = stream.message()
    assert "".join(pieces) == message.text
    return message


ways = pytest.mark.parametrize("ask", [created, streamed])


@ways
def test_an_answer(variant: Sync | Async, small: LlamaServer, ask: Callable[..., Message]) -> None:
    client = client_of(variant, small)
    message = ask(client, max_tokens=24, messages=HELLO)
    assert message.text.strip()
    assert message.model == SMALL
    assert 0 < message.usage.output_tokens <= 24
    full = message.usage.output_tokens == 24
    # It may also have come to its end with the last token that was allowed.
    assert message.stop_reason in (("max_tokens", "end_turn") if full else ("end_turn",))
    client.close()


@ways
def test_a_count_is_what_the_prompt_costs(
    variant: Sync | Async, small: LlamaServer, ask: Callable[..., Message]
) -> None:
    client = client_of(variant, small)
    asked = {"system": "Be brief.", "messages": HELLO}
    count = client.count_tokens(**asked).input_tokens
    usage = ask(client, max_tokens=2, **asked).usage
    assert usage.input_tokens + usage.cache_read_input_tokens == count
    client.close()


@ways
def test_a_stop_sequence(
    variant: Sync | Async, small: LlamaServer, ask: Callable[..., Message]
) -> None:
    client = client_of(variant, small)
    message = ask(client, max_tokens=60, temperature=0.0, messages=HELLO, stop_sequences=["e"])
    assert "e" not in message.text
    assert (message.stop_sequence, message.stop_reason) == ("e", "end_turn")
    client.close()


def test_a_prompt_that_is_too_long(variant: Sync | Async, small: LlamaServer) -> None:
    client = client_of(variant, small)
    long = [{"role": "user", "content": "river " * (CONTEXT + 500)}]
    with pytest.raises(ContextOverflowError) as refused:
        client.create(max_tokens=5, messages=long)
    assert refused.value.context_size == CONTEXT
    assert refused.value.prompt_tokens > CONTEXT
    with pytest.raises(ContextOverflowError), client.stream(max_tokens=5, messages=long):
        pass
    client.close()


def test_the_context_fills_while_it_answers(small: LlamaServer) -> None:
    """The token limit did not stop it, but the stop reason is the same."""
    with ModelsLab(small.api_key, endpoint=endpoints.llama_server(small.url, "bearer")) as client:
        message = client.messages.create(
            max_tokens=CONTEXT,
            temperature=0.0,
            messages=[{"role": "user", "content": "river " * (CONTEXT - 200)}],
            extra_body={"ignore_eos": True},
        )
    usage = message.usage
    total = usage.input_tokens + usage.cache_read_input_tokens + usage.output_tokens
    assert message.stop_reason in ("max_tokens", "end_turn")
    assert total <= CONTEXT + 1
    assert usage.output_tokens < CONTEXT


def test_a_conversation(small: LlamaServer) -> None:
    chat = Conversation()
    sizes: list[int] = []
    with ModelsLab(small.api_key, endpoint=endpoints.llama_server(small.url, "bearer")) as client:
        for question in ("Name a river.", "And another.", "Which is longer?"):
            chat.add(question)
            message = client.messages.create(max_tokens=20, messages=chat)
            chat.add(message)
            sizes.append(message.usage.input_tokens + message.usage.cache_read_input_tokens)
    assert [turn["role"] for turn in chat.messages] == ["user", "assistant"] * 3
    assert sizes == sorted(set(sizes))


def test_tools_may_be_there(small: LlamaServer) -> None:
    """It may call them or not; in either case the loop ends with an answer, or at its limit."""

    @tool
    def level(river: str) -> str:
        """The level of a river in centimetres."""
        return f"{river}: 214"

    with ModelsLab(small.api_key, endpoint=endpoints.llama_server(small.url, "bearer")) as client:
        runner = client.messages.run_tools(
            max_tokens=60, max_turns=3, tools=[level], messages=[*HELLO]
        )
        assert isinstance(runner, ToolRunner)
        turns = list(runner)
    assert 1 <= len(turns) <= 3
    assert all(isinstance(turn, Message) for turn in turns)


def is_idle(server: LlamaServer) -> bool:
    return not any(slot["is_processing"] for slot in server.get("/slots").json())


def becomes_idle(server: LlamaServer) -> bool:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        if is_idle(server):
            return True
        time.sleep(0.05)
    return False


def test_a_stream_that_is_left_frees_its_slot(variant: Sync | Async, small: LlamaServer) -> None:
    client = client_of(variant, small)
    endless = {"max_tokens": 1500, "messages": HELLO, "extra_body": {"ignore_eos": True}}
    with client.stream(**endless) as stream:
        assert next(iter(stream.texts())) is not None
        assert not is_idle(small)
    assert becomes_idle(small)
    client.close()


def test_eight_streams_at_once(small: LlamaServer) -> None:
    def ask(number: int) -> Message:
        turn = {"role": "user", "content": f"Write about the number {number}."}
        with client.messages.stream(max_tokens=24, messages=[turn]) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert message.text == text
        return message

    with ModelsLab(small.api_key, endpoint=endpoints.llama_server(small.url, "bearer")) as client:
        with ThreadPoolExecutor(SLOTS) as pool:
            messages = list(pool.map(ask, range(SLOTS)))
    assert all(message.text and message.stop_reason for message in messages)
    assert len({message.id for message in messages}) == SLOTS
    assert becomes_idle(small)


# Structured output


def shown(found: Rate) -> str:
    return "\n".join(found.invalid)


def test_held_to_the_schema(small: LlamaServer) -> None:
    """The default of such an endpoint: whatever is not cut off is of the type, all thirty times."""
    found = rate(endpoints.llama_server(small.url, "bearer"), small.api_key, None)
    assert found.asked == len(QUESTIONS) == 30
    assert not found.invalid, shown(found)
    assert found.valid > 20, shown(found)  # not by cutting them all off


def test_every_other_way_ends_well(small: LlamaServer, gateway: Gateway) -> None:
    """How often it works is the model's; `rate` lets nothing through but what is documented."""
    found = {
        (row.where, row.strategy): rate(row.endpoint, row.key, row.strategy, QUESTIONS[::5])
        for row in rows(small, gateway)
    }
    assert len(found) == 8
    assert {each.asked for each in found.values()} == {6}
    for (where, strategy), each in found.items():
        print(f"{where} {strategy}: {each.valid} valid, {each.truncated} cut of {each.asked}")
        if strategy == "response_format":
            assert not each.invalid, shown(each)
