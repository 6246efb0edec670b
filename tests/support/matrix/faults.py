"""The table of faults: what the server does, and what the caller of this package has to see.

Only data. `test_matrix` holds the package to it in each variant; `python -m matrix` measures the
`anthropic` SDK by it and writes docs/reliability.md. A new fault is a new row here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from raw_server import (
    CLOSE,
    END_OF_BODY,
    RESET,
    SILENCE,
    STREAM_HEAD,
    Script,
    again_and_again,
    chunk,
    drip,
    event,
    head,
    reply,
    stream,
)

from modelslab_llm import errors
from modelslab_llm.endpoints import Prefill
from modelslab_llm.errors import APIError, StreamInterruptedError, UnexpectedResponseError

from .refusals import ENVELOPES, STATUS
from .told import (
    ANSWER,
    CALL,
    CUT,
    IN_CALL,
    IN_TEXT,
    MESSAGE,
    NEARLY,
    START,
    TOLD,
    Answer,
    Tool,
    begin,
    delta,
    end,
    known,
    shut,
)

Verb = Literal["create", "stream", "ready"]
VERBS: tuple[Verb, Verb] = ("create", "stream")


@dataclass(frozen=True)
class Returns:
    """The call succeeds, with this answer."""

    answer: Answer = ANSWER
    tries: int = 1
    """How many requests the server saw, those before the fault not counted."""
    note: str = ""
    """What is not as the server meant it, where there is something."""


@dataclass(frozen=True)
class Raises:
    """The call fails, with exactly this class."""

    error: type[APIError]
    partial: Answer | None = None
    """What the error holds of the message, for streams."""
    words: str = ""
    """What the server said, which the error has to say too."""
    says: str = ""
    """What else the error says."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Attributes of the error."""
    tries: int = 1


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    script: Script
    verb: Verb
    expected: Returns | Raises
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the client. `max_retries` is 0 unless it is here."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Settings that count time, in units."""
    stage: Literal["server", "nobody", "tls", "two servers", "deployment"] = "server"
    """Where it plays. Of two servers, `{other}` in the script is the second one's address."""
    before: tuple[Script, ...] = ()
    """Scripts of calls that go well before."""
    after: tuple[Script, ...] = ()
    """Scripts of the tries that follow."""
    closed: bool = False
    """Whether another thread closes the client while it waits."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the call that this package alone has."""
    prefill: Prefill | None = None
    """How the server continues an answer, where that is known of it."""


@dataclass(frozen=True)
class Family:
    """Rows that differ in one detail, which is their name."""

    section: str
    name: str
    title: str
    faults: tuple[Fault, ...]


def one(section: str, name: str, title: str, *args: Any, **kwargs: Any) -> Family:
    """Return a family of one."""
    return Family(section, name, title, (Fault("", *args, **kwargs),))


def slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def at(count: int) -> str:
    return f"{count:02}"


def begun(count: int) -> bytes:
    """Return a stream as far as so many events, in one chunk."""
    return STREAM_HEAD + (chunk(b"".join(TOLD[:count])) if count else b"")


def told(*events: bytes) -> bytes:
    """Return a whole stream in one chunk."""
    return stream(b"".join(events))


def as_type(kind: str, body: bytes) -> bytes:
    return reply(200, body, {"content-type": kind, "request-id": "req_1"})


FROM_STREAM = {"request_id": "req_1"}
WORDS = "The river is dry today."


# Truncated streams

SECTION = "Truncated streams"


def stopped(how: Script, count: int, *, clean: bool = False) -> Fault:
    complete = count == len(TOLD) or (clean and count >= NEARLY)
    expected = (
        Returns() if complete else Raises(StreamInterruptedError, known(count), fields=FROM_STREAM)
    )
    return Fault(at(count), [begun(count), how], "stream", expected)


def stalled(count: int) -> Fault:
    expected = (
        Returns()
        if count == len(TOLD)
        else Raises(errors.APITimeoutError, known(count), fields={"phase": "read", **FROM_STREAM})
    )
    limits = {"timeout": 1.0}
    return Fault(at(count), [begun(count), SILENCE], "stream", expected, limits=limits)


def halved(how: Script, count: int, *, clean: bool = False) -> Fault:
    half = chunk(TOLD[count][:-8])  # in the middle of its JSON
    known_all = clean and count == NEARLY  # what is cut says only that the message is over
    expected = (
        Returns() if known_all else Raises(StreamInterruptedError, known(count), fields=FROM_STREAM)
    )
    return Fault(at(count + 1), [begun(count), half, how], "stream", expected)


COUNTS = range(len(TOLD) + 1)
EARLY = (
    Family(
        SECTION,
        "end-after",
        "the body ends, cleanly, after event",
        tuple(stopped(END_OF_BODY, count, clean=True) for count in COUNTS),
    ),
    Family(
        SECTION,
        "close-after",
        "the connection is closed after event",
        tuple(stopped(CLOSE, count) for count in COUNTS),
    ),
    Family(
        SECTION,
        "reset-after",
        "the connection is reset after event",
        tuple(stopped(RESET, count) for count in COUNTS),
    ),
    Family(
        SECTION,
        "stall-after",
        "the stream stalls, the connection stays open, after event",
        tuple(stalled(count) for count in COUNTS),
    ),
    Family(
        SECTION,
        "end-inside",
        "the body ends, cleanly, in the middle of event",
        tuple(halved(END_OF_BODY, count, clean=True) for count in COUNTS[:-1]),
    ),
    Family(
        SECTION,
        "close-inside",
        "the connection is closed in the middle of event",
        tuple(halved(CLOSE, count) for count in COUNTS[:-1]),
    ),
    Family(
        SECTION,
        "reset-inside",
        "the connection is reset in the middle of event",
        tuple(halved(RESET, count) for count in COUNTS[:-1]),
    ),
)


# Events that are broken

SECTION = "Malformed events"
PLACES = {"first": 0, "in-text": IN_TEXT, "in-arguments": IN_CALL, "last": NEARLY}


def everywhere(
    section: str,
    name: str,
    title: str,
    events: bytes,
    error: type[APIError],
    *,
    goes_on: bool = True,
    **known_of: Any,
) -> Family:
    """Return rows with events that fail, at every place; the stream `goes_on` or ends there."""
    fields = {**FROM_STREAM, **known_of.pop("fields", {})}
    return Family(
        section,
        name,
        title,
        tuple(
            Fault(
                place,
                [
                    begun(count),
                    chunk(events),
                    *map(chunk, TOLD[count:] if goes_on else ()),
                    END_OF_BODY,
                ],
                "stream",
                Raises(error, known(count), fields=fields, **known_of),
            )
            for place, count in PLACES.items()
        ),
    )


