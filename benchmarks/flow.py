"""Print how a client's flow control does against servers that refuse, on virtual time.

python -m benchmarks.flow [--runs N] [--random N] [--markdown] [--sockets]

Each row is the median of nine runs at random phase, against a sender that knows the limit at every
moment. The column "alone" is the same load where every call is careful by itself: it obeys the hint
and retries twice. `--random N` adds N random servers, for the worst cases. `--sockets` runs some of
the rows over real sockets too, on the clock, with this package's clients.
"""

# ruff: noqa: T201  (the table is its output)

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from statistics import median

from modelslab_llm import AsyncModelsLab, ModelsLab, ModelsLabError
from modelslab_llm._protocol.flow import Gate, Ticket

from .flow_server import LimitedServer
from .flow_simulation import (
    Bucket,
    Client,
    Fickle,
    Network,
    Pauses,
    Queue,
    Result,
    Server,
    Sliding,
    Soft,
    Window,
    Workers,
    always,
    exponential,
    ideal,
    lognormal,
    simulate,
    uniform,
)

RUNS = 9


@dataclass(frozen=True)
class Row:
    """A server, what is asked of it, and what must be reached."""

    name: str
    server: Callable[[Random], Server]
    clients: Sequence[Client]
    network: Network = field(default_factory=Network)
    time: float | None = 1.3
    """The most times the ideal time; None for what is reported and not bounded."""
    refusals: float | None = 0.25
    """The most refusals for each answer."""


def moving(*limits: int, hint: float | None) -> Callable[[Random], Server]:
    """Return a queue whose limit jumps every three seconds, or thereabouts."""

    def server(random: Random) -> Server:
        steps = [(max(0.0, 3 * n + random.uniform(-1, 1)), limit) for n, limit in enumerate(limits)]
        return Queue(random, [(0.0, limits[0]), *steps[1:]], hint)

    return server


def rows() -> list[Row]:
    """Return what is measured."""
    plain = [
        Row(f"queue of {size}, hint {hint:g} s", _queue(size, hint), [Client(calls)])
        for size, calls in ((5, 100), (15, 200), (40, 400))
        for hint in (1.0, 30.0)
    ]
    return [
        *plain,
        Row("queue of 5, no hint", _queue(5, None), [Client(100)]),
        Row("queue of 5, 40 threads", _queue(5, 1.0), [Client(100, threads=40)]),
        Row(
            "queue of 5, uneven answers, 20 ms away",
            lambda random: Queue(random, 5, 30.0, lognormal(0.2, 0.8)),
            [Client(100)],
            Network(uniform(0.005, 0.015), uniform(0, 0.005)),
        ),
        Row(
            "queue of 15, answers of 20 s, 50 ms away",
            lambda random: Queue(random, 15, 5.0, exponential(20)),
            [Client(200)],
            Network(uniform(0.015, 0.035)),
        ),
        Row(
            "queue of 5, two workers",
            lambda random: Workers(random, 5, 1.0, always(0.1), 2),
            [Client(100)],
        ),
        Row("overload (529, no hint) above 20", _queue(20, None), [Client(400)]),
        Row(
            "overload, refusing at random around 20",
            lambda random: Soft(random, 20, None, exponential(0.2)),
            [Client(400)],
        ),
        Row(
            "refusing 6 % at random, 20 threads",
            lambda random: Fickle(random, 0.06, None),
            [Client(600, threads=20)],
        ),
        Row("limit 5, 15, 4, 20, 10", moving(5, 15, 4, 20, 10, hint=1.0), [Client(600)]),
        Row("the same, hint 30 s", moving(5, 15, 4, 20, 10, hint=30.0), [Client(600)]),
        Row("limit 40, 8, 40", moving(40, 8, 40, hint=1.0), [Client(1200)]),
        Row(
            "two clients, queue of 5",
            _queue(5, 1.0),
            [Client(200), Client(200)],
            Network(uniform(0.0002, 0.002)),
        ),
        Row(
            "two clients, queue of 15",
            _queue(15, 1.0),
            [Client(400), Client(400)],
            Network(uniform(0.0002, 0.002)),
        ),
        Row(
            "nothing accepted for 5 s",
            lambda random: Pauses(random, 10, 1.0, always(0.2), 2, 7),
            [Client(400)],
        ),
        Row(
            "bucket of 20/s, burst 10, exact hint",
            lambda random: Bucket(random, 20, 10, "exact"),
            [Client(200)],
        ),
        Row(
            "the same, uneven answers of 3 s",
            lambda random: Bucket(random, 20, 10, "exact", lognormal(3, 0.5)),
            [Client(200)],
        ),
        Row(
            "sliding window of 40/s, hint 1 s",
            lambda random: Sliding(random, 40, 1.0, 1.0),
            [Client(300)],
        ),
        *(
            Row(name, server, [Client(calls)], time=1.6, refusals=0.9)
            for name, server, calls in (
                ("window of 40/s, hint 1 s", lambda r: Window(r, 40, 1.0, 1.0), 300),
                ("window of 40/s, exact hint", lambda r: Window(r, 40, 1.0, "exact"), 300),
                ("window of 40/s, no hint", lambda r: Window(r, 40, 1.0, None), 300),
                (
                    "window of 100/min, hint rounded up",
                    lambda r: Window(r, 100, 60.0, "ceil", lognormal(2, 0.5)),
                    400,
                ),
                (
                    "window of 40/s and at most 10 at a time",
                    lambda r: Window(r, 40, 1.0, 1.0, concurrent=10),
                    300,
                ),
            )
        ),
        Row("limit 2, then 40", moving(2, 40, hint=1.0), [Client(600)], time=None, refusals=None),
        Row(
            "two clients, one slot",
            _queue(1, 1.0),
            [Client(50), Client(50)],
            Network(uniform(0.0002, 0.002)),
            time=None,
            refusals=None,
        ),
        Row(
            "refusing 20 % at random, 20 threads",
            lambda random: Fickle(random, 0.2, None),
            [Client(600, threads=20)],
            time=None,
            refusals=None,
        ),
        Row(
            "queue of 5, 200 ms away",
            _queue(5, 1.0),
            [Client(100)],
            Network(always(0.1)),
            time=None,
            refusals=None,
        ),
        Row(
            "bucket of 20/s without burst, hint of 1 s for 50 ms",
            lambda random: Bucket(random, 20, 1, 1.0, exponential(0.2)),
            [Client(200)],
            time=None,
            refusals=None,
        ),
    ]


