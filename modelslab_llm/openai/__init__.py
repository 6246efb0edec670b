"""Convert between the OpenAI chat format and Messages, in both directions (protocol.md §13).

    from modelslab_llm.openai import to_chat_completion, to_messages

    message = client.messages.create(**to_messages(body))
    completion = to_chat_completion(message)

`to_chat_request` and `from_chat_completion` convert in the other direction, to use a server's chat
route from a program written for Messages; `to_chat_chunks` and `from_chat_chunks` do the same for
streams.

Pure, and it does not need the `openai` package. Nothing is dropped silently: a field without an
equivalent that would change the answer is refused with an `InvalidRequestError`, and any other is
named in a `NotCarriedOverWarning`; both give its path, such as `messages[2].name`.
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

    What has no equivalent is left out with a warning. `stream` is left out without one: call
    `messages.stream` instead of `messages.create`.

    Args:
        body: The parameters of an OpenAI client, or its request body; messages may be that client's
            own objects.
        max_tokens: Used if the body has neither `max_completion_tokens` nor `max_tokens`, because
            Messages requires a limit. Default 4096.
        keep_reasoning: Whether to send `reasoning_content` of earlier turns as thinking without a
            signature, which llama-server and Ollama accept and Anthropic refuses. Default False.
        endpoint: The endpoint of the request, such as `client.endpoint`: a gateway gets a
            temperature above 1 unchanged, ModelsLab gets 1. Default None, as for ModelsLab.

    Returns:
        The parameters.

    Raises:
        InvalidRequestError: Something cannot be converted; the error lists every problem.
    """
    notes = Notes()
    hottest = 1 if endpoint is None else endpoint.max_temperature
    params = messages_request(body, notes, max_tokens, keep_reasoning, hottest)
    notes.raise_or_warn()
    return cast("MessageCreateParams", params)  # put together name by name, and checked when sent


def to_chat_completion(message: Message, *, created: int = 0) -> dict[str, Any]:
    """Convert a message to a `chat.completion`, a plain dict that `json.dumps` takes.

    Thinking becomes `reasoning_content`, and the output in a `ParsedMessage` becomes text.
    Incomplete arguments are passed on unchanged. The matched stop sequence is in the choice's
    `stop_reason`, as with vLLM.

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
    """Convert the events of a stream to `chat.completion.chunk`s, each as soon as it arrives.

    Args:
        events: The events of a message, such as a `MessageStream`. If it ends before the message is
            complete, it raises, and so does this function.
        created: Unix time in seconds for every chunk, which a message does not have. Default 0.
        include_usage: Whether to add a last chunk with the usage, as with OpenAI's option. Default
            True.

    Citations, signatures and hidden thinking have no equivalent in a chunk and are left out.
    """
    chunks = WriteChunks(created)
    for event in events:
        yield from chunks.add(event)
        if include_usage and isinstance(event, MessageStopEvent):
            yield chunks.usage()


def to_chat_request(params: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the parameters of `create` to the body of a chat request.

    Args:
        params: The parameters of `messages.create`, `MessageCreateParams`.

    `output_config.format` becomes `response_format`, and a thinking budget becomes
    `thinking_budget_tokens`, llama-server's name for it. The result of a failed tool begins with
    "Error:", because a chat message has no flag for it. `extra_headers` and `timeout` are kept
    beside the body, as OpenAI clients take them.

    Raises:
        InvalidRequestError: Something that would change the answer cannot be expressed; the error
            lists every place.

    Everything else that is left out is named in a `NotCarriedOverWarning`.
    """
    notes = Notes()
    body = chat_request(params, notes)
    notes.raise_or_warn()
    return body


def from_chat_completion(completion: Mapping[str, Any]) -> Message:
    """Convert a `chat.completion` to a message: its first choice.

    `reasoning_content` becomes thinking, `tool_calls` become `tool_use` blocks; incomplete
    arguments stay unchanged.

    Args:
        completion: The `chat.completion`, as parsed JSON.

    Returns:
        The message.

    Raises:
        InvalidRequestError: It has no choices, so it is not a completion.
    """
    notes = Notes()
    message = message_of(notes.dict_at(completion, "completion"))
    notes.raise_or_warn()
    if message is None:
        raise InvalidRequestError("completion: has no choices, so it is not a chat.completion")
    return message


def from_chat_chunks(chunks: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Convert `chat.completion.chunk`s to the events of a message, each as soon as it arrives.

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
