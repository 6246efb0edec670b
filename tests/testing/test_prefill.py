"""The kit continues a last assistant turn, as the server of its dialect does.

That llama-server does so is proved in `test_llama_resume`.
"""

from __future__ import annotations

from typing import Any

import pytest
from scripted import ASK, Way

from modelslab_llm.testing import Fault, Reply, ScriptedTransport

STORY = "One two three four."
BEGUN: dict[str, Any] = {
    **ASK,
    "messages": [*ASK["messages"], {"role": "assistant", "content": "One two"}],
}


@pytest.mark.parametrize(
    ("dialect", "text", "deltas"),
    [
        ("llama-server", STORY, ["One two ", "three ", "four."]),
        ("anthropic", " three four.", [" ", "three ", "four."]),
        ("vllm", STORY, ["One ", "two ", "three ", "four."]),
    ],
)
def test_each_in_its_manner(way: Way, dialect: Any, text: str, deltas: list[str]) -> None:
    client = way.client(way.server(STORY, dialect=dialect))
    whole = client.create(**BEGUN)
    assert whole.text == text
    with client.stream(**BEGUN) as stream:
        assert list(stream.texts()) == deltas
    assert whole.usage.output_tokens == (4 if dialect == "vllm" else 2)


@pytest.mark.parametrize("dialect", ["llama-server", "anthropic"])
def test_an_answer_that_does_not_go_on_is_sent_as_it_is(way: Way, dialect: Any) -> None:
    client = way.client(way.server("Something else.", dialect=dialect))
    assert client.create(**BEGUN).text == "Something else."


@pytest.mark.parametrize(
    ("dialect", "deltas"), [("llama-server", ["One two three four."]), ("anthropic", [])]
)
def test_nothing_may_be_left_to_say(way: Way, dialect: Any, deltas: list[str]) -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": [{"type": "text", "text": STORY}]}]
    with way.client(way.server(STORY, dialect=dialect)).stream(
        **{**ASK, "messages": turns}
    ) as stream:
        assert list(stream.texts()) == deltas
        assert stream.message().usage.output_tokens == 0


@pytest.mark.slow
def test_a_script_of_a_fault_and_what_follows() -> None:
    """In a transport; over sockets it is in `test_going_on`."""
    script = [Reply(STORY, fault=Fault.cut(after=4)), Reply(STORY)]
    transport = ScriptedTransport(script, dialect="llama-server")
    with transport.client(deployment_id="d") as client:
        message = client.messages.create(resume=1, **ASK)
    assert (message.text, len(message.seams)) == (STORY, 1)
    transport.assert_script_used()
    first, second = transport.requests
    assert (first.prefill, second.prefill) == ("", "One two")
    assert second.text == first.text


def test_the_answer_may_end_at_its_limit() -> None:
    script = [Reply("One two", "max_tokens"), Reply(STORY)]
    transport = ScriptedTransport(script, dialect="llama-server")
    with transport.client(deployment_id="d") as client:
        message = client.messages.create(continue_at_max_tokens=1, **ASK)
    assert (message.text, message.stop_reason) == (STORY, "end_turn")
    transport.assert_script_used()
