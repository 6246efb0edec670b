"""Many questions on a Dask cluster: each worker builds a client, each part has a store.

pip install 'modelslab-llm' distributed
python examples/cluster_dask.py                        # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/cluster_dask.py questions.txt answers/

`questions.txt` has one question per line. The questions are split into parts. Each part is a bulk
run on a worker, with a store and a JSON lines file in `answers/`, which all workers must see. Run
the same command again to send only the questions without an answer. The key is not sent to the
workers: each reads it from its own environment, as workers on this machine do.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _small_account import QUESTIONS, SmallAccount
from distributed import Client, LocalCluster, Worker, WorkerPlugin, get_worker, wait

from modelslab_llm import ClientSpec, ModelsLab, ModelsLabError, PaymentRequiredError
from modelslab_llm.bulk import BulkStore
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
PARTS = 8


class Model(WorkerPlugin):
    """One client in each worker, for all its tasks."""

    name = "model"

    def __init__(self, spec: ClientSpec) -> None:
        self.spec = spec

    def setup(self, worker: Worker) -> None:
        self.client = self.spec.client()  # with the key of the worker's environment

    def teardown(self, worker: Worker) -> None:
        self.client.close()


def answer(questions: Sequence[str], part: Path) -> list[tuple[str, ModelsLabError | None]]:
    """Answer the questions of a part, and return the error of each, or None: a Dask task.

    Raises `AuthenticationError` and `PaymentRequiredError`, which end the part; the answers so far
    are kept.
    """
    client: ModelsLab = get_worker().plugins["model"].client
    run = client.messages.bulk(
        questions,
        make=request,
        key=str,
        defaults={"model": MODEL, "max_tokens": 500},
        store=part.with_suffix(".sqlite"),
        retry_failed=True,
    )
    ended = [(result.row, result.error) for result in run]
    with BulkStore(part.with_suffix(".sqlite"), last_run=True) as store:
        store.write_jsonl(part.with_suffix(".jsonl"))
    return ended


def request(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


def answer_all(dask: Client, questions: Sequence[str], folder: Path) -> None:
    """Answer the questions that have no answer yet, on all workers."""
    parts = [questions[first::PARTS] for first in range(PARTS)]
    files = [folder / f"part-{number}" for number in range(PARTS)]
    futures = dask.map(answer, parts, files, pure=False)
    wait(futures)  # even if one has failed: a store can be used by one run at a time
    for ended in dask.gather(futures):
        for question, error in ended:
            if error is not None:
                print(f"   {question} {type(error).__name__}: {error}")
    lines = sum(len(file.with_suffix(".jsonl").read_text().splitlines()) for file in files)
    print(f"{lines} rows in {PARTS} files")


def main() -> None:
    if not os.environ.get("MODELSLAB_API_KEY"):
        demonstrate()
        return
    parser = argparse.ArgumentParser(description="Answer many questions on a Dask cluster.")
    parser.add_argument("questions", type=Path, help="a text file with one question per line")
    parser.add_argument("answers", type=Path, help="a folder that all workers see")
    given = parser.parse_args()
    given.answers.mkdir(exist_ok=True)
    questions = given.questions.read_text(encoding="utf-8").splitlines()
    with local_cluster() as cluster, Client(cluster) as dask:  # or Client("tcp://scheduler:8786")
        dask.register_plugin(Model(ClientSpec()))
        answer_all(dask, list(dict.fromkeys(questions)), given.answers)


def demonstrate() -> None:
    print("No MODELSLAB_API_KEY: a local server echoes, and has credit for 100 answers.")
    account = SmallAccount(credit=100)
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(account))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["MODELSLAB_API_KEY"] = str(server.api_key)  # the workers inherit it
        dask = stack.enter_context(Client(stack.enter_context(local_cluster())))
        dask.register_plugin(Model(ClientSpec(endpoint=server.llm_v7())))
        try:
            answer_all(dask, QUESTIONS, folder)
        except PaymentRequiredError as error:
            print(f"It ended early: {error}")
        account.credit = 1000
        print("The same run again, with the same folder:")
        answer_all(dask, QUESTIONS, folder)
        print(account)


def local_cluster() -> LocalCluster:
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,  # errors of tasks are raised here anyway
    )


if __name__ == "__main__":
    main()
