"""Ask a server until it has its model loaded: the flow behind `wait_until_ready`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress

from ..errors import UnsupportedOperationError
from ..types.message import TokenCount
from .config import Config
from .exchange import exchange
from .messages import count_tokens
from .models import list_models
from .retry import UntilReady
from .values import Attempt, Call, Deadline, Outcome


def until_ready(config: Config, clock: Callable[[], float]) -> Generator[Attempt, Outcome, None]:
    """Ask until the server has its model loaded, for as long as the deadline says.

    Where a token count cannot tell, a list of models has to: no server that is down gives one. A
    server that has neither, and says so, is there; more cannot be known before it is asked.
    """
    deadline, retry = Deadline.of(config, clock), UntilReady()
    if count := _probe(config):
        with suppress(UnsupportedOperationError):
            yield from exchange(count, deadline, retry)
            return
    with suppress(UnsupportedOperationError):
        yield from exchange(list_models(config), deadline, retry)


def _probe(config: Config) -> Call[TokenCount] | None:
    """Return the cheapest call that only a server with its model loaded answers: a token count.

    It needs the name of a model that is there; None where that is not known.
    """
    if not config.endpoint.counts_tokens_when_loaded or config.endpoint.default_model is None:
        return None
    return count_tokens(config, {"messages": [{"role": "user", "content": "ready?"}]})
