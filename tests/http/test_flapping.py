"""Prove that a server that fails three times in ten loses and doubles nothing a caller can see.

Each of many calls carries a number and its answer has to bring that number back, once. Every fault
is counted where it is made, and the tries that a client reports must be those the server saw.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from raw_server import (
    ASK,
    END,
    MESSAGE,
    OPEN,
    SHUT,
    START,
    STOP,
    STREAM_HEAD,
    Connection,
    RawServer,
    chunk,
    error_event,
    failure,
    reply,
    stream,
    text_delta,
)

from modelslab_llm import APIError, AsyncModelsLab, ModelsLab, Observer
from modelslab_llm.observers import ObservedCall, RetryPlan

pytestmark = pytest.mark.slow

CALLS = 1000
SHARE = 0.3
AT_ONCE = 20
RETRIES = 12  # three in ten to the thirteenth is nothing: no call runs out of them


class Flapping:
    """A server that fails at random, of a fixed seed, in every way that may be tried again."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(20240229)
        self.faults: Counter[str] = Counter()
        self.tries: Counter[int] = Counter()
        """By the number of a call: how often it was asked."""
        self.died = 0
        """Connections that were used before and ended without a byte: asked again, uncounted."""

    def choose(self, number: int, streams: bool, used_before: bool) -> str:
        kinds = ["503", "429", "close", "reset", "cut"] + ["error event"] * streams
        with self.lock:
            kind = self.random.choice(kinds) if self.random.random() < SHARE else "well"
            self.faults[kind] += 1
            dies = used_before and kind in ("close", "reset")
            self.died += dies
            self.tries[number] += not dies
        return kind

    def __call__(self, connection: Connection) -> None:
        body = connection.body
        number, streams = int(body["messages"][0]["content"]), bool(body.get("stream"))
        kind = self.choose(number, streams, len(connection.requests) > 1)
        if kind in ("503", "429"):
            connection.send(failure(int(kind)))
        elif kind == "close":
            connection.close()
        elif kind == "reset":
            connection.reset()
        elif kind == "cut":  # before the content, or a retry could repeat some of it
            connection.send(STREAM_HEAD + chunk(START) if streams else reply(200, MESSAGE)[:-9])
            connection.close()
        elif kind == "error event":
            connection.send(stream(START, OPEN, error_event()))
        elif streams:
            connection.send(stream(START, OPEN, text_delta(str(number)), SHUT, END, STOP))
        else:
            content = [{"type": "text", "text": str(number)}]
            connection.send(reply(200, {**MESSAGE, "content": content}))


def asked(number: int) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": str(number)}]}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 0.0005)
    monkeypatch.setattr("modelslab_llm._protocol.retry.LONGEST", 0.002)
    monkeypatch.setattr("modelslab_llm._protocol.allowance.BACKOFF", 0.0005)
    monkeypatch.setattr("modelslab_llm._protocol.allowance.LONGEST_BACKOFF", 0.002)


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    """Let threads interrupt each other at any step, so that a missing lock shows at once."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Retries(Observer):
    """Counts what the package says it repeats."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        with self._lock:
            self.count += 1


@pytest.fixture
def retries() -> Retries:
    return Retries()


def check(flapping: Flapping, answers: dict[int, str], retries: Retries, calls: int) -> None:
    assert answers == {number: str(number) for number in range(calls)}
    assert flapping.tries.keys() == answers.keys()
    assert flapping.faults["well"] == calls  # each call succeeded once, and never again
    total = flapping.faults.total()
    assert retries.count == total - calls - flapping.died  # what the client says it repeated
    assert flapping.died > 5
    assert 0.24 < 1 - calls / total < 0.36
    assert min(flapping.faults.values()) > 5


def test_a_thousand_calls_from_threads(retries: Retries) -> None:
    flapping = Flapping()
    answers: dict[int, str] = {}

    def call(number: int) -> None:
        if number % 2:
            text = client.messages.create(**asked(number)).text
        else:
            with client.messages.stream(**asked(number)) as streamed:
                text = "".join(streamed.text_stream)
        assert number not in answers
        answers[number] = text

    with (
        RawServer(flapping) as server,
        ModelsLab(
            base_url=server.url, api_key="k", max_retries=RETRIES, observers=[retries]
        ) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        list(threads.map(call, range(CALLS)))
        assert (client.flow.in_flight, client.flow.waiting) == (0, 0)
    check(flapping, answers, retries, CALLS)


@pytest.mark.parametrize(("backend", "calls"), [("asyncio", CALLS), ("trio", CALLS // 2)])
def test_a_thousand_calls_from_tasks(retries: Retries, backend: str, calls: int) -> None:
    flapping = Flapping()
    answers: dict[int, str] = {}

    async def main() -> None:
        numbers = iter(range(calls))

        async def work() -> None:
            for number in numbers:
                if number % 2:
                    text = (await client.messages.create(**asked(number))).text
                else:
                    async with client.messages.stream(**asked(number)) as streamed:
                        text = "".join([part async for part in streamed.text_stream])
                assert number not in answers
                answers[number] = text

        async with (
            AsyncModelsLab(
                base_url=server.url, api_key="k", max_retries=RETRIES, observers=[retries]
            ) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(AT_ONCE):
                tasks.start_soon(work)
        assert (client.flow.in_flight, client.flow.waiting) == (0, 0)

    with RawServer(flapping) as server:
        anyio.run(main, backend=backend)
    check(flapping, answers, retries, calls)


def test_each_error_reports_the_tries_that_the_server_saw() -> None:
    """With too few retries some calls fail, and say after how many tries."""
    flapping = Flapping()
    failed: dict[int, int] = {}

    def call(number: int) -> None:
        try:
            assert client.messages.create(**asked(number)).text == str(number)
        except APIError as error:
            failed[number] = error.attempts

    with (
        RawServer(flapping) as server,
        ModelsLab(base_url=server.url, api_key="k", max_retries=1) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        list(threads.map(call, range(300)))
    assert 0 < len(failed) < 60
    # More than two if it was refused in between: after a 429 a call waits in the queue and uses up
    # no retry.
    assert all(tries == flapping.tries[number] >= 2 for number, tries in failed.items())
    assert flapping.faults["well"] == 300 - len(failed)
