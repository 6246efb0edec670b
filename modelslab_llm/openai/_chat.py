"""Read the messages of an OpenAI chat request into turns, for `openai` (protocol.md §13).

Pure. What is wrong, and what has no place in a turn, goes into `Notes` under its path; nothing is
raised or warned of but by `Notes.raise_or_warn`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from .._protocol.check import raise_for
from .._protocol.json import as_param
from ..types._json import is_iterable, is_mapping
from ..types._reading import read_arguments

Json: TypeAlias = dict[str, Any]


class NotCarriedOverWarning(UserWarning):
    """A field of a request or reply has no equivalent in the other format, and was left out.

    `warnings.simplefilter("error", NotCarriedOverWarning)` makes it an error.
    """


class Notes:
    """What is wrong with a body, and what is left out of it."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.dropped: list[str] = []

    def refuse(self, path: str, why: str) -> None:
        self.refused.append(f"{path}: {why}")

    def drop(self, path: str, why: str) -> None:
        self.dropped.append(f"{path}: {why}")

    def dict_at(self, value: object, path: str) -> Json:
        """Return a dict's fields, those of a client's own object too; `{}` for anything else."""
        if isinstance(value, BaseModel):
            return as_param(value)
        if is_mapping(value):
            return dict(value)
        self.refuse(path, f"must be a dict, not {type(value).__name__}")
        return {}

    def list_at(self, value: object, path: str) -> list[Any]:
        """Return the items of a list, or of any iterable that is not text or a dict."""
        if is_iterable(value):
            return list(value)
        self.refuse(path, f"must be a list, not {type(value).__name__}")
        return []

    def unread(self, fields: Mapping[str, Any], known: Iterable[str], path: str) -> None:
        """Note every unread field that has a value."""
        for name in fields.keys() - set(known):
            if fields[name] not in (None, [], {}, False):
                self.drop(f"{path}.{name}", "Messages has no equivalent")

    def raise_or_warn(self) -> None:
        raise_for(self.refused)
        for note in sorted(self.dropped):
            warnings.warn(note, NotCarriedOverWarning, stacklevel=_outside())


def _outside() -> int:
    """Return the `stacklevel` of the caller of the package, from any depth."""
    level, frame = 0, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("modelslab_llm."):
        level, frame = level + 1, frame.f_back
    return level


