"""Decide what a failure is: the error tree, and the rules from what failed to which error.

    ModelsLabError
    ├─ ConfigurationError            the client was set up wrong (also a ValueError)
    ├─ InvalidRequestError           refused before anything was sent (also a ValueError)
    ├─ APIError                      a call failed after it started
    │  ├─ APIConnectionError         no usable answer: refused, reset, DNS, TLS
    │  │  ├─ APITimeoutError         .phase says which limit was reached
    │  │  └─ StreamInterruptedError  the stream ended before the message did
    │  ├─ UnexpectedResponseError    a 2xx answer that is not a message
    │  └─ APIStatusError             the server said no; one class per status, see BY_STATUS
    └─ ToolError                     raised by the tool and structured-output helpers
       ├─ ToolInputError             the arguments of a call do not fit the tool
       ├─ TooManyTurnsError          the model still calls tools after the last turn allowed
       └─ OutputError                an answer came, but not the output that was asked for
          ├─ OutputTruncatedError    the answer was cut at a limit
          ├─ OutputRefusedError      the model would not answer
          └─ OutputInvalidError      what came does not fit the type

Nothing here sends, waits, or knows an HTTP library. No error ever holds the key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .types.content import ToolUseBlock
    from .types.message import Message, Usage
    from .types.requests import MessageParam

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "ContextOverflowError",
    "EndpointNotReadyError",
    "GatewayTimeoutError",
    "InternalServerError",
    "InvalidRequestError",
    "ModelsLabError",
    "NotFoundError",
    "OutputError",
    "OutputInvalidError",
    "OutputRefusedError",
    "OutputTruncatedError",
    "OverloadedError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ServiceUnavailableError",
    "StreamInterruptedError",
    "TooManyTurnsError",
    "ToolError",
    "ToolInputError",
    "UnexpectedResponseError",
    "UnprocessableEntityError",
    "UnsupportedOperationError",
]

LINE = 500
"""The most characters `str(error)` has: one log line."""


class ModelsLabError(Exception):
    """Everything this package raises on purpose is one of these."""


class ConfigurationError(ModelsLabError, ValueError):
    """A client or a tool was set up wrong: no key, a bad URL or id, a function without types."""


class InvalidRequestError(ModelsLabError, ValueError):
    """The request was refused before anything was sent; the text names each bad place."""


class ToolError(ModelsLabError):
    """A tool or structured-output helper could not do its work."""

    tool_use: ToolUseBlock | None
    """The call that failed, where it is one."""
    messages: list[MessageParam]
    """What a request can go on from: the conversation so far, with every call answered."""

    def __init__(
        self,
        text: str = "",
        *,
        tool_use: ToolUseBlock | None = None,
        messages: Iterable[MessageParam] = (),
    ) -> None:
        super().__init__(text)
        self.tool_use = tool_use
        self.messages = list(messages)


class ToolInputError(ToolError):
    """The arguments of a call do not fit the tool; the text names each place."""


class TooManyTurnsError(ToolError):
    """The model still called tools in the last turn that was allowed; those calls were not run."""


class OutputError(ToolError):
    """An answer came, but not the output that `parse` was asked for. It was paid for all the same:
    it is kept here, with what it cost."""

    message: Message
    """The answer, as the server sent it. `messages` is what to ask again with: as it was asked,
    and for an `OutputInvalidError` with the answer and what is wrong with it."""
    raw_text: str = ""
    """What should have been the output: the arguments of the call, or the answer's text."""
    earlier: tuple[Message, ...] = ()
    """The answers before it that did not fit either, where `retries` allowed for them."""

    @property
    def reason(self) -> str:
        """What is wrong with the answer, in full; `str(error)` may be cut."""
        return str(self.args[0])

    @property
    def usage(self) -> Usage:
        """Token counts of the answer, without the earlier ones."""
        return self.message.usage

    def __str__(self) -> str:
        line = _one_line(self.reason)
        return line if len(line) <= LINE else line[: LINE - 1] + "…"


class OutputTruncatedError(OutputError):
    """The answer was cut at `max_tokens`, or at the end of the model's context."""


class OutputRefusedError(OutputError):
    """The model refused to answer; `message.stop_details` may say why."""


class OutputInvalidError(OutputError):
    """What came is no JSON, or does not fit the type; the text says where, as for the model."""


class _Known(TypedDict, total=False):
    type: str | None
    code: int | str | None
    request_id: str | None
    body: object
    partial_message: Message | None


