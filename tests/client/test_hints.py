"""Names of other clients, and misspelt ones, are answered with ours wherever they are written."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import anyio
import pytest

import modelslab_llm
from modelslab_llm import (
    APIError,
    AsyncMessageStream,
    AsyncModelsLab,
    Message,
    MessageCreateParams,
    MessageStream,
    ModelsLab,
    ParsedMessageStream,
    ToolRunner,
    Usage,
)
from modelslab_llm._client.messages import Messages
from modelslab_llm._client.models import Models
from modelslab_llm._hints import _TABLE as TABLE
from modelslab_llm.bulk import AsyncBulkRun, BulkOptions, BulkResult, BulkRun, BulkStore

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hello there"}],
}


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("client.base_url", "client.endpoint.base_url"),
        ("client.copy", "with_options"),
        ("client.beta", "betas="),
        ("client.messages.tool_runner", "messages.run_tools"),
        ("client.messages.with_raw_response", "request_id"),
        ("stream.current_message_snapshot", "use current_message$"),
        ("stream.until_done", "get_final_message"),
        ("stream.text", r"use get_final_text\(\), or text_stream"),
        ("stream.usage", "current_message for what has arrived"),
        ("stream.response", "use call_info and request_id$"),
        ("run.results", "iterate the run, which yields each result$"),
        ("run.usage", "use progress.input_tokens"),
        ("run.plann", "did you mean 'plan'[?]$"),
        ("result.text", "use message.text$"),
        ("result.output", "use parsed$"),
        ("result.exception", "error says why a row failed"),
        ("kept.results", "iterate the store"),
        ("kept.to_csv", r"use write_csv\(path\)$"),
        ("error.response", "status_code, headers and body"),
        ("client.api_key", "a client does not show its key"),
        ("client.timeout", r"set it with with_options"),
        ("client.completions", "use client.messages"),
        ("client.variant", "'ModelsLab' object has no attribute 'variant'$"),
        ("client._colour", "'ModelsLab' object has no attribute '_colour'$"),
        ("client.messages.creat", "did you mean 'create'[?]$"),
        ("client.messages.batches", r"messages.bulk\(rows\) sends many requests"),
        ("client.models.retrieve", r"use models.list\(\)"),
        ("runner.until_done", "get_final_message"),
        ("runner.generate_tool_call_response", "use calls"),
        ("error.status", "use status_code"),
        ("error.mesage", "did you mean 'message'[?]$"),
        ("message.parsed_output", r"use parsed, .* messages.parse\(output=...\)"),
        ("message.to_dict", r"use model_dump\(\), and to_param\(\)"),
        ("message.to_json", r"use model_dump_json\(\)"),
        ("message.choices", "to_chat_completion"),
        ("message.stop_reson", "did you mean 'stop_reason'[?]$"),
        ("message.usage.prompt_tokens", "use input_tokens"),
        ("message.usage.total_tokens", "add input_tokens and output_tokens"),
        ("call.text", "check its type first"),
        ("call.arguments", "use input"),
        ("started.text", "use delta.text"),
        ("stopped.content_block", r"use stream.current_message.content\[event.index\]$"),
        ("stopped.snapshot", "use stream.current_message"),
        ("over.message", r"get_final_message\(\) returns the complete one"),
        ("package.Anthropic", "use ModelsLab$"),
        ("package.AsyncAnthropic", "use AsyncModelsLab$"),
        ("package.AnthropicError", "use ModelsLabError$"),
        ("package.APIResponseValidationError", "use UnexpectedResponseError$"),
        ("package.NOT_GIVEN", "leave the parameter out"),
        ("package.omit", "leave the parameter out"),
        ("package.beta_tool", "use tool"),
        ("package.ModelLab", "did you mean 'ModelsLab'[?]$"),
        ("package.variant", "has no attribute 'variant'$"),
        ("package.types.RawMessageStreamEvent", "use Event$"),
        ("package.types.ToolUnionParam", "use ToolParam or ServerToolParam$"),
        ("package.types.ToolUseBlok", "did you mean 'ToolUseBlock'[?]$"),
    ],
)
def test_an_attribute_of_another_client_is_answered_with_ours(path: str, hint: str) -> None:
    use = {"type": "tool_use", "id": "a", "name": "level", "input": {}}
    with ModelsLab("k") as client:
        value: Any = {"client": client, "error": APIError("x"), "package": modelslab_llm}
        value["stream"] = client.messages.stream(**ASK)
        value["run"] = client.messages.bulk([])
        value["result"] = BulkResult("a", 0, None, "asked", usage=Usage())
        value["kept"] = BulkStore.__new__(BulkStore)
        value["runner"] = client.messages.run_tools(**ASK)
        value["message"] = Message.model_validate({"content": [use]})
        value["call"] = value["message"].content[0]
        value["started"] = modelslab_llm.types.MessageStartEvent()
        value["stopped"] = modelslab_llm.types.ContentBlockStopEvent()
        value["over"] = modelslab_llm.types.MessageStopEvent()
        first, *names = path.split(".")
        value = value[first]
        for name in names[:-1]:
            value = getattr(value, name)
        with pytest.raises(AttributeError, match=hint) as refused:
            getattr(value, names[-1])
        assert refused.value.name == names[-1]
        assert not hasattr(value, names[-1])


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (
            "from modelslab_llm import Anthropic",
            "'Anthropic' from 'modelslab_llm': use ModelsLab$",
        ),
        ("from modelslab_llm import errors, NOT_GIVEN", "leave the parameter out"),
        ("from modelslab_llm import ModelLab", "did you mean 'ModelsLab'[?]$"),
        ("from modelslab_llm.types import ToolUnionParam", "use ToolParam or ServerToolParam$"),
        ("from modelslab_llm import nothing_like_it", "cannot import name 'nothing_like_it'"),
    ],
)
def test_an_import_from_another_client_is_answered_with_ours(line: str, hint: str) -> None:
    """Python shows no word of an AttributeError there, so the hint comes as an ImportError."""
    with pytest.raises(ImportError, match=hint):
        exec(line, {})


@pytest.mark.parametrize("name", ["limit", "after_id", "timeout", "variant"])
@pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
def test_models_list_takes_no_parameters(kind: Any, name: str) -> None:
    cure = {"variant": "it takes none", "timeout": "with_options"}.get(name, "returns all models")
    listed = kind("k").models.list
    assert str(inspect.signature(listed)) == "() -> 'ModelList'"
    assert inspect.iscoroutinefunction(listed) is (kind is AsyncModelsLab)
    with pytest.raises(TypeError, match=rf"models.list\(\) has no parameter '{name}': .*{cure}"):
        anyio.run(partial(listed, **{name: 1})) if kind is AsyncModelsLab else listed(**{name: 1})


def test_a_hint_names_what_is_there() -> None:
    """No name of the table is one that we have ourselves in that place."""
    for name in TABLE["module"]:
        assert name not in modelslab_llm.__all__
        assert name not in modelslab_llm.types.__all__
    for kind in (ModelsLab, Messages, Models, ToolRunner):
        for name in TABLE["attribute"]:
            assert name in ("count_tokens", "create") or not hasattr(kind, name), name
    places: dict[Any, Any] = {
        "stream": [MessageStream, AsyncMessageStream, ParsedMessageStream],
        "run": [BulkRun, AsyncBulkRun],
        "result": [BulkResult],
        "store": [BulkStore],
    }
    for place, kinds in places.items():
        for kind in kinds:
            assert kind._place == place
            for name in TABLE[place]:
                assert not hasattr(kind, name), (kind, name)
    named = inspect.signature(Messages.bulk).parameters.keys() | BulkOptions.__annotations__
    assert not TABLE["bulk"].keys() & named
    for name in TABLE["parameter"]:
        assert name not in MessageCreateParams.__annotations__
