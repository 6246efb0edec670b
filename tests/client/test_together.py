"""Tools, outputs, pictures, thinking and conversations in one history, on both servers."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from history import faults
from llama.fixtures import MODEL_NAME
from llama.scripts import ANSWER_REPLY
from llama.server import LlamaServer
from pydantic import BaseModel
from variants import Async, Sync

from modelslab_llm import Conversation, Message, ParsedMessage, endpoints, image, tool
from modelslab_llm.openai import to_chat_completion, to_messages
from modelslab_llm.testing import LocalServer, Reply

DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8"
    "AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
THOUGHT = {"type": "thinking", "thinking": "I need a photo.", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "aGlkZGVu"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "photo", "input": {"river": "Tamar"}}
OUTPUT = {"type": "tool_use", "id": "toolu_2", "name": "output", "input": {"cm": 214}}


class Level(BaseModel):
    cm: int


@tool
def photo(river: str) -> list[Any]:
    """Take a photo of a river."""
    return [image(DOT), f"of the {river}"]


@pytest.mark.parametrize("streams", [False, True])
def test_one_history_through_everything(variant: Sync | Async, streams: bool) -> None:
    script = [Reply([THOUGHT, HIDDEN, CALL]), Reply([THOUGHT, {"type": "text", "text": "High."}])]
    with LocalServer([*script, Reply([OUTPUT]), "Rising.", "Bye."]) as server:
        client = variant.client(api_key=server.api_key, endpoint=server.gguf("dep_1"))
        conversation = Conversation()
        conversation.add("How high is the Tamar?")

        runner = client.run_tools(
            messages=conversation,
            tools=[photo],
            max_tokens=4096,
            thinking={"type": "enabled", "budget_tokens": 2048},
        )
        if streams:
            assert [stream.text() for stream in runner.streams()] == ["", "High."]
        assert runner.message().text == "High."
        call, result = server.requests[1].body["messages"][1:]
        assert call["content"] == [THOUGHT, HIDDEN, CALL]
        assert result["content"][0]["content"] == [
            image(DOT),
            {"type": "text", "text": "of the Tamar"},
        ]

        conversation = Conversation(runner.real.messages)
        assert conversation.messages == runner.real.messages
        assert client.count_tokens(messages=conversation, tools=[photo]).input_tokens > 9
        conversation.add("In numbers?")
        conversation.add(
            client.parse(output=Level, strategy="tool", messages=conversation, max_tokens=99)
        )
        assert not conversation.pending
        assert conversation.messages[-1]["content"] == [{"type": "text", "text": '{"cm": 214}'}]

        conversation.add("And now?")
        asked: dict[str, Any] = {"messages": conversation, "max_tokens": 99}
        conversation.add(client.run_tools(tools=[photo], **asked).message())
        conversation.add("Bye.")
        client.create(**asked)
        assert [faults(request.body["messages"]) for request in server.requests] == [[]] * 6
        client.close()


@pytest.mark.slow
def test_a_conversation_through_the_tool_loop_of_llama_server(
    variant: Sync | Async, llama_tools: LlamaServer
) -> None:
    @tool
    def river_level(river: str, unit: str = "cm", days: list[int] | None = None) -> str:
        """The water level of a river."""
        return f"214 {unit}"

    at = endpoints.gateway(llama_tools.url, default_model=MODEL_NAME)
    client = variant.client(api_key=llama_tools.api_key, endpoint=at)
    conversation = Conversation()
    conversation.add("How high is the Tamar?")
    asked: dict[str, Any] = {"max_tokens": 300, "temperature": 0.0, "tools": [river_level]}
    runner = client.run_tools(messages=conversation, **asked)
    assert runner.message().text == ANSWER_REPLY
    conversation = Conversation(runner.real.messages)
    assert (len(conversation.messages), faults(conversation.messages)) == (4, [])
    tokens = client.count_tokens(messages=conversation, tools=[river_level]).input_tokens
    assert tokens > client.count_tokens(messages=runner.real.messages[:1]).input_tokens
    client.close()


def test_an_output_is_the_text_of_a_chat_completion() -> None:
    message = Message.model_validate({"content": [THOUGHT, OUTPUT], "stop_reason": "tool_use"})
    parsed = ParsedMessage.of(message, Level(cm=214), "output", ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the signature
        choice = to_chat_completion(parsed)["choices"][0]
    answer = choice["message"]
    assert (json.loads(answer["content"]), choice["finish_reason"]) == ({"cm": 214}, "stop")
    assert "tool_calls" not in answer
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}, answer]}
    turns: Any = to_messages(body, keep_reasoning=True)["messages"]
    assert turns[1]["content"][1:] == parsed.to_param()["content"][1:]  # type: ignore[index]
