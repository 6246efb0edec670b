"""Ask a server until it has its model loaded: the flow behind `wait_until_ready`. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import suppress

from ..errors import UnsupportedOperationError
from ..types.message import TokenCount
from .calls import post
from .config import Config
from .exchange import exchange
from .messages import count_tokens
from .models import list_models
from .refusals import from_status
from .retry import UntilReady
from .values import Answer, Arrived, Attempt, Call, Deadline, Outcome


def until_ready(config: Config, clock: Callable[[], float]) -> Generator[Attempt, Outcome, None]:
    """Ask until the server has its model loaded, for as long as the deadline says.

    Where a token count cannot tell, a list of models has to: no server that is down gives one. A
    server that has neither is asked for a message by a body that it must refuse.
    """
    deadline, retry = Deadline.of(config, clock), UntilReady()
    if count := _probe(config):
        with suppress(UnsupportedOperationError):
            yield from exchange(count, deadline, retry)
            return
    try:
        yield from exchange(list_models(config), deadline, retry)
    except UnsupportedOperationError:
        yield from exchange(_empty_message(config), deadline, retry)


def _probe(config: Config) -> Call[TokenCount] | None:
    """Return the cheapest call that only a server with its model loaded answers: a token count.

    It needs the name of a model that is there; None where that is not known.
    """
    if not config.endpoint.counts_tokens_when_loaded or config.endpoint.default_model is None:
        return None
    return count_tokens(config, {"messages": [{"role": "user", "content": "ready?"}]})


def _empty_message(config: Config) -> Call[None]:
    """Return a call that costs nothing: where there are messages, the body is refused."""

    def read(arrived: Arrived) -> None:
        if isinstance(arrived, Answer) and arrived.status not in (400, 422):
            failure = from_status(arrived.status, arrived.headers, arrived.body, now=time.time())
            if not (failure.permanent and failure.status_code == 500):  # llama-server's way
                raise failure

    request = post(config, "/v1/messages", {}, {})
    return Call(config.hiding(request.headers), request, read)
