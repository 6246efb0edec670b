"""The environment for Claude Code: each form of a key, and the window.

What the real program makes of it is seen by `make claude-code`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelslab_llm import ConfigurationError, Endpoint, endpoints

KEYS = {"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS"}
V7 = endpoints.llm_v7()


def keys_of(env: dict[str, str]) -> dict[str, str]:
    return {name: env[name] for name in KEYS & env.keys()}


@pytest.mark.parametrize(
    ("endpoint", "variables"),
    [
        (V7, {"ANTHROPIC_AUTH_TOKEN": "K"}),
        (endpoints.gguf("dep_1"), {"ANTHROPIC_AUTH_TOKEN": "K"}),
        (endpoints.gateway("http://h"), {"ANTHROPIC_AUTH_TOKEN": "K"}),
        (endpoints.gateway("http://h", auth="x-api-key"), {"ANTHROPIC_API_KEY": "K"}),
        (
            endpoints.gateway("http://h", auth="key"),
            {"ANTHROPIC_CUSTOM_HEADERS": "key: K", "ANTHROPIC_AUTH_TOKEN": "K"},
        ),
        (endpoints.llama_server("http://h", auth="x-api-key"), {"ANTHROPIC_API_KEY": "K"}),
        (endpoints.gateway("http://h", auth=None), {"ANTHROPIC_AUTH_TOKEN": "K"}),
    ],
)
def test_each_form_of_a_key(endpoint: Endpoint, variables: dict[str, str]) -> None:
    assert keys_of(endpoint.claude_code_env("K")) == variables


def test_without_a_key() -> None:
    """Claude Code does not start without one, so a server that wants none is given a word."""
    env = endpoints.llama_server("http://h:1/v1").claude_code_env()
    assert keys_of(env) == {"ANTHROPIC_AUTH_TOKEN": "unused"}
    assert env["ANTHROPIC_BASE_URL"] == "http://h:1"
    assert env["ANTHROPIC_MODEL"] == env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "local"
    for nothing in (None, ""):
        with pytest.raises(
            ConfigurationError, match="api_key: this endpoint requires a key, as bearer"
        ):
            endpoints.gateway("http://h").claude_code_env(nothing)


@pytest.mark.parametrize("key", ["K\nx-evil: 1", "K\r", "clé"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key") as refused:
        endpoints.gateway("http://h", auth="key").claude_code_env(key)
    assert key not in str(refused.value)


@pytest.mark.parametrize(("window", "answers"), [(16_384, 4096), (32_768, 8192), (10**6, 32_000)])
def test_the_window_and_what_is_kept_for_answers(window: int, answers: int) -> None:
    env = V7.claude_code_env("K", "m", context_window=window)
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(window)
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == str(answers)


def test_without_a_window() -> None:
    """As a list of models may not know it."""
    env = V7.claude_code_env("K", context_window=None)
    assert not [name for name in env if name.startswith("CLAUDE_CODE_")]


@pytest.mark.parametrize("window", [0, -1, 1.5, "16384", True])
def test_a_window_that_is_none(window: Any) -> None:
    with pytest.raises(ConfigurationError, match="context_window must be a number of tokens"):
        V7.claude_code_env("K", context_window=window)


def test_a_llama_server_of_ones_own() -> None:
    mine = endpoints.llama_server("http://127.0.0.1:8080/v1/", default_model="qwen")
    assert (mine.base_url, mine.openai_base_url) == (
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8080/v1",
    )
    assert (mine.auth, mine.default_model) == (None, "qwen")
    assert mine.default_strategy == mine.strategies[0] == "response_format"
    assert "output_config" not in mine.strategies
    wrong: Any = "key"
    with pytest.raises(ConfigurationError, match="use 'bearer', 'x-api-key' or None"):
        endpoints.llama_server("http://127.0.0.1:8080", auth=wrong)
    assert endpoints.gguf("d").default_strategy == "response_format"
    assert V7.default_strategy == endpoints.gateway("http://h").default_strategy == "tool"


@pytest.mark.parametrize(
    "field", [{"default_strategy": "json_schema"}, {"strategies": ("grammar",)}]
)
def test_strategies_that_there_are_not_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="strategies of an endpoint must be among 'tool'"):
        replace(endpoints.gateway("http://h"), **field)
