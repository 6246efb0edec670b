"""Structured output on the real `llama-server`, by each strategy, in all variants.

The model is scripted, but the call it makes has to pass the grammar that llama-server builds from
the schema: a schema it cannot take is a 400, and arguments that do not fit cannot be said.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import pytest
from llama.fixtures import MODEL_NAME, serve
from llama.scripts import TOOL_RESULT_LAST, ScriptedModel, asked_for
from llama.server import LlamaServer
from pydantic import BaseModel, Field, TypeAdapter
from variants import Async, Sync

from modelslab_llm import (
    BadRequestError,
    InvalidRequestError,
    OutputInvalidError,
    OutputTruncatedError,
    endpoints,
)


class Level(BaseModel):
    """The level of a river on one day."""

    river: str
    cm: int


class Gauge(BaseModel):
    """Nothing here fits into a grammar as it stands: a root of its own kind, patterns, lengths."""

    code: Annotated[str, Field(pattern=r"\d{3}", max_length=5000)]
    price: Decimal
    next: Gauge | None = None


TAMAR = Level(river="Tamar ⚓", cm=214)

CALL = (
    *("<tool_", "call>\n", '{"name": "', 'output", "argu', 'ments": {', '"river": "Ta'),
    *("mar ⚓", '", "cm"', ": 21", "4}", "}\n</tool", "_call>"),
)
LIST_CALL = (  # two levels; the same spelling in other pieces
    *("<tool", '_call>\n{"name"', ': "output"', ', "arguments"', ': {"value"', ': [{"river"'),
    *(': "Exe"', ', "cm":', " 7}, {", '"river"', ': "Dart"', ', "cm": 9', "}]}}\n", "</tool_call>"),
)
WRONG_CALL = (  # fits the grammar, but not the type: the pattern was told in words
    *(
        "<tool_call>",
        '\n{"name": "output"',
        ', "arguments": {"value": {',
        '"code": "ab"',
        ', "price": 1.5',
    ),
    *("}}}", "\n</tool_call>"),
)
RIGHT_CALL = (
    *(
        "<tool_call>\n{",
        '"name": "outp',
        'ut", "arguments": ',
        '{"value": {"code": "12',
        '3", "price"',
    ),
    *(": 2.50, ", '"next": null', "}}}\n</", "tool_call>"),
)
THOUGHT_THEN_CALL = (
    *("<thi", "nk>\nThe", " user wants", " a level.", "\n</", "think>\n\n<tool_call>\n"),
    *(
        '{"name": "output",',
        ' "arguments": {"river"',
        ': "Lynher",',
        ' "cm": 31}',
        "}\n</tool_call",
    ),
    ">\n",
)
TEXT = ("Here", " it is:\n```", "json\n", '{"river": "Tav', 'y", "cm', '": 88}', "\n```")

MODEL = ScriptedModel(
    TEXT,
    {
        f"tools and {asked_for('list')}": LIST_CALL,
        f"tools and {asked_for('gauge')}": WRONG_CALL,
        f"tools and {asked_for('think')}": THOUGHT_THEN_CALL,
        f"tools and {TOOL_RESULT_LAST}": RIGHT_CALL,
        "tools": CALL,
    },
)


@pytest.fixture(scope="module")
def llama_output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    yield from serve(MODEL, tmp_path_factory)


def params(text: str = "How high is it?", **more: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": text}
    return {"max_tokens": 300, "temperature": 0.0, "messages": [turn], **more}


def client_of(variant: Sync | Async, server: LlamaServer, kind: str = "gateway") -> Any:
    endpoint = endpoints.gateway(server.url, default_model=MODEL_NAME)
    if kind == "llama-server":
        endpoint = endpoints.llama_server(server.url, auth="bearer", default_model=MODEL_NAME)
    return variant.client(api_key=server.api_key, endpoint=endpoint)


@pytest.mark.slow
def test_by_a_forced_call(variant: Sync | Async, llama_output: LlamaServer) -> None:
    client = client_of(variant, llama_output)
    message = client.parse(output=Level, **params())
    assert message.parsed == TAMAR
    assert message.usage.output_tokens > 0
    client.close()


def test_partial_outputs(variant: Sync | Async, llama_output: LlamaServer) -> None:
    client = client_of(variant, llama_output)
    with client.parse_stream(output=Level, **params()) as stream:
        partials = list(stream.partials())
        assert stream.message().parsed == TAMAR
    assert {"river": "Ta"} in partials
    assert partials[-1] == {"river": "Tamar ⚓", "cm": 214}
    client.close()


@pytest.mark.slow
def test_a_list_of_models(variant: Sync | Async, llama_output: LlamaServer) -> None:
    client = client_of(variant, llama_output)
    asked = params("Give me the list.")
    levels = [Level(river="Exe", cm=7), Level(river="Dart", cm=9)]
    assert client.parse(output=list[Level], **asked).parsed == levels
    with client.parse_stream(output=list[Level], **asked) as stream:
        assert {"river": "Exe", "cm": 7} in [each[0] for each in stream.partials() if each]
        assert stream.message().parsed == levels
    client.close()


@pytest.mark.slow
def test_what_no_grammar_holds_is_checked_here_and_asked_again(
    variant: Sync | Async, llama_output: LlamaServer
) -> None:
    """The schema as pydantic gives it is refused; what is sent, and the second history, are not."""
    client = client_of(variant, llama_output)
    tool = {"name": "output", "input_schema": TypeAdapter(Gauge).json_schema()}
    with pytest.raises(BadRequestError, match="Pattern must start with"):
        client.create(tools=[tool], tool_choice={"type": "any"}, **params("The gauge?"))
    with pytest.raises(OutputInvalidError, match="code: String should match pattern"):
        client.parse(output=Gauge, **params("The gauge?"))
    message = client.parse(output=Gauge, validation_retries=1, **params("The gauge?"))
    assert message.parsed == Gauge(code="123", price=Decimal("2.5"))
    assert len(message.previous_attempts) == 1
    client.close()


def test_after_calls_of_other_tools(variant: Sync | Async, llama_output: LlamaServer) -> None:
    """It takes a forced tool for any tool, so there the others are not sent at all."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "gauge", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "214"}
    asked = params()
    asked["messages"] += [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": "High."},
        {"role": "user", "content": "How high is it?"},
    ]
    tools = [{"name": "gauge", "input_schema": {"type": "object", "properties": {}}}]
    client = client_of(variant, llama_output, kind="llama-server")
    alone = client.parse(output=Level, strategy="tool", tools=tools, **asked)
    assert alone.parsed == TAMAR
    client.close()
    client = client_of(variant, llama_output)
    beside = client.parse(output=Level, tools=tools, **asked)
    assert beside.parsed == TAMAR
    prompts = [m.usage.input_tokens + m.usage.cache_read_input_tokens for m in (alone, beside)]
    assert prompts[0] < prompts[1]
    client.close()


