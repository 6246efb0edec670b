"""Many questions at once: some in flight, a progress bar, failures kept, resumed where it ended.

pip install tqdm
python examples/batch.py                               # no key: a local server answers, by echo
MODELSLAB_API_KEY=… python examples/batch.py questions.txt answers.jsonl

Questions stand one on a line. An answer is written when it comes, as a line of JSON; run the same
again, and only what has no answer yet is asked. In the end the answers are in the questions' order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from modelslab_llm import APIError, AsyncModelsLab, AuthenticationError, PaymentRequiredError
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, ReplyLike

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
AT_ONCE = 8

Row: TypeAlias = dict[str, Any]


async def batch(client: AsyncModelsLab, questions: Iterable[str], file: Path) -> list[Row]:
    """Answer what has no answer in the file yet; return a row for each question, in their order.

    Raises `AuthenticationError` and `PaymentRequiredError`, which every other call would meet too.
    All that was answered before is in the file, whatever happens.
    """
    questions = list(dict.fromkeys(questions))
    rows = {row["question"]: row for row in read(file) if "answer" in row}
    write(file, rows)  # so that new lines follow whole ones
    todo = [question for question in questions if question not in rows]
    done = len(questions) - len(todo)
    with (
        file.open("a", encoding="utf-8") as lines,
        tqdm(total=len(questions), initial=done, disable=None) as bar,  # None: at terminals alone
    ):

        async def work(share: Iterator[str]) -> None:
            for question in share:
                rows[question] = await answer(client, question)
                lines.write(as_line(rows[question]))
                lines.flush()
                bar.update()

        share = iter(todo)  # one for all: each worker takes the next question
        workers = [asyncio.create_task(work(share)) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*workers)
        finally:  # when one has failed, or on Ctrl-C, the others end before the file is closed
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    in_order = {question: rows[question] for question in questions}
    write(file, in_order | rows)
    return list(in_order.values())


async def answer(client: AsyncModelsLab, question: str) -> Row:
    try:
        message = await client.messages.create(
            model=MODEL, max_tokens=500, messages=[{"role": "user", "content": question}]
        )
    except (AuthenticationError, PaymentRequiredError):
        raise
    except APIError as error:  # after the client's own retries
        return {"question": question, "error": type(error).__name__, "message": str(error)}
    return {
        "question": question,
        "answer": message.text,
        "stop_reason": message.stop_reason,
        "output_tokens": message.usage.output_tokens,
    }


def read(file: Path) -> Iterator[Row]:
    """Yield the rows of a file, if there is one; not a last line that was cut."""
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("}\n"):
                    yield json.loads(line)


def write(file: Path, rows: dict[str, Row]) -> None:
    """Replace the file in one step, so that it is whole at any moment."""
    new = file.with_name(f"{file.name}.new")
    new.write_text("".join(map(as_line, rows.values())), encoding="utf-8")
    new.replace(file)


def as_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def report(rows: list[Row]) -> None:
    failed = [row for row in rows if "error" in row]
    tokens = sum(row.get("output_tokens", 0) for row in rows)
    print(f"{len(rows) - len(failed)} answered, with {tokens} tokens; {len(failed)} failed")
    for row in failed[:3]:
        print(f"   {row['question']} {row['error']}: {row['message']}")


async def main() -> None:
    if not os.environ.get("MODELSLAB_API_KEY"):
        await demonstrate()
        return
    parser = argparse.ArgumentParser(description="Answer many questions.")
    parser.add_argument("questions", type=Path, help="a text, one question a line")
    parser.add_argument("answers", type=Path, help="a file of JSON lines, made or gone on with")
    files = parser.parse_args()
    questions = files.questions.read_text(encoding="utf-8").splitlines()
    async with AsyncModelsLab() as client:
        report(await batch(client, filter(None, questions), files.answers))


async def demonstrate() -> None:
    print("No MODELSLAB_API_KEY: a local server answers, by echo, and is overloaded at first.")
    questions = [f"How high is river {number}?" for number in range(100)]
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory()), "answers.jsonl")
        server = stack.enter_context(LocalServer(overloaded_at_first(calls=3)))
        # Without its retries, which would leave no failure to see.
        async with AsyncModelsLab(
            server.api_key, endpoint=server.llm_v7(), max_retries=0
        ) as client:
            report(await batch(client, questions, file))
            print("Once more, with the same file:")
            report(await batch(client, questions, file))
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
    asyncio.run(main())
