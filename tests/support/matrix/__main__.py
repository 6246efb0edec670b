"""Send both libraries into every fault, or into some; after a full run, write the page.

python -m matrix [ROW…]      a ROW is a family or a row of it; `*` matches anything
"""

from __future__ import annotations

import json
import os
import platform
import ssl
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from fnmatch import fnmatch
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from certificates import Authority, server_context

from .faults import ROWS, Fault
from .page import MEASURED, PAGE, page
from .stage import staged
from .users import USERS
from .verdict import Seen, Verdict, promised, verdict, words

UNIT = 0.5  # seconds, for limits of time
PATIENCE = 5.0  # seconds until a call counts as one without an end
AT_ONCE = 4  # rows, each in a process that shares nothing with the others
COLD_START = 20.0  # the same, where the pauses between the tries are real
PACKAGES = ("modelslab-llm", "httpx", "anthropic", "httpx2", "pydantic")


def seen_by(library: str, fault: Fault, tls: ssl.SSLContext | None) -> tuple[Seen, Verdict]:
    """Play a fault to a library and judge what its user saw."""
    limits = {name: value * UNIT for name, value in fault.limits.items()}
    settings = {"max_retries": 0, **fault.settings, **limits}
    found: list[Seen] = []
    if library == "anthropic" and fault.verb == "ready":
        return Seen(), Verdict("none")
    with staged(fault, tls) as scene:
        user = USERS[library](fault, scene.url, settings)

        def use() -> None:
            try:
                for _ in fault.before:
                    user.create()
                found.append(user.ask(fault.verb))
            finally:
                user.client.close()

        # A daemon, because a call without an end has to be left behind.
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(COLD_START if fault.stage == "deployment" else PATIENCE)
        seen = found[0] if found else Seen(waited=True)
        return seen, verdict(fault, seen, scene.tries, scene.leaked, user.tree)


def play(row: str, files: Path) -> dict[str, tuple[Verdict, str]]:
    """Play a row to each library in turn; say what it was, and in which words."""
    told: dict[str, tuple[Verdict, str]] = {}
    tls = server_context(files) if ROWS[row].stage == "tls" else None
    for library in USERS:
        seen, judged = seen_by(library, ROWS[row], tls)
        error = f"{type(seen.error).__name__}: {seen.error}"[:600] if seen.error else ""
        told[library] = judged, error
    return told


def chosen(patterns: Sequence[str]) -> list[str]:
    """Return the rows that are asked for."""
    return [
        row
        for row in ROWS
        if not patterns or any(fnmatch(row, p) or fnmatch(row, f"{p}/*") for p in patterns)
    ]


def facts() -> list[str]:
    """Return what the result depends on."""
    return [
        f"{date.today():%d %B %Y}",
        f"{platform.system()}, {platform.python_implementation()} {platform.python_version()}",
        ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    ]


def main(patterns: Sequence[str]) -> int:
    """Return 0 if this package did as the matrix says, everywhere."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "MODELSLAB_"))]:
        del os.environ[name]  # keys and addresses of whoever runs this
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ.pop(name, None), os.environ.pop(name.lower(), None)
    rows = chosen(patterns)
    if not rows:
        print(
            "no such row; those there are:", *dict.fromkeys(row.partition("/")[0] for row in ROWS)
        )
        return 2
    theirs: dict[str, Verdict] = {}
    broken = 0
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(AT_ONCE) as pool:
        files = Path(folder)
        Authority(files)  # whose files the other processes read
        for row, told in zip(rows, pool.map(partial(play, files=files), rows), strict=True):
            right = told["ours"][0] == promised(ROWS[row])
            broken += not right
            theirs[row] = told["anthropic"][0]
            if patterns or not right:
                print(f"{row}: promised is {words([promised(ROWS[row])], PATIENCE)}")
                for library, (judged, said) in told.items():
                    print(f"    {library}: {words([judged], PATIENCE)}")
                    print(f"        {said}" if said else "", end="\n" if said else "")
    if not patterns and not broken:
        measured = {
            "anthropic": version("anthropic"),
            "facts": facts(),
            "patience": PATIENCE,
            "rows": {row: _short(judged) for row, judged in theirs.items()},
        }
        MEASURED.write_text(_one_line_a_row(measured), encoding="utf-8")
        PAGE.write_text(page(measured), encoding="utf-8")
        print(f"{len(rows)} rows; written: {PAGE}")
    return 1 if broken else 0


def _short(judged: Verdict) -> dict[str, object]:
    defaults = asdict(Verdict(judged.kind))
    return {k: v for k, v in asdict(judged).items() if k == "kind" or v != defaults[k]}


def _one_line_a_row(measured: dict[str, Any]) -> str:
    text = json.dumps(measured, ensure_ascii=False)
    return text.replace("}, ", "},\n") + "\n"


if __name__ == "__main__":
    # Not through the usual exit, which might wait for calls without an end.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
