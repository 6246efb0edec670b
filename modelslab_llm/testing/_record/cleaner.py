"""Decide how bodies are written in a recording, and what is taken out of them first. Pure.

No credential that was sent may be in what a `Cleaner` returns, in whatever way a server repeats it.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from ..._protocol.headers import is_credential
from ..._protocol.secret import HIDDEN, Secrets, hidden
from ...types._json import is_list, is_object

__all__ = ["Cleaner", "compact", "content_of", "data_of", "frames_in"]

# Bodies


def content_of(data: bytes) -> dict[str, Any]:
    """Return a body as a file holds it: as JSON, as text, or as neither; nothing if it is empty.

    >>> content_of(b'{"a": 1}'), content_of(b"no"), content_of(b"")
    ({'body': {'a': 1}}, {'text': 'no'}, {})
    """
    if not data:
        return {}
    try:
        return {"body": _exact(data.decode())}
    except (ValueError, RecursionError):  # the latter: brackets nested thousands deep
        pass
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


def data_of(content: Mapping[str, Any]) -> bytes:
    """Return the body in a file; `ValueError` for invalid base64."""
    if "body" in content:
        return compact(content["body"]).encode()
    if "text" in content:
        return str(content["text"]).encode()
    return b64decode(content.get("base64", ""), validate=True)


def _exact(text: str) -> Any:
    """Parse JSON that means the same when it is written again; `ValueError` for any other."""
    value = json.loads(text, object_pairs_hook=_unique)
    compact(value).encode()
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def compact(value: Any) -> str:
    """Write JSON as the package sends it; `ValueError` for NaN and infinity."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Cleaner:
    """Take the credentials that were sent, and the fields named in `redact`, out of what is saved.

    A field is a dotted path into the body of a request or a response, or into an event of a stream;
    a list on the way means each of its elements. Raises `ValueError` for what is no such path.
    """

    def __init__(self, redact: Iterable[str] = ()) -> None:
        if isinstance(redact, str):
            raise ValueError(f"redact takes a list of fields: redact=[{redact!r}]")
        self._paths = [tuple(path.split(".")) for path in redact]
        for path in self._paths:
            if "" in path:
                raise ValueError(
                    f"redact: {'.'.join(path)!r} is not a path such as metadata.user_id"
                )
        self._met: set[tuple[str, ...]] = set()
        self._rough = [(path, _rough(path[-1])) for path in self._paths]
        self._secrets = Secrets()

    def learn(self, headers: Iterable[tuple[str, str]], target: str) -> None:
        """Find the credentials in a request, whatever they are called; they are hidden from now on.

        They stand in headers and in parameters whose name has a word such as key, token or auth.
        """
        for name, value in headers:
            if is_credential(name):
                self.add(value)
                scheme, _, token = value.rpartition(" ")
                self.add(token)
                if scheme.lower() == "basic":
                    self.add(_password(token))
                if name.lower() == "cookie":
                    for cookie in value.split(";"):
                        self.add(cookie.partition("=")[2])
        for part in target.partition("?")[2].split("&"):
            name, _, value = part.partition("=")
            if is_credential(unquote_plus(name)):
                self.add(unquote_plus(value))

    def add(self, secret: str) -> None:
        """Hide this too. What is shorter than eight characters is left: any word may hold it."""
        secret = secret.strip()
        if len(secret) >= 8 and self.hide(secret) != HIDDEN:
            self._secrets = self._secrets.and_also(secret)

    def hide(self, text: str) -> str:
        """Return a text without the credentials, in whatever way a server writes them."""
        return self._secrets.hide(text)

    def unmet(self) -> list[str]:
        """Return the fields of `redact` that no body had."""
        return [".".join(path) for path in self._paths if path not in self._met]

    def redacted(self, value: Any) -> Any:
        """Return a JSON value with the named fields masked, each with a value of the same type."""
        for path in self._paths:
            value = self._blank(value, path, path)
        return value

    def _blank(self, value: Any, rest: Sequence[str], path: tuple[str, ...]) -> Any:
        if is_list(value):
            return [self._blank(entry, rest, path) for entry in value]
        if not is_object(value) or rest[0] not in value:
            return value
        inside = value[rest[0]]
        if len(rest) > 1:
            inside = self._blank(inside, rest[1:], path)
        else:
            self._met.add(path)
            inside = HIDDEN if isinstance(inside, str) else inside and type(inside)()
        return {**value, rest[0]: inside}

    def hidden(self, value: Any) -> Any:
        """Return a JSON value without the credentials."""
        return hidden(value, self.hide)

    def content(self, data: bytes) -> dict[str, Any]:
        """Return a body as a file may hold it."""
        found = content_of(data)
        if "body" in found:
            return {"body": self.hidden(self.redacted(found["body"]))}
        return content_of(self._plain(self._roughly(data))) if found else found

    def stream(self, data: bytes) -> bytes:
        """Return a stream in the form of a file: unchanged except for events with something to
        mask.
        """
        return b"".join(map(self._event, frames_in(data)))

    def scattered(self, stream: bytes) -> bool:
        """Tell whether a credential is in a stream piece by piece, as a model writes what it says.

        Joined are the texts at one place of its events, such as `delta.text`.
        """
        said: dict[str, list[str]] = {}
        for event in frames_in(stream):
            with suppress(ValueError, RecursionError):
                _gather(_exact(_data(event).decode()), "", said)
        return any(self.hide(text) != text for text in map("".join, said.values()))

    def _event(self, event: bytes) -> bytes:
        lines = event.splitlines(keepends=True)  # of bytes: only where SSE ends them too
        try:
            value = _exact(_data(event).decode())
        except (ValueError, RecursionError):
            return self._plain(self._roughly(event))
        clean = self.hidden(self.redacted(value))
        if clean == value:
            return self._plain(event)
        data = b"data: " + compact(clean).encode()
        for at, line in enumerate(lines):
            if line.startswith(b"data:"):
                lines[at] = data and data + line[len(line.rstrip(b"\r\n")) :]
                data = b""
            else:
                lines[at] = self._plain(line)
        return b"".join(lines)

    def _plain(self, data: bytes) -> bytes:
        return self.hide(data.decode("latin-1")).encode("latin-1")  # credentials are ASCII

    def _roughly(self, data: bytes) -> bytes:
        """Mask the named fields in incomplete JSON, such as half an event."""
        self._met |= {path for path, pattern in self._rough if pattern.search(data)}
        for _, pattern in self._rough:
            data = pattern.sub(rb'\1"***"', data)
        return data

    def target(self, target: str, hide: Callable[[str], str] | None = None) -> str:
        """Return a path with its query without the credentials."""
        hide = hide or self.hide
        path, mark, query = target.partition("?")
        if hide(unquote(path)) != unquote(path):
            path = quote(hide(unquote(path)), safe="/*")
        return path + mark + "&".join(_parameter(part, hide) for part in query.split("&"))


