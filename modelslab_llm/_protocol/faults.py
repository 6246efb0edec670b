"""Say what is wrong with a value, place by place. Pure; never shows the value itself.

A model is told of what it sent, and a program of what came: who made the value knows it, and a log
should not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

MANY = 10  # faults named in one error


def faults_in(error: ValidationError, root: str = "") -> str:
    """Return what pydantic found, with places such as `river.days[1]`; `root` names the whole."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return joined([_fault(fault, root) for fault in faults])


def first_fault(error: ValueError) -> str:
    """Return the first fault in what a server sent, for one line of an error.

    pydantic names in its places also what it tried there, which nobody sent: that is left out.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = [part for part in fault["loc"] if not _TRIED.fullmatch(str(part))]
    return _fault({**fault, "loc": place}, "") if place else fault["msg"]


_TRIED = re.compile(r"[a-z-]+\[.*\]|str|int")  # such as tagged-union[TextDelta,InputJSONDelta]


def joined(faults: Sequence[str]) -> str:
    """Return faults as one line, of many the first ones."""
    more = [f"and {len(faults) - MANY} more"] if len(faults) > MANY else []
    return "; ".join([*faults[:MANY], *more])


_WORDS = {
    "missing": "is required",
    "missing_argument": "is required",
    "missing_keyword_only_argument": "is required",
    "unexpected_keyword_argument": "is unknown",
    "extra_forbidden": "is unknown",
}


def _fault(fault: Mapping[str, Any], root: str) -> str:
    place = root
    for part in fault["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    return f"{place or 'the object'}: {_WORDS.get(fault['type'], fault['msg'])}"
