"""Drive a `Joining` directly, against a server that is a function: no socket, no clock.

Holds no expectations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelslab_llm import Message, endpoints
from modelslab_llm._protocol.config import Config
from modelslab_llm._protocol.joining import Joining
from modelslab_llm._protocol.messages import stream_message
from modelslab_llm._protocol.reader import Opened, Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm._protocol.resume import Allowed
from modelslab_llm._protocol.sse import known_events
from modelslab_llm._protocol.values import Attempt, Deadline, Outcome
from modelslab_llm.endpoints import Endpoint, Prefill
from modelslab_llm.errors import APIError, StreamInterruptedError
from modelslab_llm.types import Event

Json = dict[str, Any]

ASK: Json = {"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "Go."}]}


@dataclass
class Told:
    """What came of a call."""

    events: list[Event] = field(default_factory=list[Event])
    message: Message = field(default_factory=Message)
    error: APIError | None = None
    sent: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def bodies(self) -> list[Json]:
        return [json.loads(attempt.request.content or b"") for attempt in self.sent]

    @property
    def prefills(self) -> list[str]:
        """What each request after the first ended in."""
        turns = [body["messages"][-1] for body in self.bodies[1:]]
        return [turn["content"] if turn["role"] == "assistant" else "" for turn in turns]


def place(manner: Prefill | None = "repeats") -> Endpoint:
    return replace(endpoints.gateway("http://h.example"), continues_prefill=manner)


def broken(words: str = "the connection broke during the stream") -> StreamInterruptedError:
    return StreamInterruptedError(words)


def stream(events: Sequence[Json], error: APIError | None = None) -> Opened[Iterator[Event]]:
    """Return a stream of these events, which ends well if it has no error."""

    def failure(payload: object) -> APIError:
        return from_payload(payload, {}, now=0.0, in_stream=True)

    reader = Reader("m", 1 << 26, failure)

    def read() -> Iterator[Event]:
        for event in map(known_events().validate_python, events):
            reader.message.add(event)
            yield event
        if error:
            raise error

    return Opened(reader, read(), lambda: None)


def begin(prompt: int = 0) -> Json:
    usage = {"input_tokens": prompt, "output_tokens": 0} if prompt else {}
    return {"type": "message_start", "message": {"id": "msg", "usage": usage}}


def text(pieces: Sequence[str], index: int = 0, *, stop: bool = True) -> list[Json]:
    """Return the events of a block of text."""
    block = {"type": "text", "text": ""}
    start: Json = {"type": "content_block_start", "index": index, "content_block": block}
    deltas: list[Json] = [
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": p}}
        for p in pieces
    ]
    return [start, *deltas, *([{"type": "content_block_stop", "index": index}] if stop else [])]


def end(reason: str = "end_turn", tokens: int = 0, stop: str | None = None) -> list[Json]:
    usage = {"output_tokens": tokens} if tokens else {}
    why = {"stop_reason": reason, "stop_sequence": stop}
    delta: Json = {"type": "message_delta", "delta": why, "usage": usage}
    return [delta, {"type": "message_stop"}]


def whole(pieces: Sequence[str], reason: str = "end_turn") -> Opened[Iterator[Event]]:
    return stream([begin(), *text(pieces), *end(reason)])


def cut(pieces: Sequence[str]) -> Opened[Iterator[Event]]:
    return stream([begin(), *text(pieces, stop=False)], broken())


def play(
    server: Callable[[Attempt], Outcome] | Sequence[Outcome],
    allowed: Allowed | None = None,
    *,
    endpoint: Endpoint | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    options: Json | None = None,
    **asked: Any,
) -> Told:
    """Make a call, and return what its caller would see."""
    config = Config.build(
        api_key="k", endpoint=endpoint or place(), env={}, **(options or {"max_retries": 0})
    )
    call = stream_message(config, {**ASK, **asked})
    joining = Joining(call, Deadline.of(config, clock), allowed or Allowed(resume=1))
    outcomes = iter(()) if callable(server) else iter(server)
    told = Told()

    def drive(flow: Any) -> None:
        attempt = next(flow)
        while True:
            told.sent.append(attempt)
            try:
                attempt = flow.send(server(attempt) if callable(server) else next(outcomes))
            except StopIteration:
                return

    try:
        drive(joining.begin())
        while not joining.over:
            try:
                came: Any = next(joining.opened.events, None)
            except APIError as error:
                came = error
            if came is not None and not isinstance(came, APIError):
                joining.take(came)
            elif joining.went(came):
                drive(joining.go_on())
    except APIError as error:
        told.error = error
        return told
    told.error = joining.failure
    told.events, told.message = list(joining.out), joining.message.message()
    return told
