"""Tell observers and the log what happens to a call, in one place for sync and async.

Pure except for logging. It decides nothing, and no exception of an observer reaches the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import APIError
from ..observers import (
    AttemptEnd,
    CallEnd,
    ObservedCall,
    Observer,
    Outcome,
    ResumePlan,
    RetryPlan,
)
from ..types.call_info import CallInfo
from ..types.message import Message
from .log import log
from .values import Call

_PARAMETERS = ("max_tokens", "temperature", "top_p", "top_k", "service_tier")


class Watch:
    """The observers and the log of one call. Created only if there are any: see `watching`."""

    def __init__(self, call: ObservedCall, observers: Sequence[Observer]) -> None:
        self._call = call
        self._observers = observers
        self._ended = False
        self._tell("on_start")

    def attempt_starts(self, number: int) -> None:
        self._tell("on_attempt_start", number)

    def attempt_ends(self, attempt: AttemptEnd) -> None:
        self._tell("on_attempt_end", attempt)

    def retries(self, retry: RetryPlan) -> None:
        self._tell("on_retry", retry)

    def resumes(self, resume: ResumePlan) -> None:
        self._tell("on_resume", resume)

    def ends(
        self,
        outcome: Outcome,
        elapsed: float,
        attempts: int,
        error: APIError | None = None,
        info: CallInfo | None = None,
        message: Callable[[], Message | None] = lambda: None,
    ) -> None:
        """Report the end; only the first call counts. `message` is called only then."""
        if self._ended:
            return
        self._ended = True
        end = CallEnd(outcome, elapsed, attempts, error, info, message())
        if log.isEnabledFor(logging.INFO):
            _log_end(self._call, end)
        self._tell("on_end", end)

    def _tell(self, method: str, *told: object) -> None:
        for observer in self._observers:
            try:
                getattr(observer, method)(self._call, *told)
            except Exception:  # noqa: BLE001 - no exception of an observer reaches the call
                name = f"{type(observer).__name__}.{method}"
                log.warning("an observer failed: %s", name, exc_info=True)


def is_watched(call: Call[Any]) -> bool:
    """Tell whether anybody would be told what happens to a call."""
    return bool(call.config.observers) or log.isEnabledFor(logging.INFO)


def watching(call: Call[Any], started: float) -> Watch:
    """Return the `Watch` of a call that begins now."""
    request, asked = call.request, call.asked
    parameters = {
        name: value
        for name in _PARAMETERS
        if isinstance(value := asked.get(name), (int, float, str))
    }
    model = asked.get("model")
    observed = ObservedCall(
        call.operation,
        request.method,
        call.config.hide_key(request.url),
        model if isinstance(model, str) else "",
        request.stream,
        parameters,
        started,
    )
    return Watch(observed, call.config.observers)


def _log_end(call: ObservedCall, end: CallEnd) -> None:
    """Log one line for a call, with its values as fields of the record."""
    usage, info = end.usage, end.info
    status = info.status_code if info else getattr(end.error, "status_code", None)
    fields: dict[str, object] = {
        "llm_operation": call.operation,
        "llm_model": call.model,
        "llm_outcome": end.outcome,
        "llm_status": status,
        "llm_attempts": end.attempts,
        "llm_elapsed": round(end.elapsed, 6),
        "llm_request_id": info.request_id if info else getattr(end.error, "request_id", None),
        "llm_time_to_first_content": info.time_to_first_content if info else None,
        "llm_input_tokens": usage.input_tokens if usage else None,
        "llm_output_tokens": usage.output_tokens if usage else None,
        "llm_error": type(end.error).__name__ if end.error else None,
    }
    words = [f"{call.operation} {call.model}".strip(), end.outcome, f"in {end.elapsed:.3f} s"]
    if end.attempts > 1:
        words.append(f"after {end.attempts} attempts")
    if usage:
        words.append(f"{usage.input_tokens} + {usage.output_tokens} tokens")
    if end.error:
        words.append(f"{type(end.error).__name__}")
    if request_id := fields["llm_request_id"]:
        words.append(f"request id {request_id}")
    log.info("%s", ", ".join(words), extra=fields)
