"""Read a message as programs read it, whichever library it came from."""

from __future__ import annotations

from typing import Any

from .told import Answer, Tool


def read(message: Any) -> Answer:
    """Return what a program finds in a message. Raises whatever such a program would meet."""
    text, thinking, tools = "", "", []
    for block in message.content:
        if block.type == "text":
            text += block.text
        elif block.type == "thinking":
            thinking += block.thinking
        elif block.type == "tool_use":
            whole = getattr(block, "input_complete", True)
            tools.append(Tool(block.name, block.input if whole else None))
    tokens = message.usage.output_tokens or 0
    return Answer(text, thinking, tuple(tools), message.stop_reason, tokens)
