"""Define scripts and their answers, and which answer is next. Pure: nothing is sent here."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..._protocol.seconds import seconds_of
from ...types.message import Message
from .fault import Fault
from .received import ReceivedRequest

__all__ = ["ErrorReply", "Replies", "Reply", "ReplyLike", "Script", "Split"]

Split: TypeAlias = Literal["word", "character"] | int
"""How a stream is split: after each word, after each character, or, with a number, into chunks of
that many bytes, regardless of lines and characters."""


@dataclass(frozen=True)
class Reply:
    """The answer of the model; missing values are filled in from the request.

    Raises `ValueError` for an invalid `split`, and for a `pause` below 0.

    >>> Reply("It is 18 °C.", usage={"input_tokens": 9, "output_tokens": 4}).content
    'It is 18 °C.'
    """

    content: str | Sequence[Mapping[str, Any]] | Message = ""
    """Text, content blocks of any type (protocol.md §4), or a complete `Message`, which also
    supplies missing values below; `""` is a reply without blocks."""
    stop_reason: str | None = None
    """`None`: `"tool_use"` if there is such a block, else `"end_turn"`."""
    stop_sequence: str | None = None
    usage: Mapping[str, Any] | None = None
    """`None`: input and output tokens are the words of the prompt and of the reply."""
    model: str | None = None
    """`None`: the requested model, or that of the dialect."""
    id: str | None = None
    """`None`: one for each message call, counting up, in the dialect's form."""
    pause: float = 0.0
    """Seconds between two pieces of a stream. A reply without streaming is not delayed, unless
    `split` is a number: then its bytes are delayed too."""
    split: Split = "word"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent besides the usual ones, and instead of those with the same name."""
    fault: Fault | None = None
    """The fault of the reply, and its position."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pause", seconds_of("pause", self.pause, 0))
        known = self.split in ("word", "character")
        if not known and not (type(self.split) is int and self.split > 0):
            raise ValueError(
                f"split={self.split!r} is not a way to split: use 'word', 'character' or a "
                f"number of bytes"
            )


@dataclass(frozen=True)
class ErrorReply:
    """An error, in the format of the endpoint that was called (protocol.md §7.3).

    Raises `ValueError` for a status outside 200–599.

    >>> ErrorReply(429, "Slow down.", headers={"Retry-After": "2"}).status
    429
    """

    status: int
    message: str = ""
    """Empty: a sentence that says that the failure was scripted."""
    type: str | None = None
    """`None`: the type that Anthropic gives to the status (protocol.md §7.1)."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sent besides the usual ones, and instead of those with the same name."""
    body: bytes | None = None
    """The complete body, sent unchanged, as `application/json` unless `headers` say otherwise."""

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} cannot end an exchange: use 200 to 599")


ReplyLike: TypeAlias = str | Reply | ErrorReply | Fault | Message | Mapping[str, Any]
"""One answer: text, a `Reply`, an `ErrorReply`, a `Fault` before the headers, a `Message`, or the
body of a message."""

Script: TypeAlias = ReplyLike | Sequence[ReplyLike] | Callable[[ReceivedRequest], ReplyLike] | None
"""One answer for every call, one for each successive call, a function, or `None` for an echo."""

_SINGLE = (str, Reply, ErrorReply, Fault, Message, Mapping)

NEVER_AGAIN = {"x-should-retry": "false"}
"""What goes with the failure of a script: a client that tried again would hide it."""


class Replies:
    """Give the answer for each successive message call, and count the calls.

    `pause` is in seconds and applies to whatever is not a `Reply`, which has its own. Raises
    `TypeError` for a script that holds something else than answers, and `ValueError` for a fault
    in it that strikes inside an answer.
    """

    def __init__(self, script: Script = None, *, pause: float = 0.0) -> None:
        self.calls = 0
        """How many message calls there were, whatever the script."""
        self.errors: list[BaseException] = []
        """What script functions raised, oldest first."""
        self.pause = pause
        self.script = script

    @property
    def pause(self) -> float:
        """Seconds between two pieces of a stream."""
        return self._pause

    @pause.setter
    def pause(self, seconds: float) -> None:
        self._pause = seconds_of("pause", seconds, 0)

    @property
    def script(self) -> Script:
        """What answers; a new script starts with its first answer."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        self._answers: list[ReplyLike] | None = None
        self._find = self._read(script)
        self._script = script
        self._given = 0

    def next(self, request: ReceivedRequest) -> Reply | ErrorReply | Fault | Mapping[str, Any]:
        """Return the answer to the next call; what a script function raises comes through."""
        self.calls += 1
        self._given += 1
        found = _checked(self._find(request))
        return Reply(found, pause=self.pause) if isinstance(found, str | Message) else found

    @property
    def breaks_next(self) -> bool:
        """Whether the next call is known to get no byte of an answer."""
        if self._answers is None or self._given >= len(self._answers):
            return False
        found = self._answers[self._given]
        fault = found.fault if isinstance(found, Reply) else found
        return isinstance(fault, Fault) and fault.strikes_first

    def _read(self, script: Script) -> Callable[[ReceivedRequest], ReplyLike]:
        if script is None:
            return _echo
        if callable(script):
            return script
        if isinstance(script, (bytes, *_SINGLE)) or not isinstance(script, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            always = _checked(script)
            return lambda request: always
        self._answers = answers = [_checked(each) for each in script]

        def successive(request: ReceivedRequest) -> ReplyLike:
            if self._given <= len(answers):
                return answers[self._given - 1]
            return ErrorReply(500, self.unused(), headers=NEVER_AGAIN)

        return successive

    def unused(self) -> str:
        """Tell what is left of the script, or what it lacked; empty if it was used exactly."""
        if self._answers is None:
            return "" if self._given else "the script was never used"
        answers, calls = len(self._answers), self._given
        if calls > answers:
            return f"the script is used up: answers {answers}, message calls {calls}"
        if calls < answers:
            left = reprlib.repr(self._answers[calls])
            return f"{answers - calls} of {answers} answers were never used, from {left} on"
        return ""


def _checked(found: object) -> ReplyLike:
    if isinstance(found, Fault) and not found.strikes_first:
        raise ValueError(f"{found} happens inside an answer: put it into Reply(..., fault=...)")
    if isinstance(found, _SINGLE):
        return found  # pyright: ignore[reportUnknownVariableType]
    raise TypeError(
        "a script answers with str, Reply, ErrorReply, Fault, Message or a message body, "
        f"not {type(found).__name__}"
    )


def _echo(request: ReceivedRequest) -> ReplyLike:
    return f"You said: {request.text}"