def _queue(size: int, hint: float | None) -> Callable[[Random], Server]:
    return lambda random: Queue(random, size, hint)


class EachAlone(Gate):
    """No gate: each call is sent at once, obeys its own hint, and gives up after its retries."""

    def __init__(self, random: Random) -> None:
        super().__init__(learns=False, random=random)
        self._dice = random
        self._due: list[tuple[float, Ticket]] = []
        self._gone: list[Ticket] = []

    def refused(self, ticket: Ticket, now: float, hint: float | None) -> float:
        """Wait alone, or give up."""
        self.failed(ticket, now)
        ticket.refusals += 1
        if hint is None:
            hint = 0.5 * 2 ** (ticket.refusals - 1) * self._dice.uniform(0.75, 1)
        if ticket.refusals > ticket.max_retries:
            self._gone.append(ticket)
        else:
            self._due.append((now + hint, ticket))
        return hint

    def look(self, now: float, *, due: bool = False) -> list[Ticket]:
        """Return who is sent again, and who gives up."""
        ready = [ticket for due, ticket in self._due if due <= now]
        self._due = [(due, ticket) for due, ticket in self._due if due > now]
        for ticket in ready:
            self.rejoin(ticket, now)
        moved = [*super().look(now, due=due), *self._gone]
        self._gone = []
        self.next_look = min((due for due, _ in self._due), default=None)
        return moved


@dataclass(frozen=True)
class Outcome:
    """What the runs of a row came to."""

    row: Row
    times: list[float]
    results: list[Result]
    alone: list[Result]

    @property
    def refusals(self) -> list[float]:
        """Refusals per answer, run by run."""
        return [result.refusals_per_answer for result in self.results]

    @property
    def lost(self) -> int:
        """Calls without an answer, in all runs."""
        return sum(result.lost for result in self.results)

    @property
    def missed(self) -> list[str]:
        """What had to be reached and was not."""
        row, found = self.row, []
        if row.time is not None and median(self.times) > row.time:
            found.append("time")
        if row.refusals is not None and median(self.refusals) > row.refusals:
            found.append("refusals")
        return found + (["lost"] if self.lost else [])


def measured(row: Row, runs: int = RUNS, *, alone: bool = True) -> Outcome:
    """Run a row, each time at another phase."""
    times, results, others = list[float](), list[Result](), list[Result]()
    for run in range(runs):
        result = simulate(row.server(Random(run)), row.clients, Random(run), row.network)
        best = ideal(row.server(Random(run)), row.clients, Random(run), row.network)
        times.append(result.took / best)
        results.append(result)
        if alone:
            server = row.server(Random(run))
            others.append(simulate(server, row.clients, Random(run), row.network, gate=EachAlone))
    return Outcome(row, times, results, others)


