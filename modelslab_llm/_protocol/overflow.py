"""Recognize, in a server's words, that a request does not fit the model's context. Pure.

Only llama-server says it in a type with numbers beside it; the original, vLLM, SGLang, TGI and what
stands behind a gateway say it in a sentence, which changes between versions (protocol.md §7.3).
"""

from __future__ import annotations

import re
from typing import NamedTuple

TYPES = frozenset(
    {
        "exceed_context_size_error",  # llama-server
        "context_length_exceeded",  # OpenAI's code, which gateways pass through
        "context_window_exceeded",
        "model_context_window_exceeded",
        "ContextWindowExceededError",  # LiteLLM
    }
)

_CONTEXT = r"context(?: (?:length|window|size|limit))"
_SAYS_SO = "|".join(
    (
        r"prompt (?:\([^)]*\) )?(?:is )?too (?:long|large)|input is too long for",
        rf"model'?s {_CONTEXT} is only",
        rf"exceed(?:s|ed|ing)?\b[^.]{{0,60}}\b{_CONTEXT}",
        rf"{_CONTEXT} (?:is |was |has been )?exceeded",
        r"(?:longer|larger|bigger) than (?:the |this )?(?:model'?s? |its )?"
        r"(?:maximum |available )?(?:model length|context)",
        rf"(?:maximum|max|available) {_CONTEXT}|maximum model length",
        r"too (?:long|large) (?:to fit into|for) (?:the |this )?(?:model|context)",
        r"\binputs?\b\W{0,3} tokens \+ \W{0,3}max_new_tokens\b",
        r"input token count\b[^.]{0,60}\bexceeds the maximum",
        r"ContextWindowExceeded|context_length_exceeded|exceed_context_size",
    )
)
_NUMBER = r"(\d[\d,]*)"
_PROMPT = [  # the sentences that tell the prompt's own tokens come before those that tell the sum
    rf"{_NUMBER} in (?:the messages|your prompt)",
    rf"{_NUMBER} (?:tokens )?(?:of text input|from the input messages)",
    rf"{_NUMBER} input tokens",
    rf"prompt is too long: {_NUMBER}",
    rf"context limit: {_NUMBER} \+ \d",
    rf"(?:prompt|input|request) \((?:total )?(?:length )?{_NUMBER}",
    rf"contains (?:at least )?{_NUMBER} (?:input )?tokens",
    rf"[Pp]rompt contains {_NUMBER} tokens",
    rf"Given: {_NUMBER} \W?inputs",
    rf"token count \({_NUMBER}\)",
    rf"requested (?:about |a total of )?{_NUMBER} tokens",
]
_SIZE = [
    rf"{_CONTEXT} (?:is|of) (?:only )?{_NUMBER}",
    rf"model length (?:is |of )?\(?{_NUMBER}",
    rf"{_CONTEXT} \(?{_NUMBER}",
    rf"context limit: \d[\d,]* \+ \d[\d,]* > {_NUMBER}",
    rf"prompt is too long: \d[\d,]*(?: tokens)? > {_NUMBER}",
    rf"must be <= {_NUMBER}",
    rf"{_NUMBER} maximum context",
    rf"tokens allowed \({_NUMBER}\)",
    rf"exceeds limit of {_NUMBER}",
]


class Overflow(NamedTuple):
    """What a server told of it, in tokens; None for what it did not tell."""

    prompt_tokens: int | None
    context_size: int | None


def overflow_in(message: str) -> Overflow | None:
    """Return what a message says of a context overflow; None where it is about something else.

    >>> overflow_in("prompt is too long: 208310 tokens > 200000 maximum")
    Overflow(prompt_tokens=208310, context_size=200000)
    >>> overflow_in("max_tokens: 64000 > 8192, the maximum number of output tokens")
    """
    if not re.search(_SAYS_SO, message[:10_000], re.IGNORECASE):
        return None
    return Overflow(_first(_PROMPT, message), _first(_SIZE, message))


def _first(patterns: list[str], message: str) -> int | None:
    for pattern in patterns:
        if found := re.search(pattern, message[:10_000]):
            return int(found[1].replace(",", "")[:15])
    return None
