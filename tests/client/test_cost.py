"""Guard what a text delta and a call cost, by counting calls of Python functions: no clock."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from raw_server import ASK, EVENTS, MESSAGE, SSE, text_delta

import modelslab_llm
from modelslab_llm import (
    AsyncModelsLab,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
)
from modelslab_llm.testing import ScriptedTransport

HERE = str(Path(modelslab_llm.__file__).parent)
DELTAS = 500
CHUNKS = [*EVENTS[:2], *[text_delta("word ")] * DELTAS, *EVENTS[3:]]


class Counts:
    """Calls of the package's own functions, and of pydantic's validator, in a block."""

    def __init__(self) -> None:
        self.calls = 0
        self.functions: Counter[str] = Counter()
        self.validations = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        def look(frame: FrameType, event: str, arg: Any) -> None:
            if event == "call" and frame.f_code.co_filename.startswith(HERE):
                self.calls += 1
                self.functions[frame.f_code.co_qualname if sys.version_info >= (3, 11) else ""] += 1
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
        for chunk in CHUNKS:
            yield chunk


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