def cells(outcome: Outcome) -> list[str]:
    """Return a line of the table."""
    refusals, lost = outcome.refusals, outcome.lost
    calls = sum(client.calls for client in outcome.row.clients)
    alone = [f"{median(result.lost for result in outcome.alone):g}"] if outcome.alone else []
    bound = outcome.row.time
    return [
        outcome.row.name,
        str(calls),
        *alone,
        str(lost),
        f"{median(outcome.times):.2f} ({max(outcome.times):.2f})",
        "-" if bound is None else f"{bound:g}",
        f"{median(refusals):.2f} ({max(refusals):.2f})",
        "-" if outcome.row.refusals is None else f"{outcome.row.refusals:g}",
        " ".join(outcome.missed),
    ]


HEADS = [
    "server",
    "calls",
    "lost alone",
    "lost",
    "x ideal time (worst)",
    "at most",
    "refusals per answer (worst)",
    "at most",
    "missed",
]


def printed(lines: list[list[str]], *, markdown: bool) -> None:
    """Print the table."""
    if markdown:
        lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
        for line in lines:
            print("|", " | ".join(line), "|")
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def cost() -> str:
    """Time what a call pays for the gate, alone, without a line and behind one."""

    def learned(limit: int) -> tuple[Gate, float]:
        gate = Gate(random=Random(1))
        tickets = [gate.join(0.0) for _ in range(limit + 1)]
        gate.refused(tickets.pop(), 0.001, None)
        now = 0.1
        while gate.flow.waiting or gate.flow.in_flight:
            for ticket in tickets:
                gate.answered(ticket, now)
            tickets = gate.look(now, due=True)
            now += 0.1
        return gate, now

    def once(gate: Gate, now: float) -> float:
        times = 20_000
        start = time.process_time()
        for _ in range(times):
            now += 0.001
            ticket = gate.join(now)
            gate.answered(ticket, now)
            gate.look(now)
        return 1e6 * (time.process_time() - start) / times

    free = min(once(Gate(), 0.0) for _ in range(RUNS))
    limited = min(once(*learned(5)) for _ in range(RUNS))
    return f"{free:.1f} us a call while nothing was refused, {limited:.1f} us below a limit"


def unlimited() -> str:
    """Say what the ramp costs a first burst at a server that refuses nothing."""
    found = list[str]()
    for service in (0.01, 0.2, 5.0):

        def server(random: Random, service: float = service) -> Server:
            made = Server(random)
            made.service = always(service)
            return made

        took = simulate(server(Random(1)), [Client(500)], Random(1)).took
        best = ideal(server(Random(1)), [Client(500)], Random(1))
        found.append(f"{took - best:+.2f} s with answers of {service:g} s")
    return ", ".join(found)


def sharing() -> list[str]:
    """Say how evenly two clients share one account, while both have calls."""
    found = list[str]()
    near = Network(uniform(0.0002, 0.002))
    for size in (5, 8, 15, 40):
        clients = [Client(40 * size), Client(40 * size)]
        uneven = [
            simulate(Queue(Random(run), size, 1.0), clients, Random(run), near).unevenness()
            for run in range(RUNS)
        ]
        found.append(f"queue of {size}: {median(uneven):.2f} : 1 (worst {max(uneven):.2f})")
    return found


def random_row(number: int) -> Row:
    """Return a server nobody thought of."""
    random = Random(number)
    mean = random.choice([0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
    service = random.choice(
        [
            always(mean),
            uniform(0.5 * mean, 1.5 * mean),
            exponential(mean),
            lognormal(mean, random.choice([0.3, 0.6, 1.0])),
        ]
    )
    away = min(random.choice([0.001, 0.002, 0.01, 0.03, 0.06]), mean / 4)
    network = Network(
        random.choice([uniform(0.3 * away, 0.7 * away), lognormal(away / 2, 0.5)]),
        random.choice([always(0.0), uniform(0, min(0.01, mean / 10))]),
    )
    hint = random.choice([1.0, 30.0, None, 5.0, 0.2])
    size = random.choice([2, 3, 5, 8, 10, 15, 25, 40, 64])
    calls = max(60, size * random.randint(10, 30))
    load = random.choice(
        [
            Client(calls),
            Client(calls, threads=max(40, 2 * size)),
            Client(calls, every=exponential(mean / size / 1.3)),
        ]
    )
    kind = random.choice(["queue", "moving", "shared", "soft", "workers", "window"])
    name = f"{number}: {kind} {size}, answers {mean:g} s, {1000 * away:g} ms away, hint {hint}"
    if kind == "queue":
        return Row(name, lambda r: Queue(r, size, hint, service), [load], network)
    if kind == "moving":
        later = [max(2, round(size * random.choice([0.3, 0.5, 2, 3]))) for _ in range(2)]
        steps = [(0.0, size), *((mean * 12 * (n + 1), limit) for n, limit in enumerate(later))]
        return Row(name, lambda r: Queue(r, steps, hint, service), [load], network)
    if kind == "shared":
        pair = [Client(calls), Client(calls)]
        return Row(name, lambda r: Queue(r, max(5, size), 30 * mean, service), pair, network)
    if kind == "soft":
        return Row(name, lambda r: Soft(r, 5 + size, None, service), [load], network)
    if kind == "workers":
        return Row(name, lambda r: Workers(r, size, hint, service, 2), [load], network)
    span = random.choice([1.0, 2.0, 10.0])
    words: str | float = random.choice(("exact", "ceil")) if random.random() < 0.7 else span
    short = always(min(mean, span))
    window = Row(name, lambda r: Window(r, 4 * size, span, words, short), [load], network)
    return Row(window.name, window.server, window.clients, network, 1.6, 0.9)


SOCKETS = (
    "queue of 5, hint 1 s",
    "queue of 5, hint 30 s",
    "queue of 15, hint 1 s",
    "queue of 40, hint 1 s",
    "overload (529, no hint) above 20",
    "bucket of 20/s, burst 10, exact hint",
    "window of 40/s, hint 1 s",
)


async def over_sockets(url: str, calls: int) -> tuple[int, float]:
    """Make calls at once with an async client; return how many failed, and the seconds it took."""
    async with AsyncModelsLab("benchmark-key", base_url=url, max_queue_wait=None) as client:

        async def call() -> object:
            return await client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "Go"}]
            )

        start = time.perf_counter()
        done = await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)
        return sum(isinstance(each, BaseException) for each in done), time.perf_counter() - start


