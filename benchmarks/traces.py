"""Trace the same calls with both libraries, side by side, and measure what tracing costs.

    python -m benchmarks.traces            prints both tables of docs/observability.md
    python -m benchmarks.traces spans      what is on the spans, of an in-memory exporter
    python -m benchmarks.traces cost       CPU per call and per delta, with tracing and without

The anthropic SDK's own tracing is switched on as its documentation says. The spans of the calls are
compared, not those of an instrumented HTTP library, which both can have below.
"""

# ruff: noqa: T201  (the tables are its output)

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply

from .contenders import REQUEST
from .runner import laboratory
from .server import TEXT_DELTAS

LAPS = 15
CALLS = 100  # of a lap
BUSY = ErrorReply(529, "Overloaded", headers={"retry-after-ms": "1"})
USAGE = {"input_tokens": 12, "output_tokens": 6}
CAPITAL = Reply("Paris is the capital of France.", usage=USAGE)
SCRIPTS: Mapping[str, Sequence[Any]] = {
    "retried": [BUSY, BUSY, CAPITAL],
    "streamed": [CAPITAL],
    "left": [CAPITAL],
    "cut": [Reply("Paris is the capital of France.", usage=USAGE, fault=Fault.cut(after=4))],
    "refused": [ErrorReply(400, "No.")],
}


