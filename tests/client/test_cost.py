"""Guard what a text delta and a call cost, by counting calls of Python functions: no clock."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from raw_server import (
    ASK,
    END_OF_BODY,
    EVENTS,
    MESSAGE,
    SSE,
    STREAM_HEAD,
    chunk,
    text_delta,
)

import modelslab_llm
from modelslab_llm import (
    AsyncModelsLab,
    DefaultAioHttpClient,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
)
from modelslab_llm.testing import ScriptedTransport

HERE = str(Path(modelslab_llm.__file__).parent)
DELTAS = 500
CHUNKS = [*EVENTS[:2], *[text_delta("word ")] * DELTAS, *EVENTS[3:]]


class Counts:
    """Calls of the package's own functions, of pydantic's validator and of a loop's timers."""

    def __init__(self) -> None:
        self.calls = 0
        self.functions: Counter[str] = Counter()
        self.validations = 0
        self.timers = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        def look(frame: FrameType, event: str, arg: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(HERE):
                self.calls += 1
                self.functions[frame.f_code.co_qualname if sys.version_info >= (3, 11) else ""] += 1
            elif event == "call" and frame.f_code is asyncio.BaseEventLoop.call_at.__code__:
                self.timers += 1
            elif event == "c_call" and arg.__name__.startswith("validate_"):
                self.validations += 1

        before = sys.getprofile()
        sys.setprofile(look)
        try:
            yield
        finally:
            sys.setprofile(before)


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A streamed answer, each event in its own chunk."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(CHUNKS)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in CHUNKS:
            yield piece


def answer(request: httpx.Request) -> httpx.Response:
    if b'"stream":true' in request.content:
        return httpx.Response(200, headers=SSE, stream=Body())
    return httpx.Response(200, json=MESSAGE)


def per_delta(read: Callable[[], object]) -> Counts:
    counts = Counts()
    read()  # the first time builds what is kept
    with counts.counting():
        read()
    return counts


def test_what_a_text_delta_costs() -> None:
    http = DefaultHttpxClient(transport=httpx.MockTransport(answer))
    with http, ModelsLab("test-key-0000", http_client=http) as client:

        def read() -> None:
            with client.messages.stream(**ASK) as stream:
                assert sum(1 for _ in stream.text_stream) == DELTAS

        counts = per_delta(read)
    assert DELTAS <= counts.validations <= DELTAS + 20
    assert counts.calls / DELTAS <= 12, counts.functions.most_common(15)


def test_what_a_text_delta_costs_in_async() -> None:
    async def main() -> Counts:
        http = DefaultAsyncHttpxClient(transport=httpx.MockTransport(answer))
        async with http, AsyncModelsLab("test-key-0000", http_client=http) as client:

            async def read() -> None:
                async with client.messages.stream(**ASK) as stream:
                    assert len([text async for text in stream.text_stream]) == DELTAS

            counts = Counts()
            await read()
            with counts.counting():
                await read()
            return counts

    counts = asyncio.run(main())
    assert DELTAS <= counts.validations <= DELTAS + 20
    assert counts.calls / DELTAS <= 12, counts.functions.most_common(15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "most"), [(DefaultAsyncHttpxClient, 36), (DefaultAioHttpClient, 22)]
)
def test_what_a_text_delta_costs_that_comes_alone(
    kind: type[DefaultAsyncHttpxClient], most: int
) -> None:
    """Over a socket, where a coroutine that goes on counts as called: one timer for a stream."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                writer.write(STREAM_HEAD + chunk(CHUNKS[0]) + chunk(CHUNKS[1]))
                for piece in CHUNKS[2:-3]:
                    writer.write(chunk(piece))
                    await taken.acquire()
                writer.write(b"".join(map(chunk, CHUNKS[-3:])) + END_OF_BODY)
        writer.close()
        served.set()

    served, taken = asyncio.Event(), asyncio.Semaphore(0)

    async def main() -> Counts:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with kind() as http:
            client = AsyncModelsLab("k", base_url=f"http://{host}:{port}", http_client=http)

            async def read() -> None:
                async with client.messages.stream(**ASK) as stream:
                    async for _ in stream.text_stream:
                        taken.release()

            counts = Counts()
            await read()
            with counts.counting():
                await read()
        await served.wait()
        server.close()
        return counts

    counts = asyncio.run(main())
    assert "no_attribute" not in counts.functions  # which looks for names that are alike, slowly
    assert counts.timers <= 5
    assert counts.calls / DELTAS <= most, counts.functions.most_common(15)


def test_what_a_call_costs() -> None:
    http = DefaultHttpxClient(transport=httpx.MockTransport(answer))
    with http, ModelsLab("test-key-0000", http_client=http) as client:
        counts = per_delta(lambda: client.messages.create(**ASK))
    assert 1 <= counts.validations <= 3
    assert "no_attribute" not in counts.functions  # which looks for names that are alike, slowly
    assert counts.calls <= 170, counts.functions.most_common(30)


def test_what_a_call_through_the_scripted_transport_costs() -> None:
    """A thousand of them take a fraction of a second; the client's own part is in it."""
    with ScriptedTransport("An answer in a few words.").client() as client:
        counts = per_delta(lambda: client.messages.create(**ASK))
    assert counts.calls <= 280, counts.functions.most_common(30)
