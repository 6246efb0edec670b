"""A server for five: what comes while five are inside is refused with 429, as v7 documents it.

    python -m benchmarks.crowded PLACES SECONDS HINT

It prints its port, answers each request after SECONDS, refuses with a hint of HINT seconds, and
prints what it saw as JSON when its standard input ends. Only loopback is listened to.
"""

# ruff: noqa: T201  (its port and its counts are its output)

from __future__ import annotations

import asyncio
import json
import sys
import time

from .server import body_length, small

REFUSAL = {
    "type": "error",
    "error": {"type": "rate_limit_error", "message": "Queue limit reached, retry later."},
}


class Crowd:
    """What all connections share: who is inside, and what was counted."""

    def __init__(self, places: int, seconds: float, hint: int) -> None:
        self.places = places
        self.seconds = seconds
        self.inside = 0
        self.answers = 0
        self.refusals = 0
        self.first = 0.0
        self.last = 0.0
        body = json.dumps({**REFUSAL, "retry_after": hint}).encode()
        head = "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"
        head += f"retry-after: {hint}\r\ncontent-length: {len(body)}\r\n\r\n"
        self.refusal = head.encode() + body

    def counts(self) -> str:
        """Return what was seen."""
        took = self.last - self.first
        return json.dumps({"answers": self.answers, "refusals": self.refusals, "seconds": took})


class Connection(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, found, body = self._bytes.partition(b"\r\n\r\n")
        if found and len(body) >= body_length(head):
            self._bytes = b""
            self._asked()

    def _asked(self) -> None:
        crowd = self._crowd
        crowd.first = crowd.first or time.monotonic()
        if crowd.inside >= crowd.places:
            crowd.refusals += 1
            self._transport.write(crowd.refusal)
            return
        crowd.inside += 1
        asyncio.get_running_loop().call_later(crowd.seconds, self._answer)

    def _answer(self) -> None:
        crowd = self._crowd
        crowd.inside -= 1
        crowd.answers += 1
        crowd.last = time.monotonic()
        if not self._transport.is_closing():
            self._transport.write(small())


async def serve(crowd: Crowd) -> None:
    """Serve until the standard input ends, which it does when the parent does."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(crowd), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    print(crowd.counts(), flush=True)


if __name__ == "__main__":
    places, seconds, hint = sys.argv[1:]
    asyncio.run(serve(Crowd(int(places), float(seconds), int(hint))))
