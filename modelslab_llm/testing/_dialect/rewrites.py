"""Small changes of messages and of the events of their streams: what dialects are made of. Pure.

Each takes what Anthropic would send and returns what another server does; which server does what
is the table in `_dialects`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import TypeAlias

from .events import Json

Change: TypeAlias = Callable[[Json], Json]
Rewrite: TypeAlias = Callable[[list[Json]], list[Json]]


# Changes of a message


def without(*names: str) -> Change:
    """Leave fields out."""
    return lambda fields: {name: value for name, value in fields.items() if name not in names}


def without_nulls(fields: Json) -> Json:
    """Leave out what is null."""
    return {name: value for name, value in fields.items() if value is not None}


def null_when_empty(message: Json) -> Json:
    """Say null for a content without blocks."""
    return {**message, "content": message["content"] or None}


def tools_alone(message: Json) -> Json:
    """Lose the text beside tool calls."""
    kinds = [block.get("type") for block in message["content"]]
    if "tool_use" not in kinds:
        return message
    kept = [block for block in message["content"] if block.get("type") != "text"]
    return {**message, "content": kept}


def counting(count: Change) -> Change:
    """Count tokens in the server's own way; what was told to count nothing still does not."""
    return lambda message: (
        {**message, "usage": count(message["usage"])} if message.get("usage") else message
    )


def whole_prompt(usage: Json) -> Json:
    """Count the cached part of a prompt among its tokens, and not apart."""
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    prompt = sum(usage.get(name) or 0 for name in ("input_tokens", *cached))
    return {"input_tokens": prompt, "output_tokens": usage.get("output_tokens", 0)}


def tokens_alone(usage: Json) -> Json:
    """Count input and output, and tell nothing of a cache."""
    return {name: usage.get(name) or 0 for name in ("input_tokens", "output_tokens")}


def with_cache_read(usage: Json) -> Json:
    """Count what was read from the cache apart, and nothing else of it."""
    names = ("cache_read_input_tokens", "input_tokens", "output_tokens")
    return {name: usage.get(name) or 0 for name in names}


def with_cache_read_if_any(usage: Json) -> Json:
    """Count what was read from the cache apart, if anything was."""
    counted = with_cache_read(usage)
    cached = counted.pop("cache_read_input_tokens")
    return {**counted, "cache_read_input_tokens": cached} if cached else counted


def cache_read_twice(usage: Json) -> Json:
    """Count what was read from the cache separately and in the prompt, with additional counters."""
    own = {"claude_cache_creation_5_m_tokens": 0, "claude_cache_creation_1_h_tokens": 0}
    return {**usage, **whole_prompt(usage), **own}


def stopping(reasons: Mapping[str, str], otherwise: str | None) -> Change:
    """Say why it stopped in the words the server has, and never at which text."""
    return lambda message: {
        **message,
        "stop_reason": reasons.get(message["stop_reason"], otherwise),
        "stop_sequence": None,
    }


def stop_sequence_as_end_turn(message: Json) -> Json:
    """Say `end_turn` for a stop sequence, and still which it was."""
    stopped = message["stop_reason"] == "stop_sequence"
    return {**message, "stop_reason": "end_turn"} if stopped else message


def signing(sign: Callable[[Json], Json]) -> Change:
    """Sign thinking blocks in the server's own way."""
    return lambda message: {
        **message,
        "content": [
            sign(block) if block.get("type") == "thinking" else block
            for block in message["content"]
        ],
    }


def signature_empty(block: Json) -> Json:
    """Sign with nothing."""
    return {**block, "signature": ""}


def signature_null(block: Json) -> Json:
    """Sign with null where the script does not sign."""
    return {**block, "signature": block.get("signature") or None}


def signature_of_hex(block: Json) -> Json:
    """Sign with 32 hexadecimal digits where the script does not."""
    return {**block, "signature": block.get("signature") or "0f3c9a7be1d24b0c8f6a5d4e3c2b1a09"}


def named(prefix: str) -> Change:
    """Name a message by an id with another prefix, as of the server behind it."""
    return lambda message: {**message, "id": prefix + re.sub(r"\W|^msg_", "", message["id"])}


def with_stop_details(message: Json) -> Json:
    """Set the details of a refusal to null."""
    return {"stop_details": None, **message}


