"""Read a chat request into the parameters of a message: its messages, and the fields beside them.

Pure. What is wrong, and what has no place in the parameters, goes into `Notes` under its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types._json import is_mapping
from ._chat import Json, Notes, Turns

_JSON_OBJECT = "Answer with one JSON object and nothing else."
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


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


# The fields beside messages. Each function takes out what it reads: what is left has no place.

_CARRIED = {"model", "top_p", "top_k", "extra_headers", "extra_body", "timeout"}
_NEUTRAL: dict[str, object] = {
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "top_logprobs": 0,
    "verbosity": "medium",
}
_WHY = {
    "logprobs": "Messages returns no probabilities",
    "top_logprobs": "Messages returns no probabilities",
    "metadata": "Messages keeps only the id of a user, from the field user",
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
        notes.drop("temperature", f"{temperature} becomes 1, the maximum at ModelsLab")
        temperature = 1
    if temperature is not None:
        params["temperature"] = temperature
    stop = rest.pop("stop", None)
    if stop:
        params["stop_sequences"] = [stop] if isinstance(stop, str) else notes.list_at(stop, "stop")
    if (many := rest.pop("n", 1)) != 1:
        notes.refuse("n", f"Messages returns one answer per request: send it {many} times")


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
        notes.refuse("response_format.type", f"Messages has no {form.get('type')!r}")
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
    rest.pop("stream", None)  # the method says it: messages.create or messages.stream
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
        notes.refuse(path, f"Messages has no choice of type {fields.get('type')!r}")
        return {}
    return {"type": "tool", "name": named["name"]}
