"""Prove the queue of a client over real sockets, from threads, asyncio and trio.

The servers are those of the simulation; what is decided is proven on virtual time in
`protocol/test_flow.py`. Here: nobody is lost or waits for ever, and whoever waits is woken.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf as INFINITY
from random import Random
from typing import Any

import anyio
import pytest
from patience import until
from variants import Async, Sync, SyncClient

from benchmarks.flow_server import LimitedServer
from benchmarks.flow_simulation import Queue, Quota, Server, always, uniform
from modelslab_llm import AsyncModelsLab, ModelsLab, Observer
from modelslab_llm._http.line import Line, PlaceInLine
from modelslab_llm._protocol.flow import Gate, Ticket
from modelslab_llm._protocol.line import LineRules
from modelslab_llm.errors import (
    APIError,
    APITimeoutError,
    ConfigurationError,
    InternalServerError,
    OverloadedError,
    RateLimitError,
)

pytestmark = pytest.mark.slow

Json = dict[str, Any]
KEY = "test-key-0000"
RULES = LineRules(
    flow_control=True, max_concurrency=None, max_queue_wait=None, max_retries=2, max_retry_wait=60
)
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Go"}]}


def queue(limit: int, hint: float | None = 0.2, service: float = 0.02) -> Queue:
    return Queue(Random(0), limit, hint, always(service))


def client_of(variant: Sync | Async, server: LimitedServer, **options: Any) -> Any:
    return variant.client(api_key=KEY, base_url=server.url, **options)


def at_once(calls: int, call: Callable[[], object]) -> list[BaseException | None]:
    """Make calls in as many threads; return what each failed with."""
    with ThreadPoolExecutor(calls) as threads:
        return [made.exception() for made in [threads.submit(call) for _ in range(calls)]]


def flow_of(client: Any) -> Any:
    return client.real.flow


# Nobody is lost


class Overtaken:
    """A lock that somebody else gets first, and holds for `meanwhile`."""

    def __init__(self, line: Line, meanwhile: Callable[[], object]) -> None:
        self.line, self.lock, self.meanwhile = line, line._lock, meanwhile
        line._lock = self  # type: ignore[assignment]

    def __enter__(self) -> None:
        self.line._lock = self.lock
        self.meanwhile()
        self.lock.__enter__()

    def __exit__(self, *how: object) -> None:
        self.lock.__exit__(*how)  # type: ignore[arg-type]


def test_a_call_that_another_thread_sends_while_it_returns_to_the_queue_is_sent_once() -> None:
    """It was queued while at the server, held two slots for ever, and then hung the queue."""
    line = Line(Gate())
    first, second = PlaceInLine(line, RULES), PlaceInLine(line, RULES)
    assert first.wait(None) is None
    first.answered()
    assert second.wait(None) is None
    assert second.refused(RateLimitError("later", status_code=429, retry_after=0.001)) == 0.001
    assert line.flow[1:] == (0, 1, 1)
    time.sleep(0.01)
    Overtaken(line, lambda: line.look(due=True))
    assert second.wait(None) is None
    assert line.flow[1:] == (1, 0, 1)
    second.answered()
    assert line.flow[1:] == (0, 0, 1)


def test_a_call_that_is_sent_while_it_looks_at_its_ticket_is_not_refused() -> None:
    class Changing(Ticket):
        """Waits at the first look, and was sent at the second."""

        looks = 0

        @property
        def state(self) -> Any:
            self.looks += 1
            return "waiting" if self.looks == 1 else "sent"

        @state.setter
        def state(self, state: str) -> None: ...

    place = PlaceInLine(Line(Gate()), RULES)
    place.ticket = Changing(1, 0.0, INFINITY, 2, 60.0, None)
    assert place._end() is None
    assert place._end() == "sent"


@pytest.mark.parametrize("hint", [0.2, 30.0, None])
def test_a_hundred_calls_at_a_queue_of_five(variant: Sync | Async, hint: float | None) -> None:
    with LimitedServer(queue(5, hint)) as server:
        client = client_of(variant, server)
        failures = at_once(100, lambda: client.create(**ASK))
        assert failures == [None] * 100
        assert server.answered == 100
        assert server.most_inside <= 5
        assert server.refused < 100, "each alone they were refused some twenty times as often"
        flow = flow_of(client)
        assert (flow.in_flight, flow.waiting, flow.refused) == (0, 0, server.refused)
        assert flow.limit is not None
        client.close()


def test_a_server_that_is_overloaded_and_says_so_inside_its_streams(variant: Sync | Async) -> None:
    limits = queue(3, None)
    with LimitedServer(limits, status=529, refuses_in_stream=True) as server:
        client = client_of(variant, server)

        def stream() -> None:
            with client.stream(**ASK) as opened:
                assert opened.text() == "Hello."

        assert at_once(30, stream) == [None] * 30
        assert server.refused > 0
        assert flow_of(client).refused == server.refused
        client.close()


def test_threads_and_both_event_loops_wait_in_the_queue_of_one_account() -> None:
    with LimitedServer(Queue(Random(0), 6, 0.1, uniform(0.01, 0.03))) as server:
        sync = ModelsLab(KEY, base_url=server.url)
        shared = AsyncModelsLab(KEY, base_url=server.url)
        messages = list[str]()

        async def ask(_: int) -> None:
            messages.append((await shared.messages.create(**ASK)).text)

        async def many() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(25):
                    tasks.start_soon(ask, number)

        def threads() -> None:
            assert at_once(25, lambda: sync.messages.create(**ASK)) == [None] * 25

        jobs = [
            threading.Thread(target=threads),
            *(threading.Thread(target=anyio.run, args=(many,)) for _ in range(2)),
            threading.Thread(target=anyio.run, args=(many,), kwargs={"backend": "trio"}),
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert messages == ["Hello."] * 75
        assert server.answered == 100
        assert shared.flow[1:3] == sync.flow[1:3] == (0, 0)
        sync.close()
        anyio.run(shared.close)


# Streams


def test_a_stream_holds_its_place_until_it_is_closed(variant: Sync | Async) -> None:
    with LimitedServer(queue(9, service=30.0)) as server:
        client = client_of(variant, server, max_concurrency=1)
        with client.stream(**ASK), ThreadPoolExecutor(1) as threads:
            waits = threads.submit(client.with_options(max_queue_wait=0.3).create, **ASK)
            until(lambda: flow_of(client).waiting == 1)
            assert flow_of(client).in_flight == 1
            with pytest.raises(APITimeoutError, match=r"above max_queue_wait, 0\.3 s") as caught:
                waits.result()
            assert caught.value.phase == "queue"
            assert caught.value.attempts == 0
            assert caught.value.waited > 0
            assert "s in the queue" in str(caught.value)
            assert len(server.asked) == 1
        assert flow_of(client)[1:3] == (0, 0)
        client.close()


def test_a_stream_that_is_read_to_its_end_lets_the_next_one_go(variant: Sync | Async) -> None:
    with LimitedServer(queue(9, service=0.01)) as server:
        client = client_of(variant, server, max_concurrency=1)
        for _ in range(3):
            with client.stream(**ASK) as stream:
                stream.message()
                assert flow_of(client).in_flight == 0
        client.close()


def test_an_unreferenced_stream_frees_its_slot() -> None:
    with (
        LimitedServer(queue(9, service=30.0)) as server,
        ModelsLab(KEY, base_url=server.url, max_concurrency=1) as client,
    ):
        stream = client.messages.stream(**ASK)
        next(stream)
        assert client.flow.in_flight == 1
        del stream
        gc.collect()
        assert client.flow.in_flight == 0


def ask_inside(client: ModelsLab) -> None:
    with client.messages.stream(**ASK) as outer:
        with client.messages.stream(**ASK) as inner:
            assert client.messages.create(**ASK).text == "Hello."
            inner.close()
        outer.close()


async def ask_inside_async(client: AsyncModelsLab) -> None:
    async with client, client.messages.stream(**ASK) as outer:
        async with client.messages.stream(**ASK) as inner:
            assert (await client.messages.create(**ASK)).text == "Hello."
            # In tasks of its own, one after the other: they are inside the stream too.
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(lambda: client.messages.create(**ASK))
            await inner.close()
        await outer.close()


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_call_inside_a_stream_does_not_wait_for_it(backend: str) -> None:
    with LimitedServer(queue(9, service=0.05)) as server:
        if backend == "sync":
            with ModelsLab(KEY, base_url=server.url, max_concurrency=1) as client:
                ask_inside(client)
        else:
            shared = AsyncModelsLab(KEY, base_url=server.url, max_concurrency=1)
            anyio.run(ask_inside_async, shared, backend=backend)


def test_a_call_that_its_own_stream_keeps_out_says_so() -> None:
    with (
        LimitedServer(queue(1, hint=0.05, service=30.0)) as server,
        ModelsLab(KEY, base_url=server.url) as client,
    ):
        with client.messages.stream(**ASK):
            with pytest.raises(RateLimitError, match="an open stream of the same task") as caught:
                client.messages.create(**ASK)
        assert caught.value.attempts == 3
        assert client.flow[1:3] == (0, 0)


# Who stops waiting


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_call_leaves_the_line(backend: str) -> None:
    async def main() -> None:
        async with AsyncModelsLab(KEY, base_url=server.url, max_concurrency=1) as client:
            async with client.messages.stream(**ASK):
                pass
            started = anyio.Event()

            async def hold() -> None:
                async with client.messages.stream(**ASK) as stream:
                    started.set()
                    await anyio.sleep(0.3)
                    await stream.close()

            async def ask() -> None:
                assert (await client.messages.create(**ASK)).text == "Hello."

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold)
                await started.wait()
                async with anyio.create_task_group() as given_up:
                    for _ in range(3):
                        given_up.start_soon(ask)
                    while client.flow.waiting < 3:
                        await anyio.sleep(0.005)
                    given_up.cancel_scope.cancel()
                assert client.flow[1:3] == (1, 0)
                tasks.start_soon(ask)  # and it is not forgotten behind them
            assert client.flow[1:3] == (0, 0)

    with LimitedServer(queue(9, service=0.4)) as server:
        anyio.run(main, backend=backend)


def test_the_deadline_ends_waiting(variant: Sync | Async) -> None:
    with LimitedServer(queue(9, service=30.0)) as server:
        client = client_of(variant, server, max_concurrency=1)
        with client.stream(**ASK), ThreadPoolExecutor(1) as threads:
            waits = threads.submit(client.with_options(deadline=0.2).create, **ASK)
            with pytest.raises(APITimeoutError, match=r"deadline of 0\.2 s") as caught:
                waits.result()
        assert caught.value.phase == "deadline"
        assert caught.value.waited >= 0.1
        client.close()


def test_closing_the_client_ends_waiting(variant: Sync | Async) -> None:
    with LimitedServer(queue(9, service=30.0)) as server:
        client = client_of(variant, server, max_concurrency=1)
        with client.stream(**ASK), ThreadPoolExecutor(3) as threads:
            waiting = [threads.submit(client.create, **ASK) for _ in range(3)]
            until(lambda: flow_of(client).waiting == 3)
            client.close()
            for call in waiting:
                with pytest.raises(ConfigurationError, match="closed"):
                    call.result()
        assert len(server.asked) == 1


def test_a_spent_quota_fails_all_waiting_calls(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 0.05)) as server:
        client = client_of(variant, server)
        failures = at_once(40, lambda: client.create(**ASK))
        assert {type(failure) for failure in failures} == {RateLimitError}
        assert server.refused <= 40
        unsent = [str(failure) for failure in failures if not _api(failure).attempts]
        assert unsent
        assert all(
            "not sent: the server has accepted no request since this client was created" in text
            for text in unsent
        )
        assert all("s in the queue" in text for text in unsent)
        client.close()


def _api(failure: BaseException | None) -> APIError:
    assert isinstance(failure, APIError)
    return failure


def test_without_retries_a_call_is_sent_once_and_never_queues(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 30.0)) as server:
        client = client_of(variant, server, max_retries=0)
        for sent in (1, 2, 3):
            with pytest.raises(RateLimitError) as caught:
                client.create(**ASK)
            assert len(server.asked) == sent
            assert caught.value.attempts == 1
        client.close()


def test_a_lone_call_obeys_no_hint_above_max_retry_wait(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 61.0)) as server:
        client = client_of(variant, server)
        with pytest.raises(RateLimitError, match="the wait is above max_retry_wait, 60 s"):
            client.create(**ASK)
        assert len(server.asked) == 1
        client.close()


def test_a_lone_call_whose_deadline_is_before_the_hint_fails_at_once(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 30.0)) as server:
        client = client_of(variant, server, deadline=20.0)
        with pytest.raises(RateLimitError) as caught:
            client.create(**ASK)
        assert caught.value.attempts == 1
        client.close()


def test_a_server_that_is_down_is_not_asked_three_times_by_everybody() -> None:
    with LimitedServer(Quota(Random(0), 0, None), status=500) as server:
        client = ModelsLab(KEY, base_url=server.url)
        with ThreadPoolExecutor(60) as threads:
            calls = [threads.submit(client.messages.create, **ASK) for _ in range(300)]
            failures = [call.exception() for call in calls]
        assert {type(failure) for failure in failures} == {InternalServerError}
        assert 300 <= len(server.asked) <= 400
        assert any("too many calls of this client fail" in str(failure) for failure in failures)
        client.close()


# One gate a client, its copies, its accounts, its processes


def test_copies_share_the_line_unless_they_are_another_account(variant: Sync | Async) -> None:
    with LimitedServer(queue(9, service=30.0)) as server:
        client = client_of(variant, server, max_concurrency=1)
        copy = client.with_options(timeout=50)
        other = client.with_options(default_headers={"x-api-key": "another-key-11"})
        own = client.with_options(max_concurrency=2)
        with client.stream(**ASK):
            assert flow_of(copy) == flow_of(client) == (1, 1, 0, 0)
            assert flow_of(other) == (1, 0, 0, 0)
            assert flow_of(own) == (2, 0, 0, 0)
            with other.stream(**ASK):
                assert flow_of(other).in_flight == 1
                assert flow_of(client).in_flight == 1
        client.close()


FORKING = """
import os, sys
from modelslab_llm import ModelsLab
ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Go"}]}
client = ModelsLab("test-key-0000", base_url=sys.argv[1], max_concurrency=1)
client.messages.create(**ask)
stream = client.messages.stream(**ask)
next(stream)
# The child inherits a line that is full, and a lock that is held.
(line,) = client._config.lines._lines.values()
line._lock.acquire()
if pid := os.fork():
    line._lock.release()
    _, status = os.waitpid(pid, 0)
    assert client.flow[1:3] == (1, 0)
    stream.close()
    assert client.messages.create(**ask).text == "Hello."
    sys.exit(os.waitstatus_to_exitcode(status))
