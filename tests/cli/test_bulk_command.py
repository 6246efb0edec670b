"""`modelslab bulk`: rows in, answers out, and nothing lost where it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND, PATIENCE, Ran, environment

from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply, ReplyLike

Here = Callable[..., Ran]

NO_RETRY = {"x-should-retry": "false"}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines(path: str = "out.jsonl") -> list[dict[str, Any]]:
    text = Path(path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n")]


def table(rows: int, path: str = "in.csv") -> list[str]:
    """Write a table, and return what is asked of its rows."""
    body = "".join(f"r{row},text {row}\n" for row in range(rows))
    Path(path).write_text(f"id,text\n{body}", encoding="utf-8")
    return [f"Is text {row}?" for row in range(rows)]


BULK = ("bulk", "in.csv", "out.jsonl", "--prompt", "Is {text}?", "--id", "id")


def answer(request: ReceivedRequest) -> ReplyLike:
    return f"To {request.text}"


def test_every_row_has_its_answer_in_order(here: Here) -> None:
    asked = table(30)
    with LocalServer(answer) as server:
        status, out, err = here(*BULK, "--system", "Of {id}.", server=server)
    assert (status, out) == (0, "")
    assert "30 of 30 done, 0 failed" in err
    found = lines()
    assert [line["text"] for line in found] == [f"To {text}" for text in asked]
    assert [line["key"] for line in found] == [f"r{row}" for row in range(30)]
    assert found[3]["row"] == {"id": "r3", "text": "text 3"}
    assert found[3]["usage"]["output_tokens"] > 0
    assert {request.body["system"] for request in server.requests} == {
        f"Of r{row}." for row in range(30)
    }
    assert not Path("out.jsonl.failures").exists()


def test_failed_rows_are_in_a_separate_file_and_sent_again_on_demand(here: Here) -> None:
    table(6)
    bad = {"Is text 2?", "Is text 4?"}

    def some(request: ReceivedRequest) -> ReplyLike:
        return ErrorReply(400, "No.") if request.text in bad else answer(request)

    with LocalServer(some) as server:
        status, _, err = here(*BULK, server=server)
        assert status == 1
        assert "4 of 6 done, 2 failed" in err
        assert "--retry-failed sends them again" in err
        failed = lines("out.jsonl.failures")
        assert {line["key"] for line in failed} == {"r2", "r4"}
        assert failed[0]["error"] == "BadRequestError"
        assert failed[0]["row"]["text"].startswith("text")
        assert [line["key"] for line in lines()] == ["r0", "r1", "r3", "r5"]
        assert here(*BULK, server=server).status == 1
        assert len(server.requests) == 6  # nothing is asked twice by itself
        bad.clear()
        assert here(*BULK, "--retry-failed", server=server).status == 0
        assert len(server.requests) == 8
    assert len(lines()) == 6
    assert not Path("out.jsonl.failures").exists()


def test_rows_may_move_where_they_have_a_key(here: Here) -> None:
    with LocalServer(answer) as server:
        for order in ("abc", "zabc", "caz"):
            Path("in.csv").write_text("id,text\n" + "".join(f"{row},t {row}\n" for row in order))
            assert here(*BULK, server=server).status == 0
            found = [(line["key"], line["row"]["text"], line["text"]) for line in lines()]
            assert found == [(row, f"t {row}", f"To Is t {row}?") for row in order]
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("in.jsonl", '{"text": "a"}\n\n{"text": {"b": [1, "é"]}}\n', ["--prompt", "{text}"]),
        ("in.csv", '\ufefftext\na\n"{""b"": [1, ""é""]}"\n', ["--prompt", "{text}"]),
        ("in.tsv", 'prompt\na\n"{""b"": [1, ""é""]}"\n', []),
        ("in.ndjson", '{"prompt": "a"}\n{"prompt": "{\\"b\\": [1, \\"é\\"]}"}\n', []),
        ("in.txt", "prompt\na\n'\n", ["--format", "csv"]),
        (
            "in.jsonl",
            '{"id": 1, "messages": [{"role": "user", "content": "a"}], "top_k": 3}\n'
            '{"id": 2, "messages": [{"role": "user", "content": "b"}], "model": "other"}\n',
            ["--id", "id"],
        ),
    ],
)
def test_forms_of_rows(here: Here, name: str, text: str, more: list[str]) -> None:
    Path(name).write_text(text, encoding="utf-8")
    with LocalServer() as server:
        ran = here("bulk", name, "out.jsonl", *more, server=server)
        assert ran.status == 0, ran.err
        asked = {request.text: request.body for request in server.requests}
    if name == "in.txt":
        assert asked.keys() == {"a", "'"}
    elif "--id" in more:
        assert asked["a"]["top_k"] == 3
        assert asked["b"]["model"] == "other"
    else:
        assert asked.keys() == {"a", '{"b": [1, "é"]}'}


def test_rows_from_standard_input(here: Here) -> None:
    with LocalServer() as server:
        arguments = ["bulk", "-", "out.jsonl", "--format", "jsonl"]
        ran = here(*arguments, server=server, stdin=b'{"prompt": "Hi"}\n')
        assert ran.status == 0
        assert lines()[0]["text"] == "You said: Hi"
        assert here("bulk", "-", "o2.jsonl", server=server, stdin=b"x").status == 2


@pytest.mark.parametrize(
    ("name", "text", "more", "said"),
    [
        ("in.jsonl", '{"text": "a"}\n{"text"\n', ["-p", "{text}"], "in.jsonl:2: is not JSON"),
        ("in.jsonl", '["a"]\n', ["-p", "{text}"], "in.jsonl:1: is not a JSON object"),
        ("in.jsonl", '{"text": "a"}\n{"txet": "b"}\n', ["-p", "{text}"], "row 2: has no column"),
        ("in.jsonl", "", [], "has no rows"),
        ("in.csv", "text\n", ["-p", "{text}"], "has no rows"),
        ("in.csv", "a,b\n1,2\n3\n", ["-p", "{a}"], "in.csv:3: does not have 2 columns"),
        ("in.csv", "a,b\n1,2,3\n", ["-p", "{a}"], "in.csv:2: does not have 2 columns"),
        ("in.csv", "a,a\n1,2\n", ["-p", "{a}"], "two columns have the same name"),
        ("in.csv", 'a\n"1', ["-p", "{a}"], "unexpected end of data"),
        ("in.csv", "a\n1\n", ["-p", "Hello"], "names no column in braces"),
        ("in.csv", "a\n1\n", [], "has no column 'prompt'; it has: a"),
        ("in.csv", "a\n1\n", ["-p", "{a}", "--id", "id"], "has no column 'id'; it has: a"),
        ("in.csv", "a\n1\n", ["-p", "{a}", "--budget", "1"], "requires --input-price"),
        ("in.csv", "a\n1\n", ["-p", "{a}", "--input-price", "1"], "require each other"),
        ("in.csv", "a\n1\n", ["-p", "{a}", "--concurrency", "0"], "--concurrency"),
        ("in.txt", "a\n", ["-p", "{a}"], "pass --format"),
    ],
)
def test_a_file_that_cannot_be_asked_is_told_before_anything_is_sent(
    here: Here, server: LocalServer, name: str, text: str, more: list[str], said: str
) -> None:
    Path(name).write_text(text, encoding="utf-8")
    status, out, err = here("bulk", name, "out.jsonl", *more, server=server)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not server.requests
    assert sorted(os.listdir()) == ["home", name]


def test_files_that_are_missing_or_not_text(here: Here, server: LocalServer) -> None:
    assert "cannot be read" in here("bulk", "no.csv", "out.jsonl", server=server).err
    Path("in.csv").write_bytes(b"text\ncaf\xe9\n")
    assert "is not UTF-8 text" in here("bulk", "in.csv", "out.jsonl", server=server).err
    Path("in.csv").write_text("prompt\nx\n")
    status, _, err = here("bulk", "in.csv", "no/such/out.jsonl", server=server)
    assert status == 2
    assert "no such folder" in err
    assert not server.requests


def test_what_no_run_has_written_is_not_overwritten(here: Here, server: LocalServer) -> None:
    table(2)
    Path("out.jsonl").write_text("mine\n")
    status, _, err = here(*BULK, server=server)
    assert status == 2
    assert "name another file" in err
    assert Path("out.jsonl").read_text() == "mine\n"


POSIX = pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
TWO = '{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n'
ROWS = ("-p", "{text}", "--id", "id")


def everything() -> dict[str, bytes]:
    """Return every file of the folder."""
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ["in.jsonl", "in.jsonl"],
        ["in.jsonl", "out.jsonl", "--store", "out.jsonl"],
        ["in.jsonl", "out.jsonl", "--failures", "out.jsonl"],
        ["in.jsonl", "out.jsonl", "--failures", "in.jsonl"],
        ["in.jsonl", "out.jsonl", "--store", "in.jsonl"],
        ["in.jsonl", "out.jsonl", "--store", "s", "--failures", "s"],
        ["in.jsonl", "out.jsonl", "--store", "s", "--failures", "s-wal"],
        ["in.jsonl", "out.jsonl", "--store", "s", "--failures", "s-lock"],
        ["in.jsonl", "home/../out.jsonl", "--failures", "out.jsonl"],
        ["in.jsonl", "soft.jsonl"],
        ["in.jsonl", "hard.jsonl"],
        ["in.jsonl", "out.jsonl", "--failures", "soft.jsonl"],
        ["in.jsonl", "out.jsonl", "--failures", "hard.jsonl"],
        ["soft.jsonl", "hard.jsonl"],
        ["in.jsonl", "folder/out.jsonl", "--failures", "home/out.jsonl"],
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@POSIX
def test_one_file_in_two_parts_is_refused(
    here: Here, server: LocalServer, arguments: list[str], more: list[str]
) -> None:
    Path("in.jsonl").write_text(TWO)
    os.symlink("in.jsonl", "soft.jsonl")
    os.link("in.jsonl", "hard.jsonl")
    os.symlink("home", "folder")
    before = everything()
    status, out, err = here("bulk", *arguments, *ROWS, *more, server=server)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "are the same file" in err
    assert not server.requests
    assert everything() == before


@pytest.mark.parametrize(
    "more",
    [
        ["mine.txt"],
        ["out.jsonl", "--failures", "mine.txt"],
        ["mine.txt", "--store", "old.jsonl.sqlite"],
        ["out.jsonl", "--store", "old.jsonl.sqlite", "--failures", "mine.txt"],
        ["old.jsonl"],
        ["old.jsonl", "--store", "new.sqlite"],
        ["out.jsonl", "--failures", "old.jsonl"],
        ["link.txt"],
        ["other"],
        ["out.jsonl", "--failures", "other"],
        ["/dev/null", "--store", "null.sqlite", "--failures", "null.failures"],
    ],
)
@POSIX
def test_a_file_that_the_store_has_not_written_is_not_replaced(
    here: Here, server: LocalServer, more: list[str]
) -> None:
    Path("in.jsonl").write_text(TWO)
    assert here("bulk", "in.jsonl", "old.jsonl", *ROWS, server=server).status == 0
    if more == ["old.jsonl"]:  # a store of the same name, which has not written it
        Path("old.jsonl.sqlite").unlink()
        assert here("bulk", "in.jsonl", "o2.jsonl", *ROWS, server=server).status == 0
        Path("o2.jsonl.sqlite").rename("old.jsonl.sqlite")
    Path("mine.txt").write_text("mine")
    os.symlink("mine.txt", "link.txt")
    os.mkfifo("other")
    before, sent = everything(), len(server.requests)
    status, out, err = here("bulk", "in.jsonl", *more, *ROWS, server=server)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "name another" in err
    assert len(server.requests) == sent
    assert everything() == before


@POSIX
def test_a_file_that_the_store_has_written_is_replaced(here: Here) -> None:
    """Wherever the folder is moved to; an empty file and a link to nowhere are free."""
    Path("a").mkdir()
    Path("a/in.jsonl").write_text(TWO)
    Path("a/out.jsonl").write_text("")
    os.symlink("failed", "a/out.jsonl.failures")
    bad = {"x"}

    def some(request: ReceivedRequest) -> ReplyLike:
        return ErrorReply(400, "No.") if request.text in bad else answer(request)

    with LocalServer(some) as server:
        assert here("bulk", "a/in.jsonl", "a/out.jsonl", *ROWS, server=server).status == 1
        assert lines("a/failed")[0]["key"] == "a"
        assert Path("a/out.jsonl.failures").is_symlink()
        Path("a").rename("b")
        bad.clear()
        more = [*ROWS, "--retry-failed"]
        assert here("bulk", "b/in.jsonl", "b/out.jsonl", *more, server=server).status == 0
        assert len(server.requests) == 3
    assert len(lines("b/out.jsonl")) == 2
    assert not Path("b/failed").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "/", "./", "home", "home/", "none/", "home/.."])
@pytest.mark.parametrize("option", ["OUT", "--store", "--failures"])
def test_what_names_no_file_is_refused(
    here: Here, server: LocalServer, name: str, option: str
) -> None:
    Path("in.jsonl").write_text(TWO)
    places = [name] if option == "OUT" else ["out.jsonl", option, name]
    status, out, err = here("bulk", "in.jsonl", *places, *ROWS, server=server)
    assert (status, out) == (2, "")
    assert err == f"modelslab: {option}: {name!r} is not the name of a file\n"
    assert not server.requests


@pytest.mark.parametrize("option", ["OUT", "--store", "--failures"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_run_writes_no_file_called_like_standard_output(
    here: Here, server: LocalServer, option: str, more: list[str]
) -> None:
    places = ["-"] if option == "OUT" else ["out.jsonl", option, "-"]
    source = ["-", *places, "--format", "jsonl"]
    status, out, err = here("bulk", *source, *ROWS, *more, server=server, stdin=TWO.encode())
    assert (status, out) == (2, "")
    assert err == (
        f"modelslab: {option}: '-' is not the name of a file; name one, from which a run can be "
        "continued\n"
    )
    assert not server.requests
    assert not Path("-").exists()


@pytest.mark.parametrize("name", ["x.csv", "x.TSV", "x.parquet", "x.jsonl.gz"])
def test_a_name_of_another_form_is_refused(here: Here, server: LocalServer, name: str) -> None:
    Path("in.jsonl").write_text(TWO)
    for places in ([name], ["out.jsonl", "--failures", name]):
        status, _, err = here("bulk", "in.jsonl", *places, *ROWS, server=server)
        assert (status, err.count("\n")) == (2, 1)
        assert f"{name}: would contain JSON lines" in err
    assert sorted(os.listdir()) == ["home", "in.jsonl"]


def test_half_a_character_is_written_as_its_escape(here: Here) -> None:
    """A lone surrogate in an unused column: JSON can hold it, a file cannot."""
    text = '{"id": "a", "text": "x", "more": "\\ud83d"}\n{"id": "b", "text": "y\\udc00"}\n'
    Path("in.jsonl").write_text(text)
    with LocalServer(answer) as server:
        assert here("bulk", "in.jsonl", "out.jsonl", *ROWS, server=server).status == 1
        assert len(server.requests) == 1
    assert lines()[0]["row"] == {"id": "a", "text": "x", "more": "\ud83d"}
    assert lines("out.jsonl.failures")[0]["row"]["text"] == "y\udc00"


def test_a_changed_row_that_fails_is_not_shown_with_its_old_answer(here: Here) -> None:
    table(2)

    def some(request: ReceivedRequest) -> ReplyLike:
        return ErrorReply(400, "No.") if "Was" in request.text else answer(request)

    with LocalServer(some) as server:
        assert here(*BULK, server=server).status == 0
        changed = ("bulk", "in.csv", "out.jsonl", "--prompt", "Was {text}?", "--id", "id")
        for _ in range(2):
            assert here(*changed, server=server).status == 1
            assert Path("out.jsonl").read_bytes() == b""
            assert {line["key"] for line in lines("out.jsonl.failures")} == {"r0", "r1"}
        assert here(*BULK, server=server).status == 0
        assert len(server.requests) == 4  # the answers are still there
    assert [line["text"] for line in lines()] == ["To Is text 0?", "To Is text 1?"]


def test_an_output_that_fits_a_schema(here: Here) -> None:
    table(2)
    Path("s.json").write_text(
        '{"type": "object", "properties": {"fine": {"type": "boolean"}}, "required": ["fine"]}'
    )

    def reply(request: ReceivedRequest) -> ReplyLike:
        value = {"fine": True} if request.text == "Is text 0?" else {"fine": "yes"}
        return Reply([{"type": "tool_use", "id": "t", "name": "output", "input": value}])

    with LocalServer(reply) as server:
        assert here(*BULK, "--schema", "s.json", server=server).status == 1
    assert [line["output"] for line in lines()] == [{"fine": True}]
    (failed,) = lines("out.jsonl.failures")
    assert failed["error"] == "OutputInvalidError"
    assert failed["text"] == '{"fine": "yes"}'


def test_a_dry_run_asks_nothing_and_estimates(here: Here) -> None:
    table(40)
    prices = ["--input-price", "2", "--output-price", "10", "--max-tokens", "100"]
    with LocalServer() as server:
        status, _, err = here(*BULK, "--dry-run", *prices, server=server)
        assert status == 0
        assert {request.path.rpartition("/")[2] for request in server.requests} == {"count_tokens"}
        assert "40 rows: 40 to send" in err
        assert "about 120 tokens in (counted, of 20 rows), at most 4,000 out" in err
        assert "cost: 0.00024 for the prompts, at most 0.04024 with the answers" in err
        assert sorted(os.listdir()) == ["home", "in.csv"]
        here(*BULK, server=server)
        told = json.loads(here(*BULK, "--dry-run", "--json", server=server).out)
        assert (told["to_ask"], told["stored"], told["most_output_tokens"]) == (0, 40, 0)
    with LocalServer(dialect="ollama") as server:
        Path("out.jsonl.sqlite").unlink()
        assert "estimated from the length" in here(*BULK, "--dry-run", server=server).err


def test_equal_requests_can_be_asked_once(here: Here) -> None:
    Path("in.csv").write_text("prompt\nx\ny\nx\nx\n")
    with LocalServer() as server:
        assert here("bulk", "in.csv", "out.jsonl", "--deduplicate", server=server).status == 0
        assert len(server.requests) == 2
    assert [line["text"] for line in lines()] == [f"You said: {text}" for text in "xyxx"]


def test_a_budget_ends_the_run(here: Here) -> None:
    table(50)
    prices = ["--input-price", "1e6", "--output-price", "1e6", "--budget", "20"]
    with LocalServer(answer) as server:
        status, _, err = here(*BULK, *prices, "--concurrency", "1", server=server)
        assert status == 6
        stopped, why = err.splitlines()
        assert stopped.startswith("stopped: ")
        assert stopped.endswith("; the same command continues where it stopped")
        assert why.startswith("modelslab: the budget is spent")
        assert len(lines()) == len(server.requests) < 50


def test_failures_end_the_run_where_asked_to(here: Here) -> None:
    table(50)
    with LocalServer(ErrorReply(400, "No.")) as server:
        status, _, _ = here(*BULK, "--max-failures", "3", "--concurrency", "1", server=server)
        assert status == 1
        assert len(server.requests) == 3


def test_a_wrong_key_ends_the_run(here: Here, tmp_path: Path) -> None:
    table(50)
    with LocalServer() as server:
        server.api_key = "another"
        Path("key").write_text("wrong-key-123")
        status, _, err = here(*BULK, "--api-key-file", "key", "--retries", "0", server=server)
        assert status == 3
        assert "wrong-key-123" not in err
        assert len(server.requests) <= 50


def test_json_is_a_summary(here: Here) -> None:
    table(3)
    with LocalServer(answer) as server:
        told = json.loads(here(*BULK, "--json", server=server).out)
    assert (told["total"], told["done"], told["failed"], told["stored"]) == (3, 3, 0, 0)


# Stopped


def started(server: LocalServer, home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *BULK, "--concurrency", "4"],
        env=environment(server, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_answers(server: LocalServer, many: int) -> None:
    give_up = time.monotonic() + PATIENCE
    while len(server.requests) < many:
        assert time.monotonic() < give_up
        time.sleep(0.005)


SLOW = 0.02


def slowly(request: ReceivedRequest) -> ReplyLike:
    time.sleep(SLOW)  # one call at a time
    return answer(request)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")],
)
def test_a_signal_ends_it_cleanly_and_it_says_how_to_go_on(
    here: Here, home: Path, sent: signal.Signals, status: int, said: str
) -> None:
    asked = table(150)
    with LocalServer(slowly) as server:
        with started(server, home) as running:
            wait_for_answers(server, 20)
            running.send_signal(sent)
            _, err = running.communicate(timeout=PATIENCE)
        assert running.returncode == status
        (line,) = err.decode().strip().splitlines()  # once; click ends the line of a ^C
        assert line.startswith(f"stopped by {said}: ")
        assert line.endswith("; the same command continues where it stopped")
        kept = lines()
        assert 0 < len(kept) < 150
        assert here(*BULK, server=server).status == 0
        counts = Counter(request.text for request in server.requests)
    assert [line["text"] for line in lines()] == [f"To {text}" for text in asked]
    again = {text for text, count in counts.items() if count > 1}
    assert not again & {line["text"].removeprefix("To ") for line in kept}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_killed_at_any_instant_it_continues(here: Here, home: Path) -> None:
    asked = table(120)
    with LocalServer(slowly) as server:
        for many in (10, 40, 80):
            with started(server, home) as running:
                wait_for_answers(server, many)
                running.kill()
                running.communicate(timeout=PATIENCE)
        assert here(*BULK, server=server).status == 0
        counts = Counter(request.text for request in server.requests)
    assert [line["text"] for line in lines()] == [f"To {text}" for text in asked]
    assert counts.total() <= 120 + 3 * 8  # what was in flight when it was killed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("columns", [110, 40])
def test_a_bar_at_a_terminal(home: Path, columns: int, tmp_path: Path) -> None:
    from terminal import Terminal

    table(60)
    prices = ["--input-price", "1000", "--output-price", "1000"]
    with LocalServer(slowly) as server:
        env = environment(server, home)
        arguments = [*BULK, *prices, "--concurrency", "2"]
        with Terminal(*arguments, env=env, columns=columns, cwd=tmp_path) as terminal:
            terminal.expect(r"\d+/60 ")
            if columns > 100:
                terminal.expect(r"\d+/60 .*/s, \d+ s left, \d+ tokens, cost \d")
            assert terminal.expect_end() == 0
    assert terminal.text.startswith("60 of 60 done, 0 failed")  # the bar is gone


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.failures"])
@pytest.mark.parametrize("foreign", ["a folder", "a file"])
def test_what_comes_while_a_run_continues_is_not_overwritten(
    here: Here, name: str, foreign: str
) -> None:
    """The run ends with 7 and names it; the other file is written, and the store has the rest."""
    table(2)

    def reply(request: ReceivedRequest) -> ReplyLike:
        if foreign == "a folder":
            Path(name).mkdir(exist_ok=True)
        else:
            Path(name).write_text("mine")
        return ErrorReply(400, "No.") if "0" in request.text else answer(request)

    with LocalServer(reply) as server:
        status, _, err = here(*BULK, server=server)
        assert status == 7
        assert err.startswith(f"modelslab: {name}")
        assert Path(name).is_dir() or Path(name).read_text() == "mine"
        other = {"out.jsonl": "out.jsonl.failures"}.get(name, "out.jsonl")
        assert len(lines(other)) == 1
        Path(name).rmdir() if foreign == "a folder" else Path(name).unlink()
        server.script = answer
        assert here(*BULK, "--retry-failed", server=server).status == 0
        assert len(server.requests) == 3
    assert not [path for path in os.listdir() if path.startswith(".")]


@pytest.mark.slow
def test_against_a_real_server(llama_text: Any, here: Here, home: Path) -> None:
    table(5)
    env = environment(None, home)
    env |= {"MODELSLAB_BASE_URL": llama_text.url, "MODELSLAB_API_KEY": llama_text.api_key}
    ran = subprocess.run([*COMMAND, *BULK], env=env, stdin=subprocess.DEVNULL, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert all(line["text"].startswith("The capital of France") for line in lines())
    assert len(lines()) == 5
