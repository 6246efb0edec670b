"""From a reply to the message that a server says, and to the events of its stream. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

from ...types.message import Message
from .._script.received import joined_text
from .._script.script import Reply, Split

__all__ = ["Json", "events_of", "message_of", "prompt_words"]

Json: TypeAlias = dict[str, Any]

_GIVEN = ("stop_reason", "stop_sequence", "usage", "model", "id")


def message_of(reply: Reply, asked: Json, *, id: str, model: str) -> Json:
    """Fill in what the reply leaves out, `id` and `model` too, in the order of protocol.md §5."""
    said: Json = {}
    if isinstance(reply.content, Message):
        said = reply.content.model_dump(mode="json", exclude_unset=True)
        content = cast("list[Json]", reply.content.to_param()["content"])
    elif isinstance(reply.content, str):
        content = [{"type": "text", "text": reply.content}] if reply.content else []
    else:
        content = [dict(block) for block in reply.content]
    calls = any(block.get("type") == "tool_use" for block in content)
    filled: Json = {
        "id": id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": model,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": prompt_words(asked), "output_tokens": _words(content)},
    }
    given = {name: value for name in _GIVEN if (value := getattr(reply, name)) is not None}
    return {**filled, **said, **given, "content": content}


def prompt_words(asked: Json) -> int:
    """Count the words of a prompt, which stand for its tokens; at least 1."""
    return max(1, _words(asked.get("system")) + _words(asked["messages"]))


def _words(value: Any) -> int:
    return len(joined_text(value).split())


# What a message knows only at its end, so that a stream says it in message_delta.
_KNOWN_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")


def events_of(message: Mapping[str, Any], split: Split) -> Iterator[Json]:
    """Take a message apart into the events that build it, in Anthropic's order (protocol.md §6)."""
    late = {key: message[key] for key in _KNOWN_LATE if key in message}
    start: Json = {**message, **dict.fromkeys(late), "content": []}
    totals: Json = {}
    if message.get("usage"):
        totals["usage"] = dict(message["usage"])
        start["usage"] = {k: 0 if k == "output_tokens" else v for k, v in totals["usage"].items()}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"] or ()):
        opening, deltas = _TAKE_APART.get(block.get("type"), _whole_block)(block, split)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        if index == 0:
            yield {"type": "ping"}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": late, **totals}
    yield {"type": "message_stop"}


_Pieces: TypeAlias = tuple[Json, list[Json]]


def _whole_block(block: Json, split: Split) -> _Pieces:
    return block, []


def _text_pieces(block: Json, split: Split) -> _Pieces:
    deltas: list[Json] = [
        {"type": "text_delta", "text": piece} for piece in _cut(block.get("text", ""), split)
    ]
    opening: Json = {**block, "text": ""}
    if block.get("citations"):
        opening["citations"] = []
        deltas += [{"type": "citations_delta", "citation": each} for each in block["citations"]]
    return opening, deltas


def _thinking_pieces(block: Json, split: Split) -> _Pieces:
    pieces = _cut(block.get("thinking", ""), split)
    deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    deltas.append({"type": "signature_delta", "signature": block.get("signature", "")})
    return {**block, "thinking": "", "signature": ""}, deltas


def _tool_pieces(block: Json, split: Split) -> _Pieces:
    text = json.dumps(block.get("input", {}), ensure_ascii=False)
    # Eight characters cut through keys and numbers; the empty first one is Anthropic's habit.
    size = 1 if split == "character" else 8
    pieces = ["", *(text[at : at + size] for at in range(0, len(text), size))]
    deltas: list[Json] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return {**block, "input": {}}, deltas


_TAKE_APART: Mapping[str, Callable[[Json, Split], _Pieces]] = {
    "text": _text_pieces,
    "thinking": _thinking_pieces,
    "tool_use": _tool_pieces,
    "server_tool_use": _tool_pieces,
}


def _cut(text: str, split: Split) -> list[str]:
    r"""Cut text into characters, or into words that keep the white space around them.

    >>> _cut("\n A kestrel  hovers. ", "word")
    ['\n ', 'A ', 'kestrel  ', 'hovers. ']
    """
    return list(text) if split == "character" else re.findall(r"\S+\s*|\s+", text)
