"""Keep the rows of a run in order: queued, in flight, stored, handed out.

It sends nothing, waits for nothing and starts no thread: a driver brings rows and answers, and
takes requests and results. It is not thread-safe; the driver with threads holds a lock, except for
what says that it needs none.

A result goes through `unstored` before it is handed out, if there is a store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter

from ..errors import (
    APIError,
    ConfigurationError,
    InvalidRequestError,
    ModelsLabError,
    StoreError,
)
from ..prices import Prices
from ..types.message import Message
from ..types.parsed import ParsedMessage
from ..types.usage import Usage
from ._course import Course, blamed
from ._progress import BulkProgress, Tally
from ._result import (
    BulkResult,
    Kept,
    answers_of,
    error_json,
    message_json,
    usage_from,
    usage_of,
)
from ._rows import Ask, Key, Recipe

if TYPE_CHECKING:
    from ._ledger import Ledger

R = TypeVar("R")
T = TypeVar("T")

REFUSED = b""
"""The digest of a row that was refused before it was sent: what it asks next time is new."""
LARGEST = 2**63 - 1


@dataclass
class Taken(Generic[R]):
    """The next row: its request, or why it has none, and what the store has of it."""

    index: int
    row: R
    key: Key | None = None
    ask: Ask[R] | None = None
    error: InvalidRequestError | None = None
    was_looked_for: bool = False
    stored: Kept | None = None
    equal: Kept | None = None
    failure: StoreError | None = None


class Desk(Generic[R, T]):
    """Hold everything that a run has in hand, which is bounded however many rows there are."""

    def __init__(
        self,
        course: Course,
        recipe: Recipe[R],
        ledger: Ledger | None,
        tally: Tally,
        *,
        adapter: TypeAdapter[T] | None,
        prices: Prices | None,
        max_in_flight: int,
        include_stored: bool,
        waiting: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self.course = course
        self.tally = tally
        self.line: deque[Ask[R]] = deque()
        """Requests to be sent, oldest first."""
        self.ready: deque[BulkResult[R, T]] = deque()
        """Results to be returned; what must be stored of them is stored."""
        self.unstored: list[tuple[Kept | None, BulkResult[R, T]]] = []
        """Results that have to be stored first, or to wait for others that have."""
        self.exhausted = False
        """Whether all rows have been taken."""
        self._recipe = recipe
        self._ledger = ledger
        self._adapter = adapter
        self._prices = prices
        self._max_in_flight = max_in_flight
        self._include_stored = include_stored
        self._waiting = waiting  # calls in the client's queue, of this run and others
        self._now = now
        self._in_hand = 0  # rows taken and not returned
        self._keys: dict[Key, Ask[R]] = {}  # of rows queued or in flight
        self._digests: dict[bytes, Ask[R]] = {}
        self._fresh: dict[Key, Kept] = {}  # of rows that are not stored yet
        self._fresh_answers: dict[bytes, Kept] = {}

    @property
    def wants_row(self) -> bool:
        """Whether there is room for another row."""
        return (
            len(self.line) < self._max_in_flight
            and self._in_hand < 3 * self._max_in_flight
            and not self.exhausted
            and self.course.end is None
        )

    @property
    def wants_rows(self) -> bool:
        """Whether there is room for enough rows to wake the reader of rows."""
        half = self._max_in_flight // 2
        return len(self.line) <= half and self._in_hand < 3 * self._max_in_flight - half

    @property
    def settled(self) -> bool:
        """Whether nothing more will be asked or stored."""
        no_more_rows = self.exhausted or self.course.end is not None
        return no_more_rows and self._in_hand == len(self.ready)

    def take(self, row: R) -> None:
        """Take the next row: queue its request, or put its result where results go."""
        self.put(self.read(row))

    def read(self, row: R) -> Taken[R]:
        """Make the request of the next row; `put` has to follow.

        It runs the caller's functions. It needs no lock, if one thread takes the rows.
        """
        taken = Taken(self.tally.taken, row)
        try:
            taken.key = self._recipe.key_of(taken.index, row)
            taken.ask = self._recipe.ask(taken.index, row, taken.key)
        except InvalidRequestError as error:
            taken.error = error
        return taken

    def has_in_hand(self, taken: Taken[R]) -> bool:
        """Tell whether a row with the same key or request is on its way to the store."""
        ask = taken.ask
        if ask is None:
            return False
        if ask.key in self._keys or ask.key in self._fresh:
            return True
        is_shared = ask.digest in self._digests or ask.digest in self._fresh_answers
        return self.course.deduplicate and is_shared

    def look(self, taken: Taken[R]) -> None:
        """Look for a row in the store, which may have to wait for what is written there.

        It needs no lock if no other row with this key or request is in hand: none can come to be
        while one thread takes the rows.
        """
        ask = taken.ask
        if self._ledger is None or ask is None:
            return
        try:
            taken.stored = self._ledger.find(ask.key, ask.digest, self.course.run)
            if self.course.deduplicate:
                taken.equal = self._ledger.find_equal(ask.digest)
        except StoreError as error:
            taken.failure = error
        taken.was_looked_for = True

    def put(self, taken: Taken[R]) -> None:
        """Queue the request of a row, or put its result where results go."""
        self.tally.taken += 1
        self._in_hand += 1
        try:
            if taken.failure is not None:
                raise taken.failure
            if taken.ask is not None:
                self._place(taken.ask, taken)
            elif taken.error is not None:
                self._refuse(taken.index, taken.row, taken.key, taken.error)
        except StoreError as error:
            self.course.stop(error)
            self._in_hand -= 1

    def next(self) -> Ask[R] | None:
        """Return the next request to be sent, or None if none may be."""
        if self.line and self.course.may_ask(self.line[0].model):
            self.tally.in_flight += 1
            return self.line.popleft()
        while self.line:  # it is for the next run
            self._drop(self.line.popleft())
        return None

    def json_of(self, outcome: Message | BaseException) -> str | Exception | None:
        """Return what is stored of an answer, or why it cannot be made. It needs no lock."""
        if self._ledger is None or not isinstance(outcome, Message):
            return None
        try:
            return message_json(outcome)
        except Exception as bug:  # noqa: BLE001  it ends the run, in `ended`
            return bug

    def ended(
        self, ask: Ask[R], outcome: Message | BaseException, json: str | Exception | None = None
    ) -> None:
        """Take the outcome of a request, and its JSON if that was made before."""
        self.tally.in_flight -= 1
        message = outcome if isinstance(outcome, Message) else None
        error = None
        if not isinstance(outcome, Message):
            error = self.course.failed(blamed(ask, outcome))
            if error is None:
                self._drop(ask)
                return
        try:
            if isinstance(json, Exception):
                raise json
            kept, result = self._concluded(ask, message, error, json)
        except Exception as bug:  # noqa: BLE001  without it the run would wait for the row for ever
            self.course.stop(bug)
            self._drop(ask)
            return
        self._forget(ask)
        self._file(kept, result)
        for follower in ask.followers:
            copy = None  # the same row once more
            if kept is not None and follower.key != ask.key:
                copy = _for(follower, kept, self.course.run)
            self._file(copy, _shared(follower, message, error))

    def take_unstored(self) -> list[tuple[Kept | None, BulkResult[R, T]]]:
        """Take what is to be stored; bring it back to `stored`."""
        batch, self.unstored = self.unstored, []
        return batch

    def stored(self, batch: list[tuple[Kept | None, BulkResult[R, T]]]) -> None:
        """Release results to be returned, now that they are stored."""
        for kept, result in batch:
            if kept is not None:
                self._fresh.pop(kept.key, None)
                self._fresh_answers.pop(kept.digest, None)
            self.ready.append(result)

    def hand_out(self) -> BulkResult[R, T]:
        """Return the next result."""
        self._in_hand -= 1
        return self.ready.popleft()

    def progress(self, now: float) -> BulkProgress:
        """Return the progress of the run."""
        waiting = min(self._waiting(), self.tally.in_flight)
        return self.tally.snapshot(now, len(self.line), waiting)

    def _place(self, ask: Ask[R], taken: Taken[R]) -> None:
        same = twin = stored = equal = None
        if taken.was_looked_for:
            stored, equal = taken.stored, taken.equal
        elif self._ledger is not None and (same := self._keys.get(ask.key)) is None:
            stored = self._stored(ask.key, ask.digest)
            if self.course.deduplicate and (twin := self._digests.get(ask.digest)) is None:
                equal = self._equal(ask, self._ledger)
        verdict = self.course.verdict(ask, same, stored, twin, equal)
        if verdict == "ask":
            if stored is not None and stored.digest == ask.digest:
                ask.attempts = stored.attempts
            self._keys[ask.key] = ask
            self._digests[ask.digest] = ask
            self.line.append(ask)
        elif verdict == "follow" and (leader := same or twin) is not None:
            self._keys[ask.key] = leader
            leader.followers.append(ask)
        elif verdict == "stored" and stored is not None:
            self._replay(ask, stored)
        elif verdict == "equal" and equal is not None:
            kept = _for(ask, equal, self.course.run)
            self._file(kept, self._from_store(ask, kept, "duplicate"))
        else:
            why = (
                f"row {ask.index}: another row, with another request, has the same key {ask.key!r}"
            )
            self._refuse(ask.index, ask.row, None, InvalidRequestError(why), shown=ask.key)

    def _stored(self, key: Key, digest: bytes | None = None) -> Kept | None:
        if self._ledger is None:
            return None
        return self._fresh.get(key) or self._ledger.find(key, digest, self.course.run)

    def _equal(self, ask: Ask[R], ledger: Ledger) -> Kept | None:
        return self._fresh_answers.get(ask.digest) or ledger.find_equal(ask.digest)

    def _forget(self, leader: Ask[R]) -> None:
        self._digests.pop(leader.digest, None)
        for ask in (leader, *leader.followers):
            self._keys.pop(ask.key, None)

    def _drop(self, ask: Ask[R]) -> None:
        self._forget(ask)
        self._in_hand -= 1 + len(ask.followers)

    def _concluded(
        self,
        ask: Ask[R],
        message: Message | None,
        error: ModelsLabError | None,
        json: str | None,
    ) -> tuple[Kept | None, BulkResult[R, T]]:
        """Return what is kept of a row that was asked, and its result."""
        usage = usage_of(message, error)
        attempts = ask.attempts + attempts_of(message, error)
        if self.course.budget is not None:
            self.course.budget.add(usage, ask.model)
        result: BulkResult[R, T] = BulkResult(
            ask.key,
            ask.index,
            ask.row,
            "refused" if isinstance(error, InvalidRequestError) else "asked",
            message=message,
            error=error,
            attempts=attempts,
            usage=usage,
            cost=self._cost(ask.model, usage),
        )
        if self._ledger is None:
            return None, result
        return self._keep(ask, message, error, attempts, usage, json), result

    def _replay(self, ask: Ask[R], stored: Kept) -> None:
        if ask.key in self._fresh:  # this row again, and not safe yet: it takes its turn
            self._file(None, self._from_store(ask, stored, "duplicate"))
            return
        if self._ledger is not None and stored.run != self.course.run:
            self._ledger.mark(stored, ask.index)
        result = self._from_store(ask, stored, "stored")
        self.tally.count(result)
        if self._include_stored:
            self.ready.append(result)
        else:
            self._in_hand -= 1

    def _from_store(self, ask: Ask[R], kept: Kept, source: Any) -> BulkResult[R, T]:
        is_stored = source == "stored"
        usage = usage_from(kept) if is_stored else Usage()
        return BulkResult(
            ask.key,
            ask.index,
            ask.row,
            source,
            kept=kept,
            read=self._adapter.validate_json if self._adapter is not None else None,
            attempts=kept.attempts if is_stored else 0,
            usage=usage,
            cost=self._cost(kept.model, usage),
        )

    def _refuse(
        self,
        index: int,
        row: R,
        key: Key | None,
        error: InvalidRequestError,
        shown: Key | None = None,
    ) -> None:
        """File the failure of a row that was never sent; without a key it is not stored."""
        self.course.failed(error)
        kept = None
        if key is not None and self._ledger is not None:
            stored = self._stored(key)
            is_taken = key in self._keys or (stored is not None and stored.run == self.course.run)
            if not is_taken:  # what another row has is not overwritten
                ask = Ask(index, row, key, {}, REFUSED, "")
                kept = self._keep(ask, None, error, 0, Usage())
        key = shown if key is None else key
        self._file(kept, BulkResult(key, index, row, "refused", error=error, usage=Usage()))

    def _file(self, kept: Kept | None, result: BulkResult[R, T]) -> None:
        self.tally.count(result)
        if self._ledger is None:
            self.ready.append(result)
            return
        if kept is not None:
            self._fresh[kept.key] = kept
            if kept.error is None and self.course.deduplicate:
                self._fresh_answers[kept.digest] = kept
        self.unstored.append((kept, result))

    def _keep(
        self,
        ask: Ask[R],
        message: Message | None,
        error: ModelsLabError | None,
        attempts: int,
        usage: Usage,
        json: str | None = None,
    ) -> Kept:
        come = next(reversed(answers_of(message, error)), None)
        return Kept(
            key=ask.key,
            digest=REFUSED if isinstance(error, InvalidRequestError) else ask.digest,
            position=ask.index,
            run=self.course.run,
            message=None if come is None else json or message_json(come),
            output=self._output_json(message),
            error=None if error is None else error_json(error),
            attempts=attempts,
            model=ask.model,
            request_id=None if come is None else come.request_id,
            input_tokens=min(usage.input_tokens, LARGEST),
            output_tokens=min(usage.output_tokens, LARGEST),
            cache_read_tokens=min(usage.cache_read_input_tokens, LARGEST),
            cache_write_tokens=min(usage.cache_creation_input_tokens, LARGEST),
            finished=self._now(),
        )

    def _output_json(self, message: Message | None) -> str | None:
        answer: Any = message  # narrowed, its type would have an unknown part
        if self._adapter is None or not isinstance(message, ParsedMessage):
            return None
        output = answer.parsed
        try:
            return self._adapter.dump_json(output, round_trip=True).decode()
        except ValueError as error:  # which pydantic's own error is
            self.course.stop(ConfigurationError(f"output: cannot be stored as JSON: {error}"))
            return None

    def _cost(self, model: str, usage: Usage) -> float | None:
        price = self._prices.find(model) if self._prices is not None else None
        return None if price is None else price.cost(usage)


def attempts_of(message: Message | None, error: ModelsLabError | None) -> int:
    """Return how often a row was sent: all retries, and all answers that did not fit."""
    if isinstance(error, APIError):
        return error.attempts
    infos = (answer.call_info for answer in answers_of(message, error))
    return sum(1 if info is None else info.attempts for info in infos)


def _for(ask: Ask[Any], kept: Kept, run: int) -> Kept:
    """Return what another row keeps, as what this row keeps: it cost nothing once more."""
    return kept._replace(
        key=ask.key,
        position=ask.index,
        run=run,
        attempts=0,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
    )


def _shared(
    ask: Ask[R], message: Message | None, error: ModelsLabError | None
) -> BulkResult[R, Any]:
    return BulkResult(
        ask.key, ask.index, ask.row, "duplicate", message=message, error=error, usage=Usage()
    )
