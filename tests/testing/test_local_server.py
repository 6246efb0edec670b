"""Test the local server from outside: raw httpx, real sockets, no part of the client."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from patience import patient, until

from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply
from modelslab_llm.testing._script.received import receive
from modelslab_llm.testing._script.script import Replies
from modelslab_llm.testing._serve.answer import Rules, answer

BASES = {"v7": "/api/v7/llm", "gguf": "/api/gguf/dep_1", "gateway": "/gateway"}
ASK: dict[str, Any] = {
    "model": "m/1",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Name a tidal river."}],
}
KEY = {"x-api-key": "local-test-key"}

each_kind = pytest.mark.parametrize("kind", list(BASES))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert set(threading.enumerate()) <= set(before)  # one of another test may have ended


@pytest.fixture(scope="module")  # a client costs 25 ms for its TLS context
def http() -> Iterator[httpx.Client]:
    with httpx.Client(headers=KEY, timeout=10, trust_env=False) as client:
        yield client


def ask(
    http: httpx.Client, server: LocalServer, kind: str = "gateway", **changes: object
) -> httpx.Response:
    return http.post(f"{server.url}{BASES[kind]}/v1/messages", json={**ASK, **changes})


def events(body: str) -> list[dict[str, Any]]:
    """Parse a stream; event names and data agree, and nothing is between the events."""
    found: list[dict[str, Any]] = []
    for part in body.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == "event: " + found[-1]["type"]
    return found


def joined(stream: list[dict[str, Any]], kind: str) -> str:
    deltas = [e["delta"] for e in stream if e["type"] == "content_block_delta"]
    return "".join(d[kind] for d in deltas if kind in d)


# Messages


@each_kind
def test_echo(http: httpx.Client, kind: str) -> None:
    with LocalServer() as server:
        response = ask(http, server, kind)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.json() == {
            "id": "msg_local_0001",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "You said: Name a tidal river."}],
            "model": "m/1",
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 4, "output_tokens": 6},
        }
        assert ask(http, server, kind).json()["id"] == "msg_local_0002"


def test_echo_takes_the_last_user_text_wherever_it_is(http: httpx.Client) -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    result = [{"type": "tool_result", "tool_use_id": "t", "content": blocks}]
    with LocalServer() as server:
        for content, said in [(blocks, "one\ntwo"), (result, "one\ntwo"), ([], "")]:
            turns = [
                {"role": "user", "content": "first"},
                {"role": "user", "content": content},
                {"role": "assistant", "content": "prefill"},
            ]
            reply = ask(http, server, messages=turns).json()
            assert reply["content"][0]["text"] == f"You said: {said}"


@each_kind
def test_stream_in_anthropics_order(http: httpx.Client, kind: str) -> None:
    content: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Which port?", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Looking. ", "citations": [{"cited_text": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"port": "Brest"}},
    ]
    usage = {"input_tokens": 31, "cache_read_input_tokens": 7, "output_tokens": 88}
    with LocalServer(Reply(content, usage=usage)) as server:
        response = ask(http, server, kind, stream=True)
        whole = ask(http, server, kind).json()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    stream = events(response.text)
    assert [(e["type"], e.get("index")) for e in stream] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("ping", None),
        *[("content_block_delta", 0)] * 3,
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_stop", 1),
        ("content_block_start", 2),
        *[("content_block_delta", 2)] * 2,
        ("content_block_stop", 2),
        ("content_block_start", 3),
        *[("content_block_delta", 3)] * 4,
        ("content_block_stop", 3),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert stream[0]["message"] == {
        **whole,
        "id": "msg_local_0001",
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 0},
    }
    assert [e["content_block"] for e in stream if e["type"] == "content_block_start"] == [
        {"type": "thinking", "thinking": "", "signature": ""},
        content[1],
        {"type": "text", "text": "", "citations": []},
        {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {}},
    ]
    deltas = [e["delta"] for e in stream if e["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "Which "},
        {"type": "thinking_delta", "thinking": "port?"},
        {"type": "signature_delta", "signature": "c2ln"},
        {"type": "text_delta", "text": "Looking. "},
        {"type": "citations_delta", "citation": {"cited_text": "x"}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"port":'},
        {"type": "input_json_delta", "partial_json": ' "Brest"'},
        {"type": "input_json_delta", "partial_json": "}"},
    ]
    assert stream[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": usage,
    }


def test_the_exact_bytes_of_a_stream(http: httpx.Client) -> None:
    body = {"id": "x", "type": "message", "content": [{"type": "text", "text": "é"}]}
    with LocalServer(body) as server:
        assert ask(http, server, stream=True).content == (
            b'event: message_start\ndata: {"type":"message_start",'
            b'"message":{"id":"x","type":"message","content":[]}}\n\n'
            b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
            b'"content_block":{"type":"text","text":""}}\n\n'
            b'event: ping\ndata: {"type":"ping"}\n\n'
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            b'"delta":{"type":"text_delta","text":"\xc3\xa9"}}\n\n'
            b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
            b'event: message_delta\ndata: {"type":"message_delta","delta":{}}\n\n'
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "one",
        " lead and trail \n\n",
        "tab\tand\r\nlines\u2028and\x85more\xa0spaces",
        "naïve — 漢字 🪁 \ud83d half",
    ],
)
def test_deltas_join_to_the_text(http: httpx.Client, text: str) -> None:
    content = [{"type": "text", "text": text}, {"type": "thinking", "thinking": text}]
    with LocalServer(Reply(content)) as server:
        stream = events(ask(http, server, stream=True).text)
        assert joined(stream, "text") == joined(stream, "thinking") == text
        assert ask(http, server).json()["content"] == content


@pytest.mark.parametrize("given", [{}, {"a": [1.5, None, True], "b": {"c": '漢字 \ud83d "'}}])
def test_tool_input_pieces_join_to_the_input(http: httpx.Client, given: dict[str, object]) -> None:
    block = {"type": "tool_use", "id": "t", "name": "n", "input": given}
    with LocalServer(Reply([block])) as server:
        stream = events(ask(http, server, stream=True).text)
    pieces = [e["delta"]["partial_json"] for e in stream if e["type"] == "content_block_delta"]
    assert pieces[0] == ""
    assert all(1 <= len(piece) <= 8 for piece in pieces[1:])
    assert json.loads("".join(pieces)) == given


def test_reply_without_content(http: httpx.Client) -> None:
    with LocalServer(Reply(stop_reason="refusal")) as server:
        assert ask(http, server).json()["content"] == []
        stream = events(ask(http, server, stream=True).text)
    assert [e["type"] for e in stream] == ["message_start", "message_delta", "message_stop"]
    assert stream[1]["delta"]["stop_reason"] == "refusal"


def test_reply_fields_are_kept(http: httpx.Client) -> None:
    reply = Reply("x", "stop_sequence", "END", usage={"input_tokens": 1}, model="other", id="")
    with LocalServer(reply) as server:
        body = ask(http, server).json()
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")
    assert (body["usage"], body["model"], body["id"]) == ({"input_tokens": 1}, "other", "")


def test_a_mapping_is_sent_as_it_is(http: httpx.Client) -> None:
    body = {"content": None, "odd": [1]}
    with LocalServer([body, body, {"error": {"code": 1}}]) as server:
        assert ask(http, server).json() == body
        assert events(ask(http, server, stream=True).text)[0]["message"] == {
            "content": [],
            "odd": [1],
        }
        odd = ask(http, server, stream=True)
        assert (odd.status_code, odd.json()) == (200, {"error": {"code": 1}})


# Scripts


def test_script_of_successive_answers(http: httpx.Client) -> None:
    with LocalServer(["first", ErrorReply(529), Reply("third")]) as server:
        assert ask(http, server).json()["content"][0]["text"] == "first"
        assert ask(http, server).status_code == 529
        ask(http, server, model="")  # refused, so it takes no answer
        assert joined(events(ask(http, server, stream=True).text), "text") == "third"
        for call in (4, 5):
            response = ask(http, server)
            assert response.status_code == 500
            assert response.json()["error"]["message"] == (
                f"the script is used up: answers 3, message calls {call}"
            )


def test_script_function(http: httpx.Client) -> None:
    def script(request: ReceivedRequest) -> str | ErrorReply:
        assert request.body["model"] != "bad", "no such model here"
        if request.stream:
            return ErrorReply(400, "no streams")
        return f"{request.body['messages'][-1]['content']}!"

    with LocalServer(script) as server:
        assert ask(http, server).json()["content"][0]["text"] == "Name a tidal river.!"
        assert ask(http, server, stream=True).status_code == 400
        response = ask(http, server, model="bad")
        assert response.status_code == 500
        error = response.json()["error"]
        assert error["type"] == "api_error"
        assert "AssertionError: no such model here" in error["message"]
        assert ask(http, server).status_code == 200
    assert [type(error) for error in server.script_errors] == [AssertionError]


def test_what_a_script_function_may_not_do(http: httpx.Client) -> None:
    wrong: list[Any] = [{"content": "no"}, Reply([{"type": "odd", "set": {1}}]), None]

    def script(request: ReceivedRequest) -> Any:
        return wrong.pop() if wrong else pytest.fail("a BaseException")

    with LocalServer(script) as server:
        said = [ask(http, server, stream=True).json()["error"]["message"] for _ in range(4)]
    assert [message.split(":")[0] for message in said] == [
        "the script raised TypeError",
        "the script raised TypeError",
        "the script raised AttributeError",
        "the script raised Failed",
    ]
    assert len(server.script_errors) == 4


@pytest.mark.parametrize("script", [b"bytes", [1], ["fine", None], 7])
def test_script_of_a_wrong_type(script: Any) -> None:
    with pytest.raises(TypeError):
        LocalServer(script)


# Routes, keys, errors


@each_kind
def test_count_tokens(http: httpx.Client, kind: str) -> None:
    body = {"model": "m", "system": "Be brief.", "messages": ASK["messages"]}
    with LocalServer() as server:
        url = f"{server.url}{BASES[kind]}/v1/messages/count_tokens?beta=true"
        assert http.post(url, json=body).json() == {"input_tokens": 6}
        empty = [{"role": "user", "content": ""}]
        assert http.post(url, json={**body, "system": [], "messages": empty}).json() == {
            "input_tokens": 1
        }
        assert http.post(url, json={"model": "m"}).status_code == 400


def test_model_lists(http: httpx.Client) -> None:
    with LocalServer() as server:
        v7, gguf, gateway = (
            http.get(f"{server.url}{base}/v1/models").json() for base in BASES.values()
        )
    assert v7["object"] == "list"
    assert len(v7["data"]) == 2
    assert any("/" in model["id"] for model in v7["data"])
    assert gguf["models"][0]["name"] == gguf["data"][0]["id"]
    assert gguf["data"][0]["meta"]["n_ctx"] == 4096
    assert [model["type"] for model in gateway["data"]] == ["model"] * 3
    assert gateway["has_more"] is False


def test_model_list_in_pages(http: httpx.Client) -> None:
    seen: list[str] = []
    query = {"limit": "2"}
    with LocalServer() as server:
        url = f"{server.url}/v1/models"
        while True:
            page = http.get(url, params=query).json()
            seen += [model["id"] for model in page["data"]]
            assert (page["first_id"], page["last_id"]) == (
                page["data"][0]["id"],
                page["data"][-1]["id"],
            )
            if not page["has_more"]:
                break
            query["after_id"] = page["last_id"]
        assert len(seen) == len(set(seen)) == 3
        assert http.get(url, params={"after_id": seen[-1]}).json()["first_id"] is None
        for bad in ({"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"after_id": "x"}):
            assert http.get(url, params=bad).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/messages", 200),
        ("POST", "/v1/messages?beta=true", 200),
        ("POST", "/any/prefix/v1/messages", 200),
        ("POST", "/v1/messages/", 404),
        ("POST", "/v1/chat/completions", 200),
        ("POST", "/chat/completions", 404),
        ("POST", "//v1/messages", 404),
        ("POST", "/v1/v1/messages", 404),
        ("POST", "/api/v7/llm/v1/v1/messages", 404),
        ("POST", "/api/v7/llm/messages", 404),
        ("POST", "/api/v7/llm", 404),
        ("POST", "/api/gguf/v1/messages", 404),
        ("GET", "/", 404),
        ("GET", "/v1/messages", 405),
        ("HEAD", "/v1/models", 405),
        ("POST", "/api/gguf/dep_1/v1/models", 405),
    ],
)
def test_routes(http: httpx.Client, method: str, path: str, status: int) -> None:
    with LocalServer() as server:
        # httpx itself is told nothing of `//`: it would take what follows for a host.
        url = httpx.URL(server.url).copy_with(raw_path=path.encode())
        response = http.request(method, url, json=ASK)
        assert response.status_code == status
        assert server.requests[0].path == path
        assert http.get(f"{server.url}/v1/models").status_code == 200  # and it goes on


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({}, ""),
        ({"x-api-key": "local-test-key"}, "v7 gguf gateway"),
        ({"authorization": "Bearer local-test-key"}, "v7 gguf gateway"),
        ({"authorization": "bearer  local-test-key"}, "v7 gguf gateway"),
        ({"key": "local-test-key"}, "gguf gateway"),
        ({"authorization": "local-test-key"}, ""),
        ({"authorization": "Basic local-test-key"}, ""),
        ({"x-api-key": "other"}, ""),
        ({"x-api-key": "local-test-key", "authorization": "Bearer stale"}, ""),
        ({"x-api-key": "local-test-key", "authorization": "Bearer local-test-key"}, "v7"),
    ],
)
@each_kind
def test_keys(kind: str, headers: dict[str, str], welcome: str) -> None:
    """Which header a route takes the key from is that of the real server."""
    with (
        LocalServer() as server,
        httpx.Client(headers=headers, trust_env=False, verify=False) as http,
    ):
        status = ask(http, server, kind).status_code
    if len(headers) == 2 and welcome:
        welcome = "v7 gguf gateway"
    assert status == (200 if kind in welcome.split() else 401)


def test_own_key_and_no_key() -> None:
    with LocalServer(api_key="mine") as server, httpx.Client(trust_env=False) as http:
        http.headers["x-api-key"] = "mine"
        assert ask(http, server).status_code == 200
        http.headers["x-api-key"] = "local-test-key"
        assert ask(http, server).status_code == 401
        server.api_key = None
        assert ask(http, server).status_code == 200
        del http.headers["x-api-key"]
        assert ask(http, server).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("gguf", {"error": {"type": "authentication_error", "message": "Invalid API key."}}),
        (
            "v7",
            {
                "error": {
                    "message": "Invalid API key.",
                    "type": "authentication_error",
                    "code": "authentication",
                }
            },
        ),
        (
            "gateway",
            {
                "type": "error",
                "error": {"type": "authentication_error", "message": "Invalid API key."},
                "request_id": "req_local_0001",
            },
        ),
    ],
)
def test_error_envelopes(http: httpx.Client, kind: str, body: object) -> None:
    """A refusal has the form of the server that the route stands for."""
    with LocalServer(api_key="other") as server:
        response = ask(http, server, kind)
    assert (response.status_code, response.json()) == (401, body)


def test_gateway_answers_carry_a_request_id(http: httpx.Client) -> None:
    with LocalServer(["x", "y", ErrorReply(500, body=b"")]) as server:
        ids = [
            ask(http, server).headers["request-id"],
            ask(http, server, stream=True).headers["request-id"],
            ask(http, server).headers["request-id"],
            http.get(f"{server.url}/v1/models").headers["request-id"],
            http.get(f"{server.url}/nowhere").headers["request-id"],
        ]
        assert ids == [f"req_local_000{n}" for n in range(1, 6)]
        assert "request-id" not in ask(http, server, "v7").headers
        assert "request-id" not in ask(http, server, "gguf").headers


def test_failures(http: httpx.Client) -> None:
    """A scripted refusal has the status, body and headers that the script says."""
    script = [
        ErrorReply(429, "Slow.", headers={"Retry-After": "2"}),
        ErrorReply(503, type="odd_error"),
        ErrorReply(418),
        ErrorReply(524, body=b"<html>", headers={"Content-Type": "text/html"}),
        ErrorReply(204),
    ]
    with LocalServer(script) as server:
        slow, odd, teapot, html, nothing = (ask(http, server) for _ in script)
    assert (slow.status_code, slow.headers["retry-after"]) == (429, "2")
    assert slow.json()["error"] == {"type": "rate_limit_error", "message": "Slow."}
    assert odd.json()["error"]["type"] == "odd_error"
    assert teapot.json()["error"] == {
        "type": "invalid_request_error",
        "message": "Scripted failure with status 418.",
    }
    assert (html.headers["content-type"], html.content) == ("text/html", b"<html>")
    assert (nothing.status_code, nothing.content) == (204, b"")
    with pytest.raises(ValueError, match="200 to 599"):
        ErrorReply(100)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "The body is not a JSON object."),
        (b"[]", "The body is not a JSON object."),
        (b"", "The body is not a JSON object."),
        (b"\xff", "The body is not a JSON object."),
        (b"[" * 100_000, "The body is not a JSON object."),
        (b"{}", "model: field required; max_tokens: field required; messages: field required"),
        (
            b'{"model": "", "max_tokens": 0, "messages": []}',
            "model: must be the name of a model; max_tokens: must be a whole number, at least 1; "
            "messages: must be a list of at least one message",
        ),
        (
            b'{"model": "m", "max_tokens": true, "messages": [null]}',
            "max_tokens: must be a whole number, at least 1; "
            "messages: must be a list of at least one message",
        ),
    ],
)
def test_request_checks(http: httpx.Client, raw: bytes, said: str) -> None:
    """A body that no server would take is refused with all that is wrong with it."""
    with LocalServer() as server:
        response = http.post(f"{server.url}/v1/messages", content=raw)
        assert response.status_code == 400
        assert response.json()["error"] == {"type": "invalid_request_error", "message": said}
        assert server.requests[0].raw == raw


# GGUF deployments


def test_deployment_states(http: httpx.Client) -> None:
    not_ready = "Endpoint is not ready (status: {}). It may still be deploying or paused."
    expected: dict[str, tuple[int, object]] = {
        "deploying": (503, {"type": "overloaded_error", "message": not_ready.format("deploying")}),
        "paused": (503, {"type": "overloaded_error", "message": not_ready.format("paused")}),
        "loading": (
            503,
            {"message": "Loading model", "type": "unavailable_error", "code": 503},
        ),
        "unreachable": (
            502,
            {
                "type": "api_error",
                "message": "The model endpoint is unreachable right now. "
                "It may be restarting — try again in a moment.",
            },
        ),
    }
    with LocalServer(deployments={"dep_1": "ready"}) as server:
        assert ask(http, server, "gguf").status_code == 200
        for state, (status, error) in expected.items():
            server.deployments["dep_1"] = state
            for response in (
                ask(http, server, "gguf", stream=True),
                http.get(f"{server.url}/api/gguf/dep_1/v1/models"),
            ):
                assert (response.status_code, response.json()) == (status, {"error": error})
        server.deployments["dep_1"] = "ready"
        assert ask(http, server, "gguf").status_code == 200
        unknown = http.post(f"{server.url}/api/gguf/dep_2/v1/messages", json=ASK)
        assert (unknown.status_code, unknown.json()) == (
            404,
            {
                "error": {
                    "type": "not_found_error",
                    "message": "No deployment found for this endpoint.",
                }
            },
        )


def test_states_without_a_list_of_deployments(http: httpx.Client) -> None:
    with LocalServer() as server:
        server.deployments["dep_1"] = "paused"
        assert ask(http, server, "gguf").status_code == 503
        assert http.post(f"{server.url}/api/gguf/dep_2/v1/messages", json=ASK).status_code == 200
        assert ask(http, server, "v7").status_code == 200


# The server itself


def test_endpoints(http: httpx.Client) -> None:
    with LocalServer() as server:
        for endpoint in (server.llm_v7(), server.gguf("dep_1"), server.gateway(auth="key")):
            assert endpoint.base_url.startswith(f"{server.url}/")
            url = f"{endpoint.base_url}/v1/messages"
            assert http.post(url, json=ASK).status_code == 200
        assert server.gateway().auth == "bearer"


def test_requests_are_kept_in_order(http: httpx.Client) -> None:
    with LocalServer() as server:
        http.get(f"{server.url}/v1/models?limit=1", headers=[("X-Two", "a"), ("X-Two", "b")])
        ask(http, server, stream=True)
        snapshot = server.requests
        snapshot.clear()
    first, second = server.requests  # readable after the end
    assert (first.method, first.path, first.body, first.raw, first.stream) == (
        "GET",
        "/v1/models?limit=1",
        None,
        b"",
        False,
    )
    assert first.headers["x-two"] == "a, b"
    assert (second.path, second.body["model"], second.stream) == (
        "/gateway/v1/messages",
        "m/1",
        True,
    )
    assert json.loads(second.raw) == second.body


def test_start_and_close(http: httpx.Client) -> None:
    """A server starts once, closes as often as one likes, and starts again."""
    server = LocalServer()
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        server.llm_v7()
    server.close()  # nothing to do
    assert server.start() is server
    with pytest.raises(RuntimeError, match="already runs"):
        server.start()
    first = server.url
    assert ask(http, server).status_code == 200
    server.close()
    server.close()
    with pytest.raises(RuntimeError, match=r"call start\(\)"):
        _ = server.url
    with pytest.raises(httpx.ConnectError):
        http.get(first)
    with server:
        assert ask(http, server).json()["id"] == "msg_local_0002"


def test_connections_are_kept_alive(http: httpx.Client) -> None:
    def sockets(response: httpx.Response) -> object:
        return response.extensions["network_stream"].get_extra_info("client_addr")

    with LocalServer() as server:
        answers = [ask(http, server, stream=bool(n % 2)) for n in range(4)]
        answers.append(http.get(f"{server.url}/nowhere"))
        assert len({sockets(response) for response in answers}) == 1
        closed = http.get(f"{server.url}/v1/models", headers={"connection": "close"})
        assert closed.headers["connection"] == "close"


@pytest.mark.slow
@patient
def test_events_arrive_when_they_are_sent(http: httpx.Client, unit: float) -> None:
    with LocalServer(pause=unit) as server:
        url = f"{server.url}/v1/messages"
        started = time.monotonic()
        with http.stream("POST", url, json={**ASK, "stream": True}) as response:
            times = [time.monotonic() - started for _ in response.iter_raw()]
    assert len(times) == 12
    assert times[0] < 5 * unit
    assert times[-1] >= 11 * unit


@pytest.mark.slow
def test_fifty_streams_at_once(http: httpx.Client) -> None:
    text = "word " * 40
    with LocalServer(Reply(text, pause=0.005)) as server, ThreadPoolExecutor(50) as pool:
        together = threading.Barrier(50)

        def one(number: int) -> str:
            together.wait()
            return joined(events(ask(http, server, stream=True).text), "text")

        started = time.monotonic()
        assert set(pool.map(one, range(50))) == {text}
        assert time.monotonic() - started < 11  # one after another: 50 * 47 * 0.005
        assert len(server.requests) == 50
    assert server.disconnects == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "reply",
    [
        Reply("word " * 1000, pause=0.01),  # leaves during a pause
        Reply(("w" * 100_000 + " ") * 100),  # leaves while the server waits for room to write
    ],
)
def test_disconnects_are_counted(http: httpx.Client, reply: Reply) -> None:
    with LocalServer(reply) as server:
        url = f"{server.url}/v1/messages"
        for number in range(3):
            with http.stream("POST", url, json={**ASK, "stream": True}) as response:
                pieces = response.iter_raw()  # held, or its end would end the response
                next(pieces)
                assert server.disconnects == number
            until(lambda: server.disconnects > number)  # noqa: B023 - called at once
        assert http.get(f"{server.url}/v1/models").status_code == 200
    assert server.disconnects == 3


@pytest.mark.slow
def test_closing_amid_streams(http: httpx.Client) -> None:
    with LocalServer(Reply("word " * 1000, pause=0.01)) as server:
        url = f"{server.url}/v1/messages"
        with http.stream("POST", url, json={**ASK, "stream": True}) as response:
            pieces = response.iter_raw()
            next(pieces)
            server.close()
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                list(pieces)
    assert server.disconnects == 0


def test_what_is_not_http() -> None:
    with LocalServer() as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=5) as raw:
            raw.sendall(b"\x16\x03\x01 not http\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(address, timeout=5):
            pass  # comes and goes
        with socket.create_connection(address, timeout=5) as raw:
            raw.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf")
        with socket.create_connection(address, timeout=5) as raw:
            raw.sendall(b"GET /v1/models HTTP/1.0\r\nx-api-key: local-test-key\r\n\r\n")
            with raw.makefile("rb") as whole:
                assert whole.read().startswith(b"HTTP/1.1 200 ")
    assert [request.path for request in server.requests] == ["/v1/models"]
    assert server.disconnects == 0


def test_expect_continue_and_pipelining() -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: h\r\nx-api-key: local-test-key\r\n"
    body = json.dumps(ASK).encode()
    with LocalServer(["first", "second"]) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=5) as raw, raw.makefile("rb") as lines:
            raw.sendall(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
            assert lines.readline() == b"HTTP/1.1 100 \r\n"
            more = head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            raw.sendall(body + more + body)
            both = lines.read()
    assert both.index(b"first") < both.index(b"second")


@pytest.mark.slow
def test_nothing_is_left_behind() -> None:
    program = """