assert client.flow == (1, 0, 0, 0)
assert client.messages.create(**ask).text == "Hello."
stream.close()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_line_of_its_own() -> None:
    with LimitedServer(queue(9, service=0.3)) as server:
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", FORKING, server.url],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_without_flow_control_each_call_is_alone(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 0.01)) as server:
        client = client_of(variant, server, flow_control=False)
        assert {type(failure) for failure in at_once(5, lambda: client.create(**ASK))} == {
            RateLimitError
        }
        assert len(server.asked) == 15
        assert flow_of(client) == (None, 0, 0, 0)
        client.close()


def test_a_cap_alone_leaves_refusals_to_each_call(variant: Sync | Async) -> None:
    with LimitedServer(Quota(Random(0), 0, 0.01)) as server:
        client = client_of(variant, server, flow_control=False, max_concurrency=2)
        assert {type(failure) for failure in at_once(5, lambda: client.create(**ASK))} == {
            RateLimitError
        }
        assert len(server.asked) == 15
        assert flow_of(client) == (2, 0, 0, 0)
        client.close()


def test_a_cap_holds_without_flow_control(variant: Sync | Async) -> None:
    with LimitedServer(Server(Random(0))) as server:
        server.limits.service = always(0.01)
        client = client_of(variant, server, flow_control=False, max_concurrency=3)
        assert at_once(30, lambda: client.create(**ASK)) == [None] * 30
        assert server.most_inside <= 3
        client.close()


