"""A conversation that stays valid after tool calls, after a truncated reply, and when trimmed.

python examples/conversation.py                        # no key: a local server answers, by script
MODELSLAB_API_KEY=… python examples/conversation.py    # the real service
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from modelslab_llm import APIError, Conversation, MessageParam, ModelsLab, ToolParam, tool_result
from modelslab_llm.testing import LocalServer, Reply, ReplyLike

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")

RIVER_LEVEL: ToolParam = {
    "name": "river_level",
    "description": "The water level of a river, in cm.",
    "input_schema": {
        "type": "object",
        "properties": {"river": {"type": "string"}},
        "required": ["river"],
    },
}

SCRIPT: list[ReplyLike] = [
    Reply(
        [
            {"type": "tool_use", "id": f"call_{i}", "name": "river_level", "input": {"river": name}}
            for i, name in enumerate(["Tamar", "Exe"])
        ]
    ),
    "The Tamar stands at 214 cm, the Exe at 90 cm.",
    Reply("A long story about the Tamar, which", stop_reason="max_tokens"),
    "… is short after all.",
]
LEVELS = {"Tamar": "214 cm", "Exe": "90 cm"}


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(SCRIPT))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server returns scripted answers.")

        conversation = Conversation()
        conversation.add("How high are the Tamar and the Exe?")
        say(client, conversation)
        for use in conversation.pending:
            print(f"   the model calls {use.name}({use.input})")
            conversation.add(tool_result(use, LEVELS.get(use.input.get("river", ""), "unknown")))
        say(client, conversation)

        conversation.add("Tell me a long story.")
        say(client, conversation)
        conversation.add("Go on.")
        say(client, conversation)

        fork = Conversation(conversation.turns[:1])  # ordinary list operations
        fork.add("And the Dart?")
        print(f"\nA fork, its questions merged into one turn: {fork.messages}")

        def tokens() -> int:
            return client.messages.count_tokens(model=MODEL, messages=conversation).input_tokens

        most = tokens() // 2
        while tokens() > most:
            del conversation.turns[0]
        print(f"\nTrimmed to {most} tokens; every result still has its call:")
        show(conversation.messages)

        saved = json.dumps(conversation.turns)
        assert Conversation(json.loads(saved)) == conversation


def say(client: ModelsLab, conversation: Conversation) -> None:
    """Send the conversation, and add the answer, or the part that arrived before an error."""
    try:
        with client.messages.stream(
            model=MODEL, max_tokens=100, messages=conversation, tools=[RIVER_LEVEL]
        ) as stream:
            conversation.add(stream.get_final_message())
    except APIError as error:
        if error.partial_message is None:
            raise
        conversation.add(error.partial_message)
    show(conversation.turns[-1:])


def show(turns: list[MessageParam]) -> None:
    for turn in turns:
        print(f"   {turn['role']}: {turn['content']}")


if __name__ == "__main__":
    main()
