"""From a reply to the message that a server says, and to the events of its stream. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ..._protocol import replay as _replay
from ...endpoints import Prefill
from ...types.message import Message, is_empty_text
from .._script.received import joined_text
from .._script.script import Reply, Split

__all__ = ["Json", "continued", "events_of", "message_of", "prompt_words", "repeated_at_once"]

Json: TypeAlias = dict[str, Any]

_GIVEN = ("stop_reason", "stop_sequence", "usage", "model", "id")


def message_of(reply: Reply, asked: Json, *, id: str, model: str) -> Json:
    """Fill in what the reply leaves out, `id` and `model` too, in the order of protocol.md §5."""
    said: Json = {}
    if isinstance(reply.content, Message):
        said = reply.content.model_dump(mode="json", exclude={"request_id", "seams"})
        content = [block.to_param() for block in reply.content.content if not is_empty_text(block)]
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
    """Count the words of a prompt, which represent its tokens; at least 1."""
    return max(1, _words(asked.get("system")) + _words(asked["messages"]))


def continued(message: Json, prefill: str, manner: Prefill) -> Json:
    """Return what is sent of an answer that the request has begun, if it begins as that does.

    A script says the whole answer. The tokens that stand for its words are those of the rest.
    """
    blocks: list[Json] = message["content"]
    text: object = blocks[0].get("text") if blocks else None
    if not prefill or not isinstance(text, str) or not text.startswith(prefill):
        return message
    rest = [{**blocks[0], "text": text[len(prefill) :]}] if text != prefill else []
    content = [*rest, *blocks[1:]]
    usage: Json | None = message.get("usage")
    if usage and usage.get("output_tokens") == _words(message["content"]):
        message = {**message, "usage": {**usage, "output_tokens": _words(content)}}
    return message if manner == "repeats" else {**message, "content": content}


def repeated_at_once(prefill: str) -> Callable[[list[Json]], list[Json]]:
    """Put what is repeated, and what follows it in its piece, into the first delta."""

    def joined(events: list[Json]) -> list[Json]:
        kept: list[Json] = []
        begun = ""
        for event in events:
            delta: Json = event.get("delta") or {}
            is_text = event.get("index") == 0 and "text" in delta
            if is_text and len(begun) < len(prefill):
                if begun:
                    kept.pop()
                begun += delta["text"]
                event = {**event, "delta": {**delta, "text": begun}}
            kept.append(event)
        return kept

    return joined


def _words(value: Any) -> int:
    return len(joined_text(value).split())


def events_of(message: Mapping[str, Any], split: Split) -> Iterator[Json]:
    """Take a message apart as servers do: texts in pieces, a ping after the first block began."""

    def take_apart(block: Json) -> _Pieces:
        return _TAKE_APART.get(str(block.get("type")), _whole_block)(block, split)

    for event in _replay.events_of(message, take_apart):
        yield event
        if event["type"] == "content_block_start" and event["index"] == 0:
            yield {"type": "ping"}


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
