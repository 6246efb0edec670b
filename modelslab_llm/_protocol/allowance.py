"""Estimate how many requests a server accepts, and decide whether one more may be sent now.

Pure: it never reads a clock, sleeps or sends. The `Gate` of `flow` passes the time, reports what
became of each request, and asks `admits`. It knows nothing of callers, retries or the queue.

Servers refuse with the same response for two reasons, and do not say which. A limit on *places*
(concurrent requests) accepts the next request when one of ours ends. A limit on *time* (requests
per second or minute) accepts it when time has passed. `Allowance` weighs the evidence for either:

- Nothing is limited until the first refusal, but a burst is ramped up, so that the first refusal
  arrives before the rest is sent.
- The first refusals set the limit to the number of requests that the server kept. All requests sent
  before a cut belong to one episode, and an episode cuts the limit once.
- Refusals come soon, so a request that is in flight for clearly longer than a refusal takes was
  accepted, even if its answer takes minutes.
- A refusal shuts the door for as long as the server asked. If one of our calls ends meanwhile, one
  early try is sent. If it is accepted, the limit is on places and the hint is coarse. If it is
  refused, the limit is on time and the hint is real, so early tries are spaced by doubling.
- With a limit on places, each answer lets the next request go, and now and then a probe goes one
  beyond the limit. After a failed probe, a few places stay free for a moment; otherwise a second
  client on the same account would never find one.
- With a limit on time, the limit on places stays as it is. Requests go until the server refuses,
  or, if each opening of the door accepts only one or two, at a pace.
- Probes and early tries are paid from a budget (the purse) that accepted requests fill. This bounds
  the refusals per answer.
- A refusal after several requests were accepted under the same conditions says nothing about either
  limit: some servers refuse at random.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from random import Random
from typing import Literal

INFINITY = math.inf
SLIVER = 1e-9  # seconds; tolerance for rounding errors in computed times

RAMP = 0.25
"""Seconds over which a first burst is ramped up. A client that was never refused pays them once."""
AT_ONCE = 8
"""Requests sent at once before anything is known; the ramp grows from here."""
RAMP_TOP = 512
"""Requests in flight beyond which the ramp grows no faster; the rest is sent when it ends."""
RAMP_STEP, RAMP_LATE = 0.005, 0.005
"""Seconds: the minimum between two looks at the ramp, and how late one may be and count fully."""

LEAST_PATIENCE = 0.02
"""Seconds; a busy event loop is not more punctual than this."""

PROBE, ANSWERS_A_PROBE = 3.0, 8
"""A stable limit is probed after this many mean service times and this many answers."""
PROBE_CONTENDED, ANSWERS_A_PROBE_CONTENDED = 2.0, 5
"""The same if another client seems to use the account: with few places, find more sooner."""
GIVEN, GIVEN_CONTENDED = 0.05, 0.15
"""The share of the throughput that is left free so that another client can get in."""
CONTENDED = 20.0
"""Mean service times for which a sign of another client counts."""

LEAST_GAP = 0.05
"""The minimum number of seconds between early tries."""

PURSE, DEBT = 4.0, -2.0
"""The maximum of saved probes and early tries, and of debt. A refusal costs 1."""
EARNED, EARNED_CONTENDED = 0.12, 0.4
"""What an accepted request adds to the purse; if contended, divided by the limit."""

BY_CHANCE = 3
"""Requests accepted since the last refusal, with as many or more in flight, after which a refusal
says nothing about either limit: some servers refuse at random."""

PACE_CUT = 0.8
"""The share of a pace that a refusal leaves at least."""
SLOWEST_PACE = 1.5
"""The slowest pace, in hints per request: obeying each hint is no slower."""

BACKOFF, LONGEST_BACKOFF = 0.5, 8.0
"""Seconds to wait after a refusal without a hint: the first time, and at most."""
HINT_JITTER = 0.1
"""The maximum share of a hint that is added as jitter. Never subtracted: a hint is a minimum."""

PLACES, UNDECIDED, TIME = 2, 0, -2
"""The values of `belief`: the limit is on places, undecided, on time."""

Kind = Literal["", "alone", "early", "trial", "probe"]


class Sending:
    """One request in flight, as far as the allowance has to remember it."""

    # Class attributes, set when they change, because instance attributes cost at every creation.
    kind: Kind = ""
    sent_at: float = 0.0
    order: int = 0
    """The number of this request, counting all."""
    rank: int = 0
    """How many requests were in flight with it, including itself."""
    let_in: bool = False
    silently: bool = False
    """Whether that was concluded from silence."""


class Allowance:
    """Decide whether one more request may be sent; see the module."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.limit: int | None = None
        """The number of concurrent requests the server accepts, if known; None for no limit."""
        self.admitted: int = 0
        """Requests accepted so far."""
        self.answers: bool = False
        """Whether the server was ever seen to accept a request, as an answer shows."""
        self._silently = 0  # requests in flight that count as accepted only because of silence
        self.hint: float = 0.0
        """Seconds the last refusal asked to wait, or the backoff if it had no hint."""
        self.look_at: float = INFINITY
        """When to ask again after `admits` said no; infinite if only an event can change that."""

        self._orders = 0
        self._ramped = 0.0  # seconds the ramp has run
        self._ramping_since: float | None = None
        self._ramp_step = 0.0
        self._proven = AT_ONCE // 2  # a number of requests in flight that were all accepted

        self._unsure: OrderedDict[int, Sending] = OrderedDict()
        self._latency: float | None = None  # of a refusal, smoothed
        self._spread = 0.0
        self._service: float | None = None  # seconds of an answer, smoothed

        self._belief = UNDECIDED
        self._was_places = False
        self._cut_order = 0
        self._limit_before = 0
        self._ranks = deque[int](maxlen=32)  # of requests accepted since the last refusal
        self._refused_at = 0.0
        self._contended_until = -INFINITY

        self._shut_until: float | None = None
        self._trial: Sending | None = None
        self._tries = 0  # early tries since the door was shut
        self._try_gap = 0.0
        self._next_try = 0.0
        self._vain = 0  # refused trials in a row, each after its hint
        self._ended = False  # whether one of our calls ended since the last refusal
        self._ended_since_shut = False
        self._cautious = INFINITY  # the maximum number of unsure requests in flight
        self._purse = PURSE / 2

        self._step = 1
        self._floor: int | None = None  # the limit before the probe in flight
        self._probe_gap: float | None = None
        self._next_probe = INFINITY
        self._given = 0  # places left free for another client
        self._given_for = 0.0
        self._given_until = -INFINITY

        self._pace: float | None = None  # requests per second
        self._next_send = 0.0
        self._by_pace_alone = False
        self._exhaustions: deque[tuple[float, int]] = deque(maxlen=4)
        self._thin = 0  # consecutive openings that accepted only one or two
        self._timed = 0  # consecutive hints that came true without an end of one of our calls
        self._calm = 0  # accepted since the last refusal

    # May one more be sent?

    def admits(self, now: float, in_flight: int, waiting: int) -> bool:
        """Tell whether one more request may be sent now; else `look_at` says when to ask again."""
        if self.limit is None:
            return in_flight < 2 * self._proven or self._ramp_admits(now, in_flight, waiting)
        self.look_at = INFINITY
        self._later(self.silent_at())
        if self._shut_until is not None:
            return self._may_try(now, in_flight, waiting, self._shut_until)
        if len(self._unsure) >= self._cautious:
            return False
        if self._pace is not None:
            if now < self._next_send - SLIVER:
                self._later(self._next_send)
                return False
            if self._by_pace_alone:
                return True
        limit = self.limit
        if in_flight == 0 and self._given_until == INFINITY:
            self._given_until = now + self._given_for
        if now < self._given_until - SLIVER:
            limit -= self._given
            self._later(self._given_until)
        return in_flight < limit or self._may_probe(now, in_flight)

    @property
    def ever(self) -> bool:
        """Whether the server is known to have accepted a request."""
        return self.answers or self._silently > 0

    def takes(self, in_flight: int) -> bool:
        """Tell whether a request that waits for a place, not for a hint, may be sent."""
        return self.limit is not None and in_flight < self.limit

    def _later(self, moment: float) -> None:
        self.look_at = min(self.look_at, moment)

    def _ramp_admits(self, now: float, in_flight: int, waiting: int) -> bool:
        self.look_at = INFINITY
        if self._ramped >= RAMP - SLIVER:
            return True
        # The fewer wait, the slower it may grow: all should be sent by the end of the ramp.
        demand = min(RAMP_TOP, max(AT_ONCE + 1, in_flight + waiting))
        growth = math.log(demand / AT_ONCE) / RAMP
        if in_flight < int(AT_ONCE * math.exp(growth * self._ramped) + 1e-6):
            return True
        next_place = math.log((in_flight + 1) / AT_ONCE) / growth - self._ramped
        self._ramp_step = min(max(RAMP_STEP, next_place), RAMP - self._ramped)
        if self._ramping_since is None:
            self._ramping_since = now
        self._later(self._ramping_since + self._ramp_step)
        return False

    def _may_try(self, now: float, in_flight: int, waiting: int, shut_until: float) -> bool:
        """Tell whether a request may be tried at the shut door: after the hint, or early."""
        if self._unsure:
            return False  # some requests in flight may still be refused
        if now >= shut_until - SLIVER:
            return True
        self._later(shut_until)
        if not self.ever:
            return False  # nothing is known: obey the hint
        if not self._ended and not (in_flight == 0 and waiting > 1 and self._was_places):
            return False  # nothing has changed
        if self._purse < 1 and in_flight:
            return False  # our own calls will end, and that opens the door
        if now >= self._next_try - SLIVER:
            return True
        self._later(self._next_try)
        return False

    def _may_probe(self, now: float, in_flight: int) -> bool:
        """Raise the limit for a probe, if one is due."""
        limit = self.limit
        if limit is None or in_flight != limit or self._floor is not None or self._purse < 1:
            return False
        if now < self._next_probe - SLIVER:
            self._later(self._next_probe)
            return False
        self._floor = limit
        self.limit = limit + self._step
        return True

    # Outcomes of a request

    def sent(self, sending: Sending, now: float, in_flight: int, alone: bool) -> None:
        """Note that a request is sent; `in_flight` counts it. `alone`: it waited for no other."""
        self._orders += 1
        sending.order = self._orders
        sending.sent_at = now
        sending.rank = in_flight
        sending.let_in = sending.silently = False
        sending.kind = "alone" if alone else ""
        self._unsure[sending.order] = sending
        if self.limit is None or alone:
            return
        if self._pace is not None:
            self._next_send = max(now, self._next_send) + 1 / self._pace
        if self._shut_until is not None:
            self._trial = sending
            if now < self._shut_until - SLIVER:
                sending.kind = "early"
                self._tries += 1
                self._next_try = INFINITY
            else:
                sending.kind = "trial"
        elif self._floor is not None and in_flight > self._floor:
            sending.kind = "probe"

    @property
    def unsure(self) -> int:
        """The number of requests in flight that may still be refused."""
        return len(self._unsure)

    def tick(self, now: float) -> None:
        """Let time pass, only when the driver looks because `look_at` has come.

        A program that is too busy to look in time has not read the server's responses either, so
        silence means nothing.
        """
        if (since := self._ramping_since) is not None and now >= since + self._ramp_step - SLIVER:
            self._ramped += min(now - since, self._ramp_step + RAMP_LATE)
            self._ramping_since = None
        if self.limit is None:
            return
        while self._unsure and now >= self.silent_at() - SLIVER:
            self.let_in(next(iter(self._unsure.values())), now, by_silence=True)
        if self._belief < 0 and now > self._refused_at + 10 * max(self.hint, self._service or 1):
            self._forget_time(now)

    def silent_at(self) -> float:
        """Return when the oldest undecided request counts as accepted.

        A refusal comes soon. A request in flight for clearly longer than refusals take was
        accepted, even if its answer takes minutes.
        """
        if not self._unsure or self._latency is None:
            return INFINITY
        patience = max(LEAST_PATIENCE, 1.5 * self._latency + 4 * self._spread)
        return next(iter(self._unsure.values())).sent_at + patience

    def let_in(self, sending: Sending, now: float, *, by_silence: bool = False) -> None:
        """Note that the server accepted a request: its answer begins, or silence says so."""
        if not by_silence:
            self._silently -= sending.silently
            sending.silently, self.answers = False, True
        if sending.let_in:
            return
        first = not self.ever
        if by_silence:
            self._silently += 1
            sending.silently = True
        sending.let_in = True
        del self._unsure[sending.order]
        self.admitted += 1
        if sending.rank > self._proven:
            self._proven = sending.rank
        self._ranks.append(sending.rank)
        if self.limit is None:
            return
        earned = EARNED
        if now < self._contended_until:
            earned = max(earned, EARNED_CONTENDED / self.limit)
        self._purse = min(PURSE, self._purse + earned)
        if sending.order <= self._cut_order:
            return  # a request accepted before the cut says nothing about the time after it
        if self._cautious < INFINITY:
            self._cautious += 1
            if self._cautious > self.limit and not self._by_pace_alone:
                self._cautious = INFINITY
        if sending is self._trial:
            self._let_in_at_the_door(sending, now)
        elif self._shut_until is not None:
            if first or sending.kind == "alone":
                self._open()
        elif self._belief > 0:
            self._believe(PLACES)
        if self._pace is not None:
            self._calm += 1
            self._pace *= 1 + 0.003 * min(20, 1 + self._calm / 10)
        if sending.kind == "probe" and self._floor is not None and sending.rank >= self.limit:
            self._probe_succeeded(now)

    def _let_in_at_the_door(self, sending: Sending, now: float) -> None:
        assert self.limit is not None
        self._trial = None
        self._vain = 0
        if sending.kind == "early":
            self._try_gap /= 2
            if self._tries == 1:  # a later one may be accepted because of time or a place
                self._believe(2)
                self._was_places = True
        elif not self._ended_since_shut:
            self._believe(-1)
            self._timed += 1
            if self._timed >= 2:
                self._measure(now)
                self._by_pace_alone = self._pace is not None
        if sending.rank > self.limit:
            self.limit = sending.rank
            self._next_probe = now
        self._open()
        if self._belief > 0 and sending.kind == "early":
            self._cautious = max(2, sending.rank)

    def _open(self) -> None:
        self._shut_until = None
        self._cautious = 2
        self._floor = None

    def _probe_succeeded(self, now: float) -> None:
        assert self.limit is not None
        self._floor = None
        self._step = min(2 * self._step, self.limit)
        self._purse = min(PURSE, self._purse + 1)
        self._probe_gap = None
        service = self._service or 0.0
        # A limit on time shows within whole service times, one on places within a fraction.
        self._next_probe = now + (service / 3 if self._belief > 0 else service)

    def ended(self, sending: Sending, now: float, answered: bool) -> None:
        """Note that a request is no longer at the server, whether it was answered or failed."""
        self._ended = self._ended_since_shut = True
        if self._given_until == INFINITY:
            self._given_until = now + self._given_for
        if not answered:
            self._silently -= sending.silently
            sending.silently = False
            if not sending.let_in:
                sending.let_in = True
                del self._unsure[sending.order]
            if sending is self._trial:
                self._trial = None
            return
        if not sending.let_in or sending.silently or not self.answers:
            self.let_in(sending, now)
        took = now - sending.sent_at
        if self._service is None:
            self._service = took
            if self._next_probe == INFINITY:
                self._next_probe = now + took
        else:
            self._service += 0.1 * (took - self._service)

    def refused(self, sending: Sending, now: float, hint: float | None, in_flight: int) -> float:
        """Note a refusal; `in_flight` no longer counts it. Return the seconds to wait."""
        if sending.let_in:
            self.admitted -= 1  # its silence was mistaken for acceptance
            self._silently -= sending.silently
            sending.silently = False
        else:
            sending.let_in = True
            del self._unsure[sending.order]
        self._learn_latency(now - sending.sent_at)
        if hint is None:
            backoff = min(LONGEST_BACKOFF, BACKOFF * 2.0 ** min(self._vain, 10))
            hint = backoff * self._random.uniform(0.75, 1)
        self.hint = hint
        self._calm = 0
        self._refused_at = now
        new = sending.order > self._cut_order
        if new:
            self._cut_order = self._orders
        by_chance = (
            self.limit is not None
            and not sending.kind
            and sum(rank >= sending.rank for rank in self._ranks) >= BY_CHANCE
        )
        self._ranks.clear()
        if by_chance and in_flight:
            self._cautious = 1
            return hint
        if self.limit is not None and (new or sending.kind):
            self._purse = max(DEBT, self._purse - 1)
        self._cut(sending, now, in_flight, new)
        wait = hint * (1 + HINT_JITTER * self._random.random())
        if sending is self._trial:
            self._refused_at_the_door(sending, now, in_flight, wait)
        elif new and self._shut_until is None:
            self._refused_inside(sending, now, in_flight, wait)
        return hint

    def _learn_latency(self, took: float) -> None:
        if self._latency is None:
            self._latency, self._spread = took, took / 2
        else:  # as TCP smooths round-trip times
            self._spread += 0.25 * (abs(took - self._latency) - self._spread)
            self._latency += 0.125 * (took - self._latency)

    def _believe(self, evidence: int) -> None:
        """Add evidence for the kind of limit: above 0 for places, below for time."""
        self._belief = max(TIME, min(PLACES, self._belief + evidence))
        if self._belief > 0:
            self._pace, self._by_pace_alone = None, False
            self._timed = self._thin = 0

    # Places

    def _cut(self, sending: Sending, now: float, in_flight: int, new: bool) -> None:
        """Cut the limit to what the server kept, once per episode."""
        service = self._service or 0.2
        if self.limit is None:
            self.limit = max(1, in_flight)
            self._next_probe = INFINITY if self._service is None else now + service
            return
        if self._belief >= 0 and self._pace is None:
            if new:
                if self._belief != PLACES - 1:
                    self._limit_before = self.limit
                self.limit = min(self.limit, max(1, in_flight))
            else:
                self.limit = max(1, self.limit - 1)
        self._floor = None
        self._step = 1
        if not new:
            return
        probe = sending.kind == "probe"
        if in_flight == 0 or (sending.kind in ("", "trial") and self._belief > 0):
            self._contended_until = now + CONTENDED * service  # another client took a place
        contended = now < self._contended_until
        apart = PROBE_CONTENDED if contended else PROBE
        answers = ANSWERS_A_PROBE_CONTENDED if contended else ANSWERS_A_PROBE
        longest = service * max(apart, answers / self.limit)
        if probe:
            self._probe_gap = min(longest, 2 * self._probe_gap if self._probe_gap else service)
            if self._belief > 0:
                self._give(GIVEN_CONTENDED if contended else GIVEN, self._probe_gap)
        gap = min(longest, self._probe_gap or service)
        self._next_probe = now + gap * self._random.uniform(0.8, 1.2)

    def _give(self, share: float, gap: float) -> None:
        """Leave a few places free for most of the time until the next probe.

        This begins when one of our calls ends, because no place is free before.
        """
        assert self.limit is not None
        longest = 0.8 * gap
        self._given = max(1, round(share * self.limit * gap / longest))
        self._given_for = min(longest, share * self.limit * gap / self._given)
        self._given_until = INFINITY

    # The door

    def _shut(self, now: float, wait: float, in_flight: int) -> None:
        self._shut_until = now + wait
        self._tries = 0
        self._ended = self._ended_since_shut = False
        self._next_try = now + (self._try_gap if self._belief < 0 else 0.0)
        if in_flight == 0:  # none of our calls will end and show a free place
            self._next_try = now + max(LEAST_GAP, (self._service or 0.2) / 2, self._try_gap)

    def _refused_inside(self, sending: Sending, now: float, in_flight: int, wait: float) -> None:
        """Shut the door, unless the limit is on places: then the next end of ours opens it."""
        if self._belief > 0 and in_flight:
            if sending.kind in ("probe", "alone"):
                return
            self._believe(-1)
            self._cautious = 1
            if self._belief > 0:
                return
        if sending.kind != "probe":
            since = self.admitted - self._exhaustions[-1][1] if self._exhaustions else INFINITY
            self._thin = self._thin + 1 if since <= 2 else 0
            self._exhaustions.append((now, self.admitted))
            if self._thin >= 2 or self._pace is not None:
                self._measure(now)
        self._shut(now, wait, in_flight)

    def _refused_at_the_door(
        self, sending: Sending, now: float, in_flight: int, wait: float
    ) -> None:
        service = self._service or 0.2
        self._trial = None
        if sending.kind == "early":
            if self._tries == 1:
                self._believe(-2)
                if self._belief < 0:  # then the cut was unnecessary
                    self.limit = max(self.limit or 1, self._limit_before)
            self._ended = False
            self._try_gap = max(LEAST_GAP, service / 2, 2 * self._try_gap)
            if in_flight == 0 and self._was_places and now < self._contended_until:
                self._try_gap = min(self._try_gap, 2 * service)
            self._next_try = now + self._try_gap
            return  # the earlier hint still applies: a try must not extend it
        self._vain += 1
        if not self._ended_since_shut:
            self._timed = 0
            self._pace, self._by_pace_alone = None, False
            if in_flight:
                self._believe(1)
        backoff = min(max(LONGEST_BACKOFF, service), 0.1 * 2.0 ** min(self._vain, 20))
        self._shut(now, max(wait, backoff), in_flight)

    # Time

    def _measure(self, now: float) -> None:
        """Set the pace to the rate the server accepted between refusals."""
        if len(self._exhaustions) < 2:
            return
        (start, before), (end, after) = self._exhaustions[0], self._exhaustions[-1]
        if end <= start or after <= before:
            return
        measured = (after - before) / (end - start)
        if self._pace is None:
            self._pace, self._next_send = measured, now
        else:
            # Bounded: the measurement includes our own waiting, and would lower the pace forever.
            self._pace = max(PACE_CUT * self._pace, min(0.99 * self._pace, measured))
        slowest = SLOWEST_PACE * max(self.hint, self._service or 0.0, LEAST_GAP)
        self._pace = max(self._pace, 1 / slowest)

    def _forget_time(self, now: float) -> None:
        """Become undecided again: the server has not refused for long."""
        self._belief = UNDECIDED
        self._pace, self._by_pace_alone = None, False
        self._timed = self._thin = 0
        self._refused_at = now
