"""Simulate clients behind gates and a server that limits them, on virtual time.

Nothing here sleeps or opens a socket. A server says for each request at once whether it lets it in;
`simulate` moves requests, answers and refusals through a network with latency, and drives the gates
as the real drivers do. `ideal` is the time of a sender that knows the limit at every moment.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from modelslab_llm._protocol.flow import Gate, Ticket

Seconds = float
Draw = Callable[[Random], float]


def always(value: float) -> Draw:
    """Return a draw that is always the same."""
    return lambda _: value


def uniform(low: float, high: float) -> Draw:
    """Return a uniform draw."""
    return lambda random: random.uniform(low, high)


def exponential(mean: float) -> Draw:
    """Return an exponential draw."""
    return lambda random: random.expovariate(1 / mean)


def lognormal(mean: float, sigma: float) -> Draw:
    """Return a draw with a heavy tail, of this mean."""
    return lambda random: random.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)


@dataclass(frozen=True)
class Refusal:
    """A server's no: the seconds it asks to wait, if it says so."""

    hint: Seconds | None


class Server:
    """Let everything in."""

    service: Draw = staticmethod(always(0.2))

    def __init__(self, random: Random) -> None:
        self.random = random
        self.inside = 0
        """Requests that are being served."""

    def ask(self, now: Seconds) -> Refusal | None:
        """Let a request in, or refuse it."""
        if self.admits(now):
            self.take(now)
            return None
        return Refusal(self.hint(now))

    def admits(self, now: Seconds) -> bool:
        """Tell whether a request that arrives now is let in."""
        return True

    def take(self, now: Seconds) -> None:
        """Count a request that is let in now."""

    def hint(self, now: Seconds) -> Seconds | None:
        """Return the seconds a refused request is asked to wait."""
        return None

    def leave(self) -> None:
        """Be done with a request."""
        self.inside -= 1

    def next_change(self, now: Seconds) -> Seconds | None:
        """Return when the server may let more in, apart from when a request ends."""
        return None

    def duration(self) -> Seconds:
        """Return how long the next request takes."""
        return self.service(self.random)


class Queue(Server):
    """Hold at most `limit` requests at a time; `limit` may be a schedule of (from, limit)."""

    def __init__(
        self,
        random: Random,
        limit: int | Sequence[tuple[Seconds, int]],
        hint: Seconds | None,
        service: Draw | None = None,
    ) -> None:
        super().__init__(random)
        self.schedule = [(0.0, limit)] if isinstance(limit, int) else list(limit)
        self._hint = hint
        if service:
            self.service = service

    def limit(self, now: Seconds) -> int:
        """Return the limit of this moment."""
        return [limit for since, limit in self.schedule if since <= now][-1]

    def admits(self, now: Seconds) -> bool:
        return self.inside < self.limit(now)

    def hint(self, now: Seconds) -> Seconds | None:
        return self._hint

    def next_change(self, now: Seconds) -> Seconds | None:
        return min((since for since, _ in self.schedule if since > now), default=None)


class Workers(Queue):
    """A queue whose requests are served by a few workers, one after the other."""

    def __init__(
        self, random: Random, limit: int, hint: Seconds | None, service: Draw, workers: int
    ) -> None:
        super().__init__(random, limit, hint, service)
        self._free_at = [0.0] * workers
        self._now = 0.0

    def take(self, now: Seconds) -> None:
        self._now = now

    def duration(self) -> Seconds:
        start = max(self._now, heapq.heappop(self._free_at))
        end = start + self.service(self.random)
        heapq.heappush(self._free_at, end)
        return end - self._now


class Soft(Server):
    """Refuse at random, the likelier the more requests are being served beyond a capacity."""

    def __init__(self, random: Random, capacity: int, hint: Seconds | None, service: Draw) -> None:
        super().__init__(random)
        self.capacity = capacity
        self._hint = hint
        self.service = service

    def admits(self, now: Seconds) -> bool:
        over = self.inside - 0.9 * self.capacity
        return over < 0 or self.random.random() > over / (0.2 * self.capacity)

    def hint(self, now: Seconds) -> Seconds | None:
        return self._hint


class Fickle(Server):
    """Refuse a share of all requests at random, whatever the load."""

    def __init__(self, random: Random, share: float, hint: Seconds | None) -> None:
        super().__init__(random)
        self._share = share
        self._hint = hint

    def admits(self, now: Seconds) -> bool:
        return self.random.random() >= self._share

    def hint(self, now: Seconds) -> Seconds | None:
        return self._hint

    def next_change(self, now: Seconds) -> Seconds | None:
        return now + 0.001  # the next throw of the dice


