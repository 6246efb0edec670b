"""Say what is compared and how fast it must be, and work out the numbers. Runs and prints nothing.

Every row of the table is a `Row`: jobs, which are measured in turn, round after round, and targets,
each the ratio of some of their values. What counts is the median of the ratios of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from .measure import Job, Measured
from .runner import COLD
from .server import DELAYED, PACED, TOOL_SIZES

Values = Mapping[str, float]  # by label: the column, and what tells two of one column apart

COLUMNS = ("ours", "httpx", "anthropic")
AT_ONCE = (1, 10, 50, 100, 200, 500)
AT_ONCE_THREADS = (1, 10, 50, 100)


@dataclass(frozen=True)
class Metric:
    """How a measurement becomes one number."""

    of: Callable[[Measured], float]
    unit: str
    digits: int = 1

    def shown(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


CPU_MICROSECONDS = Metric(lambda m: m.cpu / m.count * 1e6, "µs CPU")
CPU_MILLISECONDS = Metric(lambda m: m.cpu / m.count * 1e3, "ms CPU")
MICROSECONDS = Metric(lambda m: m.wall / m.count * 1e6, "µs", 0)
MILLISECONDS = Metric(lambda m: m.wall / m.count * 1e3, "ms", 0)
MEGABYTES = Metric(lambda m: m.peak / 1e6, "MB")
A_SECOND = Metric(lambda m: m.count / m.wall, "calls/s", 0)


@dataclass(frozen=True)
class Target:
    """A ratio and where it has to be."""

    text: str
    ratio: Callable[[Values], float]
    limit: float
    at_least: bool = False
    unit: str = " ×"

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def shown(self, ratio: float) -> str:
        if self.unit == " ×" and ratio < 0.5:
            return f"1/{1 / ratio:.1f}"
        return f"{ratio:,.2f}{self.unit}" if ratio < 100 else f"{ratio:,.0f}{self.unit}"


def at_most(limit: float, other: str, text: str) -> Target:
    """Ask that ours be at most so many times another's."""
    return Target(text, lambda v: v["ours"] / v[other], limit)


def at_least(limit: float, other: str, text: str) -> Target:
    """Ask that ours be at least so many times another's."""
    return Target(text, lambda v: v["ours"] / v[other], limit, at_least=True)


def _unevenness(values: Values) -> float:
    ours = [value for label, value in values.items() if label.startswith("ours")]
    return max(ours) / min(ours)


def _history_over_dumps(values: Values) -> float:
    plain, accented = "plain text", "with accents"
    return max(values[f"ours {kind}"] / values[f"json.dumps {kind}"] for kind in (plain, accented))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    measured_as: str
    metric: Metric
    jobs: Mapping[str, Job]
    targets: tuple[Target, ...]
    rounds: float = 1.0
    """How many of the rounds asked for it gets: more where it is noisy, less where it is slow."""
    why: str = ""
    """Why it misses its target, if it does: one or two sentences for the page."""


def _three(work: str, answer: str, times: int) -> dict[str, Job]:
    return {name: Job(work, name, answer, times) for name in COLUMNS}


def _crowd(work: str, name: str, times: int, at_once: int, answer: str = DELAYED) -> Job:
    variant = "+roomy" if (work, name) == ("threads", "httpx") else ""
    return Job(work, name + variant, answer, times, at_once)


