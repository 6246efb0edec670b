"""Count what happens to the rows of a run, and put it in words. Pure: the clock is passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from ._result import BulkResult

WINDOW = 60.0  # seconds over which a rate is measured
SAMPLE = 1.0  # seconds between two samples


class Counts(NamedTuple):
    """The number of rows in a store."""

    answered: int
    failed: int


@dataclass(frozen=True)
class BulkProgress:
    """The progress of a run at one moment."""

    total: int | None
    """The number of rows; `None` if `rows` has no length and no `total=` was given."""
    done: int
    """Rows with an answer, including stored ones and duplicates."""
    failed: int
    """Rows that failed, including stored failures."""
    stored: int
    """The number of these rows that were found in the store."""
    duplicates: int
    """The number of these rows that share the result of another row."""
    in_flight: int
    """Requests in flight."""
    queued: int
    """Rows that wait, in the run or in the client's queue."""
    input_tokens: int
    """Input tokens of this run, including cached ones."""
    output_tokens: int
    """Output tokens of this run."""
    cost: float | None
    """The cost of this run; `None` without prices."""
    elapsed: float
    """Seconds since the first row was taken."""
    rate: float
    """Rows per second over the last minute."""
    left: float | None
    """Estimated seconds left; `None` if unknown."""

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total is not None else ""
        facts = [f"{self.done:,}{of} done", f"{self.failed:,} failed"]
        facts += [f"{self.stored:,} from the store"] if self.stored else []
        facts += [f"{self.duplicates:,} duplicates"] if self.duplicates else []
        if self.in_flight or self.queued:
            facts += [f"{self.in_flight} in flight", f"{self.queued} queued"]
        facts += [f"{self.rate:.3g}/s"] if self.rate else []
        facts.append(f"{self.input_tokens + self.output_tokens:,} tokens")
        facts += [f"cost {self.cost:.4g}"] if self.cost is not None else []
        facts.append(f"{duration(self.elapsed)} elapsed")
        facts += [f"{duration(self.left)} left"] if self.left else []
        return ", ".join(facts)


class Tally:
    """Count, row by row."""

    def __init__(self, total: int | None, *, priced: bool) -> None:
        self.total: int | None = total
        self.taken: int = 0
        self.in_flight: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.stored: int = 0
        self.duplicates: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.cost: float | None = 0.0 if priced else None
        self.began: float | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def count(self, result: BulkResult[Any, Any]) -> None:
        """Count a row when it has its result."""
        if result.error is None:
            self.done += 1
        else:
            self.failed += 1
        if result.source == "stored":
            self.stored += 1
        elif result.source == "duplicate":
            self.duplicates += 1
        else:
            usage = result.usage
            self.input_tokens += usage.input_tokens
            self.input_tokens += usage.cache_read_input_tokens + usage.cache_creation_input_tokens
            self.output_tokens += usage.output_tokens
            if self.cost is not None and result.cost is not None:
                self.cost += result.cost

    def snapshot(self, now: float, queued: int, waiting: int = 0) -> BulkProgress:
        """Return the progress; `waiting` of the rows in flight wait in the client's queue."""
        began = now if self.began is None else self.began
        rate = self._rate(now, began)
        left = None
        if self.total is not None and rate > 0:
            left = max(0, self.total - self.done - self.failed) / rate
        return BulkProgress(
            total=self.total,
            done=self.done,
            failed=self.failed,
            stored=self.stored,
            duplicates=self.duplicates,
            in_flight=self.in_flight - waiting,
            queued=queued + waiting,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cost=self.cost,
            elapsed=now - began,
            rate=rate,
            left=left,
        )

    def _rate(self, now: float, began: float) -> float:
        finished = self.done + self.failed
        samples = self._samples
        if not samples:
            samples.append((began, 0))
        while len(samples) > 1 and samples[1][0] <= now - WINDOW:
            samples.popleft()
        since, before = samples[0]
        if now - samples[-1][0] >= SAMPLE:
            samples.append((now, finished))
        return (finished - before) / (now - since) if now > since else 0.0


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(59.6), duration(3725), duration(200_000)
    ('1:00', '1:02:05', '2 d 7:33:20')
    """
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    clock = f"{rest // 60}:{rest % 60:02}"
    if hours or days:
        clock = f"{hours}:{rest // 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock
