"""Prove each rule by which the events of a stream become a message (protocol.md §6, §11).

The events are written out, so that each deviation of a server is a test of its own; what only a
whole message can get wrong, a tool's input above all, is at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import errors
from modelslab_llm._protocol.accumulate import Accumulator
from modelslab_llm._protocol.reader import Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm._protocol.sse import EventDecoder
from modelslab_llm.errors import APIError, StreamInterruptedError
from modelslab_llm.types import (
    CompactionBlock,
    ContentBlockDeltaEvent,
    Event,
    InputJSONDelta,
    Message,
    MessageStopEvent,
    PingEvent,
    RedactedThinkingBlock,
    ServerToolResultBlock,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
    UnknownBlock,
    UnknownDelta,
    UnknownEvent,
    content,
)

Json = dict[str, Any]

# httpx's own generators, not the package's, are left unfinished when a stream ends before its body.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(httpx\.|variants\.Chunks):ResourceWarning"
)


# The events of a stream


def started(**message: Any) -> Json:
    return {"type": "message_start", "message": {"id": "msg_1", "model": "served", **message}}


def begin(index: int, kind: str, **block: Any) -> Json:
    return {
        "type": "content_block_start",
        "index": index,
        "content_block": {"type": kind, **block},
    }


def delta(index: int, kind: str, **fields: Any) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(index: int, piece: str | None) -> Json:
    return delta(index, "text_delta", text=piece)


def arguments(index: int, piece: str | None) -> Json:
    return delta(index, "input_json_delta", partial_json=piece)


def close(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


def ended(stop_reason: str | None = "end_turn", usage: Any = None, **fields: Any) -> Json:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, **fields},
        "usage": usage,
    }


STOP: Json = {"type": "message_stop"}
PING: Json = {"type": "ping"}


def sse(*events: Json | str) -> bytes:
    """Return a stream without `event:` lines; a text is data as it stands."""
    data = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {line}\n\n" for line in data).encode()


def event_failure(payload: object) -> APIError:
    return from_payload(payload, {}, now=0.0, in_stream=True)


def read_bytes(body: bytes) -> tuple[list[Event], Message, APIError | None]:
    reader = Reader("asked", 1 << 20, event_failure)
    events: list[Event] = []
    try:
        events += reader.feed(body)
        if not reader.message.complete:
            events += reader.end()
    except APIError as failure:
        return events, reader.message.message(), failure
    return events, reader.message.message(), None


def read(*events: Json | str) -> Message:
    """Return the message of a stream that completes."""
    _, message, failure = read_bytes(sse(*events))
    if failure:
        raise failure
    return message


def read_broken(*events: Json | str) -> tuple[Message, APIError]:
    """Return the partial message of a stream that does not complete, and its error."""
    _, message, failure = read_bytes(sse(*events))
    assert failure is not None
    return message, failure


def blocks(message: Message) -> list[Any]:
    return list(message.to_param()["content"])


# 1: the start of the message


def test_the_start_is_copied() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = read(started(role="assistant", type="message", usage=usage, extra=[1]), STOP)
    assert (message.id, message.model, message.role) == ("msg_1", "served", "assistant")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 1)
    assert message.model_extra == {"extra": [1]}


def test_null_fields_of_the_start_are_defaults() -> None:
    nothing = dict.fromkeys(
        ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage")
    )
    message = read(started(**nothing), text(0, "Hi"), STOP)
    assert (message.id, message.type, message.role) == ("", "message", "assistant")
    assert message.model == "asked"
    assert message.text == "Hi"
    assert message.usage.model_fields_set == set()


@pytest.mark.parametrize(
    "start",
    [
        {"type": "message_start", "message": {}},
        {"type": "message_start", "message": None},
        {"type": "message_start"},
    ],
    ids=["empty", "null", "missing"],
)
def test_a_start_without_a_message(start: Json) -> None:
    message = read(start, text(0, "Hi"), ended(), STOP)
    assert (message.id, message.model, message.text) == ("", "asked", "Hi")


def test_a_stream_without_a_start() -> None:  # s10: llama-server, half a character first
    message = read(begin(0, "text", text=""), text(0, "é"), close(0), ended(), STOP)
    assert (message.id, message.model, message.role) == ("", "asked", "assistant")
    assert message.text == "é"
    assert message.stop_reason == "end_turn"


def test_a_late_start_still_counts() -> None:
    message = read(begin(0, "text"), text(0, "a"), started(), text(0, "b"), STOP)
    assert (message.id, message.text) == ("msg_1", "ab")


def test_the_same_start_twice_is_one() -> None:
    message = read(started(), text(0, "a"), started(), text(0, "b"), STOP)
    assert message.text == "ab"


def test_a_second_message_is_an_error() -> None:
    partial, failure = read_broken(started(), text(0, "a"), started(id="msg_2"), text(0, "b"), STOP)
    assert type(failure) is StreamInterruptedError
    assert (partial.id, partial.text) == ("msg_1", "a")


def test_content_of_the_start_is_kept() -> None:
    message = read(started(content=[{"type": "text", "text": "Pre"}]), text(0, "fix"), STOP)
    assert message.text == "Prefix"


def test_usage_beside_the_message() -> None:  # some proxies
    message = read({**started(), "usage": {"input_tokens": 7}}, STOP)
    assert message.usage.input_tokens == 7


@pytest.mark.parametrize("usage", [None, [], 7])
def test_odd_usage_beside_the_message_is_ignored(usage: Any) -> None:
    message = read({**started(usage={"input_tokens": 7}), "usage": usage}, STOP)
    assert message.usage.input_tokens == 7


# 2: blocks by index


def test_parallel_tools_interleave() -> None:  # s23: new-api
    message = read(
        started(),
        begin(0, "tool_use", id="call_a", name="tide", input={}),
        begin(1, "tool_use", id="call_b", name="wind", input={}),
        arguments(0, '{"port":'),
        arguments(1, '{"port":"V'),
        arguments(0, '"Brest"}'),
        arguments(1, 'igo"}'),
        close(1),
        close(0),
        ended("tool_use"),
        STOP,
    )
    assert [(call.id, call.input) for call in message.tool_uses] == [
        ("call_a", {"port": "Brest"}),
        ("call_b", {"port": "Vigo"}),
    ]


def test_content_is_in_order_of_index() -> None:
    message = read(begin(7, "text"), begin(0, "text"), text(7, "second"), text(0, "first "), STOP)
    assert [block["text"] for block in blocks(message)] == ["first ", "second"]


def test_a_second_start_of_an_open_block_is_ignored() -> None:
    message = read(begin(0, "text"), text(0, "a"), begin(0, "text"), text(0, "b"), STOP)
    assert blocks(message) == [{"type": "text", "text": "ab"}]


def test_a_second_start_of_an_open_call_is_ignored() -> None:
    start = begin(0, "tool_use", id="call_a", name="tide")
    message = read(start, arguments(0, '{"a":'), start, arguments(0, "1}"), STOP)
    assert [call.input for call in message.tool_uses] == [{"a": 1}]


def test_a_second_start_of_a_closed_block_is_a_new_block() -> None:
    message = read(
        begin(0, "text"), text(0, "a"), close(0), begin(0, "text"), text(0, "b"), close(0), STOP
    )
    assert [block["text"] for block in blocks(message)] == ["a", "b"]


def test_a_start_with_another_id_is_a_new_block() -> None:
    message = read(
        begin(0, "tool_use", id="call_a", name="tide"),
        arguments(0, '{"n":1}'),
        begin(0, "tool_use", id="call_b", name="tide"),
        arguments(0, '{"n":2}'),
        ended("tool_use"),
        STOP,
    )
    assert [(call.id, call.input) for call in message.tool_uses] == [
        ("call_a", {"n": 1}),
        ("call_b", {"n": 2}),
    ]


def test_an_index_used_again_by_another_kind() -> None:  # llama-server: text after a tool call
    message = read(
        begin(0, "thinking", thinking="Hm."),
        begin(1, "tool_use", id="call_a", name="tide"),
        arguments(1, "{}"),
        begin(1, "text", text=""),
        text(1, "Looking."),
        begin(2, "text", text="End."),
        close(0),
        close(1),
        close(1),
        close(2),
        STOP,
    )
    assert [block["type"] for block in blocks(message)] == ["thinking", "tool_use", "text", "text"]
    assert message.text == "Looking.End."
    assert message.tool_uses[0].input_complete


def test_overlapping_blocks_and_late_stops() -> None:  # llama-server, s08
    message = read(
        begin(0, "thinking", thinking=""),
        delta(0, "thinking_delta", thinking="Hm."),
        begin(1, "text", text=""),
        text(1, "Ten."),
        delta(0, "signature_delta", signature=""),
        close(0),
        close(1),
        ended(),
        STOP,
    )
    assert blocks(message) == [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "text", "text": "Ten."},
    ]


def test_a_stop_for_nothing_is_ignored() -> None:
    assert read(close(3), text(0, "a"), close(0), close(0), STOP).text == "a"


# 3: deltas without a start, seeds, nulls

CITATION = {"type": "page_location", "cited_text": "x", "start_page_number": 2}


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (text(0, "Hi"), {"type": "text", "text": "Hi"}),
        (
            delta(0, "thinking_delta", thinking="Hm."),
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
        ),
        (
            delta(0, "signature_delta", signature="c2ln"),
            {"type": "thinking", "thinking": "", "signature": "c2ln"},
        ),
        (
            arguments(0, '{"a":1}'),
            {"type": "tool_use", "input": {}},
        ),
        (delta(0, "compaction_delta", content="So far."), CompactionBlock(content="So far.")),
        (
            delta(0, "citations_delta", citation=CITATION),
            TextBlock.model_validate({"citations": [CITATION]}),
        ),
    ],
    ids=lambda value: value["delta"]["type"] if "delta" in value else "",
)
def test_a_delta_without_a_start_makes_its_block(sent: Json, wanted: Any) -> None:  # s28
    (block,) = read(started(), sent, close(0), ended(), STOP).content
    wanted = wanted if isinstance(wanted, dict) else wanted.to_param()
    found = block.to_param()
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", [{}, {"name": ""}, {"name": None}], ids=str)
def test_a_call_without_a_name_is_never_complete(name: Json, whole: bool) -> None:
    if whole:
        block = {"type": "tool_use", "id": "a", "input": {"n": 1}} | name
        message = Message.model_validate({"content": [block]})
    else:
        message = read(begin(0, "tool_use", id="a", **name), arguments(0, '{"n": 1}'), STOP)
    (call,) = message.tool_uses
    assert (call.input, call.input_complete, call.raw_input) == ({}, False, '{"n": 1}')


def test_a_call_whose_start_is_lost_is_not_complete() -> None:
    (call,) = read(arguments(0, '{"n": 1}'), close(0), STOP).tool_uses
    assert (call.input, call.input_complete, call.raw_input) == ({}, False, '{"n": 1}')


def test_text_in_the_start_counts() -> None:  # s30
    message = read(started(), begin(0, "text", text="The "), text(0, "end"), close(0), STOP)
    assert message.text == "The end"


def test_thinking_in_the_start_counts() -> None:
    message = read(
        begin(0, "thinking", thinking="H", signature="seed"),
        delta(0, "thinking_delta", thinking="m."),
        STOP,
    )
    assert blocks(message) == [{"type": "thinking", "thinking": "Hm.", "signature": "seed"}]


def test_null_strings_are_empty() -> None:
    message = read(
        begin(0, "text", text=None),
        text(0, None),
        text(0, "a"),
        begin(1, "thinking", thinking=None, signature=None),
        delta(1, "thinking_delta", thinking=None),
        delta(1, "signature_delta", signature=None),
        begin(2, "tool_use", id=None, name=None, input=None),
        arguments(2, None),
        close(2),
        STOP,
    )
    assert blocks(message) == [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "tool_use", "id": "", "name": "", "input": {}},
    ]


def test_a_delta_unlike_its_open_block_is_not_lost() -> None:
    message = read(
        begin(0, "tool_use", id="call_a", name="tide"), arguments(0, "{}"), text(0, "Wait."), STOP
    )
    assert [block["type"] for block in blocks(message)] == ["tool_use", "text"]
    assert message.text == "Wait."


@pytest.mark.parametrize(
    ("open_kind", "sent", "kinds"),
    [
        ("thinking", text(0, "Hi"), ["thinking", "text"]),
        ("thinking", arguments(0, "{}"), ["thinking", "tool_use"]),
        ("text", delta(0, "thinking_delta", thinking="Hm."), ["text", "thinking"]),
        ("text", delta(0, "signature_delta", signature="s"), ["text", "thinking"]),
        ("text", arguments(0, "{}"), ["text", "tool_use"]),
        ("tool_use", delta(0, "citations_delta", citation=CITATION), ["tool_use", "text"]),
        ("redacted_thinking", text(0, "Hi"), ["redacted_thinking", "text"]),
    ],
)
def test_each_delta_unlike_its_open_block(open_kind: str, sent: Json, kinds: list[str]) -> None:
    content = read(begin(0, open_kind), sent, STOP).content
    assert [block.type for block in content] == kinds


@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_a_missing_index_is_0(index: Json) -> None:
    events = [begin(0, "tool_use", name="b"), arguments(0, '{"a":'), arguments(0, "1}"), close(0)]
    for event in events:
        del event["index"]
        event |= index
    reader = Reader("asked", 1 << 20, event_failure)
    list(reader.feed(sse(begin(1, "text"), *events)))
    call, after = reader.message.message().content
    assert (call.to_param()["input"], after.type) == ({"a": 1}, "text")
    list(reader.feed(sse(begin(0, "tool_use"))))  # a new block: the first one was closed
    assert len(reader.message.message().tool_uses) == 2


# 4: a tool's arguments


def call_of(*pieces: str | None, **block: Any) -> ToolUseBlock:
    """Return the call that a stream with these pieces of arguments makes."""
    message = read(
        begin(0, "tool_use", id="call_a", name="tide", **block),
        *(arguments(0, piece) for piece in pieces),
        close(0),
        ended("tool_use"),
        STOP,
    )
    (call,) = message.tool_uses
    return call


@pytest.mark.parametrize(
    ("pieces", "block", "wanted"),
    [
        (["", '{"port": "Bre', 'st", "day": ', "3}"], {"input": {}}, {"port": "Brest", "day": 3}),
        (['{"port":"Brest"}'], {}, {"port": "Brest"}),
        (["{", "}"], {}, {}),
        (["{}"], {"input": {"a": 1}}, {}),
        ([], {}, {}),
        ([], {"input": {}}, {}),
        ([], {"input": {"a": 1}}, {"a": 1}),
        (["", None, " "], {"input": {"a": 1}}, {"a": 1}),
        ([], {"input": '{"a": 1}'}, {"a": 1}),
        (['{"é": "\\u00e9🪁"}'], {}, {"é": "é🪁"}),
    ],
)
def test_whole_arguments(pieces: list[str | None], block: Json, wanted: Json) -> None:
    call = call_of(*pieces, **block)
    assert call.input == wanted
    assert call.input_complete
    assert call.raw_input is None
    assert call.to_param()["input"] == wanted


BROKEN = {
    "cut in a string": '{"port": "Bre',
    "cut in a number": '{"day": 1',
    "cut before the end": '{"port": {"a": 1}',
    "not JSON": "port=Brest",
    "single quotes": "{'port': 'Brest'}",
    "two objects": '{"a": 1}{"a": 2}',
    "trailing comma": '{"a": 1,}',
    "NaN": '{"n": NaN}',
    "Infinity": '{"n": [-Infinity]}',
    "a name twice": '{"n": 1, "n": 1}',
    "a name twice inside": '{"a": {"n": 1, "n": 2}}',
    "a list": "[1]",
    "a string": '"Brest"',
    "null": "null",
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("stop_reason", ["tool_use", "max_tokens"])
def test_broken_arguments_are_marked_and_kept(raw: str, stop_reason: str) -> None:  # s14
    start = begin(0, "tool_use", id="call_a", name="tide", input={})
    middle = len(raw) // 2
    pieces = (arguments(0, raw[:middle]), arguments(0, raw[middle:]))
    (call,) = read(start, *pieces, close(0), ended(stop_reason), STOP).tool_uses
    assert call.input == {}
    assert not call.input_complete
    assert call.raw_input == raw


def test_arguments_may_be_marked_without_a_stop() -> None:
    (call,) = read(begin(0, "tool_use"), arguments(0, '{"a'), ended("max_tokens"), STOP).tool_uses
    assert (call.input_complete, call.raw_input) == (False, '{"a')


def test_whole_arguments_need_no_stop() -> None:
    (call,) = read(begin(0, "tool_use", name="b"), arguments(0, '{"a": 1}'), STOP).tool_uses
    assert (call.input_complete, call.input) == (True, {"a": 1})


def test_a_call_is_incomplete_while_it_is_open() -> None:
    accumulator = Reader("asked", 1 << 20, event_failure)
    list(accumulator.feed(sse(begin(0, "tool_use", id="a", name="b", input={}))))
    (call,) = accumulator.message.message().tool_uses
    assert not call.input_complete
    list(accumulator.feed(sse(arguments(0, '{"a": '))))
    (call,) = accumulator.message.message().tool_uses
    assert (call.input, call.input_complete, call.raw_input) == ({}, False, '{"a": ')
    list(accumulator.feed(sse(arguments(0, "1}"), close(0))))
    (call,) = accumulator.message.message().tool_uses
    assert (call.input, call.input_complete) == ({"a": 1}, True)


def test_a_closed_call_without_arguments_is_complete() -> None:
    reader = Reader("asked", 1 << 20, event_failure)
    list(reader.feed(sse(begin(0, "tool_use", id="a", name="b", input={"n": 1}), close(0))))
    (call,) = reader.message.message().tool_uses
    assert (call.input, call.input_complete) == ({"n": 1}, True)


def test_a_call_cut_by_the_end_of_the_stream_is_incomplete() -> None:
    partial, _ = read_broken(begin(0, "tool_use", id="a", name="b", input={}))
    assert not partial.tool_uses[0].input_complete
    partial, _ = read_broken(begin(0, "tool_use"), arguments(0, '{"n": 1'))
    assert (partial.tool_uses[0].input, partial.tool_uses[0].raw_input) == ({}, '{"n": 1')


def test_a_servers_own_calls_follow_the_same_rules() -> None:
    message = read(
        begin(0, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        arguments(0, '{"query":'),
        arguments(0, '"herons"}'),
        close(0),
        STOP,
    )
    assert blocks(message)[0]["input"] == {"query": "herons"}
    assert message.tool_uses == []  # not one of the caller's tools


# 5: signatures, and kinds of blocks, deltas and events that are unknown


def test_a_signature_is_set_not_appended() -> None:
    message = read(
        begin(0, "thinking", thinking="", signature="seed"),
        delta(0, "signature_delta", signature="one"),
        delta(0, "signature_delta", signature="two"),
        STOP,
    )
    assert blocks(message) == [{"type": "thinking", "thinking": "", "signature": "two"}]


def test_an_empty_signature_is_a_signature() -> None:
    message = read(
        begin(0, "thinking", thinking="Hm.", signature="seed"),
        delta(0, "signature_delta", signature=""),
        STOP,
    )
    assert blocks(message)[0]["signature"] == ""


def test_an_unknown_delta_changes_nothing_and_is_handed_out() -> None:
    odd = delta(0, "sparkle_delta", sparkle=[1], text="not text")
    stream = sse(begin(0, "text"), text(0, "a"), odd, text(0, "b"), delta(9, "sparkle_delta"), STOP)
    events, message, _ = read_bytes(stream)
    assert blocks(message) == [{"type": "text", "text": "ab"}]
    event = events[2]
    assert isinstance(event, ContentBlockDeltaEvent)
    assert isinstance(event.delta, UnknownDelta)
    assert event.delta.type == "sparkle_delta"
    assert event.delta.model_extra == {"sparkle": [1], "text": "not text"}


KNOWN_BLOCKS = (TextBlock, ThinkingBlock, ToolUseBlock, RedactedThinkingBlock, CompactionBlock)


def test_an_unknown_block_is_kept_as_it_came() -> None:
    sent = {"hologram": {"depth": 3}, "text": None, "id": 5}
    message = read(started(), begin(0, "hologram", **sent), close(0), ended(), STOP)
    (block,) = message.content
    assert isinstance(block, UnknownBlock)
    assert not isinstance(block, KNOWN_BLOCKS)
    assert block.type == "hologram"
    assert block.hologram == {"depth": 3}
    assert block.to_param() == {"type": "hologram", **sent}
    assert message.text == ""


def test_an_unknown_kind_of_call_gets_its_arguments() -> None:
    message = read(
        begin(0, "mcp_tool_use", id="mcp_1", name="tide", input={}),
        arguments(0, '{"port":'),
        arguments(0, '"Brest"}'),
        close(0),
        STOP,
    )
    assert blocks(message) == [
        {"type": "mcp_tool_use", "id": "mcp_1", "name": "tide", "input": {"port": "Brest"}}
    ]


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"type": ""}])
def test_a_block_without_a_kind_is_unknown(kind: Json) -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"a": 1, **kind}}
    (block,) = read(start, STOP).content
    assert isinstance(block, UnknownBlock)
    assert block.to_param() == {"type": "", "a": 1}


def test_an_unknown_event_is_handed_out() -> None:
    odd = {"type": "message_annotation", "note": {"a": 1}}
    events, message, _ = read_bytes(sse(started(), odd, text(0, "a"), STOP))
    assert isinstance(events[1], UnknownEvent)
    assert events[1].type == "message_annotation"
    assert events[1].model_extra == {"note": {"a": 1}}
    assert message.text == "a"


def test_unknown_fields_of_blocks_are_kept() -> None:
    message = read(begin(0, "text", text="a", mood="calm"), text(0, "b"), STOP)
    assert blocks(message) == [{"type": "text", "text": "ab", "mood": "calm"}]


def test_citations_are_appended() -> None:
    odd = {"type": "star_location", "star": 7}
    message = read(
        begin(0, "text", text="", citations=[CITATION]),
        text(0, "Cited."),
        delta(0, "citations_delta", citation=CITATION),
        delta(0, "citations_delta", citation=odd),
        STOP,
    )
    assert blocks(message) == [
        {"type": "text", "text": "Cited.", "citations": [CITATION, CITATION, odd]}
    ]


# 6: the end of the message, and usage


def test_a_later_null_takes_no_stop_reason_back() -> None:  # s29
    message = read(
        started(),
        text(0, "one,"),
        ended("stop_sequence", stop_sequence=" three"),
        ended(None, stop_sequence=None),
        STOP,
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " three")


def test_a_later_stop_reason_wins() -> None:
    assert read(ended("end_turn"), ended("tool_use"), STOP).stop_reason == "tool_use"


@pytest.mark.parametrize("reason", ["stop", "length", "function_call", "load"])
def test_any_stop_reason_is_kept(reason: str) -> None:
    assert read(started(), ended(reason), STOP).stop_reason == reason


def test_end_turn_does_not_hide_a_call() -> None:  # s19: LiteLLM
    message = read(
        started(),
        begin(0, "tool_use", id="call_a", name="tide", input={}),
        arguments(0, '{"port":"Brest"}'),
        close(0),
        ended("end_turn"),
        STOP,
    )
    assert message.stop_reason == "end_turn"
    assert [call.input for call in message.tool_uses] == [{"port": "Brest"}]


def test_details_of_the_end_are_kept() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": None}
    message = read(started(), ended("refusal", stop_details=details, container={"id": "c"}), STOP)
    assert message.stop_details is not None
    assert message.stop_details.category == "cyber"
    assert message.container == {"id": "c"}


def test_unknown_fields_of_the_end_are_kept() -> None:
    end = {**ended("end_turn", mood="calm"), "context_management": {"applied_edits": []}}
    message = read(started(), end, STOP)
    assert message.model_extra == {"mood": "calm", "context_management": {"applied_edits": []}}


@pytest.mark.parametrize(
    "field",
    [
        {"usage": {"output_tokens": 5}},
        {"content": []},
        {"type": "message_delta"},
        {"id": "other"},
        {"role": "user"},
        {"model": 5},
    ],
    ids=lambda field: next(iter(field)),
)
def test_unknown_fields_of_the_end_replace_nothing(field: Json) -> None:
    end = ended("end_turn")
    plain = read(started(), text(0, "Kept."), end, STOP)
    end["delta"] |= field
    message = read(started(), text(0, "Kept."), end, STOP)
    names = ("id", "type", "role", "model", "content", "stop_reason")
    assert [getattr(message, n) for n in names] == [getattr(plain, n) for n in names]
    assert type(message.usage) is type(plain.usage)


USAGE = [
    # in message_start, in each message_delta, what is to be read
    ({"input_tokens": 31, "output_tokens": 2}, [{"output_tokens": 17}], {"output_tokens": 17}),
    ({"input_tokens": 31}, [{"output_tokens": 17}], {"input_tokens": 31, "output_tokens": 17}),
    ({"output_tokens": 5}, [{"output_tokens": 9}, {"output_tokens": 12}], {"output_tokens": 12}),
    ({"input_tokens": 9}, [{"input_tokens": 212}], {"input_tokens": 212}),  # Ollama's estimate
    (
        {"input_tokens": 0, "output_tokens": 0},  # LiteLLM
        [{"input_tokens": 40, "output_tokens": 8}],
        {"input_tokens": 40, "output_tokens": 8},
    ),
    ({"input_tokens": 31}, [{"input_tokens": 0}], {"input_tokens": 31}),
    ({"input_tokens": 31}, [{"input_tokens": None}], {"input_tokens": 31}),
    ({"input_tokens": 31}, [None], {"input_tokens": 31}),
    ({"input_tokens": 31, "output_tokens": None}, [{}], {"input_tokens": 31}),
    ({"output_tokens": 5}, [{"output_tokens": 3}], {"output_tokens": 3}),  # a total, no maximum
    ({"input_tokens": 0}, [{"input_tokens": 0}], {"input_tokens": 0}),
    (None, [{"output_tokens": 3}], {"output_tokens": 3}),
    (None, [], {}),
    (
        {"cache_read_input_tokens": 20, "input_tokens": 1, "output_tokens": 0},
        [{"output_tokens": 4}],
        {"cache_read_input_tokens": 20, "input_tokens": 1, "output_tokens": 4},
    ),
    ({"iterations": 2}, [{"speed": "fast"}], {"iterations": 2, "speed": "fast"}),
    (
        {"claude_cache_creation_5_m_tokens": 4},
        [{"claude_cache_creation_5_m_tokens": 0}],
        {"claude_cache_creation_5_m_tokens": 4},
    ),
    ({"service_tier": "standard"}, [{"output_tokens": 1}], {"service_tier": "standard"}),
]


@pytest.mark.parametrize(("at_start", "at_end", "wanted"), USAGE)
def test_usage_is_merged(at_start: Any, at_end: list[Any], wanted: Json) -> None:
    message = read(started(usage=at_start), *(ended(usage=usage) for usage in at_end), STOP)
    found = message.usage.model_dump(exclude_unset=True)
    assert {name: found.get(name) for name in wanted} == wanted
    assert None not in found.values()


def test_counters_that_were_not_sent_are_0_and_unset() -> None:
    usage = read(started(usage={"input_tokens": 1}), ended(usage={"output_tokens": 4}), STOP).usage
    assert usage.cache_creation_input_tokens == 0
    assert usage.cache_read_input_tokens == 0
    assert usage.model_fields_set == {"input_tokens", "output_tokens"}
    nothing = read(started(), STOP).usage
    assert (nothing.input_tokens, nothing.output_tokens) == (0, 0)


def test_nested_usage() -> None:
    created = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0}
    tools = {"web_search_requests": 1, "web_fetch_requests": None}
    message = read(
        started(usage={"cache_creation": created, "server_tool_use": None}),
        ended(usage={"server_tool_use": tools, "output_tokens_details": {"thinking_tokens": 9}}),
        STOP,
    )
    usage = message.usage
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 100
    assert usage.server_tool_use is not None
    assert usage.server_tool_use.web_search_requests == 1
    assert usage.server_tool_use.web_fetch_requests == 0
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 9


def test_nested_counters_that_were_not_sent_are_0() -> None:
    names = ("cache_creation", "server_tool_use", "output_tokens_details")
    usage = read(started(usage={name: {} for name in names}), STOP).usage
    for name in names:
        assert set(dict(getattr(usage, name)).values()) == {0}


@pytest.mark.parametrize("odd", [5, "n/a", [], None])
def test_usage_that_is_not_an_object_is_none(odd: Any) -> None:
    usage = read(started(usage=odd), text(0, "Hi"), ended(usage=odd), STOP).usage
    assert (usage.input_tokens, usage.model_fields_set) == (0, set())


@pytest.mark.parametrize("odd", [12.5, "n/a", [], {}])
def test_a_counter_that_is_not_a_number_does_not_break_the_stream(odd: Any) -> None:
    message = read(
        started(usage={"input_tokens": 31, "output_tokens": 2}),
        text(0, "Whole."),
        ended(usage={"input_tokens": odd, "output_tokens": 17}),
        STOP,
    )
    assert message.text == "Whole."
    assert (message.usage.input_tokens, message.usage.output_tokens) == (31, 17)


@pytest.mark.parametrize("odd", [12.5, "n/a", [], {}])
def test_a_counter_that_is_not_a_number_does_not_break_a_message(odd: Any) -> None:
    message = message_of(usage={"input_tokens": odd, "output_tokens": 17})
    assert (message.usage.input_tokens, message.usage.output_tokens) == (0, 17)
    assert "input_tokens" not in message.usage.model_fields_set


# 7: the end of the stream


def begun(**block: Any) -> Json:
    return {"type": "content_block_start", "index": 0, "content_block": block}


@pytest.mark.parametrize(
    "first",
    [
        text(0, "a"),
        begun(type="text", text="a"),
        begun(type="tool_use", id="call_a", name="f"),
        begun(type="redacted_thinking", data="x"),
        begun(type="of another kind"),
    ],
)
def test_content_begins_with_more_than_an_empty_block(first: Json) -> None:
    reader = Reader("asked", 1 << 20, event_failure)
    list(reader.feed(sse(PING, started(), begun(type="text", text=""), PING)))
    assert not reader.message.has_content  # so far a failed call may be sent again
    list(reader.feed(sse(first)))
    assert reader.message.has_content


def test_a_last_event_needs_no_blank_line() -> None:
    body = sse(started(), text(0, "Hi"), STOP)
    events, message, failure = read_bytes(body.rstrip(b"\n"))
    assert failure is None
    assert message.text == "Hi"
    assert isinstance(events[-1], MessageStopEvent)


def test_message_stop_without_message_delta() -> None:  # s22: new-api
    message = read(started(usage={"input_tokens": 9, "output_tokens": 1}), text(0, "Hi"), STOP)
    assert (message.text, message.stop_reason) == ("Hi", None)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 1)


def test_the_end_of_the_body_after_a_stop_reason() -> None:  # s31
    message = read(started(), text(0, "Hi"), ended("end_turn"))
    assert (message.text, message.stop_reason) == ("Hi", "end_turn")


def test_done_after_a_stop_reason() -> None:
    assert read(started(), text(0, "Hi"), ended("end_turn"), "[DONE]").text == "Hi"


TRUNCATED: dict[str, list[Json | str]] = {
    "nothing": [],
    "pings": [PING, PING],
    "start": [started()],
    "text": [started(), text(0, "There were")],
    "closed block": [started(), text(0, "There were"), close(0)],
    "stop_reason null": [started(), text(0, "There were"), ended(None)],
    "done": [started(), text(0, "There were"), "[DONE]"],
}


@pytest.mark.parametrize("events", TRUNCATED.values(), ids=TRUNCATED)
def test_a_truncated_stream_is_an_error(events: list[Json | str]) -> None:  # s21
    partial, failure = read_broken(*events)
    assert type(failure) is StreamInterruptedError
    assert partial.text == ("There were" if text(0, "There were") in events else "")
    assert partial.stop_reason is None


def test_nothing_is_read_after_message_stop() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": "Late."}}
    events, message, failure = read_bytes(
        sse(started(), text(0, "Hi"), STOP, text(0, " no"), error, "not JSON")
    )
    assert failure is None
    assert message.text == "Hi"
    assert isinstance(events[-1], MessageStopEvent)


ERROR = {"type": "overloaded_error", "message": "Overloaded"}
ERROR_EVENTS = {
    "wrapped": f"event: error\ndata: {json.dumps({'type': 'error', 'error': ERROR})}\n\n",
    "without its name": f"data: {json.dumps({'type': 'error', 'error': ERROR})}\n\n",
    "unnamed": f"data: {json.dumps({'error': ERROR})}\n\n",  # s25
    "unnamed, then done": f"data: {json.dumps({'error': ERROR})}\n\ndata: [DONE]\n\n",
    "bare": f"event: error\ndata: {json.dumps(ERROR)}\n\n",  # s11
    "bare without its name": f"data: {json.dumps(ERROR)}\n\n",
    "no blank line": f"event: error\ndata: {json.dumps({'type': 'error', 'error': ERROR})}",
}


@pytest.mark.parametrize("event", ERROR_EVENTS.values(), ids=ERROR_EVENTS)
def test_an_error_event_in_any_shape(event: str) -> None:
    body = sse(started(), text(0, "The first")) + event.encode()
    _, partial, failure = read_bytes(body)
    assert type(failure) is errors.OverloadedError
    assert (failure.type, failure.message) == ("overloaded_error", "Overloaded")
    assert failure.in_stream
    assert partial.text == "The first"


def test_an_error_event_that_is_not_json() -> None:
    _, _, failure = read_bytes(b"event: error\ndata: upstream went away\n\n")
    assert isinstance(failure, errors.InternalServerError)
    assert failure.message == "upstream went away"


def test_an_error_after_a_stop_reason_is_an_error() -> None:
    partial, failure = read_broken(started(), text(0, "Hi"), ended(), {"error": ERROR})
    assert isinstance(failure, errors.OverloadedError)
    assert partial.stop_reason == "end_turn"


def test_a_null_error_is_not_an_error() -> None:
    message = read({**started(), "error": None}, {"type": "note", "error": None}, ended(), STOP)
    assert message.stop_reason == "end_turn"


UNREADABLE = {
    "half an event": '{"type":"content_block_delta","index":0,"del',
    "a list": "[1, 2]",
    "words around JSON": 'so {"type":"ping"}',
    "too deep": "[" * 100_000,
    "wrong form": '{"type":"content_block_delta","index":"zero","delta":{"type":"text_delta"}}',
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_event_is_an_error(data: str) -> None:
    partial, failure = read_broken(started(), text(0, "So far"), data, text(0, " no"), STOP)
    assert type(failure) is StreamInterruptedError
    assert partial.text == "So far"


def test_bytes_that_are_not_utf8_are_an_error() -> None:
    _, partial, failure = read_bytes(
        sse(text(0, "So far")) + sse(text(0, "é")).replace(b"\\u00e9", b"\xe9")
    )
    assert type(failure) is StreamInterruptedError
    assert partial.text == "So far"


@pytest.mark.parametrize("first", [b"data", b"event: ping\ndata"])
def test_a_byte_order_mark_is_not_part_of_the_first_event(first: bytes) -> None:
    body = b"\xef\xbb\xbf" + first + b': {"type":"ping"}\n\n' + sse(started(), STOP)
    events, _, failure = read_bytes(body)
    assert failure is None
    assert [event.type for event in events] == ["ping", "message_start", "message_stop"]


def test_what_is_not_an_event_is_skipped() -> None:
    body = (
        b": PING\n\n:\n\n: OPENROUTER PROCESSING\n\nevent: ping\n\ndata:\n\ndata\n\nid: 7\n\n"
        b"retry: 10\n\nunknown: x\n\n\n\n" + sse(started(), text(0, "Hi"), STOP)
    )
    events, message, failure = read_bytes(body)
    assert (len(events), message.text, failure) == (3, "Hi", None)


def test_the_type_may_be_in_the_event_line_alone() -> None:
    named = [started(), begin(0, "text"), text(0, "Hi"), close(0), ended(), PING, STOP]
    body = ""
    for event in named:
        fields = {name: value for name, value in event.items() if name != "type"}
        body += f"event: {event['type']}\ndata: {json.dumps(fields)}\n\n"
    events, message, failure = read_bytes(body.encode())
    assert failure is None
    assert [event.type for event in events] == [event["type"] for event in named]
    assert (message.id, message.text, message.stop_reason) == ("msg_1", "Hi", "end_turn")


def test_the_type_in_the_data_beats_the_event_line() -> None:
    events, _, _ = read_bytes(b'event: message_stop\ndata: {"type":"ping"}\n\n' + sse(STOP))
    assert [type(event) for event in events] == [PingEvent, MessageStopEvent]


# 8: leaving early


def streaming(variant: Sync | Async, body: Chunks) -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    return variant.client(
        handler=handler, api_key="test-key-0000", base_url="http://h.invalid", max_retries=0
    )


ASK: Json = {"model": "asked", "max_tokens": 9, "messages": [{"role": "user", "content": "Go"}]}


def test_a_snapshot_does_not_change(variant: Sync | Async) -> None:
    body = Chunks([sse(started(), text(0, "one ")), sse(text(0, "two")), sse(ended(), STOP)])
    with streaming(variant, body).stream(**ASK) as stream:
        assert stream.next() is not None
        assert stream.next() is not None
        before = stream.stream.current_message
        assert stream.message().text == "one two"
    assert (before.text, before.stop_reason) == ("one ", None)


# 9, no stream at all, is in the matrix of faults.


# 10: blocks that come whole


@pytest.mark.parametrize(
    ("kind", "fields", "model"),
    [
        ("redacted_thinking", {"data": "eA=="}, RedactedThinkingBlock),
        *(
            (kind, {"tool_use_id": "s", "content": [{"a": None}]}, ServerToolResultBlock)
            for kind in (
                "web_search_tool_result",
                "web_fetch_tool_result",
                "code_execution_tool_result",
                "bash_code_execution_tool_result",
                "text_editor_code_execution_tool_result",
                "tool_search_tool_result",
            )
        ),
        ("container_upload", {"file_id": "f"}, content.ContainerUploadBlock),
        ("compaction", {"content": "So far."}, CompactionBlock),
    ],
)
def test_a_block_without_deltas(kind: str, fields: Json, model: type[Any]) -> None:
    (block,) = read(begin(0, kind, **fields), close(0), STOP).content
    assert type(block) is model
    assert block.to_param() == {"type": kind, **fields}


def test_a_summary_in_pieces() -> None:
    message = read(
        begin(0, "compaction", content=None),
        delta(0, "compaction_delta", content="So "),
        delta(0, "compaction_delta", content="far."),
        STOP,
    )
    assert blocks(message) == [{"type": "compaction", "content": "So far."}]


def test_empty_text_is_not_sent_back() -> None:  # LiteLLM opens an empty text block first
    message = read(begin(0, "text", text=""), close(0), begin(1, "text"), text(1, "Hi"), STOP)
    assert len(message.content) == 2
    assert blocks(message) == [{"type": "text", "text": "Hi"}]


# Cost


class Piece(str):
    """A piece of text that may be joined, but not added to the earlier text."""

    __slots__ = ()

    def __add__(self, other: str) -> str:
        raise AssertionError("added to another piece: that is quadratic")

    __radd__ = __add__


@pytest.mark.parametrize(
    ("kind", "name", "start"),
    [
        (TextDelta, "text", TextBlock()),
        (ThinkingDelta, "thinking", ThinkingBlock()),
        (InputJSONDelta, "partial_json", ToolUseBlock()),
    ],
)
def test_pieces_are_only_ever_joined(kind: Any, name: str, start: Any) -> None:
    accumulator = Accumulator()
    for piece in ('{"a":', ' "b', '"}'):
        accumulator.add(
            ContentBlockDeltaEvent.model_construct(
                index=0, delta=kind.model_construct(**{name: Piece(piece)})
            )
        )
    (block,) = accumulator.message().content
    assert type(block) is type(start)
    whole = getattr(block, "raw_input" if name == "partial_json" else name)
    assert whole == '{"a": "b"}'


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls of functions, Python's and C's, that some work makes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def long_stream(pieces: int) -> bytes:
    calls = (arguments(1, piece) for piece in ['{"a":"', *["x"] * pieces, '"}'])
    return sse(started(), *[text(0, "x")] * pieces, begin(1, "tool_use"), *calls, close(1), STOP)


def test_the_work_grows_with_the_length() -> None:
    read_bytes(long_stream(1))  # what is built once is built now
    one, four = (calls_of(lambda n=n: read_bytes(long_stream(n))) for n in (200, 800))
    assert four < 4 * one


def test_arguments_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    real = content.read_arguments

    def counting(raw: str) -> Any:
        parsed.append(raw)
        return real(raw)

    monkeypatch.setattr(content, "read_arguments", counting)
    message = read(
        begin(0, "tool_use", name="b"), *[arguments(0, " ")] * 50, arguments(0, "{}"), STOP
    )
    assert message.tool_uses[0].input_complete
    assert parsed == [" " * 50 + "{}"]


class Scanned(bytes):
    """A chunk that counts how many bytes are put together to be searched."""

    total = 0

    def __radd__(self, before: bytes) -> bytes:
        Scanned.total += len(before) + len(self)
        return bytes(before) + bytes(self)


def test_each_byte_is_searched_and_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = sse(text(0, "x" * 2000), text(0, "y" * 2000))
    decoded: list[int] = []
    real = EventDecoder._decode

    def counting(self: EventDecoder, whole: bytes) -> Any:
        decoded.append(len(whole))
        return real(self, whole)

    monkeypatch.setattr(EventDecoder, "_decode", counting)
    monkeypatch.setattr(Scanned, "total", 0)
    decoder = EventDecoder(1 << 20, event_failure)
    events = [
        event for at in range(len(body)) for event in decoder.feed(Scanned(body[at : at + 1]))
    ]
    assert len(events) == 2
    assert sum(decoded) == len(body)
    assert len(body) < Scanned.total <= 2 * len(body)  # with one byte of the chunk before


def test_one_event_is_bounded() -> None:
    reader = Reader("asked", 100, event_failure)
    list(reader.feed(sse(PING) * 10))  # not the stream
    for _ in range(10):
        list(reader.feed(b"data: xxxx"))
    with pytest.raises(StreamInterruptedError, match="100 bytes") as caught:
        list(reader.feed(b"x"))
    assert caught.value.permanent


# Whole messages


def message_of(*blocks: Json, **fields: Any) -> Message:
    return Message.model_validate_json(
        json.dumps({"type": "message", "content": list(blocks), **fields})
    )


def test_parallel_calls_with_one_id_have_ids_of_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whole or streamed; in a history, from a dump, and where the same call comes twice."""
    inputs = [{"n": 1}, {"n": True}, {"n": 1}, {"n": True}]  # which Python takes for equal
    with caplog.at_level("DEBUG", "modelslab_llm"):
        whole = message_of(*(tool_use(input=given) for given in inputs))
    assert "two tool calls with the same id" in caplog.text
    events: list[Json] = [started()]
    for index, given in enumerate(inputs):
        events += [begin(index, "tool_use", id="call_a", name="tide", input={})]
        events += [arguments(index, json.dumps(given)), close(index)]
    streamed = read(*events, STOP)
    for message in (whole, streamed, Message.model_validate_json(whole.model_dump_json())):
        ids = [use.id for use in message.tool_uses]
        assert ids == ["call_a", "call_a_2", "call_a", "call_a_2"]
        assert [use.input for use in message.tool_uses] == inputs
        turn: Any = message.to_param()
        assert [block["id"] for block in turn["content"]] == ids


