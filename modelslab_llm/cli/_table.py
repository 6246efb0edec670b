"""Read the rows of a bulk run from a file, one at a time, and fill a prompt from their columns.

A file is read again for each look at it, so that its length does not matter. Sends nothing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

from modelslab_llm.errors import InvalidRequestError

from ._json import is_object
from ._status import Fault

Row: TypeAlias = dict[str, Any]
Form: TypeAlias = Literal["jsonl", "csv", "tsv"]

LONGEST_CELL = 24 * 1024 * 1024
"""Characters of one cell: what one request can carry."""


class Table:
    """The rows of a file: JSON lines, or comma or tab separated values with a line of headings.

    Iterate it for a dict of each row, as often as you like. Raises `Fault` for a row that cannot be
    read, with its line.
    """

    def __init__(self, path: Path, form: Form) -> None:
        self._path = path
        self._form = form
        self._length: int | None = None

    def __iter__(self) -> Iterator[Row]:
        with _opened(self._path) as file:
            yield from self._of_json(file) if self._form == "jsonl" else self._of_csv(file)

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length

    def check(self, fits: Callable[[Row], object]) -> None:
        """Read all rows once, and have each one checked before anything is sent. Raises `Fault`."""
        length = 0
        for row in self:
            length += 1
            try:
                fits(row)
            except Fault as error:
                raise Fault(f"{self._path}: row {length}: {error}") from error
        if not length:
            raise Fault(f"{self._path}: has no rows")
        self._length = length

    def _of_json(self, file: IO[str]) -> Iterator[Row]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row: object = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Fault(f"{self._path}:{number}: is not JSON: {error}") from error
            if not is_object(row):
                raise Fault(f"{self._path}:{number}: is not a JSON object")
            yield row

    def _of_csv(self, file: IO[str]) -> Iterator[Row]:
        csv.field_size_limit(LONGEST_CELL)
        rows = csv.DictReader(file, delimiter="\t" if self._form == "tsv" else ",", strict=True)
        try:
            names = rows.fieldnames or []
            if len(set(names)) < len(names):
                raise Fault(f"{self._path}: two columns have the same name; rename one")
            for row in rows:
                if None in row or None in row.values():
                    raise Fault(
                        f"{self._path}:{rows.line_num}: does not have {len(names)} columns, as the "
                        "header line has"
                    )
                yield row
        except csv.Error as error:
            raise Fault(f"{self._path}:{rows.line_num}: {error}") from error


@contextmanager
def _opened(path: Path) -> Generator[IO[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Fault(f"{path}: is not UTF-8 text, at byte {error.start}; save it as such") from error


def form_of(path: Path, named: str | None) -> Form:
    """Return the form of a file: the one that is named, else by the ending of its name."""
    for form in ("jsonl", "csv", "tsv"):
        if named == form or (named is None and path.suffix.lower() == f".{form}"):
            return form
    if named is None and path.suffix.lower() in (".json", ".ndjson"):
        return "jsonl"
    raise Fault(f"{path}: the format is unknown; pass --format jsonl, csv or tsv")


class Template:
    """A text with the names of columns in braces; `{{` and `}}` are braces themselves.

    >>> Template("Is {river} high? {{yes}}").fill({"river": "Tamar"})
    'Is Tamar high? {yes}'
    """

    def __init__(self, text: str) -> None:
        self._parts = [part for part in re.split(r"(\{\{|\}\}|\{[^{}]+\})", text) if part]
        self.columns = [part[1:-1] for part in self._parts if _is_column(part)]
        """The columns that it names."""

    def fill(self, row: Row) -> str:
        """Return the text for a row. Raises `Fault` for a column that the row does not have."""
        return "".join(self._filled(part, row) for part in self._parts)

    def _filled(self, part: str, row: Row) -> str:
        if part in ("{{", "}}"):
            return part[0]
        if not _is_column(part):
            return part
        name = part[1:-1]
        if name not in row:
            known = ", ".join(map(str, row))
            raise Fault(f"has no column {name!r}; it has: {known or 'none'}")
        value: object = row[name]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_column(part: str) -> bool:
    return len(part) > 2 and part[0] == "{" and part[-1] == "}"


def maker(
    prompt: str | None, system: str | None, key: str | None
) -> Callable[[Row], dict[str, Any]]:
    """Return what makes the parameters of a row: by a prompt, a column `prompt`, or as they are.

    It raises `Fault` for a row that does not have what it takes, and `InvalidRequestError` for one
    whose prompt is empty.
    """
    asked = None if prompt is None else Template(prompt)
    told = None if system is None else Template(system)
    if asked is not None and not asked.columns:
        raise Fault(
            "--prompt: names no column in braces, such as {text}, so all rows would be the same"
        )

    def make(row: Row) -> dict[str, Any]:
        if key is not None and key not in row:
            raise Fault(f"has no column {key!r}; it has: {', '.join(row)}")
        params: dict[str, Any] = {} if told is None else {"system": told.fill(row)}
        if asked is None and "messages" in row:
            return {name: value for name, value in row.items() if name != key} | params
        text = (asked or _PROMPT_COLUMN).fill(row)
        if not text.strip():
            raise InvalidRequestError("the prompt is empty")
        return params | {"messages": [{"role": "user", "content": text}]}

    return make


_PROMPT_COLUMN = Template("{prompt}")
