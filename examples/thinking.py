"""Extended thinking: stream it, send it back, and remove it for another server.

python examples/thinking.py                            # no key: a local server answers
MODELSLAB_API_KEY=… MODELSLAB_MODEL=… python examples/thinking.py
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from modelslab_llm import Conversation, ModelsLab
from modelslab_llm.testing import LocalServer, Reply, ReplyLike

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")

SCRIPT: list[ReplyLike] = [
    Reply(
        [
            {
                "type": "thinking",
                "thinking": "17 times 20 is 340, and 17 times 3 is 51.",
                "signature": "c2lnbmVkIGJ5IHRoZSBzZXJ2ZXI=",
            },
            {"type": "text", "text": "17 times 23 is 391."},
        ],
        pause=0.02,
    ),
    "Yes: 391 divided by 23 is 17.",
]


def main() -> None:
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(SCRIPT))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server returns scripted answers.")

        conversation = Conversation()
        conversation.add("What is 17 times 23?")
        show(client, conversation)

        conversation.add("Are you sure?")
        message = client.messages.create(model=MODEL, max_tokens=4096, messages=conversation)
        conversation.add(message)
        print(f"\nWith its thinking in the history, signatures included:\n   {message.text}\n")

        moved = conversation.without_thinking()
        print("For another server, without the thinking, which only the first server can read:")
        for turn in moved:
            print(f"   {turn['role']}: {turn['content']}")


def show(client: ModelsLab, conversation: Conversation) -> None:
    with client.messages.stream(
        model=MODEL,
        max_tokens=4096,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=conversation,
    ) as stream:
        before = ""
        for kind, text in stream.deltas:
            if kind != before:
                print(f"\n   {kind}: ", end="")
                before = kind
            print(text, end="", flush=True)
        print()
        conversation.add(stream.get_final_message())


if __name__ == "__main__":
    main()