class APIError(ModelsLabError):
    """A call failed after it started. `str(error)` is one line with all that is known."""

    message: str
    """What went wrong, in the server's own words where it had any."""
    type: str | None
    """The server's name for the failure, such as `"rate_limit_error"`."""
    code: int | str | None
    """The server's code, where it sent one."""
    request_id: str | None
    """What to quote to whoever runs the server."""
    body: object
    """The answer as parsed JSON, or as text where it was not JSON."""
    partial_message: Message | None
    """What had arrived of the message, when a stream failed under way."""

    method: str = ""
    url: str = ""
    attempts: int = 0
    """How many times the request was sent."""
    elapsed: float = 0.0
    """Seconds from the start of the call to its failure."""
    hint: str = ""
    """What to do about it, where there is something to do."""
    permanent: bool = False
    """True when the same call cannot succeed by being repeated; it is then never retried."""

    def __init__(self, message: str, **known: Unpack[_Known]) -> None:
        super().__init__(message)
        self.message = message
        self.type = known.get("type")
        self.code = known.get("code")
        self.request_id = known.get("request_id")
        self.body = known.get("body")
        self.partial_message = known.get("partial_message")

    def _headline(self) -> str:
        return self.message

    def __str__(self) -> str:
        facts = [self.hint] if self.hint else []
        facts += [f"{self.method} {self.url}"] if self.url else []
        if self.request_id:
            facts.append(f"request id {self.request_id}")
        if self.attempts:
            tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
            facts.append(f"{tries}, {self.elapsed:.1f} s")
        tail = f" ({_one_line('; '.join(facts))[: LINE // 2]})" if facts else ""
        head = _one_line(self._headline())
        room = LINE - len(tail)
        return (head if len(head) <= room else head[: room - 1] + "…") + tail


class APIConnectionError(APIError):
    """No usable answer came: the connection was refused, reset, or could not be made secure."""


class APITimeoutError(APIConnectionError):
    """A time limit was reached; `.phase` says which."""

    phase: Literal["connect", "write", "read", "pool", "deadline", "progress", ""] = ""


class StreamInterruptedError(APIConnectionError):
    """The stream ended, or broke, before the message was complete."""


class UnexpectedResponseError(APIError):
    """The server answered 2xx with something that is not a message."""

    status_code: int = 0
    content_type: str = ""


class APIStatusError(APIError):
    """The server said no, by HTTP status or by an error event inside a stream."""

    status_code: int
    """The HTTP status; for an error inside a 200 answer, the status its type stands for."""
    headers: Mapping[str, str]
    """The response headers, names in lower case."""
    retry_after: float | None
    """Seconds the server asked to wait, where it did."""
    in_stream: bool
    """True when the error came as an event inside a stream."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        in_stream: bool = False,
        **known: Unpack[_Known],
    ) -> None:
        super().__init__(message, **known)
        self.status_code = status_code
        self.headers = dict(headers or {})
        self.retry_after = retry_after
        self.in_stream = in_stream

    _where: str = "HTTP"

    def _headline(self) -> str:
        kind = f" {self.type}" if self.type else ""
        silent = self.message == f"HTTP {self.status_code}"
        said = "the server gave no reason" if silent else self.message
        where = "error in the stream," if self.in_stream else self._where
        return f"{where} {self.status_code}{kind}: {said}"


class BadRequestError(APIStatusError):
    """400: the server cannot make sense of the request."""


class ContextOverflowError(BadRequestError):
    """400: prompt and answer do not fit into the model's context."""

    prompt_tokens: int | None = None
    """Tokens in the prompt, where the server said so."""
    context_size: int | None = None
    """Tokens the model can hold, where the server said so."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong, or for another server."""


class PaymentRequiredError(APIStatusError):
    """402: the account has no credit left."""


class PermissionDeniedError(APIStatusError):
    """403: the key is known but may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model, deployment or path; the error shows the URL that was asked."""


class UnsupportedOperationError(NotFoundError):
    """404: the server is there but does not have this operation."""


class RequestTimeoutError(APIStatusError):
    """408: the server waited too long for the request."""


class ConflictError(APIStatusError):
    """409: another request is in the way."""


class RequestTooLargeError(APIStatusError):
    """413: the request has too many bytes."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request has the wrong form."""


class RateLimitError(APIStatusError):
    """429: too many requests; `.retry_after` says how long to wait, where the server did."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class BadGatewayError(InternalServerError):
    """502: the gateway cannot reach the model."""


class ServiceUnavailableError(InternalServerError):
    """503: the server cannot answer now."""


class EndpointNotReadyError(ServiceUnavailableError):
    """503: the deployment does not run yet, or no longer."""

    endpoint_status: str = ""
    """`"deploying"`, `"loading"`, `"paused"`, or another word of the gateway's."""


class GatewayTimeoutError(InternalServerError):
    """504: the model did not answer the gateway in time."""


class OverloadedError(InternalServerError):
    """529: the server has too much to do."""


BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    529: OverloadedError,
}

