"""Lock a file for one run, until it is released or the process ends in any way."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FileLock:
    """A lock held by keeping a file open. Raises `BlockingIOError` if it is taken.

    The system releases it when the process ends, so a killed process leaves nothing to clean up.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _lock(self._file)
                if self._is_current():
                    return
            except BaseException:
                os.close(self._file)
                raise
            os.close(self._file)  # another run removed it between our open and our lock

    def release(self) -> None:
        """Release the lock and remove the file."""
        with suppress(OSError):  # Windows does not remove an open file; then it stays and is reused
            self._path.unlink()
        os.close(self._file)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False


def _lock(file: int) -> None:
    if sys.platform == "win32":
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