# What is told


def test_the_log_and_observers_say_how_long_a_call_waited_in_the_queue(
    variant: Sync | Async, caplog: pytest.LogCaptureFixture
) -> None:
    seen = list[tuple[str, object]]()

    class Seen(Observer):
        def on_attempt_start(self, call: Any, number: int) -> None:
            seen.append(("start", number))

        def on_attempt_end(self, call: Any, attempt: Any) -> None:
            seen.append((type(attempt.error).__name__, attempt.number))

        def on_retry(self, call: Any, retry: Any) -> None:
            seen.append(("retry", retry.number))

        def on_end(self, call: Any, end: Any) -> None:
            seen.append((end.outcome, end.attempts))

    with LimitedServer(queue(1, hint=0.05), status=529) as server:
        client = client_of(variant, server, observers=[Seen()])
        with caplog.at_level(logging.DEBUG, "modelslab_llm"):
            assert at_once(6, lambda: client.create(**ASK)) == [None] * 6
        client.close()
    assert [outcome for outcome, _ in seen].count("complete") == 6
    assert ("OverloadedError", 1) in seen
    assert ("retry", 2) in seen
    starts = [number for word, number in seen if word == "start"]
    assert len(starts) == len(server.asked), "reported when it is sent, not when it joins the queue"
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("refused, back in the queue (limit ") for line in lines)
    assert any(re.match(r"waited 0\.\d\d s in the queue \(limit ", line) for line in lines)
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_concurrency": 0}, "max_concurrency must be a whole number, at least 1, not 0"),
        ({"max_concurrency": True}, "max_concurrency must be a whole number"),
        ({"max_queue_wait": 0}, "max_queue_wait must be above 0 seconds"),
        ({"flow_control": "yes"}, "flow_control must be True or False, not 'yes'"),
    ],
)
def test_options_that_cannot_be(options: Json, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ModelsLab(KEY, **options)


def test_a_refusal_of_somebody_else_is_not_shared_with_whoever_never_was_sent() -> None:
    """Each caller gets its own error object."""
    with LimitedServer(Quota(Random(0), 0, 0.02)) as server:
        client = SyncClient(ModelsLab(KEY, base_url=server.url))
        failures = at_once(30, lambda: client.create(**ASK))
        assert len({id(failure) for failure in failures}) == 30
        assert all(isinstance(failure, (RateLimitError, OverloadedError)) for failure in failures)
        client.close()
