"""What the exchange has of a client's line: the rules of a call, its place, and how that may end.

Pure. Who goes and who waits is decided in `flow`; who fulfils `Lines` and `Place` is `_http/line`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..errors import APIError, APIStatusError
from .flow import Flow

WhyNotSent: TypeAlias = Literal[
    "refused", "spent", "inside", "dry", "long", "late", "deadline", "queue"
]
"""A reason of `flow`, or the time that was over first: the call's, or that of `max_queue_wait`."""


@dataclass(frozen=True)
class NotSent:
    """An attempt that stood in line and was not made."""

    why: WhyNotSent


@dataclass(frozen=True)
class LineRules:
    """What a call may ask of its line."""

    flow_control: bool
    max_concurrency: int | None
    max_queue_wait: float | None
    max_retries: int
    max_retry_wait: float


class Place(Protocol):
    """A call's place in the line of its client: the exchange reports to it, the driver waits."""

    waited: float
    """Seconds in line, all times together."""

    @property
    def flow(self) -> Flow:
        """How the calls of this line flow now."""
        ...

    @property
    def last_refusal(self) -> APIError | None:
        """What the server said last when it refused, to this call or another one."""
        ...

    @property
    def is_sent_away(self) -> bool:
        """Whether the call was refused for good: it will not have another turn."""
        ...

    def wait(self, deadline: float | None) -> NotSent | None:
        """Wait for the turn of this call; return why it is not to be sent, if it is not."""
        ...

    async def await_turn(self, deadline: float | None) -> NotSent | None:
        """Wait for the turn of this call; `wait` for async."""
        ...

    def refused(self, failure: APIStatusError) -> float:
        """Note a refusal: the call waits in line again, or is sent away.

        Returns the seconds that the server asked to wait, or what is waited instead.
        """
        ...

    def answered(self) -> None:
        """Note that the request is over, and that the server did not refuse it."""
        ...

    def failed(self) -> None:
        """Note that the request is over without telling whether the server lets one in."""
        ...

    def opened(self) -> None:
        """Note that a stream has begun, which holds the place until it ends."""
        ...

    def abandoned(self) -> None:
        """Free the place from the garbage collector, which must not wait for a lock."""
        ...

    def leave(self) -> None:
        """Give up, wherever the call stands; once it is over this does nothing."""
        ...

    def may_retry(self) -> bool:
        """Take one retry after a failure from the client's budget, if one is left."""
        ...


class Lines(Protocol):
    """The lines of a client and its copies: one for each account they use."""

    def place(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Place | None:
        """Return what a call needs to stand in line; None if nothing is to limit it.

        `headers` are the request's: they tell the account, whose key is not kept.
        """
        ...

    def flow(self, origin: str, headers: Mapping[str, str], rules: LineRules) -> Flow:
        """Return how the calls of an account flow now."""
        ...

    def close(self) -> None:
        """Let everybody go who waits: the wire is closed, and tells them."""
        ...
