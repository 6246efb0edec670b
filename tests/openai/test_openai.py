"""Over from OpenAI and back: a corpus of bodies, properties, and both servers.

Each file of `samples/openai/` holds a body with the parameters and the warned-of paths expected of
it, or with every fault it is refused for.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from history import PROPERTY, faults
from hypothesis import given, settings
from hypothesis import strategies as st
from llama.fixtures import MODEL_NAME
from llama.scripts import ANSWER_REPLY, ONE_CALL_INPUT, RIVER_LEVEL
from llama.server import LlamaServer
from pydantic import BaseModel
from variants import Async, Sync

from modelslab_llm import Endpoint, InvalidRequestError, Message, ModelsLab, endpoints
from modelslab_llm._protocol.check import MESSAGE, checked
from modelslab_llm.openai import NotCarriedOverWarning, to_chat_completion, to_messages
from modelslab_llm.testing import LocalServer, Reply

Json = dict[str, Any]
SAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "samples" / "openai").glob("*.json"))
}
CARRIED = {name: sample for name, sample in SAMPLES.items() if "params" in sample}
REFUSED = {name: sample for name, sample in SAMPLES.items() if "faults" in sample}


def carried(body: Json, **options: Any) -> tuple[Json, list[str]]:
    """Return the parameters, and the paths that were warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params: Any = to_messages(body, **options)
    assert all(each.category is NotCarriedOverWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)  # they point at the caller
    return params, sorted(str(each.message).partition(": ")[0] for each in caught)


@pytest.mark.parametrize("sample", CARRIED.values(), ids=CARRIED)
def test_a_body_is_carried_over(sample: Json) -> None:
    before = json.dumps(sample["body"])
    params, warned = carried(sample["body"], **sample.get("options", {}))
    assert params == sample["params"]
    assert warned == sorted(sample["warnings"])
    assert json.dumps(sample["body"]) == before
    assert faults(params["messages"]) == []
    checked(params, MESSAGE, endpoints.llm_v7(), "create")


@pytest.mark.parametrize("sample", REFUSED.values(), ids=REFUSED)
def test_a_body_is_refused(sample: Json) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        to_messages(sample["body"])
    assert str(refused.value).split("; ") == sample["faults"]


@pytest.mark.parametrize("sample", CARRIED.values(), ids=CARRIED)
def test_every_field_has_its_say(sample: Json) -> None:
    """Whatever is taken out of a body changes the parameters or the warnings, or asked nothing."""
    asks_nothing = {
        "full": {
            *("n", "stream", "logprobs", "seed", "store", "logit_bias", "presence_penalty"),
            *("frequency_penalty", "parallel_tool_calls", "response_format", "modalities"),
        },
        "without_a_place": {"stream", "stream_options"},
        "no_tool": {"parallel_tool_calls"},
        "empty_contents": {"stop", "tools"},
    }
    options = sample.get("options", {})
    whole = carried(sample["body"], **options)
    name = next(name for name, each in SAMPLES.items() if each is sample)
    for field in sample["body"].keys() - {"messages"} - asks_nothing.get(name, set()):
        less = {k: v for k, v in sample["body"].items() if k != field}
        assert carried(less, **options) != whole, field


def test_the_default_of_max_tokens_can_be_chosen() -> None:
    body = {"messages": [{"role": "user", "content": "Go"}]}
    assert to_messages(body, max_tokens=7)["max_tokens"] == 7
    assert to_messages(body | {"max_tokens": 8}, max_tokens=7)["max_tokens"] == 8


def test_objects_of_a_client_are_taken_too() -> None:
    class Function(BaseModel):
        name: str
        arguments: str

    class Call(BaseModel):
        id: str
        type: str = "function"
        function: Function

    class Answer(BaseModel):
        role: str
        content: str | None = None
        refusal: str | None = None
        annotations: list[str] | None = None
        tool_calls: list[Call] | None = None

    calls = [Call(id="a", function=Function(name="now", arguments="{}"))]
    answer = Answer(role="assistant", content=None, annotations=[], tool_calls=calls)
    result = {"role": "tool", "tool_call_id": "a", "content": "noon"}
    body = {"messages": [{"role": "user", "content": "Time?"}, answer, result]}
    params, warned = carried(body)
    assert params["messages"][1] == {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "a", "name": "now", "input": {}}],
    }
    assert not warned


