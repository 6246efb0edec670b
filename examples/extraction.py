"""Data extraction: a model reads each file, and the typed rows that it finds are written as CSV.

python examples/extraction.py                          # no key: a local server plays the model
MODELSLAB_API_KEY=… python examples/extraction.py letters/*.txt scans/*.pdf > readings.csv

Files that could not be read are reported on stderr, and make the exit status 1.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from modelslab_llm import ContentBlockParam, ModelsLab, ModelsLabError, document
from modelslab_llm.testing import LocalServer, ReceivedRequest, Reply

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
TASK = "Give every reading of a river's level that the document tells of, and nothing else."


class Reading(BaseModel):
    """A river's level on a day. The types and descriptions tell the model what to return."""

    river: Annotated[str, Field(min_length=1, description="Its name, without 'River'.")]
    day: date
    level_cm: Annotated[float, Field(gt=0, description="In cm, whatever the document has.")]


def main() -> int:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
            files = [Path(name) for name in sys.argv[1:]]
        else:
            print("No MODELSLAB_API_KEY: a local server plays the model.\n")
            server = stack.enter_context(LocalServer(play_model))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            files = write_letters(Path(folder))
        return extract(client, files)


def extract(client: ModelsLab, files: Iterable[Path]) -> int:
    """Print the readings of all files as CSV; return 1 if a file could not be read, else 0."""
    table = csv.DictWriter(sys.stdout, ["file", *Reading.model_fields], lineterminator="\n")
    table.writeheader()
    status = 0
    for file in files:
        try:
            readings = read(client, file)
        except (ModelsLabError, OSError, UnicodeError) as error:
            print(f"{file.name}: {type(error).__name__}: {error}", file=sys.stderr)
            status = 1
        else:
            table.writerows({"file": file.name, **reading.model_dump()} for reading in readings)
    return status


def read(client: ModelsLab, file: Path) -> list[Reading]:
    message = client.messages.parse(
        output=list[Reading],
        # The model sees an answer that does not fit the types, and is asked to fix it.
        validation_retries=2,
        model=MODEL,
        max_tokens=2000,
        messages=[{"role": "user", "content": [block_of(file), {"type": "text", "text": TASK}]}],
    )
    return message.parsed


def block_of(file: Path) -> ContentBlockParam:
    """Return a PDF as a document, but text as text: some servers silently drop documents."""
    if file.suffix.lower() == ".pdf":
        return document(file, title=file.name)
    return {"type": "text", "text": f"<document>\n{file.read_text(encoding='utf-8')}\n</document>"}


# For the run without a key


def write_letters(folder: Path) -> list[Path]:
    letters = {
        "ada.txt": "On 2026-03-01 the Tamar stood at 214 cm, and on 2026-03-02 at 220 cm.",
        "bea.txt": "I have nothing to tell but that it rains.",
        "cyd.txt": "The Exe! On 2026-03-02 it stood at 0.9 m.",
    }
    for name, text in letters.items():
        (folder / name).write_text(f"Dear Eve,\n{text}\n", encoding="utf-8")
    return [folder / name for name in letters]


def play_model(request: ReceivedRequest) -> Reply:
    """Find the readings; ignore the unit until the first answer is sent back."""
    text = request.body["messages"][0]["content"][0]["text"]
    river = re.search(r"Tamar|Exe", text)
    found: list[dict[str, Any]] = []
    for day, level, unit in re.findall(r"(\d{4}-\d\d-\d\d)[^\d]* at ([\d.]+) (c?m)", text):
        mended = len(request.body["messages"]) > 1
        centimetres = float(level) * (1 if unit == "cm" else 100)
        found.append(
            {
                "river": river and river[0],
                "day": day,
                "level_cm": centimetres if mended or unit == "cm" else f"{level} m",
            }
        )
    call = {"type": "tool_use", "id": "toolu_1", "name": "output", "input": {"value": found}}
    return Reply([call])


if __name__ == "__main__":
    sys.exit(main())
