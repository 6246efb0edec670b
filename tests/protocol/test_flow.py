"""Prove flow control in virtual time: which calls go, wait or give up, and how well it performs.

The first half drives a `Gate` directly. The second runs it against simulated servers that it knows
nothing about; `python -m benchmarks.flow` prints what these came to.
"""

from __future__ import annotations

import random
from itertools import pairwise
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.flow import Row, measured, random_row, rows
from benchmarks.flow_simulation import (
    Client,
    Network,
    Pauses,
    Queue,
    Quota,
    Server,
    Share,
    always,
    exponential,
    ideal,
    simulate,
    uniform,
)
from modelslab_llm._protocol.flow import Gate, Ticket


def gate(**options: object) -> Gate:
    return Gate(random=Random(0), **options)  # type: ignore[arg-type]


def with_a_limit(limit: int, hint: float | None = None, **options: object) -> tuple[Gate, float]:
    """Return a gate that has found out that the server takes `limit` at a time, and the moment."""
    found = gate(**options)
    tickets = [found.join(0.0) for _ in range(limit + 1)]
    assert all(ticket.may_go for ticket in tickets)
    found.refused(tickets.pop(), 0.001, hint)
    now = 0.1
    while found.flow.waiting or found.flow.in_flight:
        for ticket in tickets:
            found.answered(ticket, now)
        tickets = found.look(now, due=True)
        now += 0.1
    found.answered(found.join(now + 30), now + 30)
    assert found.flow == (limit, 0, 0, found.flow.refused)
    return found, now + 60


def next_to_go(waits: Gate, until: float) -> tuple[Ticket, float]:
    """Look whenever the gate asks for it, until a ticket moves on; return it and the moment."""
    now = 0.0
    while True:
        assert waits.next_look is not None, "nothing but an event would move a ticket"
        assert now < waits.next_look <= until
        now = waits.next_look
        if moved := waits.look(now, due=True):
            assert len(moved) == 1
            return moved[0], now


# Nothing is limited until the server refuses


def test_calls_one_after_the_other_never_wait() -> None:
    free = gate()
    for n in range(1000):
        ticket = free.join(n / 100)
        assert ticket.may_go
        free.answered(ticket, n / 100 + 0.005)
    assert free.flow == (None, 0, 0, 0)


def test_a_first_burst_goes_out_within_a_quarter_of_a_second() -> None:
    free = gate()
    tickets = [free.join(0.0) for _ in range(500)]
    assert sum(ticket.may_go for ticket in tickets) == 8
    while free.next_look is not None or free.flow.waiting:
        free.look(free.next_look or 0.0, due=True)
    assert all(ticket.may_go for ticket in tickets)
    assert max(ticket.sent_at for ticket in tickets) <= 0.25
    for ticket in tickets:
        free.answered(ticket, 1.0)
    again = [free.join(2.0) for _ in range(900)]
    assert all(ticket.may_go for ticket in again), "what was proven is not proven again"


def test_the_ramp_is_paid_once_however_the_bursts_grow() -> None:
    free, now, waited = gate(), 0.0, 0.0
    for burst in (10, 25, 60, 130, 300, 700):
        tickets = [free.join(now) for _ in range(burst)]
        start = now
        free.look(now, due=True)
        while free.flow.waiting:
            assert free.next_look is not None
            now = free.next_look
            free.look(now, due=True)
        waited += now - start
        now += 5
        for ticket in tickets:
            free.answered(ticket, now)
    assert waited <= 0.25 + 1e-6


# A limit is found, and kept to


def test_the_limit_is_what_the_server_kept() -> None:
    found = gate()
    tickets = [found.join(0.0) for _ in range(8)]
    for ticket in tickets[5:]:
        found.refused(ticket, 0.001, 1.0)
    assert found.look(0.002, due=True) == []
    assert found.flow == (5, 5, 3, 3)


def test_an_answer_lets_the_first_in_line_go_at_once() -> None:
    found, now = with_a_limit(2)
    tickets = [found.join(now) for _ in range(6)]
    going = sum(ticket.may_go for ticket in tickets)
    assert going in (2, 3), "one more, if the limit is probed"
    found.answered(tickets[0], now + 0.1)
    assert found.look(now + 0.1, due=True)[0] is tickets[going]


def test_a_refused_call_goes_before_those_that_came_later() -> None:
    found = gate()
    first, second, third, *later = (found.join(0.0) for _ in range(30))
    for ticket in (second, third):
        found.refused(ticket, 0.001, None)
    now, went = 0.2, list[Ticket]()
    while len(went) < 3:
        found.answered(first if not went else went[-1], now)
        went += found.look(now, due=True)
        now += 0.2
    assert went[:2] == [second, third]
    assert went[2] in later


