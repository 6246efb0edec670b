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

from . import endpoints, errors, media, types
from ._client import AsyncModelsLab, ModelsLab
from ._config import Timeout
from ._output import Strategy
from ._parse import AsyncParsedMessageStream, ParsedMessageStream
from ._stream import AsyncMessageStream, MessageStream
from ._transport import DefaultAioHttpClient, DefaultAsyncHttpxClient, DefaultHttpxClient
from ._version import __version__
from .endpoints import Endpoint
from .errors import *  # noqa: F403
from .media import adocument, aimage, document, image
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

__all__ = [
    "AsyncMessageStream",
    "AsyncModelsLab",
    "AsyncParsedMessageStream",
    "ContentBlock",
    "ContentBlockParam",
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
    "RedactedThinkingBlock",
    "Strategy",
    "TextBlock",
    "ThinkingBlock",
    "Timeout",
    "TokenCount",
    "ToolParam",
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
    "types",
]
__all__ += errors.__all__
