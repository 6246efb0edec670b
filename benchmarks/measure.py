"""Time one piece of work of one contender, in this process and nothing else in it.

    python -m benchmarks.measure '{"work": "texts", "contender": "ours", …}'     prints a `Measured`

Every kind of work first does itself unmeasured: what is told is the cost that stays. What the
first use costs is told by the cold start.
"""

# ruff: noqa: T201  (the result is its output)

from __future__ import annotations

import asyncio
import base64
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .contenders import REQUEST, MissingError, async_contender, contender
from .server import PACED_DELTAS, PART, TEXT_DELTAS, TOOL_SIZES

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
HISTORY = 10_000_000  # bytes, three quarters of them images
TURNS = 50
A_LAP = 25  # small calls
PROSE = 'It was the best of times; "it was the worst of times", he said.\n'
ACCENTED = "C\u2019\u00e9tait le meilleur des temps \u2014 c\u2019\u00e9tait le pire des temps.\n"


@dataclass(frozen=True)
class Job:
    """What one process measures."""

    work: str
    contender: str
    answer: str = ""
    """What the server is to answer with; "" for nothing at all."""
    times: int = 1
    at_once: int = 1
    url: str = ""
    """The server's, filled in when it runs."""


@dataclass(frozen=True)
class Measured:
    """What a piece of work cost: `count` deltas, calls or whatever it counts."""

    count: int
    cpu: float
    wall: float
    peak: int = 0
    """Bytes of memory, at most, of the whole process."""


class Clock:
    """CPU seconds of this process, user and system, and wall seconds, lap by lap."""

    def __init__(self) -> None:
        self._cpu: list[float] = []
        self._wall: list[float] = []

    @contextmanager
    def lap(self) -> Iterator[None]:
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self._cpu.append(time.process_time() - cpu)
        self._wall.append(time.perf_counter() - wall)

    def measured(self, count: int) -> Measured:
        """Return the cost of the median lap, which did `count` of what is counted."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Measured(count, median(self._cpu), median(self._wall), peak * RSS_UNIT)


def texts(job: Job) -> Measured:
    """Stream text, delta by delta."""
    client, clock = contender(job.contender, job.url), Clock()
    client.texts()
    for _ in range(job.times):
        with clock.lap():
            client.texts()
    return clock.measured(TEXT_DELTAS)


def texts_async(job: Job) -> Measured:
    """Stream text from async code."""

    async def run() -> Measured:
        client, clock = async_contender(job.contender, job.url), Clock()
        await client.texts()
        for _ in range(job.times):
            with clock.lap():
                await client.texts()
        await client.close()
        return clock.measured(TEXT_DELTAS)

    return asyncio.run(run())


def tool(job: Job) -> Measured:
    """Stream a tool's input, to the message whose block holds it."""
    client, clock = contender(job.contender, job.url), Clock()
    client.tool()
    for _ in range(job.times):
        with clock.lap():
            client.tool()
    return clock.measured(TOOL_SIZES[job.answer] // PART)


def create(job: Job) -> Measured:
    """Make small calls, one after another, on one connection."""
    client, clock = contender(job.contender, job.url), Clock()
    client.create(REQUEST)
    for _ in range(job.times):
        with clock.lap():
            for _ in range(A_LAP):
                client.create(REQUEST)
    return clock.measured(A_LAP)


def long_request(prose: str) -> dict[str, Any]:
    """Return a request with a long history: turns of text and an image each."""
    size = HISTORY // TURNS
    image = base64.b64encode(random.Random(1).randbytes(size * 9 // 16)).decode()
    text = (prose * (size // len(prose)))[: size // 8]
    source = {"type": "base64", "media_type": "image/png"}
    turns: list[dict[str, Any]] = []
    for turn in range(TURNS):  # no two strings are the same, or some would be read from cache
        picture = {"type": "image", "source": {**source, "data": f"{turn:04}{image[4:]}"}}
        asked = {"type": "text", "text": f"{turn} {text}"}
        turns.append({"role": "user", "content": [picture, asked]})
        turns.append({"role": "assistant", "content": f"{text} {turn}"})
    return {**REQUEST, "messages": turns}


def history(job: Job) -> Measured:
    """Send a long history; the contender `json.dumps` only does that with it."""
    name, _, kind = job.contender.partition("+")
    request = long_request(ACCENTED if kind else PROSE)
    send: Callable[[Any], object]
    send = json.dumps if name == "json.dumps" else contender(name, job.url).create
    clock = Clock()
    for _ in range(3):  # until the allocator has seen how much is asked for
        send(request)
    for _ in range(job.times):
        with clock.lap():
            send(request)
    return clock.measured(1)


def flight(job: Job) -> Measured:
    """Keep many async calls in flight."""

    async def run() -> Measured:
        client, clock = async_contender(job.contender, job.url), Clock()
        room = asyncio.Semaphore(job.at_once)

        async def call() -> None:
            async with room:
                await client.create(REQUEST)

        await client.create(REQUEST)
        with clock.lap():
            await asyncio.gather(*(call() for _ in range(job.times)))
        await client.close()
        return clock.measured(job.times)

    return asyncio.run(run())


def streams(job: Job) -> Measured:
    """Keep many async streams open, each with its deltas one by one."""

    async def run() -> Measured:
        client, clock = async_contender(job.contender, job.url), Clock()
        await asyncio.gather(*(client.texts() for _ in range(job.at_once)))  # connects
        for _ in range(job.times):
            with clock.lap():
                await asyncio.gather(*(client.texts() for _ in range(job.at_once)))
        await client.close()
        return clock.measured(job.at_once * PACED_DELTAS)

    return asyncio.run(run())


def threads(job: Job) -> Measured:
    """Share one sync client between many threads."""
    client, clock = contender(job.contender, job.url), Clock()
    client.create(REQUEST)
    with ThreadPoolExecutor(job.at_once) as pool, clock.lap():
        for _ in pool.map(client.create, [REQUEST] * job.times):
            pass
    return clock.measured(job.times)


def construct(job: Job) -> Measured:
    """Make clients for https://, after the first."""
    clients, clock = [contender(job.contender, None)], Clock()
    for _ in range(job.times):
        with clock.lap():
            clients.append(contender(job.contender, None))
    return clock.measured(1)


WORKS: dict[str, Callable[[Job], Measured]] = {
    work.__name__: work
    for work in (texts, texts_async, tool, create, history, flight, streams, threads, construct)
}


def main(job: Job) -> None:
    """Do a job and print what it cost, or what is missing for it."""
    try:
        print(json.dumps(asdict(WORKS[job.work](job))))
    except MissingError as error:
        print(json.dumps({"missing": str(error)}))


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