def empty_text_before_calls(message: Json) -> Json:
    """Put an empty text before calls at the start of the content."""
    content = message["content"]
    if not content or content[0].get("type") != "tool_use":
        return message
    return {**message, "content": [{"type": "text", "text": ""}, *content]}


# Rewrites of the events of a stream


def started(change: Change) -> Rewrite:
    """Change the message of message_start."""
    return lambda events: [
        {**event, "message": change(event["message"])} if "message" in event else event
        for event in events
    ]


def opened(change: Change) -> Rewrite:
    """Change the block of each content_block_start."""
    return lambda events: [
        {**event, "content_block": change(event["content_block"])}
        if "content_block" in event
        else event
        for event in events
    ]


def ended(change: Change) -> Rewrite:
    """Change message_delta."""
    return lambda events: [
        change(event) if event["type"] == "message_delta" else event for event in events
    ]


def stop_reason_alone(event: Json) -> Json:
    """Leave all but the stop reason out of the delta."""
    return {**event, "delta": {"stop_reason": event["delta"].get("stop_reason")}}


def output_tokens_alone(event: Json) -> Json:
    """Leave all but the output tokens out of the usage."""
    counted = event.get("usage", {})
    tokens = {name: counted[name] for name in ("output_tokens",) if name in counted}
    return {**event, "usage": tokens} if tokens else event


def zeros(usage: Json) -> Json:
    """Count nothing yet."""
    return dict.fromkeys(("input_tokens", "output_tokens"), 0)


def zeros_of_four(usage: Json) -> Json:
    """Count nothing yet, in every counter."""
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    return dict.fromkeys(("input_tokens", "output_tokens", *cached), 0)


def estimate(usage: Json) -> Json:
    """Count the prompt roughly: here as half of what it has."""
    return {**usage, "input_tokens": (usage.get("input_tokens", 0) + 1) // 2}


def without_pings(events: list[Json]) -> list[Json]:
    """Send no ping."""
    return [event for event in events if event["type"] != "ping"]


def without_signatures(events: list[Json]) -> list[Json]:
    """Send no signature."""
    return [event for event in events if _delta(event) != "signature_delta"]


def without_empty_arguments(events: list[Json]) -> list[Json]:
    """Do not begin the arguments of a tool with an empty piece."""
    return [event for event in events if event.get("delta", {}).get("partial_json") != ""]


def arguments_at_once(events: list[Json]) -> list[Json]:
    """Send the arguments of a tool in one delta."""
    joined: list[Json] = []
    for event in events:
        if joined and _delta(event) == _delta(joined[-1]) == "input_json_delta":
            text = joined.pop()["delta"]["partial_json"] + event["delta"]["partial_json"]
            event = {**event, "delta": {"type": "input_json_delta", "partial_json": text}}
        joined.append(event)
    return joined


def stops_at_the_end(events: list[Json]) -> list[Json]:
    """Close no block, and sign none, before all of them are written."""
    late = [
        event
        for event in events
        if event["type"] == "content_block_stop" or _delta(event) == "signature_delta"
    ]
    early = [event for event in events if event not in late]
    at = next(n for n, event in enumerate(early) if event["type"].startswith("message_d"))
    return [*early[:at], *late, *early[at:]]


def tools_in_turns(events: list[Json]) -> list[Json]:
    """Open all tool calls at once, and write them in turns."""
    tools = [e["index"] for e in events if e.get("content_block", {}).get("type") == "tool_use"]
    if len(tools) < 2:
        return events
    mine = [event for event in events if event.get("index") in tools]
    parts = {name: [e for e in mine if e["type"] == f"content_block_{name}"] for name in _PARTS}
    by_tool = [[event for event in parts["delta"] if event["index"] == at] for at in tools]
    in_turns = [event for turn in zip_longest(*by_tool) for event in turn if event]
    at = events.index(mine[0])
    rest = [event for event in events[at:] if event not in mine]
    return [*events[:at], *parts["start"], *in_turns, *parts["stop"], *rest]


_PARTS = ("start", "delta", "stop")


def silent_without_usage(events: list[Json]) -> list[Json]:
    """Send no message_delta if there is no usage to report."""
    return [e for e in events if e["type"] != "message_delta" or e.get("usage")]


def index_last(events: list[Json]) -> list[Json]:
    """Write the index of a block behind the rest."""
    return [
        {**without("index")(event), "index": event["index"]} if "index" in event else event
        for event in events
    ]


def _delta(event: Json) -> object:
    return event.get("delta", {}).get("type")
