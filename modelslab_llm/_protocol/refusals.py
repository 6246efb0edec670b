"""Read how a server says no: from its status, its envelope or its words to the error they mean.

Pure: it takes what came, in whichever envelope (protocol.md §7), and never asks for more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from typing_extensions import TypeIs

from ..errors import (
    BY_STATUS,
    APIError,
    APIStatusError,
    ContextOverflowError,
    EndpointNotReadyError,
    InternalServerError,
    OverloadedError,
    RateLimitError,
    UnsupportedOperationError,
)
from ..types._json import fields_of, is_list, is_object
from ..types._reading import read_json, whole
from .overflow import TYPES, Overflow, overflow_in

TYPE_BY_STATUS: dict[int, str] = {  # what Anthropic calls each of its errors (protocol.md §7.1)
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

STATUS_BY_TYPE: dict[str, int] = {  # the other way, and others' words (protocol.md §7.6)
    **{name: status for status, name in TYPE_BY_STATUS.items()},
    "exceed_context_size_error": 400,
    "server_error": 500,
    "internal_error": 500,
    "not_supported_error": 501,
    "unavailable_error": 503,
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

# A 400 by the rules; 413 and 422 elsewhere, and 500 from gateways that wrap another server's 400.
_MAY_BE_OVERFLOW = (400, 413, 422, 500)

_NO_GRAMMAR = "JSON schema conversion failed|failed to parse grammar"
_NEVER_HEALS = r"'\w+' is required|input is not supported"  # protocol.md §7.1


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
    return _error(status, headers, content, now=now, operation=operation)


def from_payload(
    payload: object, headers: Mapping[str, str], *, now: float, in_stream: bool
) -> APIStatusError:
    """Return the error that came inside a 200 answer: its class by its type (protocol.md §7.4)."""
    said = _Said(payload)
    status = STATUS_BY_TYPE.get(said.type or "") or _status_of(said.code) or 500
    error = _error(status, headers, payload, now=now, in_stream=in_stream)
    # The server's own log says 200, so a line that said "HTTP 529" would mislead.
    error._where = "error in a 200 response,"  # pyright: ignore[reportPrivateUsage]
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


def is_refusal(error: APIError) -> TypeIs[RateLimitError | OverloadedError]:
    """Tell whether a server has too much to do, and may take the same request later."""
    return isinstance(error, (RateLimitError, OverloadedError))


def parse_body(body: bytes) -> object:
    """Return the body as JSON, else as text; of an event stream, the JSON of its first event."""
    try:
        return whole(read_json(body.strip()))
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    return _said_in_events(text) if re.match(r"(event|data|id|retry)?:", text) else text


def _said_in_events(text: str) -> object:
    """Return what an event stream says: some proxies refuse a stream request with a status and an
    `error` event as the body. Of several events the one that is an error counts, else the first."""
    said: list[object] = []
    for event in re.split(r"(?:\r\n|\r|\n){2,}", text):
        lines = event.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
        try:
            payload = whole(read_json(data))
        except (ValueError, RecursionError):
            payload = data
        if payload and (error_inside(payload) or "event: error" in lines):
            return payload
        said.append(payload)
    return next((payload for payload in said if payload), text)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id under which the server or its proxy knows the request."""
    found = (_printable(headers[name]) for name in _REQUEST_ID_HEADERS if headers.get(name))
    return next(filter(None, found), None)


def _printable(text: str) -> str:
    """Return an id that can be written to a log: an escape character would command a terminal."""
    return "".join(c for c in text[:200] if c.isprintable()).strip()


def _error(
    status: int,
    headers: Mapping[str, str],
    content: object,
    *,
    now: float,
    operation: str = "",
    in_stream: bool = False,
) -> APIStatusError:
    said = _Said(content)
    kind = _kind(status, said, operation, in_stream)
    message = said.message or f"HTTP {status}"
    if 300 <= status < 400:
        message = f"redirected to {headers.get('location', 'nowhere')!r}, which is not followed"
    elif kind is UnsupportedOperationError:
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
    _explain(error, said)
    return error


