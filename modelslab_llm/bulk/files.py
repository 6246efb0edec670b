"""Know which files were written from a store, so that no other file is replaced. Writes none.

For programs that write results themselves, as `modelslab bulk` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["WrittenFiles", "files_of", "is_same_file"]


class WrittenFiles:
    """The files that were written from a store, as it records them; none if there is no store.

    Raises `StoreError` for a file that is something else.
    """

    def __init__(self, store: Path) -> None:
        self._store = store

    def __contains__(self, path: Path) -> bool:
        if not self._store.exists() or not self._store.stat().st_size:
            return False
        from ._ledger import Shelf  # SQLite, as in `_order`

        with Shelf(self._store) as shelf:
            return self._name(path) in shelf.files()

    def add(self, path: Path) -> None:
        """Record a file that is about to be written."""
        from ._ledger import Shelf

        with Shelf(self._store) as shelf:
            shelf.add_file(self._name(path))

    def _name(self, path: Path) -> bytes:
        """Return a path relative to the store, with which it can be moved."""
        place = _place(path)
        with suppress(ValueError):  # Windows: another drive
            place = os.path.relpath(place, os.path.dirname(_place(self._store)))
        return os.fsencode(place)


def files_of(store: Path) -> Iterator[Path]:
    """Yield the files that a store consists of while a run writes to it."""
    yield store
    yield store.with_name(f"{store.name}-lock")
    place = Path(_place(store))  # SQLite follows links
    for ending in ("-wal", "-shm", "-journal"):
        yield place.with_name(f"{place.name}{ending}")


def is_same_file(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, by links of either kind too, or would once made."""
    if _place(one) == _place(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return False


def _place(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
