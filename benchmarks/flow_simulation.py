"""Simulate clients behind gates and a server that limits them, on virtual time.

Nothing here sleeps or opens a socket. A server says for each request at once whether it lets it in;
`simulate` moves requests, answers and refusals through a network with latency, and drives the gates
as the real drivers do. `ideal` is the time of a sender that knows the limit at every moment.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
        others: Draw | None = None,
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

    def __init__(
        self, random: Random, capacity: int, hint: Seconds | None, service: Draw
    ) -> None:
        super().__init__(random)
        self.capacity = capacity
        self._hint = hint
        self.service = service

    def admits(self, now: Seconds) -> bool:
        over = self.inside - 0.9 * self.capacity
        return over < 0 or self.random.random() > over / (0.2 * self.capacity)

    def hint(self, now: Seconds) -> Seconds | None:
        return self._hint


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


@dataclass
class Client:
    """The calls of one client: how many, when they start, by how many threads."""

    calls: int
    threads: int | None = None
    """At most so many of them at a time: each thread makes one after the other."""
    starts: Seconds = 0.0
    every: Draw | None = None
    """Seconds between the starts of calls; all at once without it."""
    max_retries: int = 2
    max_retry_wait: float = 60.0
    until: Seconds | None = None


@dataclass
class Network:
    """How long a request and an answer are under way, each way, and how late a program wakes."""

    one_way: Draw = field(default_factory=lambda: always(0.0005))
    wake: Draw = field(default_factory=lambda: always(0.0))


@dataclass
class Share:
    """What became of one client's calls."""

    answers: int = 0
    refusals: int = 0
    lost: int = 0
    sent: int = 0
    ended: Seconds = 0.0
    answered_at: list[Seconds] = field(default_factory=list)
    sent_at: list[Seconds] = field(default_factory=list)
    joined_at: list[Seconds] = field(default_factory=list)
    longest_wait: Seconds = 0.0
    trace: list[str] = field(default_factory=list)


@dataclass
class Result:
    """What came of a simulation."""

    shares: list[Share]

    @property
    def took(self) -> Seconds:
        return max(share.ended for share in self.shares)

    @property
    def lost(self) -> int:
        return sum(share.lost for share in self.shares)

    @property
    def per_answer(self) -> float:
        return sum(s.refusals for s in self.shares) / max(1, sum(s.answers for s in self.shares))

    def shared(self) -> float:
        """Return how unevenly two clients were served while both had calls: the larger part over
        the smaller."""
        both = min(share.ended for share in self.shares)
        began = max(min(share.joined_at) for share in self.shares)
        served = [sum(began <= t <= both for t in share.answered_at) for share in self.shares]
        return max(served) / max(1, min(served))


class Simulation:
    """Events on virtual time."""

    def __init__(self, random: Random) -> None:
        self.now: Seconds = 0.0
        self.random = random
        self._events: list[tuple[Seconds, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, moment: Seconds, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, do))

    def run(self, longest: Seconds) -> None:
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            if self.now > longest:
                raise AssertionError(f"the simulation did not end within {longest} s")
            do()


TRACE = None


