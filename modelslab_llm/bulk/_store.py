"""Read what bulk runs have stored, and write it to files and tables. Changes nothing in the store.

Files are written beside their place and then moved there, so that one that is there is whole.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TextIO, TypeVar, overload

from pydantic import TypeAdapter
from typing_extensions import Self, TypeForm

from .._hints import HintsAtNames, Place
from ..errors import ConfigurationError
from ..types._json import encodable, fields_of
from ._result import BulkResult, Kept, adapter_of, message_from, usage_from
from ._rows import LARGEST, Key, plain_key
from .files import is_same_file

T = TypeVar("T")

BATCH = 1000  # rows that are held at once while a file is written

COLUMNS: dict[str, type] = {
    "key": str,
    "position": int,
    "text": str,
    "output": str,
    "stop_reason": str,
    "error": str,
    "error_message": str,
    "model": str,
    "input_tokens": int,
    "output_tokens": int,
    "cache_read_tokens": int,
    "cache_write_tokens": int,
    "attempts": int,
    "request_id": str,
    "finished": str,
}
"""What a row of a table has. `output` is JSON, `finished` a time in UTC."""


class BulkStore(HintsAtNames, Generic[T]):
    """The results in a store, also while a run writes to it.

    Iterate it for a `BulkResult` of each row, in the order of the rows. `output` is the type that
    `parsed` is read into, as it was for the run.

    Args:
        path: The file that was passed to a run as `store=`.
        output: The type that was passed as `output=`, if there was one.
        last_run: only the rows that the last run came to, not all that are stored. Of a row whose
            request changed and then failed it has the failure; without it, the earlier answer.

    Raises `StoreError` if there is no such file, or it is something else. Use it as a context
    manager, or close it.
    """

    _place: ClassVar[Place] = "store"

    @overload
    def __init__(
        self: BulkStore[None],
        path: str | os.PathLike[str],
        output: None = None,
        *,
        last_run: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self, path: str | os.PathLike[str], output: TypeForm[T], *, last_run: bool = False
    ) -> None: ...
    def __init__(
        self, path: str | os.PathLike[str], output: Any = None, *, last_run: bool = False
    ) -> None:
        from ._ledger import Shelf  # SQLite, as in `_order`

        self._adapter: TypeAdapter[T] | None = None if output is None else adapter_of(output)
        self._shelf = Shelf(path)
        self._run = self._shelf.last_run() if last_run else None

    @property
    def answered(self) -> int:
        """How many rows have an answer."""
        return self._shelf.counts(self._run).answered

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return self._shelf.counts(self._run).failed

    def get(self, key: Key) -> BulkResult[None, T] | None:
        """Return the result of one row.

        Args:
            key: The key of the row, of the type that it had in the run: columns of a CSV file are
                text. The position of the row if the run had no `key=`.

        Returns:
            The result, or `None` if it is not stored.

        Raises:
            TypeError: It is neither a str nor an int, or the store has the key as the other type.
        """
        plain = plain_key(key)
        kept = None if plain is None else self._shelf.find(plain, run=self._run)
        if kept is not None:
            return self._result(kept)
        if isinstance(key, bool) or not (isinstance(key, str) or hasattr(key, "__index__")):
            raise TypeError(f"key must be a str or an int, not {key!r:.60}")
        other = None if plain is None else _as_other_type(plain)
        if other is not None and self._shelf.find(other, run=self._run) is not None:
            kinds = type(other).__name__, type(plain).__name__
            raise TypeError(
                f"the store has the key {other!r} ({kinds[0]}), not {plain!r} ({kinds[1]})"
            )
        return None

    def __len__(self) -> int:
        return sum(self._shelf.counts(self._run))

    def __iter__(self) -> Iterator[BulkResult[None, T]]:
        return map(self._result, self._shelf.all(self._run))

    def write_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write a line of JSON for each row: its columns, and `message`, the whole answer.

        Args:
            path: The file, which is replaced once the new one is complete.
        """
        with self._replacing(path) as file:
            for kept in self._shelf.all(self._run):
                record = _record(kept)
                for name, text in (("output", kept.output), ("message", kept.message)):
                    record[name] = None if text is None else json.loads(text)
                file.write(encodable(json.dumps(record, ensure_ascii=False)) + "\n")

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table of comma-separated values, with a line of headings.

        Args:
            path: The file, which is replaced once the new one is complete.
        """
        with self._replacing(path) as file:
            import csv

            # Without an escape character, Python 3.10 refuses to write a NUL.
            dialect: Any = {} if sys.version_info >= (3, 11) else {"escapechar": chr(0x10FFFF)}
            table = csv.DictWriter(file, list(COLUMNS), **dialect)
            table.writeheader()
            table.writerows(self._records())

    def write_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, with pyarrow or polars, whichever is installed.

        pyarrow writes it piece by piece; polars holds the whole table in memory.

        Args:
            path: The file, which is replaced once the new one is complete.

        Raises:
            ConfigurationError: Neither is installed.
        """
        try:
            import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]
        except ImportError:
            try:
                frame = self.to_polars()
            except ConfigurationError:
                raise ConfigurationError(
                    "Parquet needs another package: pip install pyarrow, or polars"
                ) from None
            with self._beside(path) as new:
                frame.write_parquet(new)
            return
        arrow: Any = pyarrow
        kinds = {str: arrow.string(), int: arrow.int64()}
        schema = arrow.schema([(name, kinds[kind]) for name, kind in self._columns().items()])
        with self._beside(path) as new, arrow.parquet.ParquetWriter(new, schema) as file:
            for batch in _batches(self._records()):
                file.write_table(arrow.Table.from_pylist(batch, schema=schema))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame. Raises `ConfigurationError` if pandas is not installed."""
        try:
            import pandas  # pyright: ignore[reportMissingTypeStubs]
        except ImportError:
            raise ConfigurationError("to_pandas() needs pandas: pip install pandas") from None
        frames: Any = pandas
        return frames.DataFrame.from_records(list(self._records()), columns=list(COLUMNS))

    def to_polars(self) -> Any:
        """Return a polars DataFrame. Raises `ConfigurationError` if polars is not installed."""
        try:
            import polars
        except ImportError:
            raise ConfigurationError("to_polars() needs polars: pip install polars") from None
        kinds: dict[type, Any] = {str: polars.String, int: polars.Int64}
        schema = {name: kinds[kind] for name, kind in self._columns().items()}
        return polars.DataFrame(list(self._records()), schema=schema)

    def close(self) -> None:
        """Close the file."""
        self._shelf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _replacing(self, path: str | os.PathLike[str]) -> Generator[TextIO]:
        with self._beside(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            yield file

    @contextmanager
    def _beside(self, path: str | os.PathLike[str]) -> Generator[Path]:
        """Give a file to write, which then takes its place in one step."""
        place = Path(path).absolute()
        if place.name in ("", "..") or place.is_dir():
            raise ConfigurationError(f"path: {os.fspath(path)!r} is not the name of a file")
        if self._shelf.path is not None and is_same_file(place, self._shelf.path):
            raise ConfigurationError(f"{place} is the store itself; name another file")
        new = place.with_name(f".{place.name}.{os.getpid()}.new")
        try:
            yield new
            new.replace(place)
        finally:
            with suppress(FileNotFoundError):
                new.unlink()

    def _result(self, kept: Kept) -> BulkResult[None, T]:
        return BulkResult(
            kept.key,
            kept.position,
            None,
            "stored",
            kept=kept,
            read=self._adapter.validate_json if self._adapter is not None else None,
            attempts=kept.attempts,
            usage=usage_from(kept),
        )

    def _columns(self) -> dict[str, type]:
        """Return the columns with their types; a table has one type for all its keys."""
        return {**COLUMNS, "key": int if self._shelf.has_numbers_alone() else str}

    def _records(self) -> Iterator[dict[str, Any]]:
        key = self._columns()["key"]
        for kept in self._shelf.all(self._run):
            record = {**_record(kept), "key": key(kept.key)}
            yield {
                name: encodable(value) if isinstance(value, str) else value
                for name, value in record.items()
            }


def _as_other_type(key: Key) -> Key | None:
    """Return a number as text, or text as the number that it is; None if it is not one."""
    if isinstance(key, int):
        return str(key)
    if not (key.isascii() and key.removeprefix("-").isdigit() and len(key) <= len(str(-LARGEST))):
        return None
    number = int(key)
    return plain_key(number) if str(number) == key else None


def _record(kept: Kept) -> dict[str, Any]:
    answer = message_from(kept.message, None) if kept.message is not None else None
    failed = fields_of(json.loads(kept.error)) if kept.error is not None else {}
    return {
        "key": kept.key,
        "position": kept.position,
        "text": None if answer is None else answer.text,
        "output": kept.output,
        "stop_reason": None if answer is None else answer.stop_reason,
        "error": failed.get("class"),
        "error_message": failed.get("text"),
        "model": kept.model,
        "input_tokens": kept.input_tokens,
        "output_tokens": kept.output_tokens,
        "cache_read_tokens": kept.cache_read_tokens,
        "cache_write_tokens": kept.cache_write_tokens,
        "attempts": kept.attempts,
        "request_id": kept.request_id,
        "finished": datetime.fromtimestamp(kept.finished, timezone.utc).isoformat(),
    }


def _batches(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    source = iter(records)
    while batch := list(islice(source, BATCH)):
        yield batch
