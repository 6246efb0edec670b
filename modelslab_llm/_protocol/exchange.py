"""Run one call as a generator that yields attempts and receives outcomes.

This module makes every decision of a call, but never waits or sends. A driver takes an `Attempt`,
waits its `pause`, sends its `request` and sends back the outcome:

    flow = exchange(call, Deadline.of(config, clock))
    attempt = next(flow)
    while True:
        outcome = …                      # wait(attempt.pause); send(attempt.request)
        attempt = flow.send(outcome)     # until StopIteration brings the result

Tests need only `next()` and `send()`: no socket, and no clock except the one passed in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit
from weakref import finalize

from ..endpoints import Endpoint
from ..errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
)
from ..observers import AttemptEnd, ResumePlan, RetryPlan
from ..observers import Outcome as How
from ..types.call_info import CallInfo
from ..types.message import Message
from ..types.usage import Usage
from .line import NotSent, Place, WhyNotSent
from .log import log
from .reader import Opened, Reader
from .refusals import is_refusal, request_id
from .retry import Retry
from .secret import hide_in
from .tab import Tab
from .values import Answer, Attempt, Call, Deadline, Outcome, Request
from .watch import is_watched, watching

T = TypeVar("T")


REDIRECTS = 5

WHY_NOT_SENT: dict[WhyNotSent, str] = {
    "spent": "the server has accepted no request since this client was created",
    "inside": "an open stream of the same task or thread may hold the last slot; close it first",
    "dry": "the server has accepted no request for a minute beyond its last hint",
    "long": "not retried: the wait is above max_retry_wait, {max_retry_wait:g} s",
    "queue": "the wait in the queue is above max_queue_wait, {max_queue_wait:g} s",
    "late": "the server asks for a wait longer than the time left",
    "deadline": "the deadline of {deadline:g} s has passed in the queue",
}


def exchange(
    call: Call[T], deadline: Deadline, retry: Retry | None = None
) -> Generator[Attempt, Outcome, T]:
    """Send a call until it has a result or cannot have one; raise the last failure.

    Every attempt and its outcome pass through the `yield`: to see them all, look there.

    Raises `BudgetSpentError` before anything is sent if the client's budget is spent.
    """
    # A call with its own retry policy waits for a server that is starting up, and does not queue.
    sent = Sent(call, deadline, place_of(call) if retry is None else None)
    return (yield from exchanged(call, sent, retry or call.config.retry))


def exchanged(call: Call[T], sent: Sent, retry: Retry) -> Generator[Attempt, Outcome, T]:
    """Do what `exchange` does, for callers that need the state of the call afterwards."""
    try:
        return (yield from attempts(call, sent, retry))
    except APIError as failure:
        sent.ends("failed", failure)
        raise
    except ConfigurationError:  # found when the connection was opened
        sent.ends("failed")
        raise
    except BaseException:
        sent.ends("cancelled")
        raise


def attempts(
    call: Call[T], sent: Sent, retry: Retry, pause: float = 0.0
) -> Generator[Attempt, Outcome, T]:
    """Send a request until it has a result, without telling observers that the call has ended."""
    try:
        return (yield from _attempts(call, sent, retry, pause))
    except BaseException:
        if sent.place:
            sent.place.leave()
        raise


def _attempts(
    call: Call[T], sent: Sent, retry: Retry, pause: float
) -> Generator[Attempt, Outcome, T]:
    redirects, deadline = 0, sent.deadline
    failure: APIError | None = None
    while True:
        outcome = yield Attempt(
            sent.request, pause, deadline.moment, call.config, call.reader, sent.place, sent.starts
        )
        if isinstance(outcome, NotSent):
            failure, wait = sent.not_sent(outcome.why, failure), None
        else:
            target = _same_origin_target(sent.request, outcome) if redirects < REDIRECTS else None
            sent.note(outcome)
            if target:
                redirects, pause = redirects + 1, 0.0
                sent.follow(target)
                continue
            try:
                result = _read(call, sent.described(outcome))
            except APIError as error:
                failure = sent.sign(error)
                sent.attempted(outcome, failure)
            else:
                sent.attempted(outcome, None)
                sent.succeeds(outcome, result)
                return result
            wait = sent.pause_after(failure, retry)
        if wait is None:
            failure.hint = failure.hint or retry.given_up(failure, sent.failures)
        if wait is None or not deadline.allows(wait):
            try:
                raise failure
            finally:  # break the cycle of traceback and frame: the body may be large
                del failure, outcome
        pause = wait
        sent.retries(failure, wait)


def place_of(call: Call[Any]) -> Place | None:
    """Return the place of a call in the queue before it is sent; None if nothing limits it."""
    config = call.config
    if not call.queues or config.lines is None:
        return None
    return config.lines.place(config.endpoint.base_url, call.request.headers, config.line_rules)


class Sent:
    """The state of a call: the request, the attempts so far and the time they took."""

    def __init__(self, call: Call[Any], deadline: Deadline, place: Place | None) -> None:
        self._tab = Tab.of(call)  # first: if the budget is spent, there is no call
        self.request = call.request
        self.place = place
        self.deadline = deadline
        self.tries = 0
        self._refusals = 0
        self._before = 0
        self._hint = 0.0
        self._waited = 0.0
        self._config = call.config
        self._clock = deadline.clock
        self._started = self._sent = deadline.clock()
        self._info: CallInfo | None = None
        self._retried: Usage | None = None
        self._began: float | None = None
        self._received = 0
        self._reader: Reader | None = None
        self._if_lost: list[finalize[..., Any]] = []
        """Callbacks for when an open stream is garbage-collected without being closed."""
        self.watch = watching(call, self._started) if is_watched(call) else None
        """The observers to notify; None if there are none."""

    def starts(self) -> None:
        """Note that the request is being sent: its pause and its wait in the queue are over."""
        self._sent = self._clock()
        if self.watch:
            self.watch.attempt_starts(self.tries + 1)

    def attempted(self, outcome: Outcome, failure: APIError | None) -> None:
        """Tell observers the outcome of an attempt."""
        if self.watch:
            elapsed, known = self._clock() - self._sent, failure or self._info
            status: int | None = getattr(known, "status_code", None)
            request_id = known.request_id if known else None
            end = AttemptEnd(self.tries, elapsed, status or None, request_id, failure)
            self.watch.attempt_ends(end)

    def retries(self, failure: APIError, wait: float) -> None:
        """Tell observers that the call is retried. It is always logged, because the caller
        waits.
        """
        if failure.partial_message and failure.partial_message.usage.model_fields_set:
            usage = failure.partial_message.usage
            self._retried = self._retried + usage if self._retried else usage
            if self._tab:
                self._tab.put(failure.partial_message, is_partial=True)
        queue = self._queue_for(failure)
        if queue is not None and queue.is_sent_away:
            return  # not retried
        if queue is not None:
            wait = self._hint
        if queue is not None and queue.flow.in_flight + queue.flow.waiting > 1:
            line = "refused, back in the queue (limit %s, %d waiting): %s"
            log.info(line, queue.flow.limit, queue.flow.waiting, failure)
        else:  # alone, it waits as long as the server asked
            log.warning("attempt %d failed, retrying in %.2f s: %s", self.tries, wait, failure)
        if self.watch:
            self.watch.retries(RetryPlan(self.tries + 1, wait, failure))

    def stream_is_over(self, *, whole: bool) -> None:
        """Free the slot of a stream that ended, although its call continues."""
        if self.place and whole:
            self.place.answered()
        elif self.place:
            self.place.failed()

    def may_retry(self) -> bool:
        """Take one retry from the client's budget, if one is left."""
        return self.place is None or self.place.may_retry()

    def goes_on(self, request: Request, plan: ResumePlan) -> None:
        """Note that another request of the same call will ask for the rest of its answer."""
        for lost in self._if_lost:  # otherwise collecting the old stream would end the call
            lost.detach()
        self._if_lost.clear()
        if self._reader:
            self._received += self._reader.fed
        self.request, self._before = request, self.tries - self._refusals
        if plan.error:
            line = "the stream broke, resuming after %d characters in %.2f s: %s"
            log.warning(line, plan.at, plan.wait, plan.error)
        else:
            log.info("max_tokens reached, continuing after %d characters", plan.at)
        if self.watch:
            self.watch.resumes(plan)

    @property
    def failures(self) -> int:
        """The number of failed attempts, without refusals, which use up no retry."""
        return self.tries - self._refusals - self._before

    def pause_after(self, failure: APIError, retry: Retry) -> float | None:
        """Report a failure to the queue; return the seconds to wait, or None to give up."""
        place = self.place
        if place is None:
            return retry.pause(failure, self.failures)
        if (queue := self._queue_for(failure)) and retry.worth_it(failure):
            assert isinstance(failure, APIStatusError)
            self._refusals += 1
            self._hint = queue.refused(failure)
            return 0.0  # it waits in the queue, for as long as that takes
        if isinstance(failure, APIStatusError) and failure.status_code < 500:
            place.answered()
        else:
            place.failed()
        wait = retry.pause(failure, self.failures)
        if wait is not None and not place.may_retry():
            failure.hint = "not retried: too many calls of this client fail"
            return None
        return wait

    def _queue_for(self, failure: APIError) -> Place | None:
        """Return the place where the call queues after this failure; None if it does not."""
        return self.place if is_refusal(failure) and self._config.flow_control else None

    def not_sent(self, why: WhyNotSent, failure: APIError | None) -> APIError:
        """Return the error of a call that was not sent, or not sent again, after the queue."""
        self._tell_wait()
        config = self._config
        reason = WHY_NOT_SENT.get(why, "").format(
            max_retry_wait=config.max_retry_wait,
            max_queue_wait=config.max_queue_wait,
            deadline=config.deadline,
        )
        if failure is None:
            failure = self._turn_never_came(why, reason)
        failure.hint = reason if self.tries else f"not sent: {reason}"
        return self.sign(failure)

    def _turn_never_came(self, why: WhyNotSent, reason: str) -> APIError:
        refusal = self.place.last_refusal if self.place else None
        if refusal is not None and why != "deadline":
            refusal = copy(refusal)  # it belongs to another call
            refusal.partial_message = None
            return refusal
        error = APITimeoutError(reason)
        error.phase, error.permanent = "deadline" if why == "deadline" else "queue", True
        return error

    def _tell_wait(self) -> None:
        """Log how long the call waited in the queue, and why."""
        if self.place and (waited := self.place.waited - self._waited) > 0:
            self._waited = self.place.waited
            flow = self.place.flow
            level = logging.INFO if waited >= 1 else logging.DEBUG
            line = "waited %.2f s in the queue (limit %s, %d waiting)"
            log.log(level, line, waited, flow.limit, flow.waiting)

    def succeeds(self, outcome: Outcome, result: object) -> None:
        """Note that the call has its result, and tell the queue if its slot is free."""
        if isinstance(outcome, Opened):
            if self.place:
                self.place.opened()
                self._note_if_lost(outcome, self.place.abandoned)
            if self._tab:  # for a stream that is dropped without being closed
                self._note_if_lost(outcome, self._tab.settle_left, outcome.reader.message)
            return
        if self.place:
            self.place.answered()
        self.ends("complete", result=result)

    def lends(self, outer: Opened[Any]) -> None:
        """Note that the caller holds this stream, which joins several, and may drop it."""
        if self._tab:
            finalize(outer, self._tab.settle_left, outer.message).atexit = False

    def _note_if_lost(self, opened: object, do: Callable[..., Any], *arguments: object) -> None:
        lost = finalize(opened, do, *arguments)
        lost.atexit = False
        self._if_lost.append(lost)

    def ends(self, outcome: How, failure: APIError | None = None, *, result: object = None) -> None:
        """Tell observers that the call is over; only the first time counts."""
        message = result if isinstance(result, Message) else None
        if self._tab:
            partial = failure.partial_message if failure else None
            self._tab.settle(message or partial, is_partial=outcome != "complete")
        if self.watch:
            elapsed = self._clock() - self._started
            self.watch.ends(outcome, elapsed, self.tries, failure, self._info, lambda: message)

    def described(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the state of the call, which the result will carry."""
        if isinstance(outcome, Answer):
            elapsed, body = self._clock() - self._started, len(outcome.body)
            self._info = outcome.info = CallInfo(
                outcome.status,
                outcome.headers,
                request_id(outcome.headers),
                self.tries,
                elapsed,
                None,
                None,
                body,
                time.time(),
                self._retried,
            )
        if isinstance(outcome, Opened):
            self._describe_stream(outcome)
        return outcome

    def _describe_stream(self, opened: Opened[Any]) -> None:
        reader, ended, retried = opened.reader, list[float](), self._retried
        received, before = time.time(), self._received
        began = self._began = self._clock() if self._began is None else self._began
        self._reader = reader

        def describe(opened: Opened[Any]) -> CallInfo:
            first = opened.first_event
            return CallInfo(
                reader.status,
                reader.headers,
                reader.request_id,
                self.tries,
                (ended[0] if ended else self._clock()) - self._started,
                None if first is None else max(0.0, first - self._started),
                began - self._started if opened.message.has_content else None,
                before + reader.fed,
                received,
                retried,
            )

        def end(opened: Opened[Any], outcome: How, error: APIError | None) -> None:
            if ended:
                return
            ended.append(self._clock())
            if self.place and outcome == "complete":
                self.place.answered()
            elif self.place:
                self.place.failed()
            if self._tab:
                self._tab.settle(opened.snapshot(), is_partial=outcome != "complete")
            if self.watch:
                elapsed, info = ended[0] - self._started, describe(opened)
                self.watch.ends(outcome, elapsed, self.tries, error, info, opened.snapshot)

        self._info = describe(opened)
        opened.describe, opened.end = describe, end

    def note(self, outcome: Outcome) -> None:
        """Count an attempt, and log its outcome at DEBUG."""
        self._tell_wait()
        self.tries += 1
        if isinstance(outcome, APIError):
            self.sign(outcome)
        elif isinstance(outcome, Opened):
            outcome.sign = self.sign
        if log.isEnabledFor(logging.DEBUG):
            url = self._config.hide_key(self.request.url)  # a redirect may have put the key there
            elapsed = self._clock() - self._started
            log.debug("%s %s: %r, %.3f s", self.request.method, url, outcome, elapsed)

    def follow(self, target: str) -> None:
        """Send to another address next; the attempt that was redirected does not count as a try."""
        self.request = replace(self.request, url=target)
        self.tries -= 1

    def sign(self, failure: APIError) -> APIError:
        """Add the state of the call to an error, and remove the key from it.

        The internal traceback is dropped: it does not help a caller, and its variables contain what
        the server said.
        """
        failure.__traceback__ = None
        hide = self._config.hide_key
        failure.method, failure.url = self.request.method, hide(self.request.url)
        failure.attempts, failure.elapsed = self.tries, self._clock() - self._started
        failure.waited = self.place.waited if self.place else 0.0
        if isinstance(failure, AuthenticationError):
            failure.hint = failure.hint or _how_the_key_went(self.request, self._config.endpoint)
        hide_in(failure, hide)
        return failure


def _read(call: Call[T], outcome: Outcome) -> T:
    assert not isinstance(outcome, NotSent)
    if isinstance(outcome, APIError):
        raise outcome
    return call.read(outcome)


def _same_origin_target(request: Request, outcome: Outcome) -> str | None:
    """Return the target of a redirect if the key may be sent there: same scheme, host and port."""
    followed = (307, 308) if request.method == "POST" else (301, 302, 307, 308)
    if not isinstance(outcome, Answer) or outcome.status not in followed:
        return None
    try:
        target = urljoin(request.url, outcome.headers.get("location", ""))
        here, there = urlsplit(request.url), urlsplit(target)
        same = (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())
    except ValueError:
        return None
    return target if same and target != request.url and target.isprintable() else None


def _how_the_key_went(request: Request, endpoint: Endpoint) -> str:
    """Say which header carried the key: servers differ in where they look."""
    places = sorted(endpoint.credentials())
    sent = next((name for name in places if name in request.headers), None)
    if sent is None:
        return f"no key was sent as {' or '.join(places)}"
    cure = "; auth=... of the endpoint changes that" if endpoint.auth_can_change else ""
    return f"the key was sent as {sent}{cure}"
