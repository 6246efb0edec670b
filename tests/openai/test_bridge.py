"""The way back from Messages to the chat format: requests, completions and streams of chunks.

What `tests/openai/test_openai.py` carries over is carried back here, and asked of a real server.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama.fixtures import MODEL_NAME
from llama.scripts import (
    ANSWER_REPLY,
    ONE_CALL_INPUT,
    QUESTION_REPLY,
    RIVER_LEVEL,
    TEXT_REPLY,
    THOUGHT,
    TWO_CALLS_INPUTS,
)
from llama.server import LlamaServer

from modelslab_llm import InvalidRequestError, Message
from modelslab_llm._protocol.accumulate import Accumulator
from modelslab_llm._protocol.replay import replay
from modelslab_llm.openai import (
    NotCarriedOverWarning,
    from_chat_chunks,
    from_chat_completion,
    to_chat_chunks,
    to_chat_completion,
    to_chat_request,
    to_messages,
)
from modelslab_llm.types import MessageStopEvent

Json = dict[str, Any]
SAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "samples" / "openai").glob("*.json"))
}
CARRIED = {name: sample for name, sample in SAMPLES.items() if "params" in sample}


def joined(events: Any) -> Message:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.message()


# Requests


@pytest.mark.filterwarnings("ignore::modelslab_llm.openai.NotCarriedOverWarning")
@pytest.mark.parametrize("sample", CARRIED.values(), ids=CARRIED)
def test_what_was_carried_over_comes_back(sample: Json) -> None:
    """A request that Messages can say asks the same after it went to the chat format and back."""
    params = sample["params"]
    before = json.dumps(params)
    body = to_chat_request(params)
    assert json.dumps(params) == before
    json.dumps(body)
    again: Json = dict(to_messages(body, keep_reasoning=True))
    for name in ("extra_body", "service_tier"):  # the first is part of a chat request's body
        again.pop(name, None)
        params.pop(name, None)
    assert again == params


def test_a_conversation_with_tools() -> None:
    body = to_chat_request(
        {
            "model": "m",
            "max_tokens": 9,
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Please."}],
            "messages": [
                {"role": "user", "content": "How high are both?"},
                Message.model_validate(
                    {
                        "content": [
                            {"type": "thinking", "thinking": "Two.", "signature": "x"},
                            {"type": "text", "text": "I will ask."},
                            {"type": "tool_use", "id": "a", "name": "level", "input": {"r": "Exe"}},
                            {"type": "tool_use", "id": "b", "name": "level", "input": {}},
                        ]
                    }
                ),
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": "214"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "b",
                            "content": [{"type": "text", "text": "no river"}],
                            "is_error": True,
                        },
                        {"type": "text", "text": "Well?", "cache_control": {"type": "ephemeral"}},
                    ],
                },
            ],
            "tools": [{"name": "level", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "level", "disable_parallel_tool_use": True},
        }
    )
    function = {"name": "level", "description": "d", "parameters": {"type": "object"}}
    assert body == {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "system", "content": "Be brief.\n\nPlease."},
            {"role": "user", "content": "How high are both?"},
            {
                "role": "assistant",
                "content": "I will ask.",
                "reasoning_content": "Two.",
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "level", "arguments": '{"r": "Exe"}'},
                    },
                    {
                        "id": "b",
                        "type": "function",
                        "function": {"name": "level", "arguments": "{}"},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "a", "content": "214"},
            {"role": "tool", "tool_call_id": "b", "content": "Error: no river"},
            {"role": "user", "content": "Well?"},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "level"}},
        "parallel_tool_calls": False,
    }


@pytest.mark.parametrize(
    ("params", "body"),
    [
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"thinking_budget_tokens": 2048},
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"stop_sequences": ("END",)}, {"stop": ["END"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"extra_body": {"seed": 1}}, {"seed": 1}),
        ({"temperature": 0.0, "top_k": 3}, {"temperature": 0.0, "top_k": 3}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        ({"cache_control": {"type": "ephemeral"}, "system": ""}, {}),
    ],
)
def test_a_field(params: Json, body: Json) -> None:
    turn = {"role": "user", "content": "?"}
    assert to_chat_request({"messages": [turn], **params}) == {"messages": [turn], **body}


def test_an_image_and_a_document() -> None:
    content = [
        {"type": "text", "text": "See."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://h.example/a.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
    ]
    (turn,) = to_chat_request({"messages": [{"role": "user", "content": content}]})["messages"]
    assert turn["content"] == [
        {"type": "text", "text": "See."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://h.example/a.png"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
        },
        {"type": "text", "text": "hi"},
    ]


def test_what_cannot_be_said_is_refused_by_its_place() -> None:
    content = [
        {"type": "search_result", "source": "s", "title": "t", "content": []},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "https://h.example/a.pdf"}},
    ]
    with pytest.raises(InvalidRequestError) as refused:
        to_chat_request(
            {
                "messages": [{"role": "user", "content": content}],
                "tools": [{"type": "web_search_20250305", "name": "web_search"}],
            }
        )
    assert [fault.partition(": ")[0] for fault in str(refused.value).split("; ")] == [
        "messages[0].content[0]",
        "messages[0].content[1].source",
        "messages[0].content[2].source",
        "tools[0]",
    ]


def test_what_has_no_place_is_warned_of_where_it_was_asked() -> None:
    params = {
        "messages": [{"role": "user", "content": "?"}],
        "service_tier": "auto",
        "metadata": {"user_id": "u", "team": "t"},
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to_chat_request(params)
    assert [str(each.message).partition(":")[0] for each in caught] == [
        "metadata.team",
        "service_tier",
    ]
    assert {(each.category, each.filename) for each in caught} == {
        (NotCarriedOverWarning, __file__)
    }


# Completions, and their chunks

MESSAGES: dict[str, Json] = {
    "text": {"content": [{"type": "text", "text": "It is 18 °C."}], "stop_reason": "end_turn"},
    "nothing": {"content": [], "stop_reason": "end_turn"},
    "cut": {"content": [{"type": "text", "text": "It"}], "stop_reason": "max_tokens"},
    "refused": {"content": [], "stop_reason": "refusal"},
    "stopped": {
        "content": [{"type": "text", "text": "It"}],
        "stop_reason": "end_turn",
        "stop_sequence": "is",
    },
    "thought": {
        "content": [
            {"type": "thinking", "thinking": "Warm.", "signature": ""},
            {"type": "text", "text": "18"},
        ],
        "stop_reason": "end_turn",
    },
    "calls": {
        "content": [
            {"type": "text", "text": "I ask."},
            {"type": "tool_use", "id": "a", "name": "level", "input": {"river": "Exe", "n": [1]}},
            {"type": "tool_use", "id": "b", "name": "level", "input": {}},
        ],
        "stop_reason": "tool_use",
    },
}


def message_of(name: str) -> Message:
    usage = {"input_tokens": 5, "output_tokens": 4, "cache_read_input_tokens": 7}
    return Message.model_validate({"id": "x", "model": "m", "usage": usage} | MESSAGES[name])


def seen(message: Message) -> Json:
    seen = message.model_dump(include={"id", "model", "stop_reason", "stop_sequence", "usage"})
    return seen | {"content": message.to_param()["content"]}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_comes_back_from_its_completion(name: str) -> None:
    message = message_of(name)
    assert seen(from_chat_completion(to_chat_completion(message))) == seen(message)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_stream_comes_back_from_its_chunks(name: str) -> None:
    message = message_of(name)
    chunks = list(to_chat_chunks(replay(message), created=7))
    assert {chunk["created"] for chunk in chunks} == {7}
    assert chunks[-1]["usage"] == to_chat_completion(message)["usage"]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert finishes[:-1] == [None] * (len(finishes) - 1)
    assert finishes[-1] == to_chat_completion(message)["choices"][0]["finish_reason"]
    events = list(from_chat_chunks(chunks))
    assert isinstance(events[-1], MessageStopEvent)
    assert seen(joined(events)) == seen(message)


def test_chunks_without_usage() -> None:
    chunks = list(to_chat_chunks(replay(message_of("text")), include_usage=False))
    assert not any("usage" in chunk for chunk in chunks)
    assert joined(from_chat_chunks(chunks)).usage.output_tokens == 0


def test_chunks_that_end_early_end_no_message() -> None:
    chunks = list(to_chat_chunks(replay(message_of("text"))))[:-2]
    message = joined(from_chat_chunks(chunks))
    assert (message.stop_reason, message.text) == (None, "It is 18 °C.")


def test_arguments_that_are_cut_are_marked() -> None:
    function = {"name": "level", "arguments": '{"river": "E'}
    call = {"id": "a", "type": "function", "function": function}
    choice = {"message": {"tool_calls": [call], "content": None}, "finish_reason": "length"}
    (use,) = from_chat_completion({"choices": [choice]}).tool_uses
    assert (use.input, use.input_complete, use.raw_input) == ({}, False, '{"river": "E')


def test_what_is_not_a_completion_is_refused() -> None:
    for wrong in ({"error": {"message": "no"}}, {"choices": []}):
        with pytest.raises(InvalidRequestError, match="no choices"):
            from_chat_completion(wrong)


# The same questions to a real server's two routes

HELLO = {"max_tokens": 300, "temperature": 0.0, "messages": [{"role": "user", "content": "Hello"}]}


def asked(server: LlamaServer, params: Json, *, stream: bool) -> Message:
    body = {**to_chat_request({"model": MODEL_NAME, **params}), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    headers = {"x-api-key": server.api_key}
    url = f"{server.url}/v1/chat/completions"
    # There is no TLS, and to read the CA certificates takes longer than the test.
    response = httpx.post(
        url, json=body, headers=headers, timeout=60, trust_env=False, verify=False
    )
    response.raise_for_status()
    if not stream:
        return from_chat_completion(response.json())
    return joined(from_chat_chunks(chunks_in(response.text)))


def chunks_in(text: str) -> Iterator[Json]:
    for line in text.split("\n"):
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both_ways
def test_text_from_llama_server(llama_text: LlamaServer, stream: bool) -> None:
    message = asked(llama_text, HELLO, stream=stream)
    assert (message.text, message.stop_reason, message.model) == (
        TEXT_REPLY,
        "end_turn",
        MODEL_NAME,
    )
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 10
    assert usage.output_tokens > 5


@pytest.mark.slow
@both_ways
def test_thinking_from_llama_server(llama_thinking: LlamaServer, stream: bool) -> None:
    message = asked(llama_thinking, HELLO, stream=stream)
    assert message.thinking.strip() == THOUGHT.strip()
    assert message.text == QUESTION_REPLY


@both_ways
def test_calls_and_their_results_at_llama_server(llama_tools: LlamaServer, stream: bool) -> None:
    params: Json = {**HELLO, "tools": [RIVER_LEVEL]}
    (use,) = asked(llama_tools, params, stream=stream).tool_uses
    assert (use.name, use.input) == ("river_level", ONE_CALL_INPUT)
    two = asked(
        llama_tools,
        {**params, "messages": [{"role": "user", "content": "How high are both?"}]},
        stream=stream,
    )
    assert [each.input for each in two.tool_uses] == list(TWO_CALLS_INPUTS)
    results = [
        {"type": "tool_result", "tool_use_id": each.id, "content": "213"} for each in two.tool_uses
    ]
    turns = [*params["messages"], two, {"role": "user", "content": results}]
    assert asked(llama_tools, {**params, "messages": turns}, stream=stream).text == ANSWER_REPLY
