"""Check the headers of a request, and say which of them carry a key. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..endpoints import Auth
from ..errors import InvalidRequestError

_FORMS: Mapping[Auth, tuple[str, str]] = {
    "bearer": ("authorization", "Bearer "),
    "x-api-key": ("x-api-key", ""),
    "key": ("key", ""),
}

CREDENTIALS = tuple(header for header, _ in _FORMS.values())
"""The headers in which a key may stand."""

NEVER_KEPT = frozenset({*CREDENTIALS, "cookie", "set-cookie", "set-cookie2", "proxy-authorization"})
"""Headers of an answer that no message, error or log holds: with them, anybody could act as the
caller."""

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


def checked_headers(headers: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Return headers with lower-case names, or refuse what could forge another header.

    The error names the header and never shows its value, which may be a secret.

    >>> checked_headers({"X-Team": "a"}, "extra_headers")
    {'x-team': 'a'}
    >>> checked_headers({"X-Team": "a\\r\\nHost: b"}, "extra_headers")
    Traceback (most recent call last):
    modelslab_llm.errors.InvalidRequestError: extra_headers['X-Team']: the value must be one \
line of printable ASCII text without spaces around it
    """
    checked: dict[str, str] = {}
    if headers is not None and not isinstance(headers, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidRequestError(f"{where}: must be a dict, not {type(headers).__name__}")
    for name, value in (headers or {}).items():
        if not (isinstance(name, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequestError(
                f"{where}: {type(name).__name__} {name!r} is not a header name"
            )
        if name.lower() in _FRAMING:
            raise InvalidRequestError(f"{where}[{name!r}]: is set by the HTTP library")
        if not (isinstance(value, str) and re.fullmatch(r"([!-~]([\t -~]*[!-~])?)?", value)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidRequestError(
                f"{where}[{name!r}]: the value must be one line of printable ASCII text "
                "without spaces around it"
            )
        checked[name.lower()] = value
    return checked


def credential(auth: Auth, key: str) -> dict[str, str]:
    """Return the header that carries a key.

    >>> credential("bearer", "K"), credential("key", "K")
    ({'authorization': 'Bearer K'}, {'key': 'K'})
    """
    header, scheme = _FORMS[auth]
    return {header: scheme + key}


def keys_in(headers: Mapping[str, str]) -> list[str]:
    """Return the keys in headers with lower-case names."""
    return [
        value.rpartition(" ")[2]  # after "Bearer"
        for name in CREDENTIALS
        if (value := headers.get(name))
    ]


_CREDENTIAL = (
    r"(?i).*(api[-_]?key|token(?!s|i)|secret|passw|credential|signature|authoriz|cookie).*"
    r"|(.*[-_])?(key|auth|sig|session|pass|pwd)([-_].*)?"
)


def is_credential(name: str) -> bool:
    """Tell by its name whether a header or parameter holds a credential.

    >>> list(filter(is_credential, ["x-api-key", "max_tokens", "accessToken", "author"]))
    ['x-api-key', 'accessToken']
    """
    return re.fullmatch(_CREDENTIAL, name) is not None
