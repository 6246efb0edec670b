"""Pipes, full disks, closed streams, encodings, Ctrl-C: the command as a process among others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import COMMAND, PATIENCE, environment, run

from modelslab_llm.testing import LocalServer, Reply

pytestmark = pytest.mark.slow  # each test starts processes

ENDLESS = Reply("I count: " + " ".join(map(str, range(2000))), pause=0.02)
POSIX = pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX is needed")


def wait_for(server: LocalServer, *, disconnects: int = 0, requests: int = 0) -> None:
    give_up = time.monotonic() + PATIENCE
    while server.disconnects < disconnects or len(server.requests) < requests:
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_has_seen_enough_is_silent_success(home: Path, more: list[str]) -> None:
    with LocalServer(ENDLESS if not more else "x" * 1_000_000) as server:
        with subprocess.Popen(
            [*COMMAND, "ask", "Count.", *more],
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            assert running.stdout
            assert running.stderr
            assert len(running.stdout.read(9)) == 9
            running.stdout.close()
            assert running.stderr.read() == b""
        assert running.returncode == 0
        if not more:
            wait_for(server, disconnects=1)


@POSIX
@pytest.mark.parametrize(
    "command", ["--help", "models", "doctor", "serve --help", "completion zsh"]
)
def test_a_pipe_without_a_reader(home: Path, command: str) -> None:
    """The reader has left before a word is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with LocalServer() as server:
        ran = subprocess.run(
            [*COMMAND, *command.split()],
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["ask Hi", "models", "--help"])
def test_a_full_disk_is_told(home: Path, command: str) -> None:
    with LocalServer() as server, open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*COMMAND, *command.split()],
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
        )
    assert ran.returncode == 7
    assert ran.stderr == b"modelslab: standard output: No space left on device\n"


@POSIX
@pytest.mark.parametrize(
    ("closed", "status"), [("<&-", 0), (">&-", 7), ("2>&-", 0), ("<&- >&- 2>&-", 7)]
)
def test_a_stream_that_the_shell_closed(home: Path, closed: str, status: int) -> None:
    with LocalServer() as server:
        ran = subprocess.run(
            f'"{sys.executable}" -m modelslab_llm ask Hi {closed}',
            shell=True,
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert len(server.requests) == 1  # and nothing was written into its connection
    assert ran.returncode == status
    assert ran.stdout == (b"" if status else b"You said: Hi\n")
    assert ran.stderr == (b"modelslab: standard output: is closed\n" if closed == ">&-" else b"")


@POSIX
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("models", 7),
        ("ask Hi --json", 7),
        ("--help", 7),
        ("env modelslab", 7),
        ("completion bash", 7),
        ("profile list --json", 7),
        ("profile add x --base-url https://x.example --no-key", 0),  # which prints nothing there
    ],
)
def test_an_output_that_the_shell_closed_is_not_success(
    home: Path, command: str, status: int
) -> None:
    with LocalServer() as server:
        ran = subprocess.run(
            f'"{sys.executable}" -m modelslab_llm {command} >&-',
            shell=True,
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
    assert ran.returncode == status
    if status:
        assert ran.stderr == b"modelslab: standard output: is closed\n"


@POSIX
@pytest.mark.parametrize("script", [ENDLESS, Reply("At last.", pause=10 * PATIENCE)])
def test_ctrl_c_ends_the_command_and_the_answer(home: Path, script: Reply) -> None:
    with LocalServer(script) as server:
        with subprocess.Popen(
            [*COMMAND, "ask", "Count."],
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            assert running.stdout
            assert running.stderr
            if script is ENDLESS:
                assert running.stdout.read(9) == b"I count: "
            wait_for(server, requests=1)
            running.send_signal(signal.SIGINT)
            assert b"Traceback" not in running.stderr.read()
        assert running.returncode == 130
        wait_for(server, disconnects=1)


SAID = "Été 🌊 – done."


@pytest.mark.parametrize(
    ("more", "out"),
    [
        ({"LC_ALL": "C"}, SAID),
        ({"LC_ALL": "POSIX", "LANG": ""}, SAID),
        ({"PYTHONIOENCODING": "ascii"}, "\\xc9t\\xe9 \\U0001f30a \\u2013 done."),
        ({"PYTHONIOENCODING": "latin-1"}, "Été \\U0001f30a \\u2013 done."),
    ],
)
def test_no_encoding_loses_a_character(home: Path, more: dict[str, str], out: str) -> None:
    with LocalServer(SAID) as server:
        ran = subprocess.run(
            [*COMMAND, "ask", "Hi"],
            env=environment(server, home, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
    encoding = more.get("PYTHONIOENCODING", "utf-8")
    assert (ran.returncode, ran.stdout.decode(encoding), ran.stderr) == (0, f"{out}\n", b"")


def test_in_a_pipe_the_answer_is_as_it_came(home: Path) -> None:
    """Only a terminal is protected from what would control it."""
    with LocalServer("# A\n\n\x1b[31mred\x1b[0m  end") as server:
        ran = run("ask", "Hi", env=environment(server, home))
    assert ran == (0, "# A\n\n\x1b[31mred\x1b[0m  end\n", "")


def test_without_a_key_and_without_a_terminal_nobody_is_asked(home: Path) -> None:
    ran = run("ask", "Hi", "--model", "m", env=environment(None, home), start_new_session=True)
    assert (ran.status, ran.out) == (2, "")
    assert "no API key" in ran.err
    assert "MODELSLAB_API_KEY" in ran.err
