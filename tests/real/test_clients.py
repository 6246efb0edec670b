"""Other people's clients, each in its own process, with the variables of docs/other-clients.md.

They talk to the local server and to a real `llama-server`, whose model is scripted: what arrives is
known to the letter.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llama.fixtures import MODEL_NAME
from llama.scripts import ONE_CALL_INPUT, RIVER_LEVEL, TEXT_REPLY
from llama.server import LlamaServer
from real import clients
from real.parts import clean, python_of

from modelslab_llm import Endpoint, endpoints
from modelslab_llm.testing import LocalServer, Reply

PROGRAMS = Path(clients.__path__[0])
SECONDS = 180.0  # LiteLLM takes ten to be imported, on a machine with nothing else to do


@dataclass(frozen=True)
class Place:
    """Where a client is sent, and what it hears there if it says hi."""

    endpoint: Endpoint
    key: str
    hears: str


@pytest.fixture(params=["local", "llama"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "local":
        server: LocalServer = request.getfixturevalue("server")
        return Place(server.gateway(), server.api_key or "", "You said: Say hi.")
    llama: LlamaServer = request.getfixturevalue("llama_text")
    endpoint = endpoints.llama_server(llama.url, auth="bearer")
    return Place(endpoint, llama.api_key, TEXT_REPLY)


def told_by(environment: str, program: str, place: Place, **more: str) -> dict[str, Any]:
    """Run a client with the variables that lead it to an endpoint; return what it reports."""
    variables = {
        "ANTHROPIC_BASE_URL": place.endpoint.base_url,
        "ANTHROPIC_API_KEY": place.key,
        "ANTHROPIC_MODEL": MODEL_NAME,
        "OPENAI_BASE_URL": place.endpoint.openai_base_url,
        "OPENAI_API_KEY": place.key,
        "OPENAI_MODEL": MODEL_NAME,
        **more,
    }
    python = python_of(environment)
    with clean(**variables) as environ:
        ran = subprocess.run(
            [str(python), str(PROGRAMS / f"{program}.py")],
            cwd=environ["HOME"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("environment", "program"),
    [
        ("clients", "anthropic_sdk"),
        ("clients", "langchain_client"),
        ("clients", "pydantic_ai_client"),
        ("older", "llm_tool"),
        ("clients", "openai_sdk"),
    ],
)
def test_a_client_hears_what_is_said(environment: str, program: str, place: Place) -> None:
    told = told_by(environment, program, place)
    assert told["text"] == told["streamed"] == place.hears
    assert told["tokens"] > 0


def test_litellm_as_a_library(place: Place) -> None:
    """Whole it hears all; in a stream it takes U+2028 and U+0085, which JSON leaves as they are,
    for the ends of lines, and loses the event that held them."""
    told = told_by("gateway", "litellm_library", place)
    assert told["text"] == place.hears
    assert told["streamed"] == place.hears.partition(" One\u2028")[0]


def test_a_client_that_asks_for_a_type(server: LocalServer, llama_tools: LlamaServer) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": RIVER_LEVEL["name"]}
    server.script = Reply([{**call, "input": ONE_CALL_INPUT}])
    for where in (
        Place(server.gateway(), server.api_key or "", ""),
        Place(endpoints.llama_server(llama_tools.url, "bearer"), llama_tools.api_key, ""),
    ):
        assert told_by("instructor", "instructor_client", where)["given"] == ONE_CALL_INPUT


def test_llama_index_needs_a_name_it_knows(place: Place) -> None:
    """It looks its model up in a table, and leaves `temperature` out for the newest names alone;
    a server with one model does not mind the name. The anthropic package must be older than 2."""
    told = told_by("older", "llama_index_client", place, ANTHROPIC_MODEL="claude-opus-5")
    assert told["text"] == told["streamed"] == place.hears


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("local", "Unknown model: local"),
        ("claude-3-haiku-latest", "unexpected keyword argument 'temperature'"),
    ],
)
def test_llama_index_refuses_others_by_itself(server: LocalServer, name: str, refusal: str) -> None:
    place = Place(server.gateway(), server.api_key or "", "")
    with pytest.raises(AssertionError, match=refusal):
        told_by("older", "llama_index_client", place, ANTHROPIC_MODEL=name)
    assert server.requests == []


def test_the_llm_command(place: Place) -> None:
    program = python_of("older").parent / "llm"
    variables = {"ANTHROPIC_BASE_URL": place.endpoint.base_url, "ANTHROPIC_API_KEY": place.key}
    with clean(**variables) as environ:
        ran = subprocess.run(
            [str(program), "--model", "claude-opus-5", "Say hi."],
            env={**environ, "LLM_USER_PATH": environ["HOME"]},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )
    assert ran.stdout.strip() == place.hears, ran.stderr
