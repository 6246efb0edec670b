"""Bulk runs: send many questions with a progress bar, and resume where the last run ended.

pip install tqdm
python examples/batch.py                               # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/batch.py questions.txt answers.jsonl

`questions.txt` has one question per line. Each answer is saved in answers.sqlite as it arrives. Run
the same command again to send only the questions without an answer. At the end, all answers are
written to answers.jsonl, in the order of the questions.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from modelslab_llm import ModelsLab
from modelslab_llm.bulk import BulkStore
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, ReplyLike

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")


def batch(client: ModelsLab, questions: Iterable[str], answers: Path) -> None:
    """Answer the questions that have no answer yet, and write all answers to a JSON lines file.

    Raises `AuthenticationError` and `PaymentRequiredError`, because every other call would fail
    too; the answers so far are kept.
    """
    run = client.messages.bulk(
        list(dict.fromkeys(questions)),  # without duplicates
        make=request,
        key=str,
        defaults={"model": MODEL, "max_tokens": 500},
        store=answers.with_suffix(".sqlite"),
        retry_failed=True,
        progress=True,
    )
    for result in run:
        if result.error is not None:
            print(f"   {result.key} {type(result.error).__name__}: {result.error}")
    print(f"{run.progress.done} answered, {run.progress.stored} of them earlier;", end=" ")
    print(f"{run.progress.failed} failed; {run.progress.output_tokens} tokens")
    with BulkStore(answers.with_suffix(".sqlite"), last_run=True) as store:
        store.write_jsonl(answers)


def request(question: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}]}


def main() -> None:
    if not os.environ.get("MODELSLAB_API_KEY"):
        demonstrate()
        return
    parser = argparse.ArgumentParser(description="Answer many questions.")
    parser.add_argument("questions", type=Path, help="a text file with one question per line")
    parser.add_argument("answers", type=Path, help="a JSON lines file, written at the end")
    files = parser.parse_args()
    questions = files.questions.read_text(encoding="utf-8").splitlines()
    with ModelsLab() as client:
        batch(client, filter(None, questions), files.answers)


def demonstrate() -> None:
    print("No MODELSLAB_API_KEY: a local server echoes, and is overloaded at first.")
    questions = [f"How high is river {number}?" for number in range(100)]
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory()), "answers.jsonl")
        server = stack.enter_context(LocalServer(overloaded_at_first(calls=3)))
        # No retries: they would leave no failure to show.
        client = stack.enter_context(server.client(max_retries=0))
        batch(client, questions, file)
        print("The same run again, with the same file:")
        batch(client, questions, file)
        print(f"{len(server.requests)} calls in all")
        print(f"The first line: {file.read_text(encoding='utf-8').splitlines()[0]}")


def overloaded_at_first(calls: int) -> Callable[[ReceivedRequest], ReplyLike]:
    left = iter(range(calls))

    def answer(request: ReceivedRequest) -> ReplyLike:
        if next(left, None) is not None:
            return ErrorReply(529, "Overloaded.")
        return f"You said: {request.body['messages'][-1]['content']}"

    return answer


if __name__ == "__main__":
    main()
