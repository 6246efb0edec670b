"""A column of answers with Daft: an async UDF, typed errors per row, resuming from the output.

pip install 'modelslab-llm' daft
python examples/cluster_daft.py                        # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/cluster_daft.py questions.csv answers/

`questions.csv` has the columns `id` and `question`. Answers are added to the Parquet files in
`answers/`. Run the same command again to send only the questions without an answer there. The key
is not sent to the workers: each reads it from its own environment, as Daft's processes on this
machine do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import daft
from _small_account import QUESTIONS, SmallAccount
from daft import DataFrame, DataType, col

from modelslab_llm import APIError, AuthenticationError, ClientSpec, PaymentRequiredError
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
SLICE = 50  # rows per write; use thousands for a large table
ANSWER = DataType.struct(
    {"text": DataType.string(), "error": DataType.string(), "tokens": DataType.int64()}
)


@daft.cls(max_concurrency=50)  # calls per worker; the client finds the limit of the account
class Model:
    """One client in each worker, for all its rows."""

    def __init__(self, spec: ClientSpec) -> None:
        self.client = spec.async_client()  # with the key of the worker's environment

    @daft.method(return_dtype=ANSWER)
    async def answer(self, question: str) -> dict[str, Any]:
        """Answer one row. An error that every row would raise ends the query."""
        try:
            message = await self.client.messages.create(
                model=MODEL, max_tokens=500, messages=[{"role": "user", "content": question}]
            )
        except (AuthenticationError, PaymentRequiredError):
            raise
        except APIError as error:
            return {"text": None, "error": f"{type(error).__name__}: {error}", "tokens": 0}
        tokens = message.usage.input_tokens + message.usage.output_tokens
        return {"text": message.text, "error": None, "tokens": tokens}


def answer_all(spec: ClientSpec, questions: DataFrame, folder: Path) -> None:
    """Answer the questions that have no answer in the folder yet."""
    if any(folder.glob("*.parquet")):
        done = daft.read_parquet(f"{folder}/*.parquet").where(col("error").is_null())
        questions = questions.join(done.select("id"), on="id", how="anti")
    questions = questions.collect()  # in memory; each use of a lazy frame would run it again
    model = Model(spec)
    for start in range(0, len(questions), SLICE):
        rows = questions.offset(start).limit(SLICE)
        answered = rows.with_column("answer", model.answer(col("question")))
        columns = [col("answer").get(name).alias(name) for name in ("text", "error", "tokens")]
        answered.select("id", *columns).write_parquet(str(folder))


def tell(folder: Path) -> None:
    """Print what the folder contains; if a row was asked twice, the last answer counts."""
    rows = daft.read_parquet(f"{folder}/*.parquet").to_pylist()
    print(f"{sum(row['error'] is None for row in rows)} rows answered")
    for error in {row["error"] for row in rows} - {None}:
        print(f"   {error}")


def main() -> None:
    if not os.environ.get("MODELSLAB_API_KEY"):
        demonstrate()
        return
    parser = argparse.ArgumentParser(description="Answer many questions with Daft.")
    parser.add_argument("questions", help="a CSV file with the columns id and question")
    parser.add_argument("answers", type=Path, help="a folder for Parquet files")
    given = parser.parse_args()
    # For a cluster: daft.set_runner_ray("ray://..."). Without it, Daft uses this machine only.
    answer_all(ClientSpec(), daft.read_csv(given.questions), given.answers)
    tell(given.answers)


def demonstrate() -> None:
    print("No MODELSLAB_API_KEY: a local server echoes, and has credit for 120 answers.")
    account = SmallAccount(credit=120)
    questions = daft.from_pydict({"id": list(range(len(QUESTIONS))), "question": QUESTIONS})
    with ExitStack() as stack:
        server = stack.enter_context(LocalServer(account))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["MODELSLAB_API_KEY"] = str(server.api_key)
        spec = ClientSpec(endpoint=server.llm_v7())
        try:
            answer_all(spec, questions, folder)
        except PaymentRequiredError as error:
            print(f"It ended early: {error}")
        tell(folder)
        account.credit = 1000
        print("The same run again, with the same folder:")
        answer_all(spec, questions, folder)
        tell(folder)
        print(account)


if __name__ == "__main__":
    main()
