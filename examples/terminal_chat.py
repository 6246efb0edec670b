"""A terminal chat that streams answers; Ctrl-C stops the answer, not the program.

python examples/terminal_chat.py                       # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/terminal_chat.py   # the real service
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress

from modelslab_llm import APIError, Conversation, InvalidRequestError, ModelsLab
from modelslab_llm.testing import LocalServer

with suppress(ImportError):  # Windows has no readline, and does not need it
    import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]  # lines can be edited

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
HELP = """\
/undo removes the last question and its answer, /new all of them; /quit or Ctrl-D ends.
While an answer arrives, Ctrl-C stops it."""


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(pause=0.1))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server echoes.")
        print(HELP)
        converse(client)


def converse(client: ModelsLab) -> None:
    conversation = Conversation()
    while True:
        try:
            said = input("\n> ").strip()
            if said in ("/new", "/undo"):
                forget(conversation, everything=said == "/new")
            elif said == "/quit":
                return
            elif said.startswith("/"):
                print(HELP)
            elif said:
                conversation.add(said)
                answer(client, conversation)
        except KeyboardInterrupt:  # at the prompt it discards the line, as in a shell
            continue
        except EOFError:
            print()
            return


def answer(client: ModelsLab, conversation: Conversation) -> None:
    """Print an answer as it arrives, and add what arrived to the conversation."""
    try:
        with client.messages.stream(model=MODEL, max_tokens=4000, messages=conversation) as stream:
            try:
                for text in stream.text_stream:
                    print(text, end="", flush=True)
                print()
            except KeyboardInterrupt:  # leaving the block closes the connection: the model stops
                print(" … stopped")
            conversation.add(stream.current_message)
    except KeyboardInterrupt:
        print("… stopped before the first word")
    except (APIError, InvalidRequestError) as error:
        print(f"\n{type(error).__name__}: {error}")
        if isinstance(error, APIError) and error.partial_message:
            conversation.add(error.partial_message)


def forget(conversation: Conversation, *, everything: bool) -> None:
    """Remove all turns from the last question on, or from the first."""
    questions = [i for i, turn in enumerate(conversation.turns) if turn["role"] == "user"]
    if questions:
        del conversation.turns[questions[0 if everything else -1] :]


if __name__ == "__main__":
    main()
