"""Say how each library is used: the same few operations, written as its own users write them.

A library is imported when its contender is made, so that a process loads only what it measures.
Nothing is timed here. Nothing that users have by default is switched off, but retries, which no
answer here calls for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

REQUEST: dict[str, Any] = {
    "model": "canned",
    "max_tokens": 1024,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}
HEADERS = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}


class MissingError(Exception):
    """What is to be measured is not there; the text says what."""


class Contender(Protocol):
    """One library, used from sync code."""

    def create(self, request: Mapping[str, Any]) -> object:
        """Send a request and return its parsed answer."""

    def texts(self) -> int:
        """Stream an answer; return how many pieces came."""

    def tool(self) -> object:
        """Stream an answer to its end and return the whole message."""


class AsyncContender(Protocol):
    """One library, used from async code."""

    async def create(self, request: Mapping[str, Any]) -> object:
        """Send a request and return its parsed answer."""

    async def texts(self) -> int:
        """Stream an answer; return how many pieces came."""

    async def close(self) -> None:
        """Close the connections."""


class Ours:
    """`modelslab_llm.ModelsLab`."""

    def __init__(self, url: str | None) -> None:
        from modelslab_llm import ModelsLab

        self._client = ModelsLab("key", base_url=url, max_retries=0)

    def create(self, request: Mapping[str, Any]) -> object:
        return self._client.messages.create(**request)

    def texts(self) -> int:
        with self._client.messages.stream(**REQUEST) as stream:
            return sum(1 for _ in stream.text_stream)

    def tool(self) -> object:
        with self._client.messages.stream(**REQUEST) as stream:
            return stream.get_final_message()


class Httpx:
    """`httpx.Client`, which parses nothing but the JSON of a whole answer.

    `roomy` lets it keep every connection it opens: of 50 threads those over its 20 would connect
    anew for each call, and now and then trip over another thread's closed socket.
    """

    def __init__(self, url: str | None, *, roomy: bool = False) -> None:
        import httpx

        limits = httpx.Limits(max_connections=1000)
        self._client = httpx.Client(limits=limits) if roomy else httpx.Client()
        self._url = f"{url}/v1/messages"

    def create(self, request: Mapping[str, Any]) -> object:
        return self._client.post(self._url, json=request, headers=HEADERS).json()

    def texts(self) -> int:
        body = {**REQUEST, "stream": True}
        with self._client.stream("POST", self._url, json=body, headers=HEADERS) as response:
            return sum(1 for _ in response.iter_raw())

    def tool(self) -> object:
        raise MissingError("httpx knows no tools")


class Anthropic:
    """`anthropic.Anthropic`."""

    def __init__(self, url: str | None) -> None:
        from anthropic import Anthropic

        self._client = Anthropic(api_key="key", base_url=url, max_retries=0)

    def create(self, request: Mapping[str, Any]) -> object:
        return self._client.messages.create(**request)

    def texts(self) -> int:
        with self._client.messages.stream(**REQUEST) as stream:
            return sum(1 for _ in stream.text_stream)

    def tool(self) -> object:
        with self._client.messages.stream(**REQUEST) as stream:
            return stream.get_final_message()


class AsyncOurs:
    """`modelslab_llm.AsyncModelsLab`, on its own pool or on aiohttp."""

    def __init__(self, url: str, *, aiohttp: bool = False) -> None:
        import modelslab_llm

        self._pool: Any = None  # made by the user, so closed by the user
        if aiohttp:
            if not hasattr(modelslab_llm, "DefaultAioHttpClient"):
                raise MissingError("modelslab_llm has no DefaultAioHttpClient")
            self._pool = modelslab_llm.DefaultAioHttpClient()
        self._client = modelslab_llm.AsyncModelsLab(
            "key", base_url=url, max_retries=0, http_client=self._pool
        )

    async def create(self, request: Mapping[str, Any]) -> object:
        return await self._client.messages.create(**request)

    async def texts(self) -> int:
        count = 0
        async with self._client.messages.stream(**REQUEST) as stream:
            async for _ in stream.text_stream:
                count += 1
        return count

    async def close(self) -> None:
        await self._client.close()
        if self._pool is not None:
            await self._pool.aclose()


class AsyncHttpx:
    """`httpx.AsyncClient`, with room for as many connections as the others have.

    By default it opens 100, so 400 of 500 calls would wait in a queue; `stock` keeps that
    default. Its pool timeout of five seconds would be too short for either.
    """

    def __init__(self, url: str, *, stock: bool = False) -> None:
        import httpx

        limits = httpx.Limits(max_connections=1000)
        self._client = (
            httpx.AsyncClient(timeout=600)
            if stock
            else httpx.AsyncClient(timeout=600, limits=limits)
        )
        self._url = f"{url}/v1/messages"

    async def create(self, request: Mapping[str, Any]) -> object:
        return (await self._client.post(self._url, json=request, headers=HEADERS)).json()

    async def texts(self) -> int:
        body = {**REQUEST, "stream": True}
        count = 0
        async with self._client.stream("POST", self._url, json=body, headers=HEADERS) as response:
            async for _ in response.aiter_raw():
                count += 1
        return count

    async def close(self) -> None:
        await self._client.aclose()


class AsyncAnthropic:
    """`anthropic.AsyncAnthropic`, on its own pool or on its own aiohttp client."""

    def __init__(self, url: str, *, aiohttp: bool = False) -> None:
        import anthropic

        pool = anthropic.DefaultAioHttpClient() if aiohttp else None
        self._client = anthropic.AsyncAnthropic(
            api_key="key", base_url=url, max_retries=0, http_client=pool
        )

    async def create(self, request: Mapping[str, Any]) -> object:
        return await self._client.messages.create(**request)

    async def texts(self) -> int:
        count = 0
        async with self._client.messages.stream(**REQUEST) as stream:
            async for _ in stream.text_stream:
                count += 1
        return count

    async def close(self) -> None:
        await self._client.close()


class AsyncAiohttp:
    """`aiohttp.ClientSession`, which parses nothing: what reading the chunks costs at least."""

    def __init__(self, url: str) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._url = f"{url}/v1/messages"

    async def create(self, request: Mapping[str, Any]) -> object:
        async with self._session.post(self._url, json=request, headers=HEADERS) as response:
            return await response.json()

    async def texts(self) -> int:
        body = {**REQUEST, "stream": True}
        count = 0
        async with self._session.post(self._url, json=body, headers=HEADERS) as response:
            async for _ in response.content.iter_any():
                count += 1
        return count

    async def close(self) -> None:
        await self._session.close()


def contender(name: str, url: str | None) -> Contender:
    """Return a library by the name its column has, and the variant after a plus."""
    match name.split("+"):
        case ["ours"]:
            return Ours(url)
        case ["httpx", *more]:
            return Httpx(url, roomy=bool(more))
        case ["anthropic"]:
            return Anthropic(url)
        case _:
            raise ValueError(name)


def async_contender(name: str, url: str) -> AsyncContender:
    """Return a library by the name its column has, and the variant after a plus."""
    match name.split("+"):
        case ["ours", *more]:
            return AsyncOurs(url, aiohttp=bool(more))
        case ["httpx", *more]:
            return AsyncHttpx(url, stock=bool(more))
        case ["anthropic", *more]:
            return AsyncAnthropic(url, aiohttp=bool(more))
        case ["aiohttp"]:
            return AsyncAiohttp(url)
        case _:
            raise ValueError(name)