class Window(Server):
    """Let `count` requests in in every window of `span` seconds, which began at some phase."""

    def __init__(
        self,
        random: Random,
        count: int,
        span: Seconds,
        hint: str | Seconds | None,
        service: Draw | None = None,
        concurrent: int | None = None,
    ) -> None:
        super().__init__(random)
        self.count = count
        self.span = span
        self._hint = hint
        self.phase = random.uniform(0, span)
        self._number = -1
        self._used = 0
        self.concurrent = concurrent
        if service:
            self.service = service

    def _roll(self, now: Seconds) -> None:
        # A sliver more, so that a moment that was computed as a boundary is one.
        number = math.floor((now + self.phase) / self.span + 1e-9)
        if number != self._number:
            self._number, self._used = number, 0

    def admits(self, now: Seconds) -> bool:
        self._roll(now)
        if self.concurrent is not None and self.inside >= self.concurrent:
            return False
        return self._used < self.count

    def take(self, now: Seconds) -> None:
        self._used += 1

    def hint(self, now: Seconds) -> Seconds | None:
        left = self.next_change(now) - now
        if self._hint == "exact":
            return left
        if self._hint == "ceil":
            return float(math.ceil(left))
        return self._hint  # type: ignore[return-value]

    def next_change(self, now: Seconds) -> Seconds:
        number = math.floor((now + self.phase) / self.span + 1e-9) + 1
        return number * self.span - self.phase


class Sliding(Server):
    """Let `count` requests in in any `span` seconds."""

    def __init__(
        self,
        random: Random,
        count: int,
        span: Seconds,
        hint: str | Seconds | None,
        service: Draw | None = None,
    ) -> None:
        super().__init__(random)
        self.count = count
        self.span = span
        self._hint = hint
        self._taken: deque[Seconds] = deque()
        if service:
            self.service = service

    def admits(self, now: Seconds) -> bool:
        while self._taken and self._taken[0] + self.span <= now + 1e-9:
            self._taken.popleft()
        return len(self._taken) < self.count

    def take(self, now: Seconds) -> None:
        self._taken.append(now)

    def hint(self, now: Seconds) -> Seconds | None:
        left = self._taken[0] + self.span - now
        if self._hint == "exact":
            return left
        if self._hint == "ceil":
            return float(math.ceil(left))
        return self._hint  # type: ignore[return-value]

    def next_change(self, now: Seconds) -> Seconds | None:
        return self._taken[0] + self.span if self._taken else None


class Bucket(Server):
    """Let requests in at `rate` a second, and `burst` more at once."""

    def __init__(
        self,
        random: Random,
        rate: float,
        burst: int,
        hint: str | Seconds | None,
        service: Draw | None = None,
    ) -> None:
        super().__init__(random)
        self.rate = rate
        self.burst = burst
        self._hint = hint
        self._tokens = float(burst)
        self._at = 0.0
        if service:
            self.service = service

    def _fill(self, now: Seconds) -> None:
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now

    def admits(self, now: Seconds) -> bool:
        self._fill(now)
        return self._tokens >= 1 - 1e-9

    def take(self, now: Seconds) -> None:
        self._tokens -= 1

    def hint(self, now: Seconds) -> Seconds | None:
        left = (1 - self._tokens) / self.rate
        if self._hint == "exact":
            return math.ceil(left * 1000) / 1000
        if self._hint == "ceil":
            return float(math.ceil(left))
        return self._hint  # type: ignore[return-value]

    def next_change(self, now: Seconds) -> Seconds | None:
        self._fill(now)
        return now + max(0.0, 1 - self._tokens) / self.rate


class Quota(Server):
    """Let `count` requests in for good, and never another."""

    def __init__(self, random: Random, count: int, hint: Seconds | None) -> None:
        super().__init__(random)
        self.left = count
        self._hint = hint

    def admits(self, now: Seconds) -> bool:
        return self.left > 0

    def take(self, now: Seconds) -> None:
        self.left -= 1

    def hint(self, now: Seconds) -> Seconds | None:
        return self._hint


class Pauses(Queue):
    """A queue that lets nothing in from `since` to `until`."""

    def __init__(
        self,
        random: Random,
        limit: int,
        hint: Seconds | None,
        service: Draw,
        since: Seconds,
        until: Seconds,
    ) -> None:
        super().__init__(random, limit, hint, service)
        self.since, self.until = since, until

    def admits(self, now: Seconds) -> bool:
        return super().admits(now) and not self.since <= now < self.until

    def next_change(self, now: Seconds) -> Seconds | None:
        return next((t for t in (self.since, self.until) if t > now), None)