def test_what_is_not_a_body_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="body: must be a dict, not list"):
        to_messages([{"role": "user", "content": "Go"}])  # type: ignore[arg-type]


# Replies


def completed(message: Message) -> tuple[Json, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        completion = to_chat_completion(message)
    assert all(each.filename == __file__ for each in caught)
    return completion, sorted(str(each.message).partition(": ")[0] for each in caught)


def test_a_reply_becomes_a_completion() -> None:
    message = Message.model_validate(
        {
            "id": "msg_1",
            "model": "local",
            "content": [
                {"type": "thinking", "thinking": "Two ", "signature": ""},
                {"type": "text", "text": "I will "},
                {"type": "text", "text": "ask."},
                {"type": "tool_use", "id": "a", "name": "level", "input": {"river": "Tamar ⚓"}},
                {"type": "tool_use", "id": "b", "name": "now", "input": {}},
            ],
            "stop_reason": "end_turn",  # as some gateways say in spite of the calls
            "stop_sequence": "END",
            "usage": {
                "input_tokens": 5,
                "cache_read_input_tokens": 20,
                "cache_creation_input_tokens": 3,
                "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 2},
            },
        }
    )
    completion, warned = completed(message)
    assert json.loads(json.dumps(completion)) == completion
    assert completion == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 0,
        "model": "local",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "I will ask.",
                    "refusal": None,
                    "reasoning_content": "Two ",
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "level", "arguments": '{"river": "Tamar ⚓"}'},
                        },
                        {
                            "id": "b",
                            "type": "function",
                            "function": {"name": "now", "arguments": "{}"},
                        },
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
                "stop_reason": "END",
            }
        ],
        "usage": {
            "prompt_tokens": 28,
            "completion_tokens": 7,
            "total_tokens": 35,
            "prompt_tokens_details": {"cached_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }
    assert not warned
    assert to_chat_completion(Message(), created=17)["created"] == 17


@pytest.mark.parametrize(
    ("stop_reason", "calls", "finish"),
    [
        ("end_turn", 0, "stop"),
        ("stop_sequence", 0, "stop"),
        ("pause_turn", 0, "stop"),
        (None, 0, "stop"),
        ("whatever", 0, "stop"),
        (None, 1, "tool_calls"),
        ("tool_use", 1, "tool_calls"),
        ("max_tokens", 0, "length"),
        ("max_tokens", 1, "length"),
        ("model_context_window_exceeded", 0, "length"),
        ("refusal", 0, "content_filter"),
        ("length", 0, "length"),
    ],
)
def test_why_it_finished(stop_reason: str | None, calls: int, finish: str) -> None:
    """Each stop reason becomes the finish reason that says the same."""
    content = [{"type": "tool_use", "id": "a", "name": "n", "input": {"x": 1}}] * calls
    message = Message.model_validate({"content": content, "stop_reason": stop_reason})
    assert to_chat_completion(message)["choices"][0]["finish_reason"] == finish


def test_what_a_completion_has_no_place_for_is_named() -> None:
    message = Message.model_validate(
        {
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "c2Vj"},
                {"type": "text", "text": "a", "citations": [{"type": "char_location"}]},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "of_tomorrow"},
            ],
            "stop_reason": "refusal",
            "stop_details": {"type": "refusal", "explanation": "Not that."},
        }
    )
    completion, warned = completed(message)
    assert warned == [
        *("content[0].signature", "content[1]", "content[2].citations", "content[3]", "content[4]")
    ]
    assert completion["choices"][0]["message"]["refusal"] == "Not that."