def threads_over_sockets(url: str, calls: int, threads: int = 40) -> tuple[int, float]:
    """Make calls in threads with a sync client; return how many failed, and the seconds it took."""
    with ModelsLab("benchmark-key", base_url=url, max_queue_wait=None) as client:

        def call(_: int) -> object:
            try:
                return client.messages.create(
                    model="m", max_tokens=9, messages=[{"role": "user", "content": "Go"}]
                )
            except ModelsLabError:
                return None

        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(call, range(calls)))
        return done.count(None), time.perf_counter() - start


def real(row: Row, runs: int) -> list[list[str]]:
    """Return lines of a table: a row over real sockets, for each of the clients."""
    lines = list[list[str]]()
    calls = row.clients[0].calls
    for name in ("asyncio", "40 threads"):
        times, refusals, lost = list[float](), list[float](), 0
        for run in range(runs):
            with LimitedServer(row.server(Random(run))) as server:
                if name == "asyncio":
                    failed, took = asyncio.run(over_sockets(server.url, calls))
                else:
                    failed, took = threads_over_sockets(server.url, calls)
            load = Client(calls, threads=None if name == "asyncio" else 40)
            times.append(took / ideal(row.server(Random(run)), [load], Random(run), row.network))
            refusals.append(server.refused / max(1, server.answered))
            lost += failed
        time_line = f"{median(times):.2f} ({max(times):.2f})"
        refusal_line = f"{median(refusals):.2f} ({max(refusals):.2f})"
        lines.append([row.name, name, str(calls), str(lost), time_line, refusal_line])
    return lines


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each row; default {RUNS}")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="random servers too")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--sockets", action="store_true", help="some rows over real sockets too")
    given = parser.parse_args()
    outcomes = [measured(row, given.runs) for row in rows()]
    printed([HEADS, *map(cells, outcomes)], markdown=given.markdown)
    print(f"\nThe gate by itself: {cost()}.")
    print(f"A first burst of 500 calls at a server without limits: {unlimited()}.")
    print("Two clients on one account, answers of the larger part over the smaller:")
    for line in sharing():
        print(f"  {line}")
    print()
    if given.sockets:
        heads = ["over sockets", "client", "calls", "lost", "x ideal time", "refusals per answer"]
        some = [row for row in rows() if row.name in SOCKETS]
        lines = [line for row in some for line in real(row, given.runs)]
        printed([heads, *lines], markdown=given.markdown)
    if given.random:
        found = [measured(random_row(number), 1, alone=False) for number in range(given.random)]
        times = sorted(outcome.times[0] for outcome in found)
        refusals = sorted(outcome.refusals[0] for outcome in found)
        lost = sum(outcome.lost for outcome in found)
        print(
            f"{given.random} random servers, one run each: time x {median(times):.2f} ideal in"
            f" the median, {times[int(0.95 * len(times))]:.2f} in the 95th percentile; refusals per"
            f" answer {median(refusals):.2f} and {refusals[int(0.95 * len(refusals))]:.2f};"
            f" {lost} calls lost. The slowest:"
        )
        for outcome in sorted(found, key=lambda each: -each.times[0])[:5]:
            print(f"  x {outcome.times[0]:.2f}  {outcome.row.name}")


if __name__ == "__main__":
    main()
