"""Show what came out: as a table in the terminal, as a page of Markdown, as a plot.

Decides nothing and measures nothing; it only reads what machine it is on.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap

from .plot import Panel, svg
from .rows import COLUMNS, Curve, Metric, Outcome
from .server import SLOWLY

PACKAGES = (
    "modelslab-llm",
    "httpx",
    "httpcore",
    "h11",
    "httpx-sse",
    "pydantic",
    "aiohttp",
    "httpx-aiohttp",
    "anthropic",
    "httpx2",
)
HEADS = ("row", "measured as", *COLUMNS, "ratio", "target", "verdict")
CELL = 28  # characters of a cell in the terminal, before it is wrapped
PARTS = ("row", "contender", "unit", "CPU", "wall", "peak MB", "rounds")


def table(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    """Return the lines of the table: one for each target of each row."""
    lines: list[tuple[str, ...]] = [HEADS]
    for outcome in outcomes:
        row = outcome.row
        begin = (row.title, row.measured_as, *(_cell(outcome, name) for name in COLUMNS))
        for target in row.targets:
            ratio = outcome.ratio(target)
            shown = "" if ratio is None else target.shown(ratio)
            lines.append((*begin, shown, target.text, outcome.verdict(target)))
            begin = ("",) * len(begin)
    return lines


def _column(label: str) -> str:
    first = label.split()[0]
    return first if first in COLUMNS else "httpx"


def _cell(outcome: Outcome, column: str) -> str:
    metric = outcome.row.metric
    parts = []
    for label in outcome.row.jobs:
        if _column(label) == column and (value := outcome.middle(label, metric.of)) is not None:
            name = label.removeprefix(column).strip()
            parts.append(f"{metric.shown(value)} ({name})" if name else metric.shown(value))
    return f"{', '.join(parts)} {metric.unit}" if parts else "–"


def details(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    """Return CPU beside wall time, and memory, of every measurement."""
    lines: list[tuple[str, ...]] = [PARTS]
    for outcome in outcomes:
        for label in outcome.row.jobs:
            cpu = outcome.middle(label, lambda m: m.cpu / m.count)
            wall = outcome.middle(label, lambda m: m.wall / m.count)
            peak = outcome.middle(label, lambda m: m.peak / 1e6)
            if cpu is None or wall is None or peak is None:
                lines.append((outcome.row.name, label, outcome.reasons.get(label, ""), *[""] * 4))
                continue
            scale, unit = (1e6, "µs") if wall < 1e-3 else (1e3, "ms")
            number = Metric(lambda m: 0, unit)
            rounds = sum(label in measured for measured in outcome.rounds)
            shown = (number.shown(cpu * scale), number.shown(wall * scale), f"{peak:.1f}")
            lines.append((outcome.row.name, label, unit, *shown, str(rounds)))
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal, its cells wrapped."""
    wrapped = [
        [wrap(cell, CELL, break_on_hyphens=False) or [""] for cell in line] for line in lines
    ]
    widths = [
        max(len(part) for line in wrapped for part in line[at]) for at in range(len(lines[0]))
    ]
    rows = [
        "  ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()
        for line in wrapped
        for parts in zip_longest(*line, fillvalue="")
    ]
    return "\n".join([rows[0], "-" * max(map(len, rows)), *rows[1:]])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table for the page."""
    head, *rest = lines
    rows = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def machine(load: float) -> list[str]:
    """Return what the numbers depend on, one fact a line; `load` is how busy the machine was."""
    versions = []
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return [
        f"{date.today():%d %B %Y}",
        f"{_processor()}, {os.cpu_count()} cores; load before: {load:.1f}",
        f"{platform.system()} {re.sub(r'[^0-9.].*', '', platform.release())}, "
        f"{platform.python_implementation()} {platform.python_version()}",
        ", ".join(versions),
    ]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def missing(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the rows that miss targets, by how much and why, one a line."""
    lines = []
    for outcome in outcomes:
        missed = []
        for target in outcome.row.targets:
            verdict, ratio = outcome.verdict(target), outcome.ratio(target)
            if verdict == "MISSES" and ratio is not None:
                missed.append(f"{target.shown(ratio)}, target {target.text}")
            elif verdict != "ok":
                reasons = "; ".join(sorted(set(outcome.reasons.values())))
                lines.append(f"**{outcome.row.title}**, {target.text}: {reasons}")
        if missed:
            why = outcome.row.why or "Explain why in `benchmarks/rows.py`."
            lines.append(f"**{outcome.row.title}**: {'; '.join(missed)}. {why}")
    return lines


