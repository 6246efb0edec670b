"""Function calling: the model calls your functions and answers with their results.

python examples/tools.py                            # no key: a local server plays the model
MODELSLAB_API_KEY=… python examples/tools.py        # the real service
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from modelslab_llm import AsyncModelsLab, MessageParam, ModelsLab, tool, tool_result
from modelslab_llm.testing import LocalServer, Reply
from modelslab_llm.testing import ReceivedRequest as Request

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
QUESTION: list[MessageParam] = [
    {"role": "user", "content": "How high are the Tamar and the Styx? Then open the sluice."}
]

LEVELS = {"Tamar": 214, "Exe": 87}


@tool
def river_level(
    river: Annotated[str, "Its name, without 'River'"], unit: Literal["cm", "m"] = "cm"
) -> str:
    """Return the water level of a river."""
    level = LEVELS[river]  # the model is told of exceptions raised here
    return f"{level} cm" if unit == "cm" else f"{level / 100} m"


@tool(timeout=5)
async def open_sluice(percent: int) -> dict[str, int]:
    """Open the sluice."""
    await asyncio.sleep(0.01)
    return {"open": percent}


def main() -> None:
    with ExitStack() as stack:
        if key := os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(play_model))
            key = server.api_key
            client = stack.enter_context(ModelsLab(key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server plays the model.\n")
        watch(client)
        stream(client)
        by_hand(client)
        asyncio.run(at_the_same_time(AsyncModelsLab(key, endpoint=client.endpoint)))


def watch(client: ModelsLab) -> None:
    print("1. Turn by turn; each call is inspected before it runs")
    runner = client.messages.run_tools(
        model=MODEL, max_tokens=500, messages=QUESTION, tools=[river_level, SLUICE]
    )
    for message in runner:
        print(f"   {message.stop_reason}: {message.text}")
        for call in runner.calls:
            print(f"   {call.name}({call.input})")
            if call.name == "open_sluice":
                call.refuse("The user does not allow it.")
    print()


def stream(client: ModelsLab) -> None:
    print("2. The same, streamed")
    with client.messages.run_tools(
        model=MODEL, max_tokens=500, messages=QUESTION, tools=[river_level]
    ) as runner:
        for turn in runner.stream():
            print("   ", end="")
            for text in turn.text_stream:
                print(text, end="", flush=True)
            print()
    print(f"   {len(runner.messages)} turns in all\n")


def by_hand(client: ModelsLab) -> None:
    print("3. Without the loop")
    history = list(QUESTION)
    message = client.messages.create(
        model=MODEL, max_tokens=500, messages=history, tools=[river_level]
    )
    results = [
        tool_result(use, river_level.call(use.input))
        if use.name == river_level.name and use.input_complete and use.input["river"] in LEVELS
        else tool_result(use, "not known", is_error=True)
        for use in message.tool_uses
    ]
    if results:  # otherwise the model has answered already
        history.append(message.to_param())
        history.append({"role": "user", "content": results})
        message = client.messages.create(
            model=MODEL, max_tokens=500, messages=history, tools=[river_level]
        )
    print(f"   → {message.text}\n")


async def at_the_same_time(client: AsyncModelsLab) -> None:
    print("4. Async: the calls of a turn run concurrently")
    async with client:
        message = await client.messages.run_tools(
            model=MODEL, max_tokens=500, messages=QUESTION, tools=[river_level, open_sluice]
        ).get_final_message()
    print(f"   → {message.text}")


SLUICE: Any = open_sluice.to_param()  # only a definition: its calls are answered by hand


def play_model(request: Request) -> Reply:
    """Act as a model: call each tool, then report the results."""
    last = request.body["messages"][-1]["content"]
    if isinstance(last, str):
        calls = [_call("river_level", river="Tamar"), _call("river_level", river="Styx")]
        if any(tool["name"] == "open_sluice" for tool in request.body["tools"]):
            calls.append(_call("open_sluice", percent=50))
        return Reply([{"type": "text", "text": "Let me look."}, *calls], pause=0.01)
    found = "; ".join(str(result["content"]) for result in last)
    return Reply(f"I was told: {found}.", pause=0.01)


def _call(name: str, **input: Any) -> dict[str, Any]:
    id = f"toolu_{name}_{next(iter(input.values()))}"
    return {"type": "tool_use", "id": id, "name": name, "input": input}


if __name__ == "__main__":
    main()
