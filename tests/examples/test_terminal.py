"""The examples for a terminal: one in a pipe, one at a real pseudo-terminal.

They talk to a server of the test, which the environment names.
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from patience import until

from examples import command_line
from modelslab_llm.testing import ErrorReply, LocalServer, Reply

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 20.0  # seconds; what is waited for comes at once, but on a machine that is busy
ENDLESS = Reply("I count: " + " ".join(map(str, range(2000))), pause=0.02)


def environment(server: LocalServer | None, **more: str) -> dict[str, str]:
    kept = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "utf-8"}
    if server and server.api_key:
        kept |= {"MODELSLAB_API_KEY": server.api_key, "MODELSLAB_BASE_URL": server.url}
    return kept | more


# In a pipe


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / "command_line.py"), *arguments]


@pytest.mark.parametrize("piped", ["A text.\n", ""])
def test_without_a_key_it_says_who_answers(piped: str) -> None:
    ran = subprocess.run(
        command("What", "is this?"),
        env=environment(None),
        input=piped,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    asked = "What is this?\n\nA text." if piped else "What is this?"
    assert (ran.returncode, ran.stdout) == (0, f"You said: {asked}\n")
    assert ran.stderr == "No MODELSLAB_API_KEY: a local server echoes.\n"


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command in this process: its status, and what it wrote to stdout and stderr."""

    def ask(server: LocalServer, *arguments: str, piped: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", command(*arguments)[3:])
        monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        try:
            status = command_line.main()
        except SystemExit as ended:  # argparse's own
            status = int(str(ended.code))
        return status, *capsys.readouterr()

    return ask


def test_arguments_and_a_pipe_are_one_question(ask: Ask) -> None:
    with LocalServer("Gladly.") as server:
        done = ask(server, "--system=Be brief.", "--model=m", "Explain", "this.", piped="é\n")
    assert done == (0, "Gladly.\n", "")
    body = server.requests[0].body
    assert (body["system"], body["model"], body["stream"]) == ("Be brief.", "m", True)
    assert body["messages"] == [{"role": "user", "content": "Explain this.\n\né"}]


@pytest.mark.parametrize(
    ("script", "status", "shown"),
    [
        (ErrorReply(400, "No such model."), 2, "BadRequestError: HTTP 400"),
        (ErrorReply(402, "No credit is left."), 3, "PaymentRequiredError: HTTP 402"),
        (ErrorReply(429, headers={"x-should-retry": "false"}), 4, "RateLimitError: HTTP 429"),
        (ErrorReply(529, headers={"x-should-retry": "false"}), 4, "OverloadedError: HTTP 529"),
        (ErrorReply(404, "Nobody is here."), 5, "NotFoundError: HTTP 404"),
        (
            Reply("Half of", stop_reason="max_tokens"),
            6,
            "truncated after 2 tokens; raise --max-tokens",
        ),
    ],
)
def test_the_status_says_what_to_do(
    ask: Ask, script: ErrorReply | Reply, status: int, shown: str
) -> None:
    with LocalServer(script) as server:
        found, out, err = ask(server, "Well?")
    assert found == status
    assert shown in err
    assert out == ("Half of\n" if status == 6 else "")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [([], "pass a question, or pipe one in"), (["--max-tokens=0", "Hm?"], "InvalidRequestError")],
)
def test_a_wrong_command_is_2(ask: Ask, arguments: list[str], shown: str) -> None:
    with LocalServer() as server:
        status, _, err = ask(server, *arguments)
        assert not server.requests
    assert status == 2
    assert shown in err


def test_an_answer_that_breaks_off_is_4(ask: Ask) -> None:
    half = (
        b"""data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"Half"}}\n\n"""
    )
    failure = ErrorReply(200, headers={"content-type": "text/event-stream"}, body=half)
    with LocalServer(failure) as server:
        status, out, err = ask(server, "Hello?")
    assert (status, out) == (4, "Half")
    assert "StreamInterruptedError" in err


