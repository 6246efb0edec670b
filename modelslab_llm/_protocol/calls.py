"""Build the request of a call, and tell an answer that says yes from all others.

What every operation has in common. What a single one sends and reads is in the module of its
resource: `messages`, `models`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from .._version import __version__
from ..errors import APIError, UnexpectedResponseError
from ..types._json import fields_of
from ..types._reading import from_json
from .config import Config, Timeout
from .headers import checked_headers
from .json import encode
from .problems import first_problem
from .refusals import error_inside, from_payload, from_status, parse_body, request_id
from .values import Answer, Arrived, Request

VERSION = "2023-06-01"  # the one that compatible servers document (protocol.md §2)
USER_AGENT = f"modelslab-llm-python/{__version__}"

M = TypeVar("M", bound=BaseModel)


def get(config: Config, path: str) -> Request:
    """Return a request without a body."""
    return _request(config, "GET", path)


def post(
    config: Config,
    path: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    betas: Sequence[object] = (),
    base: str | None = None,
) -> Request:
    """Return a request with a body; of the parameters it takes those that are not part of it.

    `base` is where the path begins, if that is not the endpoint's base for Messages.
    """
    extra = checked_headers(params.get("extra_headers"), "extra_headers")
    if betas:
        extra = checked_headers({"anthropic-beta": ",".join(map(str, betas))}, "betas") | extra
    timeout = Timeout.of(params["timeout"]) if "timeout" in params else config.timeout
    stream = bool(body.get("stream"))
    return _request(config, "POST", path, encode(body), extra, timeout, stream, base)


def _request(
    config: Config,
    method: str,
    path: str,
    content: bytes | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: Timeout | None = None,
    stream: bool = False,
    base: str | None = None,
) -> Request:
    headers = {
        "accept": "text/event-stream" if stream else "application/json",
        "anthropic-version": VERSION,
        "user-agent": USER_AGENT,
    }
    if content is not None:
        headers["content-type"] = "application/json"
    headers |= config.default_headers
    headers |= extra or {}
    headers = config.with_credential(headers)
    url = (base or config.endpoint.base_url) + path
    return Request(method, url, headers, content, timeout or config.timeout, stream)


def accepted(arrived: Arrived, operation: str = "") -> Answer:
    """Return a successful answer; raise the error that any other answer describes."""
    assert isinstance(arrived, Answer)  # nothing but a call with a reader opens a stream
    if not 200 <= arrived.status < 300:
        raise from_status(
            arrived.status, arrived.headers, arrived.body, now=time.time(), operation=operation
        )
    return arrived


def read_as(model: type[M], answer: Answer, what: str) -> M:
    """Return the body as a model, or raise what the answer is instead of `what` was expected."""
    try:
        return from_json(model, answer.body)
    except ValidationError as error:
        why = first_problem(error)
    raise not_expected(answer, what, parse_body(answer.body), why)


def not_expected(answer: Answer, what: str, payload: object, why: str = "") -> APIError:
    """Return the error that a 2xx answer carries, or one that shows what came instead.

    `why` it cannot be parsed is reported if the body looks as if it should be a message.
    """
    if error_inside(payload):
        return from_payload(payload, answer.headers, now=time.time(), in_stream=False)
    content_type = answer.headers.get("content-type", "")
    if not answer.body.strip():
        hint = "the body is empty"
    elif "choices" in fields_of(payload):
        hint = "that is the OpenAI format: use the base URL of the Messages format"
    else:
        meant = why and answer.body.lstrip().startswith(b"{")
        hint = f"the body begins {answer.beginning()!r}; "
        hint += why if meant else "check the base URL"
    error = UnexpectedResponseError(
        f"HTTP {answer.status} {content_type or 'without a content type'} is not {what}: {hint}",
        body=payload,
        request_id=request_id(answer.headers),
    )
    error.status_code, error.content_type = answer.status, content_type
    return error
