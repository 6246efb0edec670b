"""Prove that a client that is left open is closed, with one warning.

Each program runs on its own with `-X dev -W error`, where Python itself tells of every socket,
event loop and generator that was forgotten.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from raw_server import BEGUN, REPLY, SILENCE, STREAM, Connection, RawServer

pytestmark = pytest.mark.slow

LEFT_OPEN = "ResourceWarning: a client was left open: "

BEFORE = """
import anyio, asyncio, gc, sys, threading, weakref
import httpx
from modelslab_llm import *

url, backend = sys.argv[1:]
asked = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Go"}])

def made(**more):
    return ModelsLab(base_url=url, api_key="k", **more)

def amade(**more):
    return AsyncModelsLab(base_url=url, api_key="k", **more)

def run(main):
    anyio.run(main, backend=backend)

gc.freeze()  # what was imported need not be looked over again and again

def collect():
    for _ in range(3):
        gc.collect()
"""

Program = str

LEFT: dict[str, tuple[str, Program]] = {
    "dropped": ("sync", "client = made(); client.messages.create(**asked); del client; collect()"),
    "in-a-circle": (
        "sync",
        """
client = made()
client.messages.create(**asked)
client.me = client
del client
collect()
""",
    ),
    "used-by-a-copy": (
        "sync",
        """
client = made()
copy = client.with_options(max_retries=0)
del client
collect()
print("still open", flush=True)
copy.messages.create(**asked)
copy.close()  # which closes the connections of nobody
del copy
collect()
""",
    ),
    "at-the-end-of-the-program": ("sync", "client = made(); client.messages.create(**asked)"),
    "in-another-thread": (
        "sync",
        """
client = made()
def use():
    global client
    client.messages.create(**asked)
    del client
    collect()
thread = threading.Thread(target=use)
thread.start()
thread.join()
""",
    ),
    "a-client-for-a-setting": (
        "sync",
        """
client = made(http_client=DefaultHttpxClient())
client.messages.create(**asked)
client.close()
del client
collect()
""",
    ),
    "async-dropped-in-its-loop": (
        "async",
        """
async def main():
    client = amade()
    await client.messages.create(**asked)
    del client
    collect()
    await anyio.sleep(0.01)
run(main)
""",
    ),
    "async-dropped-as-its-loop-ends": (
        "async",
        """
async def main():
    client = amade()
    await client.messages.create(**asked)
    client.me = client
run(main)
collect()
""",
    ),
    "async-after-three-loops": (
        "async",
        """
client = amade()
async def main():
    await client.messages.create(**asked)
for _ in range(3):
    run(main)
    collect()
del client
collect()
""",
    ),
    "async-in-another-thread-than-its-loop": (
        "async",
        """
async def main():
    clients = [amade()]
    await clients[0].messages.create(**asked)
    def drop():
        clients.clear()
        collect()
    await anyio.to_thread.run_sync(drop)
    await anyio.sleep(0.01)
run(main)
""",
    ),
    "async-at-the-end-of-the-program": (
        "async",
        """
client = amade()
async def main():
    await client.messages.create(**asked)
run(main)
""",
    ),
}

TIDY: dict[str, tuple[str, Program]] = {
    "never-used": ("sync", "client = made(); del client; collect(); amade(); collect()"),
    "never-used-to-the-end": ("sync", "client, aclient = made(), amade()"),
    "closed": ("sync", "client = made(); client.messages.create(**asked); client.close()"),
    "closed-twice": (
        "sync",
        "client = made(); client.messages.create(**asked); client.close(); client.close()",
    ),
    "in-a-block": ("sync", "with made() as client: client.messages.create(**asked)"),
    "of-the-caller": (
        "sync",
        """
for kind in (httpx.Client, DefaultHttpxClient):
    with kind() as http:
        client = made(http_client=http)
        client.messages.create(**asked)
        del client
        collect()
""",
    ),
    "one-expression": (
        "sync",
        """
messages = made().messages
collect()
messages.create(**asked)
http = messages._http
del messages
http.close()
""",
    ),
    "a-stream-after-its-client": (
        "sync",
        """
