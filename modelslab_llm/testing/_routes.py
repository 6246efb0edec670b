"""Decide what is answered: a request in, a plan of bytes out.

Must not open a socket, start a thread, read a clock or await: whoever holds a `Plan` sends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from . import _models
from ._events import Json, message_of, prompt_words
from ._fault import Fault
from ._plan import Manner, Plan, broken, in_one_piece, streamed, whole
from ._received import ReceivedRequest
from ._script import NEVER_AGAIN, Failure, Replies, Reply

__all__ = ["Rules", "answer", "unreadable"]


@dataclass(frozen=True)
class Rules:
    """Say who is let in, and which deployments there are and in what state."""

    api_key: str | None
    """`None` lets everybody in."""
    deployments: Mapping[str, str]
    """State by id: `ready`, `loading`, `unreachable`; any other word means not ready."""
    any_deployment: bool
    """Whether an id that is not in `deployments` counts as ready, rather than as unknown."""


def answer(request: ReceivedRequest, replies: Replies, rules: Rules, *, number: int) -> Plan:
    """Decide the whole response to a request, the `number`th of its server.

    The script is asked only for message calls that are in order: a wrong key, a deployment that
    is not ready or a body that lacks a field does not use up an answer.
    """
    path = request.path.partition("?")[0]
    kind, place = next((k, m) for k in _KINDS if (m := k.place.fullmatch(path)))
    route = _ROUTES.get(place["rest"])
    outcome: Plan | Failure
    if route is None:
        outcome = Failure(404, f"There is nothing at {request.path}.")
    else:
        outcome = (
            _wrong_method(request, route)
            or _wrong_key(request, kind, rules)
            or _wrong_deployment(place.groupdict().get("deployment"), rules)
            or _wrong_body(request, route)
            or route.act(request, kind, replies)
        )
    request_id = f"req_local_{number:04}"
    plan = outcome if isinstance(outcome, Plan) else _failed(outcome, kind, request_id)
    if kind.traced and plan.status:
        plan = replace(plan, headers={"request-id": request_id, **plan.headers})
    if request.method == "HEAD" or plan.status in (204, 304):
        plan = replace(plan, chunks=())
    return plan


def unreadable(status: int, message: str) -> Plan:
    """Return the response to what is not HTTP."""
    return whole(status, _enveloped_by_anthropic("invalid_request_error", message, None))


# Refusals, in the order in which they are tried


def _wrong_method(request: ReceivedRequest, route: _Route) -> Failure | None:
    if request.method == route.method:
        return None
    return Failure(405, f"Use {route.method} here.", headers={"allow": route.method})


def _wrong_key(request: ReceivedRequest, kind: _Kind, rules: Rules) -> Failure | None:
    if rules.api_key is None:
        return None
    given = {
        _bearer(request.headers[name]) if name == "authorization" else request.headers[name]
        for name in kind.credentials
        if name in request.headers
    }
    # Where several are sent, servers differ in which one counts (protocol.md §2): a request is
    # right everywhere only if all of them are.
    return None if given == {rules.api_key} else Failure(401, "Invalid API key.")


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# llama-server's own body, which the gateway passes on (protocol.md §7.2).
_LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def _wrong_deployment(deployment: str | None, rules: Rules) -> Failure | None:
    """Refuse in the gateway's own sentences (protocol.md §7.2)."""
    if deployment is None:
        return None
    state = rules.deployments.get(deployment, "ready" if rules.any_deployment else None)
    match state:
        case "ready":
            return None
        case None:
            return Failure(404, "No deployment found for this endpoint.")
        case "loading":
            return Failure(503, body=_LOADING)
        case "unreachable":
            return Failure(
                502,
                "The model endpoint is unreachable right now. "
                "It may be restarting — try again in a moment.",
            )
        case _:
            return Failure(
                503,
                f"Endpoint is not ready (status: {state}). It may still be deploying or paused.",
            )


def _is_message_list(value: Any) -> bool:
    match value:
        case [*messages]:
            return bool(messages) and all(map(_is_object, messages))
        case _:
            return False


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str) and value != "", "the name of a model"),
    "max_tokens": (lambda value: type(value) is int and value > 0, "a whole number, at least 1"),
    "messages": (_is_message_list, "a list of at least one message"),
}


def _wrong_body(request: ReceivedRequest, route: _Route) -> Failure | None:
    if not route.required:
        return None
    if not _is_object(request.body):
        return Failure(400, "The body is not a JSON object.")
    problems: list[str] = []
    for name in route.required:
        fits, wanted = _FIELDS[name]
        value = request.body.get(name)
        if value is None:
            problems.append(f"{name}: field required")
        elif not fits(value):
            problems.append(f"{name}: must be {wanted}")
    return Failure(400, "; ".join(problems)) if problems else None


