"""A run that is left in any way leaves nothing behind: no thread, task, lock or open file.

Each program runs by itself with `-X dev -W error`, where Python tells of what was forgotten.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelslab_llm.bulk import BulkStore
from modelslab_llm.testing import LocalServer

pytestmark = pytest.mark.slow

PYTHON = [sys.executable, "-X", "dev", "-W", "error", "-c"]

BEFORE = """
import anyio, asyncio, contextvars, gc, itertools, logging, sys, threading, time, warnings
from pathlib import Path
from modelslab_llm import *

url, folder, backend = sys.argv[1:]
store = Path(folder, "run.sqlite")
lock = Path(folder, "run.sqlite-lock")
options = dict(store=store, max_in_flight=3, defaults={"model": "m", "max_tokens": 9})
logging.getLogger("asyncio").setLevel(logging.ERROR)  # a busy machine is no failure
logging.getLogger("modelslab_llm.bulk").addHandler(logging.StreamHandler(sys.stdout))

def rows(number=None):
    for n in itertools.count() if number is None else range(number):
        yield {"messages": [{"role": "user", "content": str(n)}]}

def made():
    return ModelsLab(base_url=url, api_key="local-test-key")

def amade():
    return AsyncModelsLab(base_url=url, api_key="local-test-key")

def run(main):
    anyio.run(main, backend=backend)

def check():
    assert not lock.exists()
    until = time.monotonic() + 20
    while [t for t in threading.enumerate() if t.name.startswith("modelslab-bulk")]:
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.01)
    print("nothing is left", flush=True)
"""

SYNC = {
    "by break": """
client = made()
for result in client.messages.bulk(rows(), **options):
    break
check()
for result in client.messages.bulk(rows(5), **options):  # at once, with the same store
    pass
client.close()
check()
""",
    "by an exception": """
client = made()
try:
    for result in client.messages.bulk(rows(), **options):
        raise ValueError
except ValueError:
    pass
check()
client.close()
""",
    "by with": """
client = made()
with client.messages.bulk(rows(), **options) as bulk:
    next(bulk)
check()
client.close()
""",
    "in a cycle": """
client = made()
def leave():
    bulk = client.messages.bulk(rows(), **options)
    next(bulk)
    cycle = [bulk]
    cycle.append(cycle)
leave()
gc.collect()
check()
client.close()
""",
    "before it begins": """
client = made()
bulk = client.messages.bulk(rows(), **options)
bulk.close()
with bulk:
    pass
del bulk
client.close()
assert not store.exists()
check()
""",
    "at its end": """
client = made()
with client.messages.bulk(rows(9), **options) as bulk:
    assert len(list(bulk)) == 9
    check()
    bulk.close()
    assert next(bulk, None) is None
client.close()
check()
""",
    "at the end of the program": """
warnings.simplefilter("ignore")  # the client is left open, too
client = made()
bulk = client.messages.bulk(rows(), **options)
next(bulk)
print("nothing is left", flush=True)
""",
}

ASYNC = {
    "by break": """
async def main():
    async with amade() as client:
        async for result in client.messages.bulk(rows(), **options):
            break
        while lock.exists():  # it ends when the loop comes to it
            await anyio.sleep(0.01)
        check()
        async for result in client.messages.bulk(rows(5), **options):
            pass
run(main)
check()
""",
    "by an exception": """
async def main():
    async with amade() as client:
        try:
            async for result in client.messages.bulk(rows(), **options):
                raise ValueError
        except ValueError:
            pass
run(main)
check()
""",
    "by async with": """
async def main():
    async with amade() as client:
        async with client.messages.bulk(rows(), **options) as bulk:
            await anext(bulk)
        check()
        async with client.messages.bulk(rows(5), **options) as bulk:  # at once
            async for result in bulk:
                pass
run(main)
check()
""",
    "by cancellation": """
async def main():
    async with amade() as client:
        bulk = client.messages.bulk(rows(), **options)
        with anyio.CancelScope() as scope:  # as a timeout does it
            async for result in bulk:
                scope.cancel()
        assert scope.cancelled_caught
        check()
        assert await anext(bulk, None) is None
run(main)
check()
""",
    "by the end of the loop": """
