"""Say no: to a wrong method, key, deployment or body, before a script is asked. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._dialect.dialects import DIALECTS, Dialect
from .._dialect.kinds import Kind
from .._script.received import ReceivedRequest
from .._script.script import ErrorReply

__all__ = ["Rules", "wrong_body", "wrong_deployment", "wrong_key", "wrong_method"]


@dataclass(frozen=True)
class Rules:
    """Say who is let in, and which deployments there are and in what state."""

    api_key: str | None
    """`None` lets everybody in."""
    deployments: Mapping[str, str]
    """State by id: `ready`, `loading`, `unreachable`; any other word means not ready."""
    any_deployment: bool
    """Whether an id that is not in `deployments` counts as ready, rather than as unknown."""
    dialect: Dialect = DIALECTS["anthropic"]


def wrong_method(request: ReceivedRequest, method: str) -> ErrorReply | None:
    """Refuse another method than the one there is."""
    if request.method == method:
        return None
    return ErrorReply(405, f"Use {method} here.", headers={"allow": method})


def wrong_key(request: ReceivedRequest, kind: Kind, rules: Rules) -> ErrorReply | None:
    """Refuse whoever does not bring the key, or brings another besides."""
    if rules.api_key is None:
        return None
    sent = request.credentials
    given = {sent[name] for name in kind.credentials if name in sent}
    # Where several are sent, servers differ in which one counts (protocol.md §2): a request is
    # right everywhere only if all of them are.
    return None if given == {rules.api_key} else ErrorReply(401, "Invalid API key.")


# llama-server's own body, which the gateway passes on (protocol.md §7.2).
_LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def wrong_deployment(deployment: str | None, rules: Rules) -> ErrorReply | None:
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


def wrong_body(request: ReceivedRequest, required: tuple[str, ...]) -> ErrorReply | None:
    """Refuse a body that lacks one of these fields, or has something else in it."""
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
    return ErrorReply(400, "; ".join(problems)) if problems else None