class Turns:
    """Read the messages into turns, and hold what the order of turns asks for."""

    def __init__(self, notes: Notes, keep_reasoning: bool) -> None:
        self._notes = notes
        self._keep_reasoning = keep_reasoning
        self._system: list[str] = []
        self._turns: list[tuple[str, list[Json]]] = []
        self._open: dict[str, str] = {}  # the calls without a result: id, path

    def read(self, messages: object) -> tuple[list[str], list[Json]]:
        """Return the system texts and the turns."""
        for i, message in enumerate(self._notes.list_at(messages, "messages")):
            path = f"messages[{i}]"
            fields = self._notes.dict_at(message, path)
            role = fields.get("role")
            if role in ("system", "developer"):
                self._read_system(fields, path)
            elif role in ("user", "assistant"):
                self._check_answered()
                read = self._assistant if role == "assistant" else self._user
                self._append(role, read(fields, path))
                if self._turns and self._turns[0][0] == "assistant":
                    self._notes.refuse(path, "Messages starts with a user turn")
                    self._turns.clear()  # once is enough
            elif role in ("tool", "function"):
                self._read_result(fields, path, legacy=role == "function")
            else:
                self._notes.refuse(f"{path}.role", f"{role!r} is unknown")
        self._check_answered()
        if not self._turns and not self._notes.refused:
            self._notes.refuse("messages", "contains no user message")
        return self._system, [_turn(role, blocks) for role, blocks in self._turns]

    def _read_system(self, fields: Json, path: str) -> None:
        self._notes.unread(fields, {"role", "content"}, path)
        blocks = self._parts(fields.get("content"), f"{path}.content", TEXTS)
        if blocks:
            self._system.append("\n\n".join(block["text"] for block in blocks))
        if self._turns:
            self._notes.drop(path, "its position: the system text comes before all turns")

    def _user(self, fields: Json, path: str) -> list[Json]:
        self._notes.unread(fields, {"role", "content"}, path)
        return self._parts(fields.get("content"), f"{path}.content", OF_USERS)

    def _assistant(self, fields: Json, path: str) -> list[Json]:
        self._notes.unread(fields, OF_ASSISTANTS, path)
        blocks: list[Json] = []
        if thought := fields.get("reasoning_content") or fields.get("reasoning"):
            if self._keep_reasoning:
                blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
            else:
                name = "reasoning_content" if fields.get("reasoning_content") else "reasoning"
                self._notes.drop(f"{path}.{name}", "keep_reasoning=True sends it as thinking")
        if fields.get("audio"):
            self._notes.refuse(f"{path}.audio", "Messages does not support audio")
        blocks += self._parts(fields.get("content"), f"{path}.content", TEXTS)
        blocks += self._parts(fields.get("refusal"), f"{path}.refusal", TEXTS)
        return blocks + self._calls(fields, path)

    def _calls(self, fields: Json, path: str) -> list[Json]:
        """Read the calls of an assistant's message, and keep in mind that they ask for results."""
        found: list[tuple[str, str, Json]] = []  # path, id, function
        calls = self._notes.list_at(fields.get("tool_calls") or [], f"{path}.tool_calls")
        for i, call in enumerate(calls):
            at = f"{path}.tool_calls[{i}]"
            one = self._notes.dict_at(call, at)
            if one.get("type", "function") != "function":
                self._notes.refuse(f"{at}.type", f"{one['type']!r} is not a function")
                continue
            self._notes.unread(one, {"id", "type", "function", "index"}, at)
            function = self._notes.dict_at(one.get("function"), f"{at}.function")
            found.append((f"{at}.function", str(one.get("id") or ""), function))
        if legacy := fields.get("function_call"):
            at = f"{path}.function_call"
            found.append((at, f"call_{path[9:-1]}", self._notes.dict_at(legacy, at)))
        blocks: list[Json] = []
        for at, call_id, function in found:
            if not call_id or call_id in self._open or not function.get("name"):
                self._notes.refuse(at.removesuffix(".function"), "needs its own name and id")
            else:
                self._open[call_id] = at.removesuffix(".function")
            blocks.append(
                {
                    "type": "tool_use",
                    "id": call_id,
                    "name": function.get("name"),
                    "input": self._arguments(function.get("arguments"), f"{at}.arguments"),
                }
            )
        return blocks

    def _arguments(self, value: object, path: str) -> Json:
        if is_mapping(value):  # some servers' habit
            return dict(value)
        found = read_arguments(value or "{}") if isinstance(value, str | None) else None
        if found is None:
            self._notes.refuse(path, f"must be a JSON object in a string, not {str(value)[:50]!r}")
        return found or {}

    def _read_result(self, fields: Json, path: str, *, legacy: bool) -> None:
        self._notes.unread(fields, {"role", "content", "tool_call_id", "name"}, path)
        call = fields.get("tool_call_id")
        if legacy:
            call = next((id for id, at in self._open.items() if at.endswith("function_call")), None)
        if call not in self._open:
            self._notes.refuse(path, f"no call directly before it has the id {call!r}")
            return
        del self._open[call]
        result: Json = {"type": "tool_result", "tool_use_id": call}
        content = fields.get("content")
        if isinstance(content, str) and content:
            result["content"] = content
        elif blocks := self._parts(content, f"{path}.content", OF_USERS):
            result["content"] = blocks
        self._append("user", [result])

    def _check_answered(self) -> None:
        for at in self._open.values():
            self._notes.refuse(at, "has no tool message directly after it")
        self._open = {}

    def _append(self, role: str, blocks: list[Json]) -> None:
        if blocks and self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
        elif blocks:
            self._turns.append((role, blocks))

    def _parts(self, content: object, path: str, kinds: Mapping[str, _Reader]) -> list[Json]:
        """Read content: a string or parts, of which those without text say nothing."""
        if not content:
            return []
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        blocks: list[Json] = []
        for i, part in enumerate(self._notes.list_at(content, path)):
            at = f"{path}[{i}]"
            fields = self._notes.dict_at(part, at)
            kind = str(fields.get("type"))
            if kind in kinds:
                self._notes.unread(fields, {"type", kind}, at)
                block = kinds[kind](fields.get(kind), f"{at}.{kind}", self._notes)
                blocks += [block] if block else []
            elif fields:
                self._notes.refuse(at, f"Messages does not accept a part of type {kind!r} here")
        return blocks


def _turn(role: str, blocks: list[Json]) -> Json:
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return {"role": role, "content": blocks[0]["text"]}
    return {"role": role, "content": blocks}


def _text(value: Any, path: str, notes: Notes) -> Json | None:
    return {"type": "text", "text": value} if value else None


# The clients load this module, and images are for few programs: so late.


def _image(value: Any, path: str, notes: Notes) -> Json | None:
    from ..media._sniff import PICTURES

    image = {"url": value} if isinstance(value, str) else notes.dict_at(value, path)
    notes.unread(image, {"url", "detail"}, path)
    if image.get("detail") not in (None, "auto"):
        notes.drop(f"{path}.detail", "Messages leaves that to the server")
    source = _source(image.get("url"), PICTURES)
    if source is None:
        kinds = ", ".join(PICTURES)
        notes.refuse(f"{path}.url", f"must be https:, or data: with base64 of {kinds}")
    return {"type": "image", "source": source}


def _file(value: Any, path: str, notes: Notes) -> Json | None:
    from ..media._sniff import PDF

    file = notes.dict_at(value, path)
    notes.unread(file, {"file_data", "filename", "file_id"}, path)
    source = _source(file.get("file_data"), [PDF])
    if source is None or source["type"] == "url":
        notes.refuse(path, "must have file_data: with base64 of application/pdf")
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": source, **title}


def _source(url: object, kinds: Iterable[str]) -> Json | None:
    """Return the source behind a URL, or None if Messages takes none like it."""
    if not isinstance(url, str):
        return None
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    from ..media._sniff import data_url

    kind, data = data_url(url) or ("", "")
    kind = kind.replace("image/jpg", "image/jpeg")
    return {"type": "base64", "media_type": kind, "data": data} if kind in kinds else None


_Reader: TypeAlias = Callable[[Any, str, Notes], "Json | None"]

TEXTS: Mapping[str, _Reader] = {"text": _text, "refusal": _text}
OF_USERS: Mapping[str, _Reader] = {"text": _text, "image_url": _image, "file": _file}
OF_ASSISTANTS = {
    *("role", "content", "refusal", "audio", "tool_calls", "function_call"),
    *("reasoning_content", "reasoning"),
}
