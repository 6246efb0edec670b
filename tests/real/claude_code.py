"""The real Claude Code, headless, with these endpoints: run it with `make claude-code`.

It runs with an empty home, a made-up key and the environment that `claude_code_env` returns, and
talks to this machine alone. Not part of `make real`, as its license lets nobody ship it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from llama.server import LlamaServer
from real.parts import claude_code, clean, small_model
from real.rates import SMALL

from modelslab_llm import ConfigurationError, Endpoint, ModelsLab, endpoints
from modelslab_llm.testing import LocalServer

SECONDS = 600.0
QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
KEY = "local-test-key"


@dataclass(frozen=True)
class Ran:
    """What a run of it said in the end."""

    worked: bool
    said: str
    shown: dict[str, Any]


def run(env: dict[str, str], question: str = "say hi") -> Ran:
    with clean(**QUIET, **env) as environ:
        ran = subprocess.run(
            [str(claude_code()), "-p", question, "--output-format", "json"],
            cwd=environ["HOME"],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return Ran(ran.returncode == 0 and not told["is_error"], told["result"], told)


@pytest.fixture
def local() -> Iterator[LocalServer]:
    with LocalServer(lambda request: f"Hi, with {len(request.tools)} tools.") as server:
        yield server


def credentials(server: LocalServer) -> dict[str, str]:
    (request,) = [each for each in server.requests if each.is_message_call]
    return request.credentials


@pytest.mark.parametrize(
    ("auth", "sent"),
    [
        ("bearer", {"authorization": KEY}),
        ("x-api-key", {"x-api-key": KEY}),
        ("key", {"authorization": KEY, "key": KEY}),
    ],
)
def test_each_form_of_a_key(local: LocalServer, auth: Any, sent: dict[str, str]) -> None:
    ran = run(local.gateway(auth).claude_code_env(KEY, model="any"))
    assert ran.worked, ran.said
    assert credentials(local) == sent


@pytest.mark.parametrize("kind", ["llm_v7", "gguf"])
def test_modelslabs_own(local: LocalServer, kind: str) -> None:
    endpoint: Endpoint = local.gguf("dep_1") if kind == "gguf" else local.llm_v7()
    ran = run(endpoint.claude_code_env(KEY, model="any"))
    assert ran.worked, ran.said
    assert credentials(local) == {"authorization": KEY}


def test_without_a_key(local: LocalServer) -> None:
    local.api_key = None
    ran = run(local.gateway(auth=None).claude_code_env(model="any"))
    assert ran.worked, ran.said
    with pytest.raises(ConfigurationError):
        local.gateway().claude_code_env(model="any")


def test_a_key_in_a_header_of_its_own_is_not_enough(local: LocalServer) -> None:
    env = local.gateway("key").claude_code_env(KEY, model="any")
    del env["ANTHROPIC_AUTH_TOKEN"]
    ran = run(env)
    assert not ran.worked
    assert "Not logged in" in ran.said
    assert not [each for each in local.requests if each.is_message_call]


def test_a_wrong_key_is_tried_again_and_again(local: LocalServer) -> None:
    env = local.gateway().claude_code_env("wrong", model="any")
    ran = run(env | {"CLAUDE_CODE_MAX_RETRIES": "2"})
    assert not ran.worked
    assert "401" in ran.said
    print("calls with a wrong key and 2 retries:", sum(r.is_message_call for r in local.requests))


@pytest.mark.parametrize("window", [16384, 32768, 200_000])
def test_every_window_that_is_told(local: LocalServer, window: int) -> None:
    ran = run(local.gateway().claude_code_env(KEY, model="any", context_window=window))
    assert ran.worked, ran.said
    (request,) = [each for each in local.requests if each.is_message_call]
    assert request.max_tokens == min(32_000, window // 4)


@pytest.mark.parametrize("window", ["16384", "26000"])
def test_a_small_window_needs_smaller_answers_too(local: LocalServer, window: str) -> None:
    env = local.gateway().claude_code_env(KEY, model="any")
    ran = run(env | {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": window})
    assert not ran.worked
    assert "Prompt is too long" in ran.said


def test_what_it_sends(local: LocalServer) -> None:
    """The numbers of docs/other-clients.md."""
    env = local.gateway().claude_code_env(KEY, model="any")
    for name, more in {
        "as it is": {},
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS=1": {"CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1"},
        "CLAUDE_CODE_SIMPLE=1": {"CLAUDE_CODE_SIMPLE": "1"},
    }.items():
        seen = len(local.requests)
        assert run(env | more).worked
        (request,) = [each for each in local.requests[seen:] if each.is_message_call]
        betas = len(request.headers["anthropic-beta"].split(","))
        roles = [turn["role"] for turn in request.messages]
        size = f"{len(request.raw):,} bytes, {len(request.tools)} tools, {betas} betas"
        print(f"{name}: {size}, roles {roles}")
        assert ("system" in roles) == (name != "CLAUDE_CODE_SIMPLE=1")


@pytest.fixture(scope="module")
def wide() -> Iterator[LlamaServer]:
    """A llama-server whose window is wide enough for what Claude Code has to say."""
    longer = ["--override-kv", "llama.context_length=int:32768"]  # than it was trained for
    options = ["--alias", SMALL, "--jinja", "--threads", "2", *longer]
    with LlamaServer(small_model(), slots=1, context=32768, extra_args=options) as server:
        yield server


@pytest.mark.parametrize(("auth", "simple"), [("bearer", "1"), ("x-api-key", "1"), ("bearer", "")])
def test_a_real_llama_server(wide: LlamaServer, auth: Any, simple: str) -> None:
    """The window comes from the server's own list of models. The last run sends all it has."""
    endpoint = endpoints.llama_server(wide.url, auth=auth, default_model=SMALL)
    with ModelsLab(wide.api_key, endpoint=endpoint) as client:
        window = client.models.list()[0].context_window
    assert window == 32768
    env = endpoint.claude_code_env(wide.api_key, context_window=window)
    ran = run(env | {"CLAUDE_CODE_SIMPLE": simple, "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "200"})
    too_long = "exceeded the 200 output token maximum"  # which is an answer too, of this model
    assert (ran.worked and ran.said) or too_long in ran.said
