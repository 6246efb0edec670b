"""The async client on aiohttp's connections: what a user of the extra `[aiohttp]` gets."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from modelslab_llm import (
    APIConnectionError,
    AsyncModelsLab,
    AuthenticationError,
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


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['httpx_aiohttp'] = None\n"
        "import modelslab_llm\n"
        "try: modelslab_llm.DefaultAioHttpClient()\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modelslab-llm[aiohttp]'" in done.stdout
