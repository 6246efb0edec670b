"""How any server of the table says the same on its chat route: in the OpenAI format. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..._protocol.sse import known_events
from ...openai import to_chat_chunks
from ...openai._chat import Notes
from ...openai._completion import completion_of
from ...types.message import Message
from . import said
from .dialects import Dialect
from .events import Json

__all__ = ["on_chat_route"]


def on_chat_route(dialect: Dialect, *, include_usage: bool) -> Dialect:
    """Return a dialect as it is on the chat route; a stream counts its tokens only if asked to."""
    return replace(
        dialect,
        whole=(_completion,),
        events=(partial(_chunks, include_usage),),
        event_lines=False,
        comment=b"",
        done=True,
        event_error=said.with_code,
        error_line=False,
    )


def _completion(message: Json) -> Json:
    return completion_of(Message.model_validate(message), Notes())


def _chunks(include_usage: bool, events: list[Json]) -> list[Json]:
    read = (known_events().validate_python(event) for event in events)
    return list(to_chat_chunks(read, include_usage=include_usage))
