"""Prove that a run loses nothing and asks nothing twice, however often and whenever it is killed.

The runs are processes of their own, killed while a server that fails at random answers them. What
the server saw, what a run handed out and what its store holds are then compared, row by row.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_server import MESSAGE, Connection, RawServer, failure, reply
from variants import Async, Sync

from modelslab_llm import APIConnectionError
from modelslab_llm.bulk import BulkStore
from modelslab_llm.testing import LocalServer

pytestmark = pytest.mark.slow

OLD = sys.version_info < (3, 11)
ROWS = 400
KILLS = {"sync": 10, "asyncio": 5, "trio": 5}  # the last two execute the same code
AT_ONCE = 8
KEYS = {f"row {number}" for number in range(ROWS)}

PROGRAM = """
import sys
import anyio
from modelslab_llm import AsyncModelsLab, ModelsLab

url, store, variant, number, at_once = sys.argv[1:]
rows = [{"id": f"row {n}", "messages": [{"role": "user", "content": f"row {n}"}]}
        for n in range(int(number))]
options = dict(key="id", store=store, max_in_flight=int(at_once), include_stored=False,
               defaults={"model": "m", "max_tokens": 16})
given = dict(base_url=url, api_key="k", max_retries=12)

def tell(result):
    assert result.message.text == result.key
    print(result.key, flush=True)

async def main():
    async with AsyncModelsLab(**given) as client:
        async for result in client.messages.bulk(rows, **options):
            tell(result)

if variant == "sync":
    with ModelsLab(**given) as client:
        for result in client.messages.bulk(rows, **options):
            tell(result)
else:
    anyio.run(main, backend=variant)
print("the end", flush=True)
"""


class Flapping:
    """A server that answers with 500 one time in twenty, and cuts one answer in fifty."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(20240229)
        self.requests: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.reached = threading.Event()
        self.wanted = 0
        self.holds = False
        """Whether to stop answering after the first few."""
        self.goes_on = threading.Event()

    def __call__(self, connection: Connection) -> None:
        row = connection.body["messages"][0]["content"]
        with self.lock:
            self.requests.append(row)
            if len(self.requests) >= self.wanted:
                self.reached.set()
            number = self.random.random()
            kind = "500" if number < 0.05 else "cut" if number < 0.07 else "well"
            self.kinds[kind] += 1
            stops = self.holds and len(self.requests) > 5 * AT_ONCE
        if stops:
            self.goes_on.wait(60)
        answer = reply(200, {**MESSAGE, "content": [{"type": "text", "text": row}]})
        if kind == "500":
            connection.send(failure(500))
        elif kind == "cut":
            connection.send(answer[:-9])
            connection.close()
        else:
            connection.send(answer)

    def wait_for(self, more: int) -> None:
        """Return when so many more requests have come."""
        with self.lock:
            self.reached.clear()
            self.wanted = len(self.requests) + more
        assert self.reached.wait(60)


@contextmanager
def running(url: str, store: Path, variant: str, at_once: int = AT_ONCE) -> Iterator[Any]:
    words = [url, str(store), variant, str(ROWS), str(at_once)]
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def stored(store: Path) -> set[Any]:
    with BulkStore(store) as kept:
        results = list(kept)
    assert all(result.message.text == result.key for result in results)
    keys = {result.key for result in results}
    assert len(keys) == len(results)
    return keys


@pytest.mark.parametrize("variant", ["sync", "asyncio", "trio"])
def test_a_run_that_is_killed_again_and_again_has_every_row_once(
    tmp_path: Path, variant: str
) -> None:
    store = tmp_path / "run.sqlite"
    flapping = Flapping()
    when = random.Random(7)
    handed_out: list[str] = []
    safe: dict[str, int] = {}
    """By row, how many requests there had been when it was first found in the store."""
    with RawServer(flapping) as server:
        for _ in range(KILLS[variant]):
            with running(server.url, store, variant) as run:
                flapping.wait_for(when.randrange(12, 45))
                run.send_signal(signal.SIGKILL)
                told = run.communicate()[0].splitlines(keepends=True)
            handed_out += [line.rstrip() for line in told if line.endswith("\n")]
            now = stored(store) if store.exists() else set()
            assert now >= safe.keys()  # nothing that was stored is lost
            assert now >= set(handed_out)  # and nothing was handed out before it was stored
            for key in now - safe.keys():
                safe[key] = len(flapping.requests)
        assert KILLS[variant] < len(safe) < ROWS
        with running(server.url, store, variant) as run:
            out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
    *rest, last = out.splitlines()
    assert last == "the end"
    handed_out += rest
    assert stored(store) == KEYS
    assert len(set(handed_out)) == len(handed_out)  # each once, in all runs
    for key, before in safe.items():
        assert key not in flapping.requests[before:]  # what was stored is never asked again
    assert min(flapping.kinds.values()) > 2