def _password(token: str) -> str:
    """Return the password in a basic authentication token; empty for any other token."""
    try:
        return b64decode(token).decode().partition(":")[2]
    except ValueError:
        return ""


def _parameter(part: str, hide: Callable[[str], str]) -> str:
    name, equals, value = part.partition("=")
    plain = unquote_plus(value)
    if value and (is_credential(unquote_plus(name)) or hide(plain) != plain):
        value = HIDDEN
    return hide(name) + equals + value


def _rough(name: str) -> re.Pattern[bytes]:
    """Return what finds a field in JSON that may be cut: its name, and as much as may be value."""
    written = re.escape(json.dumps(name, ensure_ascii=False)).encode()
    return re.compile(rb"(?s)(" + written + rb'\s*:\s*)("(?:[^"\\]|\\.)*"?|[\[{].*|[^,}\]\s]+)')


def _data(event: bytes) -> bytes:
    return b"".join(line[5:] for line in event.splitlines(True) if line.startswith(b"data:"))


def _gather(value: Any, place: str, said: dict[str, list[str]]) -> None:
    if isinstance(value, str):
        said.setdefault(place, []).append(value)
    elif is_object(value):
        for name, inside in value.items():
            _gather(inside, f"{place}.{name}", said)
    elif is_list(value):
        for inside in value:
            _gather(inside, place, said)


_EVENT = re.compile(rb"(?s).+?(?:(?:\r\n|\n|\r(?!\n)){2}|\Z)")


def frames_in(stream: bytes) -> list[bytes]:
    r"""Cut a stream after each blank line; joined again, it is the same.

    >>> frames_in(b"data: 1\n\ndata: 2\r\n\r\ndata: 3")
    [b'data: 1\n\n', b'data: 2\r\n\r\n', b'data: 3']
    """
    return _EVENT.findall(stream)
