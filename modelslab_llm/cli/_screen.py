"""Show an answer while it comes in: plain text, or Markdown drawn as it grows.

Knows nothing of requests: it is given pieces of text.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from typing_extensions import Self

from ._terminal import can_draw, console, shown, write

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live
    from rich.segment import Segment


INTERVAL = 0.08
"""Seconds between two drawings of what grows."""


class Screen(Protocol):
    """Where an answer is shown. Use it in a `with` block, which leaves the terminal as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def think(self, text: str) -> None:
        """Show a piece of thinking."""

    def say(self, text: str) -> None:
        """Show a piece of the answer."""


def screen(*, plain: bool) -> Screen:
    """Return what suits standard output: plain text unless it is a terminal that can draw."""
    return Plain() if plain or not can_draw(sys.stdout) else Drawn(console())


class Plain:
    """Write the answer unchanged, without thinking."""

    def __init__(self) -> None:
        self._last = "\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._last.endswith("\n") and not isinstance(exc, OSError):
            write("\n")

    def think(self, text: str) -> None:
        """Leave thinking out: readers of standard output want the answer."""

    def say(self, text: str) -> None:
        """Write a piece of the answer."""
        write(text)
        self._last = text or self._last


class Drawn:
    """Draw the answer as Markdown while it grows.

    A block that is complete (a paragraph, a list, a table) is printed and stays. Only the last one,
    which may still change, is drawn anew, some times a second, and of it only as much as fits on
    the screen: what has scrolled away cannot be changed. All of it happens in the event loop; the
    thread that rich would draw in gets in the way of what is printed.
    """

    def __init__(self, console: Console) -> None:
        from markdown_it import MarkdownIt

        self._console = console
        self._parser = MarkdownIt().enable("table").enable("strikethrough")
        self._live: Live | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._open = ""
        self._thinking = False
        self._begun = False

    def __enter__(self) -> Self:
        from rich.live import Live
        from rich.spinner import Spinner

        # The spinner of this name is plain ASCII, which every terminal can show.
        spinner = Spinner("line")
        self._live = Live(spinner, console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._draw_soon()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._keep(self._open)
        self._open = ""

    def _draw_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._draw)

    def _draw(self) -> None:
        self._timer = None
        if self._live is not None:
            self._live.refresh()
        if not self._begun and not self._open:
            self._draw_soon()  # it turns

    def think(self, text: str) -> None:
        """Draw a piece of thinking, faint."""
        self._turn(thinking=True)
        self._grow(text)

    def say(self, text: str) -> None:
        """Draw a piece of the answer."""
        self._turn(thinking=False)
        self._grow(text)

    def _turn(self, *, thinking: bool) -> None:
        if thinking != self._thinking:
            self._keep(self._open)
            self._open = ""
            self._thinking = thinking

    def _grow(self, text: str) -> None:
        text = shown(text)
        done, self._open = "", self._open + text
        if "\n" in text:
            done, self._open = self._divided(self._open)
        if self._live is not None:
            tail = _Drawing(self._open, thinking=self._thinking, tail=True)
            # Before anything is kept: else it would be seen twice until the next drawing.
            self._live.update(tail, refresh=bool(done))
        self._keep(done)
        self._draw_soon()

    def _divided(self, text: str) -> tuple[str, str]:
        """Return what cannot change any more, and the last block, which can."""
        if self._thinking:
            done, _, rest = text.rpartition("\n")
            return done, rest
        tokens = self._parser.parse(text)
        starts = [token.map[0] for token in tokens if token.map and not token.level]
        if len(starts) < 2:
            return "", text
        lines = text.split("\n")
        return "\n".join(lines[: starts[-1]]), "\n".join(lines[starts[-1] :])

    def _keep(self, text: str) -> None:
        """Print what stays, above what is still drawn."""
        if not text.strip():
            return
        if self._begun and not self._thinking:
            self._console.print()
        self._console.print(_Drawing(text, thinking=self._thinking), end="")
        self._begun = True


class _Drawing:
    """Text as it is drawn: Markdown, or thinking, which is faint and no Markdown.

    Around a list or a table rich leaves empty lines, and fills lines with spaces, which whoever
    copies the text would get; both are taken away.
    """

    def __init__(self, text: str, *, thinking: bool, tail: bool = False) -> None:
        self._text = text
        self._thinking = thinking
        self._tail = tail

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment
        from rich.text import Text

        if self._thinking:
            content: RenderableType = Text(self._text.rstrip("\n"), style="dim italic")
        else:
            # Without hidden links: the address is beside the text. The theme has the
            # terminal's own colors, which suit a light one too.
            content = Markdown(self._text, hyperlinks=False, code_theme="ansi_dark")
        lines = console.render_lines(content, options.update(height=None), pad=False)
        lines = _without_empty_ends([_without_spaces(line) for line in lines])
        for line in lines[-max(1, console.height - 1) :] if self._tail else lines:
            yield from line
            yield Segment.line()


def _without_spaces(line: list[Segment]) -> list[Segment]:
    kept = list(line)
    while kept and not kept[-1].text.strip() and not (kept[-1].style and kept[-1].style.bgcolor):
        kept.pop()
    if kept and not (kept[-1].style and kept[-1].style.bgcolor):
        kept[-1] = kept[-1]._replace(text=kept[-1].text.rstrip())
    return kept


def _without_empty_ends(lines: list[list[Segment]]) -> list[list[Segment]]:
    full = [at for at, line in enumerate(lines) if line]
    return lines[full[0] : full[-1] + 1] if full else []
