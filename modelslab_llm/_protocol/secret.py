"""Hold a key, and take it out of whatever is shown. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote


class Secret:
    """Hold the key where no repr, dump or pickle finds it."""

    __slots__ = ("hide", "reveal")

    def __init__(self, value: str) -> None:
        forms = _forms(value)

        def hide(text: str) -> str:
            for form in forms:
                text = text.replace(form, "***")
            return text

        # Closures: tools that walk attributes, error reporters among them, do not look inside.
        self.reveal: Callable[[], str] = lambda: value
        self.hide: Callable[[str], str] = hide

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a client's key cannot be pickled: build the client where it is used")


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
