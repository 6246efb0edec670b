"""Ask many rows in one way, in this process: what `benchmarks.bulk` measures, and with what.

    python -m benchmarks.many '{"how": "bulk, threads", "url": "http://…", "rows": 1000}'

prints what it cost as JSON. A library is imported when its way is taken. Nothing that its users
have by default is switched off.
"""

# ruff: noqa: T201  (the result is its output)

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .measure import RSS_UNIT

IN_FLIGHT = 50
SHARED: dict[str, Any] = {"model": "canned", "max_tokens": 1024}
CHUNK = 1000


@dataclass(frozen=True)
class Work:
    """What one process does."""

    how: str
    url: str
    rows: int
    at_once: int = IN_FLIGHT


@dataclass(frozen=True)
class Done:
    """What came of it."""

    answered: int
    failed: int
    cpu: float
    wall: float
    early: int
    """Bytes of memory, at most, after a tenth of the rows."""
    peak: int


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Yield small requests, one after another."""
    for n in range(number):
        turn = {"role": "user", "content": f"What is the capital of France? {n}"}
        yield {"messages": [turn]}


class Counting:
    """Count results, and note the memory after a tenth of them."""

    def __init__(self, total: int) -> None:
        self.answered = 0
        self.failed = 0
        self.early = 0
        self._tenth = max(1, total // 10)

    def __call__(self, failed: bool) -> None:
        if failed:
            self.failed += 1
        else:
            self.answered += 1
        if self.answered + self.failed == self._tenth:
            self.early = peak()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT


def threads_by_hand(work: Work, count: Counting) -> None:
    """A pool of threads, given a thousand rows at a time."""
    from modelslab_llm import ModelsLab

    with ModelsLab("key", base_url=work.url) as client:

        def ask(row: dict[str, Any]) -> object:
            return client.messages.create(**SHARED, **row)

        with ThreadPoolExecutor(work.at_once) as pool:
            left = rows(work.rows)
            while chunk := list(islice(left, CHUNK)):
                for _ in pool.map(ask, chunk):
                    count(failed=False)


def bulk_on_threads(work: Work, count: Counting, store: str | None = None) -> None:
    """`ModelsLab.messages.bulk`."""
    from modelslab_llm import ModelsLab

    with ModelsLab("key", base_url=work.url) as client:
        for result in client.messages.bulk(
            rows(work.rows), defaults=SHARED, store=store, max_in_flight=work.at_once
        ):
            count(failed=result.error is not None)


def tasks_by_hand(work: Work, count: Counting) -> None:
    """So many tasks that take rows from one iterator."""
    from modelslab_llm import AsyncModelsLab

    async def main() -> None:
        async with AsyncModelsLab("key", base_url=work.url) as client:
            left = rows(work.rows)

            async def worker() -> None:
                for row in left:
                    await client.messages.create(**SHARED, **row)
                    count(failed=False)

            await asyncio.gather(*(worker() for _ in range(work.at_once)))

    asyncio.run(main())


def bulk_on_tasks(work: Work, count: Counting, store: str | None = None) -> None:
    """`AsyncModelsLab.messages.bulk`."""
    from modelslab_llm import AsyncModelsLab

    async def main() -> None:
        async with AsyncModelsLab("key", base_url=work.url) as client:
            async for result in client.messages.bulk(
                rows(work.rows), defaults=SHARED, store=store, max_in_flight=work.at_once
            ):
                count(failed=result.error is not None)

    asyncio.run(main())


def with_a_store(run: Callable[[Work, Counting, str], None]) -> Callable[[Work, Counting], None]:
    """The same, every row kept."""

    def stored(work: Work, count: Counting) -> None:
        with tempfile.TemporaryDirectory() as folder:
            run(work, count, str(Path(folder, "run.sqlite")))

    return stored


def bulk_by_default(work: Work, count: Counting) -> None:
    """`AsyncModelsLab.messages.bulk`, as it is without options."""
    from modelslab_llm import AsyncModelsLab

    async def main() -> None:
        async with AsyncModelsLab("key", base_url=work.url) as client:
            async for result in client.messages.bulk(rows(work.rows), defaults=SHARED):
                count(failed=result.error is not None)

    asyncio.run(main())


def anthropic_and_a_semaphore(work: Work, count: Counting) -> None:
    """`anthropic.AsyncAnthropic` behind a semaphore, which is what its users write."""
    from anthropic import AnthropicError, AsyncAnthropic

    async def main() -> None:
        room = asyncio.Semaphore(work.at_once)
        async with AsyncAnthropic(api_key="key", base_url=work.url) as client:

            async def ask(row: dict[str, Any]) -> None:
                async with room:
                    try:
                        await client.messages.create(**SHARED, **row)
                    except AnthropicError:
                        count(failed=True)
                    else:
                        count(failed=False)

            await asyncio.gather(*map(ask, rows(work.rows)))

    asyncio.run(main())


def litellm_batch(work: Work, count: Counting) -> None:
    """`litellm.batch_completion`, which has a pool of a hundred threads."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it fetches one when it is imported
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    messages = [row["messages"] for row in rows(work.rows)]
    results: Iterable[object] = litellm.batch_completion(
        model="anthropic/canned",
        messages=messages,
        max_tokens=1024,
        api_base=f"{work.url}/v1/messages",
        api_key="key",
    )
    for result in results:
        count(failed=isinstance(result, Exception))


WAYS: dict[str, Callable[[Work, Counting], None]] = {
    "`create`, threads": threads_by_hand,
    "bulk, threads": bulk_on_threads,
    "bulk, threads, store": with_a_store(bulk_on_threads),
    "`create`, tasks": tasks_by_hand,
    "bulk, tasks": bulk_on_tasks,
    "bulk, tasks, store": with_a_store(bulk_on_tasks),
    "messages.bulk": bulk_by_default,
    "anthropic, semaphore": anthropic_and_a_semaphore,
    "litellm.batch_completion": litellm_batch,
}


def main(work: Work) -> None:
    """Do it, and print what it cost."""
    count = Counting(work.rows)
    wall, cpu = time.perf_counter(), time.process_time()
    WAYS[work.how](work, count)
    cost = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps(asdict(Done(count.answered, count.failed, *cost, count.early, peak()))))


if __name__ == "__main__":
    main(Work(**json.loads(sys.argv[1])))