@pytest.mark.parametrize("variant", ["sync", "asyncio", "trio"])
def test_ctrl_c_ends_a_run_and_says_how_to_go_on(tmp_path: Path, variant: str) -> None:
    store = tmp_path / "run.sqlite"
    flapping = Flapping()
    flapping.holds = True
    with RawServer(flapping) as server:
        with running(server.url, store, variant) as run:
            first = run.stdout.readline()
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        flapping.holds = False
        flapping.goes_on.set()
        assert run.returncode != 0
        assert "bulk run: stopped by " in err
        assert f"run it again with store={str(store)!r} to continue where it stopped" in err
        # anyio's runner for Python 3.10 lets the cancellation out by which it stops the program.
        ctrl_c = "CancelledError" if OLD and variant == "asyncio" else "KeyboardInterrupt"
        # Usually the last line. A run that the signal left before it could end itself ends later,
        # when it is collected, and says so after it.
        assert any(line.endswith(ctrl_c) for line in err.splitlines()), err
        assert not store.with_name("run.sqlite-lock").exists()
        safe = stored(store)
        told = {line for line in [first.rstrip(), *out.splitlines()] if line in KEYS}
        assert told <= safe
        before = len(flapping.requests)
        with running(server.url, store, variant) as run:
            out, err = run.communicate(timeout=120)
        assert out.endswith("the end\n"), err
    assert stored(store) == KEYS
    assert not safe & set(flapping.requests[before + AT_ONCE :])


def test_a_server_that_refuses_more_than_five_at_once(
    variant: Sync | Async, tmp_path: Path
) -> None:
    """Rows wait in the queue for longer than calls would, and none is lost."""
    lock = threading.Lock()
    inside, refused = 0, 0

    def answer(connection: Connection) -> None:
        nonlocal inside, refused
        with lock:
            is_full = inside == 5
            refused += is_full
            inside += not is_full
        if is_full:
            connection.send(failure(429))
            return
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
        connection.send(reply(200, MESSAGE))

    queued: list[int] = []
    with RawServer(answer) as server:
        client = variant.client(
            base_url=server.url, api_key="k", max_retries=1, max_queue_wait=0.05
        )
        turn = {"role": "user", "content": "Go on"}
        run = client.bulk(
            [{"messages": [turn]}] * 150,
            defaults={"model": "m", "max_tokens": 9},
            store=tmp_path / "run.sqlite",
            max_in_flight=40,
        )
        for _ in run.results():
            queued.append(run.real.progress.queued)
        progress = run.real.progress
        client.close()
    assert (progress.done, progress.failed) == (150, 0)
    assert refused
    assert max(queued) > 20


def test_a_server_that_is_away_for_a_while(variant: Sync | Async, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "defaults": {"model": "m", "max_tokens": 9},
        "store": tmp_path / "run.sqlite",
    }
    rows = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(20)]
    with LocalServer() as server:
        client = variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=0)
        with server.refusing():
            failed = list(client.bulk(rows, **options).results())
        assert all(isinstance(result.error, APIConnectionError) for result in failed)
        assert client.bulk(rows, **options).finish().failed == 20
        assert not server.requests
        again = list(client.bulk(rows, **options, retry_failed=True).results())
        assert {result.message.text for result in again} == {f"You said: {n}" for n in range(20)}
        assert {result.attempts for result in again} == {2}
        client.close()