class _Driven:
    """One client: its gate, its calls, and what becomes of them."""

    def __init__(
        self, world: Simulation, gate: Gate, client: Client, server: Server, network: Network,
        traced: bool = False,
    ) -> None:
        self.world, self.gate, self.client, self.server = world, gate, client, server
        self.network = network
        self.share = Share()
        self._started = 0
        self._looks_at: Seconds | None = None
        self._joined: dict[Ticket, Seconds] = {}
        self._traced = traced
        start = client.starts
        if client.threads is not None:
            for _ in range(min(client.threads, client.calls)):
                world.at(start, self.start)
        else:
            for _ in range(client.calls):
                world.at(start, self.start)
                start += client.every(world.random) if client.every else 0.0

    def note(self, text: str) -> None:
        if self._traced:
            g = self.gate
            self.share.trace.append(
                f"{self.world.now:8.3f} {text:10} limit={g.flow.limit} in={g.flow.in_flight} wait={g.flow.waiting}"
                f" {TRACE(g) if TRACE else ''}"
            )

    def start(self) -> None:
        if self._started >= self.client.calls:
            return
        self._started += 1
        now = self.world.now
        client = self.client
        ticket = self.gate.join(
            now,
            until=math.inf if client.until is None else client.until,
            max_retries=client.max_retries,
            max_retry_wait=client.max_retry_wait,
        )
        self._joined[ticket] = now
        self.share.joined_at.append(now)
        if ticket.may_go:
            self.send(ticket)
        self.look()

    def send(self, ticket: Ticket) -> None:
        self.share.sent += 1
        self.share.sent_at.append(self.world.now)
        self.note("send")
        delay = self.network.one_way(self.world.random)
        self.world.at(self.world.now + delay, lambda: self.arrive(ticket))

    def arrive(self, ticket: Ticket) -> None:
        world, server = self.world, self.server
        refusal = server.ask(world.now)
        back = self.network.one_way(world.random)
        if refusal is None:
            server.inside += 1
            duration = server.duration()
            def leave() -> None:
                server.inside -= 1
            world.at(world.now + duration, leave)
            world.at(world.now + duration + back, lambda: self.answer(ticket))
        else:
            world.at(world.now + back, lambda: self.refuse(ticket, refusal))

    def answer(self, ticket: Ticket) -> None:
        now = self.world.now
        self.gate.answered(ticket, now)
        self.note("answer")
        self.share.answers += 1
        self.share.answered_at.append(now)
        self.over(ticket)

    def refuse(self, ticket: Ticket, refusal: Refusal) -> None:
        self.share.refusals += 1
        self.gate.refused(ticket, self.world.now, refusal.hint)
        self.note("refused")
        self.look()

    def over(self, ticket: Ticket) -> None:
        now = self.world.now
        self.share.ended = now
        wait = now - self._joined.pop(ticket)
        self.share.longest_wait = max(self.share.longest_wait, wait)
        if self.client.threads is not None:
            self.start()
        self.look()

    def look(self) -> None:
        now = self.world.now
        for ticket in self.gate.look(now):
            if ticket.may_go:
                wake = self.network.wake(self.world.random)
                if wake:
                    self.world.at(now + wake, lambda ticket=ticket: self.send(ticket))
                else:
                    self.send(ticket)
            else:
                self.share.lost += 1
                self.note("lost")
                self.over(ticket)
        moment = self.gate.next_look
        if moment is not None and (self._looks_at is None or moment < self._looks_at):
            moment = max(moment, now)
            self._looks_at = moment
            self.world.at(
                moment + self.network.wake(self.world.random), lambda: self.wake(moment)
            )

    def wake(self, moment: Seconds) -> None:
        if self._looks_at == moment:
            self._looks_at = None
            self.look()


def simulate(
    server: Server,
    clients: Sequence[Client],
    random: Random,
    network: Network | None = None,
    *,
    gate: Callable[[Random], Gate] = lambda random: Gate(random=random),
    longest: Seconds = 1e5,
    traced: bool = False,
) -> Result:
    """Run all calls of all clients to their end."""
    world = Simulation(random)
    network = network or Network()
    driven = [
        _Driven(world, gate(Random(random.random())), client, server, network, traced)
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
    """Return how long a sender takes that knows at every moment whether the server lets more in."""
    network = network or Network()
    world = Simulation(random)
    waiting = 0
    ended = 0.0
    due: set[Seconds] = set()
    idle: dict[int, int] = {}

    def arrive(count: int = 1) -> None:
        nonlocal waiting
        waiting += count
        move()

    def move() -> None:
        nonlocal waiting, ended
        while waiting and server.admits(world.now):
            server.take(world.now)
            server.inside += 1
            waiting -= 1
            world.at(world.now + server.duration(), leave)
        if waiting:
            moment = server.next_change(world.now)
            if moment is not None and moment not in due:
                due.add(moment)
                world.at(max(moment, world.now + 1e-6), move)

    def leave() -> None:
        nonlocal ended
        ended = world.now
        world.at(world.now + 2 * network.one_way(random), known)

    def known() -> None:
        server.inside -= 1
        if todo and todo[0]:
            todo[0] -= 1
            arrive()
        else:
            move()

    todo: list[int] = []
    for client in clients:
        start = client.starts
        if client.threads is not None:
            todo.append(max(0, client.calls - client.threads))
            world.at(start, lambda n=min(client.calls, client.threads): arrive(n))
        elif client.every:
            for _ in range(client.calls):
                world.at(start, arrive)
                start += client.every(random)
        else:
            world.at(start, lambda n=client.calls: arrive(n))
    world.run(1e6)
    return ended + 2 * network.one_way(random)
