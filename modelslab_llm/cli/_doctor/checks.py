"""The checks, one function each: look at the endpoint, return what was found. In the order of
`CHECKS`, since each uses what those before it found out.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, get_args
from urllib.parse import urlsplit

from typing_extensions import TypedDict

from modelslab_llm import Message, ModelsLabError, Strategy, ToolParam
from modelslab_llm.endpoints import Auth
from modelslab_llm.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    EndpointNotReadyError,
    InternalServerError,
    OutputError,
    OverloadedError,
    RateLimitError,
    UnsupportedOperationError,
)
from modelslab_llm.types import ToolResultBlockParam

from .._json import is_object
from .finding import Finding, short
from .framing import framing_of
from .look import FailedAt, Seen
from .patient import QUESTION, Patient, deviations

Findings = AsyncIterator[Finding]
Check = Callable[[Patient], Findings]


class Unreachable(Exception):
    """Nothing else can be checked."""


# The way there


async def reach(patient: Patient) -> Findings:
    """Whether anything answers HTTP there, and what of TLS."""
    endpoint = patient.endpoint
    seen = await patient.look.get(f"{endpoint.base_url}/v1/models", patient.headers(endpoint.auth))
    if seen.failed_at == "certificate":
        yield Finding("reachable", "ok", "a server answers the handshake")
        yield Finding(
            "TLS",
            "fails",
            short(seen.failure),
            "for a private CA: SSL_CERT_FILE=ca.pem; otherwise the address is wrong, "
            "or a proxy intercepts the connection",
        )
        raise Unreachable
    if not seen.status:
        yield Finding("reachable", "fails", short(seen.failure), _WAYS[seen.failed_at])
        raise Unreachable
    server = seen.headers.get("server", "")
    yield Finding(
        "reachable",
        "ok",
        f"HTTP {seen.status} in {seen.seconds * 1000:.0f} ms"
        + (f" from {seen.peer}" if seen.peer else "")
        + f", {seen.protocol}"
        + (f", server {short(server)}" if server else ""),
    )
    yield _tls(endpoint.base_url, seen)


_WAYS: Mapping[FailedAt, str] = {
    "name": "the hostname cannot be resolved: check the URL, or the network",
    "connection": "nothing listens there: start the server, or correct the port",
    "TLS": "the server does not speak TLS there: use http://, or the port for https",
    "silence": "the server accepts the connection but does not answer: check its log; if it "
    "speaks plain HTTP, use http://",
    "HTTP": "the server there does not speak HTTP: correct the port",
}


def _tls(base_url: str, seen: Seen) -> Finding:
    if seen.tls:
        return Finding("TLS", "ok", seen.tls)
    host = urlsplit(base_url).hostname
    if host in ("127.0.0.1", "localhost", "::1"):
        return Finding("TLS", "ok", "none, and none is needed on this machine")
    if base_url.startswith("https"):
        return Finding("TLS", "ok", "verified; this connection does not show its details")
    return Finding(
        "TLS", "differs", "none: the key is sent in plain text", "use https:// if there is one"
    )


# The address and the header


async def path(patient: Patient) -> Findings:
    """Whether `{base_url}/v1/messages` is where messages are created, and where else if not."""
    seen = await patient.post()
    if _takes_messages(seen):
        left_out = "; the client adds the /v1, so the URL can end in it or not"
        yield Finding(
            "path /v1/messages", "ok", f"POST: HTTP {seen.status}{left_out * patient.with_v1}"
        )
        return
    evidence = f"POST {patient.endpoint.base_url}/v1/messages: {_told(seen)}"
    for base_url in _other_bases(patient.endpoint.base_url):
        other = await patient.post(base_url)
        if _takes_messages(other):
            yield Finding(
                "path /v1/messages",
                "fails",
                f"{evidence}; POST {base_url}/v1/messages: HTTP {other.status}",
                f"--base-url {base_url}, base_url={base_url!r}",
            )
            patient.endpoint = replace(patient.endpoint, base_url=base_url)
            return
    bare = await patient.look.post(
        f"{patient.endpoint.base_url}/messages",
        patient.headers(patient.endpoint.auth),
        patient.body(),
    )
    if _takes_messages(bare):
        yield Finding(
            "path /v1/messages",
            "fails",
            f"{evidence}; POST {patient.endpoint.base_url}/messages: HTTP {bare.status}",
            "the server has the path without /v1, which this client always sends: add it with a "
            "add it",
        )
        raise Unreachable
    yield Finding(
        "path /v1/messages",
        "fails",
        evidence,
        "use the address that it redirects to"
        if 300 <= seen.status < 400
        else "no similar address accepts Messages requests: check the URL; it may be a server of "
        "another format, or a website",
    )
    raise Unreachable


def _other_bases(base_url: str) -> list[str]:
    """Return where else messages may be created: with the usual prefixes, and further up."""
    parts = urlsplit(base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    steps = [step for step in parts.path.split("/") if step]
    above = [origin + "".join(f"/{step}" for step in steps[:n]) for n in range(len(steps))]
    below = [base_url + prefix for prefix in ("/anthropic", "/api")]
    return [*reversed(above), *below]


def _takes_messages(seen: Seen) -> bool:
    """Tell whether this is an answer to a Messages request; so is a refusal in JSON, or one of the
    key, which comes before all else."""
    if seen.status in (401, 403):
        return True
    said = seen.json
    if not is_object(said) or seen.status in (0, 405):
        return False
    if seen.status == 404:  # of a model, and not of the path
        return "model" in json.dumps(said).lower()
    return seen.status != 200 or "content" in said or "error" in said


def _told(seen: Seen) -> str:
    if not seen.status:
        return short(seen.failure)
    if 300 <= seen.status < 400:
        return f"HTTP {seen.status}, to {short(seen.headers.get('location', 'nowhere'))}"
    return f"HTTP {seen.status}, {seen.kind or 'no content type'}"


async def key(patient: Patient) -> Findings:
    """In which header the server takes the key, each of them tried alone."""
    auth = patient.endpoint.auth
    forms: list[Auth | None] = [*get_args(Auth), None] if patient.key else [None]
    statuses: dict[Auth | None, int] = {}
    url = f"{patient.endpoint.base_url}/v1/messages"
    for form in forms:
        seen = await patient.look.post(url, patient.headers(form), patient.body())
        statuses[form] = seen.status
    evidence = ", ".join(
        f"{form or 'no key'}: {status or 'no answer'}" for form, status in statuses.items()
    )
    taken = _taken(statuses)
    if not patient.key:
        yield _without_key(evidence, open_=None in taken)
    elif auth in taken:
        yield Finding(
            "key", "ok", evidence + ("; no key is needed" if None in taken and auth else "")
        )
    elif taken and taken != [None]:
        form = next(form for form in taken if form)
        yield Finding(
            "key", "fails", evidence, f"--auth {form}, endpoints.gateway(url, auth={form!r})"
        )
        patient.endpoint = replace(patient.endpoint, auth=form)
    else:
        yield Finding(
            "key",
            "fails",
            evidence,
            "the server does not accept this key in any header: it is wrong, expired, or for "
            "another server",
        )
        raise Unreachable


def _taken(statuses: Mapping[Auth | None, int]) -> list[Auth | None]:
    """Return with which header a request was let in. Where none was answered, that is every one
    which was not refused for its key; LiteLLM refuses a missing key with 400, as a bad request."""
    answered: list[Auth | None] = [f for f, status in statuses.items() if 200 <= status < 300]
    return answered or [f for f, status in statuses.items() if status and status not in (401, 403)]


def _without_key(evidence: str, *, open_: bool) -> Finding:
    if open_:
        return Finding("key", "ok", f"{evidence}; no key is needed")
    return Finding(
        "key",
        "fails",
        evidence,
        "the server requires a key: set MODELSLAB_API_KEY, or pass --api-key-file",
    )


# Messages


async def models(patient: Patient) -> Findings:
    """What models there are; it comes before the checks that need the name of one."""
    try:
        async with patient.client() as client:
            found = await client.models.list()
    except UnsupportedOperationError as error:
        yield Finding("models", "absent", said_by(error), "set the model in each request")
        return
    except EndpointNotReadyError as error:
        yield failed("ready", error)
        raise Unreachable from error
    except ModelsLabError as error:
        yield failed("models", error)
        return
    patient.models = found
    names = [model.id for model in found]
    few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    if not names:
        yield Finding("models", "differs", "the list is empty", "set the model in each request")
    elif patient.model and patient.model not in names and len(names) > 1:
        yield Finding(
            "models",
            "differs",
            f"{len(names)}: {few}; {patient.model!r} is not among them",
            "use one of `modelslab models`",
        )
    else:
        yield Finding("models", "ok", short(f"{len(names)}: {few}"))
    if patient.model is None and names:
        patient.model = names[0]


async def create(patient: Patient) -> Findings:
    """Whether an answer in one piece can be read, and how it deviates from the format."""
    with deviations() as tolerated:
        try:
            async with patient.client() as client:
                message = await client.messages.create(
                    model=patient.model or "default", max_tokens=16, messages=_asking(QUESTION)
                )
        except ModelsLabError as error:
            yield failed("create", error)
            return
    evidence = (
        f"{short(message.text)!r}, model {short(message.model)!r}, {message.stop_reason}, "
        f"{message.usage.input_tokens} tokens in, {message.usage.output_tokens} out"
    )
    yield _whole("create", evidence, tolerated, message)


async def stream(patient: Patient) -> Findings:
    """Whether a streamed answer can be read, and how its bytes are framed."""
    with deviations() as tolerated:
        try:
            async with patient.client() as client:
                async with client.messages.stream(
                    model=patient.model or "default", max_tokens=32, messages=_asking(QUESTION)
                ) as streamed:
                    message = await streamed.get_final_message()
        except ModelsLabError as error:
            yield failed("stream", error)
        else:
            evidence = f"{short(message.text)!r}, {message.stop_reason}"
            yield _whole("stream", evidence, tolerated, message)
    seen = patient.streamed = await patient.post(max_tokens=32, stream=True)
    if seen.status == 200:
        for finding in _framing(seen):
            yield finding


def _framing(seen: Seen) -> list[Finding]:
    found = framing_of(seen.body)
    total = found.events.total() + found.broken
    if not total:
        return [
            Finding(
                "stream framing",
                "fails",
                f"no events in {len(seen.body)} bytes of {seen.kind or 'no content type'}",
                "the server ignores `stream`, or a proxy changes the response",
            )
        ]
    odd = [f"the content type is {seen.kind or 'missing'}"] * (seen.kind != "text/event-stream")
    odd += [f"{total - found.named} of {total} events without an `event:` line"] * (
        found.named < total
    )
    odd += [f"{found.broken} events are not JSON with a type"] * bool(found.broken)
    odd += found.odd
    odd += ["data: [DONE] at the end"] * found.done
    pieces = f"{total} events in {seen.chunks} pieces"
    framing = Finding("stream framing", "differs" if odd else "ok", "; ".join([pieces, *odd]))
    pings = found.events["ping"]
    alive = Finding(
        "stream pings",
        "ok" if pings or found.comments else "absent",
        f"{pings} pings, {found.comments} comments",
    )
    return [framing, alive, _end(seen, found.ends_well, found.last)]


def _end(seen: Seen, ends_well: bool, last: str) -> Finding:
    if seen.failure or not ends_well:
        return Finding(
            "stream end",
            "fails",
            f"after {last or 'nothing'}: {short(seen.failure) or 'the end of the body'}",
            "streams break off before the message is complete: check the timeouts and buffers of "
            "proxies",
        )
    if last not in ("message_stop", ""):
        return Finding("stream end", "differs", f"the last event is {short(last)}")
    return Finding("stream end", "ok", "message_stop, then the end of the body")


def _whole(check: str, evidence: str, tolerated: list[str], message: Message) -> Finding:
    odd = list(tolerated)
    odd += ["no stop_reason"] * (message.stop_reason is None)
    odd += ["no usage"] * (not message.usage.model_fields_set)
    told = "; tolerated: " + "; ".join(odd) if odd else ""
    return Finding(check, "differs" if odd else "ok", evidence + told)


def _asking(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# What not every server has

_TOOL: ToolParam = {
    "name": "river_level",
    "description": "The water level of a river, in cm.",
    "input_schema": {
        "type": "object",
        "properties": {"river": {"type": "string"}},
        "required": ["river"],
    },
}


async def tools(patient: Patient) -> Findings:
    """Whether the model can be made to call a tool, and takes its result."""
    asking = _asking("How high is the Tamar? Use the tool.")
    params: dict[str, Any] = {"model": patient.model or "default", "max_tokens": 256}
    params["tools"] = [_TOOL]
    try:
        async with patient.client() as client:
            message = await client.messages.create(
                **params, messages=asking, tool_choice={"type": "any"}
            )
            if not message.tool_uses:
                yield Finding(
                    "tools",
                    "absent",
                    f"tool_choice any was answered with {short(message.text)!r}",
                    "the model or the server does not support tools (llama-server: --jinja and "
                    "a template "
                    "with tools)",
                )
                return
            call = message.tool_uses[0]
            if not call.input_complete:
                yield Finding(
                    "tools", "fails", f"the arguments were truncated: {short(str(call.input))}"
                )
                return
            evidence = f"called {short(call.name)}({_as_json(call.input)})"
            result: ToolResultBlockParam = {
                "type": "tool_result",
                "tool_use_id": call.id,
                "content": "214 cm",
            }
            answer = await client.messages.create(
                **params,
                messages=[*asking, message.to_param(), {"role": "user", "content": [result]}],
            )
    except ModelsLabError as error:
        yield failed("tools", error)
        return
    then = answer.text or ", ".join(use.name for use in answer.tool_uses)
    yield Finding("tools", "ok", f"{evidence}; after its result: {short(then)!r}")


def _as_json(value: object) -> str:
    return short(json.dumps(value, ensure_ascii=False))


class _City(TypedDict):
    name: str
    country: str


async def structured(patient: Patient) -> Findings:
    """By which strategies an answer can be held to a schema."""
    strategies = patient.endpoint.strategies
    found = [await _by(patient, strategy) for strategy in strategies]
    work = [name for name, row in zip(strategies, found, strict=True) if row.verdict == "ok"]
    for row in found:
        instead = f"use strategy={work[0]!r}" if work and row.verdict == "absent" else ""
        yield replace(row, cure=row.cure or instead)


async def _by(patient: Patient, strategy: Strategy) -> Finding:
    check = f"schema: {strategy}"
    try:
        async with patient.client() as client:
            message = await client.messages.parse(
                output=_City,
                strategy=strategy,
                model=patient.model or "default",
                max_tokens=256,
                messages=_asking("Which city is the capital of France? Give its name and country."),
            )
    except OutputError as error:
        return Finding(check, "absent", short(error.reason))
    except ModelsLabError as error:
        finding = failed(check, error)
        return replace(finding, verdict="absent") if finding.verdict == "fails" else finding
    return Finding(check, "ok", _as_json(message.parsed))


async def count_tokens(patient: Patient) -> Findings:
    """Whether tokens can be counted before sending."""
    try:
        async with patient.client() as client:
            counted = await client.messages.count_tokens(
                model=patient.model or "default", messages=_asking(QUESTION)
            )
    except UnsupportedOperationError as error:
        yield Finding(
            "count_tokens", "absent", said_by(error), "use `usage` of the responses instead"
        )
    except ModelsLabError as error:
        yield failed("count_tokens", error)
    else:
        yield Finding("count_tokens", "ok", f"{counted.input_tokens} for {QUESTION!r}")


# How it says no, and what it limits


async def errors(patient: Patient) -> Findings:
    """In which envelope a request is refused that cannot be right."""
    url = f"{patient.endpoint.base_url}/v1/messages"
    seen = await patient.look.post(
        url, patient.headers(patient.endpoint.auth), {"model": patient.model, "max_tokens": 1}
    )
    yield _of_error(seen, _envelope(seen.json))


def _of_error(seen: Seen, envelope: str) -> Finding:
    evidence = f"without messages: HTTP {seen.status}, {envelope}"
    if not seen.status:
        return Finding("errors", "fails", short(seen.failure), "check the server's log")
    if seen.status in (429, 503, 529):
        cure = "the server is busy: check again later"
        return Finding("errors", "unknown", f"HTTP {seen.status}", cure)
    if seen.status < 400:
        return Finding("errors", "differs", f"{evidence}: it was not refused")
    if envelope == NO_ENVELOPE:
        cure = "its errors contain no reason: check the server's log"
        return Finding("errors", "differs", f"{evidence}, {seen.kind or 'no content type'}", cure)
    if seen.status >= 500:
        evidence += ": a client error is reported as a server error"
        return Finding("errors", "differs", evidence)
    return Finding("errors", "ok" if envelope.startswith("anthropic") else "differs", evidence)


NO_ENVELOPE = "not a JSON error"


def _envelope(said: Any) -> str:
    """Name the form of an error (docs/protocol.md, section 7.3)."""
    if not is_object(said):
        return NO_ENVELOPE
    error = said.get("error")
    if is_object(error):
        whose = "anthropic" if said.get("type") == "error" else "other"
        return f"{whose} envelope, error with {short(', '.join(sorted(error)))}"
    for name in ("error", "message", "detail"):
        if isinstance(said.get(name), (str, list)):
            return f"other envelope, only {name}"
    return NO_ENVELOPE


async def limits(patient: Patient) -> Findings:
    """What the server says of its limits, and whether a request can be found in its log."""
    seen = patient.streamed or Seen()
    rates = sorted(name for name in seen.headers if "ratelimit" in name or name == "retry-after")
    told = [f"{name}: {short(seen.headers[name])}" for name in rates]
    ids = [name for name in ("request-id", "x-request-id") if name in seen.headers]
    ids = ids or [name for name in seen.headers if name.endswith(("request-id", "call-id", "-ray"))]
    window = _window(patient)
    told.append(f"context window: {window} tokens" if window else "context window: not reported")
    told.append(f"request id in {ids[0]}" if ids else "no request id")
    yield Finding("limits", "ok" if window or rates else "absent", "; ".join(told))


def _window(patient: Patient) -> int | None:
    known = patient.models or ()
    named = [model for model in known if model.id == patient.model]
    alone = list(known) if len(known) == 1 else []
    return next((model.context_window for model in named or alone), None)


CHECKS: Mapping[str, Check] = {
    "reach": reach,
    "path": path,
    "key": key,
    "models": models,
    "create": create,
    "stream": stream,
    "tools": tools,
    "structured": structured,
    "count_tokens": count_tokens,
    "errors": errors,
    "limits": limits,
}


def said_by(error: ModelsLabError) -> str:
    """Return what went wrong, without what every row would repeat: the URL, the attempts."""
    if isinstance(error, APIStatusError):
        kind = f" {error.type}" if error.type else ""
        return short(f"HTTP {error.status_code}{kind}: {error.message}")
    return short(error.message if isinstance(error, APIError) else str(error))


def failed(check: str, error: ModelsLabError) -> Finding:
    """Return the row for a call that failed; a server that is busy proves nothing."""
    if isinstance(error, (RateLimitError, OverloadedError)):
        return Finding(check, "unknown", said_by(error), "the server is busy: check again later")
    if isinstance(error, EndpointNotReadyError):
        return Finding(
            check, "unknown", said_by(error), "the deployment is not ready: wait, or start it"
        )
    if isinstance(error, APIConnectionError):
        return Finding(check, "fails", said_by(error), "check the server's log")
    cure = "check the server's log" if isinstance(error, InternalServerError) else ""
    return Finding(check, "fails", said_by(error), cure)
