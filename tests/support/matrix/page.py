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

This page covers what your program sees of this package, and of the `anthropic` SDK, when a server
misbehaves. A scripted server plays each fault over a real socket, byte by byte. Both libraries
meet it in one run, with the same request, the same `max_retries` and the same `timeout`, through
`create()` or `stream()` … `get_final_message()` of their sync clients, and the same code judges
both results. The tests of this package hold it to exactly what its column says, in sync, asyncio
and trio. This page is generated:

```sh
make reliability                          # measure all rows and write this page
make reliability ROW=close-after/09       # one row, with what each library reported
```

Three limits of this comparison:

- We chose the faults and then fixed what they found, so our column is clean by construction.
- `anthropic` is made for one server that follows its own documentation, and much of what is listed
  here never happens there.
- The rows on timeouts set `deadline` or `progress_timeout`, which are off by default; without them
  this package waits too. The rows on resumed streams set `resume`, which is off by default and
  which `anthropic` does not have. No client can detect that a gateway lost or duplicated a piece of
  text, so there is no row for that.

How to read the tables: similar rows are merged into one line. Event numbers refer to one stream,
which contains thinking, text and a tool call. "Partial message on the stream" means that the text
so far can be read from the stream object (`current_message_snapshot`), but not from the error.
"Foreign" means an exception that `except anthropic.APIError` does not catch.
"""

DEVIATIONS = """\
## Tolerated deviations

Tolerated protocol deviations (a missing `message_start`, a count that is null, a stream with a JSON
content type) are logged at DEBUG to the logger `modelslab_llm`. Each line begins with `tolerated:`
and has the request ID if it is known. It contains neither a key nor any part of a message.
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
Of anthropic's exceptions inside a stream, {lost or "none"} lose the partial message; of its own
errors, {mute or "none"} leave out the server's message. In {strict} rows it returns the complete
answer where this package raises an error with the partial message, because the stream also
contained an error or a meaningless event. Some of its wrong answers have a `stop_reason` of None,
which a careful program can check. How many of these faults you meet depends on your server: the
numbers show what happens, not how often.
"""


def _contents(sections: Iterable[str], theirs: Mapping[str, Verdict], version: str) -> str:
    """Return the sections of the page, each with how many of its results are in bold."""

    def harm(verdicts: Iterable[Verdict]) -> str:
        return str(sum(KINDS[verdict.kind].startswith("**") for verdict in verdicts) or "–")

    lines = [("section", "faults", "modelslab_llm", f"anthropic {version}")]
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
    return f"Harmful results (in bold) by section:\n\n{_table(lines)}"


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
    """Shorten a list of names: merge runs of numbers, and keep the first few of many."""
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
