"""The basics on one page: an answer, a stream, a conversation, and an error.

make demo                                              # no key: a local server answers
MODELSLAB_API_KEY=… python examples/quickstart.py      # the real service
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from modelslab_llm import APIError, AuthenticationError, MessageParam, ModelsLab
from modelslab_llm.testing import LocalServer, ReceivedRequest

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(as_a_model, pause=0.05))
            client = stack.enter_context(server.client())
            print("No MODELSLAB_API_KEY: a local server plays the model.")
        print(f"Server: {client.endpoint.base_url}\n")

        ask(client)
        stream(client)
        converse(client)
        fail(client)


def ask(client: ModelsLab) -> None:
    print("1. One answer")
    message = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )
    print(f"   {message.text}")
    print(f"   {message.usage.input_tokens} tokens in, {message.usage.output_tokens} out\n")


def stream(client: ModelsLab) -> None:
    print("2. The same, streamed\n   ", end="")
    with client.messages.stream(
        model=MODEL,
        max_tokens=200,
        messages=[{"role": "user", "content": "Count the waves: one, two, three, four, five."}],
    ) as answer:
        for text in answer.text_stream:
            print(text, end="", flush=True)
        message = answer.get_final_message()  # the complete message, or an error
    print(f"\n   stopped by {message.stop_reason}\n")


def converse(client: ModelsLab) -> None:
    print("3. A conversation of two turns")
    history: list[MessageParam] = [{"role": "user", "content": "My name is Ada."}]
    for question in (None, "What is my name?"):
        if question:
            history.append({"role": "user", "content": question})
        reply = client.messages.create(model=MODEL, max_tokens=100, messages=history)
        history.append(reply.to_param())
        print(f"   {history[-2]['content']}\n   → {reply.text}")
    print()


def fail(client: ModelsLab) -> None:
    print("4. An error, as in a log")
    with ModelsLab("not-a-key", endpoint=client.endpoint) as stranger:
        try:
            stranger.messages.create(
                model=MODEL, max_tokens=10, messages=[{"role": "user", "content": "Hello?"}]
            )
        except AuthenticationError as error:  # one class for each thing you can do about it …
            print(f"   {type(error).__name__}: {error}")
        except APIError as error:  # … and one for all of them
            print(f"   unexpected: {error}")


def as_a_model(request: ReceivedRequest) -> str:
    """Answer as a model would that knows only the request."""
    if request.text == "What is my name?":
        first = str(request.messages[0]["content"])
        return f"Your name is {first.removeprefix('My name is ')}"
    return f"You said: {request.text}"


if __name__ == "__main__":
    main()