def data(text: bytes) -> bytes:
    return b"event: content_block_delta\ndata: " + text + b"\n\n"


BROKEN: dict[str, tuple[str, bytes]] = {
    "not-json": ("data that is not JSON", data(b"{no")),
    "half-json": ("truncated JSON, then the next event", data(TOLD[9][40:-20])),
    "not-utf-8": ("a byte that is not UTF-8", TOLD[9].replace("–".encode(), b"\xff")),
    "latin-1": ("Latin-1 instead of UTF-8", TOLD[8].decode().encode("latin-1")),
    "no-object": ("JSON that is not an object", data(b"17")),
    "null": ("null as data", data(b"null")),
    "wrong-index": (
        "a delta whose block index is not a number",
        data(b'{"type": "content_block_delta", "index": "one"}'),
    ),
    "no-delta": (
        "a `content_block_delta` without `delta`",
        data(b'{"type": "content_block_delta", "index": 1}'),
    ),
    "wrong-text": (
        "text that is a list",
        data(
            b'{"type": "content_block_delta", "index": 1, '
            b'"delta": {"type": "text_delta", "text": ["a"]}}'
        ),
    ),
    "deep": ("JSON nested 100,000 deep", data(b"[" * 100_000)),
}
BROKEN_EVENTS = (
    *(
        everywhere(SECTION, name, title, events, StreamInterruptedError)
        for name, (title, events) in BROKEN.items()
    ),
    Family(
        SECTION,
        "broken-chunk",
        "broken HTTP chunk framing",
        tuple(
            Fault(
                place,
                [begun(count), b"zz\r\n"],
                "stream",
                Raises(StreamInterruptedError, known(count), fields=FROM_STREAM),
            )
            for place, count in PLACES.items()
        ),
    ),
)


# Errors inside a stream (protocol.md §7.4)

SECTION = "Errors inside a stream, status 200"


def said(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "message": WORDS, **more}


