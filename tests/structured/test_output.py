"""Structured output: what is asked for, what is read out of an answer, and how it can fail."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from raw_server import RawServer
from typing_extensions import TypedDict
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIStatusError,
    InvalidRequestError,
    Message,
    OutputError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
    ParsedMessage,
    StreamInterruptedError,
    ToolError,
    endpoints,
    tool,
)
from modelslab_llm.structured._ask import output_request
from modelslab_llm.structured._read import json_objects
from modelslab_llm.testing import ErrorReply, LocalServer, Reply

Client = SyncClient | AsyncClient
ASK = [{"role": "user", "content": "How high is the Tamar?"}]
PARAMS: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": ASK}
V7 = endpoints.llm_v7()


class Level(BaseModel):
    """The level of a river."""

    river: str
    cm: int
    on: date | None = None


@dataclass
class Point:
    x: int
    y: int


class Named(TypedDict):
    name: str


class Tree(BaseModel):
    label: str
    branches: list[Tree] = []


def str_of(n: int) -> str:
    return str(n)


LEVEL = {"river": "Tamar", "cm": 214, "on": "2026-03-01"}
THE_LEVEL = Level(river="Tamar", cm=214, on=date(2026, 3, 1))


def called(given: Any, **more: Any) -> Reply:
    """An answer that calls the tool of the output."""
    return Reply([{"type": "tool_use", "id": "toolu_1", "name": "output", "input": given}], **more)


def client_of(variant: Sync | Async, server: LocalServer) -> Client:
    return variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=0)


def gateway_of(variant: Sync | Async, server: LocalServer) -> Client:
    """A client of a server with unknown capabilities, so that every strategy is available."""
    return variant.client(api_key=server.api_key, endpoint=server.gateway(), max_retries=0)


def parsed(client: Client, **params: Any) -> Any:
    return client.parse(**PARAMS | params)


def streamed(client: Client, **params: Any) -> Any:
    with client.parse_stream(**PARAMS | params) as stream:
        return stream.message()


ways = pytest.mark.parametrize("ask", [parsed, streamed])

# --- every type, every strategy ---


@ways
def test_an_endpoint_says_which_strategies_there_are(variant: Sync | Async, ask: Any) -> None:
    with LocalServer(json.dumps(LEVEL)) as server:
        strategies = ("prompt", "output_config")
        mine = replace(server.gateway(), strategies=strategies, default_strategy="prompt")
        client = variant.client(api_key=server.api_key, endpoint=mine)
        assert ask(client, output=Level).parsed == THE_LEVEL
        assert "one JSON object" in server.requests[-1].body["system"]
        with pytest.raises(InvalidRequestError, match="'prompt', 'output_config', not 'tool'"):
            ask(client, output=Level, strategy="tool")
        assert len(server.requests) == 1
        client.close()


def test_a_call_that_was_cut_before_its_arguments(variant: Sync | Async) -> None:
    """llama-server sends `input: {}` then (protocol.md §5), which fits a type of defaults only."""

    class Wishes(BaseModel):
        cups: int = 1

    with LocalServer(called({}, stop_reason="max_tokens")) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputTruncatedError):
            parsed(client, output=Wishes)
        client.close()


@ways
@pytest.mark.parametrize(
    ("output", "given", "expected"),
    [
        (Level, LEVEL, THE_LEVEL),
        (Point, {"x": 1, "y": 2}, Point(1, 2)),
        (Named, {"name": "Ada"}, {"name": "Ada"}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (list[Level], {"value": [LEVEL]}, [THE_LEVEL]),
        (Level | Point, {"value": {"x": 1, "y": 2}}, Point(1, 2)),
        (Literal["yes", "no"], {"value": "no"}, "no"),
        (int | None, {"value": None}, None),
        (tuple[int, str], {"value": [1, "a"]}, (1, "a")),
        (Annotated[int, Field(gt=3)], {"value": 4}, 4),
        (Tree, {"value": {"label": "a", "branches": [{"label": "b"}]}}, None),
    ],
)
def test_types(ask: Any, output: Any, given: dict[str, Any], expected: Any) -> None:
    """Whatever the type, the model fills in an object and the caller gets a value of the type."""
    with LocalServer(called(given)) as server:
        client = client_of(Sync(), server)
        message = ask(client, output=output)
        assert isinstance(message, ParsedMessage)
        if output is Tree:
            expected = Tree(label="a", branches=[Tree(label="b")])
        assert message.parsed == expected
        assert type(message.parsed) is type(expected)
        (sent,) = (request.body for request in server.requests)
        (tool,) = sent["tools"]
        assert tool["input_schema"]["type"] == "object"
        assert sent["tool_choice"] == {
            "type": "tool",
            "name": tool["name"],
            "disable_parallel_tool_use": True,
        }
        client.close()


@ways
@pytest.mark.parametrize("strategy", ["output_config", "response_format", "prompt"])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(LEVEL),
        f"Of course:\n```json\n{json.dumps(LEVEL, indent=2)}\n```\nUse {{it}} well.",
        f"<think>{{river}} is …</think>{json.dumps(LEVEL)} That is: {json.dumps(LEVEL)}",
    ],
)
def test_strategies_that_answer_in_text(
    variant: Sync | Async, ask: Any, strategy: str, text: str
) -> None:
    with LocalServer(text) as server:
        client = gateway_of(variant, server)
        assert ask(client, output=Level, strategy=strategy).parsed == THE_LEVEL
        (request,) = server.requests
        sent = request.body
        assert ("river" in json.dumps(sent.get("output_config"))) == (strategy == "output_config")
        assert ("river" in json.dumps(sent.get("response_format"))) == request.is_chat_call
        assert request.is_chat_call == (strategy == "response_format")
        assert ("river" in (request.system or "")) == (strategy != "output_config")
        assert "tools" not in sent
        client.close()


def test_what_is_set_besides_stays() -> None:
    more = {
        "system": [{"type": "text", "text": "Be brief."}],
        "output_config": {"effort": "low"},
        "extra_body": {"seed": 1},
        "temperature": None,
    }
    llama = endpoints.llama_server("http://127.0.0.1:8080")
    asked = output_request(Level, "response_format", PARAMS | more, llama).params
    assert [block["text"][:9] for block in asked["system"]] == ["Be brief.", "\n\nAnswer "]
    assert asked["extra_body"] == {"seed": 1}
    assert asked["output_config"].keys() == {"effort", "format"}
    assert "temperature" not in asked
    config = output_request(Level, "output_config", PARAMS | more, V7).params["output_config"]
    assert (config["effort"], config["format"]["type"]) == ("low", "json_schema")
    assert (
        output_request(Level, "prompt", PARAMS | {"system": "Hi."}, V7)
        .params["system"]
        .startswith("Hi.\n\nAnswer with one JSON object")
    )
    tools = iter([{"name": "river_level", "input_schema": {"type": "object"}}])
    names = [
        t["name"]
        for t in output_request(Level, "tool", PARAMS | {"tools": tools}, V7).params["tools"]
    ]
    assert names == ["river_level", "output"]


def test_a_server_that_forces_no_tool_may_answer_in_text(variant: Sync | Async) -> None:
    """Ollama ignores tool_choice (protocol.md §11)."""
    with LocalServer(json.dumps(LEVEL)) as server:
        client = client_of(variant, server)
        assert parsed(client, output=Level).parsed == THE_LEVEL
        client.close()


@ways
def test_arguments_as_a_string_of_json(variant: Sync | Async, ask: Any) -> None:
    """new-api sends them so (protocol.md §5)."""
    with LocalServer(called(json.dumps(LEVEL))) as server:
        client = client_of(variant, server)
        if ask is parsed:
            assert ask(client, output=Level).parsed == THE_LEVEL
        client.close()


# --- the message around the output ---


def test_the_message_is_what_the_server_sent_and_a_turn_that_needs_no_answer() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "tool_use", "id": "t1", "name": "output", "input": LEVEL},
    ]
    message = Message.model_validate({"id": "msg_1", "content": content, "odd": 1})
    message._request_id = "req_1"
    answer = output_request(Level, "tool", PARAMS, V7).read(message)
    assert (answer.id, answer.content, answer.request_id) == ("msg_1", message.content, "req_1")
    assert (answer.model_extra, answer.tool_uses) == ({"odd": 1}, [])
    turn = answer.to_param()
    assert answer.model_dump() == message.model_dump() | {"content": turn["content"]}
    saved = Message.model_validate_json(answer.model_dump_json())
    assert (saved.to_param(), saved.request_id, saved.id) == (turn, "req_1", "msg_1")
    assert turn["content"] == [content[0], {"type": "text", "text": json.dumps(LEVEL)}]
    again = pickle.loads(pickle.dumps(answer))
    assert (again.parsed, again.to_param()) == (THE_LEVEL, turn)


def test_a_parsed_answer_continues_as_a_conversation(variant: Sync | Async) -> None:
    with LocalServer([called(LEVEL), "Rising."]) as server:
        client = client_of(variant, server)
        first = parsed(client, output=Level)
        again = {"role": "user", "content": "And now?"}
        assert client.create(**PARAMS | {"messages": [*ASK, first, again]}).text == "Rising."
        turn = server.requests[1].body["messages"][1]
        assert turn == {
            "role": "assistant",
            "content": [{"type": "text", "text": json.dumps(LEVEL)}],
        }
        client.close()


# --- three ways to have no output ---


@ways
@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"river": "Ta', stop_reason="max_tokens"),
        called({"river": "Ta"}, stop_reason="max_tokens"),
        Reply("", stop_reason="model_context_window_exceeded"),
        Reply("The river", stop_reason="length"),
        # What is left of a larger object fits by chance, but is not the output.
        Reply(json.dumps({"a": LEVEL})[:-1] + ', "b": ', stop_reason="max_tokens"),
    ],
)
def test_truncated(variant: Sync | Async, ask: Any, reply: Reply) -> None:
    """An output that was cut is never handed out, even if the piece fits by chance."""
    with LocalServer(reply) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputTruncatedError, match="the answer was truncated") as cut:
            ask(client, output=Level)
        error = cut.value
        assert not isinstance(error, ToolError)
        assert error.usage is error.message.usage
        assert error.usage.input_tokens > 0
        assert error.raw_text == (
            reply.content if isinstance(reply.content, str) else '{"river": "Ta"}'
        )
        assert len(server.requests) == 1
        client.close()


@ways
def test_an_output_that_is_whole_counts_though_the_answer_was_cut_after_it(
    variant: Sync | Async, ask: Any
) -> None:
    for reply in (called(LEVEL, stop_reason="max_tokens"), json.dumps(LEVEL) + " That is"):
        with LocalServer(reply) as server:
            client = client_of(variant, server)
            assert ask(client, output=Level).parsed == THE_LEVEL
            client.close()


@ways
def test_refused(variant: Sync | Async, ask: Any) -> None:
    body = {
        "type": "message",
        "content": [{"type": "text", "text": "I will not."}],
        "stop_reason": "refusal",
        "stop_details": {"type": "refusal", "category": "cyber", "explanation": None},
    }
    with LocalServer(body) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputRefusedError, match="refused to answer: cyber") as refused:
            ask(client, output=Level)
        assert refused.value.raw_text == refused.value.message.text == "I will not."
        client.close()


@ways
@pytest.mark.parametrize(
    ("output", "reply", "reason", "raw"),
    [
        (
            Level,
            called({"river": "Exe", "cm": "deep"}),
            "cm: Input should be a valid integer",
            None,
        ),
        (Level, called({}), "river: is required; cm: is required", "{}"),
        (
            list[Level],
            called({"value": [{"river": "Exe"}]}),
            r"value\[0\].cm: is required",
            None,
        ),
        (list[int], called({"values": [1]}), "the object must contain only 'value'", None),
        (Level, "It is high.", "there is neither a tool call nor a JSON object", "It is high."),
        (Level, Reply(""), "there is neither a tool call nor a JSON object", ""),
        (Named, '{"name": "a"} {"name": "b"}', "2 different JSON objects", None),
        (Named, '{"name": "a", "name": "b"}', "nor a JSON object", None),
        (Named, '{"name": NaN}', "nor a JSON object", None),
        (
            Level,
            Reply([{"type": "tool_use", "id": "t", "name": "river_level", "input": {}}]),
            "river_level was called instead of output",
            "",
        ),
    ],
)
def test_invalid(
    variant: Sync | Async, ask: Any, output: Any, reply: Any, reason: str, raw: str | None
) -> None:
    with LocalServer(reply) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputInvalidError, match=reason) as invalid:
            ask(client, output=output)
        error = invalid.value
        assert raw in (None, error.raw_text)
        assert error.message.usage == error.usage
        assert len(str(error)) <= 500
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.raw_text) == (str(error), error.raw_text)
        assert again.message == error.message
        client.close()


def test_the_cause_is_pydantics_own_error(variant: Sync | Async) -> None:
    with LocalServer(called({"river": "Exe", "cm": "deep"})) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputError) as invalid:
            parsed(client, output=Level)
        assert isinstance(invalid.value.__cause__, ValidationError)
        assert "deep" not in str(invalid.value)  # a log need not hold what people wrote
        client.close()


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("", []),
        ("{ }", [{}]),
        ("{a} {b", []),
        ('{"a": 1}{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('{"a": {"b": 1}, oops} {"c": 1}', []),
        ('{"a": ' * 100_000, []),
        ('{"a": ' + "[" * 100_000, []),
        ("{" * 100_000, []),
    ],
)
def test_objects_in_a_text(text: str, objects: list[Any]) -> None:
    assert json_objects(text) == objects


# --- asking again ---


def test_asking_again_shows_the_fault_in_a_valid_history(variant: Sync | Async) -> None:
    wrong = [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "t1", "name": "output", "input": {"river": "Exe"}},
        {"type": "tool_use", "id": "t2", "name": "output", "input": {"river": "Dart"}},
    ]
    with LocalServer([Reply(wrong), called(LEVEL)]) as server:
        client = client_of(variant, server)
        answer = parsed(client, output=Level, validation_retries=1)
        assert answer.parsed == THE_LEVEL
        assert [len(each.tool_uses) for each in answer.previous_attempts] == [2]
        first, second = (request.body for request in server.requests)
        assert second["messages"][:2] == [*ASK, {"role": "assistant", "content": wrong}]
        assert second["messages"][2] == {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": id_,
                    "is_error": True,
                    "content": "Error: cm: is required.",
                }
                for id_ in ("t1", "t2")
            ],
        }
        assert {**second, "messages": ASK} == first
        client.close()


def test_errors_have_what_a_request_can_go_on_from(variant: Sync | Async) -> None:
    replies = [called({"river": "Exe"}), called('{"river', stop_reason="max_tokens")]
    refusal = Reply("I will not.", stop_reason="refusal")
    with LocalServer([*replies, refusal, called(LEVEL)]) as server:
        client = client_of(variant, server)
        turns: list[Any] = []
        for call in (True, True, False):
            with pytest.raises(OutputError) as failed:
                parsed(client, output=Level)
            assert bool(failed.value.tool_use) == call
            turns.append(failed.value.messages)
        assert turns[1:] == [ASK, ASK]  # what was cut or refused says nothing to go on from
        assert [turn["role"] for turn in turns[0]] == ["user", "assistant", "user"]
        assert client.parse(**PARAMS | {"messages": turns[0]}, output=Level).parsed == THE_LEVEL
        assert pickle.loads(pickle.dumps(failed.value)).messages == ASK
        client.close()


def test_asking_again_in_text(variant: Sync | Async) -> None:
    with LocalServer(["It is high.", "", json.dumps(LEVEL)]) as server:
        client = client_of(variant, server)
        answer = parsed(client, output=Level, validation_retries=2, strategy="prompt")
        assert (answer.parsed, len(answer.previous_attempts)) == (THE_LEVEL, 2)
        roles = [[turn["role"] for turn in request.body["messages"]] for request in server.requests]
        # The second answer was empty: servers take no empty turn, so the same is asked again.
        assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant", "user"]]
        said = server.requests[1].body["messages"][2]["content"]
        assert said.startswith("Error: there is no JSON object in the answer. Give the whole JSON")
        client.close()


def test_asking_again_has_an_end(variant: Sync | Async) -> None:
    with LocalServer(called({"river": "Exe"})) as server:
        client = client_of(variant, server)
        with pytest.raises(OutputInvalidError) as invalid:
            parsed(client, output=Level, validation_retries=2)
        assert (len(server.requests), len(invalid.value.previous_attempts)) == (3, 2)
        client.close()


def test_what_fails_while_asking_again_is_an_api_error(variant: Sync | Async) -> None:
    with LocalServer([called({}), ErrorReply(400, "No.")]) as server:
        client = client_of(variant, server)
        with pytest.raises(APIStatusError, match="No"):
            parsed(client, output=Level, validation_retries=3)
        assert len(server.requests) == 2
        client.close()


# --- streaming ---


def test_partial_outputs_grow(variant: Sync | Async) -> None:
    with LocalServer(called({"value": [LEVEL, LEVEL]})) as server:
        client = client_of(variant, server)
        with client.parse_stream(**PARAMS, output=list[Level]) as stream:
            partials = list(stream.partials())
            assert stream.message().parsed == [THE_LEVEL, THE_LEVEL]
        assert len(partials) > 8
        assert partials[-1] == [LEVEL, LEVEL]
        assert {"river": "Tamar"} in [partial[0] for partial in partials if partial]
        client.close()


@pytest.mark.parametrize("strategy", ["prompt", "output_config"])
def test_partial_outputs_in_text(variant: Sync | Async, strategy: str) -> None:
    with LocalServer(f"Here: ```json\n{json.dumps(LEVEL)}\n```") as server:
        client = client_of(variant, server)
        with client.parse_stream(**PARAMS, output=Level, strategy=strategy) as stream:
            assert stream.next().type == "message_start"
            partials = list(stream.partials())
            assert stream.message().parsed == THE_LEVEL
        assert partials[0] == {}
        assert partials[-1] == LEVEL
        assert len(partials) > 3
        client.close()


def test_events_read_before_are_not_lost_to_the_partials(variant: Sync | Async) -> None:
    with LocalServer(called(LEVEL)) as server:
        client = client_of(variant, server)
        with client.parse_stream(**PARAMS, output=Level) as stream:
            for _ in range(6):
                stream.next()
            partials = list(stream.partials())
        assert partials[-1] == LEVEL
        client.close()


def test_a_whole_message_in_answer_to_a_stream(variant: Sync | Async) -> None:
    """Some servers answer so; all arguments then come at once (protocol.md §6.9)."""
    body = {"type": "message", "content": called(LEVEL).content, "stop_reason": "tool_use"}
    answer = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with RawServer(head % len(answer) + answer) as server:
        client = variant.client(api_key="a-key", base_url=server.url)
        with client.parse_stream(**PARAMS, output=Level) as stream:
            assert list(stream.partials()) == [LEVEL]
            assert stream.message().parsed == THE_LEVEL
        client.close()


def test_a_stream_that_is_cut_raises_as_always(variant: Sync | Async) -> None:
    events = [
        {"type": "message_start", "message": {"id": "m"}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "t", "name": "output"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": '{"river": "Ta'},
        },
    ]
    sent = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    with RawServer([head + sent, lambda connection: connection.sock.close()]) as server:
        client = variant.client(api_key="a-key", base_url=server.url, max_retries=0)
        with client.parse_stream(**PARAMS, output=Level) as stream:
            seen = []
            with pytest.raises(StreamInterruptedError) as cut:
                seen += stream.partials()
            with pytest.raises(StreamInterruptedError):
                stream.message()
        assert cut.value.partial_message is not None
        assert cut.value.partial_message.tool_uses[0].raw_input == '{"river": "Ta'
        client.close()


# --- refused before anything is sent ---


@pytest.mark.parametrize(
    ("output", "more", "cure"),
    [
        (None, {}, "output: pass a type"),
        ("Level", {}, "output: pass the type itself, not 'Level'"),
        (THE_LEVEL, {}, "output: pass the type itself"),
        (lambda river: river, {}, "output: pass the type itself"),
        (object(), {}, "use a pydantic model, a dataclass"),
        (type("Plain", (), {}), {}, "use a pydantic model, a dataclass"),
        (Level, {"strategy": "json"}, "strategy: must be one of 'tool', 'output_config'"),
        (
            Level,
            {"validation_retries": -1},
            "must be a whole number, at least 0",
        ),
        (
            Level,
            {"validation_retries": "1"},
            "must be a whole number, at least 0",
        ),
        (Level, {"tool_choice": {"type": "auto"}}, "tool_choice: is set by parse"),
        (Level, {"extra_body": {"tool_choice": {}}}, "extra_body.*: is set by parse"),
        (Level, {"tools": [{"name": "output"}]}, "'output' is the name of the tool"),
        (Level, {"output_config": {"format": {}}}, "format.*: is set by parse.*response_format"),
        (Level, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "strategy='output_con"),
        (Level, {"messages": [*ASK, {"role": "assistant", "content": "{"}]}, r"messages\[1\].role"),
        (Level, {"messages": [*ASK, Message()]}, r"messages\[1\].role"),
        (Level, {"messages": []}, "messages"),
        (Level, {"messages": 5}, "messages"),
        (Level, {"messages": "Hello"}, "messages"),
        (Level, {"system": 5}, "system: must be a list"),
        (Level, {"system": 5, "strategy": "prompt"}, "system: must be a list"),
        (Level, {"tools": [tool(str_of, name="output")]}, "'output' is the name of the tool"),
        (Level, {"tools": 5}, "tools: must be a list"),
        (dict[str, int], {"strategy": "output_config"}, "arbitrary keys: output_config does not"),
        (Tree, {"strategy": "output_config"}, "Tree is recursive"),
    ],
)
def test_bad_input(output: Any, more: dict[str, Any], cure: str) -> None:
    with LocalServer(called(LEVEL)) as server:
        client = client_of(Sync(), server)
        with pytest.raises(InvalidRequestError, match=cure):
            parsed(client, output=output, **more)
        if "validation_retries" not in more:
            with pytest.raises(InvalidRequestError, match=cure):
                streamed(client, output=output, **more)
        assert not server.requests
        client.close()


def test_a_wrong_name_names_the_verb(variant: Sync | Async) -> None:
    client = variant.client(api_key="a-key")
    with pytest.raises(InvalidRequestError, match="output: pass a type"):
        parsed(client, output=None)
    with pytest.raises(TypeError, match=r"messages.parse\(\) has no parameter 'temprature'"):
        parsed(client, output=Level, temprature=0)
    with pytest.raises(TypeError, match=r"messages.parse_stream\(\) has no parameter 'stop'"):
        streamed(client, output=Level, stop=["x"])
    for verb, ask in {"parse": parsed, "parse_stream": streamed}.items():
        with pytest.raises(TypeError, match=rf"{verb}\(\) has no .* 'output_format': use output"):
            ask(client, output_format=Level)
        with pytest.raises(InvalidRequestError, match="output: pass a type"):
            ask(client)
    client.close()


def test_llama_server_may_think_and_call() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    asked = output_request(Level, "tool", PARAMS | thinking, endpoints.gguf("dep_1"))
    assert asked.params["thinking"] == thinking["thinking"]


# --- schemas ---


class Bounded(BaseModel):
    model_config = ConfigDict(title="Bounds")

    code: Annotated[str, Field(pattern=r"^\d{3}$", description="Three digits.")]
    word: Annotated[str, Field(pattern="^[ab]+$")]
    loose: Annotated[str, Field(pattern="a")]
    long: Annotated[str, Field(max_length=9000)]
    share: Annotated[float, Field(ge=0, le=1)]
    pattern: int = 1
    default: dict[str, str] = {"pattern": "a"}
    price: Decimal = Decimal(1)


def sent_schema(output: Any, strategy: Any) -> Any:
    params = output_request(output, strategy, PARAMS, V7).params
    if strategy == "tool":
        return params["tools"][0]["input_schema"]
    return params["output_config"]["format"]["schema"]


def test_what_no_grammar_can_hold_is_told_in_words() -> None:
    fields = sent_schema(Bounded, "tool")["properties"]
    assert fields["code"] == {
        "description": r"Three digits. (pattern: ^\d{3}$)",
        "type": "string",
    }
    assert fields["word"]["pattern"] == "^[ab]+$"
    assert fields["loose"]["description"] == "(pattern: a)"
    assert fields["long"]["description"] == "(maxLength: 9000)"
    assert fields["share"]["maximum"] == 1
    assert fields["pattern"]["type"] == "integer"
    assert fields["default"]["default"] == {"pattern": "a"}


def test_output_config_closes_objects_and_tells_bounds_in_words() -> None:
    class Shares(BaseModel):
        shares: list[Annotated[int, Field(ge=0, le=10)]]

    schema = sent_schema(list[Shares], "output_config")
    assert schema["additionalProperties"] is False
    inner = schema["$defs"]["Shares"]
    assert inner["additionalProperties"] is False
    assert inner["properties"]["shares"]["items"] == {
        "type": "integer",
        "description": "(maximum: 10, minimum: 0)",
    }


@pytest.mark.parametrize("output", [Tree, list[Tree], Level | Point, dict[str, Tree]])
def test_every_reference_leads_somewhere(output: Any) -> None:
    schema = sent_schema(output, "tool")
    for name in json.dumps(schema).split('"$ref": "#/$defs/')[1:]:
        assert name.partition('"')[0] in schema["$defs"]
