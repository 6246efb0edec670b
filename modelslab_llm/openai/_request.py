"""Write the parameters of a message as a chat request: `to_messages` backwards (protocol.md §13).

Pure. What a chat request has no place for goes into `Notes` under its path.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ._chat import Json, Notes

_NO_PLACE = "a chat request has no equivalent"
_SAME = ("model", "max_tokens", "temperature", "top_p", "top_k", "extra_headers", "timeout")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_WITHOUT_EFFECT = {"cache_control", "citations", "signature"}
"""What a block may say that changes no answer of a server of this format."""


def chat_request(params: Mapping[str, Any], notes: Notes) -> Json:
    """Return the chat request that asks the same."""
    rest = {name: value for name, value in params.items() if value is not None}
    body: Json = {name: rest.pop(name) for name in _SAME if name in rest}
    system = _system(rest.pop("system", None), notes)
    turns = notes.list_at(rest.pop("messages", []), "messages")
    body["messages"] = [*system, *_turns(turns, notes)]
    if stop := rest.pop("stop_sequences", None):
        body["stop"] = notes.list_at(stop, "stop_sequences")
    _form(rest, body, notes)
    _thinking(rest, body, notes)
    _tools(rest, body, notes)
    metadata = notes.dict_at(rest.pop("metadata", {}), "metadata")
    if user := metadata.pop("user_id", None):
        body["user"] = user
    extra = notes.dict_at(rest.pop("extra_body", {}), "extra_body")
    rest.pop("cache_control", None)
    for name in (*rest, *(f"metadata.{name}" for name in metadata)):
        notes.drop(name, _NO_PLACE)
    return {**body, **extra}


# The fields beside messages. Each function takes out what it reads.


def _system(value: Any, notes: Notes) -> list[Json]:
    if not value:
        return []
    blocks = [value] if isinstance(value, str) else notes.list_at(value, "system")
    texts = [_text_of(block, f"system[{i}]", notes) for i, block in enumerate(blocks)]
    return [{"role": "system", "content": "\n\n".join(filter(None, texts))}]


def _form(rest: Json, body: Json, notes: Notes) -> None:
    config = notes.dict_at(rest.pop("output_config", {}), "output_config")
    if effort := config.pop("effort", None):
        body["reasoning_effort"] = effort
    if form := notes.dict_at(config.pop("format", None) or {}, "output_config.format"):
        named = {"name": "output", "schema": form.get("schema"), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    for name in config:
        notes.drop(f"output_config.{name}", _NO_PLACE)


def _thinking(rest: Json, body: Json, notes: Notes) -> None:
    """Say how much may be thought; the budget in the word of llama-server, as OpenAI has none."""
    thinking = notes.dict_at(rest.pop("thinking", {}), "thinking")
    kind = thinking.get("type")
    if kind == "disabled":
        body["reasoning_effort"] = "none"
    elif kind == "enabled" and "budget_tokens" in thinking:
        body["thinking_budget_tokens"] = thinking["budget_tokens"]
    elif kind not in (None, "enabled", "adaptive"):
        notes.drop("thinking", _NO_PLACE)


def _tools(rest: Json, body: Json, notes: Notes) -> None:
    tools: list[Json] = []
    for i, tool in enumerate(notes.list_at(rest.pop("tools", []), "tools")):
        fields = notes.dict_at(tool, f"tools[{i}]")
        if "input_schema" not in fields:
            notes.refuse(f"tools[{i}]", f"a chat request has no {fields.get('type')!r}")
            continue
        function = {"name": fields.get("name"), "parameters": fields["input_schema"]}
        more = {name: fields[name] for name in ("description", "strict") if name in fields}
        tools.append({"type": "function", "function": {**function, **more}})
    if tools:
        body["tools"] = tools
    choice = notes.dict_at(rest.pop("tool_choice", {}), "tool_choice")
    if choice.get("type") == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice:
        body["tool_choice"] = _CHOICES.get(str(choice.get("type")), choice.get("type"))
    if choice.get("disable_parallel_tool_use"):
        body["parallel_tool_calls"] = False


# Messages


def _turns(turns: list[Any], notes: Notes) -> list[Json]:
    messages: list[Json] = []
    for i, turn in enumerate(turns):
        path = f"messages[{i}]"
        fields = notes.dict_at(turn, path)
        content = fields.get("content")
        if isinstance(content, str):
            blocks: list[Json] = [{"type": "text", "text": content}] if content else []
        else:
            parts = notes.list_at(content or [], f"{path}.content")
            blocks = [notes.dict_at(each, f"{path}.content[{n}]") for n, each in enumerate(parts)]
        read = _assistant if fields.get("role") == "assistant" else _user
        messages += read(blocks, f"{path}.content", notes)
    return messages


def _user(blocks: list[Json], path: str, notes: Notes) -> list[Json]:
    """Return a user's turn: each tool result becomes a separate message, before the rest."""
    results: list[Json] = []
    rest: list[Json] = []
    for i, block in enumerate(blocks):
        at = f"{path}[{i}]"
        if block.get("type") == "tool_result":
            content = _result(block, at, notes)
            results.append(
                {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content}
            )
        else:
            rest += _part(block, at, notes)
    return [*results, {"role": "user", "content": _alone(rest)}] if rest else results


