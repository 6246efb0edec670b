"""The values that travel between deciding and sending: a request, an attempt, an answer, a call.

They hold what was decided and decide nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from .._records import record
from ..errors import APIError
from ..types.call_info import CallInfo
from .config import Config, Timeout
from .line import NotSent, Place
from .reader import Opened, Reader

T = TypeVar("T")


@record
class Request:
    """What goes over the wire, and how long each wait may last."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    timeout: Timeout
    stream: bool = False

    def __repr__(self) -> str:  # the headers hold the key
        return f"Request({self.method!r}, {self.url!r})"


@dataclass
class Answer:
    """A whole answer: its status, its headers with lower-case names, its body decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    hide: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """Takes the key out of a text, which servers like to quote."""
    info: CallInfo | None = field(default=None, repr=False, compare=False)
    """What is known of the call, for the result to carry. The exchange sets it, nothing else is."""

    def beginning(self) -> str:
        """Return the first characters of the body, for an error to show."""
        return self.hide(self.body[:5000].decode("utf-8", "replace"))[:100]

    def __repr__(self) -> str:  # what a server says may quote the key
        return f"Answer({self.status}, {len(self.body)} bytes)"


Arrived: TypeAlias = Answer | Opened[Any]
"""What a server gave: a whole answer, or a stream that has begun.

`Any` because the sender alone knows whether the stream is read by `for` or by `async for`.
"""

Outcome: TypeAlias = Arrived | APIError | NotSent
"""What came of an attempt: what the server gave, or why it gave nothing."""

MakesReader: TypeAlias = Callable[[int, Mapping[str, str]], Reader]
"""Makes what reads a stream, from the status and the headers of its answer."""


@record
class Call(Generic[T]):
    """One operation: what to send, and how to read what comes back."""

    config: Config
    request: Request
    read: Callable[[Arrived], T]
    """Return the result, or raise the `APIError` that the answer describes."""
    reader: MakesReader | None = None
    """For a call that streams."""
    operation: str = ""
    """What the caller called, such as `messages.create`."""
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """The body that is sent, before it became JSON."""
    queues: bool = False
    """Whether it waits in the client's queue, that is, whether it runs a model."""


@record
class Deadline:
    """The moment at which a whole call must be over: retries, pauses and the stream included."""

    clock: Callable[[], float]
    """Counts seconds from anywhere."""
    moment: float | None
    """On that clock; None if the call may take as long as it likes."""

    @classmethod
    def of(cls, config: Config, clock: Callable[[], float]) -> Deadline:
        """Return the deadline of a call that begins now."""
        return cls(clock, None if config.deadline is None else clock() + config.deadline)

    def allows(self, pause: float) -> bool:
        """Whether there is still time after a pause of so many seconds."""
        return self.moment is None or self.clock() + pause < self.moment


@record
class Attempt:
    """One sending of a request."""

    request: Request
    pause: float
    """Seconds to wait before it is sent."""
    until: float | None
    """The moment, on the clock of the exchange, at which the whole call must be over."""
    config: Config
    reader: MakesReader | None = None
    """Reads the answer if it is a stream."""
    place: Place | None = None
    """Where it waits for its turn before it is sent, after the pause."""
    starts: Callable[[], object] = field(default=bool, repr=False, compare=False)
    """To be called just before it is sent."""
