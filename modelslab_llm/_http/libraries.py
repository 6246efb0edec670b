"""Distinguish httpx and httpx2, and share what they have in common. Never loads httpx2.

httpx2 continues httpx, with the same names. A caller may pass a client of either, or make httpx2
replace httpx (`httpx2.alias_httpx()`) before anything loads httpx.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .._forks import no_fork

CLIENTS = ("httpx", "httpx2")
"""The libraries whose clients are accepted."""

CORES = ("httpcore", "httpcore2")
"""Those below them; our own connections raise the errors of the first."""


def library_of(value: object) -> ModuleType:
    """Return the library a client, a request or an error is made of; httpx if none is known.

    A subclass of the caller's counts by what it is made from.
    """
    for kind in type(value).__mro__:
        if (name := kind.__module__.partition(".")[0]) in CLIENTS:
            return sys.modules[name]
    if "httpx" not in sys.modules:  # so that no signal during a call can leave the lock locked
        with no_fork():
            import httpx
    import httpx

    return httpx


def is_client(value: object, name: str) -> bool:
    """Tell whether this is a `Client` or an `AsyncClient` of one of the libraries."""
    loaded = (sys.modules.get(library) for library in CLIENTS)
    return any(isinstance(value, getattr(module, name, ())) for module in loaded)


_ERRORS = {
    **dict.fromkeys(
        CORES,
        ("TimeoutException", "NetworkError", "ProtocolError", "ProxyError", "UnsupportedProtocol"),
    ),
    **dict.fromkeys(CLIENTS, ("HTTPError", "StreamError", "InvalidURL")),
}


def errors() -> tuple[type[Exception], ...]:
    """Return what the libraries that are loaded raise, to be used as `except errors():`.

    What another thread is still loading has raised nothing yet.
    """
    loaded = ((sys.modules.get(library), names) for library, names in _ERRORS.items())
    return tuple(
        getattr(module, name) for module, names in loaded for name in names if hasattr(module, name)
    )


def is_called(error: BaseException, *names: str) -> bool:
    """Tell whether an error is one of these, in either library: `"ConnectError"`, say."""
    return any(
        kind.__name__ in names and kind.__module__.partition(".")[0] in (*CLIENTS, *CORES)
        for kind in type(error).__mro__
    )
