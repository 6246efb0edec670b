"""`modelslab profile`: add, list, choose and remove profiles. No key is ever printed."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

from . import _keys
from ._profiles import Profile, config_file, delete, load, make_default, save
from ._status import Fault, Status
from ._target import endpoint_of
from ._terminal import is_screen, note, write, write_json


def add(
    *,
    name: str,
    v7: bool,
    gguf: str | None,
    base_url: str | None,
    llama_server: str | None,
    auth: str | None,
    model: str | None,
    api_key_file: str | None,
    no_key: bool,
    **options: bool,
) -> Status:
    """Add a profile and keep its key."""
    known = load()
    _check_name(name)
    if [v7, *(name is not None for name in (gguf, base_url, llama_server))].count(True) > 1:
        raise Fault("--v7, --gguf, --base-url, --llama-server each name a server; pass only one")
    old = known.by_name.get(name)
    if old and not options["replace"]:
        raise Fault(f"the profile {name!r} exists; --replace overwrites it")
    endpoint = endpoint_of(gguf, base_url, llama_server)  # says what is wrong with it
    profile = Profile(name, gguf, base_url, llama_server, auth, model)
    if endpoint.auth is None and auth is None:  # as of a llama-server
        no_key = no_key or api_key_file is None
        profile = replace(profile, auth=None if no_key else "bearer")
    needs_none = auth == "none" or no_key
    key = None if needs_none else _key(endpoint.base_url, api_key_file)
    if key is not None:
        profile = replace(profile, key=_keys.keep(name, key))
    if old and old.key and old.key != profile.key:  # else it was overwritten
        _keys.forget(name, old.key)
    is_first = not known.by_name
    save(profile, default=is_first)
    place = {"keyring": "the key store", "file": str(_keys.key_file())}
    key_is = f"its key is in {place[profile.key]}" if profile.key else "it has no key"
    default = ", and it is the default" if is_first else ""
    note(f"{name} is {endpoint.base_url}; {key_is}{default}")
    return Status.OK


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise Fault(f"{name!r} cannot be a name: use letters, digits and . _ -")


def _key(base_url: str, api_key_file: str | None) -> str:
    if api_key_file is not None:
        return _keys.from_file(api_key_file)
    if not _keys.can_prompt():
        raise Fault("there is no terminal to prompt for the key; pass --api-key-file, or --no-key")
    return _keys.prompted(f"API key for {base_url}: ")


def list_profiles(as_json: bool) -> Status:
    """Print the profiles, the default first marked."""
    known = load()
    rows = [
        {"name": profile.name, "default": profile.name == known.default, **profile.fields()}
        for profile in known.by_name.values()
    ]
    if as_json:
        write_json(rows)
        return Status.OK
    table = [
        [
            "*" if profile.name == known.default else "",
            profile.name,
            endpoint_of(profile.gguf, profile.base_url, profile.llama_server).base_url,
            profile.model or "",
            f"key: {profile.key or 'none'}",
        ]
        for profile in known.by_name.values()
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        write(("  ".join(cells).rstrip() if is_screen(sys.stdout) else "\t".join(row)) + "\n")
    if not rows:
        note(f"there are no profiles in {config_file()}; add one: modelslab profile add NAME")
    return Status.OK


def use(name: str) -> Status:
    """Make a profile the default."""
    make_default(load().named(name).name)
    return Status.OK


def remove(name: str) -> Status:
    """Remove a profile and its key."""
    known = load()
    profile = known.named(name)
    if profile.key:
        _keys.forget(name, profile.key)
    delete(name)
    if name == known.default and len(known.by_name) > 1:
        note("it was the default; choose another: modelslab profile use NAME")
    return Status.OK
