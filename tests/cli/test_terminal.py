"""At a real pseudo-terminal: what is on the screen, wide and narrow, with color and without."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from terminal import PATIENCE, Terminal

from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

pytestmark = pytest.mark.slow  # each test starts processes

MARKDOWN = """\
# Tides

The *Tamar* is a **tidal** river. It rises in Cornwall and flows for sixty-one miles to the sea.

- one
- two with `code`

| river | level |
|-------|------:|
| Tamar |   214 |

```python
for i in range(3):
    print(i)
```

1. first
2. second

漢字 and 🌊: the [end](https://river.example/x).
"""
DRAWN = {
    60: """\
                           Tides

The Tamar is a tidal river. It rises in Cornwall and flows
for sixty-one miles to the sea.

 • one
 • two with code

 river  level
 ────────────
 Tamar    214

 for i in range(3):
     print(i)

 1 first
 2 second

漢字 and 🌊: the end (https://river.example/x).""",
    28: """\
           Tides

The Tamar is a tidal river.
It rises in Cornwall and
flows for sixty-one miles to
the sea.

 • one
 • two with code

 river  level
 ────────────
 Tamar    214

 for i in range(3):
     print(i)

 1 first
 2 second

漢字 and 🌊: the end
(https://river.example/x).""",
}
ENDLESS = Reply("I count: " + " ".join(map(str, range(2000))), pause=0.02)
COLOUR = re.compile(rb"\x1b\[[\d;]*(3\d|9\d|48|38)[\d;]*m")
CTRL_D = "\x04"


# Answers that are drawn


@pytest.mark.parametrize(
    ("columns", "lines", "split"),
    [(60, 40, "word"), (60, 6, "character"), (28, 40, "character"), (28, 6, "word")],
)
def test_markdown_is_drawn_as_it_streams(home: Path, columns: int, lines: int, split: Any) -> None:
    """What is left on the screen, and above it, is the whole answer once."""
    with LocalServer(Reply(MARKDOWN, pause=0.002, split=split)) as server:
        env = environment(server, home)
        with Terminal("ask", "Go.", env=env, columns=columns, lines=lines) as terminal:
            assert terminal.expect_end() == 0
            assert terminal.text == DRAWN[columns]
    assert COLOUR.search(terminal.raw)


def test_no_color(home: Path) -> None:
    with LocalServer(MARKDOWN) as server:
        env = environment(server, home, NO_COLOR="1")
        with Terminal("ask", "Go.", env=env, columns=60) as terminal:
            assert terminal.expect_end() == 0
            assert terminal.text == DRAWN[60]
    assert not COLOUR.search(terminal.raw)


@pytest.mark.parametrize(("arguments", "term"), [(["--plain"], "xterm"), ([], "dumb")])
def test_plain_text_at_a_terminal(home: Path, arguments: list[str], term: str) -> None:
    with LocalServer(MARKDOWN) as server:
        env = environment(server, home, TERM=term)
        with Terminal("ask", "Go.", *arguments, env=env, columns=100, lines=40) as terminal:
            assert terminal.expect_end() == 0
    assert terminal.raw.decode() == MARKDOWN.replace("\n", "\r\n")


@pytest.mark.parametrize("arguments", [["ask", "Go."], ["ask", "Go.", "--plain"], ["models"]])
def test_no_answer_controls_the_terminal(home: Path, arguments: list[str]) -> None:
    """It could set the title, write to the clipboard, or rewrite what stands above."""
    evil = "\x1b]0;title\x07\x1b]52;c;ZXZpbA==\x1b\\ \x1b[2J\x1b[1A\x9b2J\r \u202eabc"
    model = {"id": evil, "object": "model", "owned_by": evil}
    with LocalServer(evil) as server:
        if arguments == ["models"]:
            from raw_server import RawServer, reply

            with RawServer(reply(200, {"object": "list", "data": [model]})) as raw:
                env = environment(server, home, MODELSLAB_BASE_URL=raw.url)
                with Terminal(*arguments, env=env) as terminal:
                    assert terminal.expect_end() == 0
        else:
            with Terminal(*arguments, env=environment(server, home)) as terminal:
                assert terminal.expect_end() == 0
    assert b"title" in terminal.raw
    for forbidden in (b"\x1b]", b"\x1b[2J", b"\x07", b"\x9b", "\u202e".encode()):
        assert forbidden not in terminal.raw


def test_thinking_is_shown_and_is_not_part_of_the_answer(home: Path) -> None:
    blocks = [
        {"type": "thinking", "thinking": "They want\na number.", "signature": ""},
        {"type": "text", "text": "It is **42**."},
    ]
    with LocalServer(Reply(blocks, pause=0.01)) as server:
        with Terminal("ask", "What?", "--thinking", "1024", env=environment(server, home)) as at:
            assert at.expect_end() == 0
            assert at.text == "They want\na number.\n\nIt is 42."
        ran = subprocess.run(
            [sys.executable, "-m", "modelslab_llm", "ask", "What?"],
            env=environment(server, home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    assert ran.stdout == "It is **42**.\n"


def test_an_answer_that_breaks_off_stays_on_the_screen(home: Path) -> None:
    with LocalServer(Reply("one two three", fault=Fault.cut(after=5))) as server:
        with Terminal("ask", "Go.", env=environment(server, home)) as terminal:
            assert terminal.expect_end() == 4
            assert terminal.text.startswith("one two\nmodelslab: the connection broke")


def test_ctrl_c_leaves_the_terminal_in_order(home: Path) -> None:
    with LocalServer(ENDLESS) as server:
        with Terminal("ask", "Count.", env=environment(server, home)) as terminal:
            terminal.expect("I count: 0 1 2")
            terminal.press_ctrl_c()
            assert terminal.expect_end() == 130
            assert re.match(r"I count: 0 1 2[ 0-9]*$", terminal.text)
        wait_for_disconnect(server)
    assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")  # the cursor is back


def test_sigterm_leaves_the_terminal_in_order(home: Path) -> None:
    """`timeout 5 modelslab ask` ends it so."""
    with LocalServer(ENDLESS) as server:
        with Terminal("ask", "Count.", env=environment(server, home)) as terminal:
            terminal.expect("I count: 0 1 2")
            terminal.send(signal.SIGTERM)
            assert terminal.expect_end() == 143
        wait_for_disconnect(server)
    assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")


@pytest.mark.parametrize(
    ("command", "columns", "lines"),
    [("ask Go.", 2, 2), ("ask Go.", 80, 2), ("models", 5, 24), ("doctor", 5, 24)],
)
def test_a_window_that_is_far_too_small(home: Path, columns: int, lines: int, command: str) -> None:
    with LocalServer(MARKDOWN) as server:
        env = environment(server, home)
        with Terminal(*command.split(), env=env, columns=columns, lines=lines) as terminal:
            assert terminal.expect_end() == 0


def test_the_key_is_asked_for_though_standard_input_is_a_pipe(home: Path) -> None:
    with LocalServer() as server:
        env = environment(None, home, MODELSLAB_MODEL="m")
        arguments = ["ask", "Hi", "--auth", "bearer", "--base-url", server.gateway().base_url]
        reader, writer = os.pipe()
        os.write(writer, b"piped")
        os.close(writer)
        with Terminal(*arguments, env=env, stdin=reader) as terminal:
            os.close(reader)
            terminal.expect("API key for http")
            terminal.type(f"{server.api_key}\r")
            assert terminal.expect_end() == 0
        assert server.requests[-1].text == "piped\n\nHi"


@pytest.mark.parametrize(
    ("missing", "command"), [("rich", "models"), ("prompt_toolkit", "chat"), ("rich", "ask Hi")]
)
def test_a_library_that_is_missing_is_named(home: Path, missing: str, command: str) -> None:
    hidden = f"sys.modules[{missing!r}] = None; from modelslab_llm.cli import main"
    code = f"import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {hidden}; "
    program = (sys.executable, "-c", code + "sys.exit(main())")
    with LocalServer() as server:
        env = environment(server, home)
        with Terminal(*command.split(), env=env, columns=200, program=program) as terminal:
            assert terminal.expect_end() == 2
    assert f"needs the package {missing}, from an extra" in terminal.text


def wait_for_disconnect(server: LocalServer) -> None:
    give_up = time.monotonic() + PATIENCE
    while not server.disconnects:
        assert time.monotonic() < give_up
        time.sleep(0.01)


# Tables and rows


def test_models_as_a_table(home: Path) -> None:
    with LocalServer() as server:
        env = environment(server, home)
        with Terminal("models", env=env) as wide, Terminal("models", env=env, columns=30) as narrow:
            assert wide.expect_end() == narrow.expect_end() == 0
    assert wide.text.split("\n") == [
        "Model                                   Created      Owner",
        "──────────────────────────────────────────────────────────",
        "Qwen/Qwen2.5-VL-72B-Instruct-together   2026-01-01   Qwen",
        "local-echo                              2026-01-01   local",
    ]
    assert "Qwen/Qwen2.5-VL-72B-Instruct-t\nogether\nlocal-echo" in narrow.text


@pytest.mark.parametrize("columns", [100, 50])
def test_doctor_on_a_screen(home: Path, columns: int) -> None:
    with LocalServer("No.") as server:
        env = environment(server, home)
        with Terminal("doctor", env=env, columns=columns, lines=60) as terminal:
            assert terminal.expect_end() == 0
    words = " ".join(terminal.text.split())
    assert re.search(r"ok stream end message_stop, then the end of the body", words)
    assert "-> the model or the server does not support tools (llama-server: --jinja" in words
    assert max(map(len, terminal.text.split("\n"))) <= columns
    assert COLOUR.search(terminal.raw)


# Keys


def test_a_key_is_asked_for_and_not_shown(home: Path) -> None:
    with LocalServer("Yes.", api_key="sk-typed-at-the-prompt") as server:
        env = environment(None, home)
        arguments = ["profile", "add", "w", "--base-url", server.llm_v7().base_url, "--model", "m"]
        with Terminal(*arguments, env=env) as terminal:
            terminal.expect("API key for http")
            terminal.type("sk-typed-at-the-prompt\r")
            assert terminal.expect_end() == 0
        with Terminal("ask", "Hi", env=env) as asking:
            assert asking.expect_end() == 0
            assert asking.text == "Yes."
    assert b"sk-typed" not in terminal.raw + asking.raw


def test_a_prompt_that_is_left_changes_nothing(home: Path) -> None:
    for leave, status in (("\x03", 130), (CTRL_D, 130), ("\r", 2)):
        with Terminal("profile", "add", "w", env=environment(None, home)) as terminal:
            terminal.expect("API key for https://modelslab.com")
            terminal.type(leave)
            assert terminal.expect_end() == status
    assert not (home / ".config").exists()


def test_env_shows_the_key_in_a_terminal_only_on_request(home: Path) -> None:
    with LocalServer(api_key="sk-a-secret-key") as server:
        env = environment(server, home)
        with Terminal("env", env=env) as hidden, Terminal("env", "--show-key", env=env) as shown:
            assert hidden.expect_end() == shown.expect_end() == 0
        with Terminal("env", "--json", env=env) as as_json:
            assert as_json.expect_end() == 0
    assert b"sk-a-secret-key" not in hidden.raw + as_json.raw
    assert "# ANTHROPIC_AUTH_TOKEN is set, but hidden here" in hidden.text
    assert b"ANTHROPIC_AUTH_TOKEN=sk-a-secret-key" in shown.raw


# Conversations


class Talk(Terminal):
    """`modelslab chat` at its first prompt."""

    def __init__(self, server: LocalServer, home: Path, *arguments: str, **more: Any) -> None:
        super().__init__("chat", *arguments, env=environment(server, home), **more)
        self.expect(r"\n>$")

    def say(self, text: str, answer: str) -> None:
        """Type a line, and wait until the answer to it stands above the next prompt."""
        self.type(f"{text}\r")

        def answered() -> bool:
            _, typed, below = self.text.rpartition(f"> {text}\n")
            return bool(typed and below.endswith(">") and re.search(answer, below))

        self.wait(answered, answer)


def turns(server: LocalServer) -> Any:
    return server.requests[-1].body["messages"]


def test_a_conversation_has_a_history(home: Path) -> None:
    with LocalServer(["Hello, **Ada**.", "Ada."]) as server:
        with Talk(server, home, "--system", "Be brief.", columns=40) as talk:
            talk.say("I am Ada.", "Hello, Ada.")
            talk.say("Who am I?", "Ada.")
            talk.type("/quit\r")
            assert talk.expect_end() == 0
        assert [turn["role"] for turn in turns(server)] == ["user", "assistant", "user"]
        assert server.requests[-1].body["system"] == "Be brief."


def test_ctrl_c_stops_the_answer_and_not_the_program(home: Path) -> None:
    with LocalServer([ENDLESS, "Two thousand."]) as server:
        with Talk(server, home) as talk:
            talk.type("Count.\r")
            talk.expect("I count: 0 1 2")
            talk.press_ctrl_c()
            talk.expect(r"stopped\n>$")
            wait_for_disconnect(server)
            talk.type("half a quest")
            talk.expect("half a quest")
            talk.press_ctrl_c()
            talk.expect(r"half a quest\n>$")
            talk.say("What comes last?", "Two thousand.")
            talk.type(CTRL_D)
            assert talk.expect_end() == 0
        _, counted, last = turns(server)
        assert counted["content"][0]["text"].startswith("I count: 0 1 2")
        assert last["content"] == "What comes last?"


def test_ctrl_c_before_the_first_word(home: Path) -> None:
    slow = Reply("At last.", pause=10 * PATIENCE)
    with LocalServer([slow, "Here I am."]) as server:
        with Talk(server, home) as talk:
            talk.type("Hello?\r")
            while not server.requests:
                time.sleep(0.01)
            talk.press_ctrl_c()
            talk.expect(r"stopped\n>$")
            wait_for_disconnect(server)
            talk.say("Again?", "Here I am.")
        assert [turn["role"] for turn in turns(server)] == ["user"]  # both questions are one turn


def test_an_error_ends_the_answer_and_not_the_program(home: Path) -> None:
    broken = Reply("one two three", fault=Fault.cut(after=5))
    with LocalServer([ErrorReply(402, "No credit is left."), broken, "Welcome."]) as server:
        with Talk(server, home) as talk:
            talk.say("Hello?", "No credit is left.")
            talk.say("And now?", "the connection broke")
            talk.say("Well?", "Welcome.")
        assert turns(server)[1]["content"][0]["text"] == "one two "


def test_a_question_that_cannot_be_answered_is_taken_back(home: Path) -> None:
    """Else it would be sent with every question after it, and none could be answered."""
    with LocalServer(["One.", ErrorReply(400, "It is too long."), "Three."]) as server:
        with Talk(server, home) as talk:
            talk.say("First?", "One.")
            talk.say("Far too long?", "the question was removed")
            talk.say("Third?", "Three.")
        asked = [turn["content"] for turn in turns(server) if turn["role"] == "user"]
    assert asked == ["First?", "Third?"]


def test_pasted_lines_and_alt_enter_are_one_question(home: Path) -> None:
    with LocalServer() as server:
        with Talk(server, home) as talk:
            talk.type("\x1b[200~one\ntwo\x1b[201~")
            talk.expect("two$")
            talk.type("\r")
            talk.expect(r"You said: one two\n>$")
            talk.type("a\x1b\rb\r")
            talk.expect(r"You said: a b\n>$")
        assert [turn["content"] for turn in turns(server) if turn["role"] == "user"] == [
            "one\ntwo",
            "a\nb",
        ]


def test_what_was_typed_comes_back_with_the_arrow(home: Path) -> None:
    with LocalServer() as server, Talk(server, home) as talk:
        talk.say("First.", "You said: First.")
        talk.type("\x1b[A")
        talk.expect(r"\n> First\.$")
        talk.type("\x7f\x7f!\r")
        talk.expect(r"You said: Firs!\n>$")


def test_the_commands(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("high water", encoding="utf-8")
    file, notes = tmp_path / "a b.json", tmp_path / "notes.txt"
    with LocalServer() as server:
        with Talk(server, home, columns=120) as talk:
            for command in ("help", "model", "system", "tokens", "file", "save", "load", "undo"):
                assert command in HELP
            talk.say("/help", "Alt-Enter starts another line")
            talk.say("/nothing", "is not a command; /help lists them")
            talk.say("/undo", "there is no question yet")
            talk.say("One.", "You said: One.")
            talk.say("Two.", "You said: Two.")
            talk.say("/undo", "")
            talk.say("/system Be brief.", "Be brief.")
            talk.say("/model other", "other")
            talk.say("/tokens", "the conversation: [0-9]+ tokens")
            talk.say(f"/file {notes}", "sent with the next question")
            talk.say("/file missing.txt", "cannot be read")
            talk.say("What is in it?", "You said: ")
            body = server.requests[-1].body
            assert (body["model"], body["system"]) == ("other", "Be brief.")
            assert len(body["messages"]) == 3
            assert "high water" in body["messages"][-1]["content"]
            talk.say(f'/save "{file}"', "saved")
            talk.say("/new", "")
            talk.say("Afresh.", "You said: Afresh.")
            assert len(turns(server)) == 1
            talk.say(f'/save "{notes}"', "exists; name another file")
            talk.say(f'/load "{file}"', "4 turns with other")
            talk.say("Again.", "You said: Again.")
            assert len(turns(server)) == 5
            talk.say("/load missing.json", "cannot be read")
            talk.say(f"/load {notes}", "is not a saved conversation")
            talk.say(" /etc is a path", "You said: /etc")
            talk.say("/system -", "no system prompt")
            talk.say("Now?", "You said: Now")
            assert "system" not in server.requests[-1].body
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert (saved["model"], saved["system"], len(saved["turns"])) == ("other", "Be brief.", 4)


HELP = ("help", "model", "system", "tokens", "file", "save", "load", "undo", "new", "quit")


def test_what_cannot_be_saved_says_so_and_the_conversation_continues(home: Path) -> None:
    file = home / "half.json"
    (home / "file").write_text("")
    with LocalServer() as server, Talk(server, home, "-s", "a\udcff", columns=700) as talk:
        talk.say("/save", "name a file")
        talk.say("/save -", "name a file")
        talk.say(f'/save "{file}"', "saved")  # half a character, as a shell can pass one
        talk.say("/system -", "no system prompt")
        talk.say("/save /no/such/folder/x.json", "cannot be written")
        talk.say(f"/save {home}/file/x.json", "cannot be written")
        talk.say(f"/save {'x' * 300}", "cannot be written")
        talk.say('/save ""', "exists; name another file")
        talk.say("/save ~nobody-of-this-name/x", "home directory")
        talk.say('/save "x', "No closing quotation")
        talk.say("Hello.", "You said: Hello.")
    assert json.loads(file.read_text(encoding="utf-8"))["system"] == "a\udcff"


def test_chat_needs_a_terminal(here: Any, server: LocalServer) -> None:
    status, _, err = here("chat", server=server, stdin=b"Hello\n")
    assert status == 2
    assert "in a pipe use: modelslab ask" in err


def test_a_window_that_changes_its_size(home: Path) -> None:
    with LocalServer(Reply(" ".join(["word"] * 60), pause=0.02)) as server:
        with Terminal("ask", "Go.", env=environment(server, home), columns=60) as terminal:
            terminal.expect("word word")
            terminal.resize(30, 12)
            assert terminal.expect_end() == 0
    assert terminal.text.split().count("word") >= 60  # what stood there before may be there twice