@dataclass(frozen=True)
class Client:
    """The calls of one client: how many, when they start, and how patient they are."""

    calls: int
    threads: int | None = None
    """At most so many of them at a time: each thread makes one after the other."""
    starts: Seconds = 0.0
    every: Draw | None = None
    """Seconds between the starts of calls; all at once without it."""
    max_retries: int = 2
    max_retry_wait: Seconds = 60.0
    until: Seconds = math.inf

    def starting_times(self, random: Random) -> Iterator[Seconds]:
        """Yield when each call starts that waits for no thread."""
        moment = self.starts
        for _ in range(min(self.calls, self.threads or self.calls)):
            yield moment
            moment += self.every(random) if self.every else 0.0


@dataclass(frozen=True)
class Network:
    """How long a request and an answer are under way, each way, and how late a program wakes."""

    one_way: Draw = field(default_factory=lambda: always(0.0005))
    wake: Draw = field(default_factory=lambda: always(0.0))


@dataclass
class Share:
    """What became of one client's calls."""

    answered_at: list[Seconds] = field(default_factory=list[Seconds])
    refused_at: list[Seconds] = field(default_factory=list[Seconds])
    sent_at: list[Seconds] = field(default_factory=list[Seconds])
    first_sent: list[int] = field(default_factory=list[int])
    """The calls in the order in which each was sent for the first time."""
    joined_at: list[Seconds] = field(default_factory=list[Seconds])
    lost: list[str] = field(default_factory=list[str])
    """Why each call was sent away that had no answer."""
    ended: Seconds = 0.0
    longest_wait: Seconds = 0.0
    """From the start of a call to its end."""
    most_refusals: int = 0
    """How often the least lucky call was refused."""

    @property
    def answers(self) -> int:
        """How many calls were answered."""
        return len(self.answered_at)

    @property
    def refusals(self) -> int:
        """How many requests were refused."""
        return len(self.refused_at)


@dataclass(frozen=True)
class Result:
    """What came of a simulation."""

    shares: list[Share]

    @property
    def took(self) -> Seconds:
        """Seconds until the last call ended."""
        return max(share.ended for share in self.shares)

    @property
    def lost(self) -> int:
        """Calls without an answer."""
        return sum(len(share.lost) for share in self.shares)

    @property
    def refusals_per_answer(self) -> float:
        """How many requests were refused for each that was answered."""
        answers = sum(share.answers for share in self.shares)
        return sum(share.refusals for share in self.shares) / max(1, answers)

    def unevenness(self) -> float:
        """Return the larger part over the smaller of what two clients got while both had calls."""
        begin = max(min(share.joined_at) for share in self.shares)
        end = min(share.ended for share in self.shares)
        got = [sum(begin <= t <= end for t in share.answered_at) for share in self.shares]
        return max(got) / max(1, min(got))


Watch = Callable[[Seconds, str, Gate], None]
"""Called with the moment, what happened, and the gate to which it happened."""


class Simulation:
    """Events on virtual time."""

    def __init__(self, random: Random) -> None:
        self.now: Seconds = 0.0
        self.random = random
        self._events: list[tuple[Seconds, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, moment: Seconds, do: Callable[[], None]) -> None:
        """Have something happen at a moment."""
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, do))

    def run(self, longest: Seconds) -> None:
        """Let everything happen."""
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            if self.now > longest:
                raise AssertionError(f"the simulation did not end within {longest} s")
            do()


