"""Find, keep and ask for keys: the system's key store, a private file, a hidden prompt.

A key is never an argument of the command, which `ps` would show, and never part of a message.
Decides nothing about which key belongs to which endpoint: that is in `_target`.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

from ._profiles import KeyPlace, folder, plain, read_toml, write_toml
from ._status import Fault
from ._terminal import note

SERVICE = "modelslab"
"""The name under which the key store has the keys."""

MAX_BYTES = 64 * 1024
"""What is read of a key file: a file of another kind must not fill the memory."""


def checked(key: str, source: str) -> str:
    """Return a key without the white space around it, or refuse what no header can hold.

    >>> checked(" abc\\n", "the file")
    'abc'
    """
    key = key.strip()
    if not key:
        raise Fault(f"{source}: contains no key")
    if not re.fullmatch(r"[!-~]+", key):
        raise Fault(
            f"{source}: the key contains a space, a line break or a non-ASCII character; "
            "copy only the key"
        )
    return key


def from_file(path: str) -> str:
    """Return the key in a file; `-` is standard input. Raises `Fault`."""
    try:
        if path == "-":
            if sys.stdin.isatty():
                return prompted("API key: ")
            data, source = sys.stdin.buffer.read(MAX_BYTES), "standard input"
        else:
            with open(path, "rb") as file:
                data, source = file.read(MAX_BYTES), path
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return checked(data.decode("utf-8-sig"), source)
    except UnicodeDecodeError:
        raise Fault(f"{source}: contains no key, because it is not text") from None


def can_prompt() -> bool:
    """Tell whether there is a terminal to prompt at, even if standard input is a pipe."""
    if not sys.stderr.isatty():
        return False
    if sys.stdin.isatty() or os.name == "nt":  # Windows: getpass reads the console itself
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def prompted(text: str) -> str:
    """Prompt for a key without showing it. Raises `Fault` if none is typed."""
    from getpass import getpass

    return checked(getpass(text), "the prompt")


# Kept keys


def keep(name: str, key: str) -> KeyPlace:
    """Keep the key of a profile, in the key store if there is one, and return where it is."""
    if _keep_in_store(name, key):
        return "keyring"
    document = read_toml(key_file())
    document[name] = key
    write_toml(key_file(), document, private=True)
    return "file"


def kept(name: str, place: KeyPlace) -> str:
    """Return the key that was kept there for a profile. Raises `Fault` where it is gone."""
    found = _in_store(name) if place == "keyring" else _in_file(name)
    if not found:
        where = "the key store" if place == "keyring" else key_file()
        raise Fault(
            f"the key of the profile {name!r} is no longer in {where}; "
            f"add it again: modelslab profile add {name} --replace"
        )
    return checked(found, f"the profile {name!r}")


def forget(name: str, place: KeyPlace) -> None:
    """Remove the key of a profile from where it was kept, if it is there."""
    if place == "keyring":
        keyring = _keyring()
        if keyring is None:
            raise Fault(_not_installed(name))
        if _in_store(name):
            keyring.delete_password(SERVICE, name)
        return
    document = read_toml(key_file())
    if name in document:
        del document[name]
        write_toml(key_file(), document, private=True)


def key_file() -> Path:
    """Return the file with the keys that no key store has."""
    return folder() / "keys.toml"


def _keyring() -> Any:
    """Return the library `keyring` if it is installed. It is not a part of the extra: it brings a
    compiler's worth of packages, and servers and containers have no key store.
    """
    try:
        import keyring
    except ImportError:
        return None
    return keyring


def _keep_in_store(name: str, key: str) -> bool:
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(SERVICE, name, key)
        taken: bool = keyring.get_password(SERVICE, name) == key  # the backend `null` forgets
        reason = "it does not store what it is given"
    except Exception as error:  # noqa: BLE001 - a backend raises what its system does
        taken, reason = False, type(error).__name__
    if not taken:
        note(f"the key store cannot be used ({reason}); the key goes to {key_file()}")
    return taken


def _in_store(name: str) -> str | None:
    keyring = _keyring()
    if keyring is None:
        raise Fault(_not_installed(name))
    try:
        found: str | None = keyring.get_password(SERVICE, name)
    except Exception as error:
        raise Fault(
            f"the key store does not return the key of the profile {name!r} "
            f"({type(error).__name__}); unlock it, or use --api-key-file"
        ) from error
    return found


def _not_installed(name: str) -> str:
    return (
        f"the key of the profile {name!r} is in the system's key store, which needs the package "
        "keyring: pip install keyring"
    )


def _in_file(name: str) -> str | None:
    path = key_file()
    found = plain(read_toml(path)).get(name)
    if os.name == "posix" and path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        note(f"{path} can be read by others; run: chmod 600 {path}")
    return str(found) if found else None