client = made()
http = client._http
stream = client.messages.stream(**asked)
del client
collect()
assert stream.get_final_text() == "Tamar"
http.close()
""",
    ),
    "async-in-a-block": (
        "async",
        """
async def main():
    async with amade() as client:
        await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            await stream.__anext__()
run(main)
""",
    ),
    "async-closed-in-another-loop": (
        "async",
        """
client = amade()
async def main():
    await client.messages.create(**asked)
async def mixed():
    await client.messages.create(**asked)
    async with client.messages.stream(**asked) as stream:
        await stream.__anext__()
    collect()
run(main)
run(mixed)
run(client.close)
""",
    ),
    "async-of-the-caller": (
        "async",
        """
async def main():
    for kind in (httpx.AsyncClient, DefaultAsyncHttpxClient):
        async with kind() as http:
            client = amade(http_client=http)
            await client.messages.create(**asked)
            del client
            collect()
run(main)
""",
    ),
}


AT_THE_END = {"at-the-end-of-the-program", "async-at-the-end-of-the-program"}

EACH = """
import json
for name, program in json.loads(sys.stdin.read()):
    print("=====", name, file=sys.stderr, flush=True)
    exec(program, {**globals()})
    collect()
"""


def answer(connection: Connection) -> None:
    connection.send(STREAM if connection.body.get("stream") else REPLY)


def of(backend: str, cases: dict[str, tuple[str, Program]]) -> dict[str, Program]:
    wanted = "sync" if backend == "sync" else "async"
    return {name: program for name, (variant, program) in cases.items() if variant == wanted}


def outcomes(programs: dict[str, Program], server: RawServer, backend: str) -> dict[str, str]:
    """Run programs one after the other; return what each said on standard error."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", BEFORE + EACH, server.url, backend],
        input=json.dumps(list(programs.items())),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = {
        name: "".join(
            line
            for line in words.splitlines(keepends=True)
            if not line.startswith("Executing <")  # asyncio on a busy machine
        )
        for name, _, words in (
            section.partition("\n") for section in done.stderr.split("===== ")[1:]
        )
    }
    assert said.keys() == programs.keys(), done.stderr
    return said


each_backend = pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])


def assert_said_once(said: str, backend: str) -> None:
    assert said.count(LEFT_OPEN) == said.count("Warning") == 1, said
    assert ("await close()" in said) == (backend != "sync")


@each_backend
def test_a_client_left_open_says_so_once_and_is_closed(backend: str) -> None:
    programs = of(backend, LEFT)
    at_the_end = [programs.pop(name) for name in AT_THE_END & programs.keys()]
    with RawServer(answer) as server:
        for said in outcomes(programs, server, backend).values():
            assert_said_once(said, backend)
        for program in at_the_end:
            assert_said_once(outcomes({"": program}, server, backend)[""], backend)
        assert all(connection.left.wait(5) for connection in server.connections)


@each_backend
def test_a_client_that_was_closed_or_never_used_says_nothing(backend: str) -> None:
    with RawServer(answer) as server:
        said = outcomes(of(backend, TIDY), server, backend)
    assert said == dict.fromkeys(said, "")


def test_connections_are_closed_when_the_client_is_gone_and_not_only_at_the_end() -> None:
    program = """
client = made()
client.messages.create(**asked)
del client
collect()
sys.stdin.read()
"""
    with RawServer(REPLY) as server:
        running = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BEFORE + program, server.url, "sync"],
            stdin=subprocess.PIPE,
        )
        try:
            while not server.connections:
                assert running.poll() is None
            assert server.connections[0].left.wait(10)
            assert running.poll() is None
        finally:
            running.communicate(timeout=10)


def test_a_stream_and_its_client_left_together() -> None:
    program = """
client = made()
stream = client.messages.stream(**asked)
next(stream)
circle = [client, stream]
circle.append(circle)
del client, stream, circle
collect()
"""
    with RawServer([BEGUN, SILENCE]) as server:
        assert_said_once(outcomes({"": program}, server, "sync")[""], "sync")
        assert server.connections[0].left.wait(5)
