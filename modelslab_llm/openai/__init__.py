"""Translate between the OpenAI chat format and Messages, in both directions (protocol.md §13).

    from modelslab_llm.openai import to_chat_completion, to_messages

    message = client.messages.create(**to_messages(body))
    completion = to_chat_completion(message)

`to_chat_request` and `from_chat_completion` go the other way, to ask a server's chat route what was
written for Messages; `to_chat_chunks` and `from_chat_chunks` do the same for streams.

Pure, and it needs no package of OpenAI's. Nothing is dropped in silence: what has no place in the
other format is refused with an `InvalidRequestError` where the answer would be another one without
it, and else named in a `NotCarriedOverWarning`; both by its path, such as `messages[2].name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from ..endpoints import Endpoint
from ..errors import InvalidRequestError
from ..types.events import Event, MessageStopEvent
from ..types.message import Message
from ..types.requests import MessageCreateParams
from ._chat import NotCarriedOverWarning, Notes
from ._completion import ReadChunks, WriteChunks, completion_of, message_of
from ._fields import messages_request
from ._request import chat_request

__all__ = [
    "NotCarriedOverWarning",
    "from_chat_chunks",
    "from_chat_completion",
    "to_chat_chunks",
    "to_chat_completion",
    "to_chat_request",
    "to_messages",
]


def to_messages(
    body: Mapping[str, Any],
    *,
    max_tokens: int = 4096,
    keep_reasoning: bool = False,
    endpoint: Endpoint | None = None,
) -> MessageCreateParams:
    """Convert an OpenAI chat body to the parameters of `messages.create` and `messages.stream`.

    What has no equivalent is left out with a warning.

    Args:
        body: What an OpenAI client takes or sends; its messages may be that client's own objects.
        max_tokens: Used where the body has neither `max_completion_tokens` nor `max_tokens`, as
            Messages requires one. Default 4096.
        keep_reasoning: Whether to send `reasoning_content` of earlier turns as thinking without a
            signature, which llama-server and Ollama accept and Anthropic refuses. Default False.
        endpoint: Where it will be sent, such as `client.endpoint`: a gateway is sent a temperature
            above 1 as it is, ModelsLab is sent 1. Default None, as for ModelsLab.

    Returns:
        The parameters.

    Raises:
        InvalidRequestError: What cannot be converted, every problem at once.
    """
    notes = Notes()
    hottest = 1 if endpoint is None else endpoint.max_temperature
    params = messages_request(body, notes, max_tokens, keep_reasoning, hottest)
    notes.raise_or_warn()
    return cast("MessageCreateParams", params)  # put together name by name, and checked when sent


def to_chat_completion(message: Message, *, created: int = 0) -> dict[str, Any]:
    """Convert a message to a `chat.completion`, a plain dict that `json.dumps` takes.

    Thinking becomes `reasoning_content`, and the output in a `ParsedMessage` becomes text.
    Arguments that did not arrive whole are given as they came. The stop text that was hit is in the
    choice's `stop_reason`, as with vLLM.

    Args:
        message: The message.
        created: Unix time in seconds, which a message does not have. Default 0.

    Returns:
        The `chat.completion`.
    """
    notes = Notes()
    completion = completion_of(message, notes, created)
    notes.raise_or_warn()
    return completion


def to_chat_chunks(
    events: Iterable[Event], *, created: int = 0, include_usage: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream as `chat.completion.chunk`s, each as soon as it comes.

    Args:
        events: The events of a message, such as a `MessageStream`. One that ends before its
            message does raises, and so does this.
        created: A Unix time in seconds, for every chunk; a message has none.
        include_usage: Whether a last chunk counts the tokens, as with OpenAI's option of that name.

    Citations, signatures and hidden thinking have no place in a chunk and are left out.
    """
    chunks = WriteChunks(created)
    for event in events:
        yield from chunks.add(event)
        if include_usage and isinstance(event, MessageStopEvent):
            yield chunks.usage()


def to_chat_request(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a chat request that asks what these parameters of `create` ask.

    Args:
        params: What `messages.create` takes, `MessageCreateParams`.

    `output_config.format` becomes `response_format`; a budget for thinking becomes
    `thinking_budget_tokens`, which is llama-server's name for it. Where a tool failed, its result
    begins with "Error:", as a chat message has no other place for that. `extra_headers` and
    `timeout` are kept beside the body, for a client to take.

    Raises:
        InvalidRequestError: With every place that would change the answer and cannot be said.

    Warns of all else that is left out, with `NotCarriedOverWarning`.
    """
    notes = Notes()
    body = chat_request(params, notes)
    notes.raise_or_warn()
    return body


def from_chat_completion(completion: Mapping[str, Any]) -> Message:
    """Convert a `chat.completion` to a message: its first choice.

    `reasoning_content` becomes thinking, `tool_calls` become `tool_use` blocks, whose arguments
    stay as they came where they are not whole.

    Args:
        completion: The `chat.completion`, as parsed JSON.

    Returns:
        The message.

    Raises:
        InvalidRequestError: It has no choices, as an error has none.
    """
    notes = Notes()
    message = message_of(notes.dict_at(completion, "completion"))
    notes.raise_or_warn()
    if message is None:
        raise InvalidRequestError("completion: has no choices, so it is not a chat.completion")
    return message


def from_chat_chunks(chunks: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Convert `chat.completion.chunk`s to the events of a message, each as soon as it comes.

    A stream that ends before its `finish_reason` yields no `message_delta` and no `message_stop`.

    Args:
        chunks: The chunks, as parsed JSON.

    Yields:
        The events.
    """
    reader = ReadChunks()
    for chunk in chunks:
        yield from reader.add(Notes().dict_at(chunk, "chunk")) or ()
    yield from reader.end()
