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

# ruff: noqa: I001 - it wants a statement for each `as`

from typing import TYPE_CHECKING

from . import errors as errors
from ._version import __version__ as __version__
from .errors import *  # noqa: F403

if TYPE_CHECKING:  # `as`: so that they count as the package's own
    from . import endpoints as endpoints, media as media, types as types
    from ._client.client import (
        AsyncModelsLab as AsyncModelsLab,
        ClientSpec as ClientSpec,
        ModelsLab as ModelsLab,
    )
    from ._client.warm import warm_up as warm_up
    from ._http.clients import (
        DefaultAioHttpClient as DefaultAioHttpClient,
        DefaultAsyncHttpxClient as DefaultAsyncHttpxClient,
        DefaultHttpxClient as DefaultHttpxClient,
    )
    from ._protocol.config import Timeout as Timeout
    from ._protocol.flow import Flow as Flow
    from ._protocol.stream import (
        AsyncMessageStream as AsyncMessageStream,
        ContentDelta as ContentDelta,
        MessageStream as MessageStream,
    )
    from .conversation import (
        AsyncToolRunner as AsyncToolRunner,
        Conversation as Conversation,
        ToolCall as ToolCall,
        ToolRunner as ToolRunner,
    )
    from .endpoints import Endpoint as Endpoint, Strategy as Strategy
    from .media import (
        adocument as adocument,
        aimage as aimage,
        document as document,
        image as image,
    )
    from .observers import Observer as Observer
    from .structured import (
        AsyncParsedMessageStream as AsyncParsedMessageStream,
        ParsedMessageStream as ParsedMessageStream,
    )
    from .tools import Tool as Tool, tool as tool, tool_result as tool_result
    from .types import (
        CallInfo as CallInfo,
        ContentBlock as ContentBlock,
        ContentBlockParam as ContentBlockParam,
        CountTokensParams as CountTokensParams,
        Event as Event,
        Message as Message,
        MessageCreateParams as MessageCreateParams,
        MessageParam as MessageParam,
        ModelInfo as ModelInfo,
        ModelList as ModelList,
        ParsedMessage as ParsedMessage,
        RateLimit as RateLimit,
        RedactedThinkingBlock as RedactedThinkingBlock,
        TextBlock as TextBlock,
        ThinkingBlock as ThinkingBlock,
        TokenCount as TokenCount,
        ToolParam as ToolParam,
        ToolUseBlock as ToolUseBlock,
        UnknownBlock as UnknownBlock,
        Usage as Usage,
    )

# Where each name is loaded from when it is first asked for: a program that only sends and reads
# starts a tenth faster for it, and pytest, which loads the package for the plugin in every project
# that has it installed, does not wait for the HTTP library.
_FROM = {
    "_client.client": "AsyncModelsLab ClientSpec ModelsLab",
    "_client.warm": "warm_up",
    "_protocol.config": "Timeout",
    "_protocol.flow": "Flow",
    "_http.clients": "DefaultAioHttpClient DefaultAsyncHttpxClient DefaultHttpxClient",
    "structured": "AsyncParsedMessageStream ParsedMessageStream",
    "_protocol.stream": "AsyncMessageStream ContentDelta MessageStream",
    "conversation": "AsyncToolRunner Conversation ToolCall ToolRunner",
    "endpoints": "Endpoint Strategy",
    "observers": "Observer",
    "media": "adocument aimage document image",
    "tools": "Tool tool tool_result",
    "types": "CallInfo ContentBlock ContentBlockParam CountTokensParams Event Message MessageParam "
    "MessageCreateParams ModelInfo ModelList ParsedMessage RateLimit RedactedThinkingBlock "
    "TextBlock ThinkingBlock TokenCount ToolParam ToolUseBlock UnknownBlock Usage",
}
_LATER = {name: module for module, names in _FROM.items() for name in names.split()}
_MODULES = ("endpoints", "errors", "media", "types")


if not TYPE_CHECKING:  # a type checker reads the imports above
    __all__ = sorted(["__version__", *_LATER, *_MODULES, *errors.__all__])

    def __getattr__(name: str) -> object:
        from importlib import import_module

        from ._forks import no_fork

        if name in _LATER:
            with no_fork():
                found = getattr(import_module(f".{_LATER[name]}", __name__), name)
            globals()[name] = found  # so that it is asked for here once
            return found
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        from ._hints import no_name

        raise no_name(__name__, name, __all__)

    def __dir__() -> list[str]:
        return __all__
