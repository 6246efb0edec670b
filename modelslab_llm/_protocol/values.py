"""The values that travel between deciding and sending: a request, an attempt, an answer, a call.

They hold what was decided and decide nothing themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import APIError
from .config import Config, Timeout
from .reader import Opened

T = TypeVar("T")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Answer:
    """A whole answer: its status, its headers with lower-case names, its body decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    hide: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """Takes the key out of a text, which servers like to quote."""

    def beginning(self) -> str:
        """Return the first characters of the body, for an error to show."""
        return self.hide(self.body[:5000].decode("utf-8", "replace"))[:100]

    def __repr__(self) -> str:  # what a server says may quote the key
        return f"Answer({self.status}, {len(self.body)} bytes)"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One operation: what to send, and how to read what comes back."""

    request: Request
    read: Callable[[Answer], T]
    """Return the result, or raise the `APIError` that the answer stands for."""
    model: str = ""


@dataclass(frozen=True)
class Attempt:
    """One sending of a request."""

    request: Request
    pause: float
    """Seconds to wait before it is sent."""
    until: float | None
    """The moment, on the clock of the exchange, at which the whole call must be over."""
    config: Config
    model: str


Outcome: TypeAlias = Answer | Opened[Any] | APIError
"""What came of an attempt: a whole answer, an opened stream, or no answer."""
