"""The pool: driven directly, by a state machine of hypothesis, and on real connections.

However calls take and give, are cancelled or dropped, the server closes, time passes or the process
forks: never two calls on one connection, never a place that is lost, never more than the limit.
"""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from raw_server import (
    ASK,
    MESSAGE,
    Connection,
    Gone,
    RawServer,
    reply,
)

from modelslab_llm import DefaultHttpxClient, ModelsLab, Timeout
from modelslab_llm._http import pool as pool_module
from modelslab_llm._http.pool import SWEEP, Pool, PoolClosedError, Waiter


class One:
    """A connection as the pool sees it."""

    def __init__(self, route: str, key: int) -> None:
        self.route = route
        self.key = key
        self.idle_since = 0.0
        self.is_clean = True

    def __repr__(self) -> str:
        return f"{self.route}{self.key}"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(pool_module, "time", found)
    return found


def make(**limits: Any) -> Pool[str, One]:
    return Pool(One, **limits)


def taken(pool: Pool[str, One], route: str = "a", **how: Any) -> One:
    found = pool.take(route, **how)
    assert found is not None
    return found


# By hand


def test_the_one_used_last_is_taken_first(clock: Clock) -> None:
    pool = make()
    first, second = taken(pool), taken(pool)
    pool.give(first)
    pool.give(second)
    assert pool.take("a") is second
    assert pool.take("a") is first
    assert pool.take("a") not in (first, second)


def test_no_more_than_the_most_and_then_none(clock: Clock) -> None:
    pool = make(most=2)
    held = [taken(pool, "a"), taken(pool, "b")]
    assert pool.take("a") is None
    pool.give(held.pop())
    assert pool.take("a") is not None  # b's had to go, as none was free
    assert [gone.route for gone in pool.gone] == ["b"]


def test_one_that_is_not_clean_is_let_go(clock: Clock) -> None:
    pool = make(most=1)
    one = taken(pool)
    one.is_clean = False
    pool.give(one)
    assert list(pool.gone) == [one]
    assert pool.take("a") is not one


def test_a_new_one_where_that_is_wanted(clock: Clock) -> None:
    pool = make(most=1)
    one = taken(pool)
    pool.give(one)
    assert pool.take("a", new=True) is not one
    assert list(pool.gone) == [one]


def test_a_connection_that_is_dropped_frees_its_place_at_once(clock: Clock) -> None:
    pool = make(most=1)
    one: One | None = taken(pool)
    assert pool.take("a") is None
    del one
    assert pool.take("a") is not None


def test_one_that_is_left_in_a_circle_frees_its_place_once_it_is_garbage(clock: Clock) -> None:
    pool = make(most=1)
    circle: list[Any] = [taken(pool)]
    circle.append(circle)
    del circle
    gc.collect()
    assert pool.take("a") is not None


def test_first_come_first_served(clock: Clock) -> None:
    pool = make(most=1)
    only = taken(pool)
    rung: list[int] = []
    waiters = [pool.queue(lambda number=number: rung.append(number)) for number in range(3)]
    for number, waiter in enumerate(waiters):
        pool.give(only)
        assert rung[-1] == number
        assert pool.take("a") is None  # nobody gets past those who wait
        assert all(pool.take("a", later) is None for later in waiters[number + 1 :])
        only = taken(pool, waiter=waiter)
    pool.give(only)
    assert pool.take("a") is only


def test_who_leaves_the_line_passes_the_word_on(clock: Clock) -> None:
    pool = make(most=1)
    only = taken(pool)
    rung: list[str] = []
    first = pool.queue(lambda: rung.append("first"))
    second = pool.queue(lambda: rung.append("second"))
    pool.give(only)
    pool.leave(first)
    assert rung == ["first", "second"]
    assert pool.take("a", second) is only


