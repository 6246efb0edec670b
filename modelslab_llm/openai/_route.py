"""Request a message on a server's chat route: the same question, the same `Message` (protocol.md
§13).

Pure. It joins both directions of the conversion for the code that makes calls; nothing is sent
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._protocol.calls import accepted, not_expected
from .._protocol.messages import Route
from .._protocol.refusals import error_inside, parse_body, request_id
from .._protocol.values import Arrived
from ..types._json import fields_of
from ..types.message import Message, made
from ._chat import Json, Notes
from ._completion import ReadChunks, message_of
from ._request import chat_request

_TELL_USAGE = {"include_usage": True}  # a stream of Messages always counts its tokens


def _write(body: Mapping[str, Any]) -> Json:
    stream = bool(body.get("stream"))
    notes = Notes()
    chat = chat_request({name: body[name] for name in body if name != "stream"}, notes)
    notes.raise_or_warn()
    return {**chat, "stream": True, "stream_options": _TELL_USAGE} if stream else chat


def _read(arrived: Arrived) -> Message:
    answer = accepted(arrived, "chat completions")
    payload = parse_body(answer.body)
    message = None if error_inside(payload) else message_of(fields_of(payload))
    if message is None:
        raise not_expected(answer, "a chat completion", payload)
    return made(Message, message, request_id(answer.headers))


CHAT = Route(
    path="/chat/completions",
    base=lambda endpoint: endpoint.openai_base_url,
    write=_write,
    read=_read,
    translator=ReadChunks,
)
"""The chat route of an endpoint."""
