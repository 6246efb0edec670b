"""Say what the operations of `client.messages` send, and read what comes back.

Pure: makes `Call` values and reads `Answer` values, sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .._records import record
from ..endpoints import Endpoint
from ..errors import APIError
from ..types._base import tolerated
from ..types.message import Message, TokenCount, counted, made
from .calls import accepted, not_expected, post, read_as
from .check import COUNT, MESSAGE, checked, refuse_ignored_schema
from .config import Config
from .reader import Opened, Reader
from .refusals import from_payload, parse_body, request_id
from .sse import Translator
from .values import Answer, Arrived, Call, Request


@record
class Route:
    """A way to a message that is not the Messages route: where it is, and how it speaks."""

    path: str
    base: Callable[[Endpoint], str]
    """Where the path begins, at an endpoint."""
    write: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Return the body that asks what this body of Messages asks."""
    read: Callable[[Arrived], Message]
    """Return the message of an answer, or raise what the answer is instead."""
    translator: Callable[[], Translator]
    """Return what makes the events of a stream."""


def create_message(
    config: Config, params: Mapping[str, Any], verb: str = "create", route: Route | None = None
) -> Call[Message]:
    """Return the call behind `messages.create`, or the same by another route."""
    body, request = _message_request(config, params, verb, route, stream=False)
    config = config.hiding(request.headers)
    read = route.read if route else read_message
    return Call(config, request, read, None, f"messages.{verb}", body, queues=True)


def stream_message(
    config: Config, params: Mapping[str, Any], verb: str = "stream", route: Route | None = None
) -> Call[Opened[Any]]:
    """Return the call behind `messages.stream`; a server may answer it with a whole message."""
    body, request = _message_request(config, params, verb, route, stream=True)
    config = config.hiding(request.headers)
    reader = partial(_stream_reader, config, body["model"], route)
    return Call(config, request, _read_opened, reader, f"messages.{verb}", body, queues=True)


def count_tokens(config: Config, params: Mapping[str, Any]) -> Call[TokenCount]:
    """Return the call behind `messages.count_tokens` (protocol.md §8)."""
    body = checked(params, COUNT, config.endpoint, "count_tokens")
    request = post(config, "/v1/messages/count_tokens", body, params)

    def read(arrived: Arrived) -> TokenCount:
        answer = accepted(arrived, "count_tokens")
        return counted(read_as(TokenCount, answer, "a token count"), answer.info)

    config = config.hiding(request.headers)
    return Call(config, request, read, None, "messages.count_tokens", body)


def _message_request(
    config: Config, params: Mapping[str, Any], verb: str, route: Route | None, *, stream: bool
) -> tuple[dict[str, Any], Request]:
    body = checked(params, MESSAGE, config.endpoint, verb)
    betas = body.pop("betas", ())
    if stream:
        body["stream"] = True
    if route is None:
        refuse_ignored_schema(params, config.endpoint)
        return body, post(config, "/v1/messages", body, params, betas)
    own: Mapping[str, Any] = params.get("extra_body") or {}  # is part of the body by now
    theirs = {**route.write({k: v for k, v in body.items() if k not in own}), **own}
    return body, post(config, route.path, theirs, params, betas, route.base(config.endpoint))


def read_message(arrived: Arrived) -> Message:
    """Return the message of an answer, or raise what the answer is instead."""
    answer = accepted(arrived)
    message = read_as(Message, answer, "a message")
    if not message.model_fields_set & {"content", "type"} or (
        message.__pydantic_extra__ and message.__pydantic_extra__.get("error")
    ):  # every field may be missing, so any object would pass
        raise not_expected(answer, "a message", parse_body(answer.body))
    info = answer.info
    known = info.request_id if info else request_id(answer.headers)
    message = made(Message, message, known or message.request_id, info=info)
    for name in ("content", "stop_reason", "usage"):
        if name not in message.model_fields_set:
            tolerated(f"{name} missing", message.request_id)
    return message


def _read_opened(arrived: Arrived) -> Opened[Any]:
    if isinstance(arrived, Opened):
        return arrived
    # Whatever says yes is read as a stream, so this raises: the sender opened none.
    raise not_expected(accepted(arrived), "a stream", parse_body(arrived.body))


def _stream_reader(
    config: Config, model: str, route: Route | None, status: int, headers: Mapping[str, str]
) -> Reader:
    read = route.read if route else read_message

    def failure(payload: object) -> APIError:
        return from_payload(payload, headers, now=time.time(), in_stream=True)

    def whole(body: bytes) -> Message:
        return read(Answer(status, headers, body, config.hide_key))

    return Reader(
        model,
        config.max_response_bytes,
        failure,
        config.hide_key,
        label=headers.get("content-type", ""),
        whole=whole,
        request_id=request_id(headers),
        status=status,
        headers=headers,
        translator=route.translator() if route else None,
    )
