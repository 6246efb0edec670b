"""Run the sessions of docs/command-line.md, as a person at a terminal would type them.

What stands in a `console` block must be on the screen afterwards; `...` stands for anything. All
requests are led to a server of the test, wherever the page sends them.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, environment
from PIL import Image
from terminal import Terminal

from modelslab_llm.testing import LocalServer, ReceivedRequest, Reply, ReplyLike

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

pytestmark = pytest.mark.slow  # each test starts processes

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
KEY = "YOUR_MODELSLAB_API_KEY"
RELAY_KEY_HEADER = "x-api-key"

# Every program of the session loads this before anything else.
LED_TO_THE_TEST = """
import os
import httpx

PORT = int(os.environ["LED_TO"])

def led(request):
    request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=PORT)
    return request

send = httpx.AsyncHTTPTransport.handle_async_request

async def sent(self, request):
    return await send(self, led(request))

httpx.AsyncHTTPTransport.handle_async_request = sent
"""

# At this terminal prompts are those of the page, and nothing else is on the screen.
AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting"])
"""

ANSWERS = {
    "fjord": "A fjord is a long, narrow inlet of the sea between steep cliffs, "
    "carved by a glacier.",
    "Explain this change": "The greeting is now in Cornish.",
    "photo": "A single pixel.",
    "newer": "b.txt",
    "three rivers": "- **Tamar**\n- **Exe**\n- **Dart**\n",
    "past Plymouth": "The Tamar.",
    "How long": "61 miles.",
    "long story": Reply("Once upon a time there", stop_reason="max_tokens"),
    "one word: hello": "hello",
    "lovely": "Yes.",
    "Never again": "No.",
}
"""What the model says, by a piece of the question."""


def model(request: ReceivedRequest) -> ReplyLike:
    body: Any = request.body
    asked = json.dumps(body["messages"][-1])
    if "tool_result" in asked:
        return "It stands at 214 cm."
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        tool = body["tools"][0]
        names = tool["input_schema"]["properties"]
        known = (
            {"river": "Tamar", "level": 214} if "level" in names else dict.fromkeys(names, "Paris")
        )
        return Reply([{"type": "tool_use", "id": "t", "name": tool["name"], "input": known}])
    if "capital" in asked:
        return '{"name": "Paris", "country": "France"}'
    return next((answer for words, answer in ANSWERS.items() if words in asked), "?")


class Relay(LocalServer):
    """A gateway that takes the key in one header only, as the page says of relay.example."""

    def _respond(self, request: ReceivedRequest) -> Any:
        if request.path.startswith("/v1/") and RELAY_KEY_HEADER not in request.headers:
            self.api_key = "none of those that are sent"
        try:
            return super()._respond(request)
        finally:
            self.api_key = KEY


@pytest.fixture
def shell(home: Path) -> Iterator[Terminal]:
    folder = home / "work"
    folder.mkdir()
    (folder / "a.txt").write_text("one two\n")
    (folder / "b.txt").write_text("three four five\n")
    (folder / "photo.png").write_bytes(_pixel())
    (folder / "reviews.csv").write_text("id,text\nr1,The view was lovely.\nr2,Never again.\n")
    schema = re.search(r"^\$ cat river\.json\n(.*?)^\$", PAGE, re.M | re.S)
    assert schema
    (folder / "river.json").write_text(schema[1])
    tools = home / "bin"
    tools.mkdir()
    (tools / "sitecustomize.py").write_text(LED_TO_THE_TEST)
    _program(tools / "modelslab", f'exec "{sys.executable}" -m modelslab_llm "$@"')
    _program(tools / "git", 'echo "-Hello"; echo "+Dydh da"')
    with Relay(model, api_key=KEY, dialect="deepseek") as server:
        env = environment(None, home) | {"LED_TO": server.url.rpartition(":")[2], "PS1": "$ "}
        env["PATH"] = f"{tools}:{env['PATH']}"
        env["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests' / 'support'}:{tools}"
        env |= {"PYTHON_KEYRING_BACKEND": "key_store.InFile", "KEY_STORE_FILE": str(home / "store")}
        env |= {"BASH_SILENCE_DEPRECATION_WARNING": "1", "HISTFILE": "/dev/null"}
        program = (sys.executable, "-c", AT_TERMINAL)
        with Terminal(env=env, columns=100, lines=60, program=program, cwd=folder) as terminal:
            terminal.expect(r"^\$$")
            yield terminal


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _pixel() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (1, 1)).save(data, format="PNG")
    return data.getvalue()


def test_the_page_has_sessions() -> None:
    assert len(SESSIONS) >= 10


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session[2:40].split("\n")[0])
def test_a_session_of_the_page(shell: Terminal, session: str) -> None:
    setup = re.findall(r"^\$ (export .*)$", SESSIONS[0], re.M)
    if session is not SESSIONS[0]:
        for line in setup:
            shell.type(f"{line}\r")
            shell.expect(rf"{re.escape(line)}\n\$$")
    before = len(shell.text) - 1
    for line in session.rstrip("\n").split("\n"):
        if line.startswith(("$ ", "> ")):
            shell.expect(rf"(^|\n)\{line[0]}$")
            shown = len(shell.text) - 1
            shell.type(f"{line[2:]}\r")
            shell.wait(lambda line=line, shown=shown: line.rstrip() in shell.text[shown:], line)
        elif line.startswith("API key for "):
            shell.expect(r"API key for \S+:$")
            shell.type(f"{KEY}\r")
    shell.expect(r"\n\$$")
    seen = shell.text[before:].removesuffix("\n$")
    wanted = "\n".join(line.rstrip() for line in session.expandtabs().rstrip("\n").split("\n"))
    pattern = re.escape(wanted).replace(r"\.\.\.", "(.|\n)*?")
    assert re.fullmatch(pattern, seen), seen
