"""Read a stream's bytes as simply as can be: what a truthful client may say of them.

Written from protocol.md §6 alone, for the property tests to compare the package with; it shares no
code with it, is slow, and knows nothing of chunks. Where a value does not have its documented type
the model has no opinion: it raises `Doubt`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

KNOWN = {
    "message_start": {"message": dict},
    "content_block_start": {"index": int, "content_block": dict},
    "content_block_delta": {"index": int, "delta": dict},
    "content_block_stop": {"index": int},
    "message_delta": {"delta": dict},
    "message_stop": {},
    "ping": {},
}
FED_BY = {  # a delta: the kind of block it lengthens, and where
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"),
}
FED_OTHERWISE = re.compile(
    "text|thinking|redacted_thinking|.+_tool_result|container_upload|compaction"
)
"""Kinds that take no arguments; one that is unknown may be a call."""

STRINGS = {"text", "thinking", "signature", "partial_json", "id", "name", "type"}


class Doubt(Exception):
    """The bytes say something that no rule covers."""


@dataclass
class Block:
    kind: str
    fields: dict[str, Any]
    parts: list[str] = field(default_factory=list)
    signature: str | None = None
    closed: bool = False


@dataclass
class Told:
    """What a stream told."""

    whole: bool = False
    """Whether the message is complete; if not, a client has to raise."""
    started: str | None = None
    stop_reason: str | None = None
    blocks: list[tuple[int, Block]] = field(default_factory=list)

    def content(self) -> list[tuple[Any, ...]]:
        in_order = [block for _, block in sorted(self.blocks, key=lambda entry: entry[0])]
        last = in_order[-1] if in_order else None
        shown = [self._shown(block, block is last) for block in in_order]
        return with_own_ids(shown, ["".join(block.parts) for block in in_order])

    def _shown(self, block: Block, last: bool) -> tuple[Any, ...]:
        more = "".join(block.parts)
        if block.kind == "text":
            return ("text", block.fields.get("text", "") + more)
        if block.kind == "thinking":
            signature = block.fields.get("signature", "")
            if block.signature is not None:
                signature = block.signature
            return ("thinking", block.fields.get("thinking", "") + more, signature)
        if block.kind not in ("tool_use", "server_tool_use"):
            return (block.kind,)
        named = (block.kind, block.fields.get("id", ""), block.fields.get("name", ""))
        given = block.fields.get("input", {})
        if not block.fields.get("name"):  # nobody can tell whose arguments these are
            return (*named, None)
        if not more.strip():
            known = self.whole or block.closed
            cut = (
                block.kind == "tool_use"
                and last
                and self.stop_reason == "max_tokens"
                and not given
                and not block.parts
            )
            return (*named, given) if known and not cut else (*named, None)
        return (*named, arguments(more))


def with_own_ids(shown: list[tuple[Any, ...]], raw: list[str]) -> list[tuple[Any, ...]]:
    """Give different calls with the same ID new IDs; the same call again keeps its ID."""
    taken = {entry[1] for entry in shown if entry[0] == "tool_use"}
    given: dict[tuple[str, str], str] = {}
    with_ids: list[tuple[Any, ...]] = []
    for entry, text in zip(shown, raw, strict=True):
        if entry[0] == "tool_use" and entry[1] and entry[2]:
            kind, id, name, arguments = entry
            said = text if arguments is None else json.dumps(arguments, sort_keys=True)
            call = (id, f"{name} {arguments is None} {said}")
            if call not in given:
                number, own = 2, id
                is_second = any(known == id for known, _ in given)
                while is_second and own in taken:
                    own, number = f"{id}_{number}", number + 1
                taken.add(own)
                given[call] = own
            entry = (kind, given[call], name, arguments)
        with_ids.append(entry)
    return with_ids


def arguments(text: str) -> dict[str, Any] | None:
    """Return a tool's arguments; None unless they are one whole object of strict JSON."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(_: str) -> None:
        raise ValueError

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def frames(body: bytes) -> list[tuple[str, bytes, bool]]:
    """Return each event's name and data, and whether its blank line came: the last's may not."""
    found: list[tuple[str, bytes, bool]] = []
    name, data = "", []
    lines = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))
    for number, line in enumerate([*lines, b""]):
        if not line:
            if data and (joined := b"\n".join(data)) not in (b"", b"[DONE]"):
                found.append((name, joined, number < len(lines) - 1))
            name, data = "", []
            continue
        kind, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if kind == b"event":
            name = value.decode("utf-8", "replace")
            name = "" if name == "message" else name  # which is what SSE calls one without a name
        elif kind == b"data":
            data.append(value)
    return found


