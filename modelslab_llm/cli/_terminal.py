"""Write to standard output and standard error: plain text, safe to show, without color.

Tables, Markdown and color go through `console`, which loads rich. Decides nothing
about the content.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|[\u202a-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    r"""Return text that is safe to write to a terminal.

    A terminal obeys control characters: they can set its title, write to the clipboard, or rewrite
    earlier text. The marks that turn the direction of text hide as well. Line feeds and tabs stay.

    >>> shown("a\x1b]0;title\x07b\r\n")
    'a]0;titleb\n'
    """
    return _CONTROLS.sub("", text)


def open_streams() -> None:
    """Make sure that all three standard streams exist and can write any character.

    A shell may close them (`>&-`); the next file or socket would then take their place. What is
    written to a closed standard output is lost, and fails as on a full disk; messages are not
    missed. What the encoding of a stream lacks is written as an escape, as Python does on standard
    error.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:  # it takes the lowest free number: this one
                os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
            # It stays open, and its number is not ours to close.
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test may have put another one there
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def write(text: str) -> None:
    """Write text to standard output at once; to a terminal only what may be shown."""
    sys.stdout.write(shown(text) if is_screen(sys.stdout) else text)
    sys.stdout.flush()


def write_json(value: object, indent: int | None = None) -> None:
    """Write a value as JSON, which is valid in whatever encoding standard output has."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    write(json.dumps(value, ensure_ascii=not is_utf8, indent=indent) + "\n")


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{shown(text)}\n")
    sys.stderr.flush()


def is_screen(stream: TextIO) -> bool:
    """Tell whether the stream is a terminal."""
    return stream.isatty()


def can_draw(stream: TextIO) -> bool:
    """Tell whether the terminal can move its cursor, which Markdown that grows needs."""
    return is_screen(stream) and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def console(*, stderr: bool = False) -> Console:
    """Return a console of rich for one of the two streams. It obeys NO_COLOR by itself."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def is_closed_pipe(error: OSError) -> bool:
    """Tell whether a write failed because the reader left, as in `... | head`.

    Windows: the C library answers EINVAL where other systems answer EPIPE.
    """
    if isinstance(error, BrokenPipeError):
        return True
    return os.name == "nt" and error.errno == errno.EINVAL and error.filename is None


def discard_output() -> None:
    """Send what is still buffered nowhere: else Python would complain of it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