def test_arguments_that_were_cut_stay_what_they_were() -> None:
    cut = {"type": "tool_use", "id": "a", "name": "n", "input": '{"river": "Ta'}
    message = Message.model_validate({"content": [cut], "stop_reason": "max_tokens"})
    (call,) = to_chat_completion(message)["choices"][0]["message"]["tool_calls"]
    assert call["function"]["arguments"] == '{"river": "Ta'


# Round trips

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXT = st.text(min_size=1, max_size=9)
FIELDS = sorted({name for sample in CARRIED.values() for name in sample["body"]})


@st.composite
def replies(draw: st.DrawFn) -> Message:
    names = draw(st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3))
    arguments = st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3)
    blocks: list[Json] = [
        {"type": "tool_use", "id": name, "name": f"n_{name}", "input": draw(arguments)}
        for name in names
    ]
    if draw(st.booleans()) or not blocks:
        blocks.insert(0, {"type": "text", "text": draw(TEXT)})
    if draw(st.booleans()):
        blocks.insert(0, {"type": "thinking", "thinking": draw(TEXT), "signature": ""})
    return Message.model_validate(
        {"content": blocks, "stop_reason": "tool_use" if names else "end_turn"}
    )


@pytest.mark.slow
@settings(PROPERTY, max_examples=200)
@given(st.lists(st.tuples(TEXT, replies(), TEXT), min_size=1, max_size=3))
def test_a_history_survives_the_way_there_and_back(
    exchanges: list[tuple[str, Message, str]],
) -> None:
    messages: list[Json] = []
    for question, reply, found in exchanges:
        messages.append({"role": "user", "content": question})
        messages.append(to_chat_completion(reply)["choices"][0]["message"])
        messages += [
            {"role": "tool", "tool_call_id": use.id, "content": found} for use in reply.tool_uses
        ]
    body = json.loads(json.dumps({"messages": messages}))
    params, warned = carried(body, keep_reasoning=True)
    assert not warned
    assert faults(params["messages"]) == []
    there = [turn for turn in params["messages"] if turn["role"] == "assistant"]
    for turn, (_, reply, _) in zip(there, exchanges, strict=True):
        sent = turn["content"]
        blocks = [{"type": "text", "text": sent}] if isinstance(sent, str) else sent
        assert blocks == reply.to_param()["content"]


PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(max_size=3)),
    st.sampled_from(
        [
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "refusal", "refusal": "No."},
            {"type": "input_audio", "input_audio": {}},
            {"type": None},
            None,
        ]
    ),
)
CONTENT = st.none() | st.text(max_size=3) | st.lists(PARTS, max_size=3)
CALLS = st.lists(
    st.builds(
        lambda id, arguments: {"id": id, "function": {"name": "n", "arguments": arguments}},
        st.sampled_from(["a", "b", "", None]),
        st.sampled_from(["{}", "", None, "[", '{"x": 1}']),
    ),
    max_size=2,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "function"])},
    optional={
        "content": CONTENT,
        "tool_calls": CALLS,
        "tool_call_id": st.sampled_from(["a", "b", None]),
        "function_call": st.sampled_from([None, {"name": "n", "arguments": "{}"}]),
        "name": st.just("n"),
    },
)


@pytest.mark.slow
@settings(PROPERTY, max_examples=400)
@given(st.lists(MESSAGES, max_size=6))
def test_any_messages_become_a_valid_history_or_are_refused(messages: list[Any]) -> None:
    with suppress(InvalidRequestError):
        params, _ = carried({"messages": messages})
        assert faults(params["messages"]) == []


@pytest.mark.slow
@settings(PROPERTY, max_examples=200)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES))
def test_any_body_is_carried_over_or_refused(body: Json) -> None:
    """No other error comes, whatever the values are."""
    body = body | {"messages": [{"role": "user", "content": "Go"}]}
    with suppress(InvalidRequestError):
        carried(body)


# On servers


@pytest.fixture
def loud() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCarriedOverWarning)
        yield


