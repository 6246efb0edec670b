"""Set prompt caching breakpoints where they pay, and report cache hits.

Pure: it returns new parameters and does not change the caller's. Which servers cache, and what a
breakpoint costs, is in protocol.md §4 and on the page on prompt caching.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from .errors import InvalidRequestError
from .types._json import is_iterable, is_mapping
from .types.message import Message
from .types.requests import MessageCreateParams
from .types.usage import Usage

__all__ = ["MAX_BREAKPOINTS", "CacheUse", "cache_use", "with_breakpoints"]

MAX_BREAKPOINTS = 4
"""The maximum number of breakpoints of a request (protocol.md §4)."""

_UNMARKABLE = ("thinking", "redacted_thinking")


def with_breakpoints(
    params: MessageCreateParams, *, ttl: Literal["5m", "1h"] | None = None, turns: int = 2
) -> MessageCreateParams:
    """Return the parameters with `cache_control` where a cached prefix pays.

    A prefix consists of tools, then system, then messages. The function marks the last tool, the
    end of the system prompt, and the last content block of the last user turns: of the last one, so
    that the next request can read what this one writes, and of the one before, which the previous
    request wrote. Existing marks are kept and counted; there are never more than `MAX_BREAKPOINTS`.

        params = {"model": …, "max_tokens": 1024, "system": LONG, "messages": history}
        message = client.messages.create(**with_breakpoints(params))

    Args:
        params: What `messages.create` or `messages.stream` takes.
        ttl: How long the server keeps the prefix; None for its default, five minutes at Anthropic.
        turns: How many user turns to mark, counted from the end; 0 for none.

    Returns:
        A copy; the caller's lists and blocks are unchanged.

    Raises:
        InvalidRequestError: `turns` is negative, or `ttl` is neither "5m" nor "1h".

    >>> marked = with_breakpoints({"model": "m", "max_tokens": 9, "system": "Be brief.",
    ...                            "messages": [{"role": "user", "content": "Hello"}]})
    >>> marked["system"]
    [{'type': 'text', 'text': 'Be brief.', 'cache_control': {'type': 'ephemeral'}}]
    """
    if ttl not in (None, "5m", "1h"):
        raise InvalidRequestError(f"ttl: must be '5m', '1h' or None, not {ttl!r}")
    if type(turns) is not int or turns < 0:
        raise InvalidRequestError(f"turns: must be a whole number, at least 0, not {turns!r}")
    mark = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    changed: Any = dict(params)
    tools, system = _listed(changed.get("tools")), _blocks(changed.get("system"))
    messages = _listed(changed.get("messages"))
    users = [i for i, turn in enumerate(messages) if _is_users(turn)][-turns:] if turns else []
    asked = {i: _content(messages[i]) for i in reversed(users)}
    left = MAX_BREAKPOINTS - sum(map(_marks, (tools, system, *map(_content, messages))))

    # The last turn first: where few marks are left, that one makes the next request cheap.
    last, *earlier = asked.values() or [[]]
    for blocks in (last, system, tools, *earlier):
        if left > 0 and _mark_last(blocks, mark):
            left -= 1
    for i, blocks in asked.items():
        if _marks(blocks):
            messages[i] = {**messages[i], "content": blocks}
    for name, value in (("tools", tools), ("system", system), ("messages", messages)):
        if value:
            changed[name] = value
    marked: MessageCreateParams = changed  # the same keys, with the same meaning
    return marked


class CacheUse(NamedTuple):
    """The tokens of a prompt: read from the cache, written to it, and neither."""

    read: int
    """Read from the cache, at a fraction of the price."""
    written: int
    """Written to the cache, at more than the price."""
    uncached: int
    """Neither: `input_tokens`, as Anthropic and llama-server count them (protocol.md §5)."""

    @property
    def hit_rate(self) -> float:
        """The share of the prompt that was read from the cache, from 0 to 1; 0 for no prompt."""
        return self.read / (sum(self) or 1)


def cache_use(answer: Message | Usage) -> CacheUse:
    """Return how many tokens of a prompt were cached.

    vLLM and new-api count the whole prompt in `input_tokens`, cached or not, so `uncached` and
    `hit_rate` are meaningless there (protocol.md §5).

    Args:
        answer: The message, or its token counts.

    Returns:
        The tokens of the prompt: read from the cache, written to it, and neither.

    >>> use = cache_use(Usage(input_tokens=20, cache_read_input_tokens=180))
    >>> use, use.hit_rate
    (CacheUse(read=180, written=0, uncached=20), 0.9)
    """
    usage = answer.usage if isinstance(answer, Message) else answer
    return CacheUse(
        usage.cache_read_input_tokens, usage.cache_creation_input_tokens, usage.input_tokens
    )


def _listed(value: Any) -> list[Any]:
    if not is_iterable(value):
        return []  # what is wrong with it is said when the request is checked
    return [entry.to_param() if hasattr(entry, "to_param") else entry for entry in value]


def _blocks(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [{"type": "text", "text": value}] if value else []
    return _listed(value)


def _is_users(turn: Any) -> bool:
    return is_mapping(turn) and turn.get("role") == "user"


def _content(turn: Any) -> list[Any]:
    return _blocks(turn.get("content")) if is_mapping(turn) else []


def _is_marked(block: Any) -> bool:
    return is_mapping(block) and block.get("cache_control") is not None


def _marks(blocks: list[Any]) -> int:
    return sum(map(_is_marked, blocks))


def _mark_last(blocks: list[Any], mark: Mapping[str, Any]) -> bool:
    """Mark the last possible block; False if it is marked already, or there is none."""
    for i in reversed(range(len(blocks))):
        block = blocks[i]
        if not is_mapping(block) or block.get("type") in _UNMARKABLE:
            continue
        if block.get("type") == "text" and not block.get("text"):
            continue
        if _is_marked(block):
            return False
        blocks[i] = {**block, "cache_control": dict(mark)}
        return True
    return False
