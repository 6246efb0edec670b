"""Say what each operation sends and how its answer is read: one function per endpoint of the API.

Pure: makes `Call` values and reads `Answer` values, sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError

from .._version import __version__
from ..errors import APIError, UnexpectedResponseError
from ..types._base import tolerated
from ..types._reading import read_json, whole
from ..types.message import Message, TokenCount
from ..types.models import ModelInfo
from .check import COUNT, MESSAGE, checked
from .config import Config, Timeout
from .faults import first_fault
from .headers import checked_headers
from .json import encode
from .refusals import error_inside, fields_of, from_payload, from_status, parse_body, request_id
from .values import Answer, Call, Request

VERSION = "2023-06-01"  # the one that compatible servers document (protocol.md §2)
USER_AGENT = f"modelslab-llm-python/{__version__}"
MANY_PAGES = 1000  # a list longer than this has no end


def create_message(
    config: Config, params: Mapping[str, Any], verb: str = "create"
) -> Call[Message]:
    """Return the call behind `messages.create`."""
    return _message_call(config, params, verb, stream=False)


def stream_message(
    config: Config, params: Mapping[str, Any], verb: str = "stream"
) -> Call[Message]:
    """Return the call behind `messages.stream`; a server may answer it with a whole message."""
    return _message_call(config, params, verb, stream=True)


def count_tokens(config: Config, params: Mapping[str, Any]) -> Call[TokenCount]:
    """Return the call behind `messages.count_tokens` (protocol.md §8)."""
    body = checked(params, COUNT, config.endpoint, "count_tokens")
    request = _post(config, "/v1/messages/count_tokens", body, params)

    def read(answer: Answer) -> TokenCount:
        _raise_for_status(answer, operation="count_tokens")
        return _read(answer, TokenCount, "a token count")

    return Call(request, read, body["model"])


@dataclass(frozen=True)
class ModelPage:
    """One page of a list of models, and where the next one starts."""

    models: list[ModelInfo]
    next_after: str | None


def list_models(config: Config, after: str | None = None) -> Call[ModelPage]:
    """Return the call for one page behind `models.list` (protocol.md §9)."""
    query = f"?{urlencode({'after_id': after})}" if after else ""
    request = _request(config, "GET", f"/v1/models{query}")

    def read(answer: Answer) -> ModelPage:
        _raise_for_status(answer, operation="models.list")
        payload = parse_body(answer.body)
        fields = fields_of(payload)
        entries = fields.get("data", fields.get("models"))  # llama-server has both
        if entries is None and fields.keys() & {"data", "models"}:
            entries = []  # what some languages make of an empty list
        if not isinstance(entries, list) or error_inside(payload):
            raise _not_expected(answer, "a list of models", payload)
        try:
            models = [ModelInfo.model_validate(entry) for entry in cast("list[Any]", entries)]
        except ValidationError:
            raise _not_expected(answer, "a list of models", payload) from None
        last = fields.get("last_id") if fields.get("has_more") is True else None
        return ModelPage(models, last if isinstance(last, str) else None)

    return Call(request, read)


def probe(config: Config) -> Call[TokenCount] | None:
    """Return the cheapest call that only a server with its model loaded answers: a token count.

    It needs the name of a model that is there; None where that is not known.
    """
    if config.endpoint.kind == "v7" or config.endpoint.default_model is None:
        return None
    return count_tokens(config, {"messages": [{"role": "user", "content": "ready?"}]})


def _message_call(
    config: Config, params: Mapping[str, Any], verb: str, *, stream: bool
) -> Call[Message]:
    body = checked(params, MESSAGE, config.endpoint, verb)
    betas = body.pop("betas", None)
    if stream:
        body["stream"] = True
    request = _post(config, "/v1/messages", body, params, betas)
    return Call(request, read_message, body["model"])


def read_message(answer: Answer) -> Message:
    """Return the message of an answer, or raise what the answer is instead."""
    _raise_for_status(answer)
    message = _read(answer, Message, "a message")
    if not message.model_fields_set & {"content", "type"} or (
        message.__pydantic_extra__ and (message.__pydantic_extra__.get("error"))
    ):  # every field may be missing, so any object would pass
        raise _not_expected(answer, "a message", parse_body(answer.body))
    message._request_id = request_id(answer.headers)  # pyright: ignore[reportPrivateUsage]
    for name in ("content", "stop_reason", "usage"):
        if name not in message.model_fields_set:
            tolerated(f"{name} missing", message.request_id)
    return message


M = TypeVar("M", bound=BaseModel)


def from_json(model: type[M], body: bytes) -> M:
    """Read a model from JSON, by the fast reader where the JSON is as the standard has it.

    Raises `ValidationError` for what neither reader can read, or what is not the model.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        try:
            payload = whole(read_json(body))
        except (ValueError, RecursionError):
            raise error from None
    return model.model_validate(payload)


def _read(answer: Answer, model: type[M], what: str) -> M:
    try:
        return from_json(model, answer.body)
    except ValidationError as error:
        why = first_fault(error)
    raise _not_expected(answer, what, parse_body(answer.body), why)


def _raise_for_status(answer: Answer, operation: str = "") -> None:
    if not 200 <= answer.status < 300:
        raise from_status(
            answer.status, answer.headers, answer.body, now=time.time(), operation=operation
        )


def _not_expected(answer: Answer, what: str, payload: object, why: str = "") -> APIError:
    """Return the error that a 2xx answer carries, or one that shows what came instead.

    `why` it cannot be read is told where the body looks as if it were meant to be.
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


def _post(
    config: Config,
    path: str,
    body: Mapping[str, Any],
    params: Mapping[str, Any],
    betas: list[str] | None = None,
) -> Request:
    content = encode(body)
    extra = checked_headers(params.get("extra_headers"), "extra_headers")
    if betas:
        extra = checked_headers({"anthropic-beta": ",".join(map(str, betas))}, "betas") | extra
    timeout = Timeout.of(params["timeout"]) if "timeout" in params else config.timeout
    return _request(config, "POST", path, content, extra, timeout, stream=bool(body.get("stream")))


def _request(
    config: Config,
    method: str,
    path: str,
    content: bytes | None = None,
    extra: Mapping[str, str] | None = None,
    timeout: Timeout | None = None,
    stream: bool = False,
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
    if not headers.keys() & config.endpoint.credentials():
        headers |= config.credential()  # one credential, and the caller's own comes first
    url = config.endpoint.base_url + path
    return Request(method, url, headers, content, timeout or config.timeout, stream)
