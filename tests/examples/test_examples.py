"""Run every example as a reader would: by itself, without a key, in a clean environment.

Some have a file of tests of their own: `test_terminal.py`, `test_web_app.py`, `test_notebook.py`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples._private_network import private_network
from modelslab_llm import PaymentRequiredError
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply, ReplyLike

FOLDER = Path(__file__).parents[2] / "examples"
ELSEWHERE = {"command_line", "terminal_chat", "web_app"}
"""They are interactive; separate files test how they run by themselves."""
CLUSTERS = {"cluster_daft", "cluster_dask", "cluster_ray"}
"""They run on an engine with its own environment: `tests/real/test_clusters.py`."""
EXAMPLES = [
    path
    for path in sorted(FOLDER.glob("[!_]*.py"))  # with `_`: no example, only what one needs
    if path.stem not in ELSEWHERE | CLUSTERS
]

SHOWN = {
    "batch": [
        "? OverloadedError: HTTP 529",  # of those that came first, which is chance
        "97 answered, 0 of them earlier; 3 failed; 679 tokens",
        "100 answered, 97 of them earlier; 0 failed; 21 tokens",
        "103 calls in all",
        'The first line: {"key": "How high is river 0?", "position": 0, "text": "You said: How',
    ],
    "cold_start": [
        "attempt 1 failed, retrying in 0.50 s: HTTP 503",
        "Good morning.",
        "It is paused: HTTP 503",
    ],
    "conversation": ["… is short after all."],
    "extraction": [
        "\nfile,river,day,level_cm\n"
        "ada.txt,Tamar,2026-03-01,214.0\n"
        "ada.txt,Tamar,2026-03-02,220.0\n"
        "cyd.txt,Exe,2026-03-02,90.0\n"
    ],
    "from_openai": ["Refused: n: Messages returns one answer"],
    "pictures": [
        "I was sent: image of image/png,",
        "I was sent: document of text/plain, 26 characters.",
        "characters; image of image/png,",
        "'letter.png': is not an image: servers accept JPEG, PNG, GIF and WebP",
        "'empty.png': is empty",
        "'huge.png': has 9000 x 64 pixels, the limit per side is 8000",
    ],
    "private_gateway": [
        "You said: Hello from inside!",
        "Everything that the proxy saw: ['CONNECT 127.0.0.1:",
        "Refused: the server's certificate is not trusted",
    ],
    "service": [
        "Paris.\nRome.",
        "{'model': 'm', 'outcome': 'complete', 'attempts': 2, 'tokens': 4}",
        "retries: 1",
    ],
    "quickstart": ["→ Your name is Ada."],
    "structured_output": [
        "Pancakes, easy",
        "['sweet', 'sour']",
        "{'title': 'Bread', 'difficulty': 'fair', 'ingredients': [{'name': 'flour'}]}",
        "→ Bread of 2 ingredients",
        "Soup, after 1 invalid answer",
        "OutputTruncatedError: the answer was truncated (max_tokens) after 20 tokens",
        """it began '{"title": "Goulash", "diffi', and cost 20 tokens""",
    ],
    "thinking": ["Yes: 391 divided by 23 is 17."],
    "tools": ["→ I was told: 214 cm; Error: KeyError: 'Styx'; {\"open\":50}."],
    "with_anthropic": ["You said: Hello, gateway!"],
}
"""What an example must print, so that it is seen to do its work and to come to its end."""


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs(example: Path, tmp_path: Path) -> None:
    """As a program, with warnings as errors: it prints what SHOWN says and leaves no file."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env=kept | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    told = [line for line in ran.stderr.splitlines() if line.startswith("attempt ")]
    assert not told or example.stem == "batch"  # whose server is overloaded at first
    assert (ran.returncode, ran.stderr.splitlines()) == (0, told)
    assert example.stem in SHOWN, f"say in SHOWN what {example.name} must print"
    for line in SHOWN[example.stem]:
        assert line in ran.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_anthropic_its_example_says_so(tmp_path: Path) -> None:
    example = next(path for path in EXAMPLES if path.stem == "with_anthropic")
    code = (
        "import importlib.util, runpy; importlib.util.find_spec = lambda name: None; "
        f"runpy.run_path({str(example)!r}, run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "pip install anthropic" in ran.stdout


# With a key, and another server named by the environment, as with the real service


Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in this process against a server, and return what it wrote."""

    def run(stem: str, server: LocalServer, *arguments: object) -> tuple[str, str]:
        monkeypatch.setenv("MODELSLAB_API_KEY", str(server.api_key))
        monkeypatch.setenv("MODELSLAB_BASE_URL", server.gateway().base_url)
        monkeypatch.setattr(sys, "argv", [f"{stem}.py", *map(str, arguments)])
        monkeypatch.syspath_prepend(FOLDER)
        runpy.run_path(str(FOLDER / f"{stem}.py"), run_name="__main__")
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "stem",
    ["conversation", "from_openai", "pictures", "quickstart", "thinking", "tools"],
)
def test_it_runs_with_a_key(stem: str, run: Run) -> None:
    with LocalServer() as server:
        out, err = run(stem, server)
        assert server.requests
        assert server.script_errors == []
    assert "MODELSLAB_API_KEY" not in out
    assert "You said: " in out
    assert err == ""


@pytest.mark.slow
def test_with_anthropic_asks_where_the_environment_says(run: Run) -> None:
    with LocalServer() as server:
        out, _ = run("with_anthropic", server)
    assert "You said: Hello, gateway!" in out


def test_a_batch_continues_where_it_ended(run: Run, tmp_path: Path) -> None:
    """What is answered is asked no more, what failed is, and the answers are in order."""
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    fails = True

    def by_question(request: ReceivedRequest) -> ReplyLike:
        return ErrorReply(400, "No.") if fails and request.text == "One?" else f"{request.text}!"

    with LocalServer(by_question) as server:
        questions.write_text("One?\nTwo?\n\nGone?\nTwo?\n")
        out, _ = run("batch", server, questions, answers)
        assert len(server.requests) == 3
        assert "2 answered, 0 of them earlier; 1 failed" in out
        assert "One? BadRequestError: HTTP 400" in out
        fails = False
        questions.write_text("One?\nTwo?\nThree?\n")
        out, _ = run("batch", server, questions, answers)
        assert len(server.requests) == 5
    assert "3 answered, 1 of them earlier; 0 failed" in out
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["One?", "Two?", "Three?"]
    assert [row["text"] for row in rows] == ["One?!", "Two?!", "Three?!"]


@pytest.mark.slow
def test_a_batch_ends_where_no_call_can_succeed(run: Run, tmp_path: Path) -> None:
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("".join(f"{number}?\n" for number in range(200)))
    script = [*["Yes."] * 20, *[ErrorReply(402, "No credit is left.")] * 200]
    with LocalServer(script) as server:
        with pytest.raises(PaymentRequiredError):
            run("batch", server, questions, answers)
        assert len(server.requests) <= 20 + 50
        server.script = "Yes."
        asked = len(server.requests)
        run("batch", server, questions, answers)
        assert len(server.requests) == asked + 180
    assert len(answers.read_text().splitlines()) == 200


def test_extraction_tells_which_files_it_could_not_read(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, latin, lies = (tmp_path / name for name in ("good.txt", "latin.txt", "lies.pdf"))
    good.write_text("The Tamar")
    latin.write_bytes(b"caf\xe9")
    lies.write_bytes(b"\x89PNG\r\n\x1a\n")
    reading = {"river": "Tamar", "day": "2026-03-01", "level_cm": 214}
    call = {"type": "tool_use", "id": "c", "name": "output", "input": {"value": [reading]}}
    with LocalServer(Reply([call])) as server:
        with pytest.raises(SystemExit) as ended:
            run("extraction", server, good, latin, lies, tmp_path / "missing.txt")
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == "file,river,day,level_cm\ngood.txt,Tamar,2026-03-01,214.0\n"
    assert [line.split(": ")[:2] for line in err.splitlines()] == [
        ["latin.txt", "UnicodeDecodeError"],
        ["lies.pdf", "InvalidRequestError"],
        ["missing.txt", "FileNotFoundError"],
    ]


def test_a_private_gateway_by_its_arguments(run: Run) -> None:
    with private_network() as network:
        given = ["--gateway", network.gateway, "--ca", network.ca_file, "--proxy", network.proxy]
        with LocalServer(api_key=network.api_key) as unused:
            out, _ = run("private_gateway", unused, *given)
            assert not unused.requests
        assert len(network.seen) == 1
    assert out == "You said: Hello from inside!\n"
