"""Do in advance what a process does once: for servers that fork their workers."""

from __future__ import annotations

import sys

from .._forks import no_fork
from .._hints import did_you_mean
from .._http.names import load_idna
from .._http.network import Settings, net_for
from .._protocol.sse import known_events
from ..types._base import ServerValue
from . import client as client  # and everything that it depends on
from . import features as features


def warm_up(*, certificates: bool = True) -> None:
    """Load and build now what the first calls would: modules, schemas, certificates.

    Call it in the process that forks, before it does, as gunicorn with `preload_app`. Its children
    then share the memory, and their first calls take no longer than the rest. It opens no
    connection and starts no thread; once it was called, it returns at once. Thread-safe.

    Args:
        certificates: whether to load the certificates to trust for `https://`; default True.

    Raises `ConfigurationError` for certificates of the environment that cannot be loaded.
    """
    with no_fork():
        for library in ("asyncio", "trio"):
            if library in sys.modules or library == "asyncio":
                net_for(library)
        load_idna()
        known_events()
        did_you_mean("", ())
        for model in _all_of(ServerValue):
            if not model.__pydantic_complete__:
                model.model_rebuild()
        if certificates:
            Settings().context()


def _all_of(model: type[ServerValue]) -> list[type[ServerValue]]:
    return [model, *(below for each in model.__subclasses__() for below in _all_of(each))]
