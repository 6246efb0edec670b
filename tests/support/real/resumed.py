"""How often a real small model, asked for the rest of an answer, says what it would have said.

    make resumed    # writes the table into docs/streaming.md

Thirty prompts at temperature 0. Each is answered once undisturbed, and then again with the
connection broken after some deltas and the stream resumed. The text is the same or it is not; that
it is one answer is checked by the client.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama.server import LlamaServer
from routes import Severing

import modelslab_llm._protocol.retry as retry
from modelslab_llm import Message, ModelsLab, endpoints
from real.parts import MODEL
from real.questions import QUESTIONS
from real.rates import SMALL, small_server

CUTS = (1, 10, 25, 60)
MAX_TOKENS = 120
PROMPTS = [f"{words} Explain it in a few sentences." for words, _ in QUESTIONS]
PAGE = Path(__file__).parents[3] / "docs" / "streaming.md"
BEGIN, END = "<!-- make resumed -->\n", "<!-- /make resumed -->\n"


@dataclass(frozen=True)
class Row:
    """What came of the prompts with the connection broken at one place."""

    cut: int
    resumed: int
    """How many answers were longer than that."""
    different: list[str]
    """Those of them that are not as they were undisturbed, from the first difference on."""


def answers(
    relay: Severing, client: ModelsLab, prompts: Sequence[str], cut: int | None = None
) -> list[Message]:
    """Answer the prompts, each broken once after so many deltas."""
    found: list[Message] = []
    for prompt in prompts:
        relay.sever(*([] if cut is None else [cut]))
        found.append(
            client.messages.create(
                resume=1,
                max_tokens=MAX_TOKENS,
                temperature=0.0,
                messages=[{"role": "user", "content": prompt}],
            )
        )
    return found


def compared(cut: int, undisturbed: Sequence[Message], broken: Sequence[Message]) -> Row:
    """Compare the answers that were resumed."""
    pairs = [(one, other) for one, other in zip(undisturbed, broken, strict=True) if other.seams]
    different: list[str] = []
    for one, other in pairs:
        if one.text != other.text:
            both = enumerate(zip(one.text, other.text, strict=False))
            shorter = min(len(one.text), len(other.text))
            at = next((n for n, (here, there) in both if here != there), shorter)
            where = f"{at - other.seams[0].at} characters after the seam"
            different.append(f"{where}: {one.text[at:][:30]!r}, {other.text[at:][:30]!r}")
    return Row(cut, len(pairs), different)


def measured(
    server: LlamaServer, cuts: Sequence[int] = CUTS, prompts: Sequence[str] = PROMPTS
) -> Iterator[Row]:
    """Yield a row for each place."""
    with Severing(int(server.url.rpartition(":")[2])) as relay:
        place = endpoints.llama_server(relay.url, "bearer", default_model=SMALL)
        with ModelsLab(server.api_key, endpoint=place) as client:
            undisturbed = answers(relay, client, prompts)
            for cut in cuts:
                yield compared(cut, undisturbed, answers(relay, client, prompts, cut))


def table(rows: Sequence[Row]) -> str:
    """Return the table of the page."""
    lines = [
        "| connection broken after | answers resumed | same text as without a break |",
        "|---|---|---|",
        *(
            f"| {row.cut} delta{'s' if row.cut > 1 else ''} | {row.resumed} "
            f"| {row.resumed - len(row.different)} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the table into the page."""
    retry.FIRST = 0.01  # what is measured is not the wait
    rows: list[Row] = []
    with small_server(MODEL) as server:
        for row in measured(server):
            rows.append(row)
            print(row, file=sys.stderr)
    written = table(rows)
    print(written)
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    assert marked.search(page), f"{PAGE} has no place for the table"
    PAGE.write_text(marked.sub(lambda _: BEGIN + written + END, page), encoding="utf-8")


if __name__ == "__main__":
    main()
