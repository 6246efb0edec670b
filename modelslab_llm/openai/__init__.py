"""Translate between the OpenAI chat format and Messages, in both directions (protocol.md §13).

    from modelslab_llm.openai import to_chat_completion, to_messages

    message = client.messages.create(**to_messages(body))
    completion = to_chat_completion(message)

and the other way round, to ask a server's chat route what was written for Messages:

    from modelslab_llm.openai import from_chat_completion, to_chat_request

    message = from_chat_completion(post(to_chat_request(params)))

`to_chat_chunks` and `from_chat_chunks` do the same for streams.

Pure, and it needs no package of OpenAI's. Nothing is dropped in silence: what has no place in the
other format is refused with an `InvalidRequestError` where the answer would be another one without
it, and else named in a `NotCarriedOverWarning`; both by its path, such as `messages[2].name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from ..endpoints import Endpoint
from ..errors import InvalidRequestError
from ..types._json import is_mapping
from ..types.content import RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from ..types.events import Event, MessageStopEvent
from ..types.message import Message
from ..types.parsed import ParsedMessage
from ..types.requests import MessageCreateParams
from ._chat import Json, NotCarriedOverWarning, Notes, Turns
from ._completion import ReadChunks, WriteChunks, call_of, finish_reason, message_of, usage_of
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

_JSON_OBJECT = "Answer with one JSON object and nothing else."
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def to_messages(
    body: Mapping[str, Any],
    *,
    max_tokens: int = 4096,
    keep_reasoning: bool = False,
    endpoint: Endpoint | None = None,
) -> MessageCreateParams:
    """Return the parameters for `messages.create` or `messages.stream` that ask the same.

    `body` is what an OpenAI client takes or sends; its messages may be that client's own objects.
    `max_tokens` counts where the body has neither `max_completion_tokens` nor `max_tokens`, since
    Messages insists on one. `keep_reasoning` sends `reasoning_content` of earlier turns as thinking
    without a signature, which llama-server and Ollama take and Anthropic refuses. `endpoint` is
    where it will be sent, such as `client.endpoint`: a temperature above 1 stays as it is for a
    gateway, and becomes 1 for ModelsLab, or if none is given. Raises `InvalidRequestError` with
    every problem found, and warns of all else that is left out.
    """
    notes = Notes()
    hottest = 1 if endpoint is None else endpoint.max_temperature
    params = messages_request(body, notes, max_tokens, keep_reasoning, hottest)
    notes.raise_or_warn()
    return cast("MessageCreateParams", params)  # put together name by name, and checked when sent


def messages_request(
    body: Mapping[str, Any], notes: Notes, max_tokens: int, keep_reasoning: bool, hottest: float
) -> Json:
    """Return the parameters that ask the same; what has no place in them goes into the notes."""
    rest = {k: v for k, v in notes.dict_at(body, "body").items() if v is not None}
    system, turns = Turns(notes, keep_reasoning).read(rest.pop("messages", None))
    params: Json = {name: rest.pop(name) for name in _CARRIED & rest.keys()}
    params |= {"max_tokens": max_tokens, "messages": turns}
    _limits(rest, params, hottest, notes)
    _form(rest, params, system, notes)
    _tools(rest, params, notes)
    _remarks(rest, params, notes)
    if system:
        params["system"] = "\n\n".join(system)
    for name, value in rest.items():
        if value is not False and value not in ([], {}) and value != _NEUTRAL.get(name):
            notes.drop(name, _WHY.get(name, "Messages has no such field; see extra_body"))
    return params


def to_chat_completion(message: Message, *, created: int = 0) -> dict[str, Any]:
    """Return a reply as a `chat.completion`, a plain dict that `json.dumps` takes.

    `created` is a Unix time; a message has none. Thinking becomes `reasoning_content`, the output
    in a `ParsedMessage` becomes text, the text of arguments that did not arrive whole is given as
    it came, and the stop text that was hit is in the choice's `stop_reason`, as vLLM has it.
    """
    notes = Notes()
    completion = completion_of(message, notes, created)
    notes.raise_or_warn()
    return completion


def completion_of(message: Message, notes: Notes, created: int = 0) -> Json:
    """Return the completion; what has no place in it goes into the notes."""
    if isinstance(message, ParsedMessage):
        message = message.in_text()
    for i, block in enumerate(message.content):
        path = f"content[{i}]"
        if isinstance(block, TextBlock):
            if block.citations:
                notes.drop(f"{path}.citations", "a chat completion has no place for them")
        elif isinstance(block, ThinkingBlock):
            if block.signature:
                notes.drop(f"{path}.signature", "a chat completion has no place for it")
        elif not isinstance(block, ToolUseBlock):
            kind = "hidden thinking" if isinstance(block, RedactedThinkingBlock) else block.type
            notes.drop(path, f"a chat completion has no place for {kind}")
    refusal = message.stop_details.explanation if message.stop_details else None
    answer: Json = {"role": "assistant", "content": message.text or None, "refusal": refusal}
    if message.thinking:
        answer["reasoning_content"] = message.thinking
    if message.tool_uses:
        answer["tool_calls"] = [call_of(use) for use in message.tool_uses]
    choice: Json = {
        "index": 0,
        "message": answer,
        "logprobs": None,
        "finish_reason": finish_reason(message.stop_reason, bool(message.tool_uses)),
    }
    if message.stop_sequence is not None:
        choice["stop_reason"] = message.stop_sequence
    return {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": message.model,
        "choices": [choice],
        "usage": usage_of(message.usage),
    }


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
    """Return the message that a `chat.completion` holds: its first choice.

    `reasoning_content` becomes thinking, `tool_calls` become `tool_use` blocks, whose arguments
    stay as they came where they are not whole.

    Raises:
        InvalidRequestError: If it has no choices, as an error has none.
    """
    notes = Notes()
    message = message_of(notes.dict_at(completion, "completion"))
    notes.raise_or_warn()
    if message is None:
        raise InvalidRequestError("completion: has no choices, so it is not a chat.completion")
    return message


def from_chat_chunks(chunks: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """Yield the events of the message that comes in `chat.completion.chunk`s.

    A stream that ends before its `finish_reason` yields no `message_delta` and no `message_stop`.
    """
    reader = ReadChunks()
    for chunk in chunks:
        yield from reader.add(Notes().dict_at(chunk, "chunk")) or ()
    yield from reader.end()


# The fields beside messages. Each function takes out what it reads: what is left has no place.

_CARRIED = {"model", "top_p", "top_k", "extra_headers", "extra_body", "timeout"}
_NEUTRAL: dict[str, object] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "top_logprobs": 0,
    "verbosity": "medium",
}
_WHY = {
    "logprobs": "Messages gives no probabilities",
    "top_logprobs": "Messages gives no probabilities",
    "metadata": "Messages keeps none but the id of a user, here the field user",
    "verbosity": "Messages has no such field; say it in the system text",
}


def _limits(rest: Json, params: Json, hottest: float, notes: Notes) -> None:
    """Read how much is asked for, and how it is drawn."""
    limits = [rest.pop(name, None) for name in ("max_completion_tokens", "max_tokens")]
    given = [limit for limit in limits if limit is not None]
    if given:
        params["max_tokens"] = given[0]
        if given[-1] != given[0]:
            notes.drop("max_tokens", "max_completion_tokens counts")
    temperature = rest.pop("temperature", None)
    if isinstance(temperature, (int, float)) and temperature > hottest:
        notes.drop("temperature", f"{temperature} becomes 1, the most that ModelsLab takes")
        temperature = 1
    if temperature is not None:
        params["temperature"] = temperature
    stop = rest.pop("stop", None)
    if stop:
        params["stop_sequences"] = [stop] if isinstance(stop, str) else notes.list_at(stop, "stop")
    if (many := rest.pop("n", 1)) != 1:
        notes.refuse("n", f"Messages gives one answer to a request: ask {many} times")


def _form(rest: Json, params: Json, system: list[str], notes: Notes) -> None:
    """Read in what form to answer, and with how much effort."""
    if (modalities := rest.pop("modalities", ["text"])) != ["text"]:
        notes.refuse("modalities", f"Messages answers in text, not in {modalities}")
    config: Json = {}
    effort = rest.pop("reasoning_effort", None)
    if effort == "none":
        params["thinking"] = {"type": "disabled"}
    elif effort in ("minimal", *_EFFORTS):
        config["effort"] = "low" if effort == "minimal" else effort
    elif effort is not None:
        notes.refuse("reasoning_effort", f"must be one of {', '.join(_EFFORTS)}, not {effort!r}")
    form = notes.dict_at(rest.pop("response_format", {"type": "text"}), "response_format")
    if form.get("type") == "json_schema":
        config["format"] = {"type": "json_schema", "schema": _schema(form, notes)}
    elif form.get("type") == "json_object":
        system.append(_JSON_OBJECT)
        notes.drop("response_format", "Messages has no json_object: the system text asks for it")
    elif form.get("type") != "text":
        notes.refuse("response_format.type", f"Messages knows no {form.get('type')!r}")
    if config:
        params["output_config"] = config


def _schema(form: Json, notes: Notes) -> Json:
    path = "response_format.json_schema"
    asked = notes.dict_at(form.get("json_schema"), path)
    schema = notes.dict_at(asked.get("schema"), f"{path}.schema")
    description = asked.get("description")
    if description and schema.setdefault("description", description) != description:
        notes.drop(f"{path}.description", "the schema has its own")
    # The name is a label that changes nothing, and Messages takes every schema strictly.
    notes.unread(asked, {"name", "description", "schema", "strict"}, path)
    return schema


def _remarks(rest: Json, params: Json, notes: Notes) -> None:
    """Read what is said about the request itself."""
    if rest.pop("stream", False):
        notes.drop("stream", "the verb decides: call client.messages.stream(…)")
    rest.pop("stream_options", None)  # a stream of Messages always counts its tokens
    users = [rest.pop(name, None) for name in ("user", "safety_identifier")]
    if given := [user for user in users if user is not None]:
        params["metadata"] = {"user_id": given[0]}
        if given[-1] != given[0]:
            notes.drop("safety_identifier", "user counts")
    tier = {"auto": "auto", "default": "standard_only"}.get(str(rest.get("service_tier")))
    if tier:
        params["service_tier"] = tier
        del rest["service_tier"]
    if template := rest.pop("chat_template_kwargs", None):
        extra = notes.dict_at(params.get("extra_body", {}), "extra_body")
        params["extra_body"] = {"chat_template_kwargs": template} | extra


# Tools

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def _tools(rest: Json, params: Json, notes: Notes) -> None:
    tools: list[Json] = []
    for i, tool in enumerate(notes.list_at(rest.pop("tools", []), "tools")):
        path = f"tools[{i}]"
        fields = notes.dict_at(tool, path)
        if fields.get("type", "function") != "function":
            notes.refuse(f"{path}.type", f"Messages tools are functions, not {fields['type']!r}")
            continue
        notes.unread(fields, {"type", "function"}, path)
        tools.append(_tool(fields.get("function"), f"{path}.function", notes))
    for i, function in enumerate(notes.list_at(rest.pop("functions", []), "functions")):
        tools.append(_tool(function, f"functions[{i}]", notes))
    if tools:
        params["tools"] = tools
    choice = _choice(rest, notes)
    if rest.pop("parallel_tool_calls", None) is False and tools:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice:
        params["tool_choice"] = choice


def _tool(value: object, path: str, notes: Notes) -> Json:
    function = notes.dict_at(value, path)
    notes.unread(function, {"name", "description", "parameters", "strict"}, path)
    if not function.get("name"):
        notes.refuse(f"{path}.name", "is missing")
    schema: object = function.get("parameters") or {"type": "object", "properties": {}}
    tool: Json = {"name": function.get("name"), "input_schema": schema}
    more = {name: function.get(name) for name in ("description", "strict")}
    return tool | {name: value for name, value in more.items() if value is not None}


def _choice(rest: Json, notes: Notes) -> Json:
    path = "tool_choice" if "tool_choice" in rest else "function_call"
    choice = rest.pop(path, None)
    if choice is None:
        return {}
    if isinstance(choice, str):
        if choice not in _CHOICES:
            notes.refuse(
                path, f"must be one of {', '.join(_CHOICES)} or a function, not {choice!r}"
            )
        return {"type": _CHOICES.get(choice)}
    fields = notes.dict_at(choice, path)
    named = fields if path == "function_call" else fields.get("function")
    if not is_mapping(named) or "name" not in named:
        notes.refuse(path, f"Messages knows no choice of type {fields.get('type')!r}")
        return {}
    return {"type": "tool", "name": named["name"]}
