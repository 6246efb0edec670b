"""Recognise the shapes of other formats, and say what they are here. Pure; changes nothing.

OpenAI's blocks, tools and choices and MCP's tools look right to a reader, and servers drop them or
answer with an error that does not name them. Each function returns what is wrong, or `""`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..types._json import fields_of, is_array, is_mapping

CONVERTS = "modelslab_llm.openai.to_messages converts a whole request"

_IMAGE = 'image(...) builds the block, {"type": "image", "source": {...}}'
_DOCUMENT = 'document(...) builds the block, {"type": "document", "source": {...}}'
_TEXT = 'the block is {"type": "text", "text": ...}'
_CALL = 'the block is {"type": "tool_use", "id": ..., "name": ..., "input": {...}}'
_RESULT = "tool_result(id, content) builds the block, for a user turn"

_BLOCKS: Mapping[str, str] = {
    "image_url": _IMAGE,
    "input_image": _IMAGE,
    "input_file": _DOCUMENT,
    "input_text": _TEXT,
    "output_text": _TEXT,
    "function_call": _CALL,
    "function_call_output": _RESULT,
    "input_audio": "Messages does not support audio",
}
_ROLES: Mapping[object, str] = {
    "system": "'system' is not allowed in messages: pass system=... instead",
    "developer": "'developer' is not allowed in messages: pass system=... instead",
    "tool": f"'tool' is OpenAI's: {_RESULT} ({CONVERTS})",
    "function": f"'function' is OpenAI's: {_RESULT} ({CONVERTS})",
    "model": "must be 'user' or 'assistant', not 'model'",
}
_TOOL = '{"name": ..., "description": ..., "input_schema": {...}}'
_MCP_TOOL = (
    'is an MCP tool: write {"name": tool.name, "description": tool.description, '
    '"input_schema": tool.inputSchema}'
)
_TOOL_NAME = "[a-zA-Z0-9_-]+"
_CHOICES = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
_PLACE = "[a-zA-Z][a-zA-Z0-9+.-]+:"  # the beginning of a URL


def wrong_role(role: object) -> str:
    """Say what is wrong with the role of a turn."""
    if role in ("user", "assistant"):
        return ""
    known = _ROLES.get(role) if isinstance(role, str) else None
    return known or f"must be 'user' or 'assistant', not {role!r}"


def wrong_block(block: Mapping[str, Any]) -> str:
    """Say what is wrong with a block of a turn, with the place inside the block before it."""
    kind = block["type"]
    if kind in _BLOCKS:
        return f": {kind!r} is OpenAI's form: {_BLOCKS[kind]}"
    if kind == "file" and "file" in block:
        return f": 'file' is OpenAI's form: {_DOCUMENT}"
    if kind in ("image", "document"):
        return _wrong_source(block, _IMAGE if kind == "image" else _DOCUMENT)
    if kind == "tool_result" and is_array(inner := block.get("content")):
        for i, part in enumerate(inner):
            if isinstance(fields_of(part).get("type"), str) and (wrong := wrong_block(part)):
                return f".content[{i}]{wrong}"
    return ""


def wrong_tool(tool: object) -> str:
    """Say what is wrong with the definition of a tool."""
    fields = fields_of(tool)
    kind, name = fields.get("type", "custom"), fields.get("name")
    if kind == "function":
        return f"is in OpenAI's form: write {_TOOL} ({CONVERTS})"
    if "inputSchema" in fields or hasattr(tool, "inputSchema"):
        return _MCP_TOOL
    if kind != "custom":  # a server's own, with fields and names of its own
        return ""
    if "parameters" in fields and "input_schema" not in fields:
        return f"is in OpenAI's form: write {_TOOL} ({CONVERTS})"
    if isinstance(name, str) and name and not re.fullmatch(_TOOL_NAME, name):
        plain = re.sub("[^a-zA-Z0-9_-]+", "_", name)
        return f"the name {name!r} may only have letters, digits, '_' and '-', as in {plain!r}"
    return ""


def wrong_choice(choice: object) -> str:
    """Say what is wrong with the choice of a tool."""
    if isinstance(choice, str):
        named = {"type": "tool", "name": choice}
        return (
            f"must be a dict: {_dict({'type': _CHOICES[choice]} if choice in _CHOICES else named)}"
        )
    if not is_mapping(choice) or not isinstance(choice.get("type"), str):
        return 'must be a dict like {"type": "auto"}'
    if choice["type"] == "function":
        name = fields_of(choice.get("function")).get("name") or choice.get("name") or "..."
        return f"is in OpenAI's form: write {_dict({'type': 'tool', 'name': name})}"
    if choice["type"] == "required":
        return f"is in OpenAI's form: write {_dict({'type': 'any'})}"
    return ""


def _dict(fields: Mapping[str, object]) -> str:
    return "{" + ", ".join(f'"{name}": "{value}"' for name, value in fields.items()) + "}"


def _wrong_source(block: Mapping[str, Any], cure: str) -> str:
    source: object = block.get("source")
    if "mimeType" in block:
        return f": is MCP's form: {cure}"
    if source is not None and not is_mapping(source):
        return f".source: must be a dict, not {type(source).__name__}: {cure}"
    fields = fields_of(source)
    kind, media_type = fields.get("type"), fields.get("media_type")
    if kind == "base64":
        if media_type == "image/jpg":
            return ".source.media_type: 'image/jpg' is not a media type: write 'image/jpeg'"
        if isinstance(media_type, str) and "/" not in media_type:
            named = {"jpg": "jpeg"}.get(media_type, media_type)
            whole = f"{'application' if named == 'pdf' else 'image'}/{named}"
            return f".source.media_type: {media_type!r} is not a media type: write {whole!r}"
        data = fields.get("data")
        if isinstance(data, str) and data[:5].lower() == "data:":
            return f".source.data: contains a data URL instead of only its base64: {cure}"
    url = fields.get("url")
    if kind == "url" and isinstance(url, str):
        if url[:5].lower() == "data:":
            return f".source.url: servers fetch https: URLs, not data: URLs: {cure}"
        if not re.match(_PLACE, url):
            return f".source.url: is not a URL: {cure}"
    return ""
