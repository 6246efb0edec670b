"""Define what the exchange needs from a client's queue: rules, places, and why a call is not sent.

Pure. `flow` decides who is sent and who waits; `_http/line` implements `Lines` and `Place`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias

from .._records import record
from ..errors import APIError, APIStatusError
from .flow import Flow

WhyNotSent: TypeAlias = Literal[
    "refused", "spent", "inside", "dry", "long", "late", "deadline", "queue"
]
"""A reason of `flow`, or the limit that was reached first: the deadline or `max_queue_wait`."""


@record
class NotSent:
    """An attempt that waited in the queue and was not made."""

    why: WhyNotSent


@record
class LineRules:
    """The limits of one call in the queue."""

    flow_control: bool
    max_concurrency: int | None
    max_queue_wait: float | None
    max_retries: int
    max_retry_wait: float


class Place(Protocol):
    """A call's place in the queue of its client: the exchange reports to it, the driver waits."""

    waited: float
    """Total seconds in the queue."""

    @property
    def flow(self) -> Flow:
        """The current state of the queue."""
        ...

    @property
    def last_refusal(self) -> APIError | None:
        """The server's latest refusal, of this call or another one."""
        ...

    @property
    def is_sent_away(self) -> bool:
        """Whether the call was refused for good and will not be sent again."""
        ...

    def wait(self, deadline: float | None) -> NotSent | None:
        """Wait until this call may be sent; return why it may not, if it may not."""
        ...

    async def await_turn(self, deadline: float | None) -> NotSent | None:
        """Wait until this call may be sent; `wait` for async."""
        ...

    def refused(self, failure: APIStatusError) -> float:
        """Note a refusal: the call queues again, or is sent away.

        Returns the seconds that the server asked to wait, or the backoff in their place.
        """
        ...

    def answered(self) -> None:
        """Note that the request is over, and that the server did not refuse it."""
        ...

    def failed(self) -> None:
        """Note that the request is over, without learning whether the server accepts any."""
        ...

    def opened(self) -> None:
        """Note that a stream has begun, which holds its slot until it ends."""
        ...

    def abandoned(self) -> None:
        """Free the slot from the garbage collector, which must not wait for a lock."""
        ...

    def leave(self) -> None:
        """Give up, in whatever state; does nothing after the call is over."""
        ...

    def may_retry(self) -> bool:
        """Take one retry after a failure from the client's retry budget, if one is left."""
        ...


class Lines(Protocol):
    """The queues of a client and its copies: one for each account they use."""

    def place(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Place | None:
        """Return the place of a call, for queueing; None if nothing limits the call.

        `headers` are the request's: they identify the account. The key is not kept.
        """
        ...

    def flow(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Flow:
        """Return the current state of an account's queue."""
        ...

    def close(self) -> None:
        """Release all waiting calls; the closed wire then raises their errors."""
        ...