def unnamed(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
SHAPES: dict[str, tuple[str, bytes, type[APIError], dict[str, object]]] = {
    "overloaded": (
        "a documented `event: error`, overloaded",
        event("error", error=said("overloaded_error")),
        errors.OverloadedError,
        {"type": "overloaded_error", "status_code": 529},
    ),
    "invalid": (
        "the same, an invalid request",
        event("error", error=said("invalid_request_error"), request_id="req_1"),
        errors.BadRequestError,
        {"type": "invalid_request_error", "status_code": 400},
    ),
    "vllm": (
        "the same with vLLM's type, then `[DONE]`",
        event("error", error=said("internal_error")) + DONE,
        errors.InternalServerError,
        {"type": "internal_error", "status_code": 500},
    ),
    "bare": (
        "`event: error`, llama-server's bare object",
        b'event: error\ndata: {"code": 500, "message": "%s", "type": "server_error"}\n\n'
        % WORDS.encode(),
        errors.InternalServerError,
        {"type": "server_error", "code": 500},
    ),
    "text": (
        "`event: error` with plain text",
        f"event: error\ndata: {WORDS}\n\n".encode(),
        errors.InternalServerError,
        {"status_code": 500},
    ),
    "unnamed": (
        '`data: {"error": …}` without an event line',
        unnamed({"error": said("rate_limit_error")}),
        errors.RateLimitError,
        {"type": "rate_limit_error", "status_code": 429},
    ),
    "unnamed-done": (
        "the same, then `[DONE]`",
        unnamed({"error": said("server_error", code=503)}) + DONE,
        errors.InternalServerError,
        {"type": "server_error", "code": 503},
    ),
    "unnamed-typed": (
        "the documented error object without an event line",
        unnamed({"type": "error", "error": said("authentication_error")}),
        errors.AuthenticationError,
        {"type": "authentication_error", "status_code": 401},
    ),
    "string": (
        '`data: {"error": "…"}`, a string',
        unnamed({"error": WORDS}),
        errors.InternalServerError,
        {"status_code": 500},
    ),
}
ERROR_EVENTS = tuple(
    everywhere(
        SECTION,
        f"error-{name}",
        title,
        events,
        error,
        goes_on=False,
        words=WORDS,
        fields={"in_stream": True, **fields},
    )
    for name, (title, events, error, fields) in SHAPES.items()
)


# Events that are missing, or come twice

SECTION = "Events out of order"
STARTS = {"message_start": 0, "thinking": 1, "text": 6}
STOPS = {"thinking": 5, "text": 10, "tool_use": 15}


def without(*places: int) -> bytes:
    return told(*(part for place, part in enumerate(TOLD) if place not in places))


def twice(place: int) -> bytes:
    return told(*TOLD[: place + 1], *TOLD[place:])


def odd(name: str, title: str, sent: Script, **expected: Any) -> Family:
    return one(SECTION, name, title, sent, "stream", Returns(**expected))


ORDER = (
    Family(
        SECTION,
        "start-missing",
        "a start is missing",
        tuple(
            Fault(slug(name), without(place), "stream", Returns()) for name, place in STARTS.items()
        ),
    ),
    odd(
        "call-start-missing",
        "the start of the tool call is missing",
        without(11),
        answer=replace(ANSWER, tools=(Tool("", None),)),
        note="the call has no name",
    ),
    odd("all-starts-missing", "all starts except the tool call's are missing", without(0, 1, 6)),
    Family(
        SECTION,
        "stop-missing",
        "a `content_block_stop` is missing",
        tuple(
            Fault(slug(name), without(place), "stream", Returns()) for name, place in STOPS.items()
        ),
    ),
    odd("all-stops-missing", "all `content_block_stop` are missing", without(5, 10, 15)),
    odd("message-stop-missing", "`message_stop` is missing", without(17)),
    odd(
        "message-delta-missing",
        "`message_delta` is missing",
        without(16),
        answer=replace(ANSWER, stop_reason=None, output_tokens=1),
    ),
    Family(
        SECTION,
        "arguments-missing",
        "a part of the arguments is missing, event",
        tuple(
            Fault(at(place), without(place), "stream", Returns(replace(ANSWER, tools=CUT)))
            for place in (12, 13, 14)
        ),
    ),
    Family(
        SECTION,
        "arguments-twice",
        "a part of the arguments arrives twice, event",
        tuple(
            Fault(at(place), twice(place), "stream", Returns(replace(ANSWER, tools=CUT)))
            for place in (12, 13, 14)
        ),
    ),
    Family(
        SECTION,
        "event-twice",
        "an event without content arrives twice, event",
        tuple(
            Fault(at(place), twice(place), "stream", Returns())
            for place in (0, 1, 4, 5, 6, 7, 10, 11, 15, 16, 17)
        ),
    ),
    odd(
        "late-stops",
        "all blocks stop at the end, as with llama-server",
        told(
            *(
                TOLD[place]
                for place in (0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 5, 10, 15, 16, 17)
            )
        ),
    ),
    odd(
        "mixed",
        "deltas of two blocks alternate",
        told(
            *(TOLD[place] for place in (0, 1, 6, 2, 8, 3, 9, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17))
        ),
    ),
    one(
        SECTION,
        "second-message",
        "a second message begins in the middle of the first",
        told(*TOLD[:IN_TEXT], START.replace(b"msg_1", b"msg_2"), *TOLD[1:]),
        "stream",
        Raises(StreamInterruptedError, known(IN_TEXT), fields=FROM_STREAM),
    ),
    odd("unnamed-events", "no `event:` lines", told(*(part.partition(b"\n")[2] for part in TOLD))),
    odd(
        "type-on-event-line",
        "the type is only on the `event:` line",
        told(
            *(
                re.sub(rb'"type": "(message|content_block|ping)\w*"(, )?', b"", part, count=1)
                for part in TOLD
            )
        ),
    ),
    odd(
        "unknown-event",
        "an event of unknown type",
        told(*TOLD[:9], event("weather", wind=3), *TOLD[9:]),
    ),
    odd(
        "unknown-block",
        "a block of unknown type",
        told(*TOLD[:16], begin(3, "hologram", shape=[1]), shut(3), *TOLD[16:]),
    ),
    odd(
        "unknown-delta",
        "a delta of unknown type",
        told(*TOLD[:9], delta(1, "colour", colour="blue"), *TOLD[9:]),
    ),
    odd("done", "`[DONE]` after the message", told(*TOLD, DONE)),
    odd(
        "error-after",
        "an error after `message_stop`",
        told(*TOLD, event("error", error=said("api_error"))),
    ),
)


# Null and absent

SECTION = "Null, missing and unusual fields"


def without_field(name: str) -> dict[str, Any]:
    return {key: value for key, value in MESSAGE.items() if key != name}


def start_with(**changes: Any) -> bytes:
    message = {**json.loads(START.partition(b"data: ")[2])["message"], **changes}
    return event("message_start", message=message)


def in_message(name: str, title: str, body: Mapping[str, Any], **expected: Any) -> Family:
    answer = replace(ANSWER, **expected)
    return one(SECTION, name, title, reply(200, body), "create", Returns(answer))


def changed(name: str, title: str, place: int, new: bytes, **expected: Any) -> Family:
    sent = told(*TOLD[:place], new, *TOLD[place + 1 :])
    return one(SECTION, name, title, sent, "stream", Returns(replace(ANSWER, **expected)))


NULLS = (
    in_message("usage-null", "`usage` is null", {**MESSAGE, "usage": None}, output_tokens=0),
    in_message("usage-absent", "`usage` is absent", without_field("usage"), output_tokens=0),
    in_message(
        "tokens-null",
        "the token counts in `usage` are null",
        {**MESSAGE, "usage": {"input_tokens": None, "output_tokens": None}},
        output_tokens=0,
    ),
    in_message(
        "content-null",
        "`content` is null, as with Ollama",
        {**MESSAGE, "content": None},
        text="",
        thinking="",
        tools=(),
    ),
    in_message(
        "content-absent",
        "`content` is absent",
        without_field("content"),
        text="",
        thinking="",
        tools=(),
    ),
    in_message(
        "content-string",
        "`content` is a string",
        {**MESSAGE, "content": "Tamar"},
        text="Tamar",
        thinking="",
        tools=(),
    ),
    in_message(
        "fields-absent",
        "`id`, `type`, `role` and `model` are absent",
        {key: MESSAGE[key] for key in ("content", "stop_reason", "usage")},
    ),
    changed("start-usage-null", "`usage` is null in `message_start`", 0, start_with(usage=None)),
    changed(
        "start-tokens-null",
        "the token counts are null in `message_start`",
        0,
        start_with(usage={"input_tokens": None, "output_tokens": None}),
    ),
    changed(
        "start-content-null", "`content` is null in `message_start`", 0, start_with(content=None)
    ),
    changed(
        "start-empty", "`message_start` has an empty message", 0, event("message_start", message={})
    ),
    changed(
        "start-null", "`message_start` has no message", 0, event("message_start", message=None)
    ),
    changed(
        "end-usage-null",
        "`usage` is null in `message_delta`",
        16,
        event("message_delta", delta={"stop_reason": "tool_use"}, usage=None),
        output_tokens=1,
    ),
    changed(
        "end-usage-absent",
        "`usage` is absent in `message_delta`",
        16,
        event("message_delta", delta={"stop_reason": "tool_use"}),
        output_tokens=1,
    ),
    changed(
        "end-tokens-null",
        "the token counts are null in `message_delta`",
        16,
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": None}),
        output_tokens=1,
    ),
    changed(
        "text-null", "the text in a `content_block_start` is null", 6, begin(1, "text", text=None)
    ),
    changed("delta-null", "the text in a delta is null", 7, delta(1, "text", text=None)),  # type: ignore[arg-type]
    changed(
        "input-absent",
        "the start of a call has no `input`, as with llama-server",
        11,
        begin(2, "tool_use", id="toolu_1", name="level"),
    ),
    changed(
        "later-null",
        "`stop_reason` is null in a second `message_delta`",
        16,
        end("tool_use") + end(None),
    ),
)


# Arguments of a tool

SECTION = "Broken tool arguments"


def call(*parts: str, reason: str = "tool_use") -> bytes:
    """Return a stream with one call, whose arguments come in these parts."""
    start = CALL.replace(b'"index": 2', b'"index": 0')
    deltas = [delta(0, "input_json", partial_json=part) for part in parts]
    return told(START, start, *deltas, shut(0), end(reason), TOLD[-1])


def called(name: str, title: str, sent: bytes, verb: Verb, given: Any, **more: Any) -> Family:
    answer = Answer(tools=(Tool("level", given),), output_tokens=9, stop_reason="tool_use")
    return one(SECTION, name, title, sent, verb, Returns(replace(answer, **more)))


def given_at_once(value: object, **changes: object) -> bytes:
    block = {"type": "tool_use", "id": "toolu_1", "name": "level", "input": value}
    return reply(200, {**MESSAGE, "content": [block], **changes})


ARGUMENTS = (
    Family(
        SECTION,
        "call-cut",
        "truncated by `max_tokens`; parts received:",
        tuple(
            Fault(
                at(count),
                call(*('{"river": "Tam', 'ar", "unit": ')[:count], reason="max_tokens"),
                "stream",
                Returns(Answer(tools=CUT, output_tokens=9, stop_reason="max_tokens")),
            )
            for count in range(3)
        ),
    ),
    called(
        "call-merged",
        "two calls merged",
        call('{"river": "Tamar"}', '{"river": "Exe"}'),
        "stream",
        None,
    ),
    called("call-broken", "a trailing comma", call('{"river": "Tamar",}'), "stream", None),
    called("call-nan", "`NaN`", call('{"level": NaN}'), "stream", None),
    called("call-repeat", "a duplicate name", call('{"a": 1, "a": 2}'), "stream", None),
    called("call-list", "a list", call("[1, 2]"), "stream", None),
    called("call-string", "a string", call('"Tamar"'), "stream", None),
    called("call-null", "null", call("null"), "stream", None),
    called("call-words", "not JSON at all", call("the Tamar, please"), "stream", None),
    called("call-empty", "empty: a call without arguments", call("", ""), "stream", {}),
    called(
        "reply-cut",
        "`{}` in a response truncated by `max_tokens`, as with llama-server",
        given_at_once({}, stop_reason="max_tokens"),
        "create",
        None,
        stop_reason="max_tokens",
    ),
    called(
        "reply-string",
        "JSON in a string in a response, as with new-api",
        given_at_once('{"a": 1}'),
        "create",
        {"a": 1},
    ),
    called(
        "reply-broken",
        "broken JSON in a string in a response",
        given_at_once('{"a": '),
        "create",
        None,
    ),
    called("reply-null", "null in a response", given_at_once(None), "create", None),
    called("reply-list", "a list in a response", given_at_once([1]), "create", None),
)


# What is no message

SECTION = "Status 200 without a message"


def both(section: str, name: str, title: str, sent: Script, expected: Returns | Raises) -> Family:
    """Return a fault for both verbs."""
    faults = tuple(Fault(verb, sent, verb, expected) for verb in VERBS)
    return Family(section, name, title, faults)


def unreadable(says: str) -> Raises:
    fields = {"status_code": 200, **FROM_STREAM}
    return Raises(UnexpectedResponseError, says=says, fields=fields)


JSON, HTML, PLAIN = "application/json", "text/html; charset=utf-8", "text/plain"
OPENAI = {"id": "c", "object": "chat.completion", "choices": [{"message": {"content": "Tamar"}}]}
OPENAI_STREAM = (
    b'data: {"id": "c", "object": "chat.completion.chunk", "choices": '
    b'[{"index": 0, "delta": {"content": "Tamar"}}]}\n\n'
    b'data: {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
PAGE = b"<!doctype html><title>Welcome</title><p>Sign in"
WHOLE = json.dumps(MESSAGE).encode()

NOT_MESSAGES: dict[str, tuple[str, bytes, str]] = {
    "html": ("an HTML page", as_type(HTML, PAGE), "check the base URL"),
    "html-as-json": (
        "an HTML page with a JSON content type",
        as_type(JSON, PAGE),
        "check the base URL",
    ),
    "html-as-stream": (
        "an HTML page with an event stream content type",
        as_type("text/event-stream", PAGE),
        "check the base URL",
    ),
    "nothing": ("an empty body", as_type(JSON, b""), "the body is empty"),
    "spaces": ("white space", as_type(JSON, b" \n"), "the body is empty"),
    "text": ("plain text", as_type(PLAIN, b"It works!"), "It works!"),
    "unlabelled": ("text without a content type", as_type("", b"It works!"), "It works!"),
    "openai": (
        "a response in the OpenAI format",
        as_type(JSON, json.dumps(OPENAI).encode()),
        "OpenAI format",
    ),
    "empty-object": ("an empty object", as_type(JSON, b"{}"), "begins '{}'"),
    "list": ("a list", as_type(JSON, b"[]"), "begins '[]'"),
    "null-body": ("null", as_type(JSON, b"null"), "begins 'null'"),
    "number": ("a number", as_type(JSON, b"17"), "begins '17'"),
    "other": ("another object", as_type(JSON, b'{"status": "ok"}'), "status"),
    "cut": ("a message truncated in the middle", as_type(JSON, WHOLE[:-60]), "begins"),
    "latin": (
        "a message in Latin-1",
        as_type(JSON, WHOLE.replace(b"\\u00fc", b"\xfc")),
        "begins",
    ),
    "nested": (
        "JSON nested 100,000 deep",
        as_type(JSON, b'{"content": ' + b"[" * 100_000),
        "begins",
    ),
    "block-of-a-number": (
        "content that is a list of numbers",
        as_type(JSON, b'{"content": [7]}'),
        "begins",
    ),
}

# what is sent; the class; attributes (protocol.md §7.3)
IN_ENVELOPE: dict[str, tuple[object, type[APIError], dict[str, object]]] = {
    "a": (
        {"type": "error", "error": said("overloaded_error")},
        errors.OverloadedError,
        {"status_code": 529, "type": "overloaded_error"},
    ),
    "b": (
        {"error": said("authentication_error")},
        errors.AuthenticationError,
        {"status_code": 401, "type": "authentication_error"},
    ),
    "c": (
        {"error": said("exceed_context_size_error", code=400, n_prompt_tokens=9, n_ctx=4)},
        errors.ContextOverflowError,
        {"code": 400, "prompt_tokens": 9, "context_size": 4},
    ),
    "d": (
        {"error": said("invalid_request_error", param=None, code="bad_param")},
        errors.BadRequestError,
        {"code": "bad_param"},
    ),
    "e": (
        {"status": "error", "messege": WORDS, "retry_after": 30},
        errors.InternalServerError,
        {"retry_after": 30.0},
    ),
    "f": ({"error": WORDS}, errors.InternalServerError, {}),
    "h": (
        {"success": False, "message": WORDS, "code": "402"},
        errors.PaymentRequiredError,
        {"code": "402", "status_code": 402},
    ),
    "i": (
        {"error": {"code": 402, "message": WORDS, "metadata": {}}},
        errors.PaymentRequiredError,
        {"status_code": 402},
    ),
}
NO_MESSAGE = (
    *(
        both(SECTION, name, title, sent, unreadable(says))
        for name, (title, sent, says) in NOT_MESSAGES.items()
    ),
    both(
        SECTION,
        "no-content",
        "status 204",
        head(204, {"request-id": "req_1"}),
        Raises(UnexpectedResponseError, fields={"status_code": 204, **FROM_STREAM}),
    ),
    one(
        SECTION,
        "openai-stream",
        "a stream in the OpenAI format",
        as_type("text/event-stream", OPENAI_STREAM),
        "stream",
        Raises(UnexpectedResponseError, says="OpenAI format", fields=FROM_STREAM),
    ),
    one(
        SECTION,
        "empty-stream",
        "an empty stream",
        as_type("text/event-stream", b""),
        "stream",
        Raises(StreamInterruptedError, Answer(), fields=FROM_STREAM),
    ),
    one(
        SECTION,
        "stream-to-create",
        "a stream in response to `create`",
        told(*TOLD),
        "create",
        unreadable("event: message_start"),
    ),
    *(
        Family(
            SECTION,
            f"error-200-{name}",
            f"an error in the envelope {name} of protocol.md §7.3",
            tuple(
                Fault(
                    f"{verb}{'-as-' + slug(kind) if kind != JSON else ''}",
                    as_type(kind, json.dumps(sent).encode()),
                    verb,
                    Raises(error, words=WORDS, fields={"in_stream": False, **FROM_STREAM, **more}),
                )
                for verb in VERBS
                for kind in (JSON, "text/event-stream")
            ),
        )
        for name, (sent, error, more) in IN_ENVELOPE.items()
    ),
    both(
        SECTION,
        "error-200-bare",
        "only the inner object of an error",
        as_type(JSON, json.dumps(said("rate_limit_error")).encode()),
        Raises(errors.RateLimitError, words=WORDS, fields={"status_code": 429, **FROM_STREAM}),
    ),
    both(
        SECTION,
        "error-200-g",
        'FastAPI\'s `{"detail": …}`',
        as_type(JSON, json.dumps({"detail": WORDS}).encode()),
        replace(unreadable(""), words=WORDS),
    ),
    both(
        SECTION,
        "error-200-j",
        'only `{"message": …}`',
        as_type(JSON, json.dumps({"message": WORDS}).encode()),
        replace(unreadable(""), words=WORDS),
    ),
)


# Wrong labels

SECTION = "Wrong content types"
LABELS = {
    "json": JSON,
    "plain": PLAIN,
    "html": HTML,
    "octets": "application/octet-stream",
    "none": "",
    "event-stream": "text/event-stream",
    "upper-case": "TEXT/EVENT-STREAM",
    "latin-1": "text/event-stream; charset=iso-8859-1",
}
EVENTS = b"".join(TOLD)


def labelled(name: str, title: str, body: bytes, verb: Verb, kinds: Iterable[str]) -> Family:
    faults = (Fault(kind, as_type(LABELS[kind], body), verb, Returns()) for kind in kinds)
    return Family(SECTION, name, title, tuple(faults))


WRONG_LABELS = (
    labelled("stream-as", "a stream with the content type", EVENTS, "stream", LABELS),
    labelled(
        "commented-stream-as",
        "a stream that begins with a comment, with the content type",
        b": hello\n\n" + EVENTS,
        "stream",
        ["json", "plain", "none"],
    ),
    one(
        SECTION,
        "stream-byte-by-byte",
        "a stream with a JSON content type, each byte in its own packet",
        [
            head(200, {"content-type": JSON, "content-length": str(len(EVENTS))}),
            *(bytes([byte]) for byte in EVENTS[:24]),
            EVENTS[24:],
        ],
        "stream",
        Returns(),
    ),
    labelled(
        "message-to-stream",
        "a complete message in response to `stream`, with the content type",
        WHOLE,
        "stream",
        LABELS,
    ),
    labelled(
        "message-as",
        "a message in response to `create`, with the content type",
        WHOLE,
        "create",
        LABELS,
    ),
    one(
        SECTION,
        "message-latin-label",
        "a message in UTF-8 with the charset Latin-1",
        as_type(
            "application/json; charset=iso-8859-1", json.dumps(MESSAGE, ensure_ascii=False).encode()
        ),
        "create",
        Returns(),
    ),
    one(
        SECTION,
        "bom",
        "a byte order mark at the start",
        told(b"\xef\xbb\xbf", *TOLD),
        "stream",
        Returns(),
    ),
    Family(
        SECTION,
        "line-ends",
        "other line endings",
        tuple(
            Fault(name, told(EVENTS.replace(b"\n", ends)), "stream", Returns())
            for name, ends in {"crlf": b"\r\n", "cr": b"\r"}.items()
        ),
    ),
    one(
        SECTION,
        "last-blank-line",
        "no blank line after the last event",
        told(EVENTS.rstrip()),
        "stream",
        Returns(),
    ),
    one(
        SECTION,
        "line-separators",
        "U+2028 and U+0085 in the text, which `splitlines` treats as line endings",
        told(*TOLD[:9], delta(1, "text", text="\u2028\u0085"), *TOLD[9:]),
        "stream",
        Returns(replace(ANSWER, text="Für den \u2028\u0085Tamar – ")),
    ),
)


# Error responses

SECTION = "Error responses"
KINDS = {
    "documented": lambda status: {"type": "error", "error": said("some_error")},
    "empty": lambda status: b"",
    "html": lambda status: f"<html><title>{status} Bad</title></html>".encode(),
}
ANSWERS = {
    "documented": "the documented error",
    "empty": "no body",
    "html": "an HTML page",
}


def refused(verb: Verb, kind: str, status: int, error: type[APIError]) -> Fault:
    return Fault(
        str(status),
        reply(status, KINDS[kind](status), {"request-id": "req_1"}),
        verb,
        Raises(
            error,
            words=WORDS if kind == "documented" else "",
            says=f"HTTP {status}",
            fields={"status_code": status, "in_stream": False, **FROM_STREAM},
        ),
    )


def enveloped(name: str) -> Fault:
    body, message, kind, code = ENVELOPES[name]
    sent = reply(500, body if isinstance(body, bytes) else json.dumps(body).encode())
    fields = {"message": message, "type": kind, "code": code}
    return Fault(slug(name), sent, "create", Raises(errors.InternalServerError, fields=fields))


REFUSED = (
    *(
        Family(
            SECTION,
            f"{verb}-{kind}",
            f"response to `{verb}`, {title}; status",
            tuple(refused(verb, kind, *known) for known in STATUS.items() if known[0] >= 400),
        )
        for kind, title in ANSWERS.items()
        for verb in VERBS
    ),
    Family(
        SECTION,
        "envelope",
        "status 500, every envelope of protocol.md §7.3",
        tuple(map(enveloped, ENVELOPES)),
    ),
)


# Time

SECTION = "Timeouts"
READ = {"timeout": 1.0}
DEADLINE = {"timeout": 1.0, "deadline": 2.0}
PROGRESS = {"timeout": 1.0, "progress_timeout": 2.0}
PINGS = again_and_again(chunk(event("ping")))
COMMENTS = again_and_again(chunk(b": still here\n\n"))


def late(phase: str, partial: Answer | None = None) -> Raises:
    return Raises(errors.APITimeoutError, partial, fields={"phase": phase})


TIME = (
    Family(
        SECTION,
        "silence",
        "the server accepts the request and never answers (`timeout`)",
        tuple(Fault(verb, SILENCE, verb, late("read"), limits=READ) for verb in VERBS),
    ),
    Family(
        SECTION,
        "headers",
        "headers and no body (`timeout`)",
        (
            Fault(
                "create",
                [head(200, {"content-type": JSON, "content-length": "100"}), SILENCE],
                "create",
                late("read"),
                limits=READ,
            ),
            Fault("stream", [STREAM_HEAD, SILENCE], "stream", late("read", Answer()), limits=READ),
        ),
    ),
    one(
        SECTION,
        "dripped-body",
        "a body sent byte by byte (`deadline`; anthropic has only `timeout`)",
        [head(200, {"content-type": JSON, "content-length": "2000"}), drip(b" " * 2000, 0.02)],
        "create",
        late("deadline"),
        limits=DEADLINE,
    ),
    one(
        SECTION,
        "dripped-headers",
        "headers sent byte by byte (the same)",
        drip(head(200, {"content-type": JSON, "x-long": "x" * 2000}), 0.02),
        "create",
        late("deadline"),
        limits=DEADLINE,
    ),
    one(
        SECTION,
        "pings-only",
        "only pings (`progress_timeout`; anthropic has only `timeout`)",
        [STREAM_HEAD, PINGS],
        "stream",
        late("progress", Answer()),
        limits=PROGRESS,
    ),
    one(
        SECTION,
        "comments-only",
        "only comments (the same)",
        [STREAM_HEAD, COMMENTS],
        "stream",
        late("progress", Answer()),
        limits=PROGRESS,
    ),
    one(
        SECTION,
        "text-then-pings",
        "half of the text, then pings forever (the same)",
        [begun(IN_TEXT), PINGS],
        "stream",
        late("progress", known(IN_TEXT)),
        limits=PROGRESS,
    ),
    one(
        SECTION,
        "retry-after-a-day",
        "429 with `Retry-After: 86400`, retries allowed",
        reply(429, {"type": "error", "error": said("rate_limit_error")}, {"retry-after": "86400"}),
        "create",
        Raises(errors.RateLimitError, words=WORDS, fields={"retry_after": 86400.0}),
        settings={"max_retries": 2},
    ),
    one(
        SECTION,
        "left-open",
        "the body stays open after the message",
        [begun(len(TOLD)), SILENCE],
        "stream",
        Returns(),
    ),
)


# Connections and retries

SECTION = "Connections and retries"
WELL = reply(200, MESSAGE)
AGAIN: dict[str, Any] = {"settings": {"max_retries": 2}}
BUSY = reply(503, {"error": said("overloaded_error")}, {"retry-after-ms": "1"})
UNSURE = told(START, event("error", error=said("overloaded_error")))


def again(name: str, title: str, fault: Script, *, verb: Verb = "create", **more: Any) -> Family:
    """Return a fault of the first try, after which all is well."""
    then = (told(*TOLD) if verb == "stream" else WELL,)
    return one(SECTION, name, title, fault, verb, Returns(tries=2), after=then, **AGAIN, **more)


STRANGE = reply(200, {**MESSAGE, "content": [{"type": "text", "text": "For somebody else."}]})


def used(name: str, title: str, surplus: bytes) -> Family:
    """Return a call after one whose answer was followed by surplus data."""
    calls = (
        Fault("create", WELL, "create", Returns()),
        Fault("stream", told(*TOLD), "stream", Returns()),
    )
    return Family(SECTION, name, title, tuple(replace(c, before=(WELL + surplus,)) for c in calls))


UNESCAPED = json.dumps(MESSAGE, ensure_ascii=False)
SPACED = UNESCAPED + " " * (len(UNESCAPED.encode()) - len(UNESCAPED))
"""A body that is whole by its length in characters; what is over in bytes are spaces."""
TOO_SHORT = reply(200, SPACED.encode(), {"content-length": str(len(SPACED))})

CONNECTIONS = (
    one(
        SECTION,
        "refused",
        "nothing listens on the port",
        b"",
        "create",
        Raises(errors.APIConnectionError, says="cannot connect", tries=0),
        stage="nobody",
    ),
    one(
        SECTION,
        "untrusted",
        "an untrusted certificate, retries allowed",
        WELL,
        "create",
        Raises(errors.APIConnectionError, says="certificate is not trusted"),
        stage="tls",
        **AGAIN,
    ),
    again(
        "unanswered", "the connection is closed without a response, then a correct answer", CLOSE
    ),
    again(
        "unanswered-reset",
        "the connection is reset without a response, then a correct answer",
        RESET,
    ),
    again(
        "kept-closed",
        "a reused connection is closed just as the next request arrives",
        CLOSE,
        before=(WELL,),
    ),
    again("kept-reset", "the same, reset", RESET, before=(WELL,)),
    one(
        SECTION,
        "kept-idle",
        "an idle connection is closed before it is reused",
        WELL,
        "create",
        Returns(),
        before=([WELL, CLOSE],),
        **AGAIN,
    ),
    one(
        SECTION,
        "kept-closed-once",
        "a reused connection is closed just as the next request arrives, no retries allowed",
        CLOSE,
        "create",
        Returns(tries=2),
        before=(WELL,),
        after=(WELL,),
    ),
    one(
        SECTION,
        "kept-reset-once",
        "the same, reset",
        RESET,
        "create",
        Returns(tries=2),
        before=(WELL,),
        after=(WELL,),
    ),
    one(
        SECTION,
        "kept-closed-twice",
        "the same, and the new connection is closed without a response too",
        CLOSE,
        "create",
        Raises(errors.APIConnectionError, says="without sending a response", tries=2),
        before=(WELL,),
        after=(CLOSE,),
    ),
    used("kept-surplus", "the previous call was answered twice", STRANGE),
    used("kept-surplus-half", "the previous call was answered one and a half times", STRANGE[:-20]),
    used(
        "kept-surplus-tail",
        "a few extra bytes followed the answer to the previous call",
        b"\r\n0\r\n",
    ),
    one(
        SECTION,
        "kept-length-in-characters",
        "the length of the previous answer was counted in characters, and it has more bytes",
        WELL,
        "create",
        Returns(),
        before=(TOO_SHORT,),
    ),
    one(
        SECTION,
        "plain-at-tls",
        "a TLS alert in response to an `http://` request, retries allowed",
        [b"\x15\x03\x01\x00\x02\x02\x46", CLOSE],
        "create",
        Raises(errors.APIConnectionError, says="https:// and not http://"),
        **AGAIN,
    ),
    one(
        SECTION,
        "closed-waiting",
        "another thread closes the client while the call waits for a response",
        SILENCE,
        "create",
        Raises(errors.ClientClosedError, says="the client was closed"),
        closed=True,
    ),
    one(
        SECTION,
        "closed-streaming",
        "another thread closes the client in the middle of a stream",
        [begun(IN_TEXT), SILENCE],
        "stream",
        Raises(errors.ClientClosedError, known(IN_TEXT), fields=FROM_STREAM),
        closed=True,
    ),
    again("busy", "503, then a correct answer", BUSY),
    again("busy-stream", "503 to `stream`, then a correct answer", BUSY, verb="stream"),
    again(
        "error-before-content",
        "an overloaded event before any content, then a correct answer",
        UNSURE,
        verb="stream",
    ),
    again(
        "cut-before-content",
        "a stream is cut before any content, then a correct answer",
        [begun(1), CLOSE],
        verb="stream",
    ),
    one(
        SECTION,
        "cut-after-content",
        "a stream is cut after its first content, retries allowed",
        [begun(IN_TEXT), CLOSE],
        "stream",
        Raises(StreamInterruptedError, known(IN_TEXT), fields=FROM_STREAM),
        after=(told(*TOLD),),
        **AGAIN,
    ),
    again("half-a-body", "half of a body, then a correct answer", [WELL[:-9], CLOSE]),
    one(
        SECTION,
        "redirect-home",
        "307 to another path of the same server",
        reply(307, b"", {"location": "/elsewhere"}),
        "create",
        Returns(tries=2),
        after=(WELL,),
    ),
    Family(
        SECTION,
        "redirect-away",
        "a redirect to another server",
        tuple(
            Fault(
                f"{status}-{verb}",
                reply(status, b"", {"location": "{other}/v1/messages"}),
                verb,
                Raises(errors.APIStatusError, says="not followed", fields={"status_code": status}),
                stage="two servers",
            )
            for status in (301, 302, 307, 308)
            for verb in VERBS
        ),
    ),
)


# GGUF deployments

SECTION = "Deployments that are not ready"


def not_ready(status: str) -> bytes:
    words = f"Endpoint is not ready (status: {status}). It may still be deploying or paused."
    return reply(503, {"error": {"type": "overloaded_error", "message": words}})


UNREACHABLE = reply(
    502,
    {
        "error": {
            "type": "api_error",
            "message": "The model endpoint is unreachable right now. It may be restarting — "
            "try again in a moment.",
        }
    },
)
LOADING = reply(
    503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
)
COMING_UP: tuple[Script, ...] = (UNREACHABLE, LOADING)


def deployment(
    name: str, title: str, verb: Verb, sent: bytes, expected: Any, **more: Any
) -> Family:
    return one(SECTION, name, title, sent, verb, expected, stage="deployment", **more)


PATIENT: dict[str, Any] = {"settings": {"max_retries": 4}}
DEPLOYING = "deploying → 502 → loading → ready"
GGUF = (
    deployment(
        "cold-create",
        f"`create`, retries allowed: {DEPLOYING}",
        "create",
        not_ready("deploying"),
        Returns(tries=4),
        after=(*COMING_UP, WELL),
        **PATIENT,
    ),
    deployment(
        "cold-stream",
        f"`stream`, retries allowed: {DEPLOYING}",
        "stream",
        not_ready("deploying"),
        Returns(tries=4),
        after=(*COMING_UP, told(*TOLD)),
        **PATIENT,
    ),
    deployment(
        "cold-ready",
        f"`wait_until_ready`: {DEPLOYING}",
        "ready",
        not_ready("deploying"),
        Returns(tries=4),
        after=(*COMING_UP, reply(200, {"input_tokens": 3})),
    ),
    deployment(
        "paused",
        "`create`, retries allowed: paused, until a person resumes it",
        "create",
        not_ready("paused"),
        Raises(
            errors.EndpointNotReadyError,
            words="(status: paused)",
            says="a person must resume it",
            fields={"endpoint_status": "paused"},
        ),
        **PATIENT,
    ),
    deployment(
        "paused-ready",
        "`wait_until_ready`: paused",
        "ready",
        not_ready("paused"),
        Raises(
            errors.EndpointNotReadyError,
            words="(status: paused)",
            fields={"endpoint_status": "paused"},
        ),
    ),
    deployment(
        "pauses",
        "`wait_until_ready`: deploying, then paused",
        "ready",
        not_ready("deploying"),
        Raises(
            errors.EndpointNotReadyError,
            words="(status: paused)",
            fields={"endpoint_status": "paused"},
            tries=2,
        ),
        after=(not_ready("paused"),),
    ),
)

# A dropped stream that is resumed. The answer is text alone: nothing else is resumed.

SECTION = "Resumed streams"
PIECES = ("Die ", "Flut ", "steigt ", "im ", "Tamar.")
TALE = (
    START,
    begin(0, "text", text=""),
    *(delta(0, "text", text=piece) for piece in PIECES),
    shut(0),
    end("end_turn"),
    event("message_stop"),
)
"""A whole answer; a piece is a token."""
BEGUN_AGAIN = (START.replace(b'"input_tokens": 3', b'"input_tokens": 9'), TALE[1])
BEFORE = 2
"""How many events come before its first piece."""


def tale(pieces: int, tokens: int, reason: str | None = None) -> Answer:
    """Return the answer as far as so many of its pieces."""
    return Answer("".join(PIECES[:pieces]), stop_reason=reason, output_tokens=tokens)


def as_far_as(pieces: int) -> bytes:
    return STREAM_HEAD + chunk(b"".join(TALE[: BEFORE + pieces]))


def going_on(pieces: int) -> bytes:
    """Return a stream that repeats so many pieces, without the space after them, and goes on."""
    whole, so_far = "".join(PIECES), "".join(PIECES[:pieces]).rstrip()
    deltas = (delta(0, "text", text=text) for text in (so_far, whole[len(so_far) :]) if text)
    return told(*BEGUN_AGAIN, *deltas, *TALE[-3:])


def resumed(name: str, title: str, fault: Callable[[int], Script]) -> Family:
    """Return rows of a fault that strikes after each piece of the answer; then it goes on."""
    return Family(
        SECTION,
        name,
        title,
        tuple(
            Fault(
                at(BEFORE + pieces),
                fault(pieces),
                "stream",
                # The server counts 9 for each answer that it ends; the pieces before are estimated.
                Returns(tale(len(PIECES), pieces + 9, "end_turn"), tries=2),
                after=(going_on(pieces),),
                asked={"resume": 1},
                prefill="repeats",
            )
            for pieces in range(1, len(PIECES) + 1)
        ),
    )


NOT_RESUMED: dict[str, Any] = {"asked": {"resume": 1}, "prefill": "repeats"}
DROPPED = [as_far_as(3), CLOSE]
RESUMED = (
    resumed(
        "resume-closed", "the connection is closed after event", lambda n: [as_far_as(n), CLOSE]
    ),
    resumed("resume-reset", "the connection is reset after event", lambda n: [as_far_as(n), RESET]),
    resumed(
        "resume-ended", "the body ends, cleanly, after event", lambda n: [as_far_as(n), END_OF_BODY]
    ),
    resumed(
        "resume-inside",
        "the connection is closed in the middle of the event after event",
        lambda n: [as_far_as(n), chunk(TALE[BEFORE + n][:-8]), CLOSE],
    ),
    resumed(
        "resume-overloaded",
        "an overloaded event after event",
        lambda n: [
            as_far_as(n),
            chunk(event("error", error=said("overloaded_error"))),
            END_OF_BODY,
        ],
    ),
    one(
        SECTION,
        "resume-rest",
        "the connection is closed; the server returns only the rest",
        DROPPED,
        "stream",
        Returns(tale(len(PIECES), 3 + 9, "end_turn"), tries=2),
        after=(
            told(
                *BEGUN_AGAIN,
                *(delta(0, "text", text=piece) for piece in (" im ", "Tamar.")),
                *TALE[-3:],
            ),
        ),
        asked={"resume": 1},
        prefill="rest",
    ),
    one(
        SECTION,
        "resume-twice",
        "the connection is closed twice, `resume=2`",
        DROPPED,
        "stream",
        Returns(tale(len(PIECES), 3 + 1 + 9, "end_turn"), tries=3),
        after=(
            [
                STREAM_HEAD
                + chunk(b"".join(BEGUN_AGAIN) + delta(0, "text", text="Die Flut steigt im ")),
                CLOSE,
            ],
            going_on(4),
        ),
        asked={"resume": 2},
        prefill="repeats",
    ),
    one(
        SECTION,
        "resume-refused",
        "the connection is closed; the server refuses to continue an answer, 400",
        DROPPED,
        "stream",
        Raises(
            StreamInterruptedError,
            tale(3, 1),
            says=f"not resumed: HTTP 400: {WORDS}",
            fields=FROM_STREAM,
            tries=2,
        ),
        after=(reply(400, {"type": "error", "error": said("invalid_request_error")}),),
        **NOT_RESUMED,
    ),
    one(
        SECTION,
        "resume-another",
        "the connection is closed; the server gives another answer",
        DROPPED,
        "stream",
        Raises(
            StreamInterruptedError,
            tale(3, 3 + 1),
            says="not resumed: the server should have repeated the 15 characters so far",
            fields=FROM_STREAM,
            tries=2,
        ),
        after=(told(*BEGUN_AGAIN, *(delta(0, "text", text="Die Ebbe"),), *TALE[-3:]),),
        **NOT_RESUMED,
    ),
    one(
        SECTION,
        "resume-in-a-call",
        "the connection is closed within a tool call, which is not resumed",
        [begun(IN_CALL), CLOSE],
        "stream",
        Raises(
            StreamInterruptedError,
            known(IN_CALL),
            says="not resumed: the answer contains more than text",
            fields=FROM_STREAM,
        ),
        **NOT_RESUMED,
    ),
    one(
        SECTION,
        "resume-create",
        "the connection is closed during `create`",
        DROPPED,
        "create",
        Returns(tale(len(PIECES), 3 + 9, "end_turn"), tries=2),
        after=(going_on(3),),
        asked={"resume": 1},
        prefill="repeats",
    ),
)

FAMILIES: tuple[Family, ...] = (
    *EARLY,
    *BROKEN_EVENTS,
    *ERROR_EVENTS,
    *ORDER,
    *NULLS,
    *ARGUMENTS,
    *NO_MESSAGE,
    *WRONG_LABELS,
    *REFUSED,
    *TIME,
    *CONNECTIONS,
    *GGUF,
    *RESUMED,
)
ROWS: dict[str, Fault] = {
    f"{family.name}/{fault.name}" if fault.name else family.name: fault
    for family in FAMILIES
    for fault in family.faults
}
"""Every fault by the name that `make reliability ROW=…` takes."""
