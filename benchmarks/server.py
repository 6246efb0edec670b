"""Give canned answers as raw bytes, as fast as can be, so that only the client is measured.

The first part of a request's path names the answer, e.g. `/text/v1/messages`; the body is read
and ignored. Nothing is decided by what a request says, and only loopback is listened to.

    python -m benchmarks.server      prints its port, and ends when its standard input does
"""

# ruff: noqa: T201  (its port is its output)

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

TEXT_DELTAS = 4_000
PART = 8  # characters of a tool's input in one delta
BUFFER = 16 * 1024
SLOWLY = 0.05  # seconds a model takes for a small answer
LAST_WORD = "coffee."  # of the one-line stream

DELAYED = "message-50ms"
PACED = "text-20ms"
PACED_DELTAS = 100
PACE = 0.02  # seconds from one of them to the next
TOOL_SIZES = {"tool-32k": 32 * 1024, "tool-64k": 64 * 1024, "tool-1m": 1024 * 1024}


def event(name: str, **fields: Any) -> bytes:
    """Return one event, framed as servers of the Messages format do."""
    data = json.dumps({"type": name, **fields}, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()


def message(**fields: Any) -> dict[str, Any]:
    """Return a small message."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "canned",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 14, "output_tokens": 1},
        **fields,
    }


def stream(block: dict[str, Any], deltas: Iterable[dict[str, Any]], reason: str) -> Iterator[bytes]:
    """Yield the events of a message with one block."""
    yield event("message_start", message=message())
    yield event("content_block_start", index=0, content_block=block)
    for delta in deltas:
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    end = {"stop_reason": reason, "stop_sequence": None}
    yield event("message_delta", delta=end, usage={"output_tokens": 9})
    yield event("message_stop")


def text_stream(words: Iterable[str]) -> Iterator[bytes]:
    """Yield a text, one delta for each word."""
    deltas = ({"type": "text_delta", "text": word} for word in words)
    return stream({"type": "text", "text": ""}, deltas, "end_turn")


def tool_stream(size: int) -> Iterator[bytes]:
    """Yield a tool call whose input is one object of many keys, `PART` characters at a time."""
    pairs = (f'"key{number:05}":"value{number:05}"' for number in range(size // 24 - 1))
    text = "{" + ",".join(pairs)
    text += ',"last":"' + "x" * (size - len(text) - 11) + '"}'
    parts = (text[at : at + PART] for at in range(0, len(text), PART))
    deltas = ({"type": "input_json_delta", "partial_json": part} for part in parts)
    block = {"type": "tool_use", "id": "toolu_01", "name": "save", "input": {}}
    return stream(block, deltas, "tool_use")


def words() -> Iterator[str]:
    """Yield the text of the long stream."""
    return (f" word{number % 1000}" for number in range(TEXT_DELTAS))


def in_pieces(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut a body anew, into pieces of one size."""
    whole = b"".join(parts)
    return (whole[at : at + size] for at in range(0, len(whole), size))


def framed(parts: Iterable[bytes]) -> list[bytes]:
    """Return a streamed answer piece by piece: the head, every part in a chunk, the end."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    head += b"transfer-encoding: chunked\r\nrequest-id: req_01\r\n\r\n"
    return [head, *(b"%x\r\n%b\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"]


def chunked(parts: Iterable[bytes]) -> bytes:
    """Return a streamed answer, every part in a chunk of its own."""
    return b"".join(framed(parts))


@cache
def paced() -> list[bytes]:
    """Return the pieces of the stream that comes slowly."""
    return framed(text_stream(["word "] * PACED_DELTAS))


def small() -> bytes:
    """Return a small message, whole."""
    content = [{"type": "text", "text": "The capital of France is Paris."}]
    body = json.dumps(message(content=content, stop_reason="end_turn")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_01\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


@cache
def answer(name: str) -> bytes:
    """Return the whole answer of a name, head included; made when it is first asked for."""
    if name in ("message", DELAYED):
        return small()
    if name == "line":
        return chunked(text_stream(["One ", "small ", "cup ", "of ", LAST_WORD]))
    if name == "text":
        return chunked(text_stream(words()))
    if name == "text-16k":
        return chunked(in_pieces(text_stream(words()), BUFFER))
    if name in TOOL_SIZES:
        return chunked(tool_stream(TOOL_SIZES[name]))
    return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One kept connection: requests in, canned answers out."""

    def __init__(self) -> None:
        self._head = b""
        self._name = ""
        self._left = 0  # bytes of a request's body that have not come yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, body = self._head[:end], len(self._head) - end - 4
            self._head = b""
            self._name = head.split(b" ", 2)[1].split(b"/", 2)[1].decode()
            self._left = body_length(head) - body
        if self._left <= 0:
            self._left = 0
            self._answer()

    def _answer(self) -> None:
        if self._name == PACED:
            self._pace(iter(paced()))
            return
        whole = answer(self._name)
        if self._name == DELAYED:
            asyncio.get_running_loop().call_later(SLOWLY, self._write, whole)
        else:
            self._write(whole)

    def _pace(self, left: Iterator[bytes]) -> None:
        for part in left:
            self._write(part)
            asyncio.get_running_loop().call_later(PACE, self._pace, left)
            return

    def _write(self, whole: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(whole)


def body_length(head: bytes) -> int:
    """Return how long a request says its body is."""
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if rest else 0


async def serve() -> None:
    """Serve until the standard input ends, which it does when the parent does."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
