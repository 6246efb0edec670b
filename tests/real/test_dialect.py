"""The test kit's dialect `litellm` beside the real LiteLLM: the same shapes in each situation.

Compared is what a client can see of the form: names and kinds of fields, the order of events, what
headers carry. What is said differs, and so may the number of pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import httpx
import pytest
from llama.scripts import (
    ONE_CALL_INPUT,
    QUESTION_REPLY,
    RIVER_LEVEL,
    TEXT_REPLY,
    THOUGHT,
    TWO_CALLS_INPUTS,
    TWO_CALLS_TEXT,
)
from real.gateway import Gateway

from modelslab_llm.testing import ErrorReply, LocalServer, Reply

HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 300, "temperature": 0.0}
RIVER = {**HELLO, "tools": [RIVER_LEVEL]}
BOTH = {**RIVER, "messages": [{"role": "user", "content": "How high are both?"}]}


def call(number: int, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{number}", "name": "river_level", "input": given}


TEXT = {"type": "text", "text": TEXT_REPLY}
SITUATIONS: dict[str, tuple[str, dict[str, Any], Reply]] = {
    "text": ("text", HELLO, Reply([TEXT])),
    "text that is cut": (
        "text",
        {**HELLO, "max_tokens": 4},
        Reply("The capital of", stop_reason="max_tokens"),
    ),
    "a call": ("tools", RIVER, Reply([call(1, ONE_CALL_INPUT)])),
    "text and two calls": (
        "tools",
        BOTH,
        Reply(
            [
                {"type": "text", "text": TWO_CALLS_TEXT},
                *(call(number, given) for number, given in enumerate(TWO_CALLS_INPUTS)),
            ]
        ),
    ),
    "thinking": (
        "thinking",
        HELLO,
        Reply(
            [
                {"type": "thinking", "thinking": THOUGHT, "signature": ""},
                {"type": "text", "text": QUESTION_REPLY},
            ]
        ),
    ),
}


def shape(value: Any, name: str = "") -> Any:
    """Return a value with what is said taken out: numbers, texts and ids become their kind."""
    if isinstance(value, dict):
        inside = {key: shape(each, key) for key, each in value.items()}
        if name == "usage":  # counted only where there is something to count
            inside.pop("cache_read_input_tokens", None)
        return inside
    if isinstance(value, list):
        return [shape(each) for each in value]
    if name in ("type", "role", "stop_reason") or value is None or value == "":
        return value
    if name == "id" and isinstance(value, str):
        found = re.match(r"msg_|chatcmpl-|call_|[A-Za-z0-9]{32}$", value)
        return {"msg_": "a message's", "chatcmpl-": "a completion's"}.get(
            found[0] if found else "", "a call's"
        )
    if name in ("input_tokens", "output_tokens") and value == 0:
        return 0
    return type(value).__name__


def frames(text: str) -> list[Any]:
    """Return the events of a stream, each with its event line; deltas in a row count as one."""
    found: list[Any] = []
    for frame in filter(None, text.split("\n\n")):
        named, data = re.fullmatch(r"event: (\w+)\ndata: (.*)", frame).groups()  # type: ignore[union-attr]
        found.append((named, shape(json.loads(data))))
    return [
        each
        for kind, group in groupby(found, key=lambda each: json.dumps(each, sort_keys=True))
        for each in list(group)[:1]
    ]


def ask(url: str, key: str, body: Mapping[str, Any], path: str = "/v1/messages") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    method = "GET" if path == "/v1/models" else "POST"
    content = None if method == "GET" else json.dumps(body).encode()
    return httpx.request(
        method, url + path, content=content, headers=headers, timeout=60, trust_env=False
    )


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return what tells what the body is, and whether there is an id to ask about."""
    names = ("content-type", "cache-control", "x-accel-buffering")
    told = {name: response.headers[name] for name in names if name in response.headers}
    return told | {"id": str("x-litellm-call-id" in response.headers)}


@pytest.fixture(scope="module")
def kit() -> Any:
    with LocalServer(dialect="litellm", api_key="sk-proxy-key") as server:
        yield server


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_an_answer(gateway: Gateway, kit: LocalServer, name: str, stream: bool) -> None:
    model, body, reply = SITUATIONS[name]
    asked = {**body, "model": model, "stream": stream}
    real = ask(gateway.url, gateway.key, asked)
    kit.script = reply
    ours = ask(f"{kit.url}/gateway", gateway.key, asked)
    assert (ours.status_code, headers_of(ours)) == (real.status_code, headers_of(real))
    if stream:
        assert frames(ours.text) == frames(real.text)
    else:
        assert shape(ours.json()) == shape(real.json())


def test_what_is_not_an_answer(gateway: Gateway, kit: LocalServer) -> None:
    """A count, a list, a wrong key, and a server behind it that does not answer."""
    kit.script = ErrorReply(500, "No connection.")
    down = {**HELLO, "model": "down"}
    for path, key, body in (
        ("/v1/messages/count_tokens", gateway.key, {**HELLO, "model": "text"}),
        ("/v1/models", gateway.key, {}),
        ("/v1/messages", "sk-wrong", {**HELLO, "model": "text"}),
        ("/v1/messages", gateway.key, down),
        ("/v1/messages", gateway.key, {**down, "stream": True}),
    ):
        real = ask(gateway.url, key, body, path)
        ours = ask(f"{kit.url}/gateway", key, body, path)
        told, expected = headers_of(ours), headers_of(real)
        if path != "/v1/messages":  # the kit gives an id to whatever it answers
            del told["id"], expected["id"]
        assert (ours.status_code, told) == (real.status_code, expected), path
        found, expected = shape(ours.json()), shape(real.json())
        for said in (found, expected):
            if isinstance(said.get("data"), list):
                said["data"] = said["data"][:1]
        assert found == expected, path
