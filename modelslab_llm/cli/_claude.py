"""`modelslab claude`: Claude Code, started with the environment for the endpoint.

The key goes into the environment of that one program and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from modelslab_llm.errors import APIError, NotFoundError

from ._env import claude_changes
from ._log import warnings_hidden
from ._status import Fault, Status
from ._target import Target, Where, target_of
from ._terminal import note


def claude(*, where: Where, arguments: Sequence[str], model: str | None, wait: float) -> int:
    """Start Claude Code and return its exit status; on POSIX systems it takes our place."""
    program = shutil.which("claude")
    if program is None:
        raise Fault(
            "claude is not installed, or not on the PATH: npm install -g @anthropic-ai/claude-code"
        )
    target = target_of(where, model)
    with warnings_hidden():  # of each try
        target, window = asyncio.run(_prepared(target, wait))
    changes = claude_changes(target, window)
    env = {name: value for name, value in os.environ.items() if name not in changes}
    env |= {name: value for name, value in changes.items() if value is not None}
    return _run([program, *arguments], env)


async def _prepared(target: Target, wait: float) -> tuple[Target, int | None]:
    """Wait until a cold deployment is there; return what the list of models adds: the name of the
    only model, if none was named, and the size of the model's context."""
    async with target.client() as client:
        patience = asyncio.create_task(_say_that_it_waits(target))
        try:
            await client.wait_until_ready(timeout=wait)
        except NotFoundError as error:  # it can be asked neither for tokens nor for models
            note(f"cannot find out whether the model is loaded ({error}); starting anyway")
            return target, None
        finally:
            patience.cancel()
        try:
            found = list(await client.models.list())
        except APIError:  # then Claude Code has to do without
            return target, None
    if target.model is None and len(found) == 1:
        target = replace(target, model=found[0].id)
    named = [info for info in found if info.id == target.model] or (
        found if len(found) == 1 else []
    )
    return target, named[0].context_window if named else None


async def _say_that_it_waits(target: Target) -> None:
    await asyncio.sleep(2)
    note(f"waiting for {target.endpoint.base_url} to load its model; Ctrl-C stops waiting")


def _run(command: Sequence[str], env: Mapping[str, str]) -> int:
    sys.stdout.flush()
    if os.name == "posix":
        _replaced_by(command, env)
    # Windows: a program cannot be replaced there; Ctrl-C is for the one that was started.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(command, env=dict(env), check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _replaced_by(command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    try:
        os.execve(command[0], list(command), dict(env))
    except OSError as error:
        raise Fault(f"{command[0]}: cannot be started: {error.strerror}", Status.WRONG) from error
