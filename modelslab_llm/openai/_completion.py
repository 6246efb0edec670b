"""Read chat completions into messages, and write messages as chunks (protocol.md §13). Pure.

A stream is carried over one piece at a time: `ReadChunks` makes events of chunks, `WriteChunks`
makes chunks of events. Neither waits, and neither knows how the pieces came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .._protocol.accumulate import Accumulator
from .._protocol.sse import known_events
from ..types._json import fields_of, is_list
from ..types.content import (
    InputJSONDelta,
    RedactedThinkingBlock,
    TextBlock,
    TextDelta,
    ThinkingBlock,
    ThinkingDelta,
    ToolUseBlock,
)
from ..types.events import (
    ContentBlockDeltaEvent,
    ContentBlockStartEvent,
    Event,
    MessageDeltaEvent,
    MessageStartEvent,
)
from ..types.message import CUT, REFUSED, Message
from ..types.parsed import ParsedMessage
from ..types.usage import Usage
from ._chat import Json, Notes

# finish_reason → stop_reason. Whatever else a server says is passed on as it is.
_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_FINISHES = {
    **dict.fromkeys(CUT, "length"),
    **dict.fromkeys(REFUSED, "content_filter"),
}


def finish_reason(stop_reason: str | None, calls: bool) -> str:
    """Return why it stopped in OpenAI's words, by the blocks (protocol.md §5)."""
    return _FINISHES.get(stop_reason or "", "tool_calls" if calls else "stop")


def usage_of(usage: Usage) -> Json:
    """Return the counts as a completion has them, where the prompt is counted whole."""
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


def call_of(use: ToolUseBlock) -> Json:
    """Return a call in the form of a completion; incomplete arguments stay unchanged."""
    arguments = use.raw_input
    if arguments is None:
        arguments = json.dumps(use.input, ensure_ascii=False)
    function = {"name": use.name, "arguments": arguments}
    return {"id": use.id, "type": "function", "function": function}


def completion_of(message: Message, notes: Notes, created: int = 0) -> Json:
    """Return the completion; what has no place in it goes into the notes."""
    if isinstance(message, ParsedMessage):
        message = message.in_text()
    for i, block in enumerate(message.content):
        path = f"content[{i}]"
        if isinstance(block, TextBlock):
            if block.citations:
                notes.drop(f"{path}.citations", "a chat completion has no equivalent")
        elif isinstance(block, ThinkingBlock):
            if block.signature:
                notes.drop(f"{path}.signature", "a chat completion has no equivalent")
        elif not isinstance(block, ToolUseBlock):
            kind = "hidden thinking" if isinstance(block, RedactedThinkingBlock) else block.type
            notes.drop(path, f"a chat completion has no equivalent of {kind}")
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


def message_of(completion: Mapping[str, Any]) -> Message | None:
    """Return the message that a completion holds; None where it is not a completion.

    A completion is read as the one chunk of its stream.
    """
    choices: object = completion.get("choices")
    if not is_list(choices) or not choices:
        return None
    first = fields_of(choices[0])
    chunk = {**completion, "choices": [{**first, "delta": first.get("message")}]}
    reader, message = ReadChunks(), Accumulator()
    for events in (reader.add(chunk) or (), reader.end()):
        for event in events:
            message.add(event)
    return message.message()


class ReadChunks:
    """Make the events of a message out of the chunks of a completion, as they come."""

    def __init__(self) -> None:
        self._begun = False
        self._usage: Json = {}
        self._finish: str | None = None
        self._stop_text: str | None = None
        self._open: dict[object, int] = {}
        self._blocks = 0
        self._called = False
        self._ended = False

    def add(self, payload: Mapping[str, Any]) -> Iterator[Event] | None:
        """Return the events of a chunk; None if it is not one.

        The last ones come from `end`: the usage may follow what ends the choice.
        """
        choices: object = payload.get("choices")
        return self._events(payload, choices) if is_list(choices) else None

    def _events(self, chunk: Mapping[str, Any], choices: list[Any]) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            named = {name: str(chunk.get(name) or "") for name in ("id", "model")}
            yield _event("message_start", message={**named, "content": []})
        if usage := fields_of(chunk.get("usage")):
            self._usage = _counted(usage)
        if not choices:
            return  # the last chunk has the usage alone
        choice = fields_of(choices[0])
        yield from self._delta(fields_of(choice.get("delta")))
        if finish := choice.get("finish_reason"):
            self._finish = str(finish)
            stop: object = choice.get("stop_reason")  # where vLLM has it
            self._stop_text = stop if isinstance(stop, str) else None

    def end(self) -> Iterator[Event]:
        """Yield the events that end the message; none if no chunk has said that it is whole."""
        if self._finish is None or self._ended:
            return
        self._ended = True
        for index in sorted(self._open.values()):
            yield _event("content_block_stop", index=index)
        reason = _STOPS.get(self._finish, self._finish)
        if reason == "end_turn" and self._called:
            reason = "tool_use"
        delta = {"stop_reason": reason, "stop_sequence": self._stop_text}
        yield _event("message_delta", delta=delta, usage=self._usage)
        yield _event("message_stop")

    def _delta(self, delta: Json) -> Iterator[Event]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield from self._piece("thinking", {"signature": ""}, "thinking", thought)
        for text in (delta.get("content"), delta.get("refusal")):
            if isinstance(text, str) and text:
                yield from self._piece("text", {}, "text", text)
        calls: object = delta.get("tool_calls")
        for at, each in enumerate(calls if is_list(calls) else ()):
            yield from self._call(fields_of(each), at)

    def _piece(self, kind: str, more: Json, field: str, piece: str) -> Iterator[Event]:
        if kind not in self._open:
            other = "text" if kind == "thinking" else "thinking"
            if other in self._open:
                yield _event("content_block_stop", index=self._open.pop(other))
            yield self._opened(kind, {"type": kind, field: "", **more})
        delta = {"type": f"{kind}_delta", field: piece}
        yield _event("content_block_delta", index=self._open[kind], delta=delta)

    def _call(self, call: Json, at: int) -> Iterator[Event]:
        self._called = True
        index: object = call.get("index")
        key = ("call", index if type(index) is int else at)
        function = fields_of(call.get("function"))
        if key not in self._open:
            for kind in ("text", "thinking"):
                if kind in self._open:
                    yield _event("content_block_stop", index=self._open.pop(kind))
            named = {"id": str(call.get("id") or ""), "name": str(function.get("name") or "")}
            yield self._opened(key, {"type": "tool_use", **named, "input": {}})
        if arguments := function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": str(arguments)}
            yield _event("content_block_delta", index=self._open[key], delta=delta)

    def _opened(self, key: object, block: Json) -> Event:
        self._open[key] = index = self._blocks
        self._blocks += 1
        return _event("content_block_start", index=index, content_block=block)