@pytest.mark.slow
def test_after_thinking(variant: Sync | Async, llama_output: LlamaServer) -> None:
    client = client_of(variant, llama_output, kind="llama-server")
    asked = params("think", thinking={"type": "enabled", "budget_tokens": 1024})
    message = client.parse(output=Level, strategy="tool", **asked)
    assert (message.content[0].type, message.parsed.river) == ("thinking", "Lynher")
    client.close()
    client = client_of(variant, llama_output)
    with pytest.raises(InvalidRequestError, match="thinking"):
        client.parse(output=Level, **asked)
    client.close()


def test_in_text(variant: Sync | Async, llama_output: LlamaServer) -> None:
    """The strategy "prompt": the object is in the text."""
    client = client_of(variant, llama_output)
    asked = params(strategy="prompt")
    assert client.parse(output=Level, **asked).parsed == Level(river="Tavy", cm=88)
    with client.parse_stream(output=Level, **asked) as stream:
        assert {"river": "Tav"} in list(stream.partials())
        assert stream.message().parsed.cm == 88
    client.close()


@pytest.mark.slow
def test_truncated(variant: Sync | Async, llama_output: LlamaServer) -> None:
    client = client_of(variant, llama_output)
    asked = params(max_tokens=7)
    with pytest.raises(OutputTruncatedError) as cut:
        client.parse(output=Level, **asked)
    assert cut.value.usage.output_tokens == 7
    with client.parse_stream(output=Level, **asked) as stream:
        assert {"river": "Ta"} in list(stream.partials())
        with pytest.raises(OutputTruncatedError) as cut:
            stream.message()
    assert cut.value.raw_text.startswith('{"river":')
    client.close()
