"""The private names of other libraries that this package relies on: here, and nowhere else.

Each says what is lost on the day it is gone. `tests/http/test_private.py` fails on that day.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from types import FunctionType
from typing import Any

import httpcore
import httpx

from .libraries import CLIENTS, CORES, library_of

POOL = "_pool"
"""Of `httpx.HTTPTransport` and its twin: what their `handle_request` hands a request on to. Our own
transports set it, so that who patches `handle_request` is asked and leads to our connections. Gone:
each request through a patched transport fails with an AttributeError."""

TRANSPORT = "_transport"
MOUNTS = "_mounts"
SENDING = (
    "send",
    "_send_handling_auth",
    "_send_handling_redirects",
    "_send_single_request",
    "_transport_for_url",
)
"""Of `httpx.Client` and its twin: the way of a request. We look whether it is still as the library
made it and we set it. Gone: for the first two every request goes through `send`, which is slower;
for the others, who patches what takes their place is not asked."""

BACKEND = "_network_backend"
"""Of `httpcore.ConnectionPool`: what opens its connections. In a caller's own client we put one in
its place that bounds every wait. Gone: there a deadline does not bound headers that drip in, nor a
host name's lookup, and closing the client does not wake a thread that waits for an answer."""

READ_TIMEOUT = "read_timeout"
START_TIMEOUT = "start_timeout"
"""Of what aiohttp reads a connection with: its limit of a read, and what sets the timer for that,
a new one for each piece that arrives. Once a head has arrived we limit the reads, with one timer.
Gone: a piece costs a timer more, and both limits hold."""


OURS = __name__.partition(".")[0]


def set_pool(transport: Any, pool: object) -> None:
    """Have a transport of httpx's hand its requests on to a pool of ours."""
    setattr(transport, POOL, pool)


def is_as_made(function: object) -> bool:
    """Tell whether a function of httpx or httpcore is the library's own, not a patch.

    A patch may say of itself what it likes, but what it is run with is its own module's. The guard
    of our testing kit, which only looks, does not count.
    """
    while type(function) is FunctionType:
        name: object = function.__globals__.get("__name__")
        library = name.partition(".")[0] if isinstance(name, str) else ""
        if library != OURS:
            return library in (*CLIENTS, *CORES)
        function = getattr(function, "__wrapped__", None)
    return False


def sends_by(http: Any, transport: object) -> bool:
    """Tell whether all that this client does is to send through this transport.

    It is not if the client or its class was patched, or has other transports.
    """
    own: dict[str, object] = http.__dict__
    if own.get(TRANSPORT) is not transport or own.get(MOUNTS) != {}:
        return False
    base = httpx.Client if isinstance(http, httpx.Client) else httpx.AsyncClient
    return own.keys().isdisjoint(SENDING) and _are_as_made(map(vars(base).get, SENDING))


def carries_as_made(transport: httpx.HTTPTransport | httpx.AsyncHTTPTransport) -> bool:
    """Tell whether nobody stands in for a transport of ours, or around it, or in httpcore's place.

    Whoever does has to see each request.
    """
    kind = type(transport)
    if issubclass(kind, httpx.HTTPTransport):
        name, way = _SYNC, (kind.handle_request, httpcore.ConnectionPool.handle_request)
        return name not in vars(transport) and _are_as_made(way)
    pool = httpcore.AsyncConnectionPool
    asynchronous = (kind.handle_async_request, pool.handle_async_request)
    return _ASYNC not in vars(transport) and _are_as_made(asynchronous)


_SYNC, _ASYNC = "handle_request", "handle_async_request"


def _are_as_made(functions: Iterable[object]) -> bool:
    way = tuple(functions)
    # By identity: a wrapper may well say that it equals what it wraps.
    if not any(len(seen) == len(way) and all(map(is_, way, seen)) for seen in _SEEN):
        if not all(is_as_made(function) for function in way if function is not None):
            return False
        _SEEN[:] = [way, *_SEEN[:15]]
    return True


_SEEN: list[tuple[object, ...]] = []
"""Ways that were last found to be as made: of sync and async, with our guard and without."""


def limit_no_reads(response: Any) -> None:
    """Have aiohttp limit the time between two pieces of a response no more."""
    connection: Any = response.connection  # None if all of it has arrived
    protocol = connection and connection.protocol
    if hasattr(protocol, READ_TIMEOUT) and hasattr(protocol, START_TIMEOUT):
        setattr(protocol, READ_TIMEOUT, None)
        getattr(protocol, START_TIMEOUT)()


def pools_of(http: Any) -> list[Any]:
    """Return the connection pools of httpcore's that a caller's own client has."""
    library = library_of(http)
    found: list[Any] = []
    mounted: dict[Any, object] = getattr(http, MOUNTS, None) or {}
    for transport in (getattr(http, TRANSPORT, None), *mounted.values()):
        pool = getattr(transport, POOL, None)
        if isinstance(transport, library.HTTPTransport) and hasattr(pool, BACKEND):
            found.append(pool)
    return found