def test_a_reader_that_has_seen_enough_stops_the_model() -> None:
    with LocalServer(ENDLESS) as server:
        with subprocess.Popen(
            command("Count."),
            env=environment(server),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            assert running.stdout
            assert running.stderr
            assert running.stdout.read(9) == b"I count: "
            running.stdout.close()
            assert running.stderr.read() == b""
        assert running.returncode == 141
        until(lambda: server.disconnects > 0)


# At a terminal

# Python's own `pty.fork` may not be used where there are threads; so a small program makes the
# terminal its own, which is what lets Ctrl-C reach it, and then becomes the example.
AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-W", "error", *sys.argv[1:]])
"""


class Terminal:
    """A person at the keyboard: types, and waits for what is shown."""

    def __init__(self, keyboard: int, program: subprocess.Popen[bytes]) -> None:
        self._keyboard = keyboard
        self._program = program
        self._ahead = ""
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def press_ctrl_c(self, pattern: str) -> None:
        """Press Ctrl-C until the pattern is shown.

        Once is enough, unless it comes in the moment before Python waits for a key or for bytes:
        then it counts only when these come, and a person would press it again.
        """
        for _ in range(int(PATIENCE)):
            self.type("\x03")
            if self._comes(pattern, 1.0):
                return
        raise AssertionError((pattern, self.shown))

    def expect(self, pattern: str) -> None:
        """Wait until what has been shown since the last call holds the pattern."""
        assert self._comes(pattern, PATIENCE), (pattern, self.shown)

    def _comes(self, pattern: str, seconds: float) -> bool:
        give_up = time.monotonic() + seconds
        while not (found := re.search(pattern, self._ahead)):
            read = self._read(give_up - time.monotonic())
            if not read:
                return False
            self.shown += read
            self._ahead += read
        self._ahead = self._ahead[found.end() :]
        return True

    def expect_end(self) -> int:
        while read := self._read(PATIENCE):
            self.shown += read
        return self._program.wait(PATIENCE)

    def _read(self, seconds: float) -> str:
        ready, _, _ = select.select([self._keyboard], [], [], max(0, seconds))
        try:
            return os.read(self._keyboard, 4096).decode(errors="replace") if ready else ""
        except OSError:  # Linux tells the end of the other side in this way
            return ""


@contextmanager
def chat(server: LocalServer | None) -> Iterator[Terminal]:
    keyboard, screen = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, str(EXAMPLES / "terminal_chat.py")],
        env=environment(server, TERM="dumb"),
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
    )
    os.close(screen)
    try:
        terminal = Terminal(keyboard, program)
        terminal.expect("\n> ")
        yield terminal
        assert "Traceback" not in terminal.shown
    finally:
        program.kill()
        program.wait()
        os.close(keyboard)


CTRL_D = "\x04"


def test_a_conversation() -> None:
    with LocalServer(["Hello, Ada.", "Ada.", "Who knows?"]) as server, chat(server) as terminal:
        terminal.type("I am Ada.\n")
        terminal.expect("Hello, Ada.\r\n\r\n> ")
        terminal.type("Who am I?\n")
        terminal.expect("Ada.\r\n\r\n> ")
        terminal.type("/undo\n")
        terminal.expect("> ")
        terminal.type("\n")
        terminal.expect("> ")
        terminal.type("/what\n")
        terminal.expect("/quit or Ctrl-D ends")
        terminal.type("And who are you?\n")
        terminal.expect("Who knows.\r\n\r\n> ")
        terminal.type("/quit\n")
        assert terminal.expect_end() == 0
    asked = [turn["content"] for turn in server.requests[-1].body["messages"]]
    assert asked == ["I am Ada.", [{"type": "text", "text": "Hello, Ada."}], "And who are you?"]


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    with LocalServer([ENDLESS, "Two thousand."]) as server, chat(server) as terminal:
        terminal.type("Count.\n")
        terminal.expect("I count: 0 1 2")
        terminal.press_ctrl_c(" … stopped\r\n\r\n> ")
        until(lambda: server.disconnects > 0)
        terminal.type("Half a quest")
        terminal.expect("Half a quest")
        terminal.press_ctrl_c("> ")
        terminal.type("What comes last?\n")
        terminal.expect("Two thousand.\r\n\r\n> ")
        terminal.type(CTRL_D)
        assert terminal.expect_end() == 0
    counted, last = server.requests[-1].body["messages"][1:]
    assert counted["content"][0]["text"].startswith("I count: 0 1 2")
    assert last["content"] == "What comes last?"


def test_ctrl_c_before_the_first_word() -> None:
    slow = Reply("At last.", pause=10 * PATIENCE)
    with LocalServer([slow, "Here I am."]) as server, chat(server) as terminal:
        terminal.type("Hello?\n")
        while not server.requests:
            time.sleep(0.01)
        terminal.press_ctrl_c("stopped before the first word\r\n\r\n> ")
        until(lambda: server.disconnects > 0)
        terminal.type("/new\nHello again?\n")
        terminal.expect("Here I am.")
    assert len(server.requests[-1].body["messages"]) == 1


def test_an_error_ends_the_answer_and_not_the_program() -> None:
    with LocalServer([ErrorReply(402, "No credit is left."), "Welcome."]) as server:
        with chat(server) as terminal:
            terminal.type("Hello?\n")
            terminal.expect("PaymentRequiredError: HTTP 402 .*No credit is left.*\r\n\r\n> ")
            terminal.type("And now?\n")
            terminal.expect("Welcome.")


def test_it_runs_by_itself() -> None:
    with chat(None) as terminal:
        terminal.type("Hello!\n")
        terminal.expect("You said: Hello!\r\n")
    assert "a local server echoes" in terminal.shown
