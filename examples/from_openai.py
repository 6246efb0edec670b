"""A program of the OpenAI chat format, tool call and all, answered by a Messages endpoint.

python examples/from_openai.py                         # a local server answers, from a script
"""

from __future__ import annotations

import json
import warnings
from typing import Any

from modelslab_llm import InvalidRequestError, ModelsLab
from modelslab_llm.openai import to_chat_completion, to_messages
from modelslab_llm.testing import LocalServer, Reply

BODY: dict[str, Any] = {
    "model": "Qwen/Qwen2.5-VL-72B-Instruct-together",
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
    with LocalServer([Reply([CALL]), "214 cm, and rising."]) as server:
        with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
            completion = complete(client, BODY)
            answer = completion["choices"][0]["message"]
            for call in answer["tool_calls"]:
                print(f"The model calls {call['function']['name']}{call['function']['arguments']}")
                result = {"role": "tool", "tool_call_id": call["id"], "content": "214 cm"}
                BODY["messages"] += [answer, result]
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
