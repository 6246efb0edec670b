"""Store results in SQLite, so that a killed run loses none. Decides nothing, asks nothing.

A batch of results is one transaction in WAL mode: once `write` returns, killing the process loses
none of it. (`synchronous=NORMAL`: a power failure may lose the last seconds.)
"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from typing_extensions import Self

from .._version import __version__
from ..errors import StoreError
from ._lock import FileLock
from ._progress import Counts
from ._result import Kept
from ._rows import Key

SCHEMA = 1
APPLICATION = 0x4D4C6C6D  # "MLlm": marks the file as ours
PATIENCE = 30.0  # seconds to wait for a reader that blocks the file, such as a backup
MARKS = 1000  # rows per transaction that are marked as seen again

ROW = """(
  id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, digest BLOB NOT NULL,
  position INTEGER NOT NULL, run INTEGER NOT NULL,
  message TEXT, output TEXT, error TEXT, attempts INTEGER NOT NULL, model TEXT NOT NULL,
  request_id TEXT, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, finished REAL NOT NULL
)"""
TABLES = f"""
CREATE TABLE results {ROW};
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL,
  process INTEGER NOT NULL, host TEXT NOT NULL, version TEXT NOT NULL
);
"""
BESIDE = {"failures": ROW, "files": "(path BLOB PRIMARY KEY)"}
"""Tables that stores had not from the first. `failures`: of rows whose request changed and then
failed; their answer to the earlier request stays in `results`. `files`: what was written from the
store, relative to its folder."""
COLUMNS = ", ".join(Kept._fields)
VALUES = f"({COLUMNS}) VALUES ({', '.join('?' * len(Kept._fields))})"
INSERT = f"INSERT OR REPLACE INTO results{VALUES}"
INSERT_BESIDE = f"INSERT OR REPLACE INTO failures{VALUES}"
FORGET = "DELETE FROM failures WHERE key = ?"
HAS_ANSWER = "SELECT 1 FROM results WHERE key = ? AND error IS NULL"
FIND = f"SELECT {COLUMNS} FROM results WHERE key = ?"
FIND_BESIDE = f"SELECT {COLUMNS} FROM failures WHERE key = ?"
FIND_EQUAL = f"SELECT {COLUMNS} FROM results WHERE digest = ? AND error IS NULL LIMIT 1"
OF_A_RUN = """(
  SELECT * FROM results WHERE ?1 IS NULL OR run = ?1
  UNION ALL SELECT * FROM failures WHERE run = ?1
)"""
COUNT = f"SELECT count(*), count(error) FROM {OF_A_RUN}"
ALL = f"SELECT {COLUMNS} FROM {OF_A_RUN} ORDER BY position, id"
NOT_A_NUMBER = "SELECT 1 FROM results WHERE typeof(key) <> 'integer' LIMIT 1"
INDEX = "CREATE INDEX IF NOT EXISTS by_digest ON results(digest)"
BEGAN = "INSERT INTO runs(started, process, host, version) VALUES (?, ?, ?, ?)"
ENDED = "UPDATE runs SET ended = ? WHERE id = ?"
LAST = "SELECT process, host FROM runs ORDER BY id DESC LIMIT 1"
MARK = "UPDATE results SET run = ?, position = ? WHERE key = ? AND digest = ?"
MARK_BESIDE = "UPDATE failures SET run = ?, position = ? WHERE key = ? AND digest = ?"


class Shelf:
    """A store opened for reading, even while a run writes to it. Thread-safe.

    Raises `StoreError` if the file does not exist or is something else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._open(Path(path).absolute(), "rw")

    def _open(self, path: Path | None, mode: str) -> None:
        self.path = path
        self._lock = Lock()
        # A URI does not create a missing file, and gives no name a special meaning.
        name = "" if path is None else f"{path.as_uri()}?mode={mode}"
        with _blaming(path):
            self._db = sqlite3.connect(
                name,
                timeout=PATIENCE,
                isolation_level=None,  # transactions begin only where the code says so
                check_same_thread=False,
                uri=path is not None,
            )
        try:
            with _blaming(path):
                self._check(create=mode == "rwc")
        except BaseException:
            self._db.close()
            raise

    def counts(self, run: int | None = None) -> Counts:
        """Return the number of stored rows, of one run or in total."""
        with self._using() as db:
            rows, failed = db.execute(COUNT, (run,)).fetchone()
        return Counts(rows - failed, failed)

    def find(self, key: Key, digest: bytes | None = None, run: int | None = None) -> Kept | None:
        """Return what is stored of a row.

        Where it has an answer and a later failure, that is the one of `run`, else the one that has
        the digest, else the answer.
        """
        with self._lock, _blaming(self.path):
            found = _first(self._db.execute(FIND, (key,)))
            if found is None or found.error is not None:
                return found
            failure = _first(self._db.execute(FIND_BESIDE, (key,)))
        if failure is None or found.run == run:
            return found
        is_asked_for = failure.run == run or digest == failure.digest != found.digest
        return failure if is_asked_for else found

    def find_equal(self, digest: bytes) -> Kept | None:
        """Return any row's answer to a request."""
        with self._lock, _blaming(self.path):
            return _first(self._db.execute(FIND_EQUAL, (digest,)))

    def last_run(self) -> int:
        """Return the number of the last run."""
        with self._using() as db:
            return int(db.execute("SELECT coalesce(max(id), 0) FROM runs").fetchone()[0])

    def all(self, run: int | None = None) -> Iterator[Kept]:
        """Yield the rows in input order, of one run or all."""
        with self._using() as db:
            found = db.execute(ALL, (run,))
        while batch := self._fetch(found):
            yield from map(Kept._make, batch)

    def files(self) -> set[bytes]:
        """Return the files that were written from the store."""
        with self._using() as db:
            return {path for (path,) in db.execute("SELECT path FROM files")}

    def add_file(self, path: bytes) -> None:
        """Note a file that is written from the store."""
        with self._using() as db:
            db.execute("INSERT OR IGNORE INTO files(path) VALUES (?)", (path,))

    def has_numbers_alone(self) -> bool:
        """Return whether all keys are numbers."""
        with self._using() as db:
            return db.execute(NOT_A_NUMBER).fetchone() is None

    def who(self) -> str:
        """Return the process that used the store last."""
        with self._using() as db:
            for process, host in db.execute(LAST):
                return f" (process {process} on {host})"
        return ""

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fetch(self, found: sqlite3.Cursor) -> list[tuple[object, ...]]:
        with self._using():
            return found.fetchmany(100)

    @contextmanager
    def _using(self) -> Generator[sqlite3.Connection]:
        with self._lock, _blaming(self.path):
            yield self._db

    def _check(self, *, create: bool) -> None:
        """Check that this version can use the store."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        is_empty = not self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if is_empty and not application and create:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(
                f"BEGIN IMMEDIATE; {TABLES}"
                f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
        elif application != APPLICATION:
            raise StoreError(f"store {self.path}: is not a store of bulk runs; name another file")
        elif schema != SCHEMA:
            raise StoreError(
                f"store {self.path}: has schema {schema}, and modelslab_llm {__version__} reads "
                f"{SCHEMA}; use the version that wrote it, or another file"
            )
        known = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        kind = "TABLE IF NOT EXISTS" if create else "TEMP TABLE"  # a reader changes nothing
        for name in BESIDE.keys() - known:
            self._db.execute(f"CREATE {kind} {name} {BESIDE[name]}")


class Ledger(Shelf):
    """A store that one run writes to, exclusively.

    With `path=None` it lasts as long as the run, on disk if it grows large. Raises `StoreError` for
    a file that is in use, or is something else.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._marks = 0
        self._file: FileLock | None = None
        place = None if path is None else Path(path).absolute()
        if place is not None:
            self._file = _held(place)
        try:
            self._open(place, "rwc")
            with self._using() as db:
                db.execute("PRAGMA synchronous = NORMAL")
                who = (time.time(), os.getpid(), platform.node(), __version__)
                self.run: int = db.execute(BEGAN, who).lastrowid or 0
        except BaseException:
            self._release()
            raise

    def index_digests(self) -> None:
        """Prepare for `find_equal`."""
        with self._using() as db:
            db.execute(INDEX)

    def mark(self, stored: Kept, position: int) -> None:
        """Note that this run has a stored row too, and where."""
        which = (self.run, position, stored.key, stored.digest)
        with self._lock, _blaming(self.path):
            self._begin()
            if not self._db.execute(MARK, which).rowcount:
                self._db.execute(MARK_BESIDE, which)
            self._marks += 1
            if self._marks >= MARKS:
                self._commit()

    def write(self, batch: Sequence[Kept]) -> None:
        """Store rows; all of them are safe when this returns.

        An answer is replaced by another answer only: a failure is put beside it.
        """
        answers = [kept for kept in batch if kept.error is None]
        with self._using() as db:
            try:
                self._begin()
                db.executemany(INSERT, answers)
                db.executemany(FORGET, [(kept.key,) for kept in answers])
                for kept in batch:
                    if kept.error is not None:
                        answered = db.execute(HAS_ANSWER, (kept.key,)).fetchone()
                        db.execute(INSERT_BESIDE if answered else INSERT, kept)
                self._commit()
            except sqlite3.Error:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Note the end of the run and close the file."""
        try:
            with self._using() as db:
                self._begin()
                db.execute(ENDED, (time.time(), self.run))
                self._commit()
        finally:
            self._db.close()
            self._release()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        self._db.execute("COMMIT")
        self._marks = 0

    def _release(self) -> None:
        if self._file is not None:
            self._file.release()
            self._file = None


class _blaming:
    """Turn SQLite errors into a `StoreError` that names the file."""

    __slots__ = ("_path",)

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"store {self._path or '(temporary)'}: {error}") from error


def _held(path: Path) -> FileLock:
    try:
        return FileLock(path.with_name(f"{path.name}-lock"))
    except BlockingIOError:
        raise StoreError(
            f"store {path}: is in use by another run{_who(path)}; wait for it to end, "
            "or use another file for this run"
        ) from None
    except OSError as error:
        raise StoreError(f"store {path}: {error}") from error


def _who(path: Path) -> str:
    with suppress(StoreError), Shelf(path) as shelf:
        return shelf.who()
    return ""


def _first(found: sqlite3.Cursor) -> Kept | None:
    row = found.fetchone()
    return None if row is None else Kept._make(row)
