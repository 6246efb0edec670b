"""One answer as a server tells it event by event, and what of it is known after each event.

The smallest answer in which everything occurs that can break: thinking, text, a tool call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raw_server import event


@dataclass(frozen=True)
class Tool:
    """A call of a tool, as a program sees it."""

    name: str
    input: dict[str, Any] | None
    """None: the arguments are incomplete, and the library says so."""


@dataclass(frozen=True)
class Answer:
    """What a program reads out of a message, whichever library it has it from."""

    text: str = ""
    thinking: str = ""
    tools: tuple[Tool, ...] = ()
    stop_reason: str | None = None
    output_tokens: int = 0


def delta(index: int, kind: str, **fields: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": f"{kind}_delta", **fields})


def begin(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def shut(index: int) -> bytes:
    return event("content_block_stop", index=index)


def end(reason: str | None) -> bytes:
    return event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 9})


START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
)
CALL = begin(2, "tool_use", id="toolu_1", name="level", input={})
INPUT = {"river": "Tamar", "unit": "cm"}
CUT = (Tool("level", None),)

# each event, and what it adds to what is known
STEPS: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (START, {"output_tokens": 1}),
    (begin(0, "thinking", thinking="", signature=""), {}),
    (delta(0, "thinking", thinking="A river: "), {"thinking": "A river: "}),
    (delta(0, "thinking", thinking="tidal?"), {"thinking": "A river: tidal?"}),
    (delta(0, "signature", signature="c2ln"), {}),
    (shut(0), {}),
    (begin(1, "text", text=""), {}),
    (event("ping"), {}),
    (delta(1, "text", text="Für den "), {"text": "Für den "}),
    (delta(1, "text", text="Tamar – "), {"text": "Für den Tamar – "}),
    (shut(1), {}),
    (CALL, {"tools": CUT}),
    (delta(2, "input_json", partial_json='{"river": "Tam'), {}),
    (delta(2, "input_json", partial_json='ar", "unit": '), {}),
    (delta(2, "input_json", partial_json='"cm"}'), {"tools": (Tool("level", INPUT),)}),
    (shut(2), {}),
    (end("tool_use"), {"stop_reason": "tool_use", "output_tokens": 9}),
    (event("message_stop"), {}),
)
TOLD = tuple(step[0] for step in STEPS)
"""The whole answer, event by event."""


def known(count: int) -> Answer:
    """Return what is known after so many events."""
    found = Answer()
    for _, more in STEPS[:count]:
        found = replace(found, **more)
    return found


ANSWER = known(len(STEPS))
IN_TEXT = 9
"""How many events have come when half of the text is there."""
IN_CALL = 13
"""How many events have come when half of the tool's arguments are there."""
NEARLY = len(TOLD) - 1
"""All but the last event, which is `message_stop`: why it stopped is known."""

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": ANSWER.thinking, "signature": "c2ln"},
        {"type": "text", "text": ANSWER.text},
        {"type": "tool_use", "id": "toolu_1", "name": "level", "input": INPUT},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 9},
}
"""The same answer at once."""
