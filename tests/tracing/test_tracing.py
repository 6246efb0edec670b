"""One span a call, around retries and the whole stream, and its metrics: real, in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from variants import Async, Sync

from modelslab_llm import APIError, AsyncModelsLab
from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply
from modelslab_llm.tracing import OpenTelemetryObserver, _names

PROMPT = "a prompt that stays a secret"
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "temperature": 0.5,
    "messages": [{"role": "user", "content": PROMPT}],
}


class Telemetry:
    """Providers that keep what they are given."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._metrics = InMemoryMetricReader()
        self.meters = MeterProvider([self._metrics])

    def observer(self, **options: Any) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(self.tracers, self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def metrics(self) -> dict[str, list[Any]]:
        data = self._metrics.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def client_of(variant: Sync | Async, server: LocalServer, observer: Any) -> Any:
    return variant.client(api_key=server.api_key, endpoint=server.gateway(), observers=[observer])


def test_a_call_that_was_retried_twice_and_streamed(
    variant: Sync | Async, server: LocalServer, telemetry: Telemetry
) -> None:
    again = ErrorReply(529, headers={"retry-after-ms": "1"})
    server.script = [again, again, "one two three"]
    client = client_of(variant, server, telemetry.observer())
    with client.stream(**ASK) as stream:
        assert telemetry.spans == []  # it lasts as long as the stream
        message = stream.message()
    client.close()
    (span,) = telemetry.spans
    told = dict(span.attributes or {})
    assert (span.name, span.kind) == ("chat m", SpanKind.CLIENT)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.max_tokens"] == 64
    assert told["gen_ai.usage.output_tokens"] == message.usage.output_tokens
    assert told["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert told["http.request.resend_count"] == 2
    assert told["modelslab.outcome"] == "complete"
    assert told["server.address"] == "127.0.0.1"
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    assert [name for name, _ in events] == ["modelslab.retry"] * 2
    assert events[0][1]["error.type"] == "OverloadedError"
    assert span.status.status_code is StatusCode.UNSET
    assert PROMPT not in span.to_json()
    assert message.text not in span.to_json()


@pytest.mark.usefixtures("short_pauses")
def test_a_stream_that_was_resumed(
    variant: Sync | Async, server: LocalServer, telemetry: Telemetry
) -> None:
    server.dialect = "llama-server"
    server.script = [Reply("one two three", fault=Fault.cut(after=4)), "one two three"]
    client: Any = variant.client(
        api_key=server.api_key, endpoint=server.gguf("d"), observers=[telemetry.observer()]
    )
    message = client.create(resume=1, **ASK)
    client.close()
    (span,) = telemetry.spans
    (event,) = span.events
    told = dict(event.attributes or {})
    assert event.name == "modelslab.resume"
    assert told["modelslab.resume.reason"] == "interrupted"
    assert told["error.type"] == "StreamInterruptedError"
    assert told["http.request.resend_count"] == 1
    assert message.text == "one two three"
    assert message.text not in span.to_json()


def test_metrics(variant: Sync | Async, server: LocalServer, telemetry: Telemetry) -> None:
    client = client_of(variant, server, telemetry.observer())
    message = client.create(**ASK)
    with client.stream(**ASK) as stream:
        stream.message()
    client.close()
    found = telemetry.metrics()
    assert {name: sum(point.count for point in points) for name, points in found.items()} == {
        _names.DURATION: 2,
        _names.TOKEN_USAGE: 4,
        _names.FIRST_CHUNK: 1,
    }
    outputs = [p for p in found[_names.TOKEN_USAGE] if p.attributes[_names.TOKEN_TYPE] == "output"]
    assert sum(point.sum for point in outputs) == 2 * message.usage.output_tokens
    (point,) = found[_names.DURATION]
    assert tuple(point.explicit_bounds) == tuple(_names.SECONDS)
    assert point.attributes[_names.REQUEST_MODEL] == "m"


def test_failures_and_streams_that_are_left(
    variant: Sync | Async, server: LocalServer, telemetry: Telemetry
) -> None:
    server.script = [
        ErrorReply(401),
        Reply("one two three", pause=0.01),
        Reply("one two", fault=Fault("cut", after=4)),
    ]
    client = client_of(variant, server, telemetry.observer())
    with pytest.raises(APIError):
        client.create(**ASK)
    with client.stream(**ASK) as stream:
        next(stream.texts())
    with pytest.raises(APIError), client.stream(**ASK) as stream:
        stream.message()
    client.close()
    told = [
        (
            dict(span.attributes or {}).get("error.type"),
            dict(span.attributes or {})["modelslab.outcome"],
            span.status.status_code,
        )
        for span in telemetry.spans
    ]
    assert told == [
        ("AuthenticationError", "failed", StatusCode.ERROR),
        (None, "left", StatusCode.UNSET),
        ("StreamInterruptedError", "failed", StatusCode.ERROR),
    ]


@pytest.fixture
def instrumented(telemetry: Telemetry) -> Iterator[None]:
    HTTPXClientInstrumentor().instrument(tracer_provider=telemetry.tracers)
    yield
    HTTPXClientInstrumentor().uninstrument()


@pytest.mark.usefixtures("instrumented")
def test_spans_of_the_http_library_are_children(
    variant: Sync | Async, server: LocalServer, telemetry: Telemetry
) -> None:
    server.script = [ErrorReply(529, headers={"retry-after-ms": "1"}), "one two"]
    tracer = trace.get_tracer("app", tracer_provider=telemetry.tracers)
    client = client_of(variant, server, telemetry.observer())
    with tracer.start_as_current_span("app") as app:
        with client.stream(**ASK) as stream:
            assert trace.get_current_span() is app
            stream.message()
        assert trace.get_current_span() is app
    client.close()
    ids = {span.context.span_id: span.name for span in telemetry.spans if span.context}
    tree = {
        (ids.get(span.parent.span_id) if span.parent else None, span.name)
        for span in telemetry.spans
    }
    assert tree == {(None, "app"), ("app", "chat m"), ("chat m", "POST")}
    assert [span.name for span in telemetry.spans].count("POST") == 2


def test_a_cancelled_call_leaves_the_context_as_it_was(
    server: LocalServer, telemetry: Telemetry
) -> None:
    server.script = Reply("never", fault=Fault("stall"))

    async def main() -> None:
        async with AsyncModelsLab(
            api_key=server.api_key, endpoint=server.gateway(), observers=[telemetry.observer()]
        ) as client:
            before = trace.get_current_span()
            try:
                async with asyncio.timeout(0.2):
                    await client.messages.create(**ASK)
            except TimeoutError:
                pass
            assert trace.get_current_span() is before

    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout came with Python 3.11")
    asyncio.run(main())
    (span,) = telemetry.spans
    assert dict(span.attributes or {})["modelslab.outcome"] == "cancelled"


def test_the_answer_is_on_the_span_only_if_asked_for(
    server: LocalServer, telemetry: Telemetry
) -> None:
    server.script = "an answer"
    with server.client(observers=[telemetry.observer(capture_content=True)]) as client:
        client.messages.create(**ASK)
    (span,) = telemetry.spans
    assert "an answer" in str(dict(span.attributes or {})[_names.OUTPUT_MESSAGES])
    assert PROMPT not in span.to_json()


@pytest.mark.slow
def test_nothing_is_loaded_unless_it_is_used() -> None:
    code = "import sys, modelslab_llm; modelslab_llm.ModelsLab('k'*9); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not [name for name in loaded.stdout.split() if name.startswith("opentelemetry")]


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import modelslab_llm.tracing"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'modelslab-llm[otel]'" in ran.stderr
