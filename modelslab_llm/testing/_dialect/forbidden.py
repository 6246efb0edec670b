"""What a server refuses in a body that has all its fields, so that tests are as strict as it. Pure.

Written from the documents and not from the client's own checks, which it would else only repeat.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from ...types._json import fields_of, is_list, is_object

__all__ = ["ANTHROPIC", "ANYTHING", "MODELSLAB", "Forbidden"]


@dataclass(frozen=True)
class Forbidden:
    """The limits of one server's requests."""

    roles: frozenset[str] | None = None
    """The roles a turn may have; None for any."""
    hottest: float = inf
    """The maximum of `temperature` and `top_p`."""
    least_top_k: int | None = None
    shapes: bool = False
    """Whether blocks, tools and `tool_choice` of the OpenAI format are refused."""

    def in_body(self, body: dict[str, Any]) -> list[str]:
        """Return each fault with its place."""
        faults = [
            f"{name}: must be from 0 to {self.hottest:g}"
            for name in ("temperature", "top_p")
            if not self._is_allowed(body.get(name))
        ]
        top_k, least = body.get("top_k"), self.least_top_k
        if None not in (least, top_k) and not (type(top_k) is int and top_k >= (least or 0)):
            faults.append(f"top_k: must be at least {least}")
        turns = body.get("messages")
        for i, turn in enumerate(turns if is_list(turns) else []):
            role = fields_of(turn).get("role")
            if self.roles is not None and role not in self.roles:
                faults.append(f"messages.{i}.role: {role!r} is not one of {sorted(self.roles)}")
            content = fields_of(turn).get("content")
            if self.shapes and is_list(content):
                faults += [
                    f"messages.{i}.content.{k}: image_url is not a type of block"
                    for k, block in enumerate(content)
                    if fields_of(block).get("type") == "image_url"
                ]
        return faults + (self._shapes(body) if self.shapes else [])

    def _is_allowed(self, value: Any) -> bool:
        if value is None or self.hottest == inf:
            return True
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and 0 <= value <= self.hottest

    def _shapes(self, body: dict[str, Any]) -> list[str]:
        faults: list[str] = []
        tools = body.get("tools")
        for i, tool in enumerate(tools if is_list(tools) else []):
            if fields_of(tool).get("type") == "function":
                faults.append(f"tools.{i}.type: 'function' is not a type of tool")
        choice = body.get("tool_choice")
        if choice is not None and not is_object(choice):
            faults.append("tool_choice: must be an object")
        return faults


ANYTHING = Forbidden()
"""A server that takes whatever is there, as vLLM and llama-server do."""
MODELSLAB = Forbidden(frozenset({"user", "assistant"}), 1, 1, shapes=True)
"""ModelsLab's documents, for v7 and for GGUF deployments (protocol.md §3)."""
ANTHROPIC = Forbidden(frozenset({"user", "assistant", "system"}), 1, shapes=True)
"""The original (protocol.md §3); its newest models take a `system` turn."""
