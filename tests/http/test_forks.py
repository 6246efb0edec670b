"""Fork at the worst moment: while another thread makes the first call of its process.

With real forks of a process of its own, for a fork copies whatever the tests have going.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from raw_server import REPLY, STREAM, Connection, RawServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]


def answer(connection: Connection) -> None:
    wants_stream = b'"stream":true' in connection.request.replace(b" ", b"")
    connection.send(STREAM if wants_stream else REPLY)


FIRST_CALLS = """
import os, signal, sys, threading

def first_calls(url):
    import asyncio
    from modelslab_llm import AsyncModelsLab, ModelsLab
    from modelslab_llm._http.names import look_up
    asked = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}])

    with ModelsLab(base_url=url, api_key="k", timeout=5) as client:
        assert client.messages.create(**asked).text == "Tamar"
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_text() == "Tamar"

    async def async_calls():
        async with AsyncModelsLab(base_url=url, api_key="k", timeout=5) as client:
            assert (await client.messages.create(**asked)).text == "Tamar"

    asyncio.run(async_calls())
    look_up("localhost", 1)

import asyncio  # other people's: not ours to guard
import modelslab_llm
url = sys.argv[1]
main = threading.current_thread()
"""

AT_AN_IMPORT = """
wanted = sys.argv[2]
inside, forked = threading.Event(), threading.Event()

class Slow:
    def find_spec(self, name, path, target=None):
        if name == wanted and threading.current_thread() is not main:
            inside.set()
            forked.wait(1)

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=first_calls, args=[url])
thread.start()
assert inside.wait(20), "nobody imports it"
pid = os.fork()
if pid == 0:
    signal.alarm(10)
    try:
        first_calls(url)
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
forked.set()
thread.join()
assert os.waitpid(pid, 0)[1] == 0, "the child hangs"
print("all well")
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_CALLS + program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["modelslab_llm._client.client", "modelslab_llm._http.on_asyncio", "pydantic.plugin"]
)
def test_a_fork_in_the_middle_of_the_first_call(module: str) -> None:
    with RawServer(answer) as server:
        assert run(AT_AN_IMPORT, server.url, module) == "all well\n"


EVERY_IMPORT = """
from modelslab_llm import _forks
found = []

class Looking:
    def find_spec(self, name, path, target=None):
        free = []
        def look():
            if _forks._lock.acquire(blocking=False):
                _forks._lock.release()
                free.append(name)
        other = threading.Thread(target=look)
        other.start()
        other.join()
        found.extend(free)

if sys.argv[2] == "warm":
    modelslab_llm.warm_up()
    loaded = set(sys.modules)
else:
    sys.meta_path.insert(0, Looking())
first_calls(url)
if sys.argv[2] == "warm":
    found = sorted(set(sys.modules) - loaded)
print(found)
"""


@pytest.mark.parametrize("way", ["cold", "warm"])
def test_no_import_of_the_first_calls_can_be_forked_in_the_middle(way: str) -> None:
    """Nor is any left to do once the process is warm."""
    with RawServer(answer) as server:
        assert run(EVERY_IMPORT, server.url, way) == "[]\n"


PREFORK = """
from modelslab_llm import ModelsLab
modelslab_llm.warm_up()
modelslab_llm.warm_up(certificates=False)
assert threading.active_count() == 1
client = ModelsLab(base_url=url, api_key="k", timeout=5)
asked = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}])
children = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        signal.alarm(10)
        os._exit(client.messages.create(**asked).text != "Tamar")
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
print("all well")
"""


def test_a_server_that_forks_its_workers() -> None:
    with RawServer(answer) as server:
        assert run(PREFORK, server.url) == "all well\n"
        assert len(server.connections) == 3


WHILE_SPENT = """
from modelslab_llm.prices import Budget
from modelslab_llm.types import Usage
budget, over = Budget(tokens=10**9), threading.Event()

def spend():
    while not over.is_set():
        budget.add(Usage(input_tokens=1), "m")

threads = [threading.Thread(target=spend) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(200):
    if (pid := os.fork()) == 0:
        signal.alarm(5)
        budget.add(Usage(input_tokens=1), "m")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child hangs"
over.set()
print("all well")
"""


def test_a_fork_while_a_budget_is_spent() -> None:
    assert run(WHILE_SPENT, "") == "all well\n"