def test_refusals_do_not_use_up_retries() -> None:
    shut_for_a_while = Pauses(Random(0), 5, 1.0, always(0.2), since=2, until=9)
    (share,) = simulate(shut_for_a_while, [Client(200, max_retries=1)], Random(0)).shares
    assert share.lost == []
    assert share.most_refusals > 2


def test_a_hint_of_a_day_does_not_stop_a_queue() -> None:
    found, now = with_a_limit(3, hint=86400.0)
    tickets = [found.join(now) for _ in range(4)]
    found.refused(tickets[2], now + 0.001, 86400.0)
    found.answered(tickets[0], now + 0.2)
    assert found.look(now + 0.2, due=True)[0] is tickets[2]


def test_a_line_without_an_event_is_looked_at_again() -> None:
    found = gate()
    tickets = [found.join(0.0) for _ in range(3)]
    for ticket in tickets:
        found.refused(ticket, 0.01, 2.0)
    found.look(0.01, due=True)
    ticket, now = next_to_go(found, 4.0)
    assert ticket in tickets
    assert now >= 2.01


# Who gives up


def test_a_call_without_retries_is_sent_once_and_never_queues() -> None:
    found = gate()
    tickets = [found.join(0.0, max_retries=0) for _ in range(2)]
    found.refused(tickets[0], 0.001, 30.0)
    assert found.look(0.001, due=True) == [tickets[0]]
    assert (tickets[0].state, tickets[0].reason) == ("over", "refused")
    found.failed(tickets[1], 0.002)
    later = found.join(1.0, max_retries=0)
    assert later.may_go, "it waits for no hint"
    behind = found.join(1.0, max_retries=0)
    assert not behind.may_go, "but for a place"
    found.refused(later, 1.001, 30.0)
    assert found.look(1.001, due=True) == [later, behind]
    assert behind.may_go


def test_calls_without_retries_follow_the_limit_up() -> None:
    """They are never retried, so each refusal is a lost call: few are worth it."""
    limits = Queue(Random(0), [(0.0, 3), (4.0, 12)], 0.3, uniform(0.1, 0.3))
    client = Client(600, every=exponential(1 / 40), max_retries=0)
    (share,) = simulate(limits, [client], Random(0)).shares
    assert set(share.lost) <= {"refused"}
    assert share.refusals == len(share.lost) <= 0.2 * 600
    late = [moment for moment in share.answered_at if moment > 10]
    assert len(late) > 1.5 * (share.ended - 10) * 3 / 0.2, "twelve at a time, not three"


def test_a_backoff_is_not_a_hint() -> None:
    """`max_retry_wait` bounds what a server may ask for, not what we wait by ourselves."""
    found, now = with_a_limit(2)
    ticket = found.join(now, max_retry_wait=0.1)
    found.refused(ticket, now, None)
    assert found.look(now, due=True) == []
    assert ticket.is_waiting


def test_a_server_that_never_let_anything_in_is_obeyed_and_given_up() -> None:
    lone = gate()
    ticket, now = lone.join(0.0), 0.0
    for _ in range(2):
        lone.refused(ticket, now, 5.0)
        assert lone.look(now, due=True) == []
        moved, later = next_to_go(lone, now + 10.0)
        assert moved is ticket
        assert ticket.may_go
        assert 5.0 <= later - now <= 5.5, "never earlier than asked, and not much later"
        now = later
    lone.refused(ticket, now, 5.0)
    assert lone.look(now, due=True) == [ticket]
    assert (ticket.state, ticket.reason) == ("over", "spent")
    assert lone.flow.waiting == 0


def test_many_calls_at_a_spent_quota_ask_a_few_times() -> None:
    result = simulate(Quota(Random(0), 0, 1.0), [Client(300)], Random(0))
    (share,) = result.shares
    assert share.lost == ["spent"] * 300
    assert share.refusals <= 30
    assert 2.0 <= result.took <= 8.0
    assert all(later >= 1.0 for later in share.sent_at if later > 0.001), "obey the hint"


def test_a_quota_that_is_spent_on_the_way_ends_the_waiting_after_a_minute() -> None:
    result = simulate(Quota(Random(0), 50, 2.0), [Client(200)], Random(0))
    (share,) = result.shares
    assert share.answers == 50
    assert share.lost == ["dry"] * 150
    assert 60.0 <= result.took <= 70.0
    assert share.refusals <= 75


def test_after_a_drought_a_call_is_told_at_once_as_at_a_new_server() -> None:
    found, now = with_a_limit(2)
    ticket = found.join(now)
    found.refused(ticket, now, 1.0)
    while ticket.state != "over":
        found.look(now, due=True)
        if ticket.may_go:
            found.refused(ticket, now + 0.01, 1.0)
            found.look(now + 0.01, due=True)
        now = found.next_look or now
    assert ticket.reason == "dry"
    later = found.join(now + 3600, max_retries=1)
    for _ in range(2):
        now = now + 3600
        found.refused(later, now, 1.0)
        found.look(now, due=True)
        if found.next_look:
            found.look(found.next_look, due=True)
    assert (later.state, later.reason) == ("over", "spent")