def _counted(usage: Json) -> Json:
    """Return the counts as Messages has them, where what the cache gave is counted apart."""
    cached = _number(fields_of(usage.get("prompt_tokens_details")).get("cached_tokens"))
    counted: Json = {
        "input_tokens": max(0, _number(usage.get("prompt_tokens")) - cached),
        "output_tokens": _number(usage.get("completion_tokens")),
    }
    if cached:
        counted["cache_read_input_tokens"] = cached
    details = fields_of(usage.get("completion_tokens_details"))
    if thought := _number(details.get("reasoning_tokens")):
        counted["output_tokens_details"] = {"thinking_tokens": thought}
    return counted


def _number(value: object) -> int:
    return value if type(value) is int else 0


def _event(type_: str, **fields: Any) -> Event:
    return known_events().validate_python({"type": type_, **fields})


class WriteChunks:
    """Make the chunks of a completion out of the events of a message, as they come."""

    def __init__(self, created: int) -> None:
        self._head: Json = {"id": "", "object": "chat.completion.chunk", "created": created}
        self._usage: Json = {}
        self._calls: dict[int, int] = {}

    def add(self, event: Event) -> Iterator[Json]:
        """Yield the chunks of an event; pings and the bounds of blocks have none."""
        match event:
            case MessageStartEvent():
                self._head |= {"id": event.message.id, "model": event.message.model}
                self._usage |= event.message.usage.model_dump(exclude_unset=True)
                yield self._chunk({"role": "assistant", "content": ""})
            case ContentBlockStartEvent():
                yield from self._begin(event)
            case ContentBlockDeltaEvent():
                yield from self._grow(event)
            case MessageDeltaEvent():
                self._usage |= event.usage.model_dump(exclude_unset=True)
                finish = finish_reason(event.delta.stop_reason, bool(self._calls))
                stop = event.delta.stop_sequence
                more = {} if stop is None else {"stop_reason": stop}
                yield self._chunk({}, finish_reason=finish, **more)
            case _:
                pass

    def usage(self) -> Json:
        """Return the last chunk, which counts the tokens and holds nothing else."""
        return {**self._head, "choices": [], "usage": usage_of(Usage.model_validate(self._usage))}

    def _begin(self, event: ContentBlockStartEvent) -> Iterator[Json]:
        block = event.content_block
        if isinstance(block, ToolUseBlock):
            self._calls[event.index] = len(self._calls)
            call = call_of(block)
            function = call.pop("function")
            if not block.input and block.raw_input is None:
                function["arguments"] = ""  # which will come in pieces
            yield self._call(event.index, function, **call)
        elif isinstance(block, TextBlock) and block.text:
            yield self._chunk({"content": block.text})
        elif isinstance(block, ThinkingBlock) and block.thinking:
            yield self._chunk({"reasoning_content": block.thinking})

    def _grow(self, event: ContentBlockDeltaEvent) -> Iterator[Json]:
        delta = event.delta
        if isinstance(delta, TextDelta):
            yield self._chunk({"content": delta.text})
        elif isinstance(delta, ThinkingDelta):
            yield self._chunk({"reasoning_content": delta.thinking})
        elif isinstance(delta, InputJSONDelta) and delta.partial_json:
            yield self._call(event.index, {"arguments": delta.partial_json})

    def _call(self, index: int, function: Json, **more: Any) -> Json:
        call = {"index": self._calls.get(index, 0), **more, "function": function}
        return self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: Json, **more: Any) -> Json:
        choice: Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head, "choices": [{**choice, **more}]}
