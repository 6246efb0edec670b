"""Tell those who come from another client what a name of it is called here. Loads nothing.

All such names stand in one table, by where somebody writes them. Whoever refuses a name asks here
for the cure; nothing is refused here but an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

Place: TypeAlias = Literal["attribute", "parameter", "option"]
"""Where a name is written: `client.name`, `messages.create(name=…)`, `ModelsLab(name=…)`."""

_OF_HTTP = ("proxy", "proxies", "verify", "cert", "limits", "http2", "transport", "event_hooks")

ONCE = ("api_key", "endpoint", "base_url", "deployment_id", "http_client")
"""What a client is built with, and cannot be changed to."""

_TABLE: Mapping[Place, Mapping[str, str]] = {
    "attribute": {
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
    },
    "parameter": {
        "stream": "messages.stream(…) streams, messages.create(…) does not",
        "stop": "the parameter is stop_sequences",
        "max_completion_tokens": "the parameter is max_tokens",
        "functions": "the parameter is tools",
        "prompt": "the parameter is messages",
        **dict.fromkeys(
            ("output", "output_format", "strategy"), "messages.parse(output=…) takes that"
        ),
        "validation_retries": "messages.parse(output=…, validation_retries=…) takes that; "
        "a stream is not asked for again",
        **dict.fromkeys(("max_turns", "on_error"), "messages.run_tools(…) takes that"),
        "max_iterations": "messages.run_tools(max_turns=…) takes that",
    },
    "option": {
        **{name: f"give it to http_client=DefaultHttpxClient({name}=…)" for name in _OF_HTTP},
        **dict.fromkeys(ONCE, "it cannot be changed, build another client"),
        "default_query": "give it to http_client=DefaultHttpxClient(params=…)",
        "auth_token": "give it as api_key; its header is said by endpoints.gateway(…, auth=…)",
        "auth": "it belongs to the endpoint: endpoint=endpoints.gateway(…, auth=…)",
        **dict.fromkeys(
            ("model", "default_model"),
            "give it with each request, or to the endpoint: endpoints.llm_v7(default_model=…)",
        ),
        **dict.fromkeys(("api_base", "url"), "the argument is base_url"),
    },
}


def hint(place: Place, name: str) -> str:
    """Return what a name of another client is called here; nothing if it is not known.

    >>> hint("parameter", "stop")
    'the parameter is stop_sequences'
    """
    return _TABLE[place].get(name, "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the question for a misspelt name, or nothing if no known one is near.

    >>> did_you_mean("temprature", ["temperature", "top_p"])
    "did you mean 'temperature'? "
    """
    import difflib  # for this alone

    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


class HintsAtNames:
    """Say, in the `AttributeError`, what another client's name is called here."""

    __slots__ = ()

    if not TYPE_CHECKING:  # to a type checker it would say that every name is there

        def __getattr__(self, name: str) -> object:
            # Python asks here as well when a property fails with an AttributeError: asked once
            # more, it says what it missed, and not that it is missing itself.
            if any(name in vars(kind) for kind in type(self).__mro__):
                return object.__getattribute__(self, name)
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            cure = hint("attribute", name)
            raise AttributeError(f"{text}: {cure}" if cure else text, name=name, obj=self)
