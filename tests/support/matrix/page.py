"""Write docs/reliability.md from the matrix and from what was measured. Measures nothing itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .faults import FAMILIES, ROWS, Family, Fault
from .verdict import KINDS, Verdict, nameless, promised, words

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reliability.md"
MEASURED = Path(__file__).parent / "measured.json"

INTRODUCTION = """\
# Reliability

What a program sees of this package, and of the `anthropic` SDK, when a server misbehaves. Each row
is a fault that a scripted server plays over a real socket, byte by byte; both libraries are sent
into it in one run with the same request, the same `max_retries` and the same `timeout`, through
`create()` or `stream()` … `get_final_message()` of their sync clients, and what comes out is judged
by the same code. The left column is also what this package's tests hold it to, exactly, in sync,
asyncio and trio. Nothing here is written by hand:

```sh
make reliability                          # measure everything, and write this page
make reliability ROW=close-after/09       # one row, with what each library said
```

`anthropic` is made for one server that keeps to its documentation, and much of what is listed here
never happens there. Where it takes no harm the table says so. "On the stream" means that what had
come can be taken from the stream object (`current_message_snapshot`), not from the error. Rows that
are alike are one line; numbers are those of the events of one stream, which brings thinking, text
and a tool call. "Foreign" is an exception that `except anthropic.APIError` does not catch.

What to keep in mind: the faults were chosen by the authors of this package, who then mended what
they found, so the left column is without failures by construction. The rows on time set
`deadline` or `progress_timeout`, which are off by default: without them this package waits too. The
rows on a dropped stream set `resume`, which is off by default too, and which `anthropic` does not
have. And no client can see that a gateway lost or doubled a piece of text, so that is no row.
"""

DEVIATIONS = """\
## Deviations that were tolerated

What was not as documented and was read all the same (a missing `message_start`, a count that is
null, a stream labelled as JSON) is one DEBUG line each of the logger `modelslab_llm`, beginning
with `tolerated:`, with the request id where it is known. Such a line has words of this package
only: nothing of a message, and no key.
"""


def page(measured: Mapping[str, Any]) -> str:
    """Return the page. Raises `KeyError` for a row that was not measured."""
    theirs = {row: Verdict(**measured["rows"][row]) for row in ROWS}
    patience = measured["patience"]
    sections = dict.fromkeys(family.section for family in FAMILIES)
    parts = [INTRODUCTION, "\n".join(f"- {fact}" for fact in measured["facts"]) + "\n"]
    parts.append(_summary(theirs, measured["anthropic"]))
    parts.append(_contents(sections, theirs, measured["anthropic"]))
    for section in sections:
        heads = (
            "fault",
            "modelslab_llm",
            f"anthropic {measured['anthropic']}",
            "`make reliability`",
        )
        lines = [
            line
            for family in FAMILIES
            if family.section == section
            for line in _lines(family, theirs, patience)
        ]
        parts.append(f"## {section}\n\n{_table([heads, *lines])}")
    return "\n".join([*parts, DEVIATIONS])


def _summary(theirs: Mapping[str, Verdict], version: str) -> str:
    ours = Counter(promised(fault).kind for fault in ROWS.values())
    other = Counter(seen.kind for seen in theirs.values())
    lines = [
        (text, str(ours[kind] or "–"), str(other[kind] or "–"))
        for kind, text in KINDS.items()
        if ours[kind] or other[kind]
    ]
    lost = sum(seen.kept == "lost" for seen in theirs.values())
    mute = sum(seen.mute for seen in theirs.values())
    strict = sum(
        seen.kind == "right" and promised(ROWS[row]).kind == "error" for row, seen in theirs.items()
    )
    heads = (f"of {len(ROWS)} faults the caller sees", "modelslab_llm", f"anthropic {version}")
    return f"""{_table([heads, *lines])}
Of anthropic's exceptions inside a stream, {lost or "none"} lose what had come; of its own errors,
{mute or "none"} leave out what the server said. In {strict} rows it returns the whole answer where
this package raises, with what had come by then in `partial_message`: an error, or an event that
makes no sense, stood beside the answer. Some of its wrong answers have a `stop_reason` of None,
which a careful program could look for. How many of these faults a program meets depends on its
server: the numbers compare what happens, not how often.
"""


def _contents(sections: Iterable[str], theirs: Mapping[str, Verdict], version: str) -> str:
    """Return what the parts of the page are, with what is in bold there counted."""

    def harm(verdicts: Iterable[Verdict]) -> str:
        return str(sum(KINDS[verdict.kind].startswith("**") for verdict in verdicts) or "–")

    lines = [("part", "faults", "modelslab_llm", f"anthropic {version}")]
    for section in sections:
        faults = {
            _name(family, fault): fault
            for family in FAMILIES
            if family.section == section
            for fault in family.faults
        }
        anchor = re.sub(r"[^a-z0-9 ]", "", section.lower()).replace(" ", "-")
        lines.append(
            (
                f"[{section}](#{anchor})",
                str(len(faults)),
                harm(promised(fault) for fault in faults.values()),
                harm(theirs[name] for name in faults),
            )
        )
    return f"What is in bold, by part:\n\n{_table(lines)}"


def _lines(
    family: Family, theirs: Mapping[str, Verdict], patience: float
) -> Iterable[tuple[str, ...]]:
    groups: dict[tuple[Verdict, Verdict], list[Fault]] = {}
    for fault in family.faults:
        pair = promised(fault), theirs[_name(family, fault)]
        groups.setdefault((nameless(pair[0]), nameless(pair[1])), []).append(fault)
    for faults in groups.values():
        ours = [promised(fault) for fault in faults]
        other = [theirs[_name(family, fault)] for fault in faults]
        whole = len(groups) == 1
        row = family.name if whole else _name(family, faults[0])
        names = _names([fault.name for fault in faults])
        between = "" if not names else " " if faults[0].name.isdigit() else ": "
        title = f"{family.title}{between}{names}"
        yield title, words(ours, patience), words(other, patience), f"`ROW={row}`"


def _name(family: Family, fault: Fault) -> str:
    return f"{family.name}/{fault.name}" if fault.name else family.name


def _names(names: Sequence[str]) -> str:
    """Return names in short: runs of numbers, and of many the first few."""
    if all(name.isdigit() and len(name) == 2 for name in names):
        runs: list[list[int]] = []
        for number in map(int, names):
            if runs and runs[-1][-1] == number - 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ", ".join(
            f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
        )
    if len(names) > 8:
        return f"{', '.join(names[:3])}, … ({len(names)} in all)"
    return ", ".join(names)


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    rows = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def load() -> dict[str, Any]:
    """Return what the last full run measured."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found
