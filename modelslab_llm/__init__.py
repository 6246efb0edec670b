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

(PYTEST_DONT_REWRITE: pytest knows this package by its plugin, and would warn of it being loaded
before.)
"""

from typing import TYPE_CHECKING

from ._version import __version__
from .errors import *  # noqa: F403

if TYPE_CHECKING:
    from . import endpoints, errors, media, types
    from ._client.client import AsyncModelsLab, ModelsLab
    from ._http.clients import DefaultAioHttpClient, DefaultAsyncHttpxClient, DefaultHttpxClient
    from ._protocol.config import Timeout
    from ._protocol.stream import AsyncMessageStream, ContentDelta, MessageStream
    from .conversation import Conversation
    from .conversation._runner import AsyncToolRunner, ToolRunner
    from .conversation._tool_loop import ToolCall
    from .endpoints import Endpoint, Strategy
    from .media import adocument, aimage, document, image
    from .structured._parse import AsyncParsedMessageStream, ParsedMessageStream
    from .tools import Tool, tool, tool_result
    from .types import (
        ContentBlock,
        ContentBlockParam,
        CountTokensParams,
        Event,
        Message,
        MessageCreateParams,
        MessageParam,
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

__all__ = [
    "AsyncMessageStream",
    "AsyncModelsLab",
    "AsyncParsedMessageStream",
    "AsyncToolRunner",
    "ContentBlock",
    "ContentBlockParam",
    "ContentDelta",
    "Conversation",
    "CountTokensParams",
    "DefaultAioHttpClient",
    "DefaultAsyncHttpxClient",
    "DefaultHttpxClient",
    "Endpoint",
    "Event",
    "Message",
    "MessageCreateParams",
    "MessageParam",
    "MessageStream",
    "ModelInfo",
    "ModelList",
    "ModelsLab",
    "ParsedMessage",
    "ParsedMessageStream",
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

# Where each name is loaded from when it is first asked for: a program that only sends and reads
# starts a tenth faster for it, and pytest, which loads the package for the plugin in every project
# that has it installed, does not wait for the HTTP library.
_FROM = {
    "_client.client": "AsyncModelsLab ModelsLab",
    "_protocol.config": "Timeout",
    "_http.clients": "DefaultAioHttpClient DefaultAsyncHttpxClient DefaultHttpxClient",
    "structured._parse": "AsyncParsedMessageStream ParsedMessageStream",
    "conversation._runner": "AsyncToolRunner ToolRunner",
    "_protocol.stream": "AsyncMessageStream ContentDelta MessageStream",
    "conversation._tool_loop": "ToolCall",
    "conversation": "Conversation",
    "endpoints": "Endpoint Strategy",
    "media": "adocument aimage document image",
    "tools": "Tool tool tool_result",
    "types": "ContentBlock ContentBlockParam CountTokensParams Event Message MessageParam "
    "MessageCreateParams ModelInfo ModelList ParsedMessage RedactedThinkingBlock TextBlock "
    "ThinkingBlock TokenCount ToolParam ToolUseBlock UnknownBlock Usage",
}
_LATER = {name: module for module, names in _FROM.items() for name in names.split()}
_MODULES = ("endpoints", "errors", "media", "types")


if not TYPE_CHECKING:  # to a type checker it would say that the package has every name there is

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in _LATER:
            found = getattr(import_module(f".{_LATER[name]}", __name__), name)
            globals()[name] = found  # so that it is asked for here once
            return found
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