def test_a_cut_call_with_the_id_of_a_whole_one_has_an_id_of_its_own() -> None:
    """Found by the property test: a call that was cut looks like one without arguments at first."""
    begun = begin(0, "tool_use", id="call_a", name="tide", input={})
    last = begin(1, "tool_use", id="call_a", name="tide", input={})
    cut = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
    message = read(started(), begun, arguments(0, "{}"), close(0), last, close(1), cut, STOP)
    assert [(use.id, use.input_complete) for use in message.tool_uses] == [
        ("call_a", True),
        ("call_a_2", False),
    ]


def tool_use(**fields: Any) -> Json:
    return {"type": "tool_use", "id": "call_a", "name": "tide", **fields}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"input": {"a": 1}}, {"a": 1}),
        ({"input": {}}, {}),
        ({}, {}),
        ({"input": '{"a": 1}'}, {"a": 1}),
        ({"input": "{}"}, {}),
        ({"input": ""}, {}),
    ],
)
def test_input_of_a_whole_message(fields: Json, wanted: Json) -> None:
    (call,) = message_of(tool_use(**fields)).tool_uses
    assert (call.input, call.input_complete, call.raw_input) == (wanted, True, None)
    assert call.to_param() == tool_use(input=wanted)


@pytest.mark.parametrize(
    ("sent", "raw"),
    [
        *((raw, raw) for name, raw in BROKEN.items() if name != "too deep"),
        ([1], "[1]"),
        (None, "null"),
        (5, "5"),
        (True, "true"),
    ],
)
def test_input_that_is_not_an_object_is_marked(sent: Any, raw: str) -> None:  # m06: new-api
    (call,) = message_of(tool_use(input=sent)).tool_uses
    assert (call.input, call.input_complete, call.raw_input) == ({}, False, raw)
    assert call.to_param() == tool_use(input={})


