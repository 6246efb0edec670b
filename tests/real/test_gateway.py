"""The clients at a real gateway: LiteLLM's proxy, in front of a real `llama-server`.

What a model says depends on the model; what is claimed here holds whatever it says, or is said by
a scripted one.
"""

from __future__ import annotations

from typing import Any

import pytest
from llama.scripts import ANSWER_REPLY, ONE_CALL_INPUT, RIVER_LEVEL, TWO_CALLS_INPUTS
from llama.server import LlamaServer
from real.gateway import Gateway
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    BadRequestError,
    ContextOverflowError,
    InternalServerError,
    ModelsLab,
    endpoints,
)

HELLO: dict[str, Any] = {
    "max_tokens": 20,
    "temperature": 0.0,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
ASK_RIVER: dict[str, Any] = {
    "max_tokens": 300,
    "temperature": 0.0,
    "tools": [RIVER_LEVEL],
    "messages": [{"role": "user", "content": "How high is the Tamar?"}],
}


def client_of(
    variant: Sync | Async, gateway: Gateway, model: str = "small", **options: Any
) -> SyncClient | AsyncClient:
    endpoint = endpoints.gateway(gateway.url, default_model=model)
    options = {"api_key": gateway.key, "max_retries": 0, **options}
    return variant.client(endpoint=endpoint, **options)


@pytest.mark.parametrize("model", ["small", "messages"])
def test_create_and_stream(variant: Sync | Async, gateway: Gateway, model: str) -> None:
    client = client_of(variant, gateway, model)
    message = client.create(**HELLO)
    assert message.text
    assert message.model == model
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.usage.input_tokens > 0
    assert 0 < message.usage.output_tokens <= 20
    assert message.request_id
    with client.stream(**HELLO) as stream:
        pieces = list(stream.texts())
        streamed = stream.message()
    assert "".join(pieces) == streamed.text
    assert streamed.model == model
    assert 0 < streamed.usage.output_tokens <= 20
    assert streamed.request_id != message.request_id
    client.close()


def test_a_call_and_its_result(variant: Sync | Async, gateway: Gateway) -> None:
    client = client_of(variant, gateway, "tools")
    turns = list(ASK_RIVER["messages"])
    message = client.create(**ASK_RIVER)
    (use,) = message.tool_uses
    assert (use.input, use.input_complete) == (ONE_CALL_INPUT, True)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "213 cm"}
    turns += [message.to_param(), {"role": "user", "content": [result]}]
    assert client.create(**ASK_RIVER | {"messages": turns}).text == ANSWER_REPLY
    client.close()


def test_two_calls_in_a_stream(variant: Sync | Async, gateway: Gateway) -> None:
    client = client_of(variant, gateway, "tools")
    both = [{"role": "user", "content": "How high are both?"}]
    with client.stream(**ASK_RIVER | {"messages": both}) as stream:
        message = stream.message()
    assert [use.input for use in message.tool_uses] == list(TWO_CALLS_INPUTS)
    assert message.stop_reason == "tool_use"
    client.close()


def test_a_call_that_is_cut(variant: Sync | Async, gateway: Gateway) -> None:
    """LiteLLM cannot read such arguments itself: whole it fails, in a stream it passes them on."""
    client = client_of(variant, gateway, "tools")
    with pytest.raises(InternalServerError, match="Failed to parse tool call arguments"):
        client.create(**ASK_RIVER | {"max_tokens": 8})
    with client.stream(**ASK_RIVER | {"max_tokens": 8}) as stream:
        (use,) = stream.message().tool_uses
    assert (use.input, use.input_complete) == ({}, False)
    assert use.raw_input
    client.close()


def test_counting_and_models(variant: Sync | Async, gateway: Gateway) -> None:
    client = client_of(variant, gateway)
    assert client.count_tokens(messages=HELLO["messages"]).input_tokens > 0
    models = client.models()
    assert {"small", "tools", "down"} < {model.id for model in models}
    client.close()


def test_a_wrong_key(variant: Sync | Async, gateway: Gateway) -> None:
    """Without a database LiteLLM knows no key but its own, and says so with status 400."""
    client = client_of(variant, gateway, api_key="sk-wrong")
    with pytest.raises(BadRequestError, match="No connected db") as refused:
        client.create(**HELLO)
    assert "sk-wrong" not in str(refused.value)
    client.close()


def test_a_wrong_model(variant: Sync | Async, gateway: Gateway) -> None:
    client = client_of(variant, gateway, "nobody")
    with pytest.raises(BadRequestError, match="Invalid model name passed in model=nobody"):
        client.create(**HELLO)
    with pytest.raises(BadRequestError, match="Invalid model name"), client.stream(**HELLO):
        pass
    client.close()


def test_the_server_behind_it_is_down(variant: Sync | Async, gateway: Gateway) -> None:
    client = client_of(variant, gateway, "down", max_retries=1)
    with pytest.raises(InternalServerError, match="Cannot connect to host") as failed:
        client.create(**HELLO)
    assert failed.value.attempts == 2
    with pytest.raises(InternalServerError), client.stream(**HELLO):
        pass
    client.close()


@pytest.mark.parametrize("model", ["small", "messages"])
def test_the_context_overflows(variant: Sync | Async, gateway: Gateway, model: str) -> None:
    client = client_of(variant, gateway, model)
    long = [{"role": "user", "content": "hello " * 3000}]
    with pytest.raises(ContextOverflowError) as refused:
        client.create(**HELLO | {"messages": long})
    assert refused.value.context_size == 2048
    assert refused.value.prompt_tokens > 3000
    with pytest.raises(ContextOverflowError), client.stream(**HELLO | {"messages": long}):
        pass
    client.close()


def test_the_server_behind_it_dies_in_a_stream(gateway: Gateway, mortal: LlamaServer) -> None:
    """It reports this with an error event, which is raised with the message so far."""
    endpoint = endpoints.gateway(gateway.url, default_model="mortal")
    with ModelsLab(gateway.key, endpoint=endpoint) as client:
        with client.messages.stream(**HELLO | {"max_tokens": 3000}) as stream:
            for text in stream.text_stream:
                if text == " 5":
                    break
            mortal.kill()
            with pytest.raises(InternalServerError, match="not completed") as failed:
                list(stream.text_stream)
    assert failed.value.in_stream
    assert failed.value.partial_message is not None
    assert failed.value.partial_message.text.startswith("I count: 1 2 3 4 5")