def _result(block: Json, path: str, notes: Notes) -> Any:
    """Return what a tool gave. Nothing else says that it failed, so the text has to."""
    content = block.get("content") or ""
    if not isinstance(content, str):
        parts = notes.list_at(content, f"{path}.content")
        found: list[Json] = []
        for i, each in enumerate(parts):
            at = f"{path}.content[{i}]"
            found += _part(notes.dict_at(each, at), at, notes)
        content = _alone(found) or ""
    if block.get("is_error") and isinstance(content, str) and not content.startswith("Error"):
        content = f"Error: {content}"
    return content


def _assistant(blocks: list[Json], path: str, notes: Notes) -> list[Json]:
    message: Json = {"role": "assistant", "content": None}
    texts: list[Json] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for i, block in enumerate(blocks):
        match block.get("type"):
            case "text":
                texts += _text(block, path, notes)
            case "thinking":
                thoughts.append(block.get("thinking") or "")
            case "tool_use":
                calls.append(_call(block))
            case kind:
                notes.drop(f"{path}[{i}]", f"a chat message has no {kind!r}")
    if texts:
        message["content"] = _alone(texts)
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return [message] if len(message) > 2 or message["content"] else []


def _call(block: Json) -> Json:
    given: Any = block.get("input") or {}
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _alone(parts: list[Json]) -> Any:
    """Return a single text as a string: not every template takes a list."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        return parts[0]["text"]
    return parts


# Blocks


def _part(block: Json, path: str, notes: Notes) -> list[Json]:
    kind = str(block.get("type"))
    if kind not in _PARTS:
        notes.refuse(path, f"a chat message has no {kind!r}")
        return []
    for name in block.keys() - _WITHOUT_EFFECT - {"type", *_FIELDS[kind]}:
        notes.drop(f"{path}.{name}", _NO_PLACE)
    return _PARTS[kind](block, path, notes)


def _text_of(block: Any, path: str, notes: Notes) -> str:
    return block if isinstance(block, str) else str(notes.dict_at(block, path).get("text") or "")


def _text(block: Json, path: str, notes: Notes) -> list[Json]:
    return [{"type": "text", "text": block["text"]}] if block.get("text") else []


def _image(block: Json, path: str, notes: Notes) -> list[Json]:
    url = _url(block, path, notes)
    return [{"type": "image_url", "image_url": {"url": url}}] if url else []


def _document(block: Json, path: str, notes: Notes) -> list[Json]:
    source = notes.dict_at(block.get("source"), f"{path}.source")
    if source.get("type") == "text":
        return [{"type": "text", "text": source.get("data")}]
    if source.get("type") != "base64":
        notes.refuse(f"{path}.source", "a chat request accepts a document as base64 or as text")
        return []
    file = {"file_data": _url(block, path, notes), "filename": block.get("title") or "document.pdf"}
    return [{"type": "file", "file": file}]


def _url(block: Json, path: str, notes: Notes) -> str | None:
    source = notes.dict_at(block.get("source"), f"{path}.source")
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    if source.get("type") == "url":
        return str(source.get("url"))
    notes.refuse(f"{path}.source", f"a chat request has no source of type {source.get('type')!r}")
    return None


_Writer: TypeAlias = Callable[[Json, str, Notes], "list[Json]"]

_PARTS: Mapping[str, _Writer] = {"text": _text, "image": _image, "document": _document}
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source", "title"),
}