STATUS_BY_TYPE: dict[str, int] = {  # protocol.md §7.6: what an error event stands for
    "invalid_request_error": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "not_supported_error": 501,
    "unavailable_error": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_REQUEST_ID_HEADERS = (  # protocol.md §2; the edge's own id comes last
    "request-id",
    "x-request-id",
    "x-litellm-call-id",
    "x-oneapi-request-id",
    "x-generation-id",
    "cf-ray",
)

# protocol.md §7.2 is sure of "deploying", nearly of "paused"; the rest is what the words mean.
_NEEDS_A_PERSON = {"paused", "stopped", "suspended", "failed", "error", "terminated", "deleted"}

_NO_GRAMMAR = re.compile("JSON schema conversion failed|failed to parse grammar")
_NEVER_HEALS = re.compile(r"'\w+' is required|input is not supported")  # protocol.md §7.1


def from_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    operation: str = "",
) -> APIStatusError:
    """Return the error for an answer that says no: its class by status, its words by envelope.

    `headers` have lower-case names; `now` (Unix seconds) is used for a `Retry-After` date;
    `operation` is `"count_tokens"` where a 404 may mean that the server does not have it.
    """
    content = parse_body(body)
    return _build(status, headers, content, now=now, operation=operation, in_stream=False)


def from_payload(
    payload: object, headers: Mapping[str, str], *, now: float, in_stream: bool
) -> APIStatusError:
    """Return the error that came inside a 200 answer: its class by its type (protocol.md §7.4)."""
    said = _Said(payload)
    status = STATUS_BY_TYPE.get(said.type or "") or _status_of(said.code) or 500
    error = _build(status, headers, payload, now=now, operation="", in_stream=in_stream)
    # The server's own log says 200, so a line that said "HTTP 529" would mislead.
    error._where = "error in a 200 answer,"  # pyright: ignore[reportPrivateUsage]
    return error


def error_inside(payload: object, *, in_stream: bool = False) -> bool:
    """Tell whether JSON that came with a 200 is an error (protocol.md §7.3, §7.4).

    In a stream `status` and `success` may be about something else, such as a tool's progress.
    """
    fields = fields_of(payload)
    name = fields.get("type")
    if fields.get("error") or name == "error":
        return True
    if isinstance(name, str) and name in STATUS_BY_TYPE and "content" not in fields:
        return True
    return not in_stream and (fields.get("status") == "error" or fields.get("success") is False)


def parse_body(body: bytes) -> object:
    """Return the body as JSON, else as text."""
    text = body.decode("utf-8", "replace").strip().removeprefix("\ufeff")
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError):
        return text


def fields_of(payload: object) -> dict[str, Any]:
    """Return the fields of a JSON object; none for anything else."""
    return cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id under which the server or its proxy knows the request."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def _build(
    status: int,
    headers: Mapping[str, str],
    content: object,
    *,
    now: float,
    operation: str,
    in_stream: bool,
) -> APIStatusError:
    said = _Said(content)
    message = said.message or f"HTTP {status}"
    if 300 <= status < 400:
        message = f"redirected to {headers.get('location', 'nowhere')!r}, which is not followed"
    fallback = InternalServerError if status >= 500 else APIStatusError
    kind = BY_STATUS.get(status, fallback)

    endpoint_status = ""
    if status in (503, 529):
        if found := re.search(r"not ready \(status: ([\w-]+)\)", message):
            endpoint_status = found[1]
        elif said.type == "unavailable_error" and "loading" in message.lower():
            endpoint_status = "loading"
        if endpoint_status:
            kind = EndpointNotReadyError
    overflow = said.type == "exceed_context_size_error" or (
        said.type == "invalid_request_error" and message.startswith("prompt is too long")
    )
    if status == 400 and overflow:
        kind = ContextOverflowError
    # A 404 of the model or the deployment is about the request, not about the operation.
    elif status == 404 and operation and not re.search("deployment|model", message.lower()):
        kind = UnsupportedOperationError
        message = f"this server has no {operation} ({message})"

    error = kind(
        message,
        status_code=status,
        headers=headers,
        retry_after=_retry_after(headers, said.retry_after, now),
        in_stream=in_stream,
        type=said.type,
        code=said.code,
        request_id=request_id(headers) or said.request_id,
        body=content,
    )
    if isinstance(error, EndpointNotReadyError):
        error.endpoint_status = endpoint_status
        error.permanent = endpoint_status in _NEEDS_A_PERSON
        error.hint = (
            "somebody has to resume it"
            if error.permanent
            else "client.wait_until_ready() waits longer"
        )
    elif isinstance(error, ContextOverflowError):
        error.prompt_tokens = said.integer("n_prompt_tokens")
        error.context_size = said.integer("n_ctx")
    elif status == 400 and _NO_GRAMMAR.search(message):
        error.hint = (
            "llama-server cannot make a grammar of a tool's schema: it takes a pattern only as "
            "^…$ and without \\b or [^\\s], and lengths below 2000"
        )
    elif status == 501 or (status == 500 and _NEVER_HEALS.search(message)):
        error.permanent = True
    return error