import socket, threading, time, httpx
from modelslab_llm.testing import LocalServer, Reply
turns = [{"role": "user", "content": "x"}]
ask = {"model": "m", "max_tokens": 9, "stream": True, "messages": turns}
for _ in range(5):
    with LocalServer(Reply("word " * 500, pause=0.01), api_key=None) as server:
        with httpx.Client(trust_env=False) as http:
            for _ in range(3):
                with http.stream("POST", server.url + "/v1/messages", json=ask) as response:
                    next(response.iter_raw())
            with http.stream("POST", server.url + "/v1/messages", json=ask) as response:
                server.close()
    with LocalServer(Reply(("w" * 100_000 + " ") * 100), api_key=None) as server:
        with httpx.Client(trust_env=False) as http:
            with http.stream("POST", server.url + "/v1/messages", json=ask) as response:
                server.close()
for delay in range(20):  # closed while clients are connecting
    server = LocalServer().start()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    def connect():
        try:
            while True:
                with socket.create_connection(address, timeout=5) as raw:
                    raw.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                    raw.recv(1)
        except OSError:
            pass
    clients = [threading.Thread(target=connect) for _ in range(8)]
    for client in clients:
        client.start()
    time.sleep(delay / 1000)
    server.close()
    for client in clients:
        client.join()
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


# Deciding, without a server


def test_answers_are_decided_without_a_server() -> None:
    request = receive("POST", "/v1/messages", [("X-Api-Key", "k")], json.dumps(ASK).encode())
    plan = answer(request, Replies("Yes."), Rules("k", {}, any_deployment=True), number=3)
    assert plan.status == 200
    assert plan.headers["request-id"] == "req_local_0003"
    assert len(plan.chunks) == 1
    assert plan.headers["content-length"] == str(len(plan.chunks[0].data))