@pytest.mark.usefixtures("loud")
@pytest.mark.parametrize("streams", [True, False])
def test_a_chat_program_runs_on_llama_server(
    variant: Sync | Async, llama_tools: LlamaServer, streams: bool
) -> None:
    at = endpoints.gateway(llama_tools.url, default_model=MODEL_NAME)
    client = variant.client(api_key=llama_tools.api_key, endpoint=at)
    function = {"name": RIVER_LEVEL["name"], "parameters": RIVER_LEVEL["input_schema"]}
    body: Json = {
        "max_tokens": 300,
        "temperature": 0.0,
        "tools": [{"type": "function", "function": function}],
        "messages": [{"role": "user", "content": "How high is the Tamar?"}],
    }

    def ask() -> Json:
        params: Any = to_messages(body)
        if not streams:
            return to_chat_completion(client.create(**params))
        with client.stream(**params) as stream:
            return to_chat_completion(stream.message())

    (choice,) = ask()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == ONE_CALL_INPUT
    result = {"role": "tool", "tool_call_id": call["id"], "content": "214 cm"}
    body["messages"] += [choice["message"], result]
    completion = ask()
    assert completion["choices"][0]["message"]["content"] == ANSWER_REPLY
    assert completion["usage"]["prompt_tokens"] > 20
    client.close()


def test_the_page_changes_a_program_in_the_marked_lines_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "from-openai.md").read_text(encoding="utf-8")
    before = re.findall(r"^```py\n(.*?)^```", page, re.M | re.S)[0]
    after = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[0]
    kept = [line for line in after.splitlines() if "←" not in line]
    changed = [line for line in before.splitlines() if line not in kept]
    assert kept == [line for line in before.splitlines() if line not in changed]
    assert len(changed) == 3

    call = {"type": "tool_use", "id": "a", "name": "river_level", "input": {"river": "Tamar"}}
    with LocalServer([Reply([call]), "214 cm."]) as server:
        monkeypatch.setenv("MODELSLAB_BASE_URL", server.url)
        monkeypatch.setenv("MODELSLAB_API_KEY", str(server.api_key))
        names: Json = {}
        exec(after, names)
        names["client"].close()
        sent = server.requests[-1].body["messages"]
    assert capsys.readouterr().out == "214 cm.\n"
    assert sent[1]["content"] == [call]
    assert sent[2]["content"][0]["tool_use_id"] == "a"


@pytest.mark.parametrize("sample", CARRIED.values(), ids=CARRIED)
def test_every_carried_body_is_sent(sample: Json, server: LocalServer) -> None:
    params, _ = carried(sample["body"], **sample.get("options", {}))
    with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
        message = client.messages.create(**params)
    assert to_chat_completion(message)["choices"][0]["finish_reason"] == "stop"
    sent = server.requests[-1].body
    assert sent["messages"] == params["messages"]
    for name, value in (params.get("extra_body") or {}).items():
        assert sent[name] == value


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_a_schema_that_the_endpoint_ignores_is_refused(server: LocalServer, verb: str) -> None:
    """Else the answer would look as if it were held to it."""
    params, _ = carried(CARRIED["json_schema"]["body"])
    with ModelsLab(server.api_key, endpoint=server.gguf("dep_1")) as client:
        with pytest.raises(InvalidRequestError, match=r"output_config.format: this server"):
            getattr(client.messages, verb)(**params)
    assert not server.requests


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        (None, 1),
        (endpoints.llm_v7(), 1),
        (endpoints.gguf("dep_1"), 1),
        (endpoints.gateway("http://127.0.0.1:8080"), 1.4),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_a_gateway_decides_how_hot_it_may_be(endpoint: Endpoint | None, sent: float) -> None:
    body = {"messages": [{"role": "user", "content": "Go"}], "temperature": 1.4}
    params, warned = carried(body, endpoint=endpoint)
    assert params["temperature"] == sent
    assert warned == (["temperature"] if sent == 1 else [])
