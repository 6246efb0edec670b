"""A run that is left in any way leaves nothing behind: no thread, task, lock or open file.

Programs run with `-X dev -W error`, where Python tells of what was forgotten.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from modelslab_llm.bulk import BulkStore
from modelslab_llm.testing import LocalServer

pytestmark = pytest.mark.slow

PYTHON = [sys.executable, "-X", "dev", "-W", "error", "-c"]

BEFORE = """
import anyio, asyncio, contextvars, gc, itertools, logging, signal, sys, threading, time, warnings
import json, traceback
from pathlib import Path
from modelslab_llm import *
from modelslab_llm.bulk import BulkStore

# anyio's runner for Python 3.10 lets the cancellation out by which it stops the program.
CTRL_C = KeyboardInterrupt
if sys.version_info < (3, 11):
    CTRL_C = (KeyboardInterrupt, asyncio.CancelledError)
gc.freeze()  # what was imported need not be looked over again and again
url, folder, backend = sys.argv[1:]
options = dict(max_in_flight=3, defaults={"model": "m", "max_tokens": 9})

def use(folder):
    global store, lock
    store = options["store"] = Path(folder, "run.sqlite")
    lock = Path(folder, "run.sqlite-lock")

use(folder)
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
        while lock.exists():
            await anyio.sleep(0.01)
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
    "by Ctrl-C while an answer is stored": """
from modelslab_llm.bulk import _desk
made_json, calls = _desk.message_json, itertools.count(1)

def interrupted(message):
    if next(calls) == 5:
        signal.raise_signal(signal.SIGINT)
        for _ in range(100):  # where it may be raised in the middle of this
            pass
    return made_json(message)

async def main():
    async with amade() as client:
        async for result in client.messages.bulk(rows(), **options):
            pass
_desk.message_json = interrupted
try:
    run(main)
except CTRL_C:
    check()
finally:
    _desk.message_json = made_json
with BulkStore(store) as kept:
    assert len(kept) >= 5
""",
    "by Ctrl-C in the caller's rows": """
def interrupted():
    yield from rows(9)
    signal.raise_signal(signal.SIGINT)
    while backend == "trio":  # which need not wait for a task of its own
        pass
    yield from rows()

async def main():
    async with amade() as client:
        async for result in client.messages.bulk(interrupted(), **options):
            pass
try:
    run(main)
except CTRL_C:
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


AT_THE_END = "at the end of the program"

EACH = """
def say(name):
    for out in sys.stdout, sys.stderr:
        print("=====", name, file=out, flush=True)

for name, program in json.loads(sys.stdin.read()).items():
    say(name)
    use(Path(folder, name))
    store.parent.mkdir()
    try:
        with warnings.catch_warnings():
            exec(program, {**globals()})
        gc.collect()
    except BaseException:
        traceback.print_exc()
say("at the end")
"""
"""Starting Python takes longer than a program does, so those of one kind run in one process."""


def started(program: str, folder: Path, backend: str, given: str = "") -> tuple[str, str]:
    """Run a program; return what it wrote to standard output and to standard error."""
    with LocalServer(pause=0.01) as server:
        url = server.gateway().base_url
        done = subprocess.run(
            [*PYTHON, BEFORE + program, url, str(folder), backend],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def ran(program: str, folder: Path, backend: str) -> str:
    out, err = started(program, folder, backend)
    assert err == ""
    return out


def sections(text: str) -> dict[str, str]:
    parts = (section.partition("\n") for section in text.split("===== ")[1:])
    return {name: words for name, _, words in parts}


class Left(NamedTuple):
    """What the programs of one kind left and wrote, each by its name."""

    folder: Path
    out: dict[str, str]
    err: dict[str, str]

    def has_left_nothing(self, how: str, warning: str) -> None:
        assert self.err[how] == ""
        assert self.err["at the end"] == "", "of any of them"
        assert "nothing is left" in self.out[how]
        assert (warning in self.out[how]) == (not any(word in how for word in QUIET))
        if "before" not in how:
            with BulkStore(self.folder / how / "run.sqlite") as kept:
                assert len(kept) > 0


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """Run all programs of a kind, which is sync or the name of an event loop, at most once."""

    @cache
    def left(backend: str) -> Left:
        folder = tmp_path_factory.mktemp("left")
        programs = ASYNC if backend else {how: SYNC[how] for how in SYNC if how != AT_THE_END}
        out, err = started(EACH, folder, backend, json.dumps(programs))
        return Left(folder, sections(out), sections(err))

    return left


@pytest.mark.parametrize("how", [how for how in SYNC if how != AT_THE_END])
def test_a_sync_run_that_is_left(left: Callable[[str], Left], how: str) -> None:
    left("").has_left_nothing(how, "bulk run: stopped by its caller")


def test_a_sync_run_that_is_left_at_the_end_of_the_program(tmp_path: Path) -> None:
    out = ran(SYNC[AT_THE_END], tmp_path, "")
    assert "nothing is left" in out
    assert "bulk run: stopped by its caller" in out
    with BulkStore(tmp_path / "run.sqlite") as kept:
        assert len(kept) > 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ASYNC)
def test_an_async_run_that_is_left(left: Callable[[str], Left], how: str, backend: str) -> None:
    left(backend).has_left_nothing(how, "bulk run: stopped by")


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
