"""Decide what is answered: a request in, a plan of bytes out.

A wrong method, key, deployment or body is refused before the script is asked. Must not open a
socket, start a thread, read a clock or await: the owner of a `Plan` sends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from ...types._json import fields_of, is_mapping
from .._dialect.chat import on_chat_route
from .._dialect.dialects import DIALECTS, Dialect
from .._dialect.events import Json, message_of, prompt_words
from .._dialect.forbidden import Forbidden
from .._dialect.kinds import Kind, kind_at
from .._dialect.said import Error, type_of, untraced
from .._script.fault import Fault
from .._script.received import ReceivedRequest
from .._script.script import NEVER_AGAIN, ErrorReply, Replies, Reply
from .plan import Manner, Plan, broken, in_one_piece, streamed, whole

__all__ = ["Rules", "answer", "unreadable"]

_NOTHING_THERE = "There is nothing at {}."
_ONLY = "This server speaks Messages and chat completions only."


ListedModels: TypeAlias = Sequence[str] | Mapping[str, Any] | ErrorReply | None
"""The names of models, a whole body, or a failure."""


@dataclass(frozen=True)
class Rules:
    """The accepted key, and the deployments with their states."""

    api_key: str | None
    """`None` lets everybody in."""
    deployments: Mapping[str, str]
    """State by id: `ready`, `loading`, `unreachable`; any other word means not ready."""
    any_deployment: bool
    """Whether an id that is not in `deployments` counts as ready, rather than as unknown."""
    dialect: Dialect = DIALECTS["anthropic"]
    token_count: int | ErrorReply | None = None
    """What count_tokens counts; `None`: the words of the prompt."""
    models: ListedModels = None
    """What is listed; `None`: some of the kit's own."""


@dataclass(frozen=True)
class _Visit:
    """One request, and the server that answers it."""

    request: ReceivedRequest
    request_id: str
    kind: Kind
    dialect: Dialect
    replies: Replies
    rules: Rules


@dataclass(frozen=True)
class _Route:
    """An operation, and what a request needs to reach it."""

    method: str
    act: Callable[[_Visit], Plan | ErrorReply]
    required: tuple[str, ...] = ()
    """The fields of the body without which it is refused."""


def answer(request: ReceivedRequest, replies: Replies, rules: Rules, *, number: int) -> Plan:
    """Decide the whole response to a request, the `number`th of its server.

    The script is asked only for message calls that are in order: a wrong key, a deployment that
    is not ready or a body that lacks a field does not use up an answer.
    """
    kind, place = kind_at(request.path.partition("?")[0])
    dialect, request_id = rules.dialect, f"req_local_{number:04}"
    outcome: Plan | ErrorReply | None
    if (route := _route_at(place["rest"], kind)) is None:
        outcome = ErrorReply(404, f"{_NOTHING_THERE.format(request.path)} {_ONLY}")
    elif outcome := (
        _wrong_method(request, route.method)
        or _wrong_key(request, kind, rules)
        or _wrong_deployment(place.groupdict().get("deployment"), rules)
    ):
        if kind.guarded:  # by a gateway, in its own words
            dialect = DIALECTS["anthropic"]
    else:
        visit = _Visit(request, request_id, kind, dialect, replies, rules)
        forbidden = kind.forbidden or dialect.forbidden
        outcome = _wrong_body(request, route.required, forbidden) or route.act(visit)
    plan = (
        _failed(outcome, kind, dialect, request_id) if isinstance(outcome, ErrorReply) else outcome
    )
    if not plan.status:
        return plan
    trace = ("request-id" if kind.traced else "") if dialect.trace is None else dialect.trace
    traced = {trace: request_id} if trace and outcome is not dialect.wrong_key else {}
    plan = replace(plan, headers={**dialect.headers, **traced, **plan.headers})
    if words := _unsendable(plan.headers):
        replies.errors.append(ValueError(words))
        failure = ErrorReply(500, words, headers=NEVER_AGAIN)
        plan = _failed(failure, kind, dialect, request_id)
    if request.method == "HEAD" or plan.status in (204, 304):
        plan = replace(plan, chunks=())
    return plan


