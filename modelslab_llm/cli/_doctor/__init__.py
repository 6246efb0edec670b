"""`modelslab doctor`: what of an endpoint works, with the evidence, and what to change.

Nothing of the key is ever part of what it prints.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from modelslab_llm import __version__

from .._log import warnings_hidden
from .._status import Fault, Status
from .._target import Target, Where, target_of
from .._terminal import console, is_screen, shown, write, write_json
from .checks import CHECKS, Unreachable
from .finding import Finding, Verdict
from .look import Look
from .patient import Patient

if TYPE_CHECKING:
    from rich.table import Table

SECONDS = 30.0


def doctor(*, where: Where, url: str | None, model: str | None, as_json: bool) -> Status:
    """Check the endpoint and print a row for each finding, as soon as it is known."""
    if url is not None:
        if where.base_url is not None:
            raise Fault("the URL and --base-url each name a server; pass only one")
        where = replace(where, base_url=url)
    target = target_of(where, model, needs_key=False)
    with warnings_hidden():  # a failure is a finding
        return asyncio.run(_doctor(target, as_json=as_json))


async def _doctor(target: Target, *, as_json: bool) -> Status:
    found: list[Finding] = []
    if not as_json:
        write(_headline(target))
    async for finding in findings(target):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        write_json(report(target, found), indent=2)
    else:
        write(_summary(found))
    verdicts = {row.verdict for row in found}
    if "fails" in verdicts:
        return Status.FAULTY
    return Status.LATER if "unknown" in verdicts else Status.OK


async def findings(target: Target) -> AsyncIterator[Finding]:
    """Run the checks one after another and yield their findings, without the key."""
    seconds = SECONDS if target.timeout is None else target.timeout
    look = Look(seconds)
    patient = Patient(
        target.endpoint, target.key, target.model, seconds, look, with_v1=target.with_v1
    )
    try:
        for check in CHECKS.values():
            async for finding in check(patient):
                yield finding.hiding(target.key)
    except Unreachable:
        return
    finally:
        await look.close()


def report(target: Target, found: list[Finding]) -> dict[str, object]:
    """Return everything for a bug report."""
    return {
        "modelslab": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "endpoint": {
            "base_url": target.endpoint.base_url,
            "auth": target.endpoint.auth,
            "model": target.model,
            "key": target.key_source,
        },
        "findings": [asdict(finding) for finding in found],
    }


def _headline(target: Target) -> str:
    auth = target.endpoint.auth or "no key"
    key = f"key from {target.key_source}, sent as {auth}" if target.key else "without a key"
    return f"{target.endpoint.base_url}\n{key}\n\n"


def _summary(found: list[Finding]) -> str:
    counts = {verdict: [row.verdict for row in found].count(verdict) for verdict in _STYLES}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"\n{told}\n"


_STYLES: dict[Verdict, str] = {
    "ok": "green",
    "differs": "yellow",
    "absent": "cyan",
    "fails": "bold red",
    "unknown": "dim",
}
WIDTH = 26


def _print(finding: Finding) -> None:
    if is_screen(sys.stdout):
        console().print(_row(finding))
        return
    cure = f"\n{'':{WIDTH + 9}}-> {finding.cure}" if finding.cure else ""
    write(f"{finding.verdict:<9}{finding.check:<{WIDTH}}{finding.evidence}{cure}\n")


def _row(finding: Finding) -> Table:
    """Return a row as it is drawn: side by side, or below each other where that is too narrow."""
    from rich.table import Table
    from rich.text import Text

    verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
    evidence = Text(shown(finding.evidence), overflow="fold")
    cure = Text(f"-> {shown(finding.cure)}", style="bold", overflow="fold")
    row = Table.grid(padding=(0, 1))
    row.add_column(width=8)
    if console().width < 70:
        row.add_column()
        row.add_row(verdict, finding.check)
        row.add_row("", evidence)
    else:
        row.add_column(width=WIDTH)
        row.add_column()
        row.add_row(verdict, finding.check, evidence)
    if finding.cure:
        row.add_row(*[""] * (len(row.columns) - 1), cure)
    return row
