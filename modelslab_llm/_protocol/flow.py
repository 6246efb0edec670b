"""Queue the calls of one client to a server that refuses some: who is sent, waits or gives up.

Pure: no clock, no sleep, no lock, no I/O. A driver holds a lock around every call, passes the time
in, waits, and sends. Each call `join`s and gets a `Ticket`. The driver sends the request when
`may_go` is true and reports the outcome. After each report, `look` returns the tickets whose state
has changed, and `next_look` is when to look again. `allowance` decides how much the server accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf as INFINITY
from random import Random
from typing import Literal, NamedTuple

from .allowance import SLIVER, Allowance, Sending

DRY = 60.0
"""Seconds beyond its last hint without an accepted request until the calls in the queue fail."""
SPREAD = 0.5
"""The spread, as a share of the hint, of calls that were refused together and come back."""
BACKOFF = 0.5

RETRIES = 50.0
"""Retries after failures that a client makes in a row without an answer between them."""
RETRIES_A_SECOND = 0.5

Reason = Literal["", "refused", "spent", "inside", "dry", "long", "late"]
"""Why a call is not sent again. `refused`: it was refused, and fails as it would alone. `spent`:
the server has accepted nothing since the client was created. `inside`: the call's own open stream
may occupy its slot. `dry`: the server has accepted nothing for a minute. `long`, `late`: it asks
for a longer wait than the call allows, or has time for."""


class Flow(NamedTuple):
    """The current state of a client's flow control."""

    limit: int | None
    """The number of concurrent requests that the server is known to accept; None if unlimited."""
    in_flight: int
    """Requests in flight, open streams included."""
    waiting: int
    """Calls that wait in the queue."""
    refused: int
    """Refusals so far: 429, 529 and similar errors, also inside streams."""


class Ticket(Sending):
    """A call's place in the queue, and its request at the server."""

    state: Literal["waiting", "alone", "sent", "over"] = "waiting"
    reason: Reason = ""
    refusals: int = 0
    """How often this call was refused."""
    lends_to: Ticket | None = None
    """The call that this stream let bypass the queue."""
    waits_inside: tuple[Ticket, ...] = ()
    """Calls made inside this stream while it already lets another one bypass the queue."""

    def __init__(
        self,
        number: int,
        now: float,
        until: float,
        max_retries: int,
        max_retry_wait: float,
        inside: Ticket | None,
    ) -> None:
        self.number = number
        self.joined = now
        self.until = until
        self.max_retries = max_retries
        self.max_retry_wait = max_retry_wait
        self.inside = inside
        """The open stream of the same task or thread during which this call is made."""

    @property
    def may_go(self) -> bool:
        """Whether to send the request now."""
        return self.state == "sent"

    @property
    def is_waiting(self) -> bool:
        """Whether the call waits in the queue."""
        return self.state in ("waiting", "alone")

    def __lt__(self, other: Ticket) -> bool:
        return self.number < other.number


