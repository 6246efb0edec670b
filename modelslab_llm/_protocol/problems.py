"""Describe what is wrong with a value, path by path. Pure; never shows the value itself.

A model is told of what it sent, and a program of what came: who made the value knows it, and a log
should not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

MANY = 10  # problems named in one error


def problems_in(error: ValidationError, root: str = "") -> str:
    """Return what pydantic found, with places such as `river.days[1]`; `root` names the whole."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return joined([_problem(problem, root) for problem in problems])


def first_problem(error: ValueError) -> str:
    """Return the first problem in what a server sent, for one line of an error.

    pydantic names in its places also what it tried there, which nobody sent: that is left out.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = [part for part in problem["loc"] if not re.fullmatch(_TRIED, str(part))]
    return _problem({**problem, "loc": place}, "") if place else problem["msg"]


_TRIED = r"[a-z-]+\[.*\]|str|int"  # such as tagged-union[TextDelta,InputJSONDelta]


def joined(problems: Sequence[str]) -> str:
    """Return problems as one line, of many the first ones."""
    more = [f"and {len(problems) - MANY} more"] if len(problems) > MANY else []
    return "; ".join([*problems[:MANY], *more])


_WORDS = {
    "missing": "is required",
    "missing_argument": "is required",
    "missing_keyword_only_argument": "is required",
    "unexpected_keyword_argument": "is unknown",
    "extra_forbidden": "is unknown",
}


def _problem(problem: Mapping[str, Any], root: str) -> str:
    place = root
    for part in problem["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    return f"{place or 'the object'}: {_WORDS.get(problem['type'], problem['msg'])}"