class _Said:
    """What the server said, whichever envelope it said it in (protocol.md §7.3)."""

    message: str = ""
    type: str | None = None
    code: int | str | None = None
    request_id: str | None = None
    retry_after: object = None

    def __init__(self, content: object) -> None:
        self._inner: Mapping[str, object] = {}
        if not isinstance(content, dict):
            self.message = _readable(content)
            return
        outer = fields_of(cast("object", content))
        error = outer.get("error")
        self._inner = inner = fields_of(cast("object", error)) if isinstance(error, dict) else outer

        words: list[object] = [inner.get(name) for name in ("message", "Message", "messege", "msg")]
        if not isinstance(error, dict):
            words = [error, *words]
        words += (outer.get("message"), inner.get("detail"), outer.get("detail"))
        self.message = next((text for word in words if (text := _readable(word))), "")

        self.type = _name(inner.get("type"))
        if self.type == "error":  # that is the envelope's type, not the failure's
            self.type = None
        code = inner.get("code")
        if code is None:
            code = fields_of(inner.get("details")).get("error_code")
        if isinstance(code, (int, str)) and not isinstance(code, bool):
            self.code = _name(code) if isinstance(code, str) else code
        self.request_id = _name(outer.get("request_id")) or _name(inner.get("request_id"))
        if self.request_id is None and (
            found := re.search(r"\(request id: ([\w-]+)\)", self.message)
        ):
            self.request_id = found[1]
        self.retry_after = outer.get("retry_after", inner.get("retry_after"))

    def integer(self, name: str) -> int | None:
        value = self._inner.get(name)
        return value if isinstance(value, int) else None


def _readable(content: object, depth: int = 5) -> str:
    """Return what a person can read in `content`: text, the title of a page, a list of faults."""
    if not depth:
        return ""
    if isinstance(content, list):  # FastAPI: [{"loc": ["body", "max_tokens"], "msg": "…"}]
        faults = (_readable(fault, depth - 1) for fault in cast("list[object]", content))
        return "; ".join(filter(None, faults))
    if isinstance(content, dict):
        fields = fields_of(cast("object", content))
        place = fields.get("loc")
        where = ".".join(map(str, cast("list[object]", place))) if isinstance(place, list) else ""
        what = _readable(fields.get("msg") or fields.get("message"), depth - 1)
        return f"{where}: {what}" if where and what else what
    if not isinstance(content, str):
        return ""
    if re.match(r"\s*<(!doctype|html|\?xml)", content, re.IGNORECASE):
        # Bounded, or a page of nothing but "<h1" would take the square of its length.
        tags = r"<title[^>]{0,200}>(.{0,500}?)</title>|<h1[^>]{0,200}>(.{0,500}?)</h1>"
        found = re.search(tags, content[:65536], re.S | re.I)
        import html  # for this alone

        return html.unescape(found[1] or found[2] or "").strip() if found else "an HTML page"
    return content.strip()


def _name(value: object) -> str | None:
    """Return a name the server gave, unless it is a language's word for nothing."""
    return value if isinstance(value, str) and value not in ("", "None", "<nil>", "null") else None


def _status_of(code: object) -> int | None:
    number = int(code) if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code) else code
    return number if isinstance(number, int) and 400 <= number < 600 else None


def _retry_after(headers: Mapping[str, str], in_body: object, now: float) -> float | None:
    """Return the seconds the server asked to wait; None for no hint, or one without sense.

    The order is protocol.md §7.5: `retry-after-ms`, `retry-after` in seconds or as a date, the
    body's `retry_after`.
    """
    hints = (
        _seconds(headers.get("retry-after-ms"), 0.001),
        _seconds(headers.get("retry-after"), 1.0),
        _until(headers.get("retry-after"), headers.get("date"), now),
        _seconds(in_body, 1.0),
    )
    return next((hint for hint in hints if hint is not None), None)


def _seconds(value: object, unit: float) -> float | None:
    try:
        seconds = float(cast("str", value)) * unit
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if isfinite(seconds) and seconds >= 0 else None


def _until(date: str | None, sent: str | None, now: float) -> float | None:
    """Return the seconds to an HTTP-date, by the server's own clock where it sent it."""
    moment, here = _moment(date), _moment(sent)
    if moment is None:
        return None
    now = now if here is None else here
    return moment - now if moment >= now else None


def _moment(date: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(date or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LINE]).split())
