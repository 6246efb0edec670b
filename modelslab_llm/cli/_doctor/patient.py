"""The endpoint under examination, and what is known of it so far; checks add to it."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from modelslab_llm import AsyncModelsLab, Endpoint, ModelList
from modelslab_llm.endpoints import Auth

from .look import Look, Seen

QUESTION = "Reply with one word: hello"


@dataclass
class Patient:
    """What the checks look at. A check that finds another address or header puts it here, so that
    the checks after it can find out what works there.
    """

    endpoint: Endpoint
    key: str | None
    model: str | None
    seconds: float
    look: Look
    with_v1: bool = False
    """Whether the address was given with the /v1 that the client adds by itself."""
    models: ModelList | None = None
    streamed: Seen | None = None
    """The answer to a plain request, at the right address and with the right header."""

    def headers(self, auth: Auth | None) -> dict[str, str]:
        """Return the key in a header of that form; nothing without a key."""
        if auth is None or not self.key:
            return {}
        if auth == "bearer":
            return {"authorization": f"Bearer {self.key}"}
        return {auth: self.key}

    def body(self, **more: Any) -> dict[str, Any]:
        """Return the smallest request there is."""
        messages = [{"role": "user", "content": QUESTION}]
        return {"model": self.model or "default", "max_tokens": 1, "messages": messages, **more}

    async def post(self, base_url: str | None = None, **more: Any) -> Seen:
        """Send the smallest request, as the client would."""
        url = f"{base_url or self.endpoint.base_url}/v1/messages"
        return await self.look.post(url, self.headers(self.endpoint.auth), self.body(**more))

    def client(self) -> AsyncModelsLab:
        """Return a client of the package for the endpoint, without retries. Close it."""
        endpoint = self.endpoint if self.key else replace(self.endpoint, auth=None)
        return AsyncModelsLab(
            self.key or "",
            endpoint=endpoint,
            timeout=self.seconds,
            deadline=self.seconds,
            max_retries=0,
        )


class _Deviations(logging.Handler):
    """Keeps what the package says it tolerated."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        head, _, deviation = record.getMessage().partition("tolerated: ")
        deviation = deviation.partition(" (request id")[0]
        if not head and deviation not in self.lines:
            self.lines.append(deviation)


@contextmanager
def deviations() -> Generator[list[str]]:
    """Collect how an answer deviated from the documented format, as the package's log has it."""
    log = logging.getLogger("modelslab_llm")
    handler, level = _Deviations(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
