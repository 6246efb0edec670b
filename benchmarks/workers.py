"""Measure how several processes share an account that takes five requests at a time.

python -m benchmarks.workers [--rows N] [--rounds N]

Each process builds a client of one spec and makes a bulk run over its part of the rows, against the
server of `benchmarks.crowded`. Either each client finds out by itself what the others leave, or the
five places are divided by `max_concurrency`, and the rows in the same way. It prints the table of
docs/clusters.md.
"""

# ruff: noqa: T201  (the table is its output)

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from statistics import median

from modelslab_llm import ClientSpec

from .bulk import serving
from .many import SHARED, rows

PLACES, SECONDS, HINT = 5, 0.2, 1
SHARES: tuple[tuple[str, tuple[int | None, ...]], ...] = (
    ("1, no limit set", (None,)),
    ("2, no limit set", (None,) * 2),
    ("4, no limit set", (None,) * 4),
    ("2, `max_concurrency` 3 and 2", (3, 2)),
    ("4, `max_concurrency` 2, 1, 1, 1", (2, 1, 1, 1)),
    ("4, `max_concurrency` 1", (1,) * 4),
)
KEY = "key-of-the-workers"

_together: Barrier


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--rows", type=int, default=200, help="in all; default 200")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> None:
    """Measure, and print a table."""
    options = arguments(given)
    ideal = options.rows * SECONDS / PLACES
    print(
        f"{options.rows} rows, a server with a queue of {PLACES}, {SECONDS:g} s an answer, hint of"
    )
    print(f"{HINT} s; ideal {ideal:g} s; median of {options.rounds} rounds, worst in parentheses\n")
    print("| workers | rows lost | time / ideal | refusals per answer | first / last worker done |")
    print("|---|---|---|---|---|")
    for name, shares in SHARES:
        runs = [once(shares, options.rows, ideal) for _ in range(options.rounds)]
        lost, times, refusals, evenness = zip(*runs, strict=True)
        print(
            f"| {name} | {max(lost):g} | {median(times):.2f} ({max(times):.2f}) "
            f"| {median(refusals):.2f} ({max(refusals):.2f}) "
            f"| {median(evenness):.2f} ({min(evenness):.2f}) |",
            flush=True,
        )


def once(shares: Sequence[int | None], number: int, ideal: float) -> tuple[float, ...]:
    """Return rows lost, time by ideal, refusals by answers, and how evenly the workers ended."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(len(shares))
    with serving("benchmarks.crowded", PLACES, SECONDS, HINT) as (url, counts):
        with ProcessPoolExecutor(len(shares), spawn, begin, (barrier,)) as workers:
            specs = [ClientSpec(base_url=url, max_concurrency=share) for share in shares]
            parts = [number * (share or 1) // sum(each or 1 for each in shares) for share in shares]
            done = list(workers.map(work, specs, parts))
    seen = counts()
    failed, took = zip(*done, strict=True)
    refusals = seen["refusals"] / max(1, seen["answers"])
    return sum(failed), seen["seconds"] / ideal, refusals, min(took) / max(took)


def begin(barrier: Barrier) -> None:
    """Note, in a worker, where all wait for each other."""
    global _together
    _together = barrier
    os.environ["MODELSLAB_API_KEY"] = KEY


def work(spec: ClientSpec, number: int) -> tuple[int, float]:
    """Ask a part of the rows; return how many failed, and the seconds it took."""
    _together.wait()
    started = time.monotonic()
    failed = asyncio.run(ask(spec, number))
    return failed, time.monotonic() - started


async def ask(spec: ClientSpec, number: int) -> int:
    """Return how many rows failed."""
    async with spec.async_client() as client:
        run = client.messages.bulk(rows(number), defaults=SHARED)
        return sum([result.error is not None async for result in run])


if __name__ == "__main__":
    main(sys.argv[1:])
