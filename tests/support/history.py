"""Say what is wrong with a history, by the rules of protocol.md §3, §4, §10 and §13.

Written from the protocol and not from the package: a second opinion for its property tests.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings

from modelslab_llm import InvalidRequestError, endpoints
from modelslab_llm._protocol.check import MESSAGE, checked

# The same examples in each run, however busy the machine is: a submission must not fail by the
# luck of another one's test.
PROPERTY = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

ENDPOINT = endpoints.gguf("dep_1")


def faults(messages: list[Any]) -> list[str]:
    """Return every fault of a history, in words; `[]` for one that every server takes."""
    found: list[str] = []
    try:
        checked({"messages": messages, "max_tokens": 9}, MESSAGE, ENDPOINT, "create")
    except InvalidRequestError as error:
        return [str(error)]
    if messages[0]["role"] != "user":
        found.append("the first turn is not the user's")
    asked: list[str] = []
    for number, turn in enumerate(messages):
        if number and turn["role"] == messages[number - 1]["role"]:
            found.append(f"{number}: two turns of one role")
        content = turn["content"]
        if not content:
            found.append(f"{number}: is empty")
            continue
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        kinds = [block["type"] for block in blocks]
        if any(b["type"] == "text" and not b["text"] for b in blocks):
            found.append(f"{number}: empty text")
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        if Counter(results) != Counter(asked):
            found.append(f"{number}: results of {results} for calls of {asked}")
        if "tool_result" in kinds[len(results) :]:
            found.append(f"{number}: something before a result")
        if turn["role"] == "assistant" and kinds[-1] in ("thinking", "redacted_thinking"):
            found.append(f"{number}: thinking that leads to nothing")
        asked = [b["id"] for b in blocks if b["type"] == "tool_use"]
        if len(set(asked)) < len(asked) or not all(asked):
            found.append(f"{number}: calls that cannot be told apart: {asked}")
    if asked:
        found.append(f"calls of {asked} without results")
    return found
