"""Make calls in processes that have not loaded httpx, as a short program has not.

A program of its own: it reads a line of JSON for each call, makes the call in a fork of itself, so
that what one call loads is not there for the next, and prints a line of JSON with the outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import modelslab_llm
from modelslab_llm import AsyncModelsLab, ModelsLab


def call(asked: dict[str, Any], settings: dict[str, Any], verb: str) -> Any:
    with ModelsLab(**settings) as client:
        if verb == "create":
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()


async def acall(asked: dict[str, Any], settings: dict[str, Any], verb: str) -> Any:
    async with AsyncModelsLab(**settings) as client:
        if verb == "create":
            return await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            return await stream.get_final_message()


def outcome(*, is_async: bool, **told: Any) -> dict[str, Any]:
    try:
        message = asyncio.run(acall(**told)) if is_async else call(**told)
    except Exception as error:  # noqa: BLE001  whatever leaves, it is told
        partial = getattr(error, "partial_message", None)
        return {
            "error": type(error).__name__,
            "is_ours": isinstance(error, modelslab_llm.ModelsLabError),
            "words": str(error),
            "text": partial and partial.text,
        }
    return {"error": None, "text": message.text}


def main() -> None:
    modelslab_llm.warm_up(certificates=False)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            assert not sys.modules.keys() & {"httpx", "httpcore"}
            print(json.dumps(outcome(**json.loads(line))), flush=True)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(json.dumps({"error": "the process ended", "is_ours": False}), flush=True)


if __name__ == "__main__":
    main()
