"""Show the progress of a run: with tqdm or rich if one is installed, otherwise in log lines.

A bar goes to standard error, and only at a terminal or in a notebook.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ._progress import BulkProgress

log = logging.getLogger("modelslab_llm.bulk")

EVERY = 0.2  # seconds between two updates of a bar
LOGGED = 10.0  # seconds between two log lines


class Display(Protocol):
    """Where a run shows its progress."""

    def show(self, progress: BulkProgress) -> None:
        """Show the progress."""
        ...

    def close(self, progress: BulkProgress) -> None:
        """Show the final progress and close the display."""
        ...


class Screen:
    """Show progress at intervals on what is available; `wanted` is the caller's option."""

    def __init__(
        self, wanted: bool | Callable[[BulkProgress], None], clock: Callable[[], float]
    ) -> None:
        self._wanted = wanted
        self._clock = clock
        self._next = 0.0
        self._display: Display | None = None
        self._every = EVERY

    def open(self, total: int | None) -> None:
        """Start the display."""
        if callable(self._wanted):
            self._display = _Told(self._wanted)
        elif self._wanted:
            self._display = display_for(total)
            if isinstance(self._display, LogLines):
                self._every = LOGGED
        self._next = self._clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time for an update."""
        return self._display is not None and self._clock() >= self._next

    def show(self, progress: BulkProgress) -> None:
        """Show the progress if an update is due."""
        if self._display is not None:
            self._next = self._clock() + self._every
            self._display.show(progress)

    def close(self, progress: BulkProgress) -> None:
        """Show the end."""
        display, self._display = self._display, None
        if display is not None:
            display.close(progress)


def display_for(total: int | None) -> Display:
    """Return the best available display."""
    if sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules):
        for bar in (TqdmBar, RichBar):
            try:
                return bar(total)
            except ImportError:
                continue
    return LogLines()


class LogLines:
    """Progress in the log `modelslab_llm.bulk`, at INFO."""

    def show(self, progress: BulkProgress) -> None:
        log.info("bulk run: %s", progress)

    def close(self, progress: BulkProgress) -> None:
        pass  # the run itself logs its end


class TqdmBar:
    """Progress as a tqdm bar."""

    def __init__(self, total: int | None) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total, unit="row", dynamic_ncols=True)

    def show(self, progress: BulkProgress) -> None:
        self._bar.set_postfix_str(details(progress), refresh=False)
        self._bar.n = progress.done + progress.failed
        self._bar.refresh()

    def close(self, progress: BulkProgress) -> None:
        self.show(progress)
        self._bar.close()


class RichBar:
    """Progress as a rich bar."""

    def __init__(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bars: Any = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[details]}"),
            console=Console(stderr=True),
        )
        self._task = self._bars.add_task("rows", total=total, details="")
        self._bars.start()

    def show(self, progress: BulkProgress) -> None:
        self._bars.update(
            self._task,
            completed=progress.done + progress.failed,
            details=details(progress),
        )

    def close(self, progress: BulkProgress) -> None:
        self.show(progress)
        self._bars.stop()


class _Told:
    """A function of the caller that receives the progress."""

    def __init__(self, tell: Callable[[BulkProgress], None]) -> None:
        self._tell = tell

    def show(self, progress: BulkProgress) -> None:
        self._tell(progress)

    def close(self, progress: BulkProgress) -> None:
        self._tell(progress)


def details(progress: BulkProgress) -> str:
    """Return what a bar does not show by itself."""
    facts = [f"{progress.failed:,} failed", f"{progress.in_flight} in flight"]
    facts.append(f"{progress.queued} queued")
    facts.append(f"{progress.input_tokens + progress.output_tokens:,} tokens")
    facts += [f"cost {progress.cost:.4g}"] if progress.cost is not None else []
    return ", ".join(facts)
