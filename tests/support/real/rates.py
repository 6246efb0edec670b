"""How often a real small model's answer is of the type that was asked for, by each way of asking.

    make rates    # writes the table into docs/structured-output.md

Each row is one way to ask the same thirty questions (`questions.py`) at temperature 0. An answer is
valid, cut off at the limit of tokens, or not of the type.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama.server import LlamaServer

from modelslab_llm import (
    Endpoint,
    ModelsLab,
    OutputError,
    OutputTruncatedError,
    ParsedMessage,
    Strategy,
    endpoints,
)
from real.gateway import Gateway
from real.parts import MODEL
from real.questions import QUESTIONS

SMALL = "smollm2"
SLOTS = 8
CONTEXT = 2048
MAX_TOKENS = 160
PAGE = Path(__file__).parents[3] / "docs" / "structured-output.md"
BEGIN, END = "<!-- make rates -->\n", "<!-- /make rates -->\n"


@dataclass
class Rate:
    """What came of the questions."""

    valid: int = 0
    truncated: int = 0
    invalid: list[str] = field(default_factory=list[str])
    """Why, for each answer that was not of the type."""

    @property
    def asked(self) -> int:
        return self.valid + self.truncated + len(self.invalid)


def small_server(model: Path = MODEL) -> LlamaServer:
    """Return a llama-server with the small model, eight conversations at a time."""
    options = ["--alias", SMALL, "--jinja", "--slots", "--threads", "2"]
    return LlamaServer(model, slots=SLOTS, context=CONTEXT, extra_args=options)


def by_chat_route(server: LlamaServer, **more: Any) -> dict[str, str]:
    """Return LiteLLM's parameters for a llama-server, which it then asks on the chat route."""
    where = {"api_base": f"{server.url}/v1", "api_key": server.api_key}
    return {"model": f"hosted_vllm/{SMALL}", **where, **more}


def rate(
    endpoint: Endpoint,
    key: str,
    strategy: Strategy | None,
    questions: Sequence[tuple[str, Any]] = QUESTIONS,
) -> Rate:
    """Ask the questions, several at a time."""
    found = Rate()

    def ask(question: tuple[str, Any]) -> ParsedMessage[Any] | OutputError:
        words, output = question
        try:
            return client.messages.parse(
                output=output,
                strategy=strategy,
                max_tokens=MAX_TOKENS,
                temperature=0.0,
                messages=[{"role": "user", "content": words}],
            )
        except OutputError as error:
            return error

    with ModelsLab(key, endpoint=endpoint) as client, ThreadPoolExecutor(SLOTS) as pool:
        for (words, _), came in zip(questions, pool.map(ask, questions), strict=True):
            if isinstance(came, OutputTruncatedError):
                found.truncated += 1
            elif isinstance(came, OutputError):
                found.invalid.append(f"{words} {came.raw_text[:80]!r}: {came.reason}")
            else:
                found.valid += 1
    return found


@dataclass(frozen=True)
class Row:
    """One way to ask, in words and as it is done."""

    where: str
    strategy: Strategy
    endpoint: Endpoint
    key: str


def rows(server: LlamaServer, gateway: Gateway) -> Iterator[Row]:
    """Yield every way that is compared."""
    mine = endpoints.llama_server(server.url, auth="bearer", default_model=SMALL)
    for strategy in mine.strategies:
        yield Row("`endpoints.llama_server`", strategy, mine, server.api_key)
    other = endpoints.gateway(server.url, default_model=SMALL)
    yield Row("llama-server, as `endpoints.gateway`", "output_config", other, server.api_key)
    litellm = endpoints.gateway(gateway.url, default_model="small")
    for strategy in litellm.strategies:
        yield Row("LiteLLM, `hosted_vllm/...`", strategy, litellm, gateway.key)


def table(found: Sequence[tuple[Row, Rate]]) -> str:
    """Return the table of the page."""
    asked = found[0][1].asked
    lines = [
        f"| asked at | `strategy` | valid of {asked} | truncated | not of the type |",
        "|---|---|---|---|---|",
        *(
            f'| {row.where} | `"{row.strategy}"` | {r.valid} | {r.truncated} | {len(r.invalid)} |'
            for row, r in found
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the table into the page."""
    with ExitStack() as stack:
        server = stack.enter_context(small_server())
        gateway = stack.enter_context(Gateway({"small": by_chat_route(server)}))
        found: list[tuple[Row, Rate]] = []
        for row in rows(server, gateway):
            found.append((row, rate(row.endpoint, row.key, row.strategy)))
            print(f"{row.where} {row.strategy}: {found[-1][1]}", file=sys.stderr)
    written = table(found)
    print(written)
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    assert marked.search(page), f"{PAGE} has no place for the table"
    PAGE.write_text(marked.sub(lambda _: BEGIN + written + END, page), encoding="utf-8")


if __name__ == "__main__":
    main()
