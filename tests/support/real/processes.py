"""Find the processes that a test has started, however they came to be, and where they listen.

They are known by the home that `parts.clean` gave them, which is of one test alone. Linux only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LISTENS = "0A"
"""The state of a socket in /proc/net/tcp."""
LOOPBACK = {
    "0100007F",  # 127.0.0.1, and the same as IPv6 has it, and ::1
    "0000000000000000FFFF00000100007F",
    "00000000000000000000000001000000",
}


def of_home(home: str) -> list[int]:
    """Return the processes that have this home."""
    marker = b"HOME=" + os.fsencode(home)
    found: list[int] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is of somebody else
            if marker in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def end(processes: list[int]) -> None:
    """Kill processes, some of which may have ended."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def open_to_others(processes: list[int]) -> list[str]:
    """Return the addresses, as /proc/net/tcp writes them, at which others than this machine reach
    one of these processes."""
    sockets = {socket for process in processes for socket in _sockets(process)}
    return [
        address
        for table in ("tcp", "tcp6")
        for address, state, socket in _connections(Path("/proc/net", table))
        if state == LISTENS and socket in sockets and address.split(":")[0] not in LOOPBACK
    ]


def _sockets(process: int) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                kind, _, number = os.readlink(descriptor).partition(":")
                if kind == "socket":
                    yield number.strip("[]")


def _connections(table: Path) -> Iterator[tuple[str, str, str]]:
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        yield fields[1], fields[3], fields[9]
