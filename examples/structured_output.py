"""Structured output: a model, a list, a value that grows while it streams, and errors.

python examples/structured_output.py                              # no key: a local server answers
MODELSLAB_API_KEY=… python examples/structured_output.py          # the real service
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from modelslab_llm import MessageParam, ModelsLab, OutputInvalidError, OutputTruncatedError
from modelslab_llm.testing import LocalServer, Reply

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")


class Ingredient(BaseModel):
    name: str
    grams: Annotated[float, Field(gt=0)]


class Recipe(BaseModel):
    """A dish and its ingredients."""

    title: str
    difficulty: Literal["easy", "fair", "hard"]
    ingredients: list[Ingredient]


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(ANSWERS))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server returns scripted answers.")
        one(client)
        several(client)
        growing(client)
        again(client)
        cut(client)


def ask(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def one(client: ModelsLab) -> None:
    print("\n1. One value")
    message = client.messages.parse(
        output=Recipe, model=MODEL, max_tokens=500, messages=ask("A recipe for pancakes.")
    )
    recipe = message.parsed  # type checkers know it is a Recipe
    print(f"   {recipe.title}, {recipe.difficulty}")
    for ingredient in recipe.ingredients:
        print(f"   {ingredient.grams:6.0f} g {ingredient.name}")
    print(f"   {message.usage.output_tokens} tokens out")


def several(client: ModelsLab) -> None:
    print("\n2. Any type: a list, a union, a Literal")
    message = client.messages.parse(
        output=list[Literal["sweet", "sour", "salty", "bitter"]],
        model=MODEL,
        max_tokens=100,
        messages=ask("Which tastes has a lemon tart?"),
    )
    print(f"   {message.parsed}")


def growing(client: ModelsLab) -> None:
    print("\n3. A value while it streams")
    with client.messages.parse_stream(
        output=Recipe, model=MODEL, max_tokens=500, messages=ask("A recipe for bread.")
    ) as stream:
        for partial in stream.partial_stream:  # plain dicts, not validated yet
            print(f"   {partial}")
        recipe = stream.get_final_message().parsed  # complete and valid, or an error
    print(f"   → {recipe.title} of {len(recipe.ingredients)} ingredients")


def again(client: ModelsLab) -> None:
    print("\n4. An invalid answer, and a retry")
    message = client.messages.parse(
        output=Recipe,
        validation_retries=1,
        model=MODEL,
        max_tokens=500,
        messages=ask("A recipe for soup."),
    )
    print(f"   {message.parsed.title}, after {len(message.previous_attempts)} invalid answer")


def cut(client: ModelsLab) -> None:
    print("\n5. No valid answer")
    try:
        client.messages.parse(
            output=Recipe, model=MODEL, max_tokens=20, messages=ask("A recipe for goulash.")
        )
    except OutputTruncatedError as error:
        print(f"   {type(error).__name__}: {error}")
        print(f"   it began {error.raw_text!r}, and cost {error.usage.output_tokens} tokens")
    except OutputInvalidError as error:
        print(f"   {type(error).__name__}: {error}")


def called(given: object, stop_reason: str = "tool_use", tokens: int = 60) -> Reply:
    """Build the answer of a model that calls the output tool."""
    block: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "output", "input": given}
    return Reply(
        [block], stop_reason=stop_reason, usage={"input_tokens": 200, "output_tokens": tokens}
    )


FLOUR, WATER = {"name": "flour", "grams": 500}, {"name": "water", "grams": 320}
ANSWERS = [
    called(
        {
            "title": "Pancakes",
            "difficulty": "easy",
            "ingredients": [{"name": "flour", "grams": 250}, {"name": "milk", "grams": 500}],
        }
    ),
    called({"value": ["sweet", "sour"]}),
    called({"title": "Bread", "difficulty": "fair", "ingredients": [FLOUR, WATER]}),
    called({"title": "Soup", "difficulty": "trivial", "ingredients": []}),
    called({"title": "Soup", "difficulty": "easy", "ingredients": []}),
    called('{"title": "Goulash", "diffi', stop_reason="max_tokens", tokens=20),
]

if __name__ == "__main__":
    main()
