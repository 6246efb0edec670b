"""Keep the calls of one client in line before a server that refuses some: who goes, who waits, who
gives up.

Pure: no clock, no sleep, no lock, no I/O. A driver holds a lock around every call, passes the time
in, waits, and sends. Each call `join`s and has a `Ticket`; the driver sends when its `may_go` is
true, reports what came of it, and after each report takes from `look` the tickets that moved on and
from `next_look` when to look again. How much the server takes is decided in `allowance`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf as INFINITY
from random import Random
from typing import Literal, NamedTuple

from .allowance import SLIVER, Allowance, Sending

DRY = 60.0
"""Seconds beyond its last hint in which a server lets nothing in, until the calls in line fail."""
SPREAD = 0.5
"""The share of a hint over which calls come back that were refused together."""
BACKOFF = 0.5

RETRIES = 50.0
"""Retries after failures that a client makes in a row, with no answer between them."""
RETRIES_A_SECOND = 0.5

Reason = Literal["", "refused", "spent", "inside", "dry", "long", "late"]
"""Why a call was sent away. `refused`: it was, and is to fail as it would alone. `spent`: the
server let nothing in since the client was made. `inside`: the call's own open stream may be in its
way. `dry`: the server let nothing in for a minute. `long`, `late`: it asks for a longer wait than
the call allows, or has time for."""


class Flow(NamedTuple):
    """How a client's calls flow at this moment."""

    limit: int | None
    """Requests that the server is known to take at a time; None while nothing limits them."""
    in_flight: int
    """Requests at the server, open streams included."""
    waiting: int
    """Calls that stand in line."""
    refused: int
    """Refusals so far: 429, 529, and their like inside streams."""


class Ticket(Sending):
    """A call's place in line and at the server."""

    state: Literal["waiting", "alone", "sent", "over"] = "waiting"
    reason: Reason = ""
    refusals: int = 0
    """How often this call was refused."""
    lends_to: Ticket | None = None
    """The call that this stream let past the line."""
    waits_inside: tuple[Ticket, ...] = ()
    """Calls made inside this stream that found it lending already."""

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
        """The open stream of the same task or thread, during which this call is made."""

    @property
    def may_go(self) -> bool:
        """Whether the request is to be sent now."""
        return self.state == "sent"

    @property
    def is_waiting(self) -> bool:
        """Whether the call stands in line."""
        return self.state in ("waiting", "alone")

    def __lt__(self, other: Ticket) -> bool:
        return self.number < other.number


