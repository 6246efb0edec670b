"""Decide what is answered: a request in, a plan of bytes out.

Must not open a socket, start a thread, read a clock or await: whoever holds a `Plan` sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .._dialect.dialects import DIALECTS, Dialect
from .._dialect.events import Json
from .._dialect.kinds import Kind, kind_at
from .._dialect.said import Error, type_of, untraced
from .._script.received import ReceivedRequest
from .._script.script import ErrorReply, Replies
from .operations import NOTHING_THERE, Visit, count_tokens, create, list_models
from .plan import Plan, whole
from .refusals import Rules, wrong_body, wrong_deployment, wrong_key, wrong_method

__all__ = ["answer", "unreadable"]


@dataclass(frozen=True)
class Route:
    """An operation, and what a request needs to reach it."""

    method: str
    act: Callable[[Visit], Plan | ErrorReply]
    required: tuple[str, ...] = ()
    """The fields of the body without which it is refused."""


_ROUTES: Mapping[str, Route] = {
    "/v1/messages": Route("POST", create, ("model", "max_tokens", "messages")),
    "/v1/messages/count_tokens": Route("POST", count_tokens, ("model", "messages")),
    "/v1/models": Route("GET", list_models),
}

_ONLY = "This server speaks Messages only."


def answer(request: ReceivedRequest, replies: Replies, rules: Rules, *, number: int) -> Plan:
    """Decide the whole response to a request, the `number`th of its server.

    The script is asked only for message calls that are in order: a wrong key, a deployment that
    is not ready or a body that lacks a field does not use up an answer.
    """
    kind, place = kind_at(request.path.partition("?")[0])
    dialect, request_id = rules.dialect, f"req_local_{number:04}"
    outcome: Plan | ErrorReply | None
    if (route := _ROUTES.get(place["rest"])) is None:
        outcome = ErrorReply(404, f"{NOTHING_THERE.format(request.path)} {_ONLY}")
    elif outcome := (
        wrong_method(request, route.method)
        or wrong_key(request, kind, rules)
        or wrong_deployment(place.groupdict().get("deployment"), rules)
    ):
        if kind.guarded:  # by a gateway, with words of its own
            dialect = DIALECTS["anthropic"]
    else:
        visit = Visit(request, request_id, kind, dialect, replies)
        outcome = wrong_body(request, route.required) or route.act(visit)
    plan = (
        _failed(outcome, kind, dialect, request_id) if isinstance(outcome, ErrorReply) else outcome
    )
    if not plan.status:
        return plan
    trace = ("request-id" if kind.traced else "") if dialect.trace is None else dialect.trace
    traced = {trace: request_id} if trace else {}
    plan = replace(plan, headers={**dialect.headers, **traced, **plan.headers})
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


def unreadable(status: int, message: str) -> Plan:
    """Return the response to what is not HTTP."""
    return whole(status, untraced(Error(status, "invalid_request_error", message, "")))
