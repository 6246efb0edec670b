"""A server that quotes the key it was sent, in every place that an answer has; and odd keys.

Whoever keeps or shows what servers say is tested with it. It expects nothing.
"""

from __future__ import annotations

import html
import json
from typing import Any
from urllib.parse import quote

from raw_server import (
    CLOSE,
    END_OF_BODY,
    OPEN,
    SSE,
    START,
    STREAM_HEAD,
    TEXT,
    Connection,
    chunk,
    event,
    head,
    reply,
)

KEYS = {
    "plain": "sk-0123456789abcdef",
    "percent": "sk%2Fkey%25%zz%2e0",
    "slashes": "/sk/../key//0123/",
    "quotes": 'sk"key\'0123`""!',
    "backslashes": "sk\\key\\n\\0123\\",
    "regex": "^(sk|.*)+$[a-z]{3}\\d?",
    "base64": "c2stMDEyMzQ1Njc4OWFi+/==",
    "html": "<sk&key>&amp;&lt;0",
    "format": "{0}{key!r}%s%(key)s${KEY}",
    "digits": "12345678901234567890",
    "a-word": "anthropic",
    "stars": "***key***",
    "bearer": "Bearer-of-a-key",
    "long": "k1" * 5000,
}


def forms(key: str) -> set[str]:
    """Return the forms in which a text may contain the key."""
    as_json = json.dumps(key)[1:-1]
    written = {key, as_json, as_json.replace("/", "\\/"), html.escape(key), repr(key)[1:-1]}
    return written | {quote(key), quote(key, safe=""), json.dumps(as_json)[1:-1]}


def holds(text: str, key: str) -> bool:
    return any(form in text for form in forms(key))


# Where a server can quote what it was sent: `told` is the head of the request.


def envelope(told: str, **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": told, "message": told, "code": told, **more}}


def sse(*events: bytes) -> bytes:
    return STREAM_HEAD + b"".join(map(chunk, events)) + END_OF_BODY


def in_headers(status: int, told: str) -> bytes:
    lines = {f"x-{i}": line for i, line in enumerate(told.split("\r\n"))}
    return reply(status, {"error": {"message": "no"}}, {"retry-after-ms": "1", **lines})


PLACES: dict[str, Any] = {
    "envelope": lambda told, key: reply(401, envelope(told)),
    "nested": lambda told, key: reply(422, {"detail": [{"loc": ["body", key], "msg": told}]}),
    "as-a-name": lambda told, key: reply(400, {"error": {key: {key: [told]}}, "request_id": key}),
    "as-a-number": lambda told, key: reply(
        400, f'{{"error": {{"message": "no", "code": {key if key.isdigit() else 0}}}}}'.encode()
    ),
    "error-as-text": lambda told, key: reply(403, {"error": told}),
    "platform": lambda told, key: reply(200, {"status": "error", "messege": told}),
    "not-ready": lambda told, key: reply(
        503,
        envelope(told, message=f"Endpoint is not ready (status: {key})."),
        {"x-should-retry": "false"},
    ),
    "html": lambda told, key: reply(
        404,
        f"<html><title>{html.escape(told)}</title>{told}</html>".encode(),
        {"content-type": "text/html"},
    ),
    "text": lambda told, key: reply(402, told.encode(), {"content-type": "text/plain"}),
    "url": lambda told, key: reply(400, {"error": {"message": f"/?k={quote(key, safe='')}"}}),
    "no-message": lambda told, key: reply(200, told.encode(), {"content-type": f"text/{key}"}),
    "openai": lambda told, key: reply(200, {"choices": [told]}),
    "broken-json": lambda told, key: reply(200, json.dumps({"content": told}).encode()[:-1]),
    "headers": lambda told, key: in_headers(500, told),
    "request-id": lambda told, key: reply(400, {}, {"request-id": key}),
    "redirect": lambda told, key: reply(302, b"", {"location": f"http://127.0.0.1:1/?k={key}"}),
    "redirect-home": lambda told, key: (
        reply(307, b"", {"location": f"/there?k={quote(key, safe='')}"})
        if told.startswith("POST /v1")
        else reply(400, {})
    ),
    "status-line": lambda told, key: [f"HTTP/1.1 2x0 {key}\r\n\r\n".encode(), CLOSE],
    "not-http": lambda told, key: [f"{key} {told}\r\n\r\n".encode(), CLOSE],
    "header-line": lambda told, key: [f"HTTP/1.1 200 OK\r\n{key}\r\n\r\n".encode(), CLOSE],
    "chunk-size": lambda told, key: [STREAM_HEAD, f"{key}\r\n".encode(), CLOSE],
    "encoding": lambda told, key: reply(200, b"a", {"content-encoding": f"br, {key[:200]}"}),
    "error-event": lambda told, key: sse(START, event("error", **envelope(told))),
    "bare-error-event": lambda told, key: sse(f"event: error\ndata: {key}\n\n".encode()),
    "broken-event": lambda told, key: sse(START, OPEN, TEXT, f"data: {key}\n\n".encode()),
    "misfit-event": lambda told, key: sse(
        START, OPEN, TEXT, event("content_block_delta", index=key, delta=key)
    ),
    "cut-stream": lambda told, key: [head(200, {**SSE, "request-id": key}), START, CLOSE],
}


def quoting(connection: Connection) -> None:
    told = connection.request.partition(b"\r\n\r\n")[0].decode()
    place = told.partition("x-place: ")[2].partition("\r\n")[0]
    key = told.partition("x-api-key: ")[2].partition("\r\n")[0]
    connection.play(PLACES[place](told, key))
