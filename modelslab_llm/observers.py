"""Observe calls: an observer is notified of each call, attempt, retry and outcome.

Metrics, logging, tracing and budgets build on this. Pure values and no-op methods;
`_protocol/watch` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .errors import APIError
from .types.call_info import CallInfo
from .types.message import Message
from .types.seams import SeamReason
from .types.usage import Usage

__all__ = [
    "AttemptEnd",
    "CallEnd",
    "ObservedCall",
    "Observer",
    "Outcome",
    "ResumePlan",
    "RetryPlan",
]

Outcome: TypeAlias = Literal["complete", "failed", "left", "cancelled"]
"""How a call ended: with a complete answer; with an error; with a stream that was closed early;
with the cancellation of its task, or an exception such as Ctrl-C, during the call."""


@dataclass(eq=False)
class ObservedCall:
    """One call, from its start to its end.

    Every method gets the same object. It never contains a prompt, the text of an answer, or a key.
    """

    operation: str
    """`messages.create`, `messages.stream`, `messages.parse`, `messages.count_tokens`, …."""
    method: str
    url: str
    model: str
    """The requested model; `""` if the operation has none."""
    stream: bool
    parameters: Mapping[str, float | str]
    """Those of `max_tokens`, `temperature`, `top_p`, `top_k` and `service_tier` that were
    passed."""
    started: float
    """The start of the call, in seconds of a monotonic clock."""
    state: dict[object, Any] = field(default_factory=dict[object, Any], repr=False)
    """Storage for the data of observers about this call; use `self` as the key."""


@dataclass(frozen=True)
class AttemptEnd:
    """The outcome of one attempt to send the request."""

    number: int
    """1 for the first."""
    elapsed: float
    """Seconds from the request to the complete response, the first content of a stream, or the
    failure."""
    status_code: int | None
    """The HTTP status; None if no response arrived."""
    request_id: str | None
    error: APIError | None
    """The error, if it failed."""


@dataclass(frozen=True)
class RetryPlan:
    """The decision to send a request again."""

    number: int
    """The number of the next attempt."""
    wait: float
    """Seconds until it is sent. After a 429 or 529 the call waits in the client's queue, and this
    is the wait that the server asked for: its turn may come sooner or later."""
    error: APIError
    """The error that is the reason for the retry."""


@dataclass(frozen=True)
class ResumePlan:
    """The decision to request the rest of an answer that was interrupted or truncated."""

    number: int
    """The number of the next attempt."""
    wait: float
    """Seconds until it is sent."""
    why: SeamReason
    error: APIError | None
    """What broke the stream; None for an answer that reached `max_tokens`."""
    at: int
    """The number of characters of the answer's text so far."""


@dataclass(frozen=True)
class CallEnd:
    """How a call ended, with its duration, attempts and usage."""

    outcome: Outcome
    elapsed: float
    """Seconds from the start of the call to its end, retries and the whole stream included."""
    attempts: int
    error: APIError | None
    """The error that the caller sees, if the outcome is `failed`; None for a `ConfigurationError`,
    such as an unreadable certificate, because nothing was sent."""
    info: CallInfo | None
    """None if no response arrived."""
    message: Message | None = field(repr=False)
    """The complete or partial message; None for other operations and if no response arrived."""

    @property
    def usage(self) -> Usage | None:
        """The usage that the server reported; for an incomplete stream, the usage so far."""
        return self.message.usage if self.message else None

    @property
    def usage_is_partial(self) -> bool:
        """Whether the stream ended before the server had reported all of its tokens."""
        return self.message is not None and self.outcome != "complete"


class Observer:
    """Subclass it, override methods, and pass an instance to a client: `ModelsLab(observers=[…])`.

    Methods are plain functions, for the async client too. They are called in the thread or task of
    the call, so they must not block. An exception in one is logged and never breaks the call.
    `on_end` is called exactly once for each `on_start`.

        class Metrics(Observer):
            def on_end(self, call, end):
                histogram.record(end.elapsed, {"model": call.model, "outcome": end.outcome})
    """

    def on_start(self, call: ObservedCall) -> None:
        """Handle the start of a call; nothing has been sent.

        Args:
            call: The call, the same object each time.
        """

    def on_attempt_start(self, call: ObservedCall, number: int) -> None:
        """Handle an attempt that is about to be sent.

        Args:
            call: The call, the same object each time.
            number: Which attempt it is; the first is 1.
        """

    def on_attempt_end(self, call: ObservedCall, attempt: AttemptEnd) -> None:
        """Handle the outcome of an attempt; for a stream, when its first content has arrived.

        Args:
            call: The call, the same object each time.
            attempt: Its outcome.
        """

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        """Handle the decision to retry a failed attempt, before the backoff.

        Args:
            call: The call, the same object each time.
            retry: When, and why.
        """

    def on_resume(self, call: ObservedCall, resume: ResumePlan) -> None:
        """Handle the decision to request the rest of an answer, before the backoff.

        Args:
            call: The call, the same object each time.
            resume: When, and why.
        """

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        """Handle the end of a call; for a stream, when it was read to its end or closed.

        Args:
            call: The call, the same object each time.
            end: How it ended.
        """
