"""Drive both clients through one sync interface, so that each behaviour is tested once.

Holds no expectations; a test takes the fixture `variant` and never asks which one it got.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread
import httpx

from modelslab_llm import (
    AsyncMessageStream,
    AsyncModelsLab,
    AsyncToolRunner,
    ContentDelta,
    MessageStream,
    ModelsLab,
    ToolRunner,
)
from modelslab_llm.bulk import AsyncBulkRun, BulkPlan, BulkProgress, BulkResult, BulkRun
from modelslab_llm.types import Event, Message, ModelList, TokenCount


class SyncStream:
    """A `MessageStream`, as `Sync.stream` hands it out."""

    def __init__(self, stream: MessageStream) -> None:
        self.stream = stream

    def next(self) -> Event | None:
        return next(self.stream, None)

    def events(self) -> Iterator[Event]:
        return iter(self.stream)

    def texts(self) -> Iterator[str]:
        return self.stream.text_stream

    def deltas(self) -> Iterator[ContentDelta]:
        return self.stream.deltas

    def partials(self) -> Iterator[Any]:
        return self.stream.partial_stream  # type: ignore[attr-defined]

    def message(self) -> Any:
        return self.stream.get_final_message()

    def text(self) -> str:
        return self.stream.get_final_text()

    def close(self) -> None:
        self.stream.close()


class SyncRunner:
    """A `ToolRunner`, as `Sync.run_tools` hands it out."""

    def __init__(self, real: ToolRunner) -> None:
        self.real = real

    def turns(self) -> Iterator[Message]:
        return iter(self.real)

    def streams(self) -> Iterator[SyncStream]:
        return map(SyncStream, self.real.stream())

    def message(self) -> Message:
        return self.real.get_final_message()

    def close(self) -> None:
        with self.real:
            pass


class SyncBulk:
    """A `BulkRun`, as `Sync.bulk` hands it out."""

    def __init__(self, real: BulkRun[Any, Any]) -> None:
        self.real = real

    def results(self) -> Iterator[BulkResult[Any, Any]]:
        return self.real

    def next(self) -> BulkResult[Any, Any] | None:
        return next(self.real, None)

    def plan(self) -> BulkPlan:
        return self.real.plan()

    def finish(self) -> BulkProgress:
        return self.real.finish()

    def close(self) -> None:
        self.real.close()


class SyncClient:
    """A `ModelsLab`."""

    def __init__(self, client: ModelsLab) -> None:
        self.real = client

    def create(self, **params: Any) -> Message:
        return self.real.messages.create(**params)

    @contextmanager
    def stream(self, **params: Any) -> Iterator[SyncStream]:
        with self.real.messages.stream(**params) as stream:
            yield SyncStream(stream)

    def run_tools(self, **params: Any) -> SyncRunner:
        return SyncRunner(self.real.messages.run_tools(**params))

    def bulk(self, rows: Any, **options: Any) -> SyncBulk:
        return SyncBulk(self.real.messages.bulk(rows, **options))

    def parse(self, **params: Any) -> Any:
        return self.real.messages.parse(**params)

    @contextmanager
    def parse_stream(self, **params: Any) -> Iterator[SyncStream]:
        with self.real.messages.parse_stream(**params) as stream:
            yield SyncStream(stream)

    def count_tokens(self, **params: Any) -> TokenCount:
        return self.real.messages.count_tokens(**params)

    def models(self) -> ModelList:
        return self.real.models.list()

    def wait_until_ready(self, timeout: float = 600.0) -> None:
        self.real.wait_until_ready(timeout)

    def with_options(self, **options: Any) -> SyncClient:
        return SyncClient(self.real.with_options(**options))

    def close(self) -> None:
        self.real.close()


class Sync:
    """The sync variant: a `ModelsLab`, as it is."""

    name = "sync"
    mock_stream: type[httpx.SyncByteStream] = httpx.SyncByteStream

    def client(self, **settings: Any) -> SyncClient:
        if handler := settings.pop("handler", None):
            settings["http_client"] = httpx.Client(transport=httpx.MockTransport(handler))
        return SyncClient(ModelsLab(**settings))


class AsyncStream:
    """An `AsyncMessageStream`, driven from sync code."""

    def __init__(self, portal: Any, stream: AsyncMessageStream) -> None:
        self.portal = portal
        self.stream = stream

    def next(self) -> Event | None:
        return self.portal.call(_anext, self.stream)

    def events(self) -> Iterator[Event]:
        while (event := self.next()) is not None:
            yield event

    def texts(self) -> Iterator[str]:
        texts = self.stream.text_stream
        while (text := self.portal.call(_anext, texts)) is not None:
            yield text

    def deltas(self) -> Iterator[ContentDelta]:
        pieces = self.stream.deltas
        while (piece := self.portal.call(_anext, pieces)) is not None:
            yield piece

    def partials(self) -> Iterator[Any]:
        partials = self.stream.partial_stream  # type: ignore[attr-defined]
        while (partial := self.portal.call(_anext, partials)) is not None:
            yield partial

    def message(self) -> Any:
        return self.portal.call(self.stream.get_final_message)

    def text(self) -> str:
        return self.portal.call(self.stream.get_final_text)

    def close(self) -> None:
        self.portal.call(self.stream.close)


class AsyncRunner:
    """An `AsyncToolRunner`, driven from sync code."""

    def __init__(self, portal: Any, real: AsyncToolRunner) -> None:
        self.portal = portal
        self.real = real

    def turns(self) -> Iterator[Message]:
        while (message := self.portal.call(_anext, self.real)) is not None:
            yield message

    def streams(self) -> Iterator[AsyncStream]:
        streams = self.real.stream()
        while (stream := self.portal.call(_anext, streams)) is not None:
            yield AsyncStream(self.portal, stream)

    def message(self) -> Message:
        return self.portal.call(self.real.get_final_message)

    def close(self) -> None:
        async def leave() -> None:
            async with self.real:
                pass

        self.portal.call(leave)


class AsyncBulk:
    """An `AsyncBulkRun`, driven from sync code."""

    def __init__(self, portal: Any, real: AsyncBulkRun[Any, Any]) -> None:
        self.portal = portal
        self.real = real

    def results(self) -> Iterator[BulkResult[Any, Any]]:
        while (result := self.next()) is not None:
            yield result

    def next(self) -> BulkResult[Any, Any] | None:
        return self.portal.call(_anext, self.real)

    def plan(self) -> BulkPlan:
        return self.portal.call(self.real.plan)

    def finish(self) -> BulkProgress:
        return self.portal.call(self.real.finish)

    def close(self) -> None:
        self.portal.call(self.real.close)


class AsyncClient:
    """An `AsyncModelsLab`, driven from sync code."""

    def __init__(self, portal: Any, client: AsyncModelsLab) -> None:
        self.portal = portal
        self.real = client

    def create(self, **params: Any) -> Message:
        return self.portal.call(lambda: self.real.messages.create(**params))

    @contextmanager
    def stream(self, **params: Any) -> Iterator[AsyncStream]:
        stream = self.real.messages.stream(**params)
        self.portal.call(stream.__aenter__)
        try:
            yield AsyncStream(self.portal, stream)
        finally:
            self.portal.call(stream.close)

    def run_tools(self, **params: Any) -> AsyncRunner:
        return AsyncRunner(self.portal, self.real.messages.run_tools(**params))

    def bulk(self, rows: Any, **options: Any) -> AsyncBulk:
        return AsyncBulk(self.portal, self.real.messages.bulk(rows, **options))

    def parse(self, **params: Any) -> Any:
        return self.portal.call(lambda: self.real.messages.parse(**params))

    @contextmanager
    def parse_stream(self, **params: Any) -> Iterator[AsyncStream]:
        stream = self.real.messages.parse_stream(**params)
        self.portal.call(stream.__aenter__)
        try:
            yield AsyncStream(self.portal, stream)
        finally:
            self.portal.call(stream.close)

    def count_tokens(self, **params: Any) -> TokenCount:
        return self.portal.call(lambda: self.real.messages.count_tokens(**params))

    def models(self) -> ModelList:
        return self.portal.call(self.real.models.list)

    def wait_until_ready(self, timeout: float = 600.0) -> None:
        self.portal.call(self.real.wait_until_ready, timeout)

    def with_options(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.portal, self.real.with_options(**options))

    def close(self) -> None:
        self.portal.call(self.real.close)


class Async:
    """An async variant: asyncio or trio."""

    def __init__(self, portal: Any, name: str) -> None:
        self.portal = portal
        self.name = name

    def client(self, **settings: Any) -> AsyncClient:
        if handler := settings.pop("handler", None):
            settings["http_client"] = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        return AsyncClient(self.portal, AsyncModelsLab(**settings))


async def _anext(source: Any) -> Any:
    try:
        return await source.__anext__()
    except StopAsyncIteration:
        return None


@contextmanager
def variant_named(name: str) -> Iterator[Sync | Async]:
    """Give the variant of that name: `sync`, `asyncio` or `trio`."""
    if name == "sync":
        yield Sync()
    else:
        with anyio.from_thread.start_blocking_portal(name) as portal:
            yield Async(portal, name)


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A mock's body in given chunks, for both variants, which knows whether it was closed.

    A body that is ready in one piece would hide a missing `aread` or `aclose`.
    """

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        if self.error:
            raise self.error

    async def __aiter__(self) -> Any:
        for chunk in self.chunks:
            yield chunk
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True
