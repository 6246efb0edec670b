"""Thinking, in every variant: as it comes, as it goes back, and the forms in which it is asked for.

Against the real llama-server where it thinks, and the local server where signatures matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama.fixtures import MODEL_NAME
from llama.scripts import (
    QUESTION_REPLY,
    RIVER_LEVEL,
    THOUGHT,
    THOUGHT_THEN_CALL_INPUT,
    THOUGHT_THEN_CALL_TEXT,
)
from llama.server import LlamaServer
from raw_server import RawServer, reply
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import Endpoint, InvalidRequestError, ThinkingBlock, endpoints
from modelslab_llm._protocol.check import MESSAGE, checked
from modelslab_llm._protocol.stream import text_of
from modelslab_llm.testing import LocalServer, Reply
from modelslab_llm.types import ContentBlockStartEvent

Client = SyncClient | AsyncClient
HELLO = [{"role": "user", "content": "Hello"}]
THOUGHTFUL: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Two ports are named. ", "signature": "c2lnbmVk+/=="},
    {"type": "redacted_thinking", "data": "c2VjcmV0"},
    {"type": "text", "text": "Checking both ports."},
]


@pytest.fixture
def thinker(variant: Sync | Async) -> Iterator[Callable[..., Client]]:
    """Build clients of the variant that are closed at the end."""
    built: list[Client] = []

    def build(server: LlamaServer | LocalServer) -> Client:
        at = (
            endpoints.gateway(server.url, default_model=MODEL_NAME)
            if isinstance(server, LlamaServer)
            else server.gguf("dep_1")
        )
        built.append(variant.client(api_key=server.api_key, endpoint=at))
        return built[-1]

    yield build
    for client in built:
        client.close()


# llama-server


def test_thinking_comes_before_the_answer(
    thinker: Callable[..., Client], llama_thinking: LlamaServer
) -> None:
    client = thinker(llama_thinking)
    with client.stream(max_tokens=200, temperature=0.0, messages=HELLO) as stream:
        deltas = list(stream.deltas())
        message = stream.message()
    kinds = [delta.kind for delta in deltas]
    assert kinds == sorted(kinds, reverse=True)  # all thinking, then all text
    assert kinds.count("thinking") > 1 < kinds.count("text")
    thought = "".join(text for kind, text in deltas if kind == "thinking")
    assert thought.strip() == THOUGHT.strip()
    assert thought == message.thinking
    assert "".join(text for kind, text in deltas if kind == "text") == QUESTION_REPLY
    assert message.text == QUESTION_REPLY


@pytest.mark.parametrize(
    "thinking",
    [
        {"type": "enabled", "budget_tokens": 2048},
        {"type": "enabled", "budget_tokens": 16},
        {"type": "enabled", "budget_tokens": 100_000},
        {"type": "enabled"},
        {"type": "adaptive"},
        {"type": "disabled"},
    ],
    ids=str,
)
def test_llama_server_takes_every_form(
    thinker: Callable[..., Client], llama_thinking: LlamaServer, thinking: Any
) -> None:
    """So none may be refused here, a small budget and one above max_tokens included."""
    client = thinker(llama_thinking)
    message = client.create(max_tokens=200, temperature=0.0, messages=HELLO, thinking=thinking)
    assert message.text == QUESTION_REPLY
    assert message.thinking.strip() == THOUGHT.strip()


def test_thinking_goes_back_with_the_tool_call_it_led_to(
    thinker: Callable[..., Client], llama_thinking: LlamaServer
) -> None:
    client = thinker(llama_thinking)
    asked: dict[str, Any] = {"max_tokens": 300, "temperature": 0.0, "tools": [RIVER_LEVEL]}
    with client.stream(messages=HELLO, **asked) as stream:
        message = stream.message()
    (use,) = message.tool_uses
    assert (message.text, use.input) == (THOUGHT_THEN_CALL_TEXT, THOUGHT_THEN_CALL_INPUT)
    assert message.thinking.strip() == THOUGHT.strip()
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "214 cm"}
    history = [*HELLO, message, {"role": "user", "content": [result]}]
    assert client.create(messages=history, **asked).text == "High enough."


# Signatures, which llama-server leaves empty


@pytest.mark.parametrize("streams", [True, False])
def test_a_turn_goes_back_exactly_as_it_came(thinker: Callable[..., Client], streams: bool) -> None:
    with LocalServer([Reply(THOUGHTFUL), "Low water at six."]) as server:
        client = thinker(server)
        asked: dict[str, Any] = {"max_tokens": 4096, "thinking": {"type": "adaptive"}}
        if streams:
            with client.stream(messages=HELLO, **asked) as stream:
                deltas = list(stream.deltas())
                message = stream.message()
            assert deltas[0] == ("thinking", "Two ")
            assert deltas[-1] == ("text", "ports.")
        else:
            message = client.create(messages=HELLO, **asked)
        assert message.thinking == "Two ports are named. "
        client.create(messages=[*HELLO, message, *HELLO], **asked)
        first, second = (request.body for request in server.requests)
        assert first["thinking"] == {"type": "adaptive"}
        assert second["messages"][1] == {"role": "assistant", "content": THOUGHTFUL}


def test_thinking_the_server_keeps_to_itself_has_no_deltas(thinker: Callable[..., Client]) -> None:
    hidden = [{"type": "thinking", "thinking": "", "signature": "c2ln"}, THOUGHTFUL[2]]
    with LocalServer([Reply(hidden)]) as server:
        with thinker(server).stream(max_tokens=9, messages=HELLO) as stream:
            assert {kind for kind, _ in stream.deltas()} == {"text"}
            message = stream.message()
    assert message.thinking == ""
    assert message.content[0] == ThinkingBlock(thinking="", signature="c2ln")


def test_a_whole_message_in_place_of_a_stream_has_deltas_too(variant: Sync | Async) -> None:
    whole = {"type": "message", "content": THOUGHTFUL, "stop_reason": "end_turn"}
    with RawServer(reply(200, whole)) as server:
        client = variant.client(api_key="k", base_url=server.url)
        with client.stream(model="m", max_tokens=9, messages=HELLO) as stream:
            deltas = list(stream.deltas())
            assert [block.to_param() for block in stream.message().content] == THOUGHTFUL
        client.close()
    assert deltas == [("thinking", "Two ports are named. "), ("text", "Checking both ports.")]


def test_text_that_comes_with_the_start_of_its_block_is_handed_out() -> None:
    """Some servers seed a block (protocol.md §6.3): the pieces are to add up to the message."""
    start = {"type": "content_block_start", "index": 0}
    begun = ContentBlockStartEvent.model_validate(
        {**start, "content_block": {"type": "text", "text": "Sea"}}
    )
    assert text_of(begun) == "Sea"


# What is asked for

V7, GGUF = endpoints.llm_v7(default_model="m"), endpoints.gguf("dep_1")
GATEWAY = endpoints.gateway("http://h", default_model="m")


def asked(thinking: Any, at: Endpoint = V7, max_tokens: int = 4096) -> Any:
    params = {"max_tokens": max_tokens, "messages": HELLO, "thinking": thinking}
    return checked(params, MESSAGE, at, "create")["thinking"]


@pytest.mark.parametrize("at", [V7, GGUF, GATEWAY], ids=lambda at: at.name)
@pytest.mark.parametrize(
    "thinking",
    [
        {"type": "enabled", "budget_tokens": 1024},
        {"type": "enabled", "budget_tokens": 4095, "display": "omitted"},
        {"type": "adaptive", "display": "summarized"},
        {"type": "disabled"},
        {"type": "between_tools"},
        {"type": "of_next_year", "depth": 3},
    ],
    ids=str,
)
def test_every_documented_form_is_sent_as_it_is(thinking: Any, at: Endpoint) -> None:
    assert asked(thinking, at) == thinking


@pytest.mark.parametrize("at", [V7, GGUF, GATEWAY], ids=lambda at: at.name)
@pytest.mark.parametrize(
    ("thinking", "fault"),
    [
        (True, "thinking: must be a dict like .*, not True"),
        ("enabled", "thinking: must be a dict like .*, not 'enabled'"),
        ({}, "thinking: must be a dict like"),
        ({"budget_tokens": 2048}, "thinking: must be a dict like"),
        ({"type": "enabled", "budget_tokens": "2048"}, "budget_tokens: must be a whole number"),
        ({"type": "enabled", "budget_tokens": True}, "budget_tokens: must be a whole number"),
    ],
    ids=str,
)
def test_what_is_not_a_form_at_all_is_refused(thinking: Any, fault: str, at: Endpoint) -> None:
    with pytest.raises(InvalidRequestError, match=fault):
        asked(thinking, at)


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        (None, "thinking.budget_tokens: must be a whole number, not None"),
        (1023, "thinking.budget_tokens: must be at least 1024, not 1023"),
        (4096, "thinking.budget_tokens: must be less than max_tokens, .*: 4096 of 4096"),
    ],
)
def test_on_v7_a_budget_has_limits(budget: int | None, fault: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    with pytest.raises(InvalidRequestError, match=fault):
        asked(thinking)
    for at in (GGUF, GATEWAY):
        assert asked(thinking, at) == thinking
