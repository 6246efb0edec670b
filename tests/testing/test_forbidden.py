"""The scripted server is as strict as what it plays, to clients that check nothing themselves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from modelslab_llm.testing import DialectName, LocalServer

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hello"}],
}
SYSTEM = {"messages": [{"role": "system", "content": "Be brief."}, *ASK["messages"]]}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
FUNCTION = {"type": "function", "function": {"name": "a"}}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a system turn": (SYSTEM, "messages.0.role"),
    "a tool turn": ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
    "temperature 1.5": ({"temperature": 1.5}, "temperature: must be from 0 to 1"),
    "temperature as text": ({"temperature": "hot"}, "temperature"),
    "top_p 2": ({"top_p": 2}, "top_p"),
    "top_k 0": ({"top_k": 0}, "top_k: must be at least 1"),
    "an image of another format": ({"messages": [IMAGE]}, "image_url is not a type of block"),
    "a tool of another format": ({"tools": [FUNCTION]}, "'function' is not a type of tool"),
    "a choice of another format": ({"tool_choice": "auto"}, "tool_choice: must be an object"),
}


def post(server: LocalServer, base: str, more: dict[str, Any]) -> httpx.Response:
    headers = {"x-api-key": str(server.api_key)}
    # There is no TLS, and to read the CA certificates takes longer than the test.
    with httpx.Client(trust_env=False, verify=False) as http:
        return http.post(f"{base}/v1/messages", json={**ASK, **more}, headers=headers)


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("kind", ["v7", "gguf"])
@pytest.mark.parametrize("dialect", ["anthropic", "llama-server"])
def test_what_modelslab_forbids(dialect: DialectName, kind: str, case: str) -> None:
    more, says = WRONG[case]
    with LocalServer(dialect=dialect) as server:
        endpoint = server.llm_v7() if kind == "v7" else server.gguf("dep_1")
        answer = post(server, endpoint.base_url, more)
        assert answer.status_code == 400
        assert says in answer.text
        assert post(server, endpoint.base_url, {}).status_code == 200


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("dialect", ["vllm", "llama-server", "ollama"])
def test_what_others_take(dialect: DialectName, case: str) -> None:
    with LocalServer(dialect=dialect) as server:
        assert post(server, server.gateway().base_url, WRONG[case][0]).status_code == 200


@pytest.mark.parametrize(
    ("case", "status"),
    [("temperature 1.5", 400), ("a tool turn", 400), ("a system turn", 200), ("top_k 0", 200)],
)
def test_what_the_original_forbids(case: str, status: int) -> None:
    with LocalServer() as server:
        assert post(server, server.gateway().base_url, WRONG[case][0]).status_code == status
