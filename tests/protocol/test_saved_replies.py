"""Replies that were saved as dumps: what is in a dump, and what comes back out of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from modelslab_llm import APIError, Message, TextBlock, ToolUseBlock
from modelslab_llm._protocol.check import MESSAGE, checked
from modelslab_llm._protocol.reader import Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm.endpoints import llm_v7
from modelslab_llm.types import CharLocationCitation

Json = dict[str, Any]
SAMPLES = Path(__file__).parents[1] / "samples"


def streamed(body: bytes) -> Message:
    def failure(payload: object) -> APIError:
        return from_payload(payload, {}, now=0.0, in_stream=True)

    reader = Reader("asked", 1 << 20, failure)
    with suppress(APIError):  # some samples break off: what had come is a reply too
        for _ in reader.feed(body):
            pass
        for _ in reader.end():
            pass
    return reader.message.message()


CUT: Json = {
    "id": "msg_1",
    "content": [
        {"type": "text", "text": "Let me see.", "citations": None},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "tool_use", "id": "a", "name": "level", "input": '{"river": "Ta', "caller": None},
        {"type": "tool_use", "id": "b", "name": "level"},
        {"type": "hologram", "depth": {"a": None}},
    ],
    "stop_reason": "max_tokens",
    "usage": {"input_tokens": 3, "service_tier": None},
    "odd": [None],
}
MESSAGES = {
    "cut": Message.model_validate(CUT),
    "empty": Message(),
    "made by hand": Message(content=[TextBlock(text="Hi"), ToolUseBlock(id="a", name="b")]),
    **{
        path.stem: Message.model_validate(json.loads(path.read_bytes())["body"])
        for path in sorted(SAMPLES.glob("m*.json"))
    },
    **{path.stem: streamed(path.read_bytes()) for path in sorted(SAMPLES.glob("s*.sse"))},
}


class Row(BaseModel):
    """A user's own record."""

    message: Message


WAYS: dict[str, Callable[[Message], Message]] = {
    "model_dump": lambda m: Message.model_validate(m.model_dump()),
    "model_dump, JSON": lambda m: Message.model_validate(
        json.loads(json.dumps(m.model_dump(mode="json")))
    ),
    "model_dump_json": lambda m: Message.model_validate_json(m.model_dump_json()),
    "a field": lambda m: Row.model_validate_json(Row(message=m).model_dump_json()).message,
    "a list": lambda m: TypeAdapter(list[Message]).validate_json(
        TypeAdapter(list[Message]).dump_json([m])
    )[0],
    "pydantic_core": lambda m: Message.model_validate_json(to_json(m)),
    "jsonable": lambda m: Message.model_validate(to_jsonable_python(m)),
    "twice": lambda m: Message.model_validate(Message.model_validate(m.model_dump()).model_dump()),
    "unset left out": lambda m: Message.model_validate_json(m.model_dump_json(exclude_unset=True)),
    "nulls left out": lambda m: Message.model_validate(m.model_dump(exclude_none=True)),
    "defaults left out": lambda m: Message.model_validate(m.model_dump(exclude_defaults=True)),
}


def known(message: Message) -> list[Any]:
    """Return all that is known of a reply besides what goes back."""
    calls = [(use.id, use.input, use.input_complete, use.raw_input) for use in message.tool_uses]
    return [message.request_id, message.stop_reason, message.usage, message.model_extra, calls]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_saved_reply_comes_back_as_it_was(message: Message, way: str) -> None:
    message = message.model_copy()
    message._request_id = "req_1"
    saved = WAYS[way](message)
    assert known(saved) == known(message)
    if way not in ("nulls left out", "defaults left out"):
        assert saved.to_param() == message.to_param()
        assert saved == message


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_a_dump_put_into_a_history_is_what_the_reply_itself_would_be(message: Message) -> None:
    """But for a null of `citations` or `caller`, which in a dict may be any client's."""

    def sent(turn: Any) -> Any:
        asked = {"role": "user", "content": "?"}
        params = {"model": "m", "max_tokens": 9, "messages": [asked, turn, asked]}
        return checked(params, MESSAGE, llm_v7(), "create")["messages"]

    def without_nulls(turns: Any) -> Any:
        for turn in turns:
            for block in turn["content"] if isinstance(turn["content"], list) else ():
                for name in ("citations", "caller"):
                    if block.get(name, "") is None:
                        del block[name]
        return turns

    wanted = without_nulls(sent(message))
    assert sent(message.model_dump()) == wanted
    assert sent(json.loads(message.model_dump_json())) == wanted
    dicts = {"role": "assistant", "content": [block.model_dump() for block in message.content]}
    assert sent(dicts) == wanted


def test_a_dump_has_the_type_unless_it_is_not_asked_for() -> None:
    citation = CharLocationCitation(cited_text="Hi")
    block = TextBlock(text="Hi", citations=[citation])
    cited = {"type": "char_location", "cited_text": "Hi"}
    assert block.to_param() == {"type": "text", "text": "Hi", "citations": [cited]}
    assert block.model_dump(exclude_unset=True, include={"text"}) == {"text": "Hi"}
    assert citation.model_dump(exclude_unset=True, exclude={"type"}) == {"cited_text": "Hi"}


def test_a_dump_is_what_the_server_sent() -> None:
    message = Message.model_validate(CUT)
    dump = message.model_dump()
    text, thinking, cut, bare, hologram = dump["content"]
    assert text == CUT["content"][0]  # the null too: it was sent
    assert thinking == CUT["content"][1] | {"signature": ""}  # as it goes back
    assert cut == CUT["content"][2] | {
        "input": {},
        "input_complete": False,
        "raw_input": '{"river": "Ta',
    }
    assert bare == CUT["content"][3] | {"input": {}}
    assert hologram == CUT["content"][4]
    assert dump.keys() == CUT.keys() | {"type", "role"}
    assert dump["usage"] == {"input_tokens": 3}
    assert json.loads(message.model_dump_json()) == dump
    message._request_id = "req_1"
    assert message.model_dump() == dump | {"request_id": "req_1"}
    assert message.model_dump(exclude={"request_id", "usage"}).keys() == dump.keys() - {"usage"}
    assert message.model_dump(include={"id"}) == {"id": "msg_1"}
    assert message.model_dump(include={"request_id"}) == {"request_id": "req_1"}


def test_a_call_without_arguments_that_came_whole_is_not_taken_for_a_cut_one() -> None:
    """It is known from a stream, although llama-server still says `max_tokens` after it."""
    events: list[Json] = [
        {"type": "message_start", "message": {"id": "m"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "a", "name": "now", "input": {}},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": "{}"},
        },
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}},
        {"type": "message_stop"},
    ]
    message = streamed("".join(f"data: {json.dumps(event)}\n\n" for event in events).encode())
    assert message.tool_uses[0].input_complete
    assert Message.model_validate(message.model_dump()).tool_uses[0].input_complete


def test_the_json_schema_of_a_reply_still_names_its_fields() -> None:
    """Web frameworks show it."""
    schema = Message.model_json_schema(mode="serialization")
    assert schema["properties"].keys() == Message.model_fields.keys()
    assert schema == Message.model_json_schema()
