"""Hold back the end of a text while it grows, as long as a seam there would change it. Pure.

Three ends are not final. White space: servers refuse it at the end of a prefill, or strip it, and
the model says it again. U+FFFD: half a character, if the answer was cut inside one. And what may
be the beginning of a stop sequence: a server looks only at what it says itself, so one that lies
across the seam is found here.
"""

from __future__ import annotations

from collections.abc import Sequence

DROPPED = (
    " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000\ufffd"
)
"""What the text before a seam never ends in: white space, and half a character."""


class Tail:
    """Take a text piece by piece and return it, all but an end that may change.

    >>> tail = Tail(["END"])
    >>> tail.add("One "), tail.add("two EN"), tail.add("TRY")
    ('One', ' two ', 'ENTRY')
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [stop for stop in stops if stop]
        self._longest = max(map(len, self._stops), default=0)
        self._held: list[str] = []
        self._dropped = ""
        self._old = 0
        self.blank: int = 0
        """How many pieces of nothing but white space came last; a seam drops them."""
        self.stopped: str = ""
        """The stop sequence that was found across the seam; the text ends before it."""

    def add(self, text: str) -> str:
        """Return what is final of the text so far and was not returned before."""
        self._dropped = ""
        if not (self._old or text.rstrip(DROPPED)):
            self.blank += 1
            self._held.append(text)  # not joined: white space may come without end, drop by drop
            return ""
        self.blank = 0
        if self._held:
            text = "".join(self._held) + text
        if self._old and (found := self._across(text)):
            return found[0]
        final = self._final(text)
        self._held = [text[final:]] if final < len(text) else []
        settled = len(text) >= self._old + self._longest
        self._old = 0 if settled else max(0, self._old - final)
        return text[:final]

    def seam(self) -> str:
        """Drop what a prefill must not end in, and return what else is held: it belongs to it.

        What is added from now on was said by a server that does not know the text before.
        """
        whole = "".join(self._held)
        held = whole.rstrip(DROPPED)
        self._held, self._dropped = [held] if held else [], whole[len(held) :] + self._dropped
        self._old, self.blank = len(held), 0
        return held

    def end_at(self, stop: str) -> str:
        """Return what is left before a stop sequence that the server found and did not say.

        With it, an earlier one may lie across the seam.
        """
        self._dropped = ""  # the server said it again, or something else
        if self._old and (found := self._across("".join(self._held) + stop)):
            return found[0]
        return self.rest()

    def rest(self) -> str:
        """Return what is held, as nothing more will come; what a seam dropped too, if none came."""
        held = "".join(self._held) + self._dropped
        self._held, self._dropped, self._old = [], "", 0
        return held

    def _final(self, text: str) -> int:
        """Return how much of a text will not change."""
        final = len(text.rstrip(DROPPED))
        for stop in self._stops:
            for begun in range(min(len(stop) - 1, len(text)), 0, -1):
                if text.endswith(stop[:begun]):
                    final = min(final, len(text) - begun)
                    break
        return final

    def _across(self, text: str) -> tuple[str] | None:
        """Return the text before a stop sequence that lies across the seam, and note which."""
        found: list[tuple[int, str]] = []
        for stop in self._stops:
            last = min(self._old, len(text) - len(stop) + 1)
            found += [
                (at, stop)
                for at in range(max(0, self._old - len(stop) + 1), last)
                if text.startswith(stop, at)
            ]
        if not found:
            return None
        at, self.stopped = min(found)
        self._held, self._old = [], 0
        return (text[:at],)
