"""OpenTelemetry: one span for each call, with its retries and the whole stream, and metrics.

    from modelslab_llm.tracing import OpenTelemetryObserver

    client = ModelsLab(observers=[OpenTelemetryObserver()])

Needs the extra: `pip install 'modelslab-llm[otel]'`. It is an `Observer` like any other: it decides
nothing. Without it, OpenTelemetry is not loaded.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from ..observers import AttemptEnd, CallEnd, ObservedCall, Observer, ResumePlan, RetryPlan
from . import _names as names

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as _missing:
    raise ImportError(
        "modelslab_llm.tracing needs OpenTelemetry: pip install 'modelslab-llm[otel]'"
    ) from _missing

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver(Observer):
    """Trace and measure the calls of a client by the GenAI semantic conventions.

    Each call is one CLIENT span, `chat MODEL`, from its start to the end of its stream. Retries are
    span events. While an attempt is sent, the span is current, so that the spans of an instrumented
    HTTP library become its children. Metrics are histograms of the duration, the time to the first
    chunk, and the tokens. Names are those of one table, `tracing/_names.py`.

    Args:
        tracer_provider: Where spans go; default the global provider.
        meter_provider: Where metrics go; default the global provider.
        capture_content: Whether to add the text of the answer to the span; default False. Prompts
            are never added.
        provider_name: The value of `gen_ai.provider.name`; default `modelslab`.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        capture_content: bool = False,
        provider_name: str = "modelslab",
    ) -> None:
        self._tracer = trace.get_tracer(
            "modelslab_llm", tracer_provider=tracer_provider, schema_url=names.SCHEMA_URL
        )
        meter = metrics.get_meter(
            "modelslab_llm", meter_provider=meter_provider, schema_url=names.SCHEMA_URL
        )
        self._capture_content = capture_content
        self._provider = provider_name
        self._duration = meter.create_histogram(
            names.DURATION,
            unit="s",
            description="Duration of a call, retries and the whole stream included.",
            explicit_bucket_boundaries_advisory=names.SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            names.FIRST_CHUNK,
            unit="s",
            description="Time from the start of a call to the first content of its stream.",
            explicit_bucket_boundaries_advisory=names.SECONDS,
        )
        self._tokens = meter.create_histogram(
            names.TOKEN_USAGE,
            unit="{token}",
            description="Tokens of a call, input and output apart.",
            explicit_bucket_boundaries_advisory=names.TOKENS,
        )

    def on_start(self, call: ObservedCall) -> None:
        """Start the span, as a child of the caller's current span."""
        labels = self._labels(call)
        parameters = {
            names.REQUEST[name]: value
            for name, value in call.parameters.items()
            if name in names.REQUEST
        }
        span = self._tracer.start_span(
            f"{labels[names.OPERATION]} {call.model}".strip(),
            kind=SpanKind.CLIENT,
            attributes={**labels, **parameters, names.REQUEST_STREAM: call.stream},
        )
        call.state[self] = (span, labels, None)

    def on_attempt_start(self, call: ObservedCall, number: int) -> None:
        """Make the span current while the request is sent."""
        span, labels, _ = call.state[self]
        token = context.attach(trace.set_span_in_context(span))
        call.state[self] = (span, labels, token)

    def on_attempt_end(self, call: ObservedCall, attempt: AttemptEnd) -> None:
        """Restore the previous current span."""
        self._detach(call)
        span: Span = call.state[self][0]
        if attempt.status_code is not None:
            span.set_attribute(names.STATUS_CODE, attempt.status_code)

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        """Add an event that says why a call is repeated, and when."""
        span: Span = call.state[self][0]
        span.add_event(
            names.RETRY_EVENT,
            {
                names.RESEND_COUNT: retry.number - 1,
                names.RETRY_WAIT: retry.wait,
                names.ERROR_TYPE: type(retry.error).__name__,
            },
        )

    def on_resume(self, call: ObservedCall, resume: ResumePlan) -> None:
        """Add an event that says why the rest of an answer is asked for, and when."""
        span: Span = call.state[self][0]
        broke = {names.ERROR_TYPE: type(resume.error).__name__} if resume.error else {}
        span.add_event(
            names.RESUME_EVENT,
            {
                names.RESEND_COUNT: resume.number - 1,
                names.RETRY_WAIT: resume.wait,
                names.RESUME_REASON: resume.why,
                **broke,
            },
        )

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        """End the span, and record the metrics."""
        self._detach(call)
        span, labels, _ = call.state.pop(self)
        message, info = end.message, end.info
        labels = dict(labels)
        if message and message.model:
            labels[names.RESPONSE_MODEL] = message.model
        if end.outcome in ("failed", "cancelled"):
            labels[names.ERROR_TYPE] = type(end.error).__name__ if end.error else end.outcome
            text = str(end.error) if end.error else end.outcome
            span.set_status(Status(StatusCode.ERROR, text))
        span.set_attributes({**labels, **self._response(end), names.OUTCOME: end.outcome})
        self._duration.record(end.elapsed, labels)
        if info and info.time_to_first_content is not None:
            self._first_chunk.record(info.time_to_first_content, labels)
        if usage := end.usage:
            for kind in ("input", "output"):
                count: int = getattr(usage, f"{kind}_tokens")
                self._tokens.record(count, {**labels, names.TOKEN_TYPE: kind})
        span.end()

    def _detach(self, call: ObservedCall) -> None:
        span, labels, token = call.state[self]
        if token is not None:
            call.state[self] = (span, labels, None)
            context.detach(token)

    def _labels(self, call: ObservedCall) -> dict[str, Any]:
        parts = urlsplit(call.url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        labels: dict[str, Any] = {
            names.OPERATION: names.OPERATIONS.get(call.operation, call.operation),
            names.PROVIDER: self._provider,
            names.SERVER_ADDRESS: parts.hostname or "",
        }
        if call.model:
            labels[names.REQUEST_MODEL] = call.model
        if port:
            labels[names.SERVER_PORT] = port
        return labels

    def _response(self, end: CallEnd) -> dict[str, Any]:
        """Return the attributes that are known at the end of a call."""
        found: dict[str, Any] = {names.RESEND_COUNT: max(0, end.attempts - 1)}
        if info := end.info:
            found[names.REQUEST_ID] = info.request_id
            found[names.TIME_TO_FIRST_CHUNK] = info.time_to_first_content
        if message := end.message:
            usage = message.usage
            found[names.RESPONSE_ID] = message.id
            found[names.FINISH_REASONS] = [message.stop_reason] if message.stop_reason else []
            found[names.INPUT_TOKENS] = usage.input_tokens
            found[names.OUTPUT_TOKENS] = usage.output_tokens
            found[names.CACHE_READ_TOKENS] = usage.cache_read_input_tokens
            found[names.CACHE_WRITE_TOKENS] = usage.cache_creation_input_tokens
            if self._capture_content:
                said = [{"role": "assistant", "parts": [{"type": "text", "content": message.text}]}]
                found[names.OUTPUT_MESSAGES] = json.dumps(said, ensure_ascii=False)
        return {name: value for name, value in found.items() if value not in (None, [], "")}
