"""`modelslab models` and `modelslab count`: what the endpoint has, how many tokens files are."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ._ask import model_of, params_of
from ._parts import content_of
from ._status import Fault, Status
from ._target import Target, Where, target_of
from ._terminal import console, is_screen, note, shown, write, write_json

if TYPE_CHECKING:
    from modelslab_llm import ModelInfo, ModelList

NARROW = 60
"""Columns below which the less important part of a table is left out."""


def models(*, where: Where, as_json: bool) -> Status:
    """Print the models: a table, lines with tabs where it is piped, or JSON."""
    found = asyncio.run(_models(target_of(where)))
    if as_json:
        write_json([model.model_dump(mode="json") for model in found])
    elif is_screen(sys.stdout):
        _draw(found)
    else:
        for model in found:
            write("\t".join(" ".join(cell.split()) for cell in _row(model)) + "\n")
    if not found:
        note("modelslab: the server lists no models")
    return Status.OK


async def _models(target: Target) -> ModelList:
    async with target.client() as client:
        return await client.models.list()


def _row(model: ModelInfo) -> list[str]:
    return [
        model.id,
        str(model.context_window or ""),
        model.created.date().isoformat() if model.created else "",
        model.owned_by or "",
    ]


def _draw(found: ModelList) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    out = console()
    rows = [_row(model) for model in found]
    names = ["Model", "Context", "Created", "Owner"][: 4 if out.width >= NARROW else 2]
    kept = [at for at, _ in enumerate(names) if at == 0 or any(row[at] for row in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at in kept:
        # A name must be there whole, to be copied.
        justify: Literal["right", "left"] = "right" if names[at] == "Context" else "left"
        table.add_column(names[at], overflow="fold", justify=justify, no_wrap=at != 0)
    for row in rows:
        table.add_row(*(shown(row[at]) for at in kept))
    out.print(table)


def count(
    *, where: Where, files: Sequence[str], model: str | None, system: str | None, as_json: bool
) -> Status:
    """Print the tokens of each file, and of all of them where there are several."""
    names = list(files) or ["-"]
    if not files and sys.stdin.isatty():
        raise Fault("name files to count, or pipe text into the command")
    if where.api_key_file == "-" and "-" in names:
        raise Fault("standard input cannot be both the key and the text to count")
    if len(names) != len(set(names)) and names.count("-") > 1:
        raise Fault("standard input can only be counted once")
    contents = [content_of("", [name], piped=False) for name in names]
    counted = asyncio.run(_count(target_of(where, model), contents, system))
    if as_json:
        rows = [{"file": name, "input_tokens": n} for name, n in zip(names, counted, strict=True)]
        write_json(rows)
    elif len(names) == 1:
        write(f"{counted[0]}\n")
    else:
        for name, tokens in zip([*names, "total"], [*counted, sum(counted)], strict=True):
            write(f"{tokens}\t{name}\n")
    return Status.OK


async def _count(target: Target, contents: Sequence[object], system: str | None) -> list[int]:
    async with target.client() as client:
        model = await model_of(target, client)
        counted: list[int] = []
        for content in contents:
            params = params_of(
                model=model, messages=[{"role": "user", "content": content}], system=system
            )
            found = await client.messages.count_tokens(**params)
            counted.append(found.input_tokens)
        return counted