def _failed(failure: ErrorReply, kind: Kind, dialect: Dialect, request_id: str) -> Plan:
    body: Json | bytes | None = failure.body
    if body is None:
        type_ = failure.type or dialect.types.get(failure.status) or type_of(failure.status)
        words = failure.message or f"Scripted failure with status {failure.status}."
        envelope = dialect.envelope or kind.envelope
        body = envelope(Error(failure.status, type_, words, request_id))
    plan = whole(failure.status, body, dialect.json_label)
    return plan.with_headers(dialect.error_headers).with_headers(failure.headers)


def _unsendable(headers: Mapping[str, str]) -> str:
    """Say which scripted header HTTP does not allow; `""` where all can be sent."""
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            return f"the script has a header that cannot be sent: the name {name!r}"
        if not isinstance(value, str) or not re.fullmatch(r"([!-~]([\t -~]*[!-~])?)?", value):  # pyright: ignore[reportUnnecessaryIsInstance]
            return (
                f"the script has a header that cannot be sent: {name}: {value!r} (only printable"
                " ASCII, without spaces around it)"
            )
    return ""


def unreadable(status: int, message: str) -> Plan:
    """Return the response to what is not HTTP."""
    return whole(status, untraced(Error(status, "invalid_request_error", message, "")))


# The operations: a request that is in order, and what is answered to it


def _create(visit: _Visit) -> Plan | ErrorReply:
    """Answer a message call by the script. What goes wrong with the script is answered with 500."""
    replies = visit.replies
    try:
        found = replies.next(visit.request)
        if isinstance(found, ErrorReply):
            return found
        if isinstance(found, Fault):
            return broken(found)
        if isinstance(found, Reply):
            return _replied(found, visit)
        return _sent(found, visit, Manner(pause=replies.pause))
    except BaseException as error:  # noqa: BLE001 - any code of the user; pytest.fail() is no Exception
        replies.errors.append(error)
        words = f"the script raised {type(error).__name__}: {error}"
        return ErrorReply(500, words, headers=NEVER_AGAIN)


def _create_by_chat(visit: _Visit) -> Plan | ErrorReply:
    """Answer a call of the chat route by the same script, in the words of that format."""
    request = visit.request
    if request.problems:
        return ErrorReply(400, "; ".join(request.problems))
    options = fields_of(fields_of(request.body).get("stream_options"))
    counts = bool(options.get("include_usage"))
    return _create(replace(visit, dialect=on_chat_route(visit.dialect, include_usage=counts)))


def _replied(reply: Reply, visit: _Visit) -> Plan:
    if reply.fault and reply.fault.strikes_first:
        return broken(reply.fault)
    dialect, asked = visit.dialect, visit.request.asked
    message = message_of(
        reply, asked, id=dialect.identify(visit.replies.calls), model=dialect.model(asked["model"])
    )
    dialect, message = dialect.continuing(message, visit.request.prefill)
    visit, message = replace(visit, dialect=dialect), dialect.reworded(message)
    if not visit.request.stream:
        message = dialect.in_one_piece(message)
    manner = Manner(reply.split, reply.pause, reply.fault)
    return _sent(message, visit, manner).with_headers(reply.headers)


def _sent(message: Mapping[str, Any], visit: _Visit, manner: Manner) -> Plan:
    # A body that is no message is sent in one piece even to those who want a stream: that is
    # how servers say `{"error": …}` with status 200 (protocol.md §7.3).
    if visit.request.stream and "content" in message:
        return streamed(message, manner, visit.dialect, visit.request_id)
    return in_one_piece(message, manner, visit.dialect)


