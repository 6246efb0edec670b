"""`python -m modelslab_llm.testing` as a shell runs it: a process, its output, its end."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelslab_llm import APIStatusError, ModelsLab, OverloadedError, StreamInterruptedError
from modelslab_llm.testing import ErrorReply, Fault, Reply
from modelslab_llm.testing.__main__ import main
from modelslab_llm.testing._script.script_file import KINDS, ScriptError, script_in

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-W", "error", "-m", "modelslab_llm.testing")
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hello there"}],
}


class Running:
    """A server in its own process, and its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.out = process.stdout
        self.welcome = ""
        while (line := self.out.readline()) and "ANTHROPIC_AUTH_TOKEN" not in self.welcome:
            self.welcome += line
        self.env = dict(re.findall(r"export (\w+)=(.*)", self.welcome))
        self.port = int(re.findall(r"127.0.0.1:(\d+)/api/v7", self.welcome)[0])

    def lines(self, many: int) -> list[str]:
        return [self.out.readline().rstrip("\n") for _ in range(many)]


@contextmanager
def running(*options: str) -> Iterator[Running]:
    """Start a server, and end it; what it says on stderr fails the test."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*COMMAND, *options], **pipes) as process:
        try:
            yield Running(process)
            process.terminate()
            rest, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, ""), rest


def test_a_demo_for_this_client() -> None:
    with running("--say", "Paris, of course.") as server:
        v7, gguf = (
            server.welcome.split()[server.welcome.split().index(k) + 1] for k in ("v7", "gguf")
        )
        assert v7 == server.env["MODELSLAB_BASE_URL"]
        key = server.env["MODELSLAB_API_KEY"]
        with ModelsLab(key, base_url=v7) as client:
            assert client.messages.create(**ASK).text == "Paris, of course."
            with client.messages.stream(**ASK | {"model": "two\nlines"}) as stream:
                assert list(stream.text_stream) == ["Paris, ", "of ", "course."]
            assert len(client.models.list().data) > 0
        with ModelsLab("wrong-key", base_url=gguf, max_retries=0) as client:
            with pytest.raises(APIStatusError):
                client.messages.create(**ASK)
        assert server.lines(4) == [
            "POST /api/v7/llm/v1/messages 200 model m",
            "POST /api/v7/llm/v1/messages 200 model 'two\\nlines' streamed",
            "GET /api/v7/llm/v1/models 200",
            "POST /api/gguf/any-deployment-id/v1/messages 401 model m",
        ]


def test_the_anthropic_sdk_by_the_printed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    anthropic = pytest.importorskip("anthropic")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with running("--api-key", "my key's") as server:
        assert server.env["ANTHROPIC_AUTH_TOKEN"] == "'my key'\"'\"'s'"  # as a shell reads it
    with running("--api-key", "", "--pause", "0.001") as server:
        assert "it accepts any key" in server.welcome
        for name in ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"):
            monkeypatch.setenv(name, server.env[name])
        with anthropic.Anthropic() as client:
            assert client.messages.create(**ASK).content[0].text == "You said: Hello there"
            with client.messages.stream(**ASK) as stream:
                assert "".join(stream.text_stream) == "You said: Hello there"
        assert server.lines(2)[1] == "POST /gateway/v1/messages 200 model m streamed"


def test_as_claude_code_asks() -> None:
    """Which looks whether there is somebody, sends blocks and tools, and counts tokens first."""
    body = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 32000,
        "stream": True,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=00000;"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
        ],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [{"name": "Bash", "description": "Run", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "user_1"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    with running("--dialect", "llama-server") as server, httpx.Client(trust_env=False) as http:
        base = server.env["ANTHROPIC_BASE_URL"]
        http.headers["authorization"] = f"Bearer {server.env['ANTHROPIC_AUTH_TOKEN']}"
        http.headers["anthropic-beta"] = "claude-code-20250219"
        origin = base.removesuffix("/gateway")
        assert http.head(origin).content == b""
        counted = http.post(f"{base}/v1/messages/count_tokens?beta=true", json=body)
        assert counted.json()["input_tokens"] > 0
        answer = http.post(f"{base}/v1/messages?beta=true", json=body)
        assert answer.headers["content-type"].startswith("text/event-stream")
        texts = re.findall(r'"text_delta","text":"(.*?)"', answer.text)
        assert "".join(texts) == "You said: Hi"
        assert "chatcmpl-" in answer.text
        assert [line.partition(" model")[0] for line in server.lines(3)] == [
            "HEAD / 404",
            "POST /gateway/v1/messages/count_tokens?beta=true 200",
            "POST /gateway/v1/messages?beta=true 200",
        ]


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    tool = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}}
    answers: list[Any] = [
        "One.",
        {"content": [tool]},
        {"status": 529, "message": "Later.", "headers": {"x-should-retry": "false"}},
        {"content": "Half of this.", "fault": {"kind": "cut", "after": 3}},
    ]
    script.write_text(json.dumps(answers), encoding="utf-8")
    with running("--script", str(script)) as server:
        base = server.env["MODELSLAB_BASE_URL"]
        with ModelsLab("local-test-key", base_url=base, max_retries=0) as client:
            assert client.messages.create(**ASK).text == "One."
            assert client.messages.create(**ASK).tool_uses[0].input == {"city": "Paris"}
            with pytest.raises(OverloadedError, match=r"Later\."):
                client.messages.create(**ASK)
            with pytest.raises(StreamInterruptedError), client.messages.stream(**ASK) as stream:
                stream.get_final_message()
        assert server.lines(4)[2:] == [
            "POST /api/v7/llm/v1/messages 529 model m",
            "POST /api/v7/llm/v1/messages 200 model m streamed, then cut",
        ]


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell lets what it runs in the background ignore Ctrl-C, and so all that this starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("_ctrl_c_is_heard")
def test_it_ends_clean_and_frees_its_port(ending: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"content": "a b", "fault": {"kind": "stall", "after": 4}}')
    with running("--script", str(script)) as server:
        with ModelsLab("local-test-key", base_url=server.env["MODELSLAB_BASE_URL"]) as client:
            with client.messages.stream(**ASK) as stream, pytest.raises(StreamInterruptedError):
                next(stream)
                server.process.send_signal(ending)  # in the middle of an answer
                stream.get_final_message()
        assert server.process.wait(timeout=30) == 0
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", server.port))
    with running("--port", str(server.port)) as again:
        assert again.port == server.port


def test_what_does_not_fit_is_said_before_anything_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its own

    def refused(*options: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(options)
        shown = capsys.readouterr()
        assert (caught.value.code, shown.out) == (2, "")
        return shown.err.splitlines()[-1].partition("error: ")[2]

    broken = tmp_path / "broken.json"
    broken.write_text('["a",\n {"content": }]', encoding="utf-8")
    assert refused("--script", str(broken)) == f"{broken}: line 2, column 14: Expecting value"
    assert "No such file" in refused("--script", str(tmp_path / "none.json"))
    assert refused("--port", "70000").endswith(
        "'70000' is not a port: use a number from 0 to 65535"
    )
    assert refused("--pause", "nan").endswith("'nan' is not a time: use seconds, 0 or more")
    for key in "a\nb", "clé", " ":
        assert f"{key!r} cannot be sent" in refused("--api-key", key)
    assert "invalid choice: 'gpt'" in refused("--dialect", "gpt")
    assert "not allowed with" in refused("--say", "a", "--script", "b")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused("--port", port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3", "the script: is neither a string nor an object"),
        ("[]", "the list has no answers"),
        ("[" * 100_000, "the brackets are nested too deeply"),
        ('{"status": true}', "the script.status: must be a number from 200 to 599"),
        ('[{"status": 500, "text": ""}]', "[0].text: is unknown"),
        ('["", {"content": 1, "id": 2}]', "[1].content: must be a text or a list of content blocks"
         "; [1].id: must be a text"),
        ('{"headers": {"a": 1}}', "the script.headers: must be an object of texts"),
        ('{"split": 0}', "the script.split: must be 'word', 'character' or a number of bytes"),
        ('{"pause": -1}', "the script.pause: must be seconds, 0 or more"),
        ('{"pause": 1e999}', "the script.pause: must be seconds, 0 or more"),
        ('{"fault": {"kind": "strikes_first"}}', "the script.fault.kind: must be one of end, cut, "
         "reset, stall, refuse, error, garbage, repeat, omit"),
        ('{"fault": {"kind": "cut", "after": -1}}', "the script.fault: Fault.cut(after=-1): after "
         "must be the events that are sent before it, from 0 on"),
    ],
)  # fmt: skip
def test_what_is_not_a_script(text: str, said: str) -> None:
    with pytest.raises(ScriptError) as caught:
        script_in(text)
    assert str(caught.value) == said


def test_a_script_in_json_can_say_all_that_one_in_python_can() -> None:
    usual: dict[str, object] = {
        "stop_reason": "refusal", "stop_sequence": "END", "usage": {}, "model": "m", "id": "i",
        "pause": 0.5, "split": 7, "headers": {"a": "b"},
    }  # fmt: skip
    assert usual.keys() | {"content", "fault"} == {f.name for f in dataclasses.fields(Reply)}
    assert script_in(json.dumps(usual)) == Reply(**usual)  # type: ignore[arg-type]
    assert script_in('{"content": "a"}', pause=2.0) == Reply("a", pause=2.0)
    failure: dict[str, object] = {"status": 503, "message": "m", "type": "t", "headers": {}}
    assert failure.keys() | {"body"} == {f.name for f in dataclasses.fields(ErrorReply)}
    assert script_in(json.dumps([failure])) == [ErrorReply(**failure)]  # type: ignore[arg-type]
    assert script_in('{"status": 500, "body": "<p>"}') == ErrorReply(500, body=b"<p>")
    assert script_in('{"type": "message", "x": 1}') == {"type": "message", "x": 1}
    garbage = '{"fault": {"kind": "garbage", "data": "?", "within": 2}}'
    assert script_in(garbage) == Reply(fault=Fault.garbage(b"?", within=2))
    made = {name for name in vars(Fault) if isinstance(vars(Fault)[name], classmethod)}
    assert made == set(KINDS)