class _Driven:
    """One client: its gate, its calls, and what becomes of them."""

    def __init__(
        self,
        world: Simulation,
        gate: Gate,
        client: Client,
        server: Server,
        network: Network,
        watch: Watch | None,
    ) -> None:
        self.world, self.gate, self.client, self.server = world, gate, client, server
        self.network = network
        self.share = Share()
        self._watch = watch
        self._started = 0
        self._looks_at = math.inf
        self._calls: dict[Ticket, tuple[int, Seconds]] = {}
        self._sent: set[Ticket] = set()
        for moment in client.starting_times(world.random):
            world.at(moment, self._start)

    def _note(self, what: str) -> None:
        if self._watch:
            self._watch(self.world.now, what, self.gate)

    def _start(self) -> None:
        if self._started == self.client.calls:
            return
        now, client = self.world.now, self.client
        ticket = self.gate.join(
            now,
            until=client.until,
            max_retries=client.max_retries,
            max_retry_wait=client.max_retry_wait,
        )
        self._calls[ticket] = self._started, now
        self._started += 1
        self.share.joined_at.append(now)
        if ticket.may_go:
            self._send(ticket)
        self._look()

    def _send(self, ticket: Ticket) -> None:
        if ticket not in self._sent:
            self._sent.add(ticket)
            self.share.first_sent.append(self._calls[ticket][0])
        self.share.sent_at.append(self.world.now)
        self._note("sent")
        delay = self.network.one_way(self.world.random)
        self.world.at(self.world.now + delay, lambda: self._arrive(ticket))

    def _arrive(self, ticket: Ticket) -> None:
        world, server = self.world, self.server
        back = self.network.one_way(world.random)
        refusal = server.ask(world.now)
        if refusal:
            world.at(world.now + back, lambda: self._refuse(ticket, refusal))
            return
        server.inside += 1
        done = world.now + server.duration()
        world.at(done, server.leave)
        world.at(done + back, lambda: self._answer(ticket))

    def _answer(self, ticket: Ticket) -> None:
        self.gate.answered(ticket, self.world.now)
        self._note("answered")
        self.share.answered_at.append(self.world.now)
        self._end(ticket)

    def _refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        self.share.refused_at.append(self.world.now)
        self.gate.refused(ticket, self.world.now, refusal.hint)
        self._note("refused")
        self._look()

    def _end(self, ticket: Ticket) -> None:
        now = self.share.ended = self.world.now
        _, started = self._calls.pop(ticket)
        self.share.longest_wait = max(self.share.longest_wait, now - started)
        self.share.most_refusals = max(self.share.most_refusals, ticket.refusals)
        if self.client.threads is not None:
            self._start()
        self._look()

    def _look(self, *, due: bool = False) -> None:
        world = self.world
        for ticket in self.gate.look(world.now, due=due):
            if ticket.may_go:
                wake = world.now + self.network.wake(world.random)
                world.at(wake, partial(self._send, ticket))
            else:
                self.share.lost.append(ticket.reason)
                self._note("sent away")
                self._end(ticket)
        moment, flow = self.gate.next_look, self.gate.flow
        assert moment is not None or flow.in_flight or not flow.waiting, "nobody would ever go"
        if moment is not None and moment < self._looks_at:
            assert not due or moment > world.now, "a gate that is always due would never sleep"
            self._looks_at = moment
            late = self.network.wake(world.random)
            world.at(max(moment, world.now) + late, partial(self._wake, moment))

    def _wake(self, moment: Seconds) -> None:
        if self._looks_at == moment:
            self._looks_at = math.inf
            self._look(due=True)


def simulate(
    server: Server,
    clients: Sequence[Client],
    random: Random,
    network: Network | None = None,
    *,
    gate: Callable[[Random], Gate] = lambda random: Gate(random=random),
    longest: Seconds = 1e5,
    watch: Watch | None = None,
) -> Result:
    """Run all calls of all clients to their end."""
    world = Simulation(random)
    network = network or Network()
    driven = [
        _Driven(world, gate(Random(random.random())), client, server, network, watch)
        for client in clients
    ]
    world.run(longest)
    return Result([each.share for each in driven])


def ideal(
    server: Server,
    clients: Sequence[Client],
    random: Random,
    network: Network | None = None,
) -> Seconds:
    """Return how long a sender takes that knows at every moment whether the server lets more in.

    It knows of an answer when that has come back, as every sender does.
    """
    network = network or Network()
    world = Simulation(random)
    waiting = ended = 0.0
    due: set[Seconds] = set()
    not_started = sum(client.calls - (client.threads or client.calls) for client in clients)

    def arrive() -> None:
        nonlocal waiting
        waiting += 1
        move()

    def move() -> None:
        nonlocal waiting
        while waiting and server.admits(world.now):
            server.take(world.now)
            server.inside += 1
            waiting -= 1
            world.at(world.now + server.duration(), answer)
        moment = server.next_change(world.now) if waiting else None
        if moment is not None and moment not in due:
            due.add(moment)
            world.at(max(moment, world.now + 1e-6), move)

    def answer() -> None:
        nonlocal ended
        ended = world.now
        world.at(world.now + 2 * network.one_way(random), leave)

    def leave() -> None:
        nonlocal not_started
        server.leave()
        if not_started > 0:
            not_started -= 1
            arrive()
        else:
            move()

    for client in clients:
        for moment in client.starting_times(random):
            world.at(moment, arrive)
    world.run(math.inf)
    return ended + 2 * network.one_way(random)
