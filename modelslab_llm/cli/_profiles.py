"""Read and write the profiles: config.toml, in the folder for settings. Holds no key.

    default = "work"

    [profiles.work]
    gguf = "dep_123"              # or base_url = "...", or neither: the shared ModelsLab API
    key = "keyring"               # where its key is kept, or no such line

What a person wrote there, comments included, stays when a command changes the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._json import is_object
from ._status import Fault

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

KeyPlace = Literal["keyring", "file"]


@dataclass(frozen=True)
class Profile:
    """One profile, as the file has it; a field that is None is not there."""

    name: str
    gguf: str | None = None
    base_url: str | None = None
    llama_server: str | None = None
    auth: str | None = None
    model: str | None = None
    key: KeyPlace | None = None

    def fields(self) -> dict[str, str]:
        """Return the values in the file."""
        return {field: value for field, value in vars(self).items() if value and field != "name"}


@dataclass(frozen=True)
class Profiles:
    """All profiles by name, and which is the default."""

    by_name: Mapping[str, Profile]
    default: str | None

    def named(self, name: str) -> Profile:
        """Return the profile of a name. Raises `Fault` with the names there are."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            cure = f"there are: {known}" if known else f"add it: modelslab profile add {name}"
            raise Fault(f"there is no profile {name!r}; {cure}")
        return self.by_name[name]


def folder(env: Mapping[str, str] = os.environ, system: str = os.name) -> Path:
    r"""Return the folder for settings: by XDG_CONFIG_HOME, or on Windows by APPDATA.

    >>> folder({"XDG_CONFIG_HOME": "/home/ada/.settings"}, "posix").as_posix()
    '/home/ada/.settings/modelslab'
    >>> folder({"XDG_CONFIG_HOME": "here", "HOME": "/home/ada"}, "posix").as_posix()
    '/home/ada/.config/modelslab'
    >>> folder({"APPDATA": "C:/Users/Ada/AppData/Roaming"}, "nt").as_posix()
    'C:/Users/Ada/AppData/Roaming/modelslab'
    """
    if system == "nt":
        base = env.get("APPDATA") or str(_home(env) / "AppData" / "Roaming")
        return Path(base) / "modelslab"
    base = env.get("XDG_CONFIG_HOME", "")
    # The specification has a relative path ignored: it would mean another folder each time.
    return (Path(base) if base.startswith("/") else _home(env) / ".config") / "modelslab"


def _home(env: Mapping[str, str]) -> Path:
    try:
        return Path(env["HOME"]) if env.get("HOME") else Path.home()
    except RuntimeError:
        raise Fault(
            "there is no home folder for the settings: set HOME or XDG_CONFIG_HOME"
        ) from None


def config_file() -> Path:
    """Return where the profiles are."""
    return folder() / "config.toml"


def load() -> Profiles:
    """Return all profiles; empty without a file. Raises `Fault` for an invalid file."""
    path = config_file()
    document = plain(read_toml(path))
    tables: object = document.get("profiles", {})
    if document.keys() - {"default", "profiles"} or not is_object(tables):
        raise Fault(f"{path}: only `default` and tables `[profiles.NAME]` are allowed; correct it")
    found = {name: _profile(path, name, table) for name, table in tables.items()}
    default: object = document.get("default")
    if default is None:
        return Profiles(found, None)
    if not isinstance(default, str) or default not in found:
        raise Fault(f"{path}: the default profile {default!r} does not exist; correct it")
    return Profiles(found, default)


def _profile(path: Path, name: str, table: object) -> Profile:
    where = f"{path}: [profiles.{name}]"
    known = Profile.__dataclass_fields__.keys() - {"name"}
    if not is_object(table):
        raise Fault(f"{where}: is not a table; correct it")
    text: dict[str, str] = {}
    for field, value in table.items():
        if field not in known:
            raise Fault(f"{where}: {field!r} is unknown; known are {', '.join(sorted(known))}")
        if not isinstance(value, str) or (field == "key" and value not in ("keyring", "file")):
            # Its value is not shown: it may be a key.
            wanted = "'keyring' or 'file'" if field == "key" else "a string"
            raise Fault(f"{where}: {field} must be {wanted}; correct it")
        text[field] = value
    if len(text.keys() & {"gguf", "base_url", "llama_server"}) > 1:
        raise Fault(f"{where}: gguf, base_url, llama_server each name a server; keep one of them")
    place = text.pop("key", None)
    key: KeyPlace | None = None if place is None else "keyring" if place == "keyring" else "file"
    return Profile(name, key=key, **text)


def names_for_completion() -> list[str]:
    """Return the names there are; none, and no error, where the file cannot be read."""
    try:
        return sorted(load().by_name)
    except (Fault, ModuleNotFoundError):
        return []


def save(profile: Profile, *, default: bool = False) -> None:
    """Write a profile, and make it the default if asked."""
    import tomlkit

    document = read_toml(config_file())
    tables: Any = document.setdefault("profiles", tomlkit.table(is_super_table=True))
    table: Any = tables.setdefault(profile.name, tomlkit.table())
    for field in table.keys() - profile.fields().keys():
        del table[field]
    table.update(profile.fields())
    if default:
        document["default"] = profile.name
    write_toml(config_file(), document)


def make_default(name: str) -> None:
    """Make a profile the default."""
    document = read_toml(config_file())
    document["default"] = name
    write_toml(config_file(), document)


def delete(name: str) -> None:
    """Remove a profile; if it was the default there is none then."""
    document = read_toml(config_file())
    tables: Any = document["profiles"]
    del tables[name]
    if plain(document).get("default") == name:
        del document["default"]
    write_toml(config_file(), document)


# Files


def plain(document: TOMLDocument) -> dict[str, object]:
    """Return the values of a document, without its comments and layout."""
    return document.unwrap()


def read_toml(path: Path) -> TOMLDocument:
    """Return the content of a TOML file; an empty document if there is none."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return tomlkit.document()
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise Fault(f"{path}: is not UTF-8 text; correct it, or move it away") from None
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise Fault(f"{path}: is not TOML: {error}; correct it, or move it away") from None


def write_toml(path: Path, document: TOMLDocument, *, private: bool = False) -> None:
    """Write a TOML file completely or not at all; only its owner can read a private one.

    A link, as people have who keep their settings elsewhere, stays a link. Raises `Fault`.
    """
    import tomlkit

    try:
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = 0o600 if private else target.stat().st_mode & 0o777 if target.exists() else 0o666
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(tomlkit.dumps(document))
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise Fault(f"{path}: cannot be written: {error.strerror}") from error
