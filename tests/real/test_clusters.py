"""The examples of docs/clusters.md, each on a local cluster of its engine.

By themselves they meet a stand-in that runs out of credit, and resume. Here they also meet an
account that takes five requests at a time, and are told nothing about it.
"""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from patience import until
from real.parts import clean, python_of
from real.processes import end, of_home, open_to_others

from benchmarks.flow_server import LimitedServer
from benchmarks.flow_simulation import Queue, always

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = 200
SECONDS = 180.0

engines = pytest.mark.parametrize("engine", ["daft", "dask", "ray"])

SHOWN = {
    "daft": [
        "It ended early: HTTP 402 billing_error: No credit is left.",
        "99 rows answered",
        "   BadRequestError: HTTP 400 invalid_request_error: There is no such river.",
        "199 rows answered",
    ],
    "dask": [
        "It ended early: HTTP 402 billing_error: No credit is left.",
        "   How high is river 13? BadRequestError: HTTP 400",
        "200 rows in 8 files",
    ],
    "ray": [
        "It ended early: PaymentRequiredError",
        "   How high is river 13? HTTP 400 invalid_request_error: There is no such river.",
        "200 rows",
    ],
}
ASKED_TWICE = {
    "daft": 49,  # what a slice had when it ended early, which was not written yet
    "dask": 0,
    "ray": 20,  # what was in flight in an actor when Ray killed it
}


@contextmanager
def running(
    engine: str, *words: object, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], Mapping[str, str]]]:
    """Start an example on its engine; afterwards nothing that it started is left."""
    python = python_of(engine)
    with clean(**variables) as environ:
        command = [python, EXAMPLES / f"cluster_{engine}.py", *words]
        home = environ["HOME"]
        with (
            open(Path(home, "stderr"), "w") as errors,
            subprocess.Popen(
                [str(word) for word in command],
                cwd=home,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as program,
        ):
            try:
                yield program, environ
            finally:
                program.kill()
        try:
            until(lambda: not of_home(home), seconds=30)
        finally:
            end(of_home(home))


def said_by(program: subprocess.Popen[str], environ: Mapping[str, str]) -> str:
    said, _ = program.communicate(timeout=SECONDS)
    assert program.returncode == 0, (Path(environ["HOME"]) / "stderr").read_text()[-5000:]
    return said


@engines
def test_an_example_resumes_where_its_credit_ended(engine: str) -> None:
    with running(engine) as (program, environ):
        said = said_by(program, environ)
    for line in SHOWN[engine]:
        assert line in said
    answers, twice = map(int, re.findall(r"(\d+) answers in all, (\d+) of them twice", said)[0])
    assert answers - twice == ROWS - 1
    assert twice <= ASKED_TWICE[engine]


@engines
def test_workers_share_an_account_that_takes_five_at_a_time(engine: str, tmp_path: Path) -> None:
    """All rows are answered, and only this machine can reach the cluster."""
    questions = tmp_path / "questions"
    with questions.open("w", encoding="utf-8") as file:
        texts = [f"How high is river {number}?" for number in range(ROWS)]
        if engine == "daft":
            csv.writer(file).writerows([("id", "question"), *enumerate(texts)])
        else:
            file.writelines(f"{text}\n" for text in texts)
    with LimitedServer(Queue(Random(0), 5, 0.2, always(0.03))) as server:
        variables = {"MODELSLAB_BASE_URL": server.url, "MODELSLAB_API_KEY": "key-of-the-node"}
        with running(engine, questions, tmp_path / "answers", **variables) as (program, environ):
            until(lambda: server.asked or program.poll() is not None, seconds=SECONDS)
            assert open_to_others(of_home(environ["HOME"])) == []
            said = said_by(program, environ)
    assert f"{ROWS} rows" in said
    assert server.answered == ROWS
    assert 3 <= server.most_inside <= 5
    assert server.refused > 0
    print(f"{engine}: {server.refused / ROWS:.2f} refusals an answer")
