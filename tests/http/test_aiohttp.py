"""The async client on aiohttp's connections: what a user of the extra `[aiohttp]` gets."""

from __future__ import annotations

import asyncio
import base64
import gc
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx
from raw_server import (
    BEGUN,
    CLOSE,
    END_OF_BODY,
    EVENTS,
    MESSAGE,
    REPLY,
    RESET,
    SILENCE,
    SSE,
    STREAM,
    Connection,
    RawServer,
    Script,
    chunk,
    drip,
    event,
    free_port,
    reply,
    text_delta,
)

from modelslab_llm import (
    APIConnectionError,
    APIError,
    APITimeoutError,
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
        "import sys; sys.modules['aiohttp'] = None\n"
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


@pytest.mark.slow
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


async def ask(client: AsyncModelsLab, verb: str = "create") -> str:
    if verb == "create":
        return (await client.messages.create(**ASK)).text
    async with client.messages.stream(**ASK) as stream:
        return await stream.get_final_text()


LIMITS: dict[str, tuple[str, Script, dict[str, Any], str]] = {
    "no head": ("create", SILENCE, {"timeout": 0.3}, "read"),
    "half a body": ("create", [REPLY[:-5], SILENCE], {"timeout": 0.3}, "read"),
    "half a stream": ("stream", [BEGUN, SILENCE], {"timeout": 0.3}, "read"),
    "a head that drips": ("create", drip(REPLY[:60]), {"deadline": 0.4}, "deadline"),
    "a body that drips": (
        "create",
        [REPLY[:-60], drip(REPLY[-60:])],
        {"deadline": 0.4},
        "deadline",
    ),
    "nothing but pings": (
        "stream",
        [BEGUN, *[chunk(event("ping")), 0.05] * 60],
        {"progress_timeout": 0.4},
        "progress",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.usefixtures("nothing_is_said")
def test_limits_of_time(name: str) -> None:
    verb, script, options, phase = LIMITS[name]

    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(
                KEY, base_url=server.url, http_client=http, max_retries=0, **options
            )
            with pytest.raises(APITimeoutError) as caught:
                await ask(client, verb)
            assert caught.value.phase == phase
            assert await asyncio.to_thread(server.connections[0].left.wait, 5)

    with RawServer(script) as server:
        asyncio.run(main())


@pytest.mark.slow
def test_the_limit_begins_anew_with_each_piece() -> None:
    pieces: list[Script] = [step for _ in range(8) for step in (chunk(text_delta("a")), 0.15)]

    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(
                KEY, base_url=server.url, http_client=http, max_retries=0, timeout=0.8
            )
            assert await ask(client, "stream") == "Tamar" + "a" * 8

    end: list[Script] = [*map(chunk, EVENTS[3:]), END_OF_BODY]
    with RawServer([BEGUN, *pieces, *end]) as server:
        asyncio.run(main())


@pytest.mark.usefixtures("nothing_is_said")
def test_a_connection_is_used_again_unless_its_stream_was_left() -> None:
    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(KEY, base_url=server.url, http_client=http, max_retries=0)
            for verb in ("stream", "create", "stream"):
                assert await ask(client, verb) == "Tamar"
            assert len(server.connections) == 1
            async with client.messages.stream(**ASK) as stream:
                await stream.__anext__()
            assert await asyncio.to_thread(server.connections[0].left.wait, 5)
            assert await ask(client) == "Tamar"
            assert len(server.connections) == 2

    with RawServer(STREAM, REPLY, STREAM, [BEGUN, SILENCE], REPLY) as server:
        asyncio.run(main())


@pytest.mark.usefixtures("nothing_is_said")
def test_a_large_body_is_sent_whole() -> None:
    """aiohttp warns of more than a megabyte in one piece."""
    words = "word " * 600_000

    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(KEY, base_url=server.url, http_client=http, max_retries=0)
            long = {**ASK, "messages": [{"role": "user", "content": words}]}
            assert (await client.messages.create(**long)).text == "Tamar"

    with RawServer(REPLY) as server:
        asyncio.run(main())
        assert server.connections[0].body["messages"][0]["content"] == words


LOGIN = b"proxy-authorization: basic " + base64.b64encode(b"me:word").lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("nothing_is_said")
def test_a_proxy_is_told_its_login_and_no_more(scheme: str) -> None:
    async def main() -> None:
        proxy = httpx.Proxy(server.url, auth=("me", "word"))
        async with DefaultAioHttpClient(proxy=proxy) as http:
            url = f"{scheme}://h.invalid"
            client = AsyncModelsLab(KEY, base_url=url, http_client=http, max_retries=0)
            if scheme == "http":
                assert await ask(client) == "Tamar"
            else:
                with pytest.raises(APIConnectionError, match="the proxy refused"):
                    await ask(client)

    with RawServer(REPLY if scheme == "http" else [reply(407), CLOSE]) as server:
        asyncio.run(main())
        request = server.connections[0].request
    assert request.lower().count(LOGIN) == 1
    if scheme == "https":
        assert request.startswith(b"CONNECT h.invalid:443 ")
        assert KEY.encode() not in request


def test_a_socks_proxy_is_refused() -> None:
    async def main() -> None:
        async with DefaultAioHttpClient(proxy=f"socks5://127.0.0.1:{free_port()}") as http:
            client = AsyncModelsLab(KEY, http_client=http, max_retries=0)
            with pytest.raises(APIConnectionError, match="SOCKS"):
                await ask(client)

    asyncio.run(main())


def test_what_is_sent_is_what_the_usual_client_sends() -> None:
    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            for given in (None, http):
                async with AsyncModelsLab(
                    KEY, base_url=server.url, http_client=given, max_retries=0
                ) as client:
                    for verb in ("create", "stream"):
                        assert await ask(client, verb) == "Tamar"
                    await client.models.list()

    def answer(connection: Connection) -> None:
        models = connection.request.startswith(b"GET ")
        connection.send(reply(200, {"data": []})) if models else echo(connection)

    with RawServer(answer) as server:
        asyncio.run(main())
        usual, aio = (connection.requests for connection in server.connections)
    for one, other in zip(usual, aio, strict=True):
        first, *lines = one.lower().split(b"\r\n")
        first_too, *lines_too = other.lower().split(b"\r\n")
        assert first == first_too
        assert sorted(lines) == sorted(lines_too)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["create", "stream"])
def test_what_the_client_adds_is_sent(verb: str) -> None:
    seen: list[int] = []

    async def note(response: httpx.Response) -> None:
        seen.append(response.status_code)

    async def main() -> None:
        hooks = {"response": [note]}
        async with DefaultAioHttpClient(headers={"x-team": "blue"}, event_hooks=hooks) as http:
            client = AsyncModelsLab(
                KEY, base_url=server.url, http_client=http, max_retries=0, timeout=0.5
            )
            assert await ask(client, verb) == "Tamar"
            with pytest.raises(APITimeoutError):
                await ask(client, verb)

    with RawServer(echo, [BEGUN if verb == "stream" else REPLY[:-5], SILENCE]) as server:
        asyncio.run(main())
        assert all(b"x-team: blue" in head.lower() for head in server.heads())
    assert seen == [200, 200]


def test_mocks_of_httpx_stand_in_for_it_too() -> None:
    async def main() -> None:
        async with DefaultAioHttpClient() as http:
            client = AsyncModelsLab(KEY, base_url="http://h.invalid", http_client=http)
            with respx.mock() as router:
                router.post("http://h.invalid/v1/messages").side_effect = [
                    httpx.Response(200, json=MESSAGE),
                    httpx.Response(200, headers=SSE, content=b"".join(EVENTS)),
                ]
                assert await ask(client) == await ask(client, "stream") == "Tamar"

    asyncio.run(main())
