"""Hold one request as it arrived at a scripted server. Pure: nothing is answered here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ..._protocol.headers import CREDENTIALS
from ..._protocol.secret import Secret, Secrets
from ...openai._chat import Notes
from ...openai._fields import messages_request
from ...types._json import fields_of, is_array, is_list, is_mapping, is_object
from .difference import difference

__all__ = ["ReceivedRequest", "joined_text", "receive"]

T = TypeVar("T")


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it arrived, with its content as typed values.

    Fields that were not sent are `None` or empty. The key is not part of its `repr`.
    """

    method: str
    path: str
    """The path with its query."""
    headers: Mapping[str, str] = field(repr=False)  # the key is among them
    """Names in lower case; a name that was sent twice has its values joined with `", "`."""
    body: Any
    """The parsed JSON, or `None` if there is none."""
    raw: bytes = field(repr=False)

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        match self.body:
            case {"stream": True}:
                return True
            case _:
                return False

    @property
    def is_message_call(self) -> bool:
        """Whether it is a message call, on either route, and not a token count or a list."""
        at_messages = self.path.partition("?")[0].endswith("/v1/messages")
        return self.method == "POST" and (at_messages or self.is_chat_call)

    @property
    def is_chat_call(self) -> bool:
        """Whether it is a message call on the chat route, in the OpenAI format."""
        return self.method == "POST" and self.path.partition("?")[0].endswith("/chat/completions")

    @property
    def asked(self) -> dict[str, Any]:
        """The body in the Messages format, whichever route it used.

        It also contains fields that only the chat format has, such as `response_format`.
        """
        return {**fields_of(self.body), **self._carried_over[0]}

    @property
    def problems(self) -> Sequence[str]:
        """The parts of a chat body that Messages cannot express, each with its path."""
        return self._carried_over[1]

    @cached_property
    def _carried_over(self) -> tuple[dict[str, Any], Sequence[str]]:
        if not self.is_chat_call:
            return {}, ()
        notes = Notes()
        asked = messages_request(fields_of(self.body), notes, 4096, True, math.inf)
        return asked, notes.refused

    @property
    def model(self) -> str | None:
        """The requested model."""
        return self._sent("model", str)

    @property
    def max_tokens(self) -> int | None:
        """The maximum number of tokens."""
        return self._sent("max_tokens", int)

    @property
    def system(self) -> str | None:
        """The text of its system prompt; blocks are joined with line breaks."""
        sent = self.asked.get("system")
        return None if sent is None else joined_text(sent)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Its turns."""
        return self._objects("messages")

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The definitions of its tools."""
        return self._objects("tools")

    @property
    def text(self) -> str:
        """The text of the last user turn, tool results too; blocks are joined with line breaks."""
        turns = (turn for turn in reversed(self.messages) if turn.get("role") == "user")
        return joined_text(next(turns, None))

    @property
    def prefill(self) -> str:
        """The text of the last assistant turn, which the server should continue."""
        last = self.messages[-1] if self.messages else {}
        return joined_text(last) if last.get("role") == "assistant" else ""

    @property
    def deployment_id(self) -> str | None:
        """The GGUF deployment it was sent to."""
        found = re.match(r"/api/gguf/([^/?]+)/", self.path)
        return found[1] if found else None

    @property
    def credentials(self) -> dict[str, str]:
        """The keys that were sent, by the header that carried each; `""` for no Bearer key."""
        sent = {name: self.headers[name] for name in CREDENTIALS if name in self.headers}
        if "authorization" in sent:
            scheme, _, token = sent["authorization"].partition(" ")
            sent["authorization"] = token.strip() if scheme.lower() == "bearer" else ""
        return sent

    @property
    def api_key(self) -> str | None:
        """The key that was sent; the first of `credentials` if there are several."""
        return next(iter(self.credentials.values()), None)

    def assert_has(self, **fields: object) -> None:
        """Fail with the difference unless the request has these fields with these values.

        The names are those of the body, and `text`, `system`, `stream`, `deployment_id` and
        `api_key` as in this class. `None` means that a field was not sent. Values are compared
        completely; a message or its blocks are compared in the form of a request. Raises
        `AssertionError`, which never shows a key.
        """
        __tracebackhide__ = True
        expected = {name: plain(value) for name, value in fields.items()}
        found = {name: self._value(name, value) for name, value in expected.items()}
        if found == expected:
            return
        if "api_key" in fields:  # not even a wrong one is shown
            same = found["api_key"] == expected["api_key"]
            found["api_key"] = "the right key" if same else self.api_key and "another key"
            expected["api_key"] = "the right key"
        shown = difference(_without_nulls(expected), _without_nulls(found))
        words = f"{self.method} {self.path}: expected (-), sent (+)\n{shown}"
        words += "".join(f"\n{misspelt}" for misspelt in _misspelt(fields, self.asked))
        raise AssertionError(self.hide_keys(words))

    def hide_keys(self, text: str) -> str:
        """Return a text without the keys that were sent."""
        return Secrets(map(Secret, self.credentials.values())).hide(text)

    def _value(self, name: str, expected: object) -> object:
        if name in ("text", "stream", "deployment_id", "api_key"):
            return getattr(self, name)
        if name == "system" and isinstance(expected, str):
            return self.system
        return self.asked.get(name)

    def _objects(self, name: str) -> list[dict[str, Any]]:
        sent = self.asked.get(name)
        return [each for each in sent if is_object(each)] if is_list(sent) else []

    def _sent(self, name: str, kind: type[T]) -> T | None:
        value = self.asked.get(name)
        return value if isinstance(value, kind) else None


def plain(value: object) -> Any:
    """Return a value as a request has it: tuples as lists, messages and blocks as dicts.

    >>> plain({"stop_sequences": ("END",)})
    {'stop_sequences': ['END']}
    """
    if to_param := getattr(value, "to_param", None):
        return plain(to_param())
    if is_mapping(value):
        return {str(name): plain(inner) for name, inner in value.items()}
    if is_array(value):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float) else repr(value)


def _misspelt(names: Iterable[str], sent: Iterable[str]) -> Iterator[str]:
    from ..._hints import did_you_mean  # what a test that passes need not load
    from ...types import MessageCreateParams

    known = {
        *MessageCreateParams.__annotations__,
        *sent,
        "text",
        "stream",
        "deployment_id",
        "api_key",
    }
    for name in names:
        if name not in known and (question := did_you_mean(name, known)):
            yield f"{name}: {question.strip()}"


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def receive(
    method: str, path: str, headers: Sequence[tuple[str, str]], raw: bytes
) -> ReceivedRequest:
    """Put a request together from its parts.

    >>> receive("POST", "/v1/messages", [("A", "1"), ("a", "2")], b"{").headers
    {'a': '1, 2'}
    """
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):  # the latter: brackets nested thousands deep
        body = None
    return ReceivedRequest(method, path, joined, body, raw)


def joined_text(value: Any) -> str:
    """Join the text of a prompt or a reply: strings, blocks, and blocks within blocks."""
    match value:
        case str():
            return value
        case [*parts]:
            return "\n".join(filter(None, map(joined_text, parts)))
        case {"type": "tool_use", "input": arguments}:
            return json.dumps(arguments)
        case {"text": inner} | {"thinking": inner} | {"content": inner}:
            return joined_text(inner)
        case _:
            return ""