def test_who_is_gone_from_the_line_without_a_word_stands_in_nobodys_way(clock: Clock) -> None:
    pool = make(most=1)
    only = taken(pool)
    first: Waiter | None = pool.queue(lambda: None)
    second = pool.queue(lambda: None)
    assert first is not None
    del first
    pool.give(only)
    assert pool.take("a", second) is only


def test_two_slots_serve_two_waiting_callers(clock: Clock) -> None:
    pool = make(most=2)
    held = [taken(pool), taken(pool)]
    rung: list[str] = []
    first = pool.queue(lambda: rung.append("first"))
    second = pool.queue(lambda: rung.append("second"))
    for one in held:
        pool.give(one)
    taken(pool, waiter=first)
    assert rung[-1] == "second"
    taken(pool, waiter=second)


def test_what_was_idle_for_too_long_is_let_go(clock: Clock) -> None:
    pool = make(expiry=30)
    first, second = taken(pool), taken(pool)
    pool.give(first)
    clock.now += 29
    pool.give(second)
    assert not pool.gone
    clock.now += 2
    assert pool.take("a") is second
    assert pool.take("a") not in (first, second)
    assert list(pool.gone) == [first]


def test_looks_for_idle_ones_are_rare(clock: Clock) -> None:
    pool = make(expiry=0)
    ones = [taken(pool) for _ in range(3)]
    pool.give(ones[0])
    clock.now += SWEEP / 2
    pool.give(ones[1])
    assert not pool.gone
    clock.now += SWEEP / 2
    pool.give(ones[2])
    assert list(pool.gone) == ones[:2]


def test_no_more_idle_ones_than_may_be_kept(clock: Clock) -> None:
    pool = make(most_idle=2)
    ones = [taken(pool) for _ in range(5)]
    for one in ones:
        clock.now += SWEEP / 100
        pool.give(one)
    assert list(pool.gone) == ones[:3]  # idle for longest, and at once


def test_a_closed_pool(clock: Clock) -> None:
    pool = make(most=2)
    used, idle = taken(pool), taken(pool)
    pool.give(idle)
    rung: list[str] = []
    waiter = pool.queue(lambda: rung.append("rung"))
    assert pool.close() == [used]
    assert rung == ["rung"]
    assert list(pool.gone) == [idle]
    for how in ({}, {"waiter": waiter}, {"new": True}):
        with pytest.raises(PoolClosedError):
            pool.take("a", **how)
    pool.give(used)
    assert list(pool.gone) == [idle, used]
    pool.gone.clear()
    assert pool.is_empty


def test_one_of_another_pool_is_let_go_of_and_costs_nobody_a_place(clock: Clock) -> None:
    """As after a fork, when a call that the parent made ends in the child."""
    before, after = make(most=1), make(most=1)
    theirs, ours = taken(before), taken(after)
    after.give(theirs)
    assert after.take("a") is None  # ours still is in its place
    after.give(ours)
    assert after.take("a") is ours


def test_a_place_cannot_be_had_twice_in_the_middle_of_taking_it(clock: Clock) -> None:
    """A signal's handler, or the garbage collector, may use the pool inside of itself."""
    nested: list[One | None] = []

    def made(route: str, key: int) -> One:
        if not nested:
            nested.append(None)
            nested[0] = pool.take("a")
        return One(route, key)

    pool: Pool[str, One] = Pool(made, most=1)
    outer = pool.take("a")
    assert [outer, nested[0]].count(None) == 1


def test_a_connection_that_cannot_be_made_takes_no_place(clock: Clock) -> None:
    def fail(route: str, key: int) -> One:
        raise OSError("no memory")

    pool = make(most=1)
    pool._make = fail
    with pytest.raises(OSError, match="memory"):
        pool.take("a")
    pool._make = One
    assert pool.take("a") is not None


