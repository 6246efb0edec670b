"""Read a script from JSON, as the command line takes it, or say what is wrong with it, and where.

Must not open a file: the caller passes the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, TypeAlias

from ..._protocol.problems import joined
from ...types._json import is_list, is_object
from .fault import KINDS, Fault
from .script import ErrorReply, Reply, ReplyLike

__all__ = ["ScriptError", "script_in"]


Json: TypeAlias = dict[str, Any]


class ScriptError(ValueError):
    """A text is not a script; the error says what is wrong at each place."""


def script_in(text: str, *, pause: float = 0.0) -> ReplyLike | Sequence[ReplyLike]:
    """Return the script that a JSON text holds: one answer, or a list of them.

    An answer is a text; an object with a `status` and other fields of `ErrorReply`; an object with
    a `type`, which is the body of a message and sent as it is; or an object with fields of `Reply`,
    whose `pause` is the one given here if it has none, and whose `fault` is an object with the
    `kind` of a `Fault` and what that takes. Raises `ScriptError`.

    >>> script_in('["Hello.", {"status": 529}]')
    ['Hello.', ErrorReply(status=529, message='', type=None, headers={}, body=None)]
    >>> script_in('["Hello.", {"status": 99}, {"contents": "Paris."}, 7]')
    Traceback (most recent call last):
    modelslab_llm.testing._script.script_file.ScriptError: [1].status: must be a number \
from 200 to 599; [2].contents: is unknown; [3]: is neither a string nor an object
    """
    try:
        found: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise ScriptError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise ScriptError("the brackets are nested too deeply") from None
    if not is_list(found):
        return _read(found, "the script", pause)
    if not found:
        raise ScriptError("the list has no answers")
    answers: list[ReplyLike] = []
    faults: list[str] = []
    for place, each in enumerate(found):
        try:
            answers.append(_read(each, f"[{place}]", pause))
        except ScriptError as error:
            faults.append(str(error))
    if faults:
        raise ScriptError(joined(faults))
    return answers


def _read(found: object, place: str, pause: float) -> ReplyLike:
    if isinstance(found, str):
        return found
    if not is_object(found):
        raise ScriptError(f"{place}: is neither a string nor an object")
    fields: Json
    if "status" in found:
        fields = _checked(found, _FAILURE, place)
        return ErrorReply(
            **{**fields, "body": fields["body"].encode()} if "body" in fields else fields
        )
    if "type" in found:
        return found
    fields = {"pause": pause, **_checked(found, _REPLY, place)}
    if "fault" in fields:
        fields["fault"] = _fault(fields["fault"], f"{place}.fault")
    return Reply(**fields)


def _fault(given: Json, place: str) -> Fault:
    fields = dict(given)
    kind = fields.pop("kind", None)
    make: Callable[..., Fault] | None = getattr(Fault, kind) if kind in KINDS else None
    if make is None:
        raise ScriptError(f"{place}.kind: must be one of {', '.join(KINDS)}")
    if isinstance(fields.get("data"), str):
        fields["data"] = fields["data"].encode()
    try:
        return make(**fields)
    except (TypeError, ValueError) as error:
        raise ScriptError(f"{place}: {error}") from None


_Check: TypeAlias = tuple[Callable[[Any], bool], str]

_TEXT: _Check = (lambda value: isinstance(value, str), "a text")
_OBJECT: _Check = (lambda value: isinstance(value, dict), "an object")


def _all_are(kind: type, values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


_HEADERS: _Check = (
    lambda value: is_object(value) and _all_are(str, value.values()),
    "an object of texts",
)

_REPLY: Mapping[str, _Check] = {
    "content": (
        lambda value: isinstance(value, str) or (isinstance(value, list) and _all_are(dict, value)),
        "a text or a list of content blocks",
    ),
    "stop_reason": _TEXT,
    "stop_sequence": _TEXT,
    "usage": _OBJECT,
    "model": _TEXT,
    "id": _TEXT,
    "pause": (
        lambda value: type(value) in (int, float) and 0 <= value < inf,
        "seconds, 0 or more",
    ),
    "split": (
        lambda value: value in ("word", "character") or (type(value) is int and value > 0),
        "'word', 'character' or a number of bytes",
    ),
    "headers": _HEADERS,
    "fault": _OBJECT,
}

_FAILURE: Mapping[str, _Check] = {
    "status": (
        lambda value: type(value) is int and 200 <= value <= 599,
        "a number from 200 to 599",
    ),
    "message": _TEXT,
    "type": _TEXT,
    "headers": _HEADERS,
    "body": _TEXT,
}


def _checked(given: Json, known: Mapping[str, _Check], place: str) -> Json:
    faults: list[str] = []
    for name, value in given.items():
        if name not in known:
            faults.append(f"{place}.{name}: is unknown")
        elif not known[name][0](value):
            faults.append(f"{place}.{name}: must be {known[name][1]}")
    if faults:
        raise ScriptError(joined(faults))
    return given
