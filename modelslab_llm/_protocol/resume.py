"""Decide whether the rest of an answer can be asked for, and with which request. Pure.

The text so far becomes the last assistant turn of the same request (a prefill). What comes back is
joined in `joining`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._records import record
from ..endpoints import Endpoint, Prefill
from ..errors import APIError, InvalidRequestError
from ..types._json import fields_of, is_list, is_mapping
from .json import encode
from .retry import Retry
from .values import Call, Deadline, T

FINE, BYTES_A_TOKEN = 8, 4
"""Up to so many bytes in each delta, on average, a delta is taken for one token; in coarser streams
a token is taken for so many bytes."""


class CannotResume(Exception):
    """The rest cannot be asked for; the words say why, if that is not plain from the failure."""


@record
class Allowed:
    """How often the rest of an answer may be asked for, in one call."""

    resume: int = 0
    """After a stream that broke."""
    continue_at_max_tokens: int = 0
    """After an answer that reached `max_tokens`."""


def allowed(resume: int, continue_at_max_tokens: int, endpoint: Endpoint) -> Allowed | None:
    """Return what a caller allows; None for nothing.

    Raises `InvalidRequestError` for what is not a count, and for an endpoint that is not known to
    continue an answer.
    """
    given = {"resume": resume, "continue_at_max_tokens": continue_at_max_tokens}
    problems = [
        f"{name}: must be a whole number, at least 0, not {value!r}"
        for name, value in given.items()
        if not (type(value) is int and value >= 0)
    ]
    wanted = [name for name, value in given.items() if value]
    if not problems and wanted and endpoint.continues_prefill is None:
        problems.append(
            f"{wanted[0]}: this server is not known to continue an answer; if it does, set "
            "endpoint=dataclasses.replace(client.endpoint, continues_prefill='rest')"
        )
    if problems:
        raise InvalidRequestError("; ".join(problems))
    return Allowed(resume, continue_at_max_tokens) if wanted else None


def estimated_tokens(deltas: int, size: int) -> int:
    """Return about how many tokens a text of so many deltas and bytes has.

    >>> estimated_tokens(200, 900), estimated_tokens(10, 400), estimated_tokens(0, 0)
    (200, 100, 0)
    """
    return deltas if size <= FINE * deltas else -(-size // BYTES_A_TOKEN)


def is_structured(asked: Mapping[str, Any]) -> bool:
    """Tell whether a request asks for an output that has to fit a schema or a grammar."""
    own = ("response_format", "json_schema", "grammar")  # in extra_body
    return bool(fields_of(asked.get("output_config")).get("format")) or any(map(asked.get, own))


def prefill_of(asked: Mapping[str, Any], text: str, manner: Prefill) -> str:
    """Return the whole text that the request for the rest has to end in.

    A caller may have begun the answer already. Raises `CannotResume` where that is not plain text.
    """
    own = _own_prefill(asked)
    if not text or not own:
        return text
    if manner == "rest":
        return own + text
    if not text.startswith(own):
        raise CannotResume("the answer does not begin with the last turn of the request")
    return text


def going_on(call: Call[T], prefill: str, max_tokens: int) -> Call[T]:
    """Return the call that asks for what follows a prefill."""
    asked = dict(call.asked)
    if prefill:
        turns = list(asked["messages"])
        if fields_of(turns[-1]).get("role") == "assistant":
            turns.pop()
        asked["messages"] = [*turns, {"role": "assistant", "content": prefill}]
        asked["max_tokens"] = max_tokens
    return replace(call, request=replace(call.request, content=encode(asked)), asked=asked)


def pause_before(
    failure: APIError, times: int, allowed: Allowed, retry: Retry, deadline: Deadline
) -> float:
    """Return the seconds to wait before the rest is asked for, the `times`th time.

    The rule is that of retries, for a failure that is worth one. Raises `CannotResume`.
    """
    if times > allowed.resume:
        raise CannotResume(f"resume={allowed.resume} is used up" if allowed.resume else "")
    rule = replace(retry, max_retries=allowed.resume)
    wait = rule.pause(failure, times)
    if wait is None:
        raise CannotResume(f"the wait is above max_retry_wait, {retry.max_wait:g} s")
    if not deadline.allows(wait):
        raise CannotResume("the deadline leaves no time for it")
    return wait


def _own_prefill(asked: Mapping[str, Any]) -> str:
    last: object = asked["messages"][-1]
    if not is_mapping(last) or last.get("role") != "assistant":
        return ""
    content: object = last.get("content")
    if is_list(content) and len(content) == 1 and is_mapping(content[0]):
        content = content[0].get("text")
    if not isinstance(content, str):
        raise CannotResume("the last turn of the request contains more than text")
    return content
