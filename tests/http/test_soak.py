"""Prove that a client that is used all day grows by nothing: neither memory nor open files.

`make soak` makes ten thousand calls in each variant; without `SOAK_CALLS` it is two thousand.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from raw_server import BEGUN, CLOSE, REPLY, STREAM, Connection, RawServer

pytestmark = pytest.mark.slow

CALLS = int(os.environ.get("SOAK_CALLS", "2000"))
MB = 1024 * 1024


def answer(connection: Connection) -> None:
    kind = connection.body["messages"][0]["content"]
    if kind == "create":
        connection.send(REPLY)
    elif kind == "stream":
        connection.send(STREAM)
    elif kind == "abandon":
        connection.send(BEGUN)
        connection.until_left()
    else:
        connection.send(BEGUN)
        CLOSE(connection)


@pytest.mark.skipif(sys.platform == "win32", reason="measures as POSIX does")
@pytest.mark.parametrize("variant", ["sync", "asyncio", "trio"])
def test_nothing_grows(variant: str) -> None:
    calls = CALLS // 4 if variant == "trio" and CALLS == 2000 else CALLS  # the code is asyncio's
    program = Path(__file__).parents[1] / "support" / "soaked_calls.py"
    with RawServer(answer) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(program), server.url, variant, str(calls)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert server.requests > calls
    grown = json.loads(done.stdout)
    print(f"{variant}: {calls} calls, grown by {grown}")
    assert grown["memory"] < 5 * MB
    assert grown["files"] <= 0
    # What each call leaves behind shows; the libraries' own caches are a few hundred objects.
    assert grown["objects"] < calls // 10 + 350
