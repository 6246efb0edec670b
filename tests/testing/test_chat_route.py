"""The chat route of the local server: the same script, in the OpenAI format."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from scripted import Way
from variants import Async, Sync

from modelslab_llm import BadRequestError, InternalServerError, NotFoundError, endpoints
from modelslab_llm.openai import from_chat_chunks, from_chat_completion
from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply

Json = dict[str, Any]
ASK: Json = {"model": "any", "messages": [{"role": "user", "content": "Hello there"}]}
BLOCKS = [
    {"type": "thinking", "thinking": "Warm.", "signature": ""},
    {"type": "text", "text": "It is 18 °C."},
    {"type": "tool_use", "id": "a", "name": "level", "input": {"river": "Tamar", "days": [1, 2]}},
]


def ask(server: LocalServer, body: Json, path: str = "/gateway/v1/chat/completions") -> Any:
    headers = {"authorization": f"Bearer {server.api_key}"}
    # There is no TLS, and to read the CA certificates takes longer than the test.
    return httpx.post(server.url + path, json=body, headers=headers, trust_env=False, verify=False)


def chunks_of(text: str) -> list[Json]:
    *lines, last = [line for line in text.split("\n") if line]
    assert last == "data: [DONE]"
    assert all(line.startswith("data: {") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    "path",
    [
        "/gateway/v1/chat/completions",
        "/api/gguf/dep_1/v1/chat/completions",
        "/api/v7/llm/chat/completions",
    ],
)
def test_an_echo_where_each_endpoint_has_it(server: LocalServer, path: str) -> None:
    completion = ask(server, ASK, path).json()
    assert completion["object"] == "chat.completion"
    assert completion["model"] == "any"
    (choice,) = completion["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (
        "You said: Hello there",
        "stop",
    )
    assert completion["usage"]["completion_tokens"] == 4
    assert server.requests[-1].path == path


def test_v7_has_it_under_no_other_path(server: LocalServer) -> None:
    assert ask(server, ASK, "/api/v7/llm/v1/chat/completions").status_code == 404
    assert ask(server, ASK, "/gateway/chat/completions").status_code == 404


@pytest.mark.parametrize("dialect", ["anthropic", "llama-server", "vllm", "litellm", "ollama"])
def test_a_reply_whole_and_in_chunks(dialect: Any) -> None:
    with LocalServer(Reply(BLOCKS), dialect=dialect) as server:
        whole = from_chat_completion(ask(server, ASK).json())
        streamed = ask(server, {**ASK, "stream": True, "stream_options": {"include_usage": True}})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    chunks = chunks_of(streamed.text)
    assert len(chunks) > 8
    events = list(from_chat_chunks(chunks))
    assert whole.thinking == "Warm."
    assert whole.text == "It is 18 °C."
    assert whole.tool_uses[0].input == {"river": "Tamar", "days": [1, 2]}
    assert whole.stop_reason == "tool_use"
    assert chunks[-1]["usage"]["completion_tokens"] == whole.usage.output_tokens
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == 3


def test_usage_only_if_asked_for(server: LocalServer) -> None:
    assert not any(
        "usage" in chunk for chunk in chunks_of(ask(server, ASK | {"stream": True}).text)
    )


def test_a_script_sees_the_words_of_messages() -> None:
    """A function of the request, and the assertions, need not know which route was taken."""
    tool = {"type": "function", "function": {"name": "level", "parameters": {"type": "object"}}}
    form = {"type": "json_schema", "json_schema": {"name": "o", "schema": {"type": "object"}}}
    body = {
        "model": "any",
        "max_completion_tokens": 9,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "How high?"}]},
        ],
        "tools": [tool],
        "response_format": form,
    }
    with LocalServer(lambda request: f"{request.system} {request.text}") as server:
        completion = ask(server, body).json()
        assert completion["choices"][0]["message"]["content"] == "Be brief. How high?"
        request = server.assert_called_once(
            text="How high?",
            system="Be brief.",
            messages=[{"role": "user", "content": "How high?"}],
            max_tokens=9,
            response_format=form,
        )
    assert request.is_message_call
    assert request.is_chat_call
    assert request.body == body
    assert [each["name"] for each in request.tools] == ["level"]


def test_what_is_wrong_with_a_body(server: LocalServer) -> None:
    refused = ask(server, {"model": "any", "messages": [{"role": "robot", "content": "x"}]})
    assert refused.status_code == 400
    assert "messages[0].role" in refused.json()["error"]["message"]
    assert ask(server, {"messages": ASK["messages"]}).status_code == 400


def test_failures_and_a_wrong_key() -> None:
    with LocalServer([ErrorReply(529, "Busy.")]) as server:
        failed = ask(server, ASK)
        assert (failed.status_code, failed.json()["error"]["message"]) == (529, "Busy.")
        server.api_key = "another"
        wrong = httpx.post(
            f"{server.url}/gateway/v1/chat/completions",
            json=ASK,
            headers={"authorization": "Bearer x"},
        )
        assert wrong.status_code == 401


class Level(BaseModel):
    """A level."""

    river: str
    cm: int


ASK_LEVEL: Json = {"max_tokens": 99, "messages": [{"role": "user", "content": "How high?"}]}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_structured_output_by_the_default_of_a_deployment(
    variant: Sync | Async, streamed: bool
) -> None:
    with LocalServer('{"river": "Tamar", "cm": 214}') as server:
        client = variant.client(api_key=server.api_key, endpoint=server.gguf("dep_1"))
        if streamed:
            with client.parse_stream(output=Level, **ASK_LEVEL) as stream:
                assert {"river": "Tamar"} in list(stream.partials())
                message = stream.message()
        else:
            message = client.parse(output=Level, **ASK_LEVEL)
        request = server.assert_called_once(model="local", max_tokens=99, stream=streamed)
        client.close()
    assert message.parsed == Level(river="Tamar", cm=214)
    assert message.usage.output_tokens > 0
    assert request.path == "/api/gguf/dep_1/v1/chat/completions"
    schema = request.body["response_format"]["json_schema"]["schema"]
    assert schema["properties"].keys() == {"river", "cm"}
    assert '"river"' in (request.system or "")
    assert request.credentials == {"x-api-key": server.api_key}


def test_a_stream_of_chunks_that_breaks(variant: Sync | Async) -> None:
    fault = Fault.error("overloaded_error", "Too much.", after=4)
    with LocalServer(Reply('{"river": "Tamar"}', fault=fault)) as server:
        endpoint = endpoints.llama_server(server.gateway().base_url, auth="bearer")
        client = variant.client(api_key=server.api_key, endpoint=endpoint, max_retries=0)
        with pytest.raises(InternalServerError, match="Too much") as failed:
            with client.parse_stream(output=Level, **ASK_LEVEL) as stream:
                list(stream.partials())
        client.close()
    assert failed.value.partial_message.text


@pytest.mark.parametrize("kind", ["llm_v7", "gguf", "gateway"])
def test_counts_and_models_are_scripted(way: Way, kind: str) -> None:
    """They too are answers, and a test may want its own; each is said as the endpoint says it."""
    scripted = way.server()
    where = scripted.gguf("dep_1") if kind == "gguf" else getattr(scripted, kind)()
    client = way.client(scripted, endpoint=where)
    turn = [{"role": "user", "content": "x"}]
    scripted.token_count, scripted.models = 12_345, ["a/b", "c"]
    assert client.count_tokens(model="m", messages=turn).input_tokens == 12_345
    assert [model.id for model in client.models()] == ["a/b", "c"]
    scripted.models = {"data": [{"id": "x", "max_input_tokens": 7}]}
    assert client.models()[0].context_window == 7
    scripted.token_count, scripted.models = ErrorReply(400, "No."), ErrorReply(404, "None.")
    with pytest.raises(BadRequestError, match="No"):
        client.count_tokens(model="m", messages=turn)
    with pytest.raises(NotFoundError, match="None"):
        client.models()
