"""Token counts, and their sum (protocol.md §5)."""

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import model_validator

from ._base import Count, ServerValue, Tolerant, tolerated
from ._json import is_object

__all__ = ["CacheCreation", "OutputTokensDetails", "ServerToolUsage", "Usage"]


class CacheCreation(ServerValue):
    """Tokens written to the prompt cache, by their lifetime."""

    ephemeral_5m_input_tokens: Count = 0
    ephemeral_1h_input_tokens: Count = 0


class OutputTokensDetails(ServerValue):
    """What the output tokens were spent on."""

    thinking_tokens: Count = 0


class ServerToolUsage(ServerValue):
    """How often the server used its own tools."""

    web_search_requests: Count = 0
    web_fetch_requests: Count = 0


class Usage(Tolerant):
    """Token counts. A counter the server did not send is 0 and absent from `model_fields_set`.

    At Anthropic and llama-server, `input_tokens` excludes cached tokens; other servers count the
    whole prompt (protocol.md §5).
    """

    _essential: ClassVar[frozenset[str]] = frozenset()

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None
    server_tool_use: ServerToolUsage | None = None
    service_tier: str | None = None
    inference_geo: str | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Return the sum of all counters, including server-specific ones; for other fields, the
        later value.

        >>> total = Usage(input_tokens=3, output_tokens=5) + Usage(input_tokens=4, output_tokens=1)
        >>> total.input_tokens, total.output_tokens
        (7, 6)
        """
        both = _summed(self.model_dump(exclude_unset=True), other.model_dump(exclude_unset=True))
        return Usage.model_validate(both)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        """Treat null as not sent."""
        if not is_object(value):
            return value if isinstance(value, cls) else {}
        for name in ("input_tokens", "output_tokens"):
            if value.get(name, 0) is None:
                tolerated(f"usage.{name} was null")
        return {name: count for name, count in value.items() if count is not None}


def sum_usage(usages: Iterable["Usage"]) -> Usage:
    """Return the sum of the token counts of several answers."""
    total = Usage()
    for usage in usages:
        total = total + usage
    return total


def _summed(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    total = {**one, **{name: value for name, value in other.items() if value is not None}}
    for name in one.keys() & other.keys():
        here, there = one[name], other[name]
        if is_object(here) and is_object(there):
            total[name] = _summed(here, there)
        elif _is_count(here) and _is_count(there):
            total[name] = here + there
    return total


def _is_count(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