class Gate:
    """The queue of a client, for all its calls; see the module.

    Args:
        max_concurrency: The maximum number of requests in flight; by default no maximum.
        learns: Whether refusals set a limit; with `False` only `max_concurrency` counts.
        random: The source of jitter; by default a new generator.
    """

    def __init__(
        self,
        *,
        max_concurrency: int | None = None,
        learns: bool = True,
        random: Random | None = None,
    ) -> None:
        self._random = random or Random()
        self._most = INFINITY if max_concurrency is None else max_concurrency
        self._learns = learns
        self._allowance = Allowance(self._random)
        self._in_flight = 0
        self._waiting = 0
        self._refused = 0
        self._numbers = 0
        self._line: list[Ticket] = []
        self._hasty: list[Ticket] = []  # never retried: they wait for a slot, not for a hint
        self._alone: list[tuple[float, Ticket]] = []  # each waits for its own hint
        self._alone_out = 0
        self._moved: list[Ticket] = []
        self._dry_since: float | None = None
        self._admitted = 0
        self._retries = RETRIES
        self._retries_at = 0.0
        self.next_look: float | None = None
        """When to call `look` if nothing is reported before; None if no time is set."""

    @property
    def flow(self) -> Flow:
        """The current state."""
        limit = self._allowance.limit
        if self._most < (INFINITY if limit is None else limit):
            limit = int(self._most)
        return Flow(limit, self._in_flight, self._waiting, self._refused)

    # The queue

    def join(
        self,
        now: float,
        *,
        until: float = INFINITY,
        max_retries: int = 2,
        max_retry_wait: float = 60.0,
        inside: Ticket | None = None,
    ) -> Ticket:
        """Take a place at the end of the queue; `may_go` tells whether it can be sent already.

        Args:
            now: Seconds on the driver's clock, here and in all methods.
            until: The moment at which the call must be over.
            max_retries: With 0, the call is sent once and does not queue after a refusal.
            max_retry_wait: The longest hint, in seconds, that the call obeys when it is alone.
            inside: The open stream during which the same task or thread makes this call. Its slot
                cannot get free while this call waits, so the call bypasses the queue, one at a
                time.
        """
        self._numbers += 1
        ticket = Ticket(self._numbers, now, until, max_retries, max_retry_wait, inside)
        if inside is not None and inside.state == "sent" and self._lend(inside, ticket, now):
            return ticket
        if not self._waiting and (self._admits(now) or self._may_hurry(ticket)):
            self._send(ticket, now, not max_retries)
            return ticket
        self._queue(ticket)
        return ticket

    def rejoin(self, ticket: Ticket, now: float) -> None:
        """Take the same place again after a failure that is worth another try."""
        ticket.joined = now
        ticket.kind = ""
        lender = ticket.inside
        if lender is None or lender.state != "sent" or not self._lend(lender, ticket, now):
            self._queue(ticket)

    def leave(self, ticket: Ticket, now: float) -> None:
        """Give up, in whatever state: the call was cancelled, or its time is over."""
        if ticket.state == "sent":
            self.failed(ticket, now)
        elif ticket.is_waiting:
            self._waiting -= 1
            self._end(ticket, now)

    def _queue(self, ticket: Ticket) -> None:
        ticket.state = "waiting"
        heappush(self._line if ticket.max_retries else self._hasty, ticket)
        self._waiting += 1

    def _queue_alone(self, ticket: Ticket, due: float) -> None:
        ticket.state = "alone"
        heappush(self._alone, (due, ticket))
        self._waiting += 1

    def _lend(self, lender: Ticket, ticket: Ticket, now: float) -> bool:
        if lender.lends_to is not None:
            lender.waits_inside += (ticket,)
            return False
        lender.lends_to = ticket
        self._send(ticket, now, True)
        return True

    def _end(self, ticket: Ticket, now: float) -> None:
        ticket.state = "over"
        lender = ticket.inside
        if lender is not None:
            if lender.lends_to is ticket:
                lender.lends_to = None
            self._lend_on(lender, now)

    def _send(self, ticket: Ticket, now: float, alone: bool = False) -> None:
        ticket.state = "sent"
        self._in_flight += 1
        if self._learns:
            self._allowance.sent(ticket, now, self._in_flight, alone)
            self._alone_out += alone

    # Which calls move on

    def look(self, now: float, *, due: bool = False) -> list[Ticket]:
        """Return the tickets whose state changed: those that may go, and those that were sent away.

        Args:
            now: The current time.
            due: Whether the driver looks because `next_look` has come, and not after a report.
        """
        self.next_look = None
        if not self._waiting and not self._moved:
            return []
        if due:
            self._allowance.tick(now)
        self._note_admissions()
        self._allowance.look_at = INFINITY
        if self._dry_since is not None and self._waiting:
            self._look_for_drought(now, self._dry_since)
        while ticket := self._next(now):
            self._waiting -= 1
            self._moved.append(ticket)
        if (self._line or self._hasty) and self._learns:
            self._look_again(self._allowance.look_at)
        moved, self._moved = self._moved, []
        return moved

    def _look_again(self, moment: float) -> None:
        if moment < (INFINITY if self.next_look is None else self.next_look):
            self.next_look = moment

    def _next(self, now: float) -> Ticket | None:
        """Send the next ticket that may go, and return it."""
        line, hasty, alone = _head(self._line), _head(self._hasty), self._alone
        while alone and alone[0][1].state != "alone":
            heappop(alone)
        if alone:
            due, ticket = alone[0]
            if self._allowance.unsure > self._alone_out:
                self._look_again(self._allowance.silent_at())  # some in flight may be accepted
            elif due <= now + SLIVER:
                heappop(alone)
                self._send(ticket, now, True)
                return ticket
            else:
                self._look_again(due)
        first = hasty if line is None or (hasty is not None and hasty < line) else line
        if first is None:
            return None
        if self._admits(now):
            heappop(self._line if first is line else self._hasty)
            self._send(first, now)
            return first
        if hasty and self._may_hurry(hasty):
            heappop(self._hasty)
            self._send(hasty, now, True)
            return hasty
        return None

    def _admits(self, now: float) -> bool:
        if self._in_flight >= self._most:
            return False
        if not self._learns:
            return True
        if self._alone and not self._allowance.ever:
            return False  # the refused calls find out for all
        return self._allowance.admits(now, self._in_flight, self._waiting)

    def _may_hurry(self, ticket: Ticket) -> bool:
        """Tell whether a call that is never retried may go: it waits for a slot, not for a hint."""
        free = self._in_flight < self._most and self._allowance.takes(self._in_flight)
        return not ticket.max_retries and free

    def _note_admissions(self) -> None:
        allowance = self._allowance
        if allowance.admitted > self._admitted:
            self._dry_since = None
            if self._alone:
                self._end_obedience()
        self._admitted = allowance.admitted

    def _end_obedience(self) -> None:
        """Put calls that each obey their own hint back in the queue: the server accepts some."""
        for _, ticket in self._alone:
            if ticket.state == "alone" and not self._is_lent(ticket):
                self._waiting -= 1
                self._queue(ticket)

    def _is_lent(self, ticket: Ticket) -> bool:
        return ticket.inside is not None and ticket.inside.lends_to is ticket

    # Outcomes

    def admitted(self, ticket: Ticket, now: float) -> None:
        """Note that the server accepted a request that is not answered yet: a stream opened."""
        if self._learns and ticket.state == "sent":
            self._allowance.let_in(ticket, now)

    def answered(self, ticket: Ticket, now: float) -> None:
        """Note that the request is over, and that the server did not refuse it."""
        if self._retries < RETRIES:
            self._retries += 1
        self._over(ticket, now, True)

    def failed(self, ticket: Ticket, now: float) -> None:
        """Note that the request is over, without learning whether the server accepts any."""
        self._over(ticket, now, False)

    def _over(self, ticket: Ticket, now: float, answered: bool) -> None:
        self._in_flight -= 1
        if self._learns:
            self._alone_out -= ticket.kind == "alone"
            self._allowance.ended(ticket, now, answered)
        self._end(ticket, now)

    def _lend_on(self, lender: Ticket, now: float) -> None:
        """Let the next call that was made inside an open stream bypass the queue."""
        while lender.waits_inside and lender.state == "sent" and lender.lends_to is None:
            ticket, *later = lender.waits_inside
            lender.waits_inside = tuple(later)
            if ticket.state == "waiting":
                self._waiting -= 1
                lender.lends_to = ticket
                self._send(ticket, now, True)
                self._moved.append(ticket)

    def refused(self, ticket: Ticket, now: float, hint: float | None) -> float:
        """Note a refusal. The ticket queues again or is sent away; `look` returns it.

        `hint` is the number of seconds the server asked to wait, if it did. Returns the hint, or
        the backoff in its place; the call may be sent sooner or later.
        """
        self._refused += 1
        ticket.refusals += 1
        self._in_flight -= 1
        self._alone_out -= ticket.kind == "alone"
        wait = self._allowance.refused(ticket, now, hint, self._in_flight)
        if self._in_flight == 0 and self._dry_since is None:
            self._dry_since = now
        if ticket.max_retries == 0:
            self._send_away(ticket, now, "refused")
        elif self._borrows(ticket):
            self._obey_alone(ticket, now, wait, lent=True)
        elif self._allowance.ever:
            self._queue(ticket)
        else:
            self._obey_alone(ticket, now, wait)
        if self._in_flight == 0:
            # The server accepts none of our requests, so only the hint can be waited for.
            if hint is not None:
                self._send_all_away(now, "long", lambda waiting: waiting.max_retry_wait < hint)
            if self._waiting == 1:
                self._send_all_away(now, "late", lambda waiting: waiting.until <= now + wait)
        return wait

    def _borrows(self, ticket: Ticket) -> bool:
        """Tell whether the call's own stream may be the reason for a refusal, and note that."""
        lender = ticket.inside
        if lender is None or lender.state != "sent" or lender.lends_to not in (None, ticket):
            return False
        lender.lends_to = ticket
        return True

    def _obey_alone(self, ticket: Ticket, now: float, hint: float, *, lent: bool = False) -> None:
        """Let a call wait for its hint up to `max_retries` times, and then fail.

        This is for a server that has never accepted anything, and for a call whose own stream may
        occupy the slot it needs.
        """
        if ticket.refusals > ticket.max_retries:
            if lent:
                return self._send_away(ticket, now, "inside")
            self._queue(ticket)
            if not self._alone_out and not _any_alone(self._alone):
                self._send_all_away(now, "spent", lambda other: other.max_retries < ticket.refusals)
            return None
        others = sum(other.state == "alone" for _, other in self._alone)
        if self._waiting:  # another client may hold every slot for now: spread the tries
            hint = max(hint, BACKOFF * 2.0 ** (ticket.refusals - 1))
        spread = SPREAD * (others % 8 + self._random.random()) / 8
        return self._queue_alone(ticket, now + hint * (1 + spread))

    def _look_for_drought(self, now: float, since: float) -> None:
        end = since + self._allowance.hint + DRY
        if now < end - SLIVER:
            return self._look_again(end)
        self._dry_since = None
        self._allowance.answers = False  # treat the next call as one to a new server
        return self._send_all_away(now, "dry")

    def _send_away(self, ticket: Ticket, now: float, reason: Reason) -> None:
        ticket.reason = reason
        self._moved.append(ticket)
        self._end(ticket, now)

    def _send_all_away(
        self, now: float, reason: Reason, which: Callable[[Ticket], bool] = lambda _: True
    ) -> None:
        for ticket in (*self._line, *self._hasty, *(ticket for _, ticket in self._alone)):
            if ticket.is_waiting and which(ticket):
                self._waiting -= 1
                self._send_away(ticket, now, reason)

    # Failures

    def may_retry(self, now: float) -> bool:
        """Take one retry after a failure from the client's retry budget, if one is left.

        A server that is down fails every call; without the budget, each call would be retried.
        """
        refilled = RETRIES_A_SECOND * (now - self._retries_at)
        self._retries = min(RETRIES, self._retries + refilled)
        self._retries_at = now
        if self._retries < 1:
            return False
        self._retries -= 1
        return True


def _head(line: list[Ticket]) -> Ticket | None:
    """Return the first ticket of a queue, dropping those that left or moved on."""
    while line and line[0].state != "waiting":
        heappop(line)
    return line[0] if line else None


def _any_alone(alone: list[tuple[float, Ticket]]) -> bool:
    return any(ticket.state == "alone" for _, ticket in alone)
