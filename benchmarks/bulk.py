"""Measure bulk runs: what a row costs, and what is lost at a server that refuses.

python -m benchmarks.bulk cost [--rows N] [--rounds N]
python -m benchmarks.bulk compare [--rows N] [--litellm PYTHON]

`cost` runs many rows against a server that answers immediately, with `create` and `messages.bulk`.
`compare` asks a server with a queue of five in several ways; `--litellm` names the Python of an
environment that has litellm, which is skipped otherwise. Each way runs in a process of its own.
"""

# ruff: noqa: T201  (the tables are its output)

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from .many import IN_FLIGHT, Done, Work

HERE = Path(__file__).parent.parent
COSTS = {  # each beside what it is compared with
    "bulk, threads": "`create`, threads",
    "bulk, threads, store": "`create`, threads",
    "bulk, tasks": "`create`, tasks",
    "bulk, tasks, store": "`create`, tasks",
}
PLACES, SECONDS, HINT = 5, 0.2, 1
AT_ONCE = (8, 20, 100)
MIB = 1024 * 1024


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost", help="CPU and memory of a row")
    cost.add_argument("--rows", type=int, default=100_000, help="default 100,000")
    cost.add_argument("--rounds", type=int, default=3, help="default 3")
    compare = commands.add_parser("compare", help="what is lost at a server with a queue of five")
    compare.add_argument("--rows", type=int, default=200, help="default 200")
    compare.add_argument("--litellm", metavar="PYTHON", help="the Python of an environment with it")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> None:
    """Measure, and print a table."""
    options = arguments(given)
    if options.command == "cost":
        cost(options.rows, options.rounds)
    else:
        compare(options.rows, options.litellm)


def cost(number: int, rounds: int) -> None:
    """Measure all ways in turn, round after round; ratios are those within a round."""
    ways = list(dict.fromkeys(way for pair in COSTS.items() for way in reversed(pair)))
    measured: dict[str, list[Done]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            with serving("benchmarks.server") as (url, _counts):
                measured[way].append(run(Work(way, f"{url}/message", number)))
    print(f"{number:,} rows, {IN_FLIGHT} in flight, a server that answers immediately; CPU of the")
    print(f"client's process, median of {rounds} rounds\n")
    print("| way | CPU per row | ratio | memory after a tenth | at the end |")
    print("|---|---|---|---|---|")
    for way, done in measured.items():
        hand = measured.get(COSTS.get(way, ""), [])
        ratio = [mine.cpu / theirs.cpu for mine, theirs in zip(done, hand, strict=False)]
        print(
            f"| {way} | {median(d.cpu for d in done) / number * 1e6:.0f} µs "
            f"| {f'{median(ratio):.2f} ×' if ratio else ''} "
            f"| {median(d.early for d in done) / MIB:.0f} MiB "
            f"| {median(d.peak for d in done) / MIB:.0f} MiB |"
        )


def compare(number: int, litellm: str | None) -> None:
    """Ask a server with few places in several ways."""
    works = [("messages.bulk", IN_FLIGHT, sys.executable)]
    works += [("anthropic, semaphore", at_once, sys.executable) for at_once in AT_ONCE]
    works += [("litellm.batch_completion", 100, litellm or "")]
    ideal = number * SECONDS / PLACES
    print(f"{number} rows, a server with a queue of {PLACES}, {SECONDS:g} s an answer, hint of")
    print(f"{HINT} s; time from the first request to the last answer, ideal {ideal:g} s\n")
    print("| client | concurrent | rows lost | time / ideal | refusals per answer |")
    print("|---|---|---|---|---|")
    for way, at_once, python in works:
        shown = f"| {way} | {at_once} |"
        if not python:
            print(f"{shown} skipped: no --litellm | | |")
            continue
        with serving("benchmarks.crowded", PLACES, SECONDS, HINT) as (url, counts):
            done = run(Work(way, url, number, at_once), python)
        seen = counts()
        print(
            f"{shown} {done.failed} | {seen['seconds'] / ideal:.2f} "
            f"| {seen['refusals'] / max(1, seen['answers']):.2f} |",
            flush=True,
        )


@contextmanager
def serving(module: str, *words: object) -> Iterator[tuple[str, Any]]:
    """Start a server; give its address, and what returns its counts when it has ended."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        said: list[str] = []
        try:
            port = int(server.stdout.readline())
            yield f"http://127.0.0.1:{port}", lambda: json.loads(said[-1])
        finally:
            server.stdin.close()
            said += server.stdout.read().splitlines()


def run(work: Work, python: str = sys.executable) -> Done:
    """Do a piece of work in a process of its own."""
    unwanted = ("MODELSLAB_", "ANTHROPIC_", "HTTP_", "HTTPS_", "ALL_PROXY", "NO_PROXY")
    done = subprocess.run(
        [python, "-m", "benchmarks.many", json.dumps(asdict(work))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=HERE,
        env={k: v for k, v in os.environ.items() if not k.upper().startswith(unwanted)},
    )
    return Done(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main(sys.argv[1:])