@pytest.mark.parametrize("known", [True, False])
def test_a_lone_call_does_not_obey_a_hint_above_what_it_allows(known: bool) -> None:
    found, now = with_a_limit(3) if known else (gate(), 0.0)
    ticket = found.join(now, max_retry_wait=60.0)
    found.refused(ticket, now, 61.0)
    assert found.look(now, due=True) == [ticket]
    assert (ticket.state, ticket.reason) == ("over", "long")


def test_a_lone_call_obeys_its_hint_whatever_is_known() -> None:
    found, now = with_a_limit(2)
    tickets = [found.join(now) for _ in range(4)]
    while found.flow.in_flight or found.flow.waiting:
        for ticket in tickets:
            if ticket.may_go:
                found.answered(ticket, now)
        now += 0.1
        found.look(now, due=True)
    lone = found.join(now)
    found.refused(lone, now, 5.0)
    assert found.look(now, due=True) == []
    moved, later = next_to_go(found, now + 6)
    assert moved is lone
    assert later - now >= 5.0


def test_a_lone_call_whose_time_is_over_before_the_hint_fails_at_once() -> None:
    found = gate()
    ticket = found.join(0.0, until=3.0)
    found.refused(ticket, 0.1, 5.0)
    assert found.look(0.1, due=True) == [ticket]
    assert (ticket.state, ticket.reason) == ("over", "late")


@pytest.mark.parametrize("sent", [True, False])
def test_who_leaves_makes_room(sent: bool) -> None:
    found, now = gate(max_concurrency=1), 0.0
    first, second, third = (found.join(now) for _ in range(3))
    leaves, goes = (first, second) if sent else (second, third)
    found.leave(leaves, now)
    if not sent:
        found.answered(first, now)
    assert found.look(now, due=True) == [goes]
    found.leave(leaves, now)  # twice is once
    assert found.flow.in_flight == 1


# Streams


def test_a_stream_holds_its_place_until_it_ends() -> None:
    found, now = gate(max_concurrency=1), 0.0
    stream, behind = found.join(now), found.join(now)
    found.admitted(stream, now + 0.1)
    assert found.look(now + 10, due=True) == []
    found.answered(stream, now + 100)
    assert found.look(now + 100, due=True) == [behind]


def test_a_call_inside_a_stream_goes_past_the_line_and_the_cap_one_at_a_time() -> None:
    found, now = gate(max_concurrency=1), 0.0
    stream, waits = found.join(now), found.join(now)
    found.admitted(stream, now)
    inside, another = found.join(now, inside=stream), found.join(now, inside=stream)
    assert (inside.may_go, another.may_go) == (True, False)
    found.answered(inside, now + 1)
    assert found.look(now + 1, due=True) == [another]
    found.leave(another, now + 1.5)
    assert found.look(now + 1.5, due=True) == []
    found.answered(stream, now + 2)
    assert found.look(now + 2, due=True) == [waits]
    late = found.join(now + 2, inside=stream)
    assert not late.may_go, "a stream that is over lends nothing"


def test_a_call_inside_a_stream_that_is_refused_does_not_wait_for_it_for_ever() -> None:
    found, now = with_a_limit(1)
    stream = found.join(now)
    found.admitted(stream, now)
    inside = found.join(now, inside=stream, max_retries=2)
    for _ in range(3):
        assert inside.may_go
        found.refused(inside, now, 1.0)
        found.look(now, due=True)
        now = found.next_look or now
        found.look(now, due=True)
    assert (inside.state, inside.reason) == ("over", "inside")
    assert found.flow.waiting == 0


def test_calls_inside_a_stream_are_let_past_the_line_in_turn_even_if_one_gives_up() -> None:
    found, now = gate(max_concurrency=1), 0.0
    stream = found.join(now)
    found.admitted(stream, now)
    first, second, third = (found.join(now, inside=stream, max_retries=1) for _ in range(3))
    for _ in range(2):
        found.refused(first, now, 0.5)
        found.look(now, due=True)
        now = found.next_look or now
        found.look(now, due=True)
    assert (first.state, first.reason) == ("over", "inside")
    assert (second.may_go, third.may_go) == (True, False)
    found.leave(second, now)
    assert found.look(now, due=True) == [third]


