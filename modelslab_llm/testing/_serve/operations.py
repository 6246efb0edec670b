"""The operations of the protocol: a request that is in order, and what is answered to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from .._dialect.dialects import Dialect
from .._dialect.events import message_of, prompt_words
from .._dialect.kinds import Kind
from .._script.fault import Fault
from .._script.received import ReceivedRequest
from .._script.script import NEVER_AGAIN, ErrorReply, Replies, Reply
from .plan import Manner, Plan, broken, in_one_piece, streamed, whole

__all__ = ["NOTHING_THERE", "Visit", "count_tokens", "create", "list_models"]

NOTHING_THERE = "There is nothing at {}."


@dataclass(frozen=True)
class Visit:
    """Hold one request, and who answers it."""

    request: ReceivedRequest
    request_id: str
    kind: Kind
    dialect: Dialect
    replies: Replies


def create(visit: Visit) -> Plan | ErrorReply:
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


def _replied(reply: Reply, visit: Visit) -> Plan:
    if reply.fault and reply.fault.strikes_first:
        return broken(reply.fault)
    dialect, asked = visit.dialect, visit.request.body
    message = message_of(
        reply, asked, id=dialect.identify(visit.replies.calls), model=dialect.model(asked["model"])
    )
    message = dialect.said(message)
    if not visit.request.stream:
        message = dialect.in_one_piece(message)
    manner = Manner(reply.split, reply.pause, reply.fault)
    return _sent(message, visit, manner).with_headers(reply.headers)


def _sent(message: Mapping[str, Any], visit: Visit, manner: Manner) -> Plan:
    # A body that is no message is sent in one piece even to those who want a stream: that is
    # how servers say `{"error": …}` with status 200 (protocol.md §7.3).
    if visit.request.stream and "content" in message:
        return streamed(message, manner, visit.dialect, visit.request_id)
    return in_one_piece(message, manner, visit.dialect)


def count_tokens(visit: Visit) -> Plan | ErrorReply:
    """Count the words of a prompt, where the server counts at all."""
    asked = visit.request.body
    counted = visit.dialect.count(asked["model"], prompt_words(asked))
    if counted is None:
        return ErrorReply(404, NOTHING_THERE.format(visit.request.path))
    return whole(200, counted, visit.dialect.json_label)


def list_models(visit: Visit) -> Plan | ErrorReply:
    """List some models."""
    listed = visit.dialect.models or visit.kind.models
    found = listed(dict(parse_qsl(visit.request.path.partition("?")[2])))
    if isinstance(found, ErrorReply):
        return found
    return whole(200, found, visit.dialect.json_label)