def read(body: bytes) -> Told:
    """Return what a body tells up to where the message is whole, or the stream broken."""
    told = Told()
    if body.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"{", b"[", b"<")):
        raise Doubt("no stream at all")
    for name, data, ended in frames(body):
        # A last event that is cut says no more than its absence would.
        cut = replace(told, whole=told.stop_reason is not None and not ended)
        is_utf8 = data == data.decode("utf-8", "replace").encode()
        if b"\xed" in data and not is_utf8:
            raise Doubt("perhaps half a character as three bytes")
        try:
            payload = json.loads(data.decode("utf-8", "replace"), strict=False)
        except ValueError:
            payload = None
        if "\\u" in repr(payload) and re.search(r"\\ud[89a-f]", repr(payload)):
            raise Doubt("half a character")
        if not isinstance(payload, dict):
            if name == "error":
                return told
            if name == "ping" or (name not in KNOWN and (name or _is_a_word(data))):
                continue  # a keep-alive
            return cut
        kind = payload.get("type")
        if not (isinstance(kind, str) and kind in KNOWN):
            if name == "error" or "error" in payload or kind == "error":
                return told
            if name not in KNOWN:
                if "choices" in payload or (isinstance(kind, str) and kind.endswith("_error")):
                    return told
                continue
            kind = name
        if kind == "ping":
            continue
        if not is_utf8:
            return cut
        _check(payload, KNOWN[kind])
        if not _take(told, kind, payload):
            return told if kind == "message_stop" else cut
    told.whole = told.stop_reason is not None
    return told


def _is_a_word(data: bytes) -> bool:
    words = data.decode("utf-8", "replace")
    return len(words) <= 100 and not any(mark in words.strip('"') for mark in '{}[]"')


def _check(payload: dict[str, Any], shape: dict[str, type]) -> None:
    for name, wanted in shape.items():
        if type(payload.get(name)) is not wanted:
            raise Doubt(f"{name} is no {wanted.__name__}")
    inner = [payload, *(value for value in payload.values() if isinstance(value, dict))]
    for fields in inner:
        for name in STRINGS & fields.keys():
            if not isinstance(fields[name], str):
                raise Doubt(f"{name} is no text")
        if not isinstance(fields.get("input", {}), dict):
            raise Doubt("input is no object")
    delta = payload.get("delta", {})
    if "index" in shape and delta.get("type") in FED_BY and FED_BY[delta["type"]][1] not in delta:
        raise Doubt("a delta without its text")
    for name in ("stop_reason", "stop_sequence"):
        if not isinstance(delta.get(name), (str, type(None))):
            raise Doubt(f"{name} is no text")
    if not isinstance(payload.get("index", 0), int) or abs(payload.get("index", 0)) > 2**62:
        raise Doubt("index is out of range")
    message = payload.get("message", {})
    if "message" in shape and (
        message.get("type", "message") != "message"
        or message.get("role", "assistant") != "assistant"
        or message.get("content") not in (None, [])
        or not isinstance(message.get("stop_reason"), type(None))
    ):
        raise Doubt("a message that begins otherwise")
    if payload.get("content_block", {}).get("citations") or delta.get("type") == "citations_delta":
        raise Doubt("citations are not modelled")


def _take(told: Told, kind: str, payload: dict[str, Any]) -> bool:
    """Add an event; False where the message is whole, or another one begins."""
    index = payload.get("index", 0)
    now = next((b for i, b in reversed(told.blocks) if i == index), None)
    if kind == "message_start":
        begun = payload["message"].get("id", "")
        if told.started is not None and told.started != begun:
            return False
        told.started = begun
    elif kind == "content_block_start":
        fields = payload["content_block"]
        new = Block(fields.get("type", ""), fields)
        same = now and (now.kind, now.fields.get("id")) == (new.kind, fields.get("id"))
        if not (same and now and not now.closed):
            told.blocks.append((index, new))
    elif kind == "content_block_delta":
        delta = payload["delta"]
        if delta.get("type") not in FED_BY:
            return True
        feeds, name = FED_BY[delta["type"]]
        calls = feeds == "tool_use" and now and not FED_OTHERWISE.fullmatch(now.kind)
        if now is None or not (now.kind == feeds or calls):
            now = Block(feeds, {"type": feeds})
            told.blocks.append((index, now))
        if name == "signature":
            now.signature = delta[name]
        else:
            now.parts.append(delta[name])
    elif kind == "content_block_stop" and now:
        now.closed = True
    elif kind == "message_delta":
        told.stop_reason = payload["delta"].get("stop_reason") or told.stop_reason
    elif kind == "message_stop":
        told.whole = True
        return False
    return True
