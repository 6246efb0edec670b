"""An OpenAI chat program, tool calls included, answered by a Messages endpoint.

python examples/from_openai.py                         # no key: a local server answers, by script
MODELSLAB_API_KEY=… python examples/from_openai.py     # the real service
"""

from __future__ import annotations

import json
import os
import warnings
from contextlib import ExitStack
from typing import Any

from modelslab_llm import InvalidRequestError, ModelsLab
from modelslab_llm.openai import to_chat_completion, to_messages
from modelslab_llm.testing import LocalServer, Reply

BODY: dict[str, Any] = {
    "model": os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together"),
    "max_tokens": 300,
    "seed": 7,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "river_level",
                "parameters": {"type": "object", "properties": {"river": {"type": "string"}}},
            },
        }
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How high is the Tamar?"},
    ],
}
CALL = {"type": "tool_use", "id": "call_1", "name": "river_level", "input": {"river": "Tamar"}}


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer([Reply([CALL]), "214 cm, and rising."]))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server returns scripted answers.")
        completion = complete(client, BODY)
        answer = completion["choices"][0]["message"]
        BODY["messages"].append(answer)
        for call in answer.get("tool_calls", []):
            print(f"The model calls {call['function']['name']}{call['function']['arguments']}")
            result = {"role": "tool", "tool_call_id": call["id"], "content": "214 cm"}
            BODY["messages"].append(result)
        if "tool_calls" in answer:
            completion = complete(client, BODY)
        print(json.dumps(completion, indent=2))

    try:
        to_messages(BODY | {"n": 3})
    except InvalidRequestError as error:
        print(f"Refused: {error}")


def complete(client: ModelsLab, body: dict[str, Any]) -> dict[str, Any]:
    """Do what `chat.completions.create(**body)` does."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params = to_messages(body)
    for each in caught:
        print(f"Left out: {each.message}")
    return to_chat_completion(client.messages.create(**params))


if __name__ == "__main__":
    main()