def test_calls_inside_streams_never_wait_on_each_other_for_ever() -> None:
    """Each of many tasks holds a stream and asks inside it; the cap is below their number."""
    found = gate(max_concurrency=2, learns=False)
    streams = [found.join(0.0) for _ in range(4)]
    going, calls = [stream for stream in streams if stream.may_go], 0
    while going:
        stream = going.pop()
        found.admitted(stream, 0.0)
        inner = found.join(0.0, inside=stream)
        assert inner.may_go
        found.answered(inner, 0.0)
        found.answered(stream, 0.0)
        going += found.look(0.0, due=True)
        calls += 1
    assert calls == 4


# Options


def test_a_cap_holds_whatever_the_server_takes() -> None:
    result = simulate(
        Queue(Random(0), 20, 1.0),
        [Client(60)],
        Random(0),
        gate=lambda dice: Gate(max_concurrency=4, random=dice),
    )
    assert result.shares[0].refusals == 0
    assert result.took == pytest.approx(15 * 0.2, rel=0.05)


def test_without_learning_there_is_a_cap_alone() -> None:
    capped = gate(max_concurrency=3, learns=False)
    tickets = [capped.join(0.0) for _ in range(5)]
    assert [ticket.may_go for ticket in tickets] == [True, True, True, False, False]
    assert capped.flow == (3, 3, 2, 0)
    capped.failed(tickets[1], 0.1)
    assert capped.look(0.1, due=True) == [tickets[3]]
    capped.rejoin(tickets[1], 0.2)
    capped.answered(tickets[0], 0.3)
    assert capped.look(0.3, due=True) == [tickets[1]], "a failed call has its old place"


def test_retries_after_failures_are_budgeted() -> None:
    down = gate()
    assert sum(down.may_retry(1.0) for _ in range(600)) == 50
    assert sum(down.may_retry(1.0 + second) for second in range(60)) <= 31
    for _ in range(10):
        down.answered(down.join(100.0), 100.0)
    assert sum(down.may_retry(100.0) for _ in range(600)) >= 10


def test_the_jitter_is_from_a_generator_of_its_own() -> None:
    random.seed(1)
    before = random.getstate()
    simulate(Quota(Random(0), 0, 1.0), [Client(20)], Random(0), gate=lambda _: Gate())
    assert random.getstate() == before


# Against simulated servers


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_servers_that_refuse(row: Row) -> None:
    outcome = measured(row, alone=False)
    if row.time is not None:
        assert outcome.lost == 0
        assert median(outcome.times) <= row.time
    if row.refusals is not None:
        assert median(outcome.refusals) <= row.refusals
    for result in outcome.results:
        assert sum(share.answers + len(share.lost) for share in result.shares) == sum(
            client.calls for client in row.clients
        )


@pytest.mark.parametrize(
    "size", [5, 8, *(pytest.param(size, marks=pytest.mark.slow) for size in (15, 40))]
)
def test_two_clients_share_one_account(size: int) -> None:
    clients = [Client(40 * size), Client(40 * size)]
    found = [
        simulate(
            Queue(Random(run), size, 1.0), clients, Random(run), Network(uniform(0.0002, 0.002))
        )
        for run in range(9)
    ]
    assert sum(result.lost for result in found) == 0
    assert median(result.unevenness() for result in found) <= 2


@pytest.mark.slow
def test_a_client_that_comes_second_finds_a_place() -> None:
    """The first holds all five places; the second has nothing in flight, and only hints."""
    lost = 0
    for run in range(40):
        second = Client(30, starts=1.0 + run / 97)
        result = simulate(Queue(Random(run), 5, 1.0), [Client(300), second], Random(run))
        lost += result.lost
    assert lost == 0


@pytest.mark.parametrize("service", [0.01, 0.2, 3.0])
def test_nothing_is_slower_where_nothing_is_refused(service: float) -> None:
    def server() -> Server:
        made = Server(Random(0))
        made.service = always(service)
        return made

    took = simulate(server(), [Client(500)], Random(0)).took
    assert took - ideal(server(), [Client(500)], Random(0)) <= 0.3


def test_calls_are_sent_in_the_order_they_came() -> None:
    result = simulate(Queue(Random(0), 5, 1.0, exponential(0.2)), [Client(80)], Random(0))
    assert result.shares[0].first_sent == list(range(80))


@pytest.mark.slow
@given(st.integers(0, 100_000))
def test_whatever_the_server_every_call_ends_and_nothing_is_lost(number: int) -> None:
    row = random_row(number)
    server = row.server(Random(number))
    result = simulate(server, row.clients, Random(number), row.network)
    assert result.lost == 0
    assert server.inside == 0
    for share, client in zip(result.shares, row.clients, strict=True):
        assert share.answers == client.calls
        assert _seen_refused(share) <= share.answers + 600


def _seen_refused(share: Share) -> int:
    assert all(a <= b for a, b in pairwise(share.sent_at))
    return share.refusals