class Telemetry:
    """Providers that keep what they are given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def metrics(self) -> list[str]:
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        scopes = (scope for resource in resources for scope in resource.scope_metrics)
        return sorted(metric.name for scope in scopes for metric in scope.metrics)


def ours(url: str, telemetry: Telemetry | None, retries: int = 2) -> Any:
    from modelslab_llm import ModelsLab

    if telemetry is None:
        return ModelsLab("key", base_url=url, max_retries=retries)
    from modelslab_llm.tracing import OpenTelemetryObserver

    observer = OpenTelemetryObserver(telemetry.tracers, telemetry.meters)
    return ModelsLab("key", base_url=url, max_retries=retries, observers=[observer])


def theirs(url: str, telemetry: Telemetry | None, retries: int = 2) -> Any:
    from anthropic import Anthropic

    traced: Any = {"traces": False}
    if telemetry is not None:
        traced = {"traces": True, "tracer_provider": telemetry.tracers}
    return Anthropic(api_key="key", base_url=url, max_retries=retries, open_telemetry=traced)


MAKERS = {"modelslab_llm": ours, "anthropic": theirs}


@dataclass(frozen=True)
class Traced:
    """What one library left of the calls: spans by scenario, and metrics of all."""

    spans: Mapping[str, list[ReadableSpan]]
    metrics: list[str]
    carried: bool
    """Whether the request carried the context of its span."""

    def attribute(self, scenario: str, name: str) -> object:
        return (self.spans[scenario][-1].attributes or {}).get(name, "-")

    def status(self, scenario: str) -> str:
        return self.spans[scenario][-1].status.status_code.name


def use(client: Any, scenario: str) -> None:
    """Make the call of a scenario."""
    if scenario in ("retried", "refused"):
        client.messages.create(**REQUEST)
        return
    with client.messages.stream(**REQUEST) as stream:
        for _ in stream.text_stream:
            if scenario == "left":
                break


def traced(library: str) -> Traced:
    """Run every scenario with a library."""
    spans: dict[str, list[ReadableSpan]] = {}
    telemetry, carried = Telemetry(), False
    for scenario, script in SCRIPTS.items():
        telemetry.exporter.clear()
        with LocalServer(script, api_key=None) as server:
            retries = 2 if scenario == "retried" else 0
            client = MAKERS[library](server.gateway().base_url, telemetry, retries)
            with suppress(Exception):  # what it raises is not what is compared here
                use(client, scenario)
            client.close()
            carried = any("traceparent" in request.headers for request in server.requests)
        spans[scenario] = list(telemetry.exporter.get_finished_spans())
    return Traced(spans, telemetry.metrics(), carried)


RESENT = "http.request.resend_count"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
FACTS: Mapping[str, Callable[[Traced], object]] = {
    "spans of a call that was retried twice": lambda t: len(t.spans["retried"]),
    "its name": lambda t: f"`{t.spans['retried'][-1].name}`",
    "its events, one a retry, with the reason and the wait": (
        lambda t: len(t.spans["retried"][-1].events)
    ),
    "its `http.request.resend_count`": lambda t: t.attribute(
        "retried", "http.request.resend_count"
    ),
    "its token counts, input and output": lambda t: (
        f"{t.attribute('retried', 'gen_ai.usage.input_tokens')},"
        f" {t.attribute('retried', 'gen_ai.usage.output_tokens')}"
    ),
    "output tokens of a stream": lambda t: t.attribute("streamed", "gen_ai.usage.output_tokens"),
    "time to the first content of a stream": (
        lambda t: "-" if t.attribute("streamed", FIRST_CHUNK) == "-" else "yes"
    ),
    "`finish_reasons`": lambda t: ", ".join(_listed(t, "gen_ai.response.finish_reasons")),
    "status of a stream that was cut": lambda t: t.status("cut"),
    "its `error.type`": lambda t: t.attribute("cut", "error.type"),
    "a stream that was closed early is distinguishable from a complete one": lambda t: (
        "yes" if t.attribute("left", "modelslab.outcome") == "left" or _marked(t) else "no"
    ),
    "status and `error.type` of a 400": (
        lambda t: f"{t.status('refused')}, {t.attribute('refused', 'error.type')}"
    ),
    "trace context in the request's headers": (
        lambda t: "yes" if t.carried else "with the httpx instrumentation"
    ),
    "metrics": lambda t: "<br>".join(f"`{name}`" for name in t.metrics) or "-",
}


def _listed(t: Traced, name: str) -> list[str]:
    found = t.attribute("streamed", name)
    return [str(entry) for entry in found] if isinstance(found, (list, tuple)) else ["-"]


def _marked(t: Traced) -> bool:
    """Tell whether the span of a stream that was left has another status, or more attributes."""
    whole, left = t.spans["streamed"][-1], t.spans["left"][-1]
    more = set(left.attributes or {}) - set(whole.attributes or {})
    return bool(more) or whole.status.status_code is not left.status.status_code


def spans() -> Iterator[str]:
    """Yield the table of what is on the spans."""
    found = {library: traced(library) for library in MAKERS}
    yield f"| | {' | '.join(f'{library} {_version(library)}' for library in MAKERS)} |"
    yield f"|---|{'---|' * len(MAKERS)}"
    for fact, told in FACTS.items():
        yield f"| {fact} | {' | '.join(str(told(found[library])) for library in MAKERS)} |"


def _version(library: str) -> str:
    return version(library.replace("_", "-"))


def lap(client: Any, what: str) -> float:
    """Return the microseconds of CPU for one call, or for one delta of a stream."""
    count = CALLS if what == "message" else 1
    started = time.process_time()
    for _ in range(count):
        if what == "message":
            client.messages.create(**REQUEST)
        else:
            with client.messages.stream(**REQUEST) as stream:
                for _ in stream.text_stream:
                    pass
    each = count if what == "message" else TEXT_DELTAS
    return (time.process_time() - started) / each * 1e6


def cost() -> Iterator[str]:
    """Yield the table of what tracing costs: medians of laps, with and without in turn."""
    yield "| µs CPU | without tracing | with tracing | more |"
    yield "|---|---|---|---|"
    with laboratory() as lab:
        for library, make in MAKERS.items():
            for what, answer in (("a call", "message"), ("a delta of a stream", "text")):
                telemetry = Telemetry()
                clients = [make(lab.url(answer), telemetry and kept) for kept in (None, telemetry)]
                taken: list[list[float]] = [[], []]
                for number in range(LAPS + 1):
                    for client, laps in zip(clients, taken, strict=True):
                        spent = lap(client, answer)
                        if number:  # the first warms up
                            laps.append(spent)
                    telemetry.exporter.clear()
                for client in clients:
                    client.close()
                off, on = map(median, taken)
                more = f"{on - off:+.1f}" if answer == "message" else f"{on - off:+.2f}"
                yield f"| {library}: {what} | {off:.1f} | {on:.1f} | {more} |"


TABLES = {"spans": spans, "cost": cost}


def main(chosen: Sequence[str]) -> None:
    """Print the tables."""
    for name in chosen or TABLES:
        print(*TABLES[name](), "", sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
