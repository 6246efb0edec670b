"""What a check found: a verdict, the evidence for it, and what to change. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["ok", "differs", "absent", "fails", "unknown"]
"""`differs`: not as documented, and the client copes. `absent`: the server does not have it, and
much works without. `unknown`: it could not be checked now."""

SHORT = 8
"""A key of fewer characters would be found in ordinary words."""

LINE = 200
"""The most characters of a piece of evidence that a server wrote."""


@dataclass(frozen=True)
class Finding:
    """One row of what doctor says."""

    check: str
    verdict: Verdict
    evidence: str
    cure: str = ""
    """What to change; empty where there is nothing to change."""

    def hiding(self, key: str | None) -> Finding:
        """Return the row without the key, should a server have quoted it."""
        if not key or len(key) < SHORT:
            return self
        hidden = {name: getattr(self, name).replace(key, "***") for name in ("evidence", "cure")}
        return replace(self, **hidden)


def short(text: str) -> str:
    r"""Return what a server wrote as one short line.

    >>> short("no\r\n   such model")
    'no such model'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LINE]).split())
    return line if len(line) <= LINE else line[: LINE - 3] + "..."
