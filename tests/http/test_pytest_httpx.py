"""Mock the clients with pytest-httpx as its documentation says, as a user's own tests would."""

from __future__ import annotations

import json

import httpx
import pytest
from pytest_httpx import HTTPXMock, IteratorStream
from variants import Async, Sync

from modelslab_llm import APIConnectionError, APITimeoutError, RateLimitError

URL = "https://modelslab.com/api/v7/llm/v1/messages"
ASK = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = {"type": "message", "content": [{"type": "text", "text": "Hello."}]}


def test_a_mocked_answer(variant: Sync | Async, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(
        method="POST", url=URL, match_headers={"x-api-key": "test-key-1"}, json=MESSAGE
    )
    client = variant.client(api_key="test-key-1")
    assert client.create(**ASK).text == "Hello."
    request = httpx_mock.get_request()
    assert request is not None
    assert json.loads(request.content) == ASK
    client.close()


def test_a_mocked_stream(variant: Sync | Async, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(
        url=URL,
        headers={"content-type": "text/event-stream"},
        stream=IteratorStream(
            [
                b'data: {"type":"content_block_delta","index":0,"delta":',
                b'{"type":"text_delta","text":"Hello."}}\n\n',
                b'data: {"type":"message_stop"}\n\n',
            ]
        ),
    )
    client = variant.client(api_key="test-key-1")
    with client.stream(**ASK) as stream:
        assert list(stream.texts()) == ["Hello."]
    client.close()


def test_mocked_failures_and_retries(variant: Sync | Async, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(status_code=429, headers={"retry-after-ms": "1"})
    httpx_mock.add_response(json=MESSAGE)
    client = variant.client(api_key="test-key-1")
    assert client.create(**ASK).text == "Hello."
    assert len(httpx_mock.get_requests()) == 2

    httpx_mock.add_response(status_code=429, headers={"retry-after": "86400"})
    with pytest.raises(RateLimitError) as limited:
        client.create(**ASK)
    assert limited.value.retry_after == 86400
    client.close()


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (httpx.ReadTimeout("slow"), APITimeoutError),
        (httpx.ConnectError("refused"), APIConnectionError),
    ],
)
def test_mocked_exceptions(
    variant: Sync | Async, httpx_mock: HTTPXMock, foreign: Exception, ours: type[Exception]
) -> None:
    httpx_mock.add_exception(foreign)
    client = variant.client(api_key="test-key-1", max_retries=0)
    with pytest.raises(ours):
        client.create(**ASK)
    client.close()