def count_met(outcomes: Sequence[Outcome]) -> str:
    """Return how many of the targets are met, as a sentence."""
    verdicts = [outcome.verdict(target) for outcome in outcomes for target in outcome.row.targets]
    met = verdicts.count("ok")
    return f"{met} of {len(verdicts)} targets are met" + (
        "." if met == len(verdicts) else "; these are not:"
    )


def page(
    outcomes: Sequence[Outcome],
    curves: dict[str, list[Curve]],
    facts: Sequence[str],
    stem: str,
    command: str,
) -> str:
    """Return the page of Markdown; the names of its plots begin with `stem`."""
    misses = missing(outcomes)
    drawn = f"""
## Throughput

{_images(curves, stem)}

The server takes {SLOWLY * 1000:.0f} ms for each call. `httpx` may open 1,000 connections, so that
all calls can be in flight; `possible` is the maximum at {SLOWLY * 1000:.0f} ms per call.

{markdown(_points(curves))}
"""
    results = table(outcomes)
    return f"""# Performance

This page covers the speed and memory of this package, plain httpx and the `anthropic` SDK, measured
in turn in one run. Each measurement runs in its own process, against one server that sends canned
bytes over loopback. A number is the median of its rounds; a ratio is the median of the ratios of
the rounds. Ratios are comparable between machines, but absolute numbers are not. To reproduce the
measurements:

```sh
{command}
```

{_bullets(facts)}

## Missed targets

{count_met(outcomes)}

{_bullets(misses)}

## Benchmark results

{markdown([(title, *numbers) for title, _, *numbers in results])}

| row | what is measured |
| --- | --- |
{_definitions(results)}
{drawn if curves else ""}
## CPU time and wall time

All values are per delta, call or process. CPU is the user and system time of the client's process,
and the peak is its maximum resident size. Except for cold start and memory, measurements follow a
warm-up, so they do not contain imports or schema building.

{markdown(details(outcomes))}
"""


def _definitions(results: Iterable[Sequence[str]]) -> str:
    return "\n".join(
        f"| {title} | {how} |" for title, how, *_ in results if how not in ("", HEADS[1])
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


WHAT = {"flight": "async calls in flight", "threads": "threads, sync calls"}


def _points(curves: dict[str, list[Curve]]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [("calls per second", "concurrent", *COLUMNS)]
    for work, drawn in curves.items():
        by_name = {curve.name: dict(curve.points) for curve in drawn}
        for at_once in sorted({x for curve in by_name.values() for x in curve}):
            numbers = (by_name[name].get(at_once) for name in COLUMNS)
            shown = ("–" if number is None else f"{number:,.0f}" for number in numbers)
            lines.append((WHAT[work], f"{at_once}", *shown))
    return lines


def plot_name(stem: str, work: str) -> str:
    """Return the name of the file of a plot."""
    return f"{stem}-{work}.svg"


def _images(curves: Iterable[str], stem: str) -> str:
    return "\n".join(
        f"![Calls per second over {WHAT[work]}]({plot_name(stem, work)})" for work in curves
    )


def drawing(work: str, drawn: Sequence[Curve]) -> str:
    """Return a plot."""
    steps = sorted({x for curve in drawn for x, _ in curve.points})
    panel = Panel(
        title=f"{SLOWLY * 1000:.0f} ms calls: {WHAT[work]}",
        across=WHAT[work],
        upwards="calls per second",
        curves={curve.name: curve.points for curve in drawn},
        ideal=[(step, step / SLOWLY) for step in steps],
    )
    return svg(panel)


def progress(text: str) -> None:
    """Say on the terminal what is going on, apart from the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