# The three operations


def _create(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    try:
        found = replies.next(request)
        if isinstance(found, Failure):
            return found
        if isinstance(found, Fault):
            return broken(found)
        if isinstance(found, Reply):
            return _replied(found, request, replies.calls)
        return _said(found, request, Manner(pause=replies.pause))
    except BaseException as error:  # noqa: BLE001 - any code of the user; pytest.fail() is no Exception
        replies.errors.append(error)
        words = f"the script raised {type(error).__name__}: {error}"
        return Failure(500, words, headers=NEVER_AGAIN)


def _replied(reply: Reply, request: ReceivedRequest, call: int) -> Plan:
    if reply.fault and reply.fault.strikes_first:
        return broken(reply.fault)
    manner = Manner(reply.split, reply.pause, reply.fault)
    message = message_of(reply, request.body, call)
    return _said(message, request, manner).with_headers(reply.headers)


def _said(message: Mapping[str, Any], request: ReceivedRequest, manner: Manner) -> Plan:
    # A body that is no message is sent in one piece even to those who want a stream: that is
    # how servers say `{"error": …}` with status 200 (protocol.md §7.3).
    in_events = request.stream and "content" in message
    return streamed(message, manner) if in_events else in_one_piece(message, manner)


def _count(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    return whole(200, {"input_tokens": prompt_words(request.body)})


def _list_models(request: ReceivedRequest, kind: _Kind, replies: Replies) -> Plan | Failure:
    found = kind.models(dict(parse_qsl(request.path.partition("?")[2])))
    return found if isinstance(found, Failure) else whole(200, found)


@dataclass(frozen=True)
class _Route:
    method: str
    act: Callable[[ReceivedRequest, _Kind, Replies], Plan | Failure]
    required: tuple[str, ...] = ()


_ROUTES: Mapping[str, _Route] = {
    "/v1/messages": _Route("POST", _create, ("model", "max_tokens", "messages")),
    "/v1/messages/count_tokens": _Route("POST", _count, ("model", "messages")),
    "/v1/models": _Route("GET", _list_models),
}


# The three kinds of endpoint

# Where Anthropic's type is not the usual one of 4xx or 5xx (protocol.md §7.1).
_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _failed(failure: Failure, kind: _Kind, request_id: str) -> Plan:
    body: Json | bytes | None = failure.body
    if body is None:
        usual = "invalid_request_error" if failure.status < 500 else "api_error"
        type_ = failure.type or _TYPES.get(failure.status, usual)
        message = failure.message or f"Scripted failure with status {failure.status}."
        body = kind.envelope(type_, message, request_id)
    return whole(failure.status, body).with_headers(failure.headers)


def _enveloped_by_anthropic(type_: str, message: str, request_id: str | None) -> Json:
    traced = {"request_id": request_id} if request_id else {}
    return {"type": "error", "error": {"type": type_, "message": message}, **traced}


def _enveloped_by_gguf(type_: str, message: str, request_id: str) -> Json:
    return {"error": {"type": type_, "message": message}}


def _enveloped_by_v7(type_: str, message: str, request_id: str) -> Json:
    return {"error": {"message": message, "type": type_, "code": type_.removesuffix("_error")}}


@dataclass(frozen=True)
class _Kind:
    place: re.Pattern[str]
    """The paths of this kind; `rest` is what comes after the base."""
    credentials: tuple[str, ...]
    """The headers that may carry the key (protocol.md §2)."""
    envelope: Callable[[str, str, str], Json]
    models: Callable[[Mapping[str, str]], Json | Failure]
    traced: bool = False
    """Whether each response has a `request-id` header."""


_KINDS = (
    _Kind(
        re.compile(r"/api/v7/llm(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key"),
        _enveloped_by_v7,
        _models.of_v7,
    ),
    _Kind(
        re.compile(r"/api/gguf/(?P<deployment>[^/]+)(?P<rest>(/.*)?)"),
        ("authorization", "x-api-key", "key"),
        _enveloped_by_gguf,
        _models.of_gguf,
    ),
    # Matches whatever is left. A prefix has no empty part and no `v1`: badly joined URLs, such
    # as `//v1/messages` and `/v1/v1/messages`, are to fail here as they do elsewhere.
    _Kind(
        re.compile(r"(/(?!v1/)[^/]+)*(?P<rest>.*)", re.DOTALL),
        ("authorization", "x-api-key", "key"),
        _enveloped_by_anthropic,
        _models.of_gateway,
        traced=True,
    ),
)
