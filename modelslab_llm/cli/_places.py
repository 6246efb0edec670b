"""Decide which files a bulk run may write, and take their places at its end.

A file is replaced only if a run with the same store has written it. Must not know what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import IO

from modelslab_llm.bulk.files import WrittenFiles, files_of, is_same_file

from ._status import Fault, Status, writing

_TABLES = {".csv", ".tsv", ".tab", ".xls", ".xlsx", ".ods", ".parquet", ".arrow", ".feather"}
_OTHERS = {".sqlite", ".db", ".gz", ".bz2", ".xz", ".zst", ".zip"}
OTHER_FORMS = frozenset(_TABLES | _OTHERS)
"""What a name must not end in, because the file would be something else: it has JSON lines."""


class Places:
    """The files that a run reads and writes. Raises `Fault` for what is not the name of a file."""

    def __init__(self, source: str, out: str, store: str | None, failures: str | None) -> None:
        self.source = None if source == "-" else Path(source)
        self.out = _named("OUT", out)
        self.store = self._beside("sqlite") if store is None else _named("--store", store)
        self.failures = (
            self._beside("failures") if failures is None else _named("--failures", failures)
        )
        self._written = WrittenFiles(self.store)

    def check(self) -> None:
        """Refuse names that do not go together. Raises `Fault`."""
        for path in (self.out, self.failures):
            if path.suffix.lower() in OTHER_FORMS:
                raise Fault(
                    f"{path}: would contain JSON lines, whatever its name says; name it .jsonl. "
                    "BulkStore, in Python, writes other forms of what the store has"
                )
        for (role, path), (other_role, other) in combinations(self._all(), 2):
            if role != other_role and is_same_file(path, other):
                raise Fault(f"{role} and {other_role} are the same file, {other}; name another one")

    def check_free(self) -> None:
        """Refuse, before anything is sent, what cannot or must not be written. Raises `Fault`."""
        for path in (self.out, self.failures):
            if why := self._why_not(path):
                raise Fault(why)
            folder = path.absolute().parent
            if not folder.is_dir():
                raise Fault(f"{folder}: there is no such folder")

    @contextmanager
    def replacing(self, path: Path) -> Generator[IO[str]]:
        """Give a file to write, which then takes the place of `path` in one step."""
        place = Path(os.path.realpath(path))  # a link stays a link
        scratch = place.with_name(f".{place.name}.{os.getpid()}")
        with writing(path):
            try:
                # Of JSON that is the right escape for half of a character, which UTF-8 cannot hold.
                with scratch.open(
                    "w", encoding="utf-8", errors="backslashreplace", newline="\n"
                ) as file:
                    yield file
                if why := self._why_not(path):  # it came while the run went on
                    raise Fault(why, Status.UNWRITTEN)
                self._written.add(path)
                scratch.replace(place)
            finally:
                scratch.unlink(missing_ok=True)

    def remove(self, path: Path) -> None:
        """Remove a file if a run with this store has written it."""
        if path in self._written:
            with writing(path):
                Path(os.path.realpath(path)).unlink(missing_ok=True)

    def _beside(self, ending: str) -> Path:
        return self.out.with_name(f"{self.out.name}.{ending}")

    def _all(self) -> Iterator[tuple[str, Path]]:
        if self.source is not None:
            yield "IN", self.source
        yield "OUT", self.out
        yield "--failures", self.failures
        for path in files_of(self.store):
            yield "--store", path

    def _why_not(self, path: Path) -> str | None:
        """Say why a file must not be replaced; None if it may."""
        if not path.exists():
            return None
        if not path.is_file():
            return f"{path}: is not a regular file; name another one"
        if not path.stat().st_size or path in self._written:
            return None
        return (
            f"{path} exists, and no run with the store {self.store} has written it; "
            "name another file, or remove it first"
        )


def _named(what: str, text: str) -> Path:
    path = Path(text)
    if os.path.basename(text) in ("", ".", "..") or path.is_dir():
        raise Fault(f"{what}: {text!r} is not the name of a file")
    if text == "-":
        raise Fault(
            f"{what}: '-' is not the name of a file; name one, from which a run can be continued"
        )
    return path
