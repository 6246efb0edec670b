"""Run one call as a generator: attempts out, outcomes in. Decides all, waits and sends nothing.

A driver takes an `Attempt`, waits its `pause`, sends its `request` and hands back what came of it:

    flow = exchange(call, Deadline.of(config, clock))
    attempt = next(flow)
    while True:
        outcome = …                      # wait(attempt.pause); send(attempt.request)
        attempt = flow.send(outcome)     # until StopIteration brings the result

So it is tested with `next()` and `send()` alone: no socket, no clock but the one handed in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from ..endpoints import Endpoint
from ..errors import APIError, AuthenticationError
from ..observers import AttemptEnd, RetryPlan
from ..observers import Outcome as How
from ..types.call_info import CallInfo
from ..types.message import Message
from ..types.usage import Usage
from .log import log
from .reader import Opened
from .refusals import request_id
from .retry import Retry
from .secret import hide_in
from .values import Answer, Attempt, Call, Deadline, Outcome, Request
from .watch import is_watched, watching

T = TypeVar("T")


REDIRECTS = 5


def exchange(
    call: Call[T], deadline: Deadline, retry: Retry | None = None
) -> Generator[Attempt, Outcome, T]:
    """Send a call until it has a result or cannot have one; raise the last failure.

    Every attempt and what came of it passes here: whoever wants to see them all stands at the
    `yield`.
    """
    retry = retry or call.config.retry
    sent = _Sent(call, deadline)
    redirects, pause = 0, 0.0
    try:
        while True:
            if sent.watch:
                sent.begins(pause)
            outcome = yield Attempt(sent.request, pause, deadline.moment, call.config, call.reader)
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
            else:
                if sent.watch:
                    sent.succeeds(result)
                return result
            wait = retry.pause(failure, sent.tries)
            if wait is None:
                failure.hint = failure.hint or retry.given_up(failure, sent.tries)
            if wait is None or not deadline.allows(wait):
                sent.fails(failure)
                try:
                    raise failure
                finally:  # its traceback holds this frame: no circle, for its body may be large
                    del failure, outcome
            pause = wait
            sent.retries(failure, wait)
    except BaseException:
        sent.ends("cancelled")  # unless it has ended already
        raise


class _Sent:
    """What is known of a call on its way: what was asked, how often, and for how long."""

    def __init__(self, call: Call[Any], deadline: Deadline) -> None:
        self.request = call.request
        self.tries = 0
        self._config = call.config
        self._clock = deadline.clock
        self._started = self._sent = deadline.clock()
        self._info: CallInfo | None = None
        self._retried: Usage | None = None
        self.watch = watching(call, self._started) if is_watched(call) else None
        """Who is told what happens; None if nobody is."""

    def begins(self, pause: float) -> None:
        """Tell that a request is about to be sent, after a pause."""
        self._sent = self._clock() + pause
        if self.watch:
            self.watch.attempt_starts(self.tries + 1)

    def succeeds(self, result: object) -> None:
        """Tell that an attempt had its answer; for a stream, that the first of it has come."""
        self._attempted(None)
        if not isinstance(result, Opened):
            self.ends("complete", result=result)

    def fails(self, failure: APIError) -> None:
        """Tell that the last attempt failed, and the call with it."""
        self._attempted(failure)
        self.ends("failed", failure)

    def _attempted(self, failure: APIError | None) -> None:
        if self.watch:
            elapsed, known = self._clock() - self._sent, failure or self._info
            status: int | None = getattr(known, "status_code", None)
            request_id = known.request_id if known else None
            end = AttemptEnd(self.tries, elapsed, status or None, request_id, failure)
            self.watch.attempt_ends(end)

    def retries(self, failure: APIError, wait: float) -> None:
        """Tell that the call is repeated: to the log always, for somebody waits."""
        if failure.partial_message and failure.partial_message.usage.model_fields_set:
            usage = failure.partial_message.usage
            self._retried = self._retried + usage if self._retried else usage
        log.warning("attempt %d failed, retrying in %.2f s: %s", self.tries, wait, failure)
        self._attempted(failure)
        if self.watch:
            self.watch.retries(RetryPlan(self.tries + 1, wait, failure))

    def ends(self, outcome: How, failure: APIError | None = None, *, result: object = None) -> None:
        """Tell who watches that the call is over; only the first time counts."""
        if self.watch:
            message = result if isinstance(result, Message) else None
            elapsed = self._clock() - self._started
            self.watch.ends(outcome, elapsed, self.tries, failure, self._info, lambda: message)

    def described(self, outcome: Outcome) -> Outcome:
        """Return what arrived with what is known of the call, for the result to carry."""
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
        began, tries, received = self._clock(), self.tries, time.time()
        reader, ended, retried = opened.reader, list[float](), self._retried

        def describe(opened: Opened[Any]) -> CallInfo:
            first = opened.first_event
            return CallInfo(
                reader.status,
                reader.headers,
                reader.request_id,
                tries,
                (ended[0] if ended else self._clock()) - self._started,
                None if first is None else max(0.0, first - self._started),
                began - self._started if reader.message.has_content else None,
                reader.fed,
                received,
                retried,
            )

        def end(opened: Opened[Any], outcome: How, error: APIError | None) -> None:
            if ended:
                return
            ended.append(self._clock())
            if self.watch:
                elapsed, info = ended[0] - self._started, describe(opened)
                self.watch.ends(outcome, elapsed, tries, error, info, opened.snapshot)

        self._info = describe(opened)
        opened.describe, opened.end = describe, end

    def note(self, outcome: Outcome) -> None:
        """Count an attempt, and tell who wants to know (DEBUG) what came of it."""
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
        """Ask at another address next; what led there was no try."""
        self.request = replace(self.request, url=target)
        self.tries -= 1

    def sign(self, failure: APIError) -> APIError:
        """Write on an error all of this, and take the key out of it.

        Where it was raised inside the package is no news to a caller, and the variables there
        hold what the server said.
        """
        failure.__traceback__ = None
        hide = self._config.hide_key
        failure.method, failure.url = self.request.method, hide(self.request.url)
        failure.attempts, failure.elapsed = self.tries, self._clock() - self._started
        if isinstance(failure, AuthenticationError):
            failure.hint = failure.hint or _how_the_key_went(self.request, self._config.endpoint)
        hide_in(failure, hide)
        return failure


def _read(call: Call[T], outcome: Outcome) -> T:
    if isinstance(outcome, APIError):
        raise outcome
    return call.read(outcome)


def _same_origin_target(request: Request, outcome: Outcome) -> str | None:
    """Return where a redirect leads if the key may go there: the same scheme, host and port."""
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
    """Say in which header the server was given the key: they differ in where they look."""
    places = sorted(endpoint.credentials())
    sent = next((name for name in places if name in request.headers), None)
    if sent is None:
        return f"no key was sent as {' or '.join(places)}"
    cure = ", which auth=… of its endpoint can change" if endpoint.auth_can_change else ""
    return f"the key was sent as {sent}{cure}"
