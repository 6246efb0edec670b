"""A client for Anthropic-compatible Messages endpoints: ModelsLab v7, GGUF deployments, gateways.

    from modelslab_llm import ModelsLab

    client = ModelsLab()                         # the key comes from MODELSLAB_API_KEY
    message = client.messages.create(
        model="Qwen/Qwen2.5-VL-72B-Instruct-together",
        max_tokens=1024,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )
    print(message.text)

All types of requests, replies and events are in `modelslab_llm.types`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import endpoints, errors, types
from ._client import AsyncModelsLab, ModelsLab
from ._config import Timeout
from ._http_clients import DefaultAioHttpClient, DefaultAsyncHttpxClient, DefaultHttpxClient
from ._stream import AsyncMessageStream, MessageStream, Piece
from ._version import __version__
from .endpoints import Endpoint
from .errors import *  # noqa: F403
from .types import (
    ContentBlock,
    ContentBlockParam,
    CountTokensParams,
    Event,
    Message,
    MessageParam,
    MessageParams,
    ModelInfo,
    ModelList,
    ParsedMessage,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    TokenCount,
    ToolParam,
    ToolUseBlock,
    UnknownBlock,
    Usage,
)

if TYPE_CHECKING:
    from . import media
    from ._output import Strategy
    from ._parse import AsyncParsedMessageStream, ParsedMessageStream
    from ._runner import AsyncToolRunner, ToolRunner
    from ._tool_loop import ToolCall
    from .conversation import Conversation
    from .media import adocument, aimage, document, image
    from .tools import Tool, tool, tool_result

__all__ = [
    "AsyncMessageStream",
    "AsyncModelsLab",
    "AsyncParsedMessageStream",
    "AsyncToolRunner",
    "ContentBlock",
    "ContentBlockParam",
    "Conversation",
    "CountTokensParams",
    "DefaultAioHttpClient",
    "DefaultAsyncHttpxClient",
    "DefaultHttpxClient",
    "Endpoint",
    "Event",
    "Message",
    "MessageParam",
    "MessageParams",
    "MessageStream",
    "ModelInfo",
    "ModelList",
    "ModelsLab",
    "ParsedMessage",
    "ParsedMessageStream",
    "Piece",
    "RedactedThinkingBlock",
    "Strategy",
    "TextBlock",
    "ThinkingBlock",
    "Timeout",
    "TokenCount",
    "Tool",
    "ToolCall",
    "ToolParam",
    "ToolRunner",
    "ToolUseBlock",
    "UnknownBlock",
    "Usage",
    "__version__",
    "adocument",
    "aimage",
    "document",
    "endpoints",
    "errors",
    "image",
    "media",
    "tool",
    "tool_result",
    "types",
]
__all__ += errors.__all__

# Loaded when first asked for: a program that only sends and reads starts a tenth faster for it.
_LATER = {
    "media": "",
    "Strategy": "_output",
    "AsyncParsedMessageStream": "_parse",
    "ParsedMessageStream": "_parse",
    "AsyncToolRunner": "_runner",
    "ToolRunner": "_runner",
    "ToolCall": "_tool_loop",
    "Conversation": "conversation",
    "adocument": "media",
    "aimage": "media",
    "document": "media",
    "image": "media",
    "Tool": "tools",
    "tool": "tools",
    "tool_result": "tools",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LATER[name] or name}", __name__)
    return getattr(module, name) if _LATER[name] else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
