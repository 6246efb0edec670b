"""What is known of the call behind an answer: headers, attempts, times, and the limits left.

Nothing here is part of an answer's JSON. Credentials and cookies are never kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from .usage import Usage

__all__ = ["CallInfo", "RateLimit"]


@dataclass(frozen=True)
class RateLimit:
    """One limit of an account, as far as the server told."""

    limit: int | None = None
    """How much there is in one period."""
    remaining: int | None = None
    """How much of it is left."""
    resets_in: float | None = None
    """Seconds from the answer until it is full again."""


@dataclass(frozen=True)
class CallInfo:
    """What one call took, and what the server told beside its answer."""

    status_code: int
    """The HTTP status of the last attempt."""
    headers: Mapping[str, str] = field(repr=False)
    """The response headers, names in lower case; without cookies and credentials."""
    request_id: str | None
    """The request ID, to quote to the operator of the server; None if it sends none."""
    attempts: int
    """How many times the request was sent."""
    elapsed: float
    """Seconds from the start of the call, retries and backoff included, to the end of the answer;
    for a stream that is still open, to now."""
    time_to_first_event: float | None
    """Seconds from the start of the call to the first event of a stream; None without streaming."""
    time_to_first_content: float | None
    """Seconds from the start of the call to the first content of a stream, which is what a user
    waits for; None for a whole answer, and for a stream without content."""
    bytes_received: int
    """Bytes of the answer, decompressed."""
    received_at: float = 0.0
    """When the answer began to come in, in Unix seconds."""
    retried_usage: Usage | None = None
    """Tokens the server counted in failed attempts before the answer; None if it counted none."""

    @property
    def rate_limits(self) -> dict[str, RateLimit]:
        """The rate limits that the server reported, by name: `requests`, `tokens`, `input-tokens`,
        ….

        Read from `anthropic-ratelimit-*`, `x-ratelimit-*`, `ratelimit-*` and what LiteLLM passes on
        of them (protocol.md §7.5). Empty if the server reports nothing, such as ModelsLab,
        llama-server and vLLM.

        >>> headers = {"anthropic-ratelimit-tokens-remaining": "9"}
        >>> CallInfo(200, headers, None, 1, 0.5, None, None, 300).rate_limits
        {'tokens': RateLimit(limit=None, remaining=9, resets_in=None)}
        """
        told: dict[str, dict[str, str]] = {}
        for header, value in self.headers.items():
            if found := re.fullmatch(_LIMIT, header):
                name = found["after"] or found["before"] or "requests"
                told.setdefault(name, {}).setdefault(found["what"] or found["what_before"], value)
        sent = _date(self.headers.get("date", "")) or self.received_at
        return {
            name: RateLimit(
                _count(values.get("limit")),
                _count(values.get("remaining")),
                _resets_in(values.get("reset", ""), sent),
            )
            for name, values in sorted(told.items())
        }


class Beside:
    """Hold data about an answer that is not part of it and does not affect equality."""

    __slots__ = ("call_info",)

    def __init__(self, call_info: CallInfo) -> None:
        self.call_info: CallInfo = call_info

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Beside)

    def __hash__(self) -> int:
        return hash(Beside)


_LIMIT = (
    r"(?:llm_provider-)?(?:anthropic-|x-)?ratelimit-"
    r"(?:(?P<what>limit|remaining|reset)(?:-(?P<after>[a-z0-9-]+))?"
    r"|(?P<before>[a-z0-9-]+)-(?P<what_before>limit|remaining|reset))"
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _count(value: str | None) -> int | None:
    found = re.match(r"\s*(\d{1,15})", value or "")
    return int(found[1]) if found else None


def _resets_in(value: str, sent: float) -> float | None:
    """Read `6m0s`, `20ms`, seconds, Unix seconds or a date as seconds from `sent`.

    >>> _resets_in("6m0s", 0), _resets_in("20ms", 0), _resets_in("1.5", 0)
    (360.0, 0.02, 1.5)
    >>> _resets_in("1970-01-01T00:01:00Z", 50.0), _resets_in("1764250010", 1764250000.0)
    (10.0, 10.0)
    """
    value = value.strip()
    if parts := re.fullmatch(r"((?:\d+(?:\.\d+)?(?:ms|[smhd]))+)", value):
        pairs = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", parts[1])
        return float(sum(float(number) * _UNITS[unit] for number, unit in pairs))
    if re.fullmatch(r"\d{1,16}(\.\d{1,9})?", value):
        seconds = float(value)
        seconds = seconds / 1000 if seconds > 1e11 else seconds
        return max(0.0, seconds - sent) if seconds > 1e8 else seconds
    moment = _date(value)
    return None if moment is None else max(0.0, moment - sent)


def _date(value: str) -> float | None:
    for read in (_rfc3339, parsedate_to_datetime):
        try:
            moment = read(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    return None


def _rfc3339(value: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", value))  # 3.10 does not read the Z
