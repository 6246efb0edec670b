"""See what happens: an observer is told of each call, attempt, retry and ending.

Metrics, logging, tracing and budgets stand on this. Pure values and no-op methods; who calls them
is `_protocol/watch`.
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
"""How a call ended: with its whole answer; by an error; by a stream that was closed early; by the
cancellation of the task, or an exception such as Ctrl-C, while it was under way."""


@dataclass(eq=False)
class ObservedCall:
    """One call, from its start to its end. The same object is given to every method.

    It never holds a prompt, an answer's text, or a key.
    """

    operation: str
    """`messages.create`, `messages.stream`, `messages.parse`, `messages.count_tokens`, …."""
    method: str
    url: str
    model: str
    """The model that was asked for; `""` where the operation names none."""
    stream: bool
    parameters: Mapping[str, float | str]
    """`max_tokens`, `temperature`, `top_p`, `top_k` and `service_tier`, those that were given."""
    started: float
    """The start of the call, in seconds of a monotonic clock."""
    state: dict[object, Any] = field(default_factory=dict[object, Any], repr=False)
    """For observers to keep what belongs to this call; use yourself as the key."""


@dataclass(frozen=True)
class AttemptEnd:
    """What came of one sending of the request."""

    number: int
    """1 for the first."""
    elapsed: float
    """Seconds from the sending to the whole answer, to the first content of a stream, or to the
    failure."""
    status_code: int | None
    """The HTTP status; None where no answer came."""
    request_id: str | None
    error: APIError | None
    """Why it failed, where it did."""


@dataclass(frozen=True)
class RetryPlan:
    """The decision to send a request again."""

    number: int
    """The number of the attempt to come."""
    wait: float
    """Seconds until it is sent. After a 429 or 529 the call waits in the client's queue, and this
    is the wait that the server asked for: its turn may come sooner or later."""
    error: APIError
    """What it is retried for."""


@dataclass(frozen=True)
class ResumePlan:
    """The decision to ask for the rest of an answer, of which some has come."""

    number: int
    """The number of the attempt to come."""
    wait: float
    """Seconds until it is sent."""
    why: SeamReason
    error: APIError | None
    """What broke the stream; None for an answer that reached `max_tokens`."""
    at: int
    """How many characters of the answer's text have come."""


@dataclass(frozen=True)
class CallEnd:
    """How a call ended, and what it took."""

    outcome: Outcome
    elapsed: float
    """Seconds from the start of the call to its end, retries and the whole stream included."""
    attempts: int
    error: APIError | None
    """The error that the caller sees, where the outcome is `failed`; None for a
    `ConfigurationError`, such as certificates that cannot be read: then nothing was sent."""
    info: CallInfo | None
    """None where no answer came."""
    message: Message | None = field(repr=False)
    """The message, or what came of it; None for other operations and where no answer came."""

    @property
    def usage(self) -> Usage | None:
        """The token counts the server sent; of a stream that did not complete, those so far."""
        return self.message.usage if self.message else None

    @property
    def usage_is_partial(self) -> bool:
        """Whether the stream ended before the server had counted all of its tokens."""
        return self.message is not None and self.outcome != "complete"


class Observer:
    """Override what you want to be told of, and give it to a client: `ModelsLab(observers=[…])`.

    Methods are plain functions, for the async client too. They are called in the thread or task
    of the call, so they must not block. What one raises is logged and never breaks the call.
    `on_end` is called exactly once for each `on_start`.

        class Metrics(Observer):
            def on_end(self, call, end):
                histogram.record(end.elapsed, {"model": call.model, "outcome": end.outcome})
    """

    def on_start(self, call: ObservedCall) -> None:
        """Be told that a call begins; nothing has been sent.

        Args:
            call: The call, the same object each time.
        """

    def on_attempt_start(self, call: ObservedCall, number: int) -> None:
        """Be told that the request is about to be sent.

        Args:
            call: The call, the same object each time.
            number: Which attempt it is; the first is 1.
        """

    def on_attempt_end(self, call: ObservedCall, attempt: AttemptEnd) -> None:
        """Be told what came of an attempt; for a stream, once its first content has come.

        Args:
            call: The call, the same object each time.
            attempt: What came of it.
        """

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        """Be told that a failed attempt will be retried, before the backoff.

        Args:
            call: The call, the same object each time.
            retry: When, and why.
        """

    def on_resume(self, call: ObservedCall, resume: ResumePlan) -> None:
        """Be told that the rest of a begun answer will be asked for, before the backoff.

        Args:
            call: The call, the same object each time.
            resume: When, and why.
        """

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        """Be told how the call ended; for a stream, when it was read to its end or closed.

        Args:
            call: The call, the same object each time.
            end: How it ended.
        """
