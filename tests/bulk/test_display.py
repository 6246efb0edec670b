"""How progress is shown: by tqdm or rich at a terminal, and by lines of a log elsewhere."""

from __future__ import annotations

import io
import logging
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

import pytest

from modelslab_llm.bulk import _display
from modelslab_llm.bulk._display import LogLines, RichBar, Screen, TqdmBar, display_for
from modelslab_llm.bulk._progress import Tally
from modelslab_llm.testing import LocalServer


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def standard_error(shown: io.StringIO) -> Iterator[None]:
    """Lead the standard error elsewhere. pytest has its own when fixtures have run."""
    ipykernel = sys.modules.pop("ipykernel", None)
    try:
        with redirect_stderr(shown):
            yield
    finally:
        if ipykernel is not None:
            sys.modules["ipykernel"] = ipykernel


def tally(total: int | None) -> Tally:
    made = Tally(total, priced=True)
    made.began, made.done, made.failed, made.in_flight = 0.0, 7, 2, 3
    made.input_tokens, made.output_tokens, made.cost = 1000, 234, 0.5
    return made


SAID = "2 failed, 3 in flight, 4 queued, 1,234 tokens, cost 0.5"


@pytest.mark.parametrize("total", [20, None])
@pytest.mark.parametrize("bar", [TqdmBar, RichBar])
def test_a_bar(bar: Any, total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    terminal = Terminal()
    with standard_error(terminal):
        shown = bar(total)
        shown.show(tally(total).snapshot(1.0, 4))
        shown.close(tally(total).snapshot(2.0, 4))
    text = " ".join(terminal.getvalue().split())
    assert SAID in text
    assert ("9/20" if total else "9") in text


def test_which_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with standard_error(Terminal()):
        for kind, names in (
            (TqdmBar, ["tqdm"]),
            (RichBar, ["rich", "rich.console", "rich.progress"]),
            (LogLines, []),
        ):
            shown = display_for(1)
            assert isinstance(shown, kind)
            shown.close(tally(1).snapshot(1.0, 0))
            for name in names:
                monkeypatch.setitem(sys.modules, name, None)


def test_nobody_looks_at_a_file() -> None:
    with standard_error(io.StringIO()):
        assert isinstance(display_for(1), LogLines)


def test_a_line_of_the_log_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_display, "display_for", lambda total: LogLines())
    now = 0.0
    screen = Screen(True, lambda: now)
    caplog.set_level(logging.INFO)
    screen.open(20)
    for second in range(26):
        now = float(second)
        if screen.is_due:
            screen.show(tally(20).snapshot(now, 4))
    screen.close(tally(20).snapshot(now, 0))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3  # at once, after ten seconds and after twenty
    assert lines[1] == (
        "bulk run: 7 of 20 done, 2 failed, 3 in flight, 4 queued, 0.9/s, 1,234 tokens, "
        "cost 0.5, 0:10 elapsed, 0:12 left"
    )


def test_nothing_is_shown_unless_it_is_wanted(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with LocalServer() as server, server.client() as client:
        rows = [{"messages": [{"role": "user", "content": "x"}]}] * 3
        client.messages.bulk(rows, defaults={"model": "m", "max_tokens": 5}).finish()
    assert capsys.readouterr() == ("", "")


PROGRAM = """
import sys
from modelslab_llm import ModelsLab
rows = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(30)]
with ModelsLab(base_url=sys.argv[1], api_key="local-test-key") as client:
    run = client.messages.bulk(rows, defaults={"model": "m", "max_tokens": 5}, progress=True)
    for result in run:
        pass
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo terminals here")
def test_a_real_terminal_shows_a_bar() -> None:
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 150, 0, 0))
    with LocalServer() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, server.gateway().base_url],
            stderr=theirs,
            stdout=subprocess.PIPE,
            check=True,
        )
    os.close(theirs)
    shown = ""
    with suppress(OSError):  # which is how a terminal says that nobody has it open any more
        while part := os.read(ours, 10_000).decode("utf-8", "replace"):
            shown += part
    os.close(ours)
    assert "30/30" in shown
    assert "0 failed" in shown
    assert done.stdout == b""
