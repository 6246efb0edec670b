"""Decide whether a new answer really continues an old one, and what of it is new. Pure.

The request ended in the old text, as the last assistant turn. The answer is a continuation, or the
server started again, left the old text out, or answered something else. Only where it can be told
apart is the new text handed out: in doubt `NotContinued` is raised.
"""

from __future__ import annotations

from typing import Protocol

from ..endpoints import Prefill

SAME = 24
"""Characters that a continuation may not have in common with the beginning of the old text."""
LONG = 1000
"""Characters, of white space then, after which nothing more is held back."""
_ENDS = ",;!?"
"""Besides small letters, what a sentence never follows without a space."""


class NotContinued(Exception):
    """The answer is not known to continue the old text; the words say why."""


class Continuation(Protocol):
    """Reads the text of an answer that should continue another one."""

    settled: bool
    """Whether it is known by now that it does."""

    def read(self, before: int, now: int) -> None:
        """Take the tokens of the prompt, of the first request and of this one; 0 for unknown.

        Raises `NotContinued`.
        """
        ...

    def take(self, text: str) -> str:
        """Return what is new of the next piece. Raises `NotContinued`."""
        ...

    def end(self) -> str:
        """Return what was held back, at the end of the text. Raises `NotContinued`."""
        ...


def continuation_of(prefill: str, manner: Prefill) -> Continuation:
    """Return what reads the answer to a request that ended in `prefill`."""
    return Repeated(prefill) if manner == "repeats" else Rest(prefill)


class Repeated:
    """The server repeats the old text first, so that nothing is left to doubt.

    >>> answer = Repeated("The Tamar")
    >>> answer.take("The Ta"), answer.take("mar is tidal"), answer.take(".")
    ('', ' is tidal', '.')
    >>> Repeated("The Tamar").take("The Exe")
    Traceback (most recent call last):
    modelslab_llm._protocol.continuation.NotContinued: the server should have repeated the 9 \
characters so far, but differs after 4
    """

    def __init__(self, prefill: str) -> None:
        self._prefill = prefill
        self._seen = 0
        self.settled = not prefill

    def read(self, before: int, now: int) -> None:
        """Take the tokens of the prompt, which tell no more than the text will."""

    def take(self, text: str) -> str:
        """Return what is new of the next piece. Raises `NotContinued`."""
        if self.settled:
            return text
        old = text[: len(self._prefill) - self._seen]
        if not self._prefill.startswith(old, self._seen):
            raise NotContinued(
                f"the server should have repeated the {len(self._prefill)} characters so far, "
                f"but differs after {self._seen + _in_common(old, self._prefill, self._seen)}"
            )
        self._seen += len(old)
        self.settled = self._seen == len(self._prefill)
        return text[len(old) :]

    def end(self) -> str:
        """Return nothing. Raises `NotContinued` if the old text was not repeated whole."""
        if not self.settled:
            raise NotContinued(
                f"the server should have repeated the {len(self._prefill)} characters so far, "
                f"but ended after {self._seen}"
            )
        return ""


class Rest:
    """The server returns what is new alone: it must not begin as the old text does, or a sentence.

    And the prompt must have grown, where it is counted. What cannot be told is a new answer that
    begins in the middle of things.

    >>> answer = Rest("The Tamar")
    >>> answer.take(" is"), answer.take(" tidal.")
    (' is', ' tidal.')
    >>> Rest("the Tamar").take("the Tamar is tidal.")
    Traceback (most recent call last):
    modelslab_llm._protocol.continuation.NotContinued: the server started again instead of \
continuing the text so far
    >>> answer = Rest("The Tamar")
    >>> answer.take("S"), answer.take("ure, ")
    Traceback (most recent call last):
    modelslab_llm._protocol.continuation.NotContinued: the server started a new sentence in the \
middle of one
    """

    def __init__(self, prefill: str) -> None:
        self._beginning = prefill.strip()[:SAME]
        self._last = prefill[-1:]
        self._begun = ""
        self.settled = not prefill

    def read(self, before: int, now: int) -> None:
        """Raise `NotContinued` if a prompt with more text has no more tokens.

        >>> Rest("The Tamar").read(20, 20)
        Traceback (most recent call last):
        modelslab_llm._protocol.continuation.NotContinued: the server left the text so far out of \
the prompt: it counted 20 prompt tokens, and 20 before
        """
        if not self.settled and 0 < now <= before:
            raise NotContinued(
                "the server left the text so far out of the prompt: "
                f"it counted {now} prompt tokens, and {before} before"
            )

    def take(self, text: str) -> str:
        """Return what is known to be new by now. Raises `NotContinued`."""
        if self.settled:
            return text
        begun = self._begun = self._begun + text  # short, or it would be settled
        new = begun.lstrip()
        if self._begins_a_sentence(begun):
            raise NotContinued("the server started a new sentence in the middle of one")
        if new.startswith(self._beginning):
            raise NotContinued("the server started again instead of continuing the text so far")
        undecided = self._beginning.startswith(new) or self._may_begin_a_sentence(begun)
        if undecided and len(begun) < LONG:
            return ""
        self.settled, self._begun = True, ""
        return begun

    def end(self) -> str:
        """Return what was held back. Raises `NotContinued` if it is as the old text began."""
        begun, self._begun = self._begun, ""
        new = begun.strip()
        if not self.settled and len(new) > 1 and self._beginning.startswith(new):
            raise NotContinued("the server started again instead of continuing the text so far")
        self.settled = True
        return begun

    def _begins_a_sentence(self, begun: str) -> bool:
        return self._may_begin_a_sentence(begun[:1]) and begun[1:2].islower()

    def _may_begin_a_sentence(self, begun: str) -> bool:
        """Tell whether the first letter is a capital where none is expected, and is alone yet."""
        ends = self._last.islower() or self._last in _ENDS
        return ends and len(begun) == 1 and begun.isupper()


def _in_common(one: str, other: str, at: int) -> int:
    """Return how many characters of `one` match `other` from `at` on."""
    pairs = zip(one, other[at : at + len(one)], strict=False)
    return next((n for n, (here, there) in enumerate(pairs) if here != there), len(one))