warnings.simplefilter("ignore")  # the client is left open, too
async def main():
    client = amade()
    global bulk
    bulk = client.messages.bulk(rows(), **options)
    await anext(bulk)
    await anyio.sleep(0.05)
try:
    run(main)
finally:
    check()
bulk = None
gc.collect()
""",
    "in a cycle": """
async def main():
    async with amade() as client:
        async def leave():
            bulk = client.messages.bulk(rows(), **options)
            await anext(bulk)
            cycle = [bulk]
            cycle.append(cycle)
        await leave()
        gc.collect()
        while lock.exists():
            await anyio.sleep(0.01)
run(main)
check()
""",
    "at its end": """
async def main():
    async with amade() as client:
        async with client.messages.bulk(rows(9), **options) as bulk:
            assert len([result async for result in bulk]) == 9
            check()
            await bulk.close()
            assert await anext(bulk, None) is None
run(main)
check()
""",
    "before it begins": """
async def main():
    async with amade() as client:
        bulk = client.messages.bulk(rows(), **options)
        await bulk.close()
        async with bulk:
            pass
assert not store.exists()
run(main)
check()
""",
}

QUIET = ("with", "its end", "before")
"""Where the caller said that it is enough, or nothing was left to be done, no warning is due."""


def ran(program: str, folder: Path, backend: str) -> str:
    with LocalServer(pause=0.01) as server:
        url = server.gateway().base_url
        done = subprocess.run(
            [*PYTHON, BEFORE + program, url, str(folder), backend],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("how", SYNC)
def test_a_sync_run_that_is_left(tmp_path: Path, how: str) -> None:
    out = ran(SYNC[how], tmp_path, "")
    assert "nothing is left" in out
    assert ("stopped by its caller" in out) == (not any(word in how for word in QUIET))
    if "before" not in how:
        with BulkStore(tmp_path / "run.sqlite") as kept:
            assert len(kept) > 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ASYNC)
def test_an_async_run_that_is_left(tmp_path: Path, how: str, backend: str) -> None:
    out = ran(ASYNC[how], tmp_path, backend)
    assert "nothing is left" in out
    assert ("bulk run: stopped by" in out) == (not any(word in how for word in QUIET))
    if "before" not in how:
        with BulkStore(tmp_path / "run.sqlite") as kept:
            assert len(kept) > 0


IN_ANY_THREAD = """
client = made()

def leave(number):
    bulk = client.messages.bulk(rows(), **{**options, "store": Path(folder, f"{number}.sqlite")})
    next(bulk)
    cycle = [bulk]
    cycle.append(cycle)

for number, allocations in enumerate(range(0, 300, 10)):  # the collector runs a little later
    gc.disable()
    gc.collect()
    leave(number)
    gc.set_threshold(gc.get_count()[0] + allocations)
    gc.enable()
    assert sum(1 for _ in client.messages.bulk(rows(20), **options)) == 20
gc.set_threshold(700)
gc.collect()
client.close()
check()
"""


def test_the_collector_may_run_in_any_thread(tmp_path: Path) -> None:
    """Also in one that asks or stores for the run that is collected, and holds its locks."""
    assert ran(IN_ANY_THREAD, tmp_path, "").endswith("nothing is left\n")


CONTEXT = """
whose = contextvars.ContextVar("whose", default="nobody's")
seen = set()

class Transport(__import__("httpx").MockTransport):
    pass

def answer(request):
    seen.add(whose.get())
    return __import__("httpx").Response(200, json={"type": "message", "content": []})

whose.set("the caller's")
with __import__("httpx").Client(transport=Transport(answer)) as http:
    client = ModelsLab("k", http_client=http)
    assert client.messages.bulk(rows(20), **options).finish().done == 20

async def main():
    whose.set("the caller's")
    async with __import__("httpx").AsyncClient(transport=Transport(answer)) as http:
        client = AsyncModelsLab("k", http_client=http)
        assert (await client.messages.bulk(rows(20), **{**options, "store": None}).finish()).done
for backend in ("asyncio", "trio"):
    run(main)
assert seen == {"the caller's"}
check()
"""


def test_requests_have_the_context_of_the_caller(tmp_path: Path) -> None:
    """By which traces know what belongs together."""
    assert "nothing is left" in ran(CONTEXT, tmp_path, "asyncio")