def _kind(status: int, said: _Said, operation: str, in_stream: bool) -> type[APIStatusError]:
    """Return the class: the status decides (protocol.md §7.3), the words where they say more."""
    if status in (503, 529) and said.endpoint_status:
        return EndpointNotReadyError
    # In a stream a 500 is not about the prompt, which fitted: others fill the context beside it.
    if status in _MAY_BE_OVERFLOW and said.overflow and not (in_stream and status == 500):
        return ContextOverflowError
    # A 404 of the model or the deployment is about the request, not about the operation.
    about = "deployment" if operation == "models.list" else "deployment|model"
    if status in (404, 405, 501) and operation and not re.search(about, said.message.lower()):
        return UnsupportedOperationError
    return BY_STATUS.get(status, InternalServerError if status >= 500 else APIStatusError)


def _explain(error: APIStatusError, said: _Said) -> None:
    """Write on the error what its kind has beside others, and what to do about it."""
    status = error.status_code
    if isinstance(error, EndpointNotReadyError):
        error.endpoint_status = said.endpoint_status
        error.permanent = said.endpoint_status in _NEEDS_A_PERSON
        error.hint = (
            "a person must resume it"
            if error.permanent
            else "client.wait_until_ready() waits longer"
        )
    elif isinstance(error, ContextOverflowError):
        error.permanent = True
        assert said.overflow is not None
        error.prompt_tokens, error.context_size = said.overflow
        error.hint = "shorten the messages; messages.count_tokens(...) measures them"
    elif 300 <= status < 400 or (status in (404, 405) and not said.in_envelope):
        error.hint = "check the base URL"
    elif status == 400 and re.search(_NO_GRAMMAR, said.message):
        error.hint = (
            "llama-server cannot compile a tool's schema: it accepts patterns only as "
            "^...$ and without \\b or [^\\s], and lengths below 2000"
        )
    elif status == 501 or (status == 500 and re.search(_NEVER_HEALS, said.message)):
        error.permanent = True


class _Said:
    """What the server said, whichever envelope it said it in (protocol.md §7.3)."""

    message: str = ""
    type: str | None = None
    code: int | str | None = None
    request_id: str | None = None
    retry_after: object = None

    def __init__(self, content: object) -> None:
        self._inner: Mapping[str, object] = {}
        self.in_envelope: bool = is_object(content)
        """Whether it was said as an API says it, and not as a page or in plain text."""
        if not is_object(content):
            self.message = _readable(content)
            return
        outer, error = content, content.get("error")
        self._inner = inner = error if is_object(error) else outer

        words: list[object] = [inner.get(name) for name in ("message", "Message", "messege", "msg")]
        if not is_object(error):
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
        told = _name(outer.get("request_id")) or _name(inner.get("request_id"))
        self.request_id = _printable(told or "") or None
        if self.request_id is None and (
            found := re.search(r"\(request id: ([\w-]+)\)", self.message)
        ):
            self.request_id = found[1]
        self.retry_after = outer.get("retry_after", inner.get("retry_after"))

    @property
    def endpoint_status(self) -> str:
        """The gateway's word for why a deployment does not answer; `""` where it has none."""
        if found := re.search(r"not ready \(status: ([\w-]+)\)", self.message):
            return found[1]
        loading = self.type == "unavailable_error" and "loading" in self.message.lower()
        return "loading" if loading else ""

    @property
    def overflow(self) -> Overflow | None:
        """What it says of a prompt that is too long for the model, if it says so."""
        told = overflow_in(self.message)
        if told is None and not {self.type, self.code} & TYPES:
            return None
        told = told or Overflow(None, None)
        return Overflow(
            self._integer("n_prompt_tokens", told.prompt_tokens),
            self._integer("n_ctx", told.context_size),
        )

    def _integer(self, name: str, otherwise: int | None) -> int | None:
        value = self._inner.get(name)
        return value if isinstance(value, int) else otherwise


def _readable(content: object, depth: int = 5) -> str:
    """Return what a person can read in `content`: text, the title of a page, a list of problems."""
    if not depth:
        return ""
    if is_list(content):  # FastAPI: [{"loc": ["body", "max_tokens"], "msg": "…"}]
        return "; ".join(filter(None, (_readable(problem, depth - 1) for problem in content)))
    if is_object(content):
        place = content.get("loc")
        where = ".".join(map(str, place)) if is_list(place) else ""
        what = _readable(content.get("msg") or content.get("message"), depth - 1)
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


def _seconds(value: Any, unit: float) -> float | None:
    try:
        seconds = float(value) * unit
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