def _tools() -> dict[str, Job]:
    """Return jobs with the same number of deltas for each size, as far as anthropic can do that."""
    jobs = {}
    for answer, kib in zip(TOOL_SIZES, ("32 KiB", "64 KiB", "1 MiB"), strict=True):
        times = max(1, TOOL_SIZES["tool-1m"] // TOOL_SIZES[answer] // 4)
        jobs[f"ours {kib}"] = Job("tool", "ours", answer, times)
        if answer != "tool-1m":  # whose megabyte takes it minutes
            jobs[f"anthropic {kib}"] = Job("tool", "anthropic", answer, 2)
    return jobs


def _histories() -> dict[str, Job]:
    return {
        f"{name} {kind}": Job("history", name + variant, "message", 8)
        for kind, variant in (("plain text", ""), ("with accents", "+accented"))
        for name in ("ours", "json.dumps", "httpx")
    }


ROWS = (
    Row(
        "text",
        "streamed text, default pool",
        "CPU per text delta through `text_stream`, 4,000 deltas, each in its own chunk",
        CPU_MICROSECONDS,
        _three("texts", "text", 4),
        (
            at_most(1.45, "httpx", "≤ 1.45 × httpx `iter_raw`"),
            at_most(1 / 6, "anthropic", "≤ 1/6 of anthropic"),
        ),
    ),
    Row(
        "text-16k",
        "the same, large chunks",
        "16 KiB chunks",
        CPU_MICROSECONDS,
        _three("texts", "text-16k", 4),
        (at_most(1 / 4, "anthropic", "≤ 1/4 of anthropic"),),
    ),
    Row(
        "create",
        "one small `create`",
        "CPU per call, keep-alive",
        CPU_MICROSECONDS,
        _three("create", "message", 24),
        (
            at_most(1.0, "httpx", "≤ 1.0 × `httpx` `post().json()`"),
            at_most(1 / 2.2, "anthropic", "≤ 1/2.2 of anthropic"),
        ),
        rounds=1.6,
    ),
    Row(
        "cold",
        "cold start",
        "process start to last token of a one-line stream; httpx with httpx-sse and pydantic",
        MILLISECONDS,
        _three(COLD, "line", 1),
        (
            at_most(1.2, "httpx", "≤ 1.2 × plain httpx"),
            at_most(1 / 6, "anthropic", "≤ 1/6 of anthropic"),
        ),
        rounds=2,
        why=(
            "The program by hand defines no pydantic model. What pydantic loads for a program's "
            "first model takes 28 ms, the schemas of the events take 17 ms, and the response "
            "classes take 14 ms. Runs on this shared machine ranged from 1.16 to 1.38 ×."
        ),
    ),
    Row(
        "memory",
        "memory",
        "peak resident size of that process",
        MEGABYTES,
        _three(COLD, "line", 1),
        (
            at_most(1.5, "httpx", "≤ 1.5 × plain httpx"),
            at_most(1 / 2, "anthropic", "≤ 1/2 of anthropic"),
        ),
        rounds=0.6,
    ),
    Row(
        "async",
        "500 async calls in flight, 50 ms each, default pool",
        "calls per second; httpx may open 1,000 connections, stock only 100",
        A_SECOND,
        {
            "ours": _crowd("flight", "ours", 2000, 500),
            "httpx": _crowd("flight", "httpx", 1000, 500),  # which takes it ten seconds
            "httpx stock": _crowd("flight", "httpx+stock", 1000, 500),
            "anthropic": _crowd("flight", "anthropic", 2000, 500),
        },
        (
            at_least(10, "httpx", "≥ 10 × `httpx.AsyncClient`"),
            at_least(3.5, "anthropic", "≥ 3.5 × anthropic"),
        ),
        rounds=0.6,
        why=("Runs on this shared machine ranged from 9 to 13 ×."),
    ),
    Row(
        "async-aiohttp",
        "500 async calls in flight with `DefaultAioHttpClient`",
        "calls per second",
        A_SECOND,
        {
            "ours": _crowd("flight", "ours+aiohttp", 2000, 500),
            "anthropic": _crowd("flight", "anthropic+aiohttp", 2000, 500),
        },
        (at_least(2, "anthropic", "≥ 2 × anthropic with aiohttp"),),
        rounds=0.6,
        why=(
            "Three tenths of the instructions of a call are aiohttp's, which both clients pay; the "
            "rest check the request and read the response (callgrind)."
        ),
    ),
    Row(
        "text-aiohttp",
        "async streams, aiohttp",
        "CPU per text delta",
        CPU_MICROSECONDS,
        {
            "ours": Job("texts_async", "ours+aiohttp", "text", 4),
            "anthropic": Job("texts_async", "anthropic+aiohttp", "text", 4),
        },
        (at_most(1 / 8, "anthropic", "≤ 1/8 of anthropic with aiohttp"),),
        why=(
            "Three tenths of the instructions of a delta are aiohttp's and three tenths pydantic's "
            "parsing of the JSON; the rest are this package's (callgrind). Runs on this shared "
            "machine ranged from 1/7.7 to 1/9.6."
        ),
    ),
    Row(
        "streams",
        "200 async streams open at once, a delta every 20 ms, default pool",
        "CPU per delta; aiohttp reads the same chunks and parses nothing",
        CPU_MICROSECONDS,
        {name: _crowd("streams", name, 1, 200, PACED) for name in ("ours", "aiohttp", "anthropic")},
        (
            at_most(1.7, "aiohttp", "≤ 1.7 × plain aiohttp"),
            at_most(0.45, "anthropic", "≤ 0.45 × anthropic"),
        ),
        rounds=0.6,
    ),
    Row(
        "streams-aiohttp",
        "200 async streams open at once with `DefaultAioHttpClient`",
        "CPU per delta; aiohttp reads the same chunks and parses nothing",
        CPU_MICROSECONDS,
        {
            label: _crowd("streams", name, 1, 200, PACED)
            for label, name in {
                "ours": "ours+aiohttp",
                "aiohttp": "aiohttp",
                "anthropic": "anthropic+aiohttp",
            }.items()
        },
        (at_most(1.1, "aiohttp", "≤ 1.1 × plain aiohttp"),),
        rounds=0.6,
        why=(
            "In addition to aiohttp's reading, pydantic parses each event, and the request of each "
            "stream is spread over its hundred deltas."
        ),
    ),
    Row(
        "tool",
        "tool input in 8-character deltas",
        "CPU per delta at 32 KiB, 64 KiB, 1 MiB (one block, many keys)",
        CPU_MICROSECONDS,
        _tools(),
        (Target("equal at all sizes within 1.3 ×", _unevenness, 1.3),),
        rounds=0.6,
        why=(
            "The speed of this shared machine changes by half from second to second, and the sizes "
            "are measured one after the other: in three runs of one day, a different size was "
            "slowest each time, and the same size took 5 µs in one run and 8 µs in another."
        ),
    ),
    Row(
        "history",
        "10 MB of history sent with `create`",
        "CPU of the call, relative to `json.dumps` of the same history; the worse of two texts",
        CPU_MILLISECONDS,
        _histories(),
        (Target("≤ 1.3 × `json.dumps`", _history_over_dumps, 1.3),),
    ),
    Row(
        "threads",
        "2,000 sync calls over 50 threads, 50 ms each",
        "calls per second",
        A_SECOND,
        {name: _crowd("threads", name, 2000, 50) for name in COLUMNS},
        (at_least(2, "anthropic", "≥ 2 × anthropic"),),
        rounds=0.6,
        why=(
            "Fifty threads with calls of 50 ms cannot make more than 1,000 calls per second "
            "with any client; the ratio depends on how close anthropic comes to that on this "
            "machine."
        ),
    ),
    Row(
        "construct",
        "client construction after the first",
        "microseconds",
        MICROSECONDS,
        _three("construct", "", 30),
        (Target("≤ 1,000 µs", lambda v: v["ours"], 1000, unit=" µs"),),
    ),
)


@dataclass
class Outcome:
    """What came of a row: its measurements, round by round, and what could not be measured."""

    row: Row
    rounds: list[dict[str, Measured]] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)

    def middle(self, label: str, of: Callable[[Measured], float]) -> float | None:
        """Return the median of anything about a label."""
        values = [of(measured[label]) for measured in self.rounds if label in measured]
        return median(values) if values else None

    def ratio(self, target: Target) -> float | None:
        """Return the median of the rounds' ratios."""
        ratios: list[float] = []
        for measured in self.rounds:
            try:
                values = {label: self.row.metric.of(m) for label, m in measured.items()}
                ratios.append(target.ratio(values))
            except (KeyError, ValueError):  # something was not measured
                continue
        return median(ratios) if ratios else None

    def verdict(self, target: Target) -> str:
        """Say whether a target is reached."""
        ratio = self.ratio(target)
        if ratio is None:
            skipped = all(reason.startswith("skipped") for reason in self.reasons.values())
            return "skipped" if skipped and self.reasons else "FAILED"
        return "ok" if target.met(ratio) else "MISSES"

    @property
    def misses(self) -> bool:
        return any(self.verdict(target) == "MISSES" for target in self.row.targets)


@dataclass(frozen=True)
class Curve:
    """Calls per second of one contender over how many are in flight."""

    name: str
    points: list[tuple[int, float]]


def curve_jobs(work: str, quick: bool) -> dict[tuple[str, int], Job]:
    """Return the jobs of one plot, in turn: all contenders at one concurrency, then the next."""
    steps: tuple[int, ...] = AT_ONCE if work == "flight" else AT_ONCE_THREADS
    if quick:
        steps = steps[::2]
    return {
        (name, at_once): _crowd(work, name, at_once * 4 + 26, at_once)
        for at_once in steps
        for name in COLUMNS
    }
