"""The shapes of OpenAI, of MCP and of haste are refused, with the form that they have here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelslab_llm import InvalidRequestError, endpoints
from modelslab_llm._protocol.check import MESSAGE, checked

Json = dict[str, Any]
USER: Json = {"role": "user", "content": "Go"}
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [USER]}


def turns(*messages: Any) -> Json:
    return {**ASK, "messages": list(messages)}


def block(**fields: Any) -> Json:
    return turns({"role": "user", "content": [{"type": "text", "text": "a"}, fields]})


def picture(source: Any) -> Json:
    return block(type="image", source=source)


SOURCE = "messages[0].content[1].source"
IMAGE = r'image(...) builds the block, {"type": "image", "source": {...}}'
FUNCTION = {"name": "level", "parameters": {"type": "object"}}

# What is asked, and what is said of it.
OTHER_SHAPES: dict[str, tuple[Json, str]] = {
    "image_url": (
        block(type="image_url", image_url={"url": "https://x/y.png"}),
        f"messages[0].content[1]: 'image_url' is OpenAI's form: {IMAGE}",
    ),
    "input_image": (block(type="input_image", image_url="https://x/y.png"), IMAGE),
    "input_text": (block(type="input_text", text="a"), '{"type": "text", "text": ...}'),
    "output_text": (block(type="output_text", text="a"), '{"type": "text", "text": ...}'),
    "input_file": (block(type="input_file", file_id="f"), "document(...) builds the block"),
    "file": (block(type="file", file={"file_data": "x"}), "document(...) builds the block"),
    "input_audio": (block(type="input_audio", input_audio={}), "Messages does not support audio"),
    "function_call": (block(type="function_call", name="x"), '{"type": "tool_use", "id": ...'),
    "function_call_output": (block(type="function_call_output"), "tool_result(id, content)"),
    "image_url in a result": (
        block(
            type="tool_result",
            tool_use_id="a",
            content=[{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "x"}],
        ),
        "messages[0].content[1].content[1]: 'image_url' is OpenAI's form",
    ),
    "MCP image": (
        block(type="image", data="iVBO", mimeType="image/png"),
        f"messages[0].content[1]: is MCP's form: {IMAGE}",
    ),
    "path as source": (picture("photo.jpg"), f"{SOURCE}: must be a dict, not str: {IMAGE}"),
    "Path as source": (picture(Path("photo.jpg")), f"{SOURCE}: must be a dict, not P"),
    "bytes as source": (picture(b"\x89PNG"), f"{SOURCE}: must be a dict, not bytes: {IMAGE}"),
    "path as document": (
        block(type="document", source="a.pdf"),
        f"{SOURCE}: must be a dict, not str: document(...) builds the block",
    ),
    "path as URL": (picture({"type": "url", "url": "photo.jpg"}), f"{SOURCE}.url: is not a URL"),
    "Windows path as URL": (
        picture({"type": "url", "url": r"C:\photo.jpg"}),
        f"{SOURCE}.url: is not a URL: {IMAGE}",
    ),
    "data URL as URL": (
        picture({"type": "url", "url": "data:image/png;base64,iVBO"}),
        f"{SOURCE}.url: servers fetch https: URLs, not data: URLs: {IMAGE}",
    ),
    "data URL as base64": (
        picture({"type": "base64", "media_type": "image/png", "data": "data:image/png;base64,iV"}),
        f"{SOURCE}.data: contains a data URL instead of only its base64: {IMAGE}",
    ),
    "image/jpg": (
        picture({"type": "base64", "media_type": "image/jpg", "data": "/9j/"}),
        f"{SOURCE}.media_type: 'image/jpg' is not a media type: write 'image/jpeg'",
    ),
    "jpg": (
        picture({"type": "base64", "media_type": "jpg", "data": "/9j/"}),
        f"{SOURCE}.media_type: 'jpg' is not a media type: write 'image/jpeg'",
    ),
    "pdf": (
        block(type="document", source={"type": "base64", "media_type": "pdf", "data": "JVBE"}),
        f"{SOURCE}.media_type: 'pdf' is not a media type: write 'application/pdf'",
    ),
    "input_text in system": (
        {**ASK, "system": [{"type": "input_text", "text": "Be brief."}]},
        "system[0]: 'input_text' is OpenAI's form: the block is",
    ),
    "tool_calls": (
        turns(USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}),
        "messages[1].tool_calls: is OpenAI's form: modelslab_llm.openai.to_messages",
    ),
    "role tool": (
        turns(USER, {"role": "tool", "tool_call_id": "a", "content": "x"}),
        "messages[1].role: 'tool' is OpenAI's: tool_result(id, content) builds the block",
    ),
    "role developer": (
        turns({"role": "developer", "content": "Be brief."}, USER),
        "messages[0].role: 'developer' is not allowed in messages: pass system=... instead",
    ),
    "function tool": (
        {**ASK, "tools": [{"type": "function", "function": FUNCTION}]},
        "tools[0]: is in OpenAI's form: write "
        '{"name": ..., "description": ..., "input_schema": {...}}',
    ),
    "function tool of responses": (
        {**ASK, "tools": [{"type": "function", **FUNCTION}]},
        "tools[0]: is in OpenAI's form",
    ),
    "parameters": ({**ASK, "tools": [FUNCTION]}, "tools[0]: is in OpenAI's form"),
    "MCP tool as a dict": (
        {**ASK, "tools": [{"name": "level", "inputSchema": {"type": "object"}}]},
        'tools[0]: is an MCP tool: write {"name": tool.name, "description": tool.description, '
        '"input_schema": tool.inputSchema}',
    ),
    "MCP tool": (
        {**ASK, "tools": [SimpleNamespace(name="level", inputSchema={"type": "object"})]},
        "tools[0]: is an MCP tool",
    ),
    "dotted name": (
        {**ASK, "tools": [{"name": "files.read v2", "input_schema": {"type": "object"}}]},
        "tools[0]: the name 'files.read v2' may only have letters, digits, '_' and '-', "
        "as in 'files_read_v2'",
    ),
    "choice auto": (
        {**ASK, "tool_choice": "auto"},
        'tool_choice: must be a dict: {"type": "auto"}',
    ),
    "choice required": ({**ASK, "tool_choice": "required"}, 'must be a dict: {"type": "any"}'),
    "choice none": ({**ASK, "tool_choice": "none"}, 'must be a dict: {"type": "none"}'),
    "choice of a name": (
        {**ASK, "tool_choice": "level"},
        'tool_choice: must be a dict: {"type": "tool", "name": "level"}',
    ),
    "choice of a function": (
        {**ASK, "tool_choice": {"type": "function", "function": {"name": "level"}}},
        'tool_choice: is in OpenAI\'s form: write {"type": "tool", "name": "level"}',
    ),
    "choice required as a dict": (
        {**ASK, "tool_choice": {"type": "required"}},
        'tool_choice: is in OpenAI\'s form: write {"type": "any"}',
    ),
    "choice without a type": ({**ASK, "tool_choice": {}}, 'must be a dict like {"type": "auto"}'),
}


@pytest.mark.parametrize(("asked", "said"), OTHER_SHAPES.values(), ids=OTHER_SHAPES)
@pytest.mark.parametrize("endpoint", [endpoints.llm_v7(), endpoints.gateway("http://127.0.0.1")])
def test_the_shapes_of_other_formats_are_refused_with_the_form_they_have_here(
    asked: Json, said: str, endpoint: endpoints.Endpoint
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        checked(asked, MESSAGE, endpoint, "create")
    (only,) = str(refused.value).split("; ")
    assert said in only


def test_what_only_looks_like_another_format_is_sent() -> None:
    """A gateway may know more; nothing is refused that one may take."""
    source = {"type": "base64", "media_type": "image/tiff", "data": "SUkq"}
    asked = block(type="file", file_id="f") | {
        "tools": [
            {"type": "web_search_20250305", "name": "web.search", "parameters": {"n": 1}},
            {"name": "level", "input_schema": {"type": "object"}, "strict": True},
        ],
        "tool_choice": {"type": "most"},
    }
    for more in (
        {"type": "image", "source": source},
        {"type": "image", "source": {"type": "url", "url": "file:///a.png"}},
        {"type": "image", "source": {"type": "gs", "uri": "gs://a/b"}},
        {"type": "tool_result", "tool_use_id": "a", "content": "image_url"},
        {"type": "hologram", "source": "photo.jpg"},
    ):
        asked["messages"][0]["content"].append(more)
    assert checked(asked, MESSAGE, endpoints.gateway("http://127.0.0.1"), "create") == asked
