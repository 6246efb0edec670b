"""Read the turns of a history into the form of a request, and note what is wrong with them. Pure.

A turn is a message of ours or a dict, typed by hand or loaded from a file; a dict may be the dump
of a whole message, with fields that only a reply has. Light: a history of megabytes is walked, and
copied only where something in it has to change.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..types._json import is_iterable, is_mapping
from ..types.message import Message, is_empty_text
from .json import as_param
from .shapes import CONVERTS, wrong_block, wrong_role

log = logging.getLogger("modelslab_llm")

_OURS = frozenset({"input_complete", "raw_input", "parsed_output"})
"""What clients, this one and anthropic, add to the blocks of a reply: no server knows it."""
_UNSENT = frozenset({"citations", "caller", *_OURS})
"""What a dump may say null of although no server sent it."""


def plain_turns(turns: list[Any], problems: list[str]) -> list[Any]:
    """Return the turns of a history, without empty replies.

    Servers refuse such a turn, and with it every later request of the history. If it was between
    two turns of the user, these become one: many models require alternating roles.
    """
    plain: list[Any] = []
    left_out = False
    for i, given in enumerate(turns):
        before = len(problems)
        turn = plain_turn(given, f"messages[{i}]", problems)
        if len(problems) > before:
            continue
        if turn["role"] == "assistant":
            turn = _without_empty_texts(turn)
        if not turn["content"] and turn["role"] == "assistant":
            log.info("messages[%d] is left out: the reply is empty", i)
            left_out = True
            continue
        if turn["content"] == []:
            problems.append(f"messages[{i}].content: is empty")
        if left_out and plain and plain[-1]["role"] == turn["role"]:
            turn = {**turn, "content": [*_blocks(plain.pop()), *_blocks(turn)]}
        left_out = False
        plain.append(turn)
    if not plain and not problems:
        problems.append("messages: is empty, but must start with a user turn")
    return plain


def plain_turn(turn: Any, path: str, problems: list[str]) -> Any:
    """Return a turn without models in it, as a request takes it, and note what is wrong with it."""
    if isinstance(turn, Message):
        return turn.to_param()
    if not is_mapping(turn):
        problems.append(f"{path}: must be a dict with 'role' and 'content'")
        return None
    if turn.get("type") == "message":  # the dump of a reply, with much that no request has
        turn = {"role": turn.get("role", "assistant"), "content": turn.get("content") or []}
    role, content = turn.get("role"), turn.get("content")
    if wrong := wrong_role(role):
        problems.append(f"{path}.role: {wrong}")
    if "tool_calls" in turn:
        problems.append(f"{path}.tool_calls: is OpenAI's form: {CONVERTS}")
        return None
    if isinstance(content, str):
        return turn
    if isinstance(content, BaseModel) or not is_iterable(content):
        kind = _kind_of(content) if "content" in turn else "missing"
        problems.append(f"{path}.content: must be text or a list of blocks, not {kind}")
        return None
    blocks: list[Any] = []
    for i, block in enumerate(content):
        plain = as_param(block) if isinstance(block, BaseModel) else block
        if not is_mapping(plain) or not isinstance(plain.get("type"), str):
            message = isinstance(content, Message) or isinstance(block, Message)
            problems.append(
                f"{path}.content[{i}]: must be a block, a dict with a 'type'"
                + (": pass the message itself as the turn" if message else "")
            )
        elif wrong := wrong_block(plain):
            problems.append(f"{path}.content[{i}]{wrong}")
        elif not is_empty_text(block):
            blocks.append(plain if plain is not block else as_sent(plain))
    return {**turn, "content": blocks}


def as_sent(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block that may come from a dump as its server sent it, and will take it back.

    >>> as_sent({"type": "tool_use", "id": "a", "name": "b", "input": {}, "caller": None})
    {'type': 'tool_use', 'id': 'a', 'name': 'b', 'input': {}}
    """
    drop = [name for name in _UNSENT & block.keys() if name in _OURS or block[name] is None]
    return {name: block[name] for name in block if name not in drop} if drop else block


def _without_empty_texts(turn: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out text without text: some gateways begin an answer with it, others refuse it
    (protocol.md §11).
    """
    content = turn["content"]
    if isinstance(content, str) or all(map(_says_something, content)):
        return turn
    return {**turn, "content": [*filter(_says_something, content)]}


def _says_something(block: Mapping[str, Any]) -> bool:
    return block["type"] != "text" or bool(block.get("text"))


def _blocks(turn: Mapping[str, Any]) -> list[Any]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _kind_of(content: object) -> str:
    if isinstance(content, Message):
        return "a Message: pass it by itself as the turn"
    if isinstance(content, BaseModel) or (is_mapping(content) and "type" in content):
        return "one block: put it into a list, [block]"
    return type(content).__name__
