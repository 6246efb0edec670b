"""Run the command `modelslab` as a shell does: in this process, in a separate one, at a terminal.

Starts only what it is asked to, with an environment that names the server of the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from modelslab_llm.testing import LocalServer

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-W", "error", "-m", "modelslab_llm")
PATIENCE = 60.0  # seconds; a command takes one, but on a machine that is busy


class Ran(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


def environment(server: LocalServer | None, home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a shell that is set up for a server, with its own settings."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",  # not that of whoever tests
        "PYDANTIC_DISABLE_PLUGINS": "__all__",  # to look for them in all that is installed is slow
    }
    if server is not None:
        env |= {"MODELSLAB_BASE_URL": server.llm_v7().base_url, "MODELSLAB_MODEL": "m"}
        env |= {"MODELSLAB_API_KEY": server.api_key} if server.api_key else {}
    return env | more


def run(*arguments: str, env: dict[str, str], stdin: bytes | int | None = b"", **more: Any) -> Ran:
    """Run a command in its own process."""
    piped: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    ran = subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, timeout=PATIENCE, **piped, **more
    )
    out, err = ran.stdout.decode(), ran.stderr.decode()
    assert "Traceback" not in err, err
    return Ran(ran.returncode, out, err)
