"""Structured output by the default of an endpoint that says it is a llama-server, on a real one.

The models are scripted, and are held to the schema all the same: what one would say against it, it
cannot say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from llama.fixtures import MODEL_NAME, serve
from llama.scripts import ScriptedModel
from llama.server import LlamaServer
from pydantic import BaseModel, Field, WithJsonSchema
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    ContextOverflowError,
    InternalServerError,
    InvalidRequestError,
    ModelsLab,
    OutputTruncatedError,
    endpoints,
)
from modelslab_llm._protocol.schema import for_grammar
from modelslab_llm.testing import LocalServer


class Level(BaseModel):
    """The level of a river on one day."""

    river: str
    cm: int


JSON = ('{"riv', 'er": "Ta', "mar", ' ⚓", "c', 'm": 21', "4}")
PROSE = ("Sure! ", "Here it", " is: ", '{"riv', 'er": "Ta', 'vy", "cm', '": 88}')
THOUGHT = (
    *("<thi", "nk>\nThe", " user wants", " a level.", "\n</", "think>\n\n", '{"riv', 'er": "Ly'),
    *('nher", ', '"cm": ', "31}"),
)
ENDLESS = ('{"river": "', *(f"{number}, " for number in range(10, 999)))
TWO = ('{"value": [', '{"river": "Ex', 'e", "cm": 7}, ', '{"river": "Da', 'rt", "cm": 9}]}')


@pytest.fixture(scope="module")
def held(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaServer]:
    yield from serve(ScriptedModel(request.param), tmp_path_factory, context=1024)


def saying(script: tuple[str, ...]) -> Any:
    return pytest.mark.parametrize("held", [script], indirect=True, ids=["llama"])


def client_of(variant: Sync | Async, server: LlamaServer) -> SyncClient | AsyncClient:
    endpoint = endpoints.llama_server(server.url, auth="bearer", default_model=MODEL_NAME)
    return variant.client(api_key=server.api_key, endpoint=endpoint, max_retries=0)


def asked(text: str = "How high is it?", **more: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": text}
    return {"max_tokens": 300, "temperature": 0.0, "messages": [turn], **more}


@saying(JSON)
def test_whole_and_as_it_grows(variant: Sync | Async, held: LlamaServer) -> None:
    client = client_of(variant, held)
    message = client.parse(output=Level, **asked())
    assert message.parsed == Level(river="Tamar ⚓", cm=214)
    assert (message.model, message.stop_reason) == (MODEL_NAME, "end_turn")
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 50
    with client.parse_stream(output=Level, **asked()) as stream:
        partials = list(stream.partials())
        streamed = stream.message()
    assert {"river": "Ta"} in partials
    assert partials[-1] == {"river": "Tamar ⚓", "cm": 214}
    assert streamed.parsed == message.parsed
    assert streamed.usage.output_tokens == message.usage.output_tokens
    client.close()


@saying(PROSE)
def test_a_model_that_would_rather_talk_cannot(variant: Sync | Async, held: LlamaServer) -> None:
    client = client_of(variant, held)
    message = client.parse(output=Level, **asked())
    assert message.text.lstrip().startswith("{")
    assert isinstance(message.parsed, Level)
    client.close()


@saying(THOUGHT)
def test_it_may_think_first(variant: Sync | Async, held: LlamaServer) -> None:
    client = client_of(variant, held)
    for more in ({}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}):
        message = client.parse(output=Level, **asked(**more))
        assert message.parsed == Level(river="Lynher", cm=31)
        assert message.thinking.strip() == "The user wants a level."
    with client.parse_stream(output=Level, **asked()) as stream:
        assert [block.type for block in stream.message().content] == ["thinking", "text"]
    client.close()


@saying(TWO)
def test_a_list_in_a_conversation_with_tools(variant: Sync | Async, held: LlamaServer) -> None:
    client = client_of(variant, held)
    params = asked()
    params["messages"] += [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "g", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "7 and 9"},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    tools = [{"name": "g", "input_schema": {"type": "object", "properties": {}}}]
    message = client.parse(output=list[Level], tools=tools, **params)
    assert message.parsed == [Level(river="Exe", cm=7), Level(river="Dart", cm=9)]
    client.close()


@pytest.mark.slow
@saying(ENDLESS)
def test_truncated_says_which_limit_it_was(variant: Sync | Async, held: LlamaServer) -> None:
    """llama-server gives both the same name, `length`; the number of tokens tells them apart."""
    client = client_of(variant, held)
    with pytest.raises(OutputTruncatedError, match=r"raise max_tokens \(it was 20\)") as cut:
        client.parse(output=Level, **asked(max_tokens=20))
    assert cut.value.usage.output_tokens == 20
    assert cut.value.raw_text.lstrip().startswith("{")
    with pytest.raises(OutputTruncatedError, match="the context is full: shorten"):
        client.parse(output=Level, **asked(max_tokens=5000))
    with client.parse_stream(output=Level, **asked(max_tokens=20)) as stream:
        assert any("river" in each for each in stream.partials())
        with pytest.raises(OutputTruncatedError, match="raise max_tokens"):
            stream.message()
    client.close()


@saying(JSON)
def test_failures_are_those_of_the_other_route(variant: Sync | Async, held: LlamaServer) -> None:
    client = client_of(variant, held)
    with pytest.raises(ContextOverflowError) as overflow:
        client.parse(output=Level, **asked("x" * 2000))
    assert overflow.value.context_size == 1024
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    turn = [{"role": "user", "content": [{"type": "image", "source": image}]}]
    with pytest.raises(InternalServerError, match="image input is not supported"):
        client.parse(output=Level, **asked() | {"messages": turn})
    client.close()


@saying(JSON)
def test_a_schema_that_no_grammar_can_be_made_of_is_not_sent(
    variant: Sync | Async, held: LlamaServer
) -> None:
    """The server would refuse it too, but without a name."""

    class Priced(BaseModel):
        price: Annotated[str, WithJsonSchema({"type": "decimal"})]
        tags: list[Annotated[str, WithJsonSchema({"enum": []})]]

    client = client_of(variant, held)
    with pytest.raises(InvalidRequestError) as refused:
        client.parse(output=Priced, **asked())
    assert "output.price has the type 'decimal'; output.tags has no enum" in str(refused.value)
    with LocalServer() as local:
        mine = endpoints.llama_server(local.gateway().base_url, auth="bearer")
        other = variant.client(api_key=local.api_key, endpoint=mine)
        with pytest.raises(InvalidRequestError):
            other.parse(output=Priced, **asked())
        assert local.requests == []
        other.close()
    client.close()
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "decimal"}}}
    turn = [{"role": "user", "content": "x"}]
    answer = httpx.post(
        f"{held.url}/v1/chat/completions",
        headers={"x-api-key": held.api_key},
        json={"messages": turn, "response_format": form},
        trust_env=False,
    )
    assert answer.status_code == 400
    assert "Unrecognized schema" in answer.text


SAFE = ["^[A-Z]{3}-[0-9]{2}$", "^(ab|cd)+$", "^(?:/a/b)?$", "^[a-z0-9_.-]+$"]
UNSAFE = {  # and what becomes of it in a grammar
    r"^\d{3}$": "is refused",
    "^é+$": "is refused",
    "^[a-z]{3000}$": "is refused",
    "^{a}$": "is refused",
    "^.{2,5}$": "lets a quote through, which ends the string",
    "^[^a]+$": "lets a quote through",
    '^"a"$': "is no JSON",
    "^a+?$": "means another",
    "^(ab$|cd)$": "means another",
    "^[[:alpha:]]+$": "sends the server into a loop without end",
    "^[]a]$": "sends the server into a loop without end",
}


@pytest.mark.parametrize("pattern", [*SAFE, *UNSAFE])
def test_only_patterns_that_a_grammar_understands_are_sent(pattern: str) -> None:
    """The others are described in words, and checked when the answer arrives."""
    sent = for_grammar({"type": "string", "pattern": pattern})
    assert (sent.get("pattern") == pattern) == (pattern in SAFE)
    assert (pattern in sent.get("description", "")) == (pattern in UNSAFE)


@saying(JSON)
def test_every_such_pattern_is_held(held: LlamaServer) -> None:
    with ModelsLab(held.api_key, endpoint=endpoints.llama_server(held.url, "bearer")) as client:
        for pattern in SAFE:
            form = Annotated[str, Field(pattern=pattern, max_length=50)]
            try:
                message = client.messages.parse(output=form, **asked(max_tokens=60))
            except OutputTruncatedError:
                continue  # this model never tires
            assert re.fullmatch(pattern, message.parsed)
