"""Replacements and wrappers of the network still see each request: sync and async.

pytest-httpx has a file of its own. respx patches httpcore, OpenTelemetry wraps httpx's transports,
and many a test suite patches a method by itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from unittest import mock

import httpcore
import httpx
import pytest
import respx
from libraries import goes_straight
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from raw_server import ASK, MESSAGE, REPLY, SSE, STREAM, Connection, RawServer
from variants import Async, Sync

from modelslab_llm import DefaultAsyncHttpxClient, DefaultHttpxClient, RateLimitError

URL = "https://modelslab.com/api/v7/llm/v1/messages"
KEY = "test-key-0000"
EVENTS = b"".join(
    [
        b'data: {"type":"content_block_delta","index":0,"delta":',
        b'{"type":"text_delta","text":"Tamar"}}\n\n',
        b'data: {"type":"message_stop"}\n\n',
    ]
)


def ask(client: Any, verb: str = "create") -> str:
    if verb == "create":
        return str(client.create(**ASK).text)
    with client.stream(**ASK) as streamed:
        return str(streamed.text())


def echo(connection: Connection) -> None:
    connection.send(STREAM if connection.body.get("stream") else REPLY)


# respx


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_respx_answers(variant: Sync | Async, using: str) -> None:
    with respx.mock(using=using) as router:
        route = router.post(URL)
        route.side_effect = [
            httpx.Response(200, json=MESSAGE),
            httpx.Response(200, headers=SSE, content=EVENTS),
            httpx.Response(429, headers={"retry-after": "86400"}),
        ]
        with closing(variant.client(api_key=KEY)) as client:
            assert ask(client) == ask(client, "stream") == "Tamar"
            with pytest.raises(RateLimitError):
                ask(client)
        assert route.call_count == 3
        assert route.calls[0].request.headers["x-api-key"] == KEY


def test_what_respx_lets_through_is_sent(variant: Sync | Async) -> None:
    with RawServer(echo) as server, respx.mock() as router:
        router.route(host="127.0.0.1").pass_through()
        with closing(variant.client(base_url=server.url, api_key=KEY)) as client:
            assert ask(client) == ask(client, "stream") == "Tamar"
        assert server.requests == 2


def test_after_respx_all_is_as_before(variant: Sync | Async) -> None:
    with RawServer(echo) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY)) as client:
            with respx.mock(assert_all_called=False) as router:
                router.post(f"{server.url}/v1/messages").respond(json=MESSAGE)
                assert ask(client) == "Tamar"
            assert server.requests == 0
            assert ask(client) == "Tamar"
            assert server.requests == 1
            assert goes_straight(client.real._http.by_httpx.http)


# OpenTelemetry


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = HTTPXClientInstrumentor()
    tracer.instrument(tracer_provider=provider)
    yield exporter
    tracer.uninstrument()


def test_opentelemetry_sees_each_request(
    variant: Sync | Async, spans: InMemorySpanExporter
) -> None:
    with RawServer(echo) as server:
        with closing(variant.client(base_url=server.url, api_key=KEY)) as client:
            assert ask(client) == ask(client, "stream") == "Tamar"
        assert len(server.connections) == 1  # over the very connections that nobody traces
        assert all(b"traceparent: " in head for head in server.heads())
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["POST", "POST"]
    assert all(KEY not in str(span.to_json()) for span in found)


def test_opentelemetry_around_one_client(variant: Sync | Async) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    http: Any = (DefaultHttpxClient if isinstance(variant, Sync) else DefaultAsyncHttpxClient)()
    HTTPXClientInstrumentor.instrument_client(http, tracer_provider=provider)
    with RawServer(echo) as server:
        client = variant.client(base_url=server.url, api_key=KEY, http_client=http)
        assert ask(client) == ask(client, "stream") == "Tamar"
        assert all(b"traceparent: " in head for head in server.heads())
    assert len(exporter.get_finished_spans()) == 2
    if isinstance(variant, Sync):
        http.close()
    else:
        variant.portal.call(http.aclose)


@pytest.mark.slow
def test_opentelemetry_before_the_package_is_loaded() -> None:
    """`opentelemetry-instrument` patches before the program begins."""
    code = """
import sys
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
HTTPXClientInstrumentor().instrument(tracer_provider=TracerProvider())
import asyncio
from modelslab_llm import AsyncModelsLab, ModelsLab
ask = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
with ModelsLab("k", base_url=sys.argv[1]) as client:
    client.messages.create(**ask)
async def main():
    async with AsyncModelsLab("k", base_url=sys.argv[1]) as client:
        await client.messages.create(**ask)
asyncio.run(main())
"""
    with RawServer(echo) as server:
        subprocess.run([sys.executable, "-c", code, server.url], check=True, timeout=60)
        assert [b"traceparent: " in head for head in server.heads()] == [True, True]


# By hand


WAYS = [
    ("httpx.HTTPTransport.handle_request", "httpx.AsyncHTTPTransport.handle_async_request"),
    ("httpx.Client.send", "httpx.AsyncClient.send"),
    ("httpx.Client._transport_for_url", "httpx.AsyncClient._transport_for_url"),
    ("httpx.Client._send_single_request", "httpx.AsyncClient._send_single_request"),
    (
        "httpcore.ConnectionPool.handle_request",
        "httpcore.AsyncConnectionPool.handle_async_request",
    ),
]


class Seen(Exception):
    """The patch was asked."""


@pytest.mark.parametrize("autospec", [False, True], ids=["", "autospec"])
@pytest.mark.parametrize(("sync", "asynchronous"), WAYS, ids=[way[0] for way in WAYS])
def test_a_method_that_a_test_replaces(
    variant: Sync | Async, sync: str, asynchronous: str, autospec: bool
) -> None:
    where = sync if isinstance(variant, Sync) else asynchronous
    with closing(variant.client(base_url="http://127.0.0.1:1", api_key=KEY)) as client:
        with mock.patch(where, autospec=autospec, side_effect=Seen), pytest.raises(Seen):
            ask(client)


def test_a_transport_that_a_test_puts_in_its_place(variant: Sync | Async) -> None:
    with closing(variant.client(base_url="http://127.0.0.1:1", api_key=KEY)) as client:
        http = client.real._http.by_httpx.http
        http._transport = httpx.MockTransport(lambda request: httpx.Response(200, json=MESSAGE))
        assert ask(client) == "Tamar"


def test_without_any_of_it_httpx_is_not_in_between(variant: Sync | Async) -> None:
    with closing(variant.client(base_url="http://127.0.0.1:1", api_key=KEY)) as client:
        assert goes_straight(client.real._http.by_httpx.http)
    assert httpcore.ConnectionPool.handle_request.__name__ == "handle_request"


HTTPCORE_ALONE = """
import sys, httpcore, modelslab_llm
class Seen(Exception): pass
def seen(self, request): raise Seen(request.url.host)
httpcore.ConnectionPool.handle_request = seen
assert "httpx" not in sys.modules
with modelslab_llm.ModelsLab("k" * 9, base_url="http://127.0.0.1:1") as client:
    try:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
    except Seen as error:
        print(error)
"""


@pytest.mark.slow
def test_who_stands_in_for_httpcore_alone_is_asked() -> None:
    """As recorders do, in a program that has not loaded httpx."""
    done = subprocess.run(
        [sys.executable, "-c", HTTPCORE_ALONE], capture_output=True, text=True, check=True
    )
    assert done.stdout == "b'127.0.0.1'\n"
