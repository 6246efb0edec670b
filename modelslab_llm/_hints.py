"""Suggest the right name for a name of another client. Loads nothing.

All such names are in one table, by the place where they are written. Code that refuses a name gets
the suggestion here; only attributes are refused here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from ._forks import no_fork

Place: TypeAlias = Literal[
    "module",
    "attribute",
    "stream",
    "reply",
    "event",
    "parameter",
    "parse",
    "list",
    "option",
    "bulk",
    "run",
    "result",
    "store",
]
"""Where a name is written: `modelslab_llm.name`, `client.name` (or of its resources, tool runners
and errors), `stream.name`, `message.name` (or of its parts), `event.name`,
`messages.create(name=...)`, `messages.parse(name=...)`, `models.list(name=...)`,
`ModelsLab(name=...)`; and of a bulk run `messages.bulk(name=...)`, `run.name`, `result.name`,
`store.name`."""

_OF_HTTP = ("proxy", "proxies", "verify", "cert", "limits", "http2", "transport", "event_hooks")

_PATIENCE = ("max_retries", "max_retry_wait", "deadline", "progress_timeout", "max_queue_wait")

ONCE = ("api_key", "endpoint", "base_url", "deployment_id", "http_client")
"""Arguments of the constructor that `with_options` cannot change."""

_LEAVE_OUT = "leave the parameter out, or pass None"
_GATEWAY = "use ModelsLab(endpoint=endpoints.gateway(...))"
_PARSE = "use parsed, of the message that messages.parse(output=...) returns"
_CHAT = "use client.messages; modelslab_llm.openai.to_messages converts a chat request"
_OF_ERRORS = "the error itself has status_code, headers and body"
_RAW = "a message has request_id; an error also has status_code and headers"
_TEXT_ALONE = "only text can be resumed: use messages.create(...) or stream(...)"
_NOT_HERE = "these servers do not support it"

_FINAL = "use get_final_message(), or current_message for what has arrived"
_WHY_FAILED = "error says why a row failed, and is None for an answer"
_OF_STREAMS = {
    "current_message_snapshot": "use current_message",
    "current_completion_snapshot": "use current_message",
    "get_final_completion": "use get_final_message()",
    **dict.fromkeys(("until_done", "final_message"), "use get_final_message()"),
    "final_text": "use get_final_text()",
    "text_deltas": "use text_stream",
}

_TABLE: Mapping[Place, Mapping[str, str]] = {
    "module": {
        **dict.fromkeys(("Anthropic", "OpenAI", "Client"), "use ModelsLab"),
        **dict.fromkeys(("AsyncAnthropic", "AsyncOpenAI", "AsyncClient"), "use AsyncModelsLab"),
        **dict.fromkeys(
            ("AnthropicBedrock", "AnthropicVertex", "AnthropicFoundry", "AzureOpenAI"), _GATEWAY
        ),
        **dict.fromkeys(("AnthropicError", "OpenAIError"), "use ModelsLabError"),
        "APIResponseValidationError": "use UnexpectedResponseError",
        "ContentTooLargeError": "use RequestTooLargeError",
        "DeadlineExceededError": "use GatewayTimeoutError",
        "LengthFinishReasonError": "use OutputTruncatedError",
        "ContentFilterFinishReasonError": "use OutputRefusedError",
        **dict.fromkeys(("NOT_GIVEN", "NotGiven", "omit", "Omit", "not_given"), _LEAVE_OUT),
        **dict.fromkeys(("Stream", "MessageStreamManager"), "use MessageStream"),
        **dict.fromkeys(("AsyncStream", "AsyncMessageStreamManager"), "use AsyncMessageStream"),
        **dict.fromkeys(("MessageStreamEvent", "RawMessageStreamEvent"), "use Event"),
        **dict.fromkeys(
            ("beta_tool", "beta_async_tool", "function_tool", "pydantic_function_tool"),
            "use tool: decorate a typed function",
        ),
        "transform_schema": "messages.parse(output=...) builds the schema of a type",
        "file_from_path": "image(path) and document(path) build blocks from files",
        **dict.fromkeys(
            ("HUMAN_PROMPT", "AI_PROMPT"), 'a turn is {"role": "user", "content": ...}'
        ),
        "DEFAULT_TIMEOUT": "use Timeout()",
        "ToolUnionParam": "use ToolParam or ServerToolParam",
        "ParsedTextBlock": "use TextBlock; the message has parsed",
        "InputJsonDelta": "use InputJSONDelta",
        "MessageTokensCount": "use TokenCount",
    },
    "attribute": {
        "api_key": "a client does not show its key; create another client for another key",
        "auth_token": "a client does not show its key; endpoint.auth names the header",
        "base_url": "use client.endpoint.base_url",
        **dict.fromkeys(
            ("timeout", "max_retries", "default_headers"), "set it with with_options(...)"
        ),
        "default_query": "pass it to http_client=DefaultHttpxClient(params=...)",
        "batches": "these servers have no batch API; messages.bulk(rows) sends many requests",
        **dict.fromkeys(("embeddings", "images", "audio", "files", "moderations"), _NOT_HERE),
        "beta": "pass betas=[...] to messages.create; run tools with messages.run_tools",
        **dict.fromkeys(("chat", "completions", "responses"), _CHAT),
        "copy": "use with_options(...)",
        "count_tokens": "use messages.count_tokens(...)",
        "create": "use messages.create(...)",
        "is_closed": "there is no such flag; close() can be called twice",
        "retrieve": "use models.list(), which returns all of them",
        "tool_runner": "use messages.run_tools(...)",
        "with_raw_response": _RAW,
        "with_streaming_response": "messages.stream(...) yields events; " + _RAW,
        **_OF_STREAMS,
        **dict.fromkeys(
            ("append_messages", "set_messages_params"), "start another runner from messages"
        ),
        "generate_tool_call_response": "use calls: answer, refuse or change each of them",
        "response": _OF_ERRORS,
        **dict.fromkeys(("status", "http_status"), "use status_code"),
        "arguments": "use input",
    },
    "stream": {
        **_OF_STREAMS,
        "text": "use get_final_text(), or text_stream for each piece",
        **dict.fromkeys(("message", "content", "stop_reason", "tool_uses", "usage"), _FINAL),
        "thinking": "use deltas, or thinking of the message that get_final_message() returns",
        **dict.fromkeys(("parsed", "parsed_output", "output_parsed"), _PARSE),
        **dict.fromkeys(("snapshot", "current_snapshot"), "use current_message"),
        **dict.fromkeys(("events", "iter_events"), "iterate the stream itself"),
        **dict.fromkeys(("response", "http_response", "headers"), "use call_info and request_id"),
        "error": "a failure is raised; has_failed says whether there was one",
    },
    "reply": {
        "parsed_output": _PARSE,
        "output_parsed": _PARSE,
        **dict.fromkeys(("to_dict", "dict_"), "use model_dump(), and to_param() to send it back"),
        "to_json": "use model_dump_json()",
        "choices": "there is one message; modelslab_llm.openai.to_chat_completion returns choices",
        **dict.fromkeys(("output_text", "completion"), "use text"),
        "finish_reason": "use stop_reason",
        "tool_calls": "use tool_uses",
        **dict.fromkeys(("reasoning_content", "reasoning"), "use thinking"),
        "arguments": "use input",
        "function": "the call itself has name and input",
        "prompt_tokens": "use input_tokens",
        "completion_tokens": "use output_tokens",
        "total_tokens": "add input_tokens and output_tokens",
        "cached_tokens": "use cache_read_input_tokens",
        "text": "check its type first; message.text joins all texts",
        **dict.fromkeys(("with_raw_response", "http_response", "response"), _RAW),
    },
    "event": {
        "content_block": "only content_block_start has it; use "
        "stream.current_message.content[event.index]",
        "message": "only message_start has it; get_final_message() returns the complete one",
        "text": "use delta.text if delta is a TextDelta, or stream.text_stream",
        "thinking": "use delta.thinking if delta is a ThinkingDelta, or stream.deltas",
        "partial_json": "use delta.partial_json if delta is an InputJSONDelta",
        "signature": "use delta.signature if delta is a SignatureDelta",
        "citation": "use delta.citation if delta is a CitationsDelta",
        "snapshot": "use stream.current_message",
        "choices": "use delta, or stream.deltas",
        **dict.fromkeys(("to_dict", "dict_"), "use model_dump()"),
        "to_json": "use model_dump_json()",
    },
    "parameter": {
        "stream": "use messages.stream(...) to stream; messages.create(...) does not",
        "stop": "use stop_sequences",
        **dict.fromkeys(
            ("max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
            "use max_tokens",
        ),
        "functions": "use tools",
        "function_call": "use tool_choice",
        "parallel_tool_calls": 'use tool_choice: {"type": "auto", '
        '"disable_parallel_tool_use": True}',
        **dict.fromkeys(("prompt", "input"), "use messages"),
        **dict.fromkeys(("instructions", "system_prompt"), "use system"),
        **dict.fromkeys(("user", "user_id"), 'use metadata: {"user_id": ...}'),
        "reasoning_effort": 'use output_config: {"effort": "high"}, or in thinking',
        **dict.fromkeys(
            ("thinking_budget", "budget_tokens"),
            'use thinking: {"type": "enabled", "budget_tokens": ...}',
        ),
        "extra_query": "pass it to http_client=DefaultHttpxClient(params=...)",
        "api_key": "pass it to the client: ModelsLab(api_key=...)",
        **dict.fromkeys(
            ("output", "output_format", "response_format", "response_model", "strategy"),
            "use messages.parse(output=...)",
        ),
        "validation_retries": "use messages.parse(output=..., validation_retries=...); a "
        "stream is not sent again",
        **dict.fromkeys(("max_turns", "on_error", "on_cut"), "use messages.run_tools(...)"),
        "max_iterations": "use messages.run_tools(max_turns=...)",
    },
    "parse": {
        **dict.fromkeys(
            ("output_format", "response_format", "response_model", "schema", "output_type"),
            "use output",
        ),
        "retries": "use validation_retries",
        **dict.fromkeys(("resume", "continue_at_max_tokens"), _TEXT_ALONE),
    },
    "list": {
        **dict.fromkeys(
            ("limit", "after_id", "before_id", "after"),
            "it returns all models of all pages; slice the list",
        ),
        **dict.fromkeys(
            ("extra_headers", "extra_query", "timeout"),
            "set it on the client: client.with_options(...)",
        ),
    },
    "option": {
        **{name: f"pass it to http_client=DefaultHttpxClient({name}=...)" for name in _OF_HTTP},
        **dict.fromkeys(ONCE, "it cannot be changed; create another client"),
        "default_query": "pass it to http_client=DefaultHttpxClient(params=...)",
        "auth_token": "pass it as api_key; endpoints.gateway(..., auth=...) sets its header",
        "auth": "pass it to the endpoint: endpoint=endpoints.gateway(..., auth=...)",
        **dict.fromkeys(
            ("model", "default_model"),
            "pass it with each request, or to the endpoint: endpoints.llm_v7(default_model=...)",
        ),
        **dict.fromkeys(("api_base", "url"), "use base_url"),
    },
    "bulk": {
        **dict.fromkeys(
            ("concurrency", "max_concurrency", "max_concurrent", "max_concurrent_requests"),
            "use max_in_flight",
        ),
        **dict.fromkeys(
            ("workers", "max_workers", "num_workers", "n_workers", "threads", "n_jobs"),
            "use max_in_flight",
        ),
        **dict.fromkeys(
            ("parallel", "parallelism", "max_parallel", "in_flight", "semaphore", "batch_size"),
            "use max_in_flight",
        ),
        **dict.fromkeys(
            ("prompt", "template", "to_params", "make_params", "build", "func", "fn", "map"),
            "use make, a function that returns the parameters for a row",
        ),
        **dict.fromkeys(
            ("id", "ids", "id_field", "id_column", "key_field", "key_column", "custom_id"),
            "use key",
        ),
        **dict.fromkeys(("params", "shared", "common"), "use defaults"),
        **dict.fromkeys(
            ("path", "file", "db", "database", "cache", "checkpoint", "output_file"), "use store"
        ),
        **dict.fromkeys(
            ("output_type", "output_format", "response_format", "response_model", "schema"),
            "use output",
        ),
        **dict.fromkeys(("max_errors", "max_error_count", "fail_fast"), "use max_failures"),
        **dict.fromkeys(("retry_errors", "retry_failures"), "use retry_failed"),
        **dict.fromkeys(("max_cost", "cost_limit"), "use budget"),
        **dict.fromkeys(("dedupe", "dedup", "unique"), "use deduplicate"),
        **dict.fromkeys(
            ("show_progress", "progress_bar", "on_progress", "callback", "tqdm", "verbose"),
            "use progress",
        ),
        **dict.fromkeys(("length", "n_rows"), "use total"),
        "dry_run": "call plan() on the run",
        **{name: f"set it on the client: client.with_options({name}=...)" for name in _PATIENCE},
        "retries": "set it on the client: client.with_options(max_retries=...)",
    },
    "run": {
        **dict.fromkeys(
            ("results", "items", "rows", "stream", "as_completed"),
            "iterate the run, which yields each result",
        ),
        **dict.fromkeys(
            ("run", "start", "execute", "wait", "join", "result", "get"),
            "iterate the run, or use finish() if you need the results only in the store",
        ),
        **dict.fromkeys(("cancel", "stop", "abort", "shutdown"), "use close()"),
        **dict.fromkeys(("stats", "status", "state", "summary", "counts"), "use progress"),
        **{name: f"use progress.{name}" for name in ("total", "done", "failed", "cost")},
        "usage": "use progress.input_tokens and progress.output_tokens",
        **dict.fromkeys(
            ("errors", "failures"), "iterate the run: the error of a result says why it failed"
        ),
        **dict.fromkeys(("dry_run", "estimate"), "use plan()"),
        **dict.fromkeys(
            ("to_pandas", "to_polars", "write_csv", "write_jsonl", "write_parquet", "to_csv"),
            "use BulkStore(path), with the file of store=",
        ),
    },
    "result": {
        "text": "use message.text",
        "content": "use message.content",
        "stop_reason": "use message.stop_reason",
        "model": "use message.model",
        **dict.fromkeys(("answer", "response", "reply", "completion", "result"), "use message"),
        **dict.fromkeys(("output", "parsed_output", "data", "value"), "use parsed"),
        **dict.fromkeys(
            ("ok", "success", "succeeded", "is_ok", "failed", "is_error", "status"), _WHY_FAILED
        ),
        **dict.fromkeys(("exception", "failure", "errors", "error_message"), _WHY_FAILED),
        **dict.fromkeys(("id", "custom_id"), "use key"),
        **dict.fromkeys(("input", "request", "params", "record", "item"), "use row"),
        **dict.fromkeys(("position", "number"), "use index"),
        "request_id": "use message.request_id, or error.request_id",
        "tokens": "use usage",
    },
    "store": {
        **dict.fromkeys(
            ("results", "rows", "items", "values", "all", "keys"),
            "iterate the store, which yields each result",
        ),
        **dict.fromkeys(
            ("errors", "failures"), "iterate the store: the error of a result says why it failed"
        ),
        **dict.fromkeys(("to_csv", "save_csv", "export_csv"), "use write_csv(path)"),
        **dict.fromkeys(("to_jsonl", "to_json", "export", "save"), "use write_jsonl(path)"),
        **dict.fromkeys(("to_parquet", "save_parquet"), "use write_parquet(path)"),
        **dict.fromkeys(("to_df", "to_dataframe", "df"), "use to_pandas() or to_polars()"),
    },
}


def hint(place: Place, name: str) -> str:
    """Return the suggestion for a name of another client; empty if it is not known.

    >>> hint("parameter", "stop")
    'use stop_sequences'
    """
    return _TABLE[place].get(name, "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for a misspelled name; empty if no known name is similar.

    >>> did_you_mean("temprature", ["temperature", "top_p"])
    "did you mean 'temperature'? "
    """
    with no_fork():
        import difflib  # for this alone

    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def right_parameter(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of an unknown parameter of a request.

    >>> right_parameter("seed", ["model", "top_p"])
    "pass server-specific parameters in extra_body={'seed': ...}"
    """
    only = f"pass server-specific parameters in extra_body={{{name!r}: ...}}"
    return hint("parameter", name) or did_you_mean(name, known) + only


def no_attribute(place: Place, owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that an object lacks, with what to write instead."""
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    cure = hint(place, name)
    if not cure and not name.startswith("_"):  # those are asked for by programs, to see
        public = [known for known in dir(owner) if not known.startswith("_")]
        cure = did_you_mean(name, public).strip()
    if cure:  # without the object, from which Python would make its own suggestion
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
    """Add the suggestion for another client's name to the `AttributeError`."""

    __slots__ = ()
    _place: ClassVar[Place] = "attribute"

    if not TYPE_CHECKING:  # to a type checker it would say that every name is there

        def __getattr__(self, name: str) -> object:
            # Python asks here as well when a property fails with an AttributeError: asked once
            # more, it says what it missed, and not that it is missing itself.
            if any(name in vars(kind) for kind in type(self).__mro__):
                return object.__getattribute__(self, name)
            raise no_attribute(self._place, self, name)
