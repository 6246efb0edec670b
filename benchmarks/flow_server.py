"""A server over real sockets that takes only so much, as a simulated server says.

    with LimitedServer(Queue(Random(0), 5, 1.0)) as server:
        client = ModelsLab("key", base_url=server.url)

The same `Server` that `benchmarks.flow_simulation` runs on virtual time decides here, on the clock:
so a real run and a simulated one can be put side by side. It runs in a thread of its own, talks to
127.0.0.1 alone, and leaving the `with` block stops it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import suppress
from types import TracebackType

from typing_extensions import Self

from .flow_simulation import Refusal, Server

_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_BEGIN = (
    {"type": "message_start", "message": {**_MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
)
_END = (
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
)


class LimitedServer:
    """Serve `limits` over HTTP; what it refuses, it refuses as `status`."""

    def __init__(
        self, limits: Server, *, status: int = 429, refuses_in_stream: bool = False
    ) -> None:
        self.limits = limits
        self.status = status
        self.refuses_in_stream = refuses_in_stream
        """Whether a stream is refused by an error event inside a 200 answer."""
        self.asked: list[float] = []
        """When each request came in."""
        self.refused = 0
        self.answered = 0
        self.most_inside = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._started = time.monotonic()
        self._conversations: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, backlog=2048)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for conversation in list(self._conversations):
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._conversations.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    )
                    body = json.loads(await reader.readexactly(length))
                    await self._answer(writer, bool(body.get("stream")))
        finally:
            self._conversations.discard(task)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, stream: bool) -> None:
        now = time.monotonic() - self._started
        self.asked.append(now)
        if refusal := self.limits.ask(now):
            self.refused += 1
            await self._refuse(writer, refusal, stream)
            return
        self.limits.inside += 1
        self.most_inside = max(self.most_inside, self.limits.inside)
        try:
            if stream:
                await self._stream(writer)
            else:
                await asyncio.sleep(self.limits.duration())
                await _reply(writer, 200, _MESSAGE)
            self.answered += 1
        finally:
            self.limits.leave()

    async def _refuse(self, writer: asyncio.StreamWriter, refusal: Refusal, stream: bool) -> None:
        name = "overloaded_error" if self.status == 529 else "rate_limit_error"
        error = {"type": "error", "error": {"type": name, "message": "too much to do"}}
        if stream and self.refuses_in_stream:
            await _reply(writer, 200, error, event_stream=True)
        else:
            await _reply(writer, self.status, error, hint=refusal.hint)

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        )
        writer.write(head.encode() + b"\r\n" + _chunk(*_BEGIN))
        await writer.drain()
        until = time.monotonic() + self.limits.duration()
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.01))
            if writer.is_closing() or writer.transport.is_closing():
                raise ConnectionError
        writer.write(_chunk(*_END) + b"0\r\n\r\n")
        await writer.drain()


def _events(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def _chunk(*events: object) -> bytes:
    data = _events(*events)
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _reply(
    writer: asyncio.StreamWriter,
    status: int,
    body: object,
    *,
    hint: float | None = None,
    event_stream: bool = False,
) -> None:
    content = _events(body) if event_stream else json.dumps(body).encode()
    kind = "text/event-stream" if event_stream else "application/json"
    head = [f"HTTP/1.1 {status} -", f"content-type: {kind}", f"content-length: {len(content)}"]
    if hint is not None:
        head.append(f"retry-after: {hint:g}")
    writer.write("\r\n".join([*head, "", ""]).encode() + content)
    await writer.drain()
