"""Tell those who come from another client what a name of it is called here. Loads nothing.

All such names stand in one table, by where somebody writes them. Whoever refuses a name asks here
for the cure; nothing is refused here but an attribute.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from ._forks import no_fork

Place: TypeAlias = Literal[
    "module", "attribute", "reply", "event", "parameter", "parse", "list", "option"
]
"""Where a name is written: `modelslab_llm.name`, `client.name` (or of its resources, streams and
errors), `message.name` (or of its parts), `event.name`, `messages.create(name=...)`,
`messages.parse(name=...)`, `models.list(name=...)`, `ModelsLab(name=...)`."""

_OF_HTTP = ("proxy", "proxies", "verify", "cert", "limits", "http2", "transport", "event_hooks")

ONCE = ("api_key", "endpoint", "base_url", "deployment_id", "http_client")
"""What a client is built with, and cannot be changed to."""

_LEAVE_OUT = "leave the parameter out, or pass None"
_GATEWAY = "it is ModelsLab(endpoint=endpoints.gateway(...))"
_PARSE = "it is parsed, of the message that messages.parse(output=...) returns"
_CHAT = "call client.messages; modelslab_llm.openai.to_messages converts a chat body"
_OF_ERRORS = "an error itself has status_code, headers and body"
_RAW = "a message has request_id, an error also status_code and headers"
_TEXT_ALONE = "an output is not resumed, only text: messages.create(...) and stream(...) are"
_NOT_HERE = "these servers do not have it"

_TABLE: Mapping[Place, Mapping[str, str]] = {
    "module": {
        **dict.fromkeys(("Anthropic", "OpenAI", "Client"), "it is ModelsLab"),
        **dict.fromkeys(("AsyncAnthropic", "AsyncOpenAI", "AsyncClient"), "it is AsyncModelsLab"),
        **dict.fromkeys(
            ("AnthropicBedrock", "AnthropicVertex", "AnthropicFoundry", "AzureOpenAI"), _GATEWAY
        ),
        **dict.fromkeys(("AnthropicError", "OpenAIError"), "it is ModelsLabError"),
        "APIResponseValidationError": "it is UnexpectedResponseError",
        "ContentTooLargeError": "it is RequestTooLargeError",
        "DeadlineExceededError": "it is GatewayTimeoutError",
        "LengthFinishReasonError": "it is OutputTruncatedError",
        "ContentFilterFinishReasonError": "it is OutputRefusedError",
        **dict.fromkeys(("NOT_GIVEN", "NotGiven", "omit", "Omit", "not_given"), _LEAVE_OUT),
        **dict.fromkeys(("Stream", "MessageStreamManager"), "it is MessageStream"),
        **dict.fromkeys(("AsyncStream", "AsyncMessageStreamManager"), "it is AsyncMessageStream"),
        **dict.fromkeys(("MessageStreamEvent", "RawMessageStreamEvent"), "it is Event"),
        **dict.fromkeys(
            ("beta_tool", "beta_async_tool", "function_tool", "pydantic_function_tool"),
            "it is tool: decorate a typed function",
        ),
        "transform_schema": "messages.parse(output=...) makes the schema of a type",
        "file_from_path": "image(path) and document(path) make blocks of files",
        **dict.fromkeys(
            ("HUMAN_PROMPT", "AI_PROMPT"), 'a turn is {"role": "user", "content": ...}'
        ),
        "DEFAULT_TIMEOUT": "it is Timeout()",
        "ToolUnionParam": "it is ToolParam or ServerToolParam",
        "ParsedTextBlock": "it is TextBlock; the message has parsed",
        "InputJsonDelta": "it is InputJSONDelta",
        "MessageTokensCount": "it is TokenCount",
    },
    "attribute": {
        "api_key": "a client does not show its key; build another client for another key",
        "auth_token": "a client does not show its key; endpoint.auth says which header carries it",
        "base_url": "it is client.endpoint.base_url",
        **dict.fromkeys(("timeout", "max_retries", "default_headers"), "with_options(...) sets it"),
        "default_query": "give it to http_client=DefaultHttpxClient(params=...)",
        "batches": "these servers have no batch API; messages.bulk(rows) asks many at once",
        **dict.fromkeys(("embeddings", "images", "audio", "files", "moderations"), _NOT_HERE),
        "beta": "give betas=[...] to messages.create; tools run by messages.run_tools",
        **dict.fromkeys(("chat", "completions", "responses"), _CHAT),
        "copy": "it is with_options(...)",
        "count_tokens": "it is messages.count_tokens(...)",
        "create": "it is messages.create(...)",
        "is_closed": "nothing tells; close() may be called twice",
        "retrieve": "it is models.list(), which has them all",
        "tool_runner": "it is messages.run_tools(...)",
        "with_raw_response": _RAW,
        "with_streaming_response": "messages.stream(...) gives its events; " + _RAW,
        "current_message_snapshot": "it is current_message",
        "current_completion_snapshot": "it is current_message",
        "get_final_completion": "it is get_final_message()",
        **dict.fromkeys(("until_done", "final_message"), "it is get_final_message()"),
        "final_text": "it is get_final_text()",
        "text_deltas": "it is text_stream",
        **dict.fromkeys(
            ("append_messages", "set_messages_params"), "start another runner from messages"
        ),
        "generate_tool_call_response": "it is calls: answer, refuse or change each",
        "response": _OF_ERRORS,
        **dict.fromkeys(("status", "http_status"), "it is status_code"),
        "arguments": "it is input",
    },
    "reply": {
        "parsed_output": _PARSE,
        "output_parsed": _PARSE,
        **dict.fromkeys(("to_dict", "dict_"), "it is model_dump(), and to_param() to send it back"),
        "to_json": "it is model_dump_json()",
        "choices": "it is one message; modelslab_llm.openai.to_chat_completion gives choices",
        **dict.fromkeys(("output_text", "completion"), "it is text"),
        "finish_reason": "it is stop_reason",
        "tool_calls": "it is tool_uses",
        **dict.fromkeys(("reasoning_content", "reasoning"), "it is thinking"),
        "arguments": "it is input",
        "function": "the call itself has name and input",
        "prompt_tokens": "it is input_tokens",
        "completion_tokens": "it is output_tokens",
        "total_tokens": "add input_tokens and output_tokens",
        "cached_tokens": "it is cache_read_input_tokens",
        "text": "look at its type first; message.text joins the texts",
        **dict.fromkeys(("with_raw_response", "http_response", "response"), _RAW),
    },
    "event": {
        "content_block": "only content_block_start has it; get_final_message() has whole blocks",
        "message": "only message_start has it; the whole one is get_final_message()",
        "text": "it is delta.text, where delta is a TextDelta; or take stream.text_stream",
        "thinking": "it is delta.thinking, where delta is a ThinkingDelta; or take stream.deltas",
        "partial_json": "it is delta.partial_json, where delta is an InputJSONDelta",
        "signature": "it is delta.signature, where delta is a SignatureDelta",
        "citation": "it is delta.citation, where delta is a CitationsDelta",
        "snapshot": "it is stream.current_message",
        "choices": "it is delta; or take stream.deltas",
        **dict.fromkeys(("to_dict", "dict_"), "it is model_dump()"),
        "to_json": "it is model_dump_json()",
    },
    "parameter": {
        "stream": "messages.stream(...) streams, messages.create(...) does not",
        "stop": "the parameter is stop_sequences",
        **dict.fromkeys(
            ("max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
            "the parameter is max_tokens",
        ),
        "functions": "the parameter is tools",
        "function_call": "the parameter is tool_choice",
        "parallel_tool_calls": 'say it in tool_choice: {"type": "auto", '
        '"disable_parallel_tool_use": True}',
        **dict.fromkeys(("prompt", "input"), "the parameter is messages"),
        **dict.fromkeys(("instructions", "system_prompt"), "the parameter is system"),
        **dict.fromkeys(("user", "user_id"), 'say it in metadata: {"user_id": ...}'),
        "reasoning_effort": 'say it in output_config: {"effort": "high"}, or in thinking',
        **dict.fromkeys(
            ("thinking_budget", "budget_tokens"),
            'say it in thinking: {"type": "enabled", "budget_tokens": ...}',
        ),
        "extra_query": "give it to http_client=DefaultHttpxClient(params=...)",
        "api_key": "it belongs to the client: ModelsLab(api_key=...)",
        **dict.fromkeys(
            ("output", "output_format", "response_format", "response_model", "strategy"),
            "messages.parse(output=...) takes that",
        ),
        "validation_retries": "messages.parse(output=..., validation_retries=...) takes that; a "
        "stream is not asked for again",
        **dict.fromkeys(("max_turns", "on_error", "on_cut"), "messages.run_tools(...) takes that"),
        "max_iterations": "messages.run_tools(max_turns=...) takes that",
    },
    "parse": {
        **dict.fromkeys(
            ("output_format", "response_format", "response_model", "schema", "output_type"),
            "the parameter is output",
        ),
        "retries": "the parameter is validation_retries",
        **dict.fromkeys(("resume", "continue_at_max_tokens"), _TEXT_ALONE),
    },
    "list": {
        **dict.fromkeys(
            ("limit", "after_id", "before_id", "after"),
            "it returns all models, page after page; slice the list",
        ),
        **dict.fromkeys(
            ("extra_headers", "extra_query", "timeout"),
            "set it on the client: client.with_options(...)",
        ),
    },
    "option": {
        **{name: f"give it to http_client=DefaultHttpxClient({name}=...)" for name in _OF_HTTP},
        **dict.fromkeys(ONCE, "it cannot be changed, build another client"),
        "default_query": "give it to http_client=DefaultHttpxClient(params=...)",
        "auth_token": "give it as api_key; its header is said by endpoints.gateway(..., auth=...)",
        "auth": "it belongs to the endpoint: endpoint=endpoints.gateway(..., auth=...)",
        **dict.fromkeys(
            ("model", "default_model"),
            "give it with each request, or to the endpoint: endpoints.llm_v7(default_model=...)",
        ),
        **dict.fromkeys(("api_base", "url"), "the argument is base_url"),
    },
}


def hint(place: Place, name: str) -> str:
    """Return what a name of another client is called here; nothing if it is not known.

    >>> hint("parameter", "stop")
    'the parameter is stop_sequences'
    """
    return _TABLE[place].get(name, "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for a misspelt name, or nothing if no known one is near.

    >>> did_you_mean("temprature", ["temperature", "top_p"])
    "did you mean 'temperature'? "
    """
    with no_fork():
        import difflib  # for this alone

    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def no_attribute(place: Place, owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that an object lacks, with what to write instead."""
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    cure = hint(place, name)
    if not cure and not name.startswith("_"):  # those are asked for by programs, to see
        public = [known for known in dir(owner) if not known.startswith("_")]
        cure = did_you_mean(name, public).strip()
    if cure:  # without the object, of which Python would make a question of its own
        return AttributeError(f"{text}: {cure}", name=name)
    return AttributeError(text, name=name, obj=owner)


def no_name(module: str, name: str, known: Iterable[str]) -> AttributeError | ImportError:
    """Return the error for a name that a module lacks, for its `__getattr__` to raise.

    `from module import name` shows no word of an `AttributeError`, so it gets an `ImportError`.
    """
    cure = hint("module", name)
    if not cure and not name.startswith("_"):
        cure = did_you_mean(name, known).strip()
    tail = f": {cure}" if cure else ""
    if cure and _is_from_import():
        return ImportError(f"cannot import name {name!r} from {module!r}{tail}", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}{tail}", name=name)


def _is_from_import() -> bool:
    """Tell whether a module's `__getattr__` was called by `from module import name`."""
    from opcode import opmap

    frame = sys._getframe(3)  # pyright: ignore[reportPrivateUsage]
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


class HintsAtNames:
    """Say, in the `AttributeError`, what another client's name is called here."""

    __slots__ = ()

    if not TYPE_CHECKING:  # to a type checker it would say that every name is there

        def __getattr__(self, name: str) -> object:
            # Python asks here as well when a property fails with an AttributeError: asked once
            # more, it says what it missed, and not that it is missing itself.
            if any(name in vars(kind) for kind in type(self).__mro__):
                return object.__getattribute__(self, name)
            raise no_attribute("attribute", self, name)
