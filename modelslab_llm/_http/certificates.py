"""Load the certificates to trust and to show, or name the setting that is wrong. Sends nothing."""

from __future__ import annotations

import os
import re
import ssl
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._forks import no_fork
from ..errors import ConfigurationError

FILE, FOLDER, KEY_LOG = "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"

_BY_HASH = r"[0-9a-f]{8}\.\d+"
"""The names under which OpenSSL looks for a certificate in a directory."""


def context_of(verify: Any, cert: Any, *, trust_env: bool) -> ssl.SSLContext:
    """Return what `httpx.create_ssl_context` does for these of its arguments.

    Raises `ConfigurationError`, which names the argument or the variable that is wrong.
    """
    if isinstance(verify, ssl.SSLContext) and cert is None:
        return verify
    if verify is True and cert is None:
        names = (FILE, FOLDER, KEY_LOG)
        return _shared(trust_env, tuple(os.environ.get(name) for name in names))
    return _loaded(verify, cert, trust_env)


@lru_cache(maxsize=8)
def _shared(trust_env: bool, places: tuple[str | None, ...]) -> ssl.SSLContext:
    """Load the certificates once per process, which costs 25 ms. It varies by the arguments."""
    with no_fork():  # OpenSSL has its own locks
        return _loaded(True, None, trust_env)


def _loaded(verify: Any, cert: Any, trust_env: bool) -> ssl.SSLContext:
    if isinstance(verify, Path):
        verify = str(verify)
    if not isinstance(verify, (bool, str, ssl.SSLContext)):
        kind: str = type(verify).__name__
        raise ConfigurationError(
            f"verify must be True, False, a path or an ssl.SSLContext, not {kind}"
        )
    named, place = _trusted(verify, trust_env)
    if named == FOLDER or (named == "verify" and os.path.isdir(place)):
        _check_folders(named, place)
    try:
        if verify is True and cert is None:
            return _default(named, place)
        with no_fork():
            import httpx

        return httpx.create_ssl_context(verify, cert, trust_env)
    except (OSError, ValueError, TypeError) as error:  # an SSLError is an OSError
        raise _culprit(error, named, place, cert) from None


def _default(named: str, place: str) -> ssl.SSLContext:
    """Return what httpx makes by default, which need not be loaded for it."""
    if named == FOLDER:
        return ssl.create_default_context(capath=place)
    import certifi

    return ssl.create_default_context(cafile=place or certifi.where())


def _trusted(verify: bool | str | ssl.SSLContext, trust_env: bool) -> tuple[str, str]:
    """Return the setting that says which certificates to trust, and what it says."""
    if isinstance(verify, str):
        return "verify", verify
    if verify is True and trust_env:
        for name in (FILE, FOLDER):
            if place := os.environ.get(name):
                return name, place
    return "", ""


def _check_folders(named: str, places: str) -> None:
    """Raise if no directory has a certificate: OpenSSL itself takes one that does not exist."""
    for folder in filter(None, places.split(os.pathsep)):
        with suppress(OSError):
            if any(re.fullmatch(_BY_HASH, name) for name in os.listdir(folder)):
                return
    raise ConfigurationError(
        f"{named}: {places!r} has no certificates (in files named by their hash; run openssl "
        f"rehash)"
    )


def _culprit(error: Exception, named: str, place: str, cert: Any) -> ConfigurationError:
    """Return the error that names what could not be loaded: each is tried by itself."""
    log = os.environ.get(KEY_LOG)
    if log and (problem := _problem_of_appending(log)):
        return ConfigurationError(f"{KEY_LOG}: cannot write to {log!r}: {problem}")
    if place:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=place)
        except ssl.SSLError:
            return ConfigurationError(f"{named}: {place!r} contains no certificate in PEM format")
        except OSError as unread:
            return ConfigurationError(f"{named}: cannot read {place!r}: {unread.strerror}")
    if cert is not None:
        return ConfigurationError(f"cert: cannot load the client certificate: {_words(error)}")
    return ConfigurationError(f"cannot load the trusted certificates: {_words(error)}")


def _problem_of_appending(place: str) -> str | None:
    try:
        with Path(place).open("a", encoding="utf-8"):
            return None
    except OSError as error:
        return _words(error)


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
