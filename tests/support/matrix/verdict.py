"""Judge what a caller saw, by the row alone and the same for every library.

Decides; sends nothing and writes no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .faults import Fault, Raises, Returns
from .reading import read
from .told import ANSWER, Answer

Kind = Literal[
    "right", "marked", "error", "unread", "wrong", "arguments", "foreign", "waits", "leaked", "none"
]

KINDS: dict[Kind, str] = {
    "right": "correct answer",
    "marked": "correct answer, broken tool arguments flagged",
    "error": "the library's own error",
    "unread": "the library's own error, though the answer was readable",
    "none": "no such method",
    "wrong": "**wrong answer, returned as complete**",
    "arguments": "**broken tool arguments, returned as valid**",
    "foreign": "**exception outside the library's error tree**",
    "waits": "**call never returns**",
    "leaked": "**key or prompt sent to another server**",
}
"""Everything a caller can see, the worst last."""


@dataclass(frozen=True)
class Seen:
    """What a caller saw of one call."""

    message: Any = None
    error: BaseException | None = None
    partial: Any = None
    """What the library still has of the message after an error."""
    partial_at: str = ""
    """Where it has that: on the `error`, on the `stream`."""
    waited: bool = False


@dataclass(frozen=True)
class Verdict:
    """What that amounts to."""

    kind: Kind
    name: str = ""
    """Of the class of an error, or of the type of the arguments."""
    kept: str = ""
    """Where the partial message is: `error`, `stream`, or `lost`. Empty if nothing had arrived."""
    mute: bool = False
    """Whether an error leaves out what the server said."""
    tries: int = 1
    """How often the server was asked, before an error."""
    note: str = ""


def promised(fault: Fault) -> Verdict:
    """Return what this package has to show; the tests hold it to that."""
    expected = fault.expected
    if isinstance(expected, Returns):
        marked = any(tool.input is None for tool in expected.answer.tools)
        return Verdict("marked" if marked else "right", note=expected.note)
    kept = "error" if _something(expected.partial) else ""
    return Verdict("error", expected.error.__name__, kept, tries=max(1, expected.tries))


def verdict(fault: Fault, seen: Seen, tries: int, leaked: str, tree: type[Exception]) -> Verdict:
    """Judge one call. `tree` is the root of the library's own errors."""
    if leaked:
        return Verdict("leaked", leaked)
    if seen.waited:
        return Verdict("waits")
    if seen.error is not None:
        return _of_error(fault, seen, seen.error, max(1, tries), tree)
    expected = fault.expected
    if fault.verb == "ready":
        return Verdict("right")
    try:
        answer = read(seen.message)
    except Exception as error:  # noqa: BLE001 - whatever a program would meet
        what = f"on reading the `{type(seen.message).__name__}` it returns"
        return Verdict("foreign", type(error).__name__, note=what)
    if isinstance(expected, Returns) and answer == expected.answer:
        return promised(fault)
    truth = expected.answer if isinstance(expected, Returns) else ANSWER
    if replace(answer, output_tokens=truth.output_tokens) == truth != answer:
        return Verdict("right", note="except the token count")
    if answer == truth:
        return Verdict("right")  # where this package rather gives up
    if bad := _bad_arguments(answer, expected):
        return Verdict("arguments", bad)
    return Verdict("wrong")


def _of_error(
    fault: Fault, seen: Seen, error: BaseException, tries: int, tree: type[Exception]
) -> Verdict:
    name = type(error).__name__
    expected = fault.expected
    partial = None if isinstance(expected, Returns) else expected.partial
    kept = ""
    if partial is not None and _something(partial):
        kept = seen.partial_at if _holds(seen.partial, partial) else "lost"
    if not isinstance(error, tree):
        return Verdict("foreign", name, kept)
    if isinstance(expected, Returns):
        return Verdict("unread", name, tries=tries)
    return Verdict("error", name, kept, expected.words not in str(error), tries)


def _something(partial: Answer | None) -> bool:
    return partial is not None and bool(partial.text or partial.thinking or partial.tools)


def _holds(message: Any, partial: Answer) -> bool:
    """Tell whether that is all the text so far. Half of a call may be shown in any way."""
    try:
        found = read(message)
    except Exception:  # noqa: BLE001 - there is nothing to be read
        return False
    return (found.text, found.thinking) == (partial.text, partial.thinking)


def _bad_arguments(answer: Answer, expected: Returns | Raises) -> str:
    """Return the type of arguments that are handed over and are not what the model sent."""
    truth = expected.answer if isinstance(expected, Returns) else expected.partial
    if truth is None or len(truth.tools) != len(answer.tools):
        return ""
    for tool, right in zip(answer.tools, truth.tools, strict=True):
        if tool.input != right.input:
            return type(tool.input).__name__
    return ""


def words(verdicts: Sequence[Verdict], patience: float) -> str:
    """Return a cell of the table, for verdicts that differ in names at most."""
    one = verdicts[0]
    names = list(dict.fromkeys(v.name for v in verdicts if v.name))
    shown = ", ".join(f"`{name}`" for name in names[:3]) + (", …" if len(names) > 3 else "")
    text = {
        "right": "correct answer",
        "marked": "correct answer, arguments flagged as broken",
        "error": shown,
        "unread": f"{shown}, answer discarded",
        "none": "no such method",
        "wrong": "**wrong answer, returned as complete**",
        "arguments": f"**broken arguments, returned as a `{one.name}`**",
        "foreign": f"**{shown}**, foreign",
        "waits": f"**still waiting after {patience:g} s**",
        "leaked": f"**follows it, and sends the {one.name}**",
    }[one.kind]
    text += {
        "": "",
        "error": ", with the partial message",
        "stream": ", partial message on the stream",
        "lost": "; partial message lost",
    }[one.kept]
    text += ", without the server's message" if one.mute else ""
    text += f", after {one.tries} attempts" if one.tries > 1 else ""
    return text + (f": {one.note}" if one.note else "")


def nameless(verdict: Verdict) -> Verdict:
    """Return the verdict by which rows are put together."""
    return replace(
        verdict, name="" if verdict.kind in ("error", "unread", "foreign") else verdict.name
    )
