"""A person at a terminal of a given size: types, presses Ctrl-C, and reads what is on the screen.

The terminal is a real pseudo-terminal, and `pyte` keeps its screen as an emulator does. Starts only
the program it is given, and ends only that.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyte

PATIENCE = 30.0  # seconds; what is waited for comes at once, but on a machine that is busy

# Python's own `pty.fork` may not be used where there are threads; so a small program makes the
# terminal its own, which is what lets Ctrl-C reach it, and then becomes the command.
AT_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-W", "error", "-m", "modelslab_llm", *sys.argv[1:]])
"""


class _Screen(pyte.HistoryScreen):
    """A screen that answers when a program asks where its cursor is."""

    def __init__(self, columns: int, lines: int, keyboard: int) -> None:
        super().__init__(columns, lines, history=10_000, ratio=0.5)
        self._keyboard = keyboard

    def write_process_input(self, data: str) -> None:
        os.write(self._keyboard, data.encode())


class Terminal:
    """A command at a terminal. Use it in a `with` block, which ends the command."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        columns: int = 80,
        lines: int = 24,
        stdin: Any = None,
        program: Sequence[str] = (sys.executable, "-c", AT_TERMINAL),
        cwd: Path | None = None,
    ) -> None:
        self._keyboard, screen = pty.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._program = subprocess.Popen(
            [*program, *arguments],
            env={"TERM": "xterm-256color", **env},
            stdin=screen if stdin is None else stdin,
            stdout=screen,
            stderr=screen,
            cwd=cwd,
            start_new_session=True,
        )
        os.close(screen)
        self._screen = _Screen(columns, lines, self._keyboard)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        """Every byte that was written to the terminal."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._program.kill()
        self._program.wait()
        os.close(self._keyboard)
        if exc is None:
            assert "Traceback" not in self.text, self.text

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def send(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self._program.send_signal(number)

    @property
    def text(self) -> str:
        """What the terminal shows, with what has scrolled off at the top."""
        above = [
            "".join(line[column].data for column in range(self._screen.columns)).rstrip()
            for line in self._screen.history.top
        ]
        return "\n".join([*above, *(line.rstrip() for line in self._screen.display)]).rstrip()

    def expect(self, pattern: str) -> None:
        """Wait until the screen shows the pattern."""
        self.wait(lambda: re.search(pattern, self.text) is not None, pattern)

    def wait(self, seen: Callable[[], bool], what: str) -> None:
        """Wait until the screen is as it should be."""
        give_up = time.monotonic() + PATIENCE
        while not seen():
            assert self._read(give_up - time.monotonic()), (what, self.text)

    def expect_end(self) -> int:
        """Wait until the command has ended, and return its status."""
        while self._read(PATIENCE):
            pass
        return self._program.wait(PATIENCE)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the window, as a person who drags its corner."""
        fcntl.ioctl(self._keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)
        os.killpg(self._program.pid, signal.SIGWINCH)

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._keyboard], [], [], max(0.0, seconds))
        try:
            data = os.read(self._keyboard, 65536) if ready else b""
        except OSError:  # Linux tells the end of the other side in this way
            data = b""
        self.raw += data
        self._stream.feed(data)
        return data
