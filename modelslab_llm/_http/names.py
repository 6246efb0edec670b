"""Look up the addresses of a host with a timeout.

The system's resolver cannot be interrupted, so it runs in a thread, which is abandoned if it takes
too long; concurrent lookups of the same host share it.
"""

from __future__ import annotations

import _thread
import codecs
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias

from .._forks import no_fork

Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""The family, and what `socket.connect` takes in it."""


class Lookup:
    """One question to the resolver."""

    def __init__(self, host: str, port: int) -> None:
        self.found: list[Address] | OSError | UnicodeError | None = None
        """The addresses, or why there are none; None while the resolver works."""
        self._host, self._port = host, port
        self._bells: deque[Callable[[], object]] = deque()

    def ring(self, bell: Callable[[], object]) -> None:
        """Have `bell` called once, when something is found or because it was already.

        It is called in another thread, and so has to be something that may be.
        """
        self._bells.append(bell)
        if self.found is not None:
            self._tell()

    def run(self) -> None:
        """Call the resolver, and wake all waiting lookups."""
        try:
            self.found = _resolved(self._host, self._port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
            self.found = error.with_traceback(None)
        finally:
            self._tell()

    def run_shared(self) -> None:
        """Do the same in a separate thread, for all concurrent lookups.

        It is there to be shared from its first step on and not before, and no signal comes to such
        a thread: nobody is to wait for what was interrupted before it ran, or as it ended.
        """
        place = self._host, self._port
        _asked.setdefault(place, self)
        try:
            self.run()
        finally:
            if _asked.get(place) is self:
                _asked.pop(place, None)

    def _tell(self) -> None:
        while self._bells:
            # IndexError: another thread told the last of them; RuntimeError: the event loop of
            # the waiting call has ended.
            with suppress(IndexError, RuntimeError):
                self._bells.popleft()()

    def addresses(self) -> list[Address]:
        """Return what was found. Raises what the resolver raised."""
        if isinstance(self.found, Exception):
            raise self.found
        return self.found or []


_asked: dict[tuple[str, int], Lookup] = {}


def look_up(host: str, port: int) -> Lookup:
    """Ask for a host's addresses; those of an address are known at once."""
    lookup = _asked.get((host, port))
    if lookup is not None:
        return lookup
    lookup = Lookup(host, port)
    if is_address(host):
        lookup.run()
        return lookup
    try:
        _thread.start_new_thread(lookup.run_shared, ())
    except RuntimeError:  # no more threads: then it takes as long as it takes
        lookup.run()
    return lookup


def is_address(host: str) -> bool:
    """Tell whether this is an address, not a name.

    >>> [is_address(host) for host in ("127.0.0.1", "::1", "localhost")]
    [True, True, False]
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return True
    return False


@cache
def load_idna() -> None:
    """Load what Python's resolver would, and with no fork in the middle."""
    with no_fork():
        codecs.lookup("idna")


def _resolved(host: str, port: int) -> list[Address]:
    """Return each address once, those of the two families in turn (RFC 8305, section 4)."""
    load_idna()
    found: dict[Address, None] = {}
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        found.setdefault((family, address))
    first = next(iter(found), None)
    if first is None:
        return []
    one = deque(address for address in found if address[0] == first[0])
    other = deque(address for address in found if address[0] != first[0])
    turns: list[Address] = []
    while one or other:
        turns += [queue.popleft() for queue in (one, other) if queue]
    return turns


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_asked.clear)  # the threads are the parent's
