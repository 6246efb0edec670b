"""What everything cost: the naive sum of what the caller sees must not undercount."""

from __future__ import annotations

from typing import Any

import pytest
from variants import Async, Sync

from modelslab_llm import APIError, ModelsLab, OutputInvalidError, tool
from modelslab_llm.testing import Fault, LocalServer, Reply
from modelslab_llm.types import Usage

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say Tamar."}],
}


def usage(prompt: int, answer: int) -> dict[str, int]:
    return {"input_tokens": prompt, "output_tokens": answer}


def counted(found: Usage) -> tuple[int, int]:
    return found.input_tokens, found.output_tokens


def test_answers_that_did_not_fit_are_counted(variant: Sync | Async, server: LocalServer) -> None:
    server.script = [
        Reply("no JSON", usage=usage(10, 3)),
        Reply("still none", usage=usage(20, 4)),
        Reply('{"river": "Tamar"}', usage=usage(30, 5)),
    ]
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    message = client.parse(output=dict[str, str], validation_retries=2, **ASK)
    client.close()
    assert counted(message.usage) == (30, 5)
    assert counted(message.total_usage) == (60, 12)


def test_an_output_that_never_fits_says_what_it_cost(
    variant: Sync | Async, server: LocalServer
) -> None:
    server.script = [Reply("no", usage=usage(10, 3)), Reply("no", usage=usage(20, 4))]
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    with pytest.raises(OutputInvalidError) as caught:
        client.parse(output=dict[str, str], validation_retries=1, **ASK)
    client.close()
    assert counted(caught.value.total_usage) == (30, 7)


@tool
def level(river: str) -> int:
    """Return the level of a river in cm."""
    return len(river)


def test_turns_of_tools_are_counted_with_what_broke_off(server: LocalServer) -> None:
    call = {"type": "tool_use", "id": "t", "name": "level", "input": {"river": "Tamar"}}
    server.script = [
        Reply([call], usage=usage(10, 3)),
        Reply("one two three four", usage=usage(20, 9), fault=Fault("cut", after=5)),
        Reply("214 cm", usage=usage(20, 4)),
    ]
    with server.client(max_retries=0) as client:
        runner = client.messages.run_tools(tools=[level], **ASK)
        with pytest.raises(APIError):
            for stream in runner.stream():
                with stream:
                    stream.get_final_message()
        broken = counted(runner.total_usage)
        assert broken[0] == 30
        runner.get_final_message()
        assert counted(runner.total_usage) == (50, broken[1] + 4)


@pytest.mark.usefixtures("short_pauses")
def test_tokens_of_a_failed_attempt_are_counted(variant: Sync | Async, server: LocalServer) -> None:
    """A stream may break after the server has counted the prompt, and before any content."""
    server.script = [
        Reply("lost", usage=usage(7, 1), fault=Fault("error", after=1, type="overloaded_error")),
        Reply("Tamar", usage=usage(7, 2)),
    ]
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    with client.stream(**ASK) as stream:
        message = stream.message()
    client.close()
    assert counted(message.usage) == (7, 2)
    assert message.call_info.attempts == 2
    assert message.total_usage.input_tokens == 14


def test_the_sum_has_all_counters() -> None:
    one = Usage.model_validate(
        {"input_tokens": 1, "cache_read_input_tokens": 5, "own": 2, "service_tier": "a"}
    )
    other = Usage.model_validate(
        {
            "input_tokens": 2,
            "output_tokens": 3,
            "own": 4,
            "server_tool_use": {"web_search_requests": 1},
        }
    )
    total = one + other
    assert (total.input_tokens, total.output_tokens, total.cache_read_input_tokens) == (3, 3, 5)
    assert (total.model_extra, total.service_tier) == ({"own": 6}, "a")
    assert (total + other).server_tool_use.web_search_requests == 2  # type: ignore[union-attr]


def test_a_message_alone_costs_what_it_says(server: LocalServer) -> None:
    with server.client() as client:
        assert isinstance(client, ModelsLab)
        message = client.messages.create(**ASK)
    assert message.total_usage == message.usage
