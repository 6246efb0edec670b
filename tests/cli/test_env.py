"""`modelslab env`, `claude` and `serve`: what leads other programs to the endpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import COMMAND, PATIENCE, Ran, environment, run

from modelslab_llm.testing import LocalServer

Here = Callable[..., Ran]

ODD = "a'b\"c$d\\e`f;g&h|i"
"""A key that a shell would trip over."""


def env_of(shell: list[str], script: str, env: dict[str, str]) -> dict[str, str]:
    """Return the environment after a shell has read the script."""
    show = f'{script}\n"{sys.executable}" -c "import os, json; print(json.dumps(dict(os.environ)))"'
    ran = subprocess.run([*shell, show], env=env, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_a_shell_reads_it(home: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    syntax = "fish" if shell == "fish" else "posix"
    with LocalServer(api_key=ODD) as server:
        base = environment(server, home, ANTHROPIC_API_KEY="of another setup")
        script = run("env", "--shell", syntax, env=base).out
        found = env_of([shell, "-c"], script, base)
        assert found["ANTHROPIC_BASE_URL"] == server.llm_v7().base_url
        assert found["ANTHROPIC_AUTH_TOKEN"] == ODD
        assert "ANTHROPIC_API_KEY" not in found
        assert found["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "m"


def test_powershell_and_cmd_quote_in_their_own_way(here: Here) -> None:
    """There is none here to read it: what they document stands in the test."""
    with LocalServer(api_key="a'b;c") as server:
        out = here("env", "openai", "--shell", "powershell", server=server).out
        assert "$env:OPENAI_API_KEY = 'a''b;c'\n" in out
        out = here("env", "openai", "--shell", "cmd", server=server).out
        assert 'set "OPENAI_API_KEY=a\'b;c"\n' in out
        out = here("env", "--shell", "powershell", server=server).out
        assert "Remove-Item Env:ANTHROPIC_API_KEY -ErrorAction SilentlyContinue\n" in out
    with LocalServer(api_key="100%sure") as server:
        status, out, err = here("env", "openai", "--shell", "cmd", server=server)
    assert status == 2
    assert "use --shell powershell" in err
    assert "sure" not in out + err


@pytest.mark.slow
def test_this_command_is_led_by_it_too(home: Path) -> None:
    with LocalServer("Yes.") as server:
        script = run("env", "modelslab", env=environment(server, home)).out
        found = env_of(["sh", "-c"], script, environment(None, home))
        assert run("ask", "Hi", env=found).out == "Yes.\n"


def test_openai_clients_get_their_address(here: Here) -> None:
    with LocalServer() as server:
        arguments = ["env", "openai", "--json", "--base-url", server.gateway().base_url]
        found = json.loads(here(*arguments, server=server).out)
        assert found["OPENAI_BASE_URL"] == server.gateway().openai_base_url
        assert found["OPENAI_API_KEY"] == server.api_key


def test_a_header_that_the_client_does_not_send(here: Here, server: LocalServer) -> None:
    status, _, err = here("env", "openai", "--auth", "key", server=server)
    assert status == 2
    assert "OpenAI clients send" in err


# Claude Code

FAKE_CLAUDE = """\
#!{python}
import json, os, sys
print(json.dumps({{"arguments": sys.argv[1:], "env": dict(os.environ)}}))
sys.exit(int(os.environ.get("CLAUDE_EXITS", "0")))
"""


@pytest.fixture
def claude(home: Path) -> Path:
    """A program of that name, which prints how it was started."""
    folder = home / "bin"
    folder.mkdir()
    program = folder / "claude"
    program.write_text(FAKE_CLAUDE.format(python=sys.executable))
    program.chmod(0o755)
    return folder


def started(server: LocalServer, home: Path, *arguments: str, **more: str) -> tuple[Ran, Any]:
    env = environment(server, home, **more)
    ran = run("claude", *arguments, env=env | {"PATH": f"{home / 'bin'}{os.pathsep}{env['PATH']}"})
    return ran, json.loads(ran.out) if ran.out else None


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_claude_code_is_started_at_the_endpoint(home: Path) -> None:
    with LocalServer() as server:
        ran, told = started(
            *(server, home, "--model", "x", "-p", "Say hi.", "--output-format", "json"),
            ANTHROPIC_API_KEY="of another setup",
            CLAUDE_CODE_USE_BEDROCK="1",
        )
        assert told["env"]["ANTHROPIC_BASE_URL"] == server.llm_v7().base_url
    assert ran.status == 0
    assert told["arguments"] == ["-p", "Say hi.", "--output-format", "json"]
    assert told["env"]["ANTHROPIC_AUTH_TOKEN"] == server.api_key
    assert told["env"]["ANTHROPIC_MODEL"] == "x"
    assert not {"ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK"} & told["env"].keys()


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_its_options_and_ours_are_kept_apart(home: Path) -> None:
    with LocalServer() as server:
        _, told = started(server, home, "--model", "x", "--", "--model", "y", "--help")
    assert told["arguments"] == ["--model", "y", "--help"]
    assert told["env"]["ANTHROPIC_MODEL"] == "x"


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_the_list_of_models_tells_the_window_and_the_only_name(home: Path) -> None:
    with LocalServer(dialect="llama-server") as server:
        env = environment(server, home)
        del env["MODELSLAB_MODEL"]
        url = server.gateway().base_url
        path = f"{home / 'bin'}{os.pathsep}{env['PATH']}"
        ran = run("claude", "--base-url", url, env=env | {"PATH": path})
    told = json.loads(ran.out)["env"]
    assert told["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "4096"
    assert told["ANTHROPIC_MODEL"] == "/models/local-echo-q4.gguf"


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_its_exit_status_is_ours(home: Path) -> None:
    with LocalServer() as server:
        ran, _ = started(server, home, CLAUDE_EXITS="42")
    assert ran.status == 42


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_a_cold_deployment_is_waited_for(home: Path) -> None:
    with LocalServer(deployments={"d": "deploying"}) as server:
        env = environment(server, home)
        del env["MODELSLAB_BASE_URL"]
        with subprocess.Popen(
            [*COMMAND, "claude", "--base-url", server.gguf("d").base_url],
            env=env | {"PATH": f"{home / 'bin'}{os.pathsep}{env['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            assert running.stderr
            first = running.stderr.readline()
            server.deployments["d"] = "ready"
            out, _ = running.communicate(timeout=PATIENCE)
    assert "waiting for" in first
    assert running.returncode == 0
    assert json.loads(out)["env"]["ANTHROPIC_MODEL"] == "m"


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_a_paused_deployment_is_not_waited_for(home: Path) -> None:
    with LocalServer(deployments={"d": "paused"}) as server:
        ran, told = started(server, home, "--base-url", server.gguf("d").base_url)
    assert told is None
    assert "paused" in ran.err
    assert ran.status in (4, 5)


@pytest.mark.slow
@pytest.mark.usefixtures("claude")
def test_a_server_that_lists_no_models_and_counts_no_tokens(home: Path) -> None:
    from raw_server import RawServer, reply

    with RawServer(reply(404, {"detail": "Not Found"})) as server, LocalServer() as other:
        ran, told = started(other, home, "--base-url", server.url)
    assert ran.status == 0
    assert "starting anyway" in ran.err
    assert told["env"]["ANTHROPIC_BASE_URL"] == server.url


def test_without_claude_code_it_says_how_to_get_it(here: Here, server: LocalServer) -> None:
    if shutil.which("claude"):
        pytest.skip("there is one")
    status, _, err = here("claude", server=server)
    assert status == 2
    assert "npm install -g @anthropic-ai/claude-code" in err


# The scripted server


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_serve_is_the_server_of_the_test_kit(home: Path, how: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "serve", "--say", "Paris."],
        env=environment(None, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout
        seen = ""
        while "ANTHROPIC_AUTH_TOKEN" not in seen:
            seen += running.stdout.readline()
        env = dict(re.findall(r"export (\w+)=(.*)", seen))
        assert (
            run("ask", "Hi", env=environment(None, home, MODELSLAB_MODEL="m") | env).out
            == "Paris.\n"
        )
        assert httpx.get(f"{env['ANTHROPIC_BASE_URL']}/x", trust_env=False).status_code == 404
        running.send_signal(how)
        _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (0, "")


def test_serve_has_arguments_of_its_own(here: Here) -> None:
    status, _, err = here("serve", "--port", "many")
    assert status == 2
    assert "modelslab serve: error: argument --port" in err
