"""Carry requests over from the OpenAI chat format, and replies back to it (protocol.md §13).

    from modelslab_llm.openai import to_chat_completion, to_messages

    message = client.messages.create(**to_messages(body))
    completion = to_chat_completion(message)

Pure, and it needs no package of OpenAI's. Nothing is dropped in silence: what has no place in the
other format is refused with an `InvalidRequestError` where the answer would be another one without
it, and else named in a `NotCarriedOverWarning`; both by its path, such as `messages[2].name`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from ..endpoints import Endpoint
from ..types._json import is_mapping
from ..types.content import RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from ..types.message import CUT, REFUSED, Message
from ..types.parsed import ParsedMessage
from ..types.requests import MessageCreateParams
from ._chat import Json, NotCarriedOverWarning, Notes, Turns

__all__ = ["NotCarriedOverWarning", "to_chat_completion", "to_messages"]

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
    rest = {k: v for k, v in notes.dict_at(body, "body").items() if v is not None}
    system, turns = Turns(notes, keep_reasoning).read(rest.pop("messages", None))
    params: Json = {name: rest.pop(name) for name in _CARRIED & rest.keys()}
    params |= {"max_tokens": max_tokens, "messages": turns}
    _limits(rest, params, 1 if endpoint is None else endpoint.max_temperature, notes)
    _form(rest, params, system, notes)
    _tools(rest, params, notes)
    _remarks(rest, params, notes)
    if system:
        params["system"] = "\n\n".join(system)
    for name, value in rest.items():
        if value is not False and value not in ([], {}) and value != _NEUTRAL.get(name):
            notes.drop(name, _WHY.get(name, "Messages has no such field; see extra_body"))
    notes.raise_or_warn()
    return cast("MessageCreateParams", params)  # put together name by name, and checked when sent


def to_chat_completion(message: Message, *, created: int = 0) -> dict[str, Any]:
    """Return a reply as a `chat.completion`, a plain dict that `json.dumps` takes.

    `created` is a Unix time; a message has none. Thinking becomes `reasoning_content`, the output
    in a `ParsedMessage` becomes text, the text of arguments that did not arrive whole is given as
    it came, and the stop text that was hit is in the choice's `stop_reason`, as vLLM has it.
    """
    notes = Notes()
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
        answer["tool_calls"] = [_as_call(use) for use in message.tool_uses]
    choice: Json = {
        "index": 0,
        "message": answer,
        "logprobs": None,
        "finish_reason": _finish_reason(message),
    }
    if message.stop_sequence is not None:
        choice["stop_reason"] = message.stop_sequence
    notes.raise_or_warn()
    return {
        "id": message.id,
        "object": "chat.completion",
        "created": created,
        "model": message.model,
        "choices": [choice],
        "usage": _usage(message),
    }


# Replies

_FINISH = {
    **dict.fromkeys(CUT, "length"),
    **dict.fromkeys(REFUSED, "content_filter"),
}


def _finish_reason(message: Message) -> str:
    usual = "tool_calls" if message.tool_uses else "stop"  # by the blocks (protocol.md §5)
    return _FINISH.get(message.stop_reason or "", usual)


def _as_call(use: ToolUseBlock) -> Json:
    arguments = use.raw_input if use.raw_input is not None else _dumped(use.input)
    return {
        "id": use.id,
        "type": "function",
        "function": {"name": use.name, "arguments": arguments},
    }


def _usage(message: Message) -> Json:
    usage = message.usage
    cached = usage.cache_read_input_tokens
    prompt = usage.input_tokens + usage.cache_creation_input_tokens + cached
    counted: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if usage.output_tokens_details:
        thought = usage.output_tokens_details.thinking_tokens
        counted["completion_tokens_details"] = {"reasoning_tokens": thought}
    return counted


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


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
        notes.drop("stream", "the verb decides: call client.messages.stream(...)")
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
