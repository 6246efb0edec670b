"""Prove that a real llama-server continues an answer: dropped streams, `max_tokens`, stops.

A relay breaks the connection after so many deltas of a scripted model's answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from llama.scripts import RIVER_LEVEL, STORY, STORY_REPLY
from llama.server import LlamaServer
from routes import Severing
from variants import Async, Sync

from modelslab_llm import Message, StreamInterruptedError, endpoints
from modelslab_llm._protocol.accumulate import Accumulator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_pauses")]

ASK: dict[str, Any] = {"max_tokens": 1000, "messages": [{"role": "user", "content": "Go."}]}


@pytest.fixture
def relay(llama_story: LlamaServer) -> Iterator[Severing]:
    with Severing(int(llama_story.url.rpartition(":")[2])) as running:
        yield running


@pytest.fixture
def client(variant: Sync | Async, relay: Severing, llama_story: LlamaServer) -> Iterator[Any]:
    place = endpoints.llama_server(relay.url, "x-api-key")
    made: Any = variant.client(api_key=llama_story.api_key, endpoint=place)
    with closing(made):
        yield made


def told(events: list[Any]) -> Message:
    """Return the message that these events alone make, and check that they are of one stream."""
    kinds = [event.type for event in events]
    assert (kinds.count("message_start"), kinds.count("message_stop")) == (1, 1)
    assert (kinds.count("content_block_start"), kinds.count("content_block_stop")) == (1, 1)
    assert {event.index for event in events if hasattr(event, "index")} == {0}
    whole = Accumulator()
    for event in events:
        whole.add(event)
    return whole.message()


@pytest.mark.parametrize("beyond", [0, 45], ids=["between-deltas", "within-a-delta"])
def test_a_stream_that_is_cut_anywhere_continues(client: Any, relay: Severing, beyond: int) -> None:
    """Cut at every fifth of 200 deltas, resumed to exactly the uninterrupted answer."""
    for cut in range(5, 201, 5):
        relay.sever(cut, beyond=beyond)
        with client.stream(resume=1, **ASK) as streamed:
            events = list(streamed.events())
            message = streamed.message()
        (seam,) = message.seams
        assert message.text == STORY_REPLY
        assert (seam.at, seam.why) == (len("".join(STORY[:cut])), "interrupted")
        assert seam.error.startswith("the connection broke during the stream")
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 201)
        assert seam.estimated_tokens == cut
        assert message.call_info.attempts == 2
        alone = told(events)
        assert (alone.content, alone.usage) == (message.content, message.usage)


def test_create_continues_too(client: Any, relay: Severing) -> None:
    relay.sever(7)
    message = client.create(resume=1, **ASK)
    assert (message.text, len(message.seams)) == (STORY_REPLY, 1)


def test_several_cuts_in_one_call(client: Any, relay: Severing) -> None:
    relay.sever(50, 61, 1)  # the text so far is one delta, with what follows it
    message = client.create(resume=3, **ASK)
    assert message.text == STORY_REPLY
    assert [seam.at for seam in message.seams] == [
        len("".join(STORY[:deltas])) for deltas in (50, 111, 112)
    ]
    assert message.usage.output_tokens == 201


def test_a_resumed_answer_keeps_to_max_tokens(client: Any, relay: Severing) -> None:
    relay.sever(30)
    message = client.create(resume=1, **{**ASK, "max_tokens": 90})
    assert message.text == "".join(STORY[:90])
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 90


def test_an_answer_at_its_limit_is_continued(client: Any) -> None:
    with client.stream(continue_at_max_tokens=2, **{**ASK, "max_tokens": 40}) as streamed:
        events = list(streamed.events())
        message = streamed.message()
    assert message.text == "".join(STORY[:120])
    assert message.stop_reason == "max_tokens"
    assert [(seam.at, seam.why) for seam in message.seams] == [
        (len("".join(STORY[:tokens])), "max_tokens") for tokens in (40, 80)
    ]
    assert message.usage.output_tokens == 120
    assert told(events).content == message.content


def test_a_continued_answer_ends_where_the_model_ends_it(client: Any) -> None:
    message = client.create(continue_at_max_tokens=9, **{**ASK, "max_tokens": 80})
    assert (message.text, message.stop_reason) == (STORY_REPLY, "end_turn")
    assert len(message.seams) == 2


def test_both_in_one_call(client: Any, relay: Severing) -> None:
    relay.sever(30)
    more = {"resume": 1, "continue_at_max_tokens": 1}
    message = client.create(**more, **{**ASK, "max_tokens": 60})
    assert message.text == "".join(STORY[:120])
    assert [seam.why for seam in message.seams] == ["interrupted", "max_tokens"]


@pytest.mark.parametrize("cut", [40, 41, 42, 43])
def test_a_stop_sequence_across_a_cut(client: Any, relay: Severing, cut: int) -> None:
    """It is found wherever the cut lies, as if there had been none."""
    relay.sever(cut)
    message = client.create(resume=1, stop_sequences=[" 41 42 43"], **ASK)
    assert message.text == "".join(STORY[:41])
    assert message.stop_sequence == " 41 42 43"


@pytest.mark.parametrize("limit", [41, 42, 43])
def test_a_stop_sequence_across_max_tokens(client: Any, limit: int) -> None:
    """There llama-server hands out what it held back, and does not see the whole of it."""
    asked = {**ASK, "max_tokens": limit, "stop_sequences": [" 41 42 43"]}
    message = client.create(continue_at_max_tokens=1, **asked)
    assert message.text == "".join(STORY[:41])
    assert message.stop_sequence == " 41 42 43"


def test_tools_may_be_there_while_the_answer_is_text(client: Any, relay: Severing) -> None:
    relay.sever(12)
    message = client.create(resume=1, tools=[RIVER_LEVEL], **ASK)
    assert message.text == STORY_REPLY


def test_an_answer_that_the_caller_began(client: Any, relay: Severing) -> None:
    relay.sever(12)
    turns = [*ASK["messages"], {"role": "assistant", "content": "".join(STORY[:20])}]
    message = client.create(resume=1, **{**ASK, "messages": turns})
    assert (message.text, len(message.seams)) == (STORY_REPLY, 1)


def test_what_came_is_in_the_error_when_all_is_used_up(client: Any, relay: Severing) -> None:
    relay.sever(20, 31)
    with pytest.raises(StreamInterruptedError) as caught:
        client.create(resume=1, **ASK)
    error = caught.value
    assert error.hint == "not resumed: resume=1 is used up"
    assert error.attempts == 2
    assert error.partial_message is not None
    assert error.partial_message.text == "".join(STORY[:51])
    assert len(error.partial_message.seams) == 1
