"""Run one call as a generator: attempts out, outcomes in. Decides all, waits and sends nothing.

A driver takes an `Attempt`, waits its `pause`, sends its `request` and hands back what came of it:

    flow = exchange(call, config, retry, clock)
    attempt = next(flow)
    while True:
        outcome = …                      # wait(attempt.pause); send(attempt.request)
        attempt = flow.send(outcome)     # until StopIteration brings the result

So it is tested with `next()` and `send()` alone: no socket, no clock but the one handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

from ..errors import APIError, AuthenticationError, UnsupportedOperationError
from ..types.models import ModelInfo, ModelList
from .calls import MANY_PAGES, ModelPage, list_models, probe
from .config import Config
from .reader import Opened
from .retry import Retry, UntilReady
from .values import Answer, Attempt, Call, Outcome, Request

log = logging.getLogger("modelslab_llm")

T = TypeVar("T")


REDIRECTS = 5


def exchange(
    call: Call[T],
    config: Config,
    retry: Retry,
    clock: Callable[[], float],
    until: float | None = None,
) -> Generator[Attempt, Outcome, T | Opened[Any]]:
    """Send a call until it has a result or cannot have one; raise the last failure.

    `clock` counts seconds from anywhere; `until` is its moment at which the call must be over, if
    that is not to be reckoned from now. The result of a stream that was opened is that stream.
    """
    started = clock()
    if until is None and config.deadline is not None:
        until = started + config.deadline
    request, pause = call.request, 0.0
    config = config.hiding(request.headers)
    tries = redirects = 0

    def sign(failure: APIError) -> None:
        """Write on the error what was asked, how often, and for how long; hide the key.

        Where it was raised inside the package is no news to a caller, and the variables there
        hold what the server said.
        """
        failure.__traceback__ = None
        failure.method, failure.url = request.method, config.hide_key(request.url)
        failure.attempts, failure.elapsed = tries, clock() - started
        if isinstance(failure, AuthenticationError):
            failure.hint = failure.hint or _how_the_key_went(request, config)
        _hide_key(failure, config)

    while True:
        outcome = yield Attempt(request, pause, until, config, call.model)
        tries += 1
        pause = 0.0
        if isinstance(outcome, APIError):
            sign(outcome)
        if log.isEnabledFor(logging.DEBUG):
            url = config.hide_key(request.url)  # a redirect may have put the key there
            log.debug("%s %s: %r, %.3f s", request.method, url, outcome, clock() - started)
        if isinstance(outcome, Opened):
            outcome.sign = sign
            return outcome
        if isinstance(outcome, Answer):
            if redirects < REDIRECTS and (target := _same_origin_target(request, outcome)):
                redirects += 1
                tries -= 1
                request = replace(request, url=target)
                continue
            try:
                return call.read(outcome)
            except APIError as error:
                failure = error
                sign(failure)
        else:
            failure = outcome
        wait = retry.pause(failure, tries)
        if wait is None:
            failure.hint = failure.hint or retry.given_up(failure, tries)
        if wait is None or (until is not None and clock() + wait >= until):
            try:
                raise failure
            finally:  # its traceback holds this frame: no circle, for its body may be large
                del failure, outcome
        pause = wait
        log.info("try %d failed, next in %.2f s: %s", tries, wait, failure)


def all_models(
    config: Config, retry: Retry, clock: Callable[[], float]
) -> Generator[Attempt, Outcome, ModelList]:
    """Ask for page after page, until the server says that there are no more."""
    until = None if config.deadline is None else clock() + config.deadline
    models: dict[str, ModelInfo] = {}
    after: str | None = None
    for _ in range(MANY_PAGES):
        call = list_models(config, after)
        page = cast("ModelPage", (yield from exchange(call, config, retry, clock, until)))
        known = len(models)
        for model in page.models:
            models.setdefault(model.id, model)
        after = page.next_after
        if after is None or len(models) == known:  # a server that repeats itself has no more
            break
    return ModelList(list(models.values()))


def until_ready(config: Config, clock: Callable[[], float]) -> Generator[Attempt, Outcome, None]:
    """Ask until the server has its model loaded, for as long as the deadline says.

    Where a token count cannot tell, a list of models has to: no server that is down gives one.
    """
    until = None if config.deadline is None else clock() + config.deadline
    retry = UntilReady()
    if count := probe(config):
        with suppress(UnsupportedOperationError):
            yield from exchange(count, config, retry, clock, until)
            return
    yield from exchange(list_models(config), config, retry, clock, until)


def _same_origin_target(request: Request, answer: Answer) -> str | None:
    """Return where a redirect leads if the key may go there: the same scheme, host and port."""
    if answer.status not in ((307, 308) if request.method == "POST" else (301, 302, 307, 308)):
        return None
    try:
        target = urljoin(request.url, answer.headers.get("location", ""))
        here, there = urlsplit(request.url), urlsplit(target)
        same = (here.scheme, here.netloc.lower()) == (there.scheme, there.netloc.lower())
    except ValueError:
        return None
    return target if same and target != request.url and target.isprintable() else None


def _how_the_key_went(request: Request, config: Config) -> str:
    """Say in which header the server was given the key: they differ in where they look."""
    places = sorted(config.endpoint.credentials())
    sent = next((name for name in places if name in request.headers), None)
    if sent is None:
        return f"no key was sent as {' or '.join(places)}"
    can_change = config.endpoint.kind == "gateway"
    cure = ", which endpoints.gateway(…, auth=…) can change" if can_change else ""
    return f"the key was sent as {sent}{cure}"


def _hide_key(failure: APIError, config: Config) -> None:
    """Take the key out of what the server said: some quote it."""

    def hidden(value: Any, depth: int = 20) -> Any:
        if isinstance(value, str):
            return config.hide_key(value)
        if isinstance(value, (int, float)):  # a key may be a number
            return value if config.hide_key(str(value)) == str(value) else "***"
        if not depth:
            return "…" if isinstance(value, (dict, list)) else value
        if isinstance(value, dict):
            entries = cast("dict[Any, Any]", value).items()
            return {hidden(name): hidden(entry, depth - 1) for name, entry in entries}
        if isinstance(value, list):
            return [hidden(entry, depth - 1) for entry in cast("list[Any]", value)]
        return value

    told = vars(failure)
    for name in told.keys() - {"partial_message", "elapsed"}:  # an answer is what it is
        told[name] = hidden(told[name])
    failure.args = (failure.message,)
    behind = failure.__cause__
    while behind is not None:  # the HTTP library quotes what it cannot read
        behind.args = tuple(hidden(part) for part in behind.args)
        behind = behind.__cause__ or behind.__context__