class Gate:
    """The one gate of a client, for all its calls; see the module.

    Args:
        max_concurrency: The most requests in flight, whatever the server takes; default no cap.
        learns: Whether refusals set a limit; `False` leaves it at the cap.
        random: Where jitter comes from; by default a generator of its own.
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
        self._hasty: list[Ticket] = []  # never retried: they wait for a place, not for a hint
        self._alone: list[tuple[float, Ticket]] = []  # each waits for its own hint
        self._alone_out = 0
        self._moved: list[Ticket] = []
        self._dry_since: float | None = None
        self._admitted = 0
        self._retries = RETRIES
        self._retries_at = 0.0
        self.next_look: float | None = None
        """When to call `look` again if nothing happens before; None if only an event matters."""

    @property
    def flow(self) -> Flow:
        """How the calls flow now."""
        limit = self._allowance.limit
        if self._most < (INFINITY if limit is None else limit):
            limit = int(self._most)
        return Flow(limit, self._in_flight, self._waiting, self._refused)

    # The line

    def join(
        self,
        now: float,
        *,
        until: float = INFINITY,
        max_retries: int = 2,
        max_retry_wait: float = 60.0,
        inside: Ticket | None = None,
    ) -> Ticket:
        """Take a place at the end of the line; `may_go` tells whether that is at its head already.

        Args:
            now: Seconds on the driver's clock, here and everywhere.
            until: The moment at which the call must be over.
            max_retries: With 0 the call is sent once and never queues after a refusal.
            max_retry_wait: The longest hint, in seconds, that the call obeys when it is alone.
            inside: The open stream during which the same task or thread makes this call. Its place
                cannot get free while this call waits, so it lends the call one more: one at a time.
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
        """Take the old place again after a failure that is worth another try."""
        ticket.joined = now
        ticket.kind = ""
        lender = ticket.inside
        if lender is None or lender.state != "sent" or not self._lend(lender, ticket, now):
            self._queue(ticket)

    def leave(self, ticket: Ticket, now: float) -> None:
        """Give up: the call was cancelled, or its time is over, wherever it stands."""
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

    # Who moves on

    def look(self, now: float, *, due: bool = False) -> list[Ticket]:
        """Return the tickets that moved on: those that may go, and those that are sent away.

        Args:
            now: The moment.
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
                self._look_again(self._allowance.silent_at())  # what is out may be let in
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
            return False  # the calls that were refused find out for all
        return self._allowance.admits(now, self._in_flight, self._waiting)

    def _may_hurry(self, ticket: Ticket) -> bool:
        """Tell whether a call may go that is never retried: it waits for a place and no hint."""
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
        """Put the calls back in line that waited each for its own hint: the server lets some in."""
        for _, ticket in self._alone:
            if ticket.state == "alone" and not self._is_lent(ticket):
                self._waiting -= 1
                self._queue(ticket)

    def _is_lent(self, ticket: Ticket) -> bool:
        return ticket.inside is not None and ticket.inside.lends_to is ticket

    # What came of a request

    def admitted(self, ticket: Ticket, now: float) -> None:
        """Note that the server let a request in whose answer is still to come: a stream opened."""
        if self._learns and ticket.state == "sent":
            self._allowance.let_in(ticket, now)

    def answered(self, ticket: Ticket, now: float) -> None:
        """Note that the request is over, and that the server did not refuse it."""
        if self._retries < RETRIES:
            self._retries += 1
        self._over(ticket, now, True)

    def failed(self, ticket: Ticket, now: float) -> None:
        """Note that the request is over without telling whether the server would let one in."""
        self._over(ticket, now, False)

    def _over(self, ticket: Ticket, now: float, answered: bool) -> None:
        self._in_flight -= 1
        if self._learns:
            self._alone_out -= ticket.kind == "alone"
            self._allowance.ended(ticket, now, answered)
        self._end(ticket, now)

    def _lend_on(self, lender: Ticket, now: float) -> None:
        """Let the next call past the line that was made inside an open stream."""
        while lender.waits_inside and lender.state == "sent" and lender.lends_to is None:
            ticket, *later = lender.waits_inside
            lender.waits_inside = tuple(later)
            if ticket.state == "waiting":
                self._waiting -= 1
                lender.lends_to = ticket
                self._send(ticket, now, True)
                self._moved.append(ticket)

    def refused(self, ticket: Ticket, now: float, hint: float | None) -> float:
        """Note a refusal. The ticket waits in line again, or is sent away: `look` tells.

        `hint` is how many seconds the server asked to wait, where it did. Returns them, or what is
        waited instead; the turn of the call may come sooner or later.
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
            # Nothing of ours is let in, so nothing but the hint can be waited for.
            if hint is not None:
                self._send_all_away(now, "long", lambda waiting: waiting.max_retry_wait < hint)
            if self._waiting == 1:
                self._send_all_away(now, "late", lambda waiting: waiting.until <= now + wait)
        return wait

    def _borrows(self, ticket: Ticket) -> bool:
        """Tell whether a refused call is one that its own stream may keep out, and see to it."""
        lender = ticket.inside
        if lender is None or lender.state != "sent" or lender.lends_to not in (None, ticket):
            return False
        lender.lends_to = ticket
        return True

    def _obey_alone(self, ticket: Ticket, now: float, hint: float, *, lent: bool = False) -> None:
        """Have a call wait for its hint, as often as `max_retries` says, and then fail.

        That is for a server that never let anything in, and for a call whose own stream may be
        what fills the server.
        """
        if ticket.refusals > ticket.max_retries:
            if lent:
                return self._send_away(ticket, now, "inside")
            self._queue(ticket)
            if not self._alone_out and not _any_alone(self._alone):
                self._send_all_away(now, "spent", lambda other: other.max_retries < ticket.refusals)
            return None
        others = sum(other.state == "alone" for _, other in self._alone)
        if self._waiting:  # somebody else may hold every place for now: ask over a longer time
            hint = max(hint, BACKOFF * 2.0 ** (ticket.refusals - 1))
        spread = SPREAD * (others % 8 + self._random.random()) / 8
        return self._queue_alone(ticket, now + hint * (1 + spread))

    def _look_for_drought(self, now: float, since: float) -> None:
        end = since + self._allowance.hint + DRY
        if now < end - SLIVER:
            return self._look_again(end)
        self._dry_since = None
        self._allowance.answers = False  # the next call is told as one to a new server
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
        """Take one retry after a failure from the client's budget, if one is left.

        A server that is down fails every call; without a budget each of them asks it again.
        """
        refilled = RETRIES_A_SECOND * (now - self._retries_at)
        self._retries = min(RETRIES, self._retries + refilled)
        self._retries_at = now
        if self._retries < 1:
            return False
        self._retries -= 1
        return True


def _head(line: list[Ticket]) -> Ticket | None:
    """Return who stands first, dropping those who left or moved on."""
    while line and line[0].state != "waiting":
        heappop(line)
    return line[0] if line else None


def _any_alone(alone: list[tuple[float, Ticket]]) -> bool:
    return any(ticket.state == "alone" for _, ticket in alone)
