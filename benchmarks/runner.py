"""Run jobs, each in a process of its own, against one server in another. Times only cold starts.

It imports nothing that is measured: what this process holds in memory, Linux counts into the peak
of those it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from .measure import RSS_UNIT, Job, Measured

HERE = Path(__file__).parent
PATIENCE = 180.0  # seconds for one job
COLD = "cold"
PROGRAMS = {"ours": "ours.py", "httpx": "by_hand.py", "anthropic": "with_anthropic.py"}

# A proxy would be in the way, keys and addresses would change what is measured.
UNWANTED = ("PYTHON", "MODELSLAB_", "ANTHROPIC_", "HTTP_", "HTTPS_", "ALL_PROXY")


class NotMeasured(Exception):
    """There is no number for a job; the text says why, and is shown in the table."""


class Lab:
    """Where jobs are run: it knows the server's address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._warm: set[str] = set()

    def url(self, answer: str) -> str:
        """Return where the server gives this answer."""
        return f"{self._url}/{answer}"

    def run(self, job: Job) -> Measured:
        """Run one job. Raises `NotMeasured`."""
        job = replace(job, url=self.url(job.answer))
        if job.work == COLD:
            return self._start(job)
        command = [sys.executable, "-m", "benchmarks.measure", json.dumps(asdict(job))]
        result = json.loads(_output(command).splitlines()[-1])
        if "missing" in result:
            raise NotMeasured(f"skipped: {result['missing']}")
        return Measured(**result)

    def _start(self, job: Job) -> Measured:
        command = [sys.executable, str(HERE / "cold" / PROGRAMS[job.contender]), job.url]
        if job.contender not in self._warm:  # the first time Python may have to compile
            _output(command)
            self._warm.add(job.contender)
        started = time.monotonic()  # one clock for all processes of a machine
        said, cpu, peak = _output(command).split()[-3:]
        return Measured(1, float(cpu), float(said) - started, int(peak) * RSS_UNIT)


@contextmanager
def laboratory() -> Iterator[Lab]:
    """Start the server, and end it."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server"],
        cwd=HERE.parent,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield Lab(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.stdin.close()  # which it takes as the end
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=HERE.parent,
            env=_environment(),
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"failed: not done in {PATIENCE:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        raise NotMeasured(f"failed: {said[-1]}")
    return done.stdout


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.upper().startswith(UNWANTED)}
