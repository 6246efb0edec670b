"""Hold one request as it arrived at a scripted server. Pure: nothing is answered here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ReceivedRequest", "receive", "text_of"]


@dataclass(frozen=True)
class ReceivedRequest:
    """Hold one request as it arrived."""

    method: str
    path: str
    """The path with its query."""
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    """Names in lower case; a name that was sent twice has its values joined with `", "`."""
    body: Any
    """The parsed JSON, or `None` if there is none."""
    raw: bytes = field(repr=False)

    @property
    def stream(self) -> bool:
        """Tell whether the request asks for a stream."""
        match self.body:
            case {"stream": True}:
                return True
            case _:
                return False


def receive(
    method: str, path: str, headers: Sequence[tuple[str, str]], raw: bytes
) -> ReceivedRequest:
    """Put a request together from its parts.

    >>> receive("POST", "/v1/messages", [("A", "1"), ("a", "2")], b"{").headers
    {'a': '1, 2'}
    """
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):  # the latter: brackets nested thousands deep
        body = None
    return ReceivedRequest(method, path, joined, body, raw)


def text_of(value: Any) -> str:
    """Join the text of a prompt or a reply: strings, blocks, and blocks within blocks."""
    match value:
        case str():
            return value
        case [*parts]:
            return "\n".join(filter(None, map(text_of, parts)))
        case {"type": "tool_use", "input": arguments}:
            return json.dumps(arguments)
        case {"text": inner} | {"thinking": inner} | {"content": inner}:
            return text_of(inner)
        case _:
            return ""
