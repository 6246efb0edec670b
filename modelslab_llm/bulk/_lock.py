"""Hold a file that only one run may hold, until it lets go or its process ends, however that is."""

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
    """A lock that a process keeps by having a file open. Raises `BlockingIOError` if it is taken.

    The system takes it away when the process ends, so a killed one leaves nothing to clean up.
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
            os.close(self._file)  # another run removed it between our opening and locking it

    def release(self) -> None:
        """Let go, and remove the file."""
        with suppress(OSError):  # Windows removes no open file; then it stays, and is used again
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
