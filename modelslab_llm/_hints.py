"""Tell those who come from another client what a name of it is called here. Loads nothing.

Names of parameters are not its business: those are refused where they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

_MOVED = {  # what people ask for who know another client
    "base_url": "it is client.endpoint.base_url",
    "batches": "these servers have none",
    "beta": "give betas=[…] to messages.create; tools run by messages.run_tools",
    "chat": "ask by client.messages; modelslab_llm.openai.to_messages carries a chat body over",
    "copy": "it is with_options(…)",
    "current_message_snapshot": "it is current_message",
    "response": "an error itself has status_code, headers and body",
    "tool_runner": "it is messages.run_tools(…)",
    "until_done": "it is get_final_message()",
    "with_raw_response": "a message has request_id, an error also status_code and headers",
}


class HintsAtNames:
    """Say, in the `AttributeError`, what another client's name is called here."""

    __slots__ = ()

    if not TYPE_CHECKING:  # to a type checker it would say that every name is there

        def __getattr__(self, name: str) -> object:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            hint = f": {_MOVED[name]}" if name in _MOVED else ""
            raise AttributeError(text + hint, name=name, obj=self)