@pytest.mark.parametrize("sent", ['{"n": NaN}', '{"a": [{"n": -Infinity}]}'])
def test_input_that_is_not_strict_json_is_marked(sent: str) -> None:
    body = f'{{"type": "message", "content": [{{"type": "tool_use", "input": {sent}}}]}}'
    (call,) = Message.model_validate_json(body).tool_uses
    assert (call.input, call.input_complete) == ({}, False)


def test_an_empty_input_of_a_cut_message_is_marked() -> None:  # m04: llama-server
    message = message_of(
        tool_use(id="call_a", input={}), tool_use(id="call_b", input={}), stop_reason="max_tokens"
    )
    assert [call.input_complete for call in message.tool_uses] == [True, False]


def test_a_full_input_of_a_cut_message_is_not_marked() -> None:
    message = message_of(tool_use(input={"a": 1}), stop_reason="max_tokens")
    assert message.tool_uses[0].input_complete


def test_an_empty_input_before_the_cut_is_not_marked() -> None:
    message = message_of(
        tool_use(input={}), {"type": "text", "text": "and"}, stop_reason="max_tokens"
    )
    assert message.tool_uses[0].input_complete


def test_end_turn_with_a_call() -> None:  # m07: gateways
    message = message_of(tool_use(input={"a": 1}), stop_reason="end_turn")
    assert [call.name for call in message.tool_uses] == ["tide"]


@pytest.mark.parametrize("sent", [None, [], "missing"])
def test_content_may_be_null_or_missing(sent: Any) -> None:
    fields = {} if sent == "missing" else {"content": sent}
    assert Message.model_validate({"type": "message", **fields}).content == []


def test_content_may_be_text() -> None:
    message = Message.model_validate({"content": "Hi"})
    assert message.text == "Hi"
    assert blocks(message) == [{"type": "text", "text": "Hi"}]


def test_a_broken_call_goes_back_with_an_empty_input() -> None:
    message = read(begin(0, "tool_use", id="a", name="b"), arguments(0, "{"), close(0), STOP)
    assert blocks(message) == [{"type": "tool_use", "id": "a", "name": "b", "input": {}}]
