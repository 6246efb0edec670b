"""Conversations that can always be sent (`Conversation`), and the loop that runs tools in them.

The public face of the room: `_conversation` holds turns, `_tool_loop` decides how a conversation
with tools goes on, and the runners of `_runner` do it. Knows no HTTP library.
"""

from ._conversation import Conversation
from ._runner import AsyncToolRunner, ToolRunner
from ._tool_loop import ToolCall

__all__ = ["AsyncToolRunner", "Conversation", "ToolCall", "ToolRunner"]
