"""Hold a key, and take it out of whatever is shown. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from ..errors import APIError
from ..types._json import is_list, is_object

HIDDEN = "***"
"""The replacement for a key."""


class Secret:
    """Hold the key where no repr, dump or pickle finds it."""

    __slots__ = ("hide", "reveal")

    def __init__(self, value: str) -> None:
        forms = _forms(value)

        def hide(text: str) -> str:
            for form in forms:
                text = text.replace(form, HIDDEN)
            return text

        # Closures: tools that walk attributes, error reporters among them, do not look inside.
        self.reveal: Callable[[], str] = lambda: value
        self.hide: Callable[[str], str] = hide

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "a client's key cannot be pickled: send client.spec(), which does not contain it"
        )


class Secrets:
    """Several keys, which are taken out together."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        # One may hold another.
        self._secrets = sorted(secrets, key=lambda secret: -len(secret.reveal()))
        one = len(self._secrets) == 1  # which nearly every client has, and asks for each header
        self.hide: Callable[[str], str] = self._secrets[0].hide if one else self._hide_all
        """Return a text without them, in whatever way a server writes them."""

    def _hide_all(self, text: str) -> str:
        for secret in self._secrets:
            text = secret.hide(text)
        return text

    def and_also(self, value: str) -> Secrets:
        """Return these and one more."""
        return Secrets([*self._secrets, Secret(value)])


_AS_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})


def _forms(secret: str) -> list[str]:
    """Return how servers write a key that they quote, the longest first.

    Shorter keys than eight characters are left: they would be found in ordinary words.
    """
    if len(secret) < 8:
        return []
    as_json = json.dumps(secret)[1:-1]
    forms = {
        secret,
        as_json,
        as_json.replace("/", "\\/"),
        repr(secret)[1:-1],
        secret.translate(_AS_HTML),
    }
    forms |= {quote(secret), quote(secret, safe="")}
    forms |= {re.sub("%..", lambda found: found[0].lower(), form) for form in forms}
    return sorted(forms, key=len, reverse=True)


def hidden(value: Any, hide: Callable[[str], str], depth: int | None = None) -> Any:
    """Return a JSON value without the keys that `hide` takes out of a text.

    Of one nested deeper than `depth` the rest is left out.
    """
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, (int, float)):  # a key may be a number
        return value if hide(repr(value)) == repr(value) else HIDDEN
    if depth == 0:
        return "..." if is_object(value) or is_list(value) else value
    below = None if depth is None else depth - 1
    if is_object(value):
        return {hidden(name, hide): hidden(inside, hide, below) for name, inside in value.items()}
    if is_list(value):
        return [hidden(inside, hide, below) for inside in value]
    return value


def hide_in(failure: APIError, hide: Callable[[str], str]) -> None:
    """Take the keys out of all that an error tells: some servers quote them."""
    told = vars(failure)
    for name in told.keys() - {"partial_message", "elapsed"}:  # an answer is what it is
        told[name] = hidden(told[name], hide, 20)
    failure.args = (failure.message,)
    behind = failure.__cause__
    while behind is not None:  # the HTTP library quotes what it cannot read
        behind.args = tuple(hidden(part, hide, 20) for part in behind.args)
        behind = behind.__cause__ or behind.__context__