def _count_tokens(visit: _Visit) -> Plan | ErrorReply:
    """Count the words of a prompt, or what is scripted, where the server counts at all."""
    asked, tokens = visit.request.body, visit.rules.token_count
    if isinstance(tokens, ErrorReply):
        return tokens
    tokens = prompt_words(asked) if tokens is None else tokens
    counted = visit.dialect.count(asked["model"], tokens)
    if counted is None:
        return ErrorReply(404, _NOTHING_THERE.format(visit.request.path))
    return whole(200, counted, visit.dialect.json_label)


def _list_models(visit: _Visit) -> Plan | ErrorReply:
    """List some models, or those that are scripted."""
    names = visit.rules.models
    if isinstance(names, ErrorReply):
        return names
    if is_mapping(names):
        return whole(200, names, visit.dialect.json_label)
    listed = visit.dialect.models or visit.kind.models
    found = listed(dict(parse_qsl(visit.request.path.partition("?")[2])), names)
    if isinstance(found, ErrorReply):
        return found
    return whole(200, found, visit.dialect.json_label)


_MODELS = _Route("GET", _list_models)
_ROUTES: Mapping[str, _Route] = {
    "/v1/messages": _Route("POST", _create, ("model", "max_tokens", "messages")),
    "/v1/messages/count_tokens": _Route("POST", _count_tokens, ("model", "messages")),
    "/v1/models": _MODELS,
}
_OF_OPENAI: Mapping[str, _Route] = {
    "/chat/completions": _Route("POST", _create_by_chat, ("model", "messages")),
    "/models": _MODELS,
}
"""The paths after the base that OpenAI clients are given."""


def _route_at(path: str, kind: Kind) -> _Route | None:
    if path.startswith(kind.openai) and (found := _OF_OPENAI.get(path.removeprefix(kind.openai))):
        return found
    return _ROUTES.get(path)


# Refusals, before a script is asked


def _wrong_method(request: ReceivedRequest, method: str) -> ErrorReply | None:
    """Refuse another method than the one there is."""
    if request.method == method:
        return None
    return ErrorReply(405, f"Use {method} here.", headers={"allow": method})


def _wrong_key(request: ReceivedRequest, kind: Kind, rules: Rules) -> ErrorReply | None:
    """Refuse a request without the key, or with another key in addition."""
    if rules.api_key is None:
        return None
    sent = request.credentials
    given = {sent[name] for name in kind.credentials if name in sent}
    # Where several are sent, servers differ in which one counts (protocol.md §2): a request is
    # right everywhere only if all of them are.
    if given == {rules.api_key}:
        return None
    return rules.dialect.wrong_key or ErrorReply(401, "Invalid API key.")


# llama-server's own body, which the gateway passes on (protocol.md §7.2).
_LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def _wrong_deployment(deployment: str | None, rules: Rules) -> ErrorReply | None:
    """Refuse in the gateway's own sentences (protocol.md §7.2)."""
    if deployment is None:
        return None
    state = rules.deployments.get(deployment, "ready" if rules.any_deployment else None)
    match state:
        case "ready":
            return None
        case None:
            return ErrorReply(404, "No deployment found for this endpoint.")
        case "loading":
            return ErrorReply(503, body=_LOADING)
        case "unreachable":
            return ErrorReply(
                502,
                "The model endpoint is unreachable right now. "
                "It may be restarting — try again in a moment.",
            )
        case _:
            return ErrorReply(
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


def _wrong_body(
    request: ReceivedRequest, required: tuple[str, ...], forbidden: Forbidden
) -> ErrorReply | None:
    """Refuse a body that lacks one of these fields, or has what the server's documents forbid."""
    if not required:
        return None
    if not _is_object(request.body):
        return ErrorReply(400, "The body is not a JSON object.")
    problems: list[str] = []
    for name in required:
        fits, wanted = _FIELDS[name]
        value = request.body.get(name)
        if value is None:
            problems.append(f"{name}: field required")
        elif not fits(value):
            problems.append(f"{name}: must be {wanted}")
    problems = problems or forbidden.in_body(request.asked)
    return ErrorReply(400, "; ".join(problems)) if problems else None
