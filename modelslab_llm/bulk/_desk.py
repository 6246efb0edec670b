"""Keep the rows of a run in order: queued, in flight, stored, handed out.

It asks nobody, waits for nothing and starts no thread: a driver brings rows and answers, and takes
requests and results. It is not thread-safe; the driver with threads holds a lock.

A result goes through `unstored` before it is handed out, if there is a store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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
        """Results to be handed out; all that has to be stored of them is."""
        self.unstored: list[tuple[Kept | None, BulkResult[R, T]]] = []
        """Results that have to be stored first, or to wait for others that have."""
        self.exhausted = False
        """Whether there are no more rows."""
        self._recipe = recipe
        self._ledger = ledger
        self._adapter = adapter
        self._prices = prices
        self._max_in_flight = max_in_flight
        self._include_stored = include_stored
        self._waiting = waiting  # calls in the client's queue, of this run and others
        self._now = now
        self._in_hand = 0  # rows taken and not handed out
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
        """Whether there is room for so many rows that it is worth waking who brings them."""
        half = self._max_in_flight // 2
        return len(self.line) <= half and self._in_hand < 3 * self._max_in_flight - half

    @property
    def settled(self) -> bool:
        """Whether nothing more will be asked or stored."""
        no_more_rows = self.exhausted or self.course.end is not None
        return no_more_rows and self._in_hand == len(self.ready)

    def take(self, row: R) -> None:
        """Take the next row: queue its request, or put its result where results go."""
        index = self.tally.taken
        self.tally.taken += 1
        self._in_hand += 1
        key: Key | None = None
        try:
            key = self._recipe.key_of(index, row)
            ask = self._recipe.ask(index, row, key)
            self._place(ask)
        except InvalidRequestError as error:
            self._refuse(index, row, key, error)
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

    def ended(self, ask: Ask[R], outcome: Message | BaseException) -> None:
        """Take what came of a request that was sent."""
        self.tally.in_flight -= 1
        message = outcome if isinstance(outcome, Message) else None
        error = None
        if not isinstance(outcome, Message):
            error = self.course.failed(blamed(ask, outcome))
            if error is None:
                self._drop(ask)
                return
        try:
            kept, result = self._concluded(ask, message, error)
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
        """Let results be handed out, now that they are stored."""
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
        """Return how far the run has come."""
        waiting = min(self._waiting(), self.tally.in_flight)
        return self.tally.snapshot(now, len(self.line), waiting)

    def _place(self, ask: Ask[R]) -> None:
        same = twin = stored = equal = None
        if self._ledger is not None and (same := self._keys.get(ask.key)) is None:
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
        self, ask: Ask[R], message: Message | None, error: ModelsLabError | None
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
            "asked",
            message=message,
            error=error,
            attempts=attempts,
            usage=usage,
            cost=self._cost(ask.model, usage),
        )
        if self._ledger is None:
            return None, result
        return self._keep(ask, message, error, attempts, usage), result

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
        self._file(kept, BulkResult(key, index, row, "asked", error=error, usage=Usage()))

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
    ) -> Kept:
        come = next(reversed(answers_of(message, error)), None)
        return Kept(
            key=ask.key,
            digest=REFUSED if isinstance(error, InvalidRequestError) else ask.digest,
            position=ask.index,
            run=self.course.run,
            message=None if come is None else message_json(come),
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
        answer: Any = message  # narrowed, its type would have a part that nobody knows
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
    return sum(
        answer.call_info.attempts if answer.call_info is not None else 1
        for answer in answers_of(message, error)
    )


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
