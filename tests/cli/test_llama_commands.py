"""Every command against a real llama-server, most of them at a pseudo-terminal."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ran, environment, run
from llama.scripts import RIVER_LEVEL, TEXT_REPLY, THOUGHT
from llama.server import LlamaServer
from terminal import PATIENCE, Terminal

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

pytestmark = pytest.mark.slow  # each test starts processes

Here = Callable[..., Ran]


def at(server: LlamaServer, home: Path, **more: str) -> dict[str, str]:
    """Return the environment for a llama-server; its model needs no name, as it is the only one."""
    env = environment(None, home)
    return env | {"MODELSLAB_BASE_URL": server.url, "MODELSLAB_API_KEY": server.api_key} | more


def until_idle(server: LlamaServer) -> None:
    give_up = time.monotonic() + PATIENCE
    while any(slot["is_processing"] for slot in server.get("/slots").json()):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_ask_in_a_pipe(llama_text: LlamaServer, home: Path) -> None:
    ran = run("ask", "What is the capital of France?", env=at(llama_text, home))
    assert ran == (0, f"{TEXT_REPLY}\n", "")
    ran = run("ask", "--json", env=at(llama_text, home), stdin=b"What is it?")
    assert json.loads(ran.out)["model"] == "local"


@pytest.mark.parametrize("columns", [80, 30])
def test_ask_at_a_terminal(llama_text: LlamaServer, home: Path, columns: int) -> None:
    with Terminal("ask", "What?", env=at(llama_text, home), columns=columns) as terminal:
        assert terminal.expect_end() == 0
    assert "La tour Eiffel" in " ".join(terminal.text.split())


def test_thinking_of_a_model_that_always_thinks(llama_thinking: LlamaServer, home: Path) -> None:
    with Terminal("ask", "How high?", env=at(llama_thinking, home)) as terminal:
        assert terminal.expect_end() == 0
    assert terminal.text == f"{THOUGHT.strip()}\n\nWhich river do you mean?"
    assert run("ask", "How high?", env=at(llama_thinking, home)).out == "Which river do you mean?\n"


def test_an_answer_that_is_cut(llama_text: LlamaServer, home: Path) -> None:
    ran = run("ask", "What?", "--max-tokens", "3", env=at(llama_text, home))
    assert (ran.status, ran.out) == (6, "The capital of\n")
    assert "after 3 tokens" in ran.err


@pytest.mark.parametrize("strategy", ["response_format", "tool"])
def test_a_structured_answer(
    llama_tools: LlamaServer, home: Path, tmp_path: Path, strategy: str
) -> None:
    """The grammar forces the names; what they hold is what a scripted model babbles."""
    schema = tmp_path / "schema.json"
    properties = {"river": {"type": "string", "maxLength": 9}, "unit": {"enum": ["cm", "m"]}}
    schema.write_text(
        json.dumps({"type": "object", "properties": properties, "required": [*properties]})
    )
    arguments = ["ask", "How high is it?", "--schema", str(schema), "--temperature", "0"]
    arguments += ["--llama-server", llama_tools.url, "--auth", "bearer"]
    arguments += ["--strategy", strategy] if strategy == "tool" else []
    ran = run(*arguments, env=at(llama_tools, home))
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["unit"] in ("cm", "m")


def test_a_wrong_key_and_an_unknown_address(llama_text: LlamaServer, home: Path) -> None:
    ran = run("ask", "Hi", env=at(llama_text, home, MODELSLAB_API_KEY="wrong-key-123"))
    assert ran.status == 3
    assert "wrong-key-123" not in ran.err
    url = f"{llama_text.url}/elsewhere"
    assert run("ask", "Hi", "--model", "m", "--base-url", url, env=at(llama_text, home)).status == 5


def test_chat(llama_text: LlamaServer, home: Path) -> None:
    with Terminal("chat", env=at(llama_text, home)) as talk:
        talk.expect(r"^local at http.*\n>$")
        talk.type("What is the capital of France?\r")
        talk.expect(r"Paris\. La tour Eiffel(.|\n)*\n>$")
        talk.type("/tokens\r")
        talk.expect(r"used so far: \d+ in, \d+ out\nthe conversation: \d+ tokens\n>$")
        talk.type("\x04")
        assert talk.expect_end() == 0


def test_ctrl_c_makes_the_server_stop(llama_slow: LlamaServer, home: Path) -> None:
    with Terminal("chat", "--max-tokens", "100000", env=at(llama_slow, home)) as talk:
        talk.expect(r"\n>$")
        talk.type("Count.\r")
        talk.expect("I count: 1 2 3")
        talk.press_ctrl_c()
        talk.expect(r"stopped\n>$")
        until_idle(llama_slow)
        assert "2000" not in talk.text
    with Terminal("ask", "Count.", env=at(llama_slow, home)) as terminal:
        terminal.expect("I count: 1 2 3")
        terminal.press_ctrl_c()
        assert terminal.expect_end() == 130
        until_idle(llama_slow)


def test_models_and_count(llama_text: LlamaServer, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("What is the capital of France?")
    env = at(llama_text, home)
    assert run("models", env=env).out.startswith("local\t4096\t")
    one = run("count", str(tmp_path / "a.txt"), env=env)
    piped = run("count", env=env, stdin=b"What is the capital of France?")
    assert int(one.out) > int(piped.out) > 20  # the name of the file goes along
    with Terminal("models", env=env, columns=60) as terminal:
        assert terminal.expect_end() == 0
    assert re.search(r"^ ?local +4096 ", terminal.text, re.M)


def test_doctor(llama_tools: LlamaServer, home: Path) -> None:
    ran = run("doctor", "--json", env=at(llama_tools, home))
    found = {row["check"]: row for row in json.loads(ran.out)["findings"]}
    assert ran.status == 0
    assert found["reachable"]["evidence"].endswith("server llama.cpp")
    assert found["key"]["evidence"] == "x-api-key: 200, bearer: 200, key: 401, no key: 401"
    for check in ("create", "stream", "stream framing", "stream end", "tools", "count_tokens"):
        assert found[check]["verdict"] == "ok", found[check]
    assert RIVER_LEVEL["name"] in found["tools"]["evidence"]
    assert found["errors"]["verdict"] == "differs"
    assert "HTTP 500" in found["errors"]["evidence"]
    assert "context window: 4096 tokens" in found["limits"]["evidence"]
    assert llama_tools.api_key not in ran.out


@pytest.mark.parametrize("columns", [100, 40])
def test_doctor_at_a_terminal(llama_text: LlamaServer, home: Path, columns: int) -> None:
    env = at(llama_text, home)
    with Terminal("doctor", env=env, columns=columns, lines=60) as terminal:
        assert terminal.expect_end() == 0
    assert "ok       stream end" in terminal.text
    assert max(map(len, terminal.text.split("\n"))) <= columns


def test_the_environment_leads_others_there(llama_text: LlamaServer, home: Path) -> None:
    env = json.loads(run("env", "--json", env=at(llama_text, home)).out)
    assert env["ANTHROPIC_BASE_URL"] == llama_text.url
    assert env["ANTHROPIC_AUTH_TOKEN"] == llama_text.api_key
