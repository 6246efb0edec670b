"""The async client on aiohttp's connections: what a user of the extra `[aiohttp]` gets."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from raw_server import (
    BEGUN,
    CLOSE,
    REPLY,
    RESET,
    SILENCE,
    STREAM,
    Connection,
    RawServer,
    Script,
    free_port,
    reply,
)

from modelslab_llm import (
    APIConnectionError,
    APIError,
    AsyncModelsLab,
    AuthenticationError,
    ClientClosedError,
    DefaultAioHttpClient,
    Message,
)
from modelslab_llm.testing import LocalServer

ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "one two three"}]}


def test_it_asks_streams_and_fails_as_the_other_does() -> None:
    async def main() -> None:
        with LocalServer() as server:
            async with (
                DefaultAioHttpClient() as http,
                AsyncModelsLab(
                    server.api_key, endpoint=server.llm_v7(), http_client=http
                ) as client,
            ):
                assert (await client.messages.create(**ASK)).text == "You said: one two three"
                async with client.messages.stream(**ASK) as stream:
                    pieces = [text async for text in stream.text_stream]
                    assert len(pieces) > 3
                    assert "".join(pieces) == await stream.get_final_text()
                many: list[Message] = await asyncio.gather(
                    *(client.messages.create(**ASK) for _ in range(100))
                )
                assert {message.text for message in many} == {"You said: one two three"}
                async with client.messages.stream(**ASK) as stream:
                    await stream.__anext__()  # and leave early
                stranger = AsyncModelsLab("wrong", endpoint=server.llm_v7(), http_client=http)
                with pytest.raises(AuthenticationError):
                    await stranger.messages.create(**ASK)
                nowhere = AsyncModelsLab(
                    "k", base_url="http://127.0.0.1:1", http_client=http, max_retries=0
                )
                with pytest.raises(APIConnectionError):
                    await nowhere.messages.create(**ASK)

    asyncio.run(main())


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['httpx_aiohttp'] = None\n"
        "import modelslab_llm\n"
        "try: modelslab_llm.DefaultAioHttpClient()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modelslab-llm[aiohttp]'" in done.stdout


KEY = "key-that-nobody-may-see"


def echo(connection: Connection) -> None:
    connection.send(STREAM if connection.body.get("stream") else REPLY)


@pytest.fixture
def nothing_is_said() -> Iterator[None]:
    """Have aiohttp's complaints about what was left open fail the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        for _ in range(3):
            gc.collect()


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_said")
def test_one_client_in_successive_event_loops() -> None:
    with RawServer(echo) as server:
        http = DefaultAioHttpClient()
        client = AsyncModelsLab("k" * 9, base_url=server.url, http_client=http, max_retries=0)

        async def main() -> None:
            assert (await client.messages.create(**ASK)).text == "Tamar"
            async with client.messages.stream(**ASK) as stream:
                assert await stream.get_final_text() == "Tamar"

        for _ in range(3):
            asyncio.run(main())
            gc.collect()
        assert len(server.connections) == 3
        assert all(connection.left.wait(5) for connection in server.connections)
        asyncio.run(http.aclose())
        with pytest.raises(ClientClosedError):
            asyncio.run(main())


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_said")
def test_a_loop_that_ends_in_the_middle_of_a_stream() -> None:
    async def main() -> None:
        stream = client.messages.stream(**ASK)
        await stream.__aenter__()
        await stream.text_stream.__anext__()

    with RawServer([BEGUN, SILENCE], echo) as server:
        http = DefaultAioHttpClient()
        client = AsyncModelsLab("k" * 9, base_url=server.url, http_client=http, max_retries=0)
        asyncio.run(main())

        async def again() -> None:
            assert (await client.messages.create(**ASK)).text == "Tamar"

        asyncio.run(again())
        asyncio.run(http.aclose())


FAILURES: dict[str, tuple[str, Script]] = {
    "closed": ("create", CLOSE),
    "reset": ("create", RESET),
    "garbage": ("create", [b"\x00\x01\x02 nonsense\r\n\r\n", CLOSE]),
    "a bad length": ("create", [b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", CLOSE]),
    "silence": ("create", SILENCE),
    "half-a-head": ("create", [REPLY[:30], CLOSE]),
    "half-a-body": ("create", [REPLY[:-5], CLOSE]),
    "half-a-stream": ("stream", [BEGUN, CLOSE]),
    "stalled-stream": ("stream", [BEGUN, SILENCE]),
    "bad-chunks": ("stream", [BEGUN, b"xyz\r\n", CLOSE]),
    "refused": ("create", reply(401, {"error": {"message": "no"}})),
}


@pytest.mark.parametrize("name", FAILURES)
def test_no_error_tells_the_key(name: str) -> None:
    verb, script = FAILURES[name]

    async def main() -> APIError:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(
                KEY, base_url=server.url, http_client=http, max_retries=0, timeout=0.3
            )
            with pytest.raises(APIError) as caught:
                if verb == "create":
                    await client.messages.create(**ASK)
                else:
                    async with client.messages.stream(**ASK) as stream:
                        await stream.get_final_text()
            return caught.value

    with RawServer(script) as server:
        error: BaseException | None = asyncio.run(main())
        assert KEY.encode() in server.connections[0].requests[0]  # it was there to be told
    while error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert KEY not in "".join(told.format())
        assert KEY not in repr(error) + str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__


def test_nobody_is_there() -> None:
    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            url = f"http://127.0.0.1:{free_port()}"
            client = AsyncModelsLab("k" * 9, base_url=url, http_client=http, max_retries=0)
            with pytest.raises(APIConnectionError, match="cannot connect"):
                await client.messages.create(**ASK)

    asyncio.run(main())


@pytest.mark.parametrize("given", [True, False], ids=["given", "environment"])
def test_a_proxy(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(**settings: Any) -> None:
        async with DefaultAioHttpClient(**settings) as http:
            client = AsyncModelsLab("k" * 9, base_url="http://h.invalid", http_client=http)
            assert (await client.messages.create(**ASK)).text == "Tamar"

    with RawServer(echo) as proxy:
        if given:
            asyncio.run(main(proxy=proxy.url))
        else:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            asyncio.run(main())
        assert proxy.connections[0].request.startswith(
            b"POST http://h.invalid/v1/messages HTTP/1.1"
        )


def test_a_call_in_flight_ends_when_the_client_is_closed() -> None:
    async def main() -> None:
        http = DefaultAioHttpClient()
        client = AsyncModelsLab("k" * 9, base_url=server.url, http_client=http, max_retries=0)
        call = asyncio.ensure_future(client.messages.create(**ASK))
        while not server.requests:
            await asyncio.sleep(0.01)
        await http.aclose()
        with pytest.raises(ClientClosedError):
            await call

    with RawServer(SILENCE) as server:
        asyncio.run(main())
