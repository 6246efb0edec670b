"""Run the benchmark: measure row by row, print the table, write the page and its plots.

python -m benchmarks [--rows NAME…] [--rounds N] [--quick] [--out PATH]
"""

# ruff: noqa: T201  (the table is its output)

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .report import aligned, details, drawing, machine, missing, page, plot_name, progress, table
from .rows import A_SECOND, COLUMNS, ROWS, Curve, Outcome, Row, curve_jobs
from .runner import Lab, NotMeasured, laboratory

PAGE = Path("docs/performance.md")
ROUNDS = 5
CURVES = {"flight": "async", "threads": "threads"}  # the work, and the row with one of its points


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--rows", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="one short round, to see it run")
    parser.add_argument(
        "--out", type=Path, help=f"the page; {PAGE} by default, if all is measured in full"
    )
    return parser.parse_args(given)


def measured(lab: Lab, row: Row, rounds: int, quick: bool) -> Outcome:
    """Measure a row: all its contenders in turn, round after round."""
    outcome = Outcome(row)
    rounds = 1 if quick else max(1, round(rounds * row.rounds))
    for number in range(rounds):
        progress(f"{row.name}: round {number + 1} of {rounds}")
        outcome.rounds.append({})
        for label, job in row.jobs.items():
            if quick:
                job = replace(job, times=max(1, job.at_once, job.times // 4))
            try:
                outcome.rounds[-1][label] = lab.run(job)
            except NotMeasured as error:
                outcome.reasons[label] = str(error)
                progress(f"  {label}: {error}")
    return outcome


def curves(lab: Lab, outcomes: Sequence[Outcome], quick: bool) -> dict[str, list[Curve]]:
    """Measure how calls per second grow with calls in flight."""
    drawn = {}
    for work, row_name in CURVES.items():
        known = {
            (label, job.at_once): value
            for outcome in outcomes
            if outcome.row.name == row_name
            for label, job in outcome.row.jobs.items()
            if (value := outcome.middle(label, A_SECOND.of)) is not None
        }
        lines = {name: Curve(name, []) for name in COLUMNS}
        for (name, at_once), job in curve_jobs(work, quick).items():
            progress(f"curves: {work}, {at_once} at once, {name}")
            try:
                value = known.get((name, at_once)) or A_SECOND.of(lab.run(job))
            except NotMeasured as error:
                progress(f"  {error}")
            else:
                lines[name].points.append((at_once, value))
        drawn[work] = list(lines.values())
    return drawn


def main(given: Sequence[str]) -> int:
    """Return 0 unless something could not be measured at all."""
    options = arguments(given)
    complete = not options.rows and not options.quick
    out: Path | None = options.out or (PAGE if complete else None)
    began = time.monotonic()
    facts = machine(os.getloadavg()[0])
    with laboratory() as lab:
        rows = [row for row in ROWS if not options.rows or row.name in options.rows]
        outcomes = [measured(lab, row, options.rounds, options.quick) for row in rows]
        drawn = curves(lab, outcomes, options.quick) if out and not options.rows else {}
    print("\n".join(facts))
    print(f"\n{aligned(table(outcomes))}\n\n{aligned(details(outcomes))}\n")
    print("\n".join(missing(outcomes)) or "Every target is reached.")
    print(f"\n{time.monotonic() - began:.0f} seconds")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "-m", "benchmarks", *given]) if given else "make bench"
        out.write_text(page(outcomes, drawn, facts, out.stem, command), encoding="utf-8")
        for work in drawn:
            plot = out.with_name(plot_name(out.stem, work))
            plot.write_text(drawing(work, drawn[work]), encoding="utf-8")
        print(f"written: {out}")
    return any(outcome.verdict(t) == "FAILED" for outcome in outcomes for t in outcome.row.targets)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
