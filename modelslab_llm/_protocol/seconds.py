"""Say what a number of seconds may be, wherever one is taken. Pure."""

from __future__ import annotations

from math import inf
from typing import Any

from ..errors import ConfigurationError

LONGEST = 4_000_000.0  # seconds, 46 days: what every platform can wait for; more means as much


def seconds_of(name: str, value: Any, least: float | None = None) -> float:
    """Return seconds that can be waited for; above 0, or `least` or more.

    >>> seconds_of("timeout", 10**400)
    4000000.0
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Compared and not converted: an int may be larger than any float.
    fits = is_number and (value > 0 if least is None else value >= least) and value != inf
    if not fits:
        floor = "above 0" if least is None else f"{least} or more"
        forever = "; use None for no limit" if is_number and value == inf and least is None else ""
        raise ConfigurationError(f"{name} must be {floor} seconds, not {value!r}{forever}")
    return float(min(value, LONGEST))
