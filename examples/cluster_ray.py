"""Many questions with Ray Data: a client in each actor, a store for each part.

pip install 'modelslab-llm' 'ray[data]'
python examples/cluster_ray.py                         # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/cluster_ray.py questions.txt answers/

`questions.txt` has one question per line. The questions are split into parts. Each part is a bulk
run in an actor, with a store in `answers/`, which all actors must see. Run the same command again
to send only the questions without an answer. At the end, all answers are written there as Parquet.
The key is not sent to the actors: each node needs it in its environment when Ray starts there, as
here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ray
import ray.data
from _small_account import QUESTIONS, SmallAccount
from ray.data import ActorPoolStrategy, Dataset

from modelslab_llm import ClientSpec
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
ACTORS, PARTS = 2, 8


class Model:
    """One client in each actor, for all its parts."""

    def __init__(self, spec: ClientSpec, folder: Path) -> None:
        self.client = spec.async_client()  # with the key of the node's environment
        self.folder = folder

    async def __call__(self, part: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Answer the questions of a part. An error that every row would raise ends the job."""
        run = self.client.messages.bulk(
            part["questions"],
            make=request,
            key=str,
            defaults={"model": MODEL, "max_tokens": 500},
            store=self.folder / f"part-{part['id']}.sqlite",
            retry_failed=True,
        )
        async for result in run:
            error = result.error
            yield {
                "question": result.row,
                "text": "" if error else result.message.text,
                "error": type(error).__name__ if error else "",
                "says": str(error or ""),
                "tokens": result.usage.output_tokens,
            }


def request(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


def answer_all(spec: ClientSpec, questions: Sequence[str], folder: Path) -> Dataset:
    """Answer the questions that have no answer yet, in all actors, and return all answers."""
    parts = [{"id": first, "questions": questions[first::PARTS]} for first in range(PARTS)]
    answered = (
        ray.data.from_items(parts, override_num_blocks=PARTS)
        .flat_map(
            Model,
            fn_constructor_kwargs={"spec": spec, "folder": folder},
            compute=ActorPoolStrategy(size=ACTORS),
            num_cpus=0.5,  # it waits for the server most of the time
        )
        .materialize()  # each use of a lazy dataset would run it again
    )
    for row in answered.iter_rows():
        if row["error"]:
            print(f"   {row['question']} {row['says']}")
    print(f"{answered.count()} rows")
    return answered


def main() -> None:
    if not os.environ.get("MODELSLAB_API_KEY"):
        demonstrate()
        return
    parser = argparse.ArgumentParser(description="Answer many questions with Ray Data.")
    parser.add_argument("questions", type=Path, help="a text file with one question per line")
    parser.add_argument("answers", type=Path, help="a folder that all actors see")
    given = parser.parse_args()
    given.answers.mkdir(exist_ok=True)
    questions = given.questions.read_text(encoding="utf-8").splitlines()
    ray.init(logging_level="ERROR")  # the cluster of RAY_ADDRESS, or this machine
    folder: Path = given.answers.absolute()
    answered = answer_all(ClientSpec(), list(dict.fromkeys(questions)), folder)
    answered.write_parquet(str(folder / "answers"), mode=ray.data.SaveMode.OVERWRITE)
    ray.shutdown()


def demonstrate() -> None:
    print("No MODELSLAB_API_KEY: a local server echoes, and has credit for 120 answers.")
    account = SmallAccount(credit=120)
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(account))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["MODELSLAB_API_KEY"] = str(server.api_key)  # the actors inherit it
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
        stack.callback(ray.shutdown)
        spec = ClientSpec(endpoint=server.llm_v7())
        try:
            answer_all(spec, QUESTIONS, folder)
        except ray.exceptions.RayTaskError as error:  # contains the text of the actor's error
            print(f"It ended early: {str(error).partition('PaymentRequiredError')[1]}")
        account.credit = 1000
        print("The same run again, with the same folder:")
        answer_all(spec, QUESTIONS, folder)
        print(account)


if __name__ == "__main__":
    main()
