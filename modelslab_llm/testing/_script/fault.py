"""What may go wrong with an answer, and at which byte. Pure: a fault is struck into bytes here.

Whoever sends them breaks off, falls silent or resets where a `Plan` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple, TypeAlias, get_args

__all__ = ["ENDINGS", "KINDS", "Ending", "Fault", "Frame", "struck", "struck_whole"]

Ending: TypeAlias = Literal["end", "cut", "reset", "stall", "refuse"]
"""What comes after the last byte that is sent: `end` is the good order of HTTP."""

Oddity: TypeAlias = Literal["error", "garbage", "repeat", "omit"]
"""How the sent data deviates."""

ENDINGS: tuple[Ending, ...] = get_args(Ending)
KINDS: tuple[Ending | Oddity, ...] = (*ENDINGS, *get_args(Oddity))


@dataclass(frozen=True, repr=False)
class Fault:
    """A failure of an answer, and its position: one class method for each kind.

    Events are counted from 1, in the order they are sent, pings included. With `after=n` the fault
    occurs after n complete events (0: only the headers), with `within=n` in the middle of event n,
    and without a position before the headers. Without streaming, every position inside a stream
    means the middle of the body. A fault before the headers can be an entry of a script; any other
    fault goes into `Reply(…, fault=…)`. Raises `ValueError` for an impossible position.

    >>> Fault.cut(after=3)
    Fault.cut(after=3)
    >>> Fault.stall(after=1, within=2)
    Traceback (most recent call last):
    ValueError: Fault.stall(after=1, within=2): after and within are two positions; pass only one
    """

    kind: Ending | Oddity
    after: int | None = None
    within: int | None = None
    event: int | str | None = None
    data: bytes = b""
    type: str = ""
    message: str = ""

    @classmethod
    def reset(cls, *, after: int | None = None, within: int | None = None) -> Fault:
        """Reset the connection (RST); on some systems, data in transit is lost."""
        return cls("reset", after, within)

    @classmethod
    def cut(cls, *, after: int | None = None, within: int | None = None) -> Fault:
        """Close the connection (FIN) before the body, or the answer, is complete."""
        return cls("cut", after, within)

    @classmethod
    def end(cls, *, after: int | None = None, within: int | None = None) -> Fault:
        """End the body correctly, although the message in it is incomplete.

        This is what a client sees when the server behind a gateway dies. Requires a position.
        """
        return cls("end", after, within)

    @classmethod
    def stall(cls, *, after: int | None = None, within: int | None = None) -> Fault:
        """Stop sending, and keep the connection open until the client leaves.

        A `LocalServer` really is silent, so the client's own timeouts end the call: use a short
        `timeout`. A `ScriptedTransport` does not wait: the call ends immediately with the read
        timeout that it would have had. Without a read timeout, it fails with a `RuntimeError`.
        """
        return cls("stall", after, within)

    @classmethod
    def refuse(cls) -> Fault:
        """Refuse the connection.

        A `LocalServer` has already accepted it when it reads its script, so it closes the
        connection without sending a byte; `with server.refusing():` closes the port itself.
        """
        return cls("refuse")

    @classmethod
    def error(
        cls, type: str | None = None, message: str = "Scripted error.", *, after: int
    ) -> Fault:
        """Send an error event in the format of the dialect, and end the stream with it.

        `type` is one of Anthropic's (protocol.md §7.1), or `None` for the server's usual one. For
        streams only: without streaming, use an `ErrorReply`.
        """
        return cls("error", after, type=type or "", message=message)

    @classmethod
    def garbage(cls, data: bytes, *, after: int | None = None, within: int | None = None) -> Fault:
        """Send unexpected bytes, and continue normally. Requires a position."""
        return cls("garbage", after, within, data=data)

    @classmethod
    def repeat(cls, event: int | str) -> Fault:
        """Send an event of a stream twice: the one with this number, or every one of this type."""
        return cls("repeat", event=event)

    @classmethod
    def omit(cls, event: int | str) -> Fault:
        """Omit an event of a stream: the one with this number, or every one of this type."""
        return cls("omit", event=event)

    @property
    def strikes_first(self) -> bool:
        """Whether nothing at all is answered."""
        return self.kind in ENDINGS and self.after is None and self.within is None

    def __post_init__(self) -> None:
        if self.after is not None and self.within is not None:
            raise ValueError(f"{self}: after and within are two positions; pass only one")
        if self.kind == "garbage" and not isinstance(self.data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"{self}: pass the data as bytes")
        if self.kind in ("end", "garbage", "error") and self.after is self.within is None:
            raise ValueError(f"{self}: set the position with after= or within=")
        self._check("after", 0, "the events that are sent before it, from 0 on")
        self._check("within", 1, "the number of an event, from 1 on")
        if not isinstance(self.event, str):
            self._check("event", 1, "the number of an event, from 1 on, or a type of events")

    def _check(self, name: str, least: int, wanted: str) -> None:
        value: object = getattr(self, name)
        if value is not None and not (type(value) is int and value >= least):
            raise ValueError(f"{self}: {name} must be {wanted}")

    def __repr__(self) -> str:
        told: dict[str, object] = {e.name: getattr(self, e.name) for e in fields(self)[1:]}
        given = ", ".join(
            f"{name}={value!r}" for name, value in told.items() if value or value == 0
        )
        return f"Fault.{self.kind}({given})"


class Frame(NamedTuple):
    """One event of a stream, as the bytes it is sent as."""

    type: str
    data: bytes


def struck(fault: Fault, frames: list[Frame], error: bytes) -> list[bytes]:
    """Return what is sent of a stream up to the fault, or with it; `error` is the event of one,
    empty for silence.

    Raises `ValueError` where the stream has not the events that the fault names.
    """
    pieces = [frame.data for frame in frames]
    if fault.kind in ("repeat", "omit"):
        times = 2 if fault.kind == "repeat" else 0
        named = _named(fault, frames)
        return [
            piece for at, piece in enumerate(pieces) for _ in range(times if at in named else 1)
        ]
    place = fault.after if fault.within is None else fault.within
    assert place is not None
    if place > len(pieces):
        raise ValueError(f"{fault}: the reply has {_listed(frames)}")
    sent, rest = pieces[:place], pieces[place:]
    if fault.within is not None:
        through = sent.pop()
        middle = len(through) // 2
        sent.append(through[:middle])
        rest.insert(0, through[middle:])
    if fault.kind == "garbage":
        return [*sent, fault.data, *rest]
    return [*sent, error] if fault.kind == "error" and error else sent


def _named(fault: Fault, frames: list[Frame]) -> set[int]:
    named = {at for at, frame in enumerate(frames) if fault.event in (at + 1, frame.type)}
    if not named:
        raise ValueError(f"{fault}: there is no such event, the reply has {_listed(frames)}")
    return named


def _listed(frames: list[Frame]) -> str:
    return f"{len(frames)} events: " + ", ".join(
        f"{at} {frame.type}" for at, frame in enumerate(frames, 1)
    )


def struck_whole(fault: Fault, body: bytes) -> bytes:
    """Return what is sent of a body in one piece. Raises `ValueError` for faults among events."""
    if fault.kind not in (*ENDINGS, "garbage"):
        raise ValueError(
            f"{fault} applies to the events of a stream, but this call did not "
            "stream: check request.stream in a script function"
        )
    middle = len(body) // 2
    if fault.kind == "garbage":
        return body[:middle] + fault.data + body[middle:]
    return body[:middle]
