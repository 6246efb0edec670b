"""Conversations that are always valid (`Conversation`), and the loop that runs tools in them.

The public face of the room: `_conversation` holds the turns, `_tool_loop` decides how a
conversation with tools continues, and `_runner` sends and runs. Knows no HTTP library.
"""

from ._conversation import Conversation
from ._runner import AsyncToolRunner, ToolRunner
from ._tool_loop import ToolCall

__all__ = ["AsyncToolRunner", "Conversation", "ToolCall", "ToolRunner"]