def test_threads_never_have_more_than_the_limit() -> None:
    pool = make(most=3)
    lock = threading.Lock()
    held: set[int] = set()
    faults: list[str] = []

    def work() -> None:
        for turn in range(300):
            one = pool.take("ab"[turn % 2])
            if one is None:
                continue
            with lock:
                if one.key in held or len(held) >= 3:
                    faults.append(f"{one} and {held}")
                held.add(one.key)
            with lock:
                held.remove(one.key)
            one.is_clean = turn % 5 != 0
            if turn % 3:
                pool.give(one)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    ones = [pool.take("a") for _ in range(4)]
    assert [one is None for one in ones] == [False, False, False, True]


# By a machine


class PoolMachine(RuleBasedStateMachine):
    """Use a pool at random, and know beside it what must be true."""

    MOST = 3

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.before = pool_module.time
        pool_module.time = self.clock  # type: ignore[assignment]
        self.start()

    def start(self) -> None:
        self.pool = make(most=self.MOST, most_idle=2, expiry=30)
        self.mine: dict[int, One] = {}
        """What somebody uses, by key."""
        self.closed = False
        self.line: list[tuple[Waiter, list[bool]]] = []

    def teardown(self) -> None:
        pool_module.time = self.before

    def got(self, one: One | None) -> One | None:
        if one is not None:
            assert one.key not in self.mine, "two calls on one connection"
            assert one.is_clean, "a connection in a broken state"
            assert self.clock.now - one.idle_since <= 30 or one.idle_since == 0, "an expired one"
            self.mine[one.key] = one
        return one

    @rule(route=st.sampled_from("ab"), new=st.booleans())
    def take(self, route: str, new: bool) -> None:
        if self.closed:
            with pytest.raises(PoolClosedError):
                self.pool.take(route, new=new)
            return
        in_use = len(self.mine)
        one = self.got(self.pool.take(route, new=new))
        if self.line:
            assert one is None, "somebody got past those who wait"
        else:
            assert (one is not None) == (in_use < self.MOST), "a place is lost, or one too many"

    @precondition(lambda self: self.mine)
    @rule(data=st.data(), clean=st.booleans())
    def give(self, data: st.DataObject, clean: bool) -> None:
        one = self.mine.pop(data.draw(st.sampled_from(sorted(self.mine))))
        one.is_clean = clean
        self.pool.give(one)
        if not clean:
            assert one in self.pool.gone, "a broken connection was kept"

    @precondition(lambda self: self.mine)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """An exception lets go of it wherever the call is."""
        del self.mine[data.draw(st.sampled_from(sorted(self.mine)))]

    @precondition(lambda self: not self.closed)
    @rule()
    def queue(self) -> None:
        rung: list[bool] = []
        self.line.append((self.pool.queue(lambda: rung.append(True)), rung))

    @precondition(lambda self: self.line)
    @rule(route=st.sampled_from("ab"))
    def first_in_line_asks(self, route: str) -> None:
        waiter, _ = self.line[0]
        if self.closed:
            with pytest.raises(PoolClosedError):
                self.pool.take(route, waiter)
            return
        in_use = len(self.mine)
        one = self.got(self.pool.take(route, waiter))
        assert (one is not None) == (in_use < self.MOST), "a place is lost, or one too many"
        if one is not None:
            self.line.pop(0)

    @precondition(lambda self: self.line)
    @rule(data=st.data(), says_so=st.booleans())
    def leave(self, data: st.DataObject, says_so: bool) -> None:
        """Cancelled, or timed out; or dropped by an exception, without a word."""
        waiter, _ = self.line.pop(data.draw(st.integers(0, len(self.line) - 1)))
        if says_so:
            self.pool.leave(waiter)

    @rule(seconds=st.sampled_from([0.1, 2, 31]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def somebody_tidies(self) -> None:
        self.pool.gone.clear()

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        in_use = self.pool.close()
        self.closed = True
        assert {one.key for one in in_use} == self.mine.keys()
        assert all(rung for _, rung in self.line), "somebody who waits was not told"

    @rule()
    def fork(self) -> None:
        """In the child all is new; what calls of the parent hold is let go of when they end."""
        theirs = list(self.mine.values())
        self.start()
        for one in theirs:
            self.pool.give(one)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        live = self.pool.everything()
        assert len(live) <= self.MOST
        if not self.closed:
            assert self.mine.keys() <= {one.key for one in live}
        idle = [one for one in live if one.key not in self.mine]
        assert all(one.is_clean for one in idle)
        if self.closed:
            assert idle == []


TestPoolMachine = pytest.mark.slow(PoolMachine.TestCase)
TestPoolMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# On real connections


class Scripted:
    """A server whose every answer is decided by the test, request by request."""

    def __init__(self) -> None:
        self.how = "well"

    def __call__(self, connection: Connection) -> None:
        text = connection.body["messages"][0]["content"]
        whole = reply(200, {**MESSAGE, "content": [{"type": "text", "text": text}]})
        if self.how == "well":
            connection.send(whole)
        elif self.how == "surplus":
            connection.send(whole + reply(200, MESSAGE))
        elif self.how == "then closes":
            connection.send(whole)
            connection.close()
        elif self.how == "closes":
            connection.close()
        elif self.how == "half":
            connection.send(whole[:-9])
            connection.close()
        else:  # waits for the client to leave
            connection.send(whole[:-9])
            try:
                connection.until_left()
            except Gone:
                connection.close()


class RealMachine(RuleBasedStateMachine):
    """Make real calls at random; whatever happened before, each gets its own answer."""

    MOST = 2

    @initialize()
    def begin(self) -> None:
        self.opened = ExitStack()
        self.script = Scripted()
        self.server = self.opened.enter_context(RawServer(self.script))
        self.numbers = iter(range(1_000_000))
        self.start()

    def start(self) -> None:
        limits = httpx.Limits(max_connections=self.MOST)
        self.http = self.opened.enter_context(DefaultHttpxClient(limits=limits))
        self.client = ModelsLab(
            base_url=self.server.url,
            api_key="k" * 9,
            http_client=self.http,
            max_retries=0,
            timeout=Timeout(pool=5, read=20),
        )

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            self.opened.close()

    @rule(how=st.sampled_from(["well", "surplus", "then closes"]))
    def call(self, how: str) -> None:
        self.script.how = how
        text = f"call {next(self.numbers)}"
        ask = {**ASK, "messages": [{"role": "user", "content": text}]}
        assert self.client.messages.create(**ask).text == text

    @rule(how=st.sampled_from(["half", "closes"]))
    def call_that_fails(self, how: str) -> None:
        self.script.how = how
        with pytest.raises(Exception, match="broke during"):
            self.client.messages.create(**ASK)

    @rule()
    def call_that_times_out(self) -> None:
        self.script.how = "waits"
        hasty = self.client.with_options(deadline=0.02)
        with pytest.raises(Exception, match="deadline"):
            hasty.messages.create(**ASK)

    @rule()
    def both_places_at_once(self) -> None:
        self.script.how = "well"
        network = self.http.network
        assert network is not None
        route = network.route("http", "127.0.0.1", self.server.port)
        pool = network._connections
        ones = [pool.take(route) for _ in range(self.MOST)]
        assert None not in ones, "a place is lost"
        assert pool.take(route) is None
        for one in ones:
            assert one is not None
            pool.give(one)

    @rule()
    def fork(self) -> None:
        assert self.http.network is not None
        self.http.network.forget()

    @rule()
    def close(self) -> None:
        self.http.close()
        self.start()

    @invariant()
    def never_more_than_the_limit(self) -> None:
        if hasattr(self, "http") and self.http.network is not None:
            live = self.http.network._connections.everything()
            assert len(live) <= self.MOST
            assert all(one.is_clean for one in live)  # no call is under way


TestRealMachine = RealMachine.TestCase
TestRealMachine.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
