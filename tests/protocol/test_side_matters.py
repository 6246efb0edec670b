"""A minor deviation never costs the answer: it is read, or skipped.

Each deviation is read in the ways an answer can come (whole, streamed, replayed, cut at any byte),
and whatever is handed out can be encoded.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from variants import Async, Chunks, Sync

from modelslab_llm import APIStatusError, BadRequestError, StreamInterruptedError
from modelslab_llm._http.unpack import Unpacker
from modelslab_llm._protocol.messages import read_message
from modelslab_llm._protocol.reader import Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm._protocol.values import Answer
from modelslab_llm.errors import APIError
from modelslab_llm.types import ContentBlockDeltaEvent, Event, Message, TextDelta

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say Tamar."}],
}
LONG_NUMBER = "7" * 5000

START = '{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":3}}}'
BEGIN = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
STOP_BLOCK = '{"type":"content_block_stop","index":0}'
END = (
    '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}',
    '{"type":"message_stop"}',
)


def delta(text: str, kind: str = "text_delta", field: str = "text", index: int = 0) -> str:
    """Return a delta whose text is JSON as written: escapes in `text` stay escapes."""
    inner = f'{{"type":"{kind}","{field}":"{text}"}}'
    return f'{{"type":"content_block_delta","index":{index},"delta":{inner}}}'


def frame(data: str, name: str | None = "") -> bytes:
    """Return an event; its name is its type unless one is given, None for no event line."""
    if name == "":
        name = re.findall(r'"type":"(\w+)"', data)[0]
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode("utf-8", "surrogatepass")


def told(*events: str | bytes) -> bytes:
    frames = (event if isinstance(event, bytes) else frame(event) for event in events)
    return b"".join(frames)


def failure(payload: object) -> APIError:
    return from_payload(payload, {}, now=0, in_stream=True)


def read(body: bytes, cut: int | None = None, label: str = "text/event-stream") -> list[Event]:
    """Return the events of a body, fed whole or in pieces of `cut` bytes, the message last."""
    reader = Reader("m", 1 << 20, failure, label=label)
    events: list[Event] = []
    for i in range(0, len(body), cut or len(body)):
        events += reader.feed(body[i : i + (cut or len(body))])
    if not reader.message.complete:
        events += reader.end()
    return [*events, reader.message.message()]  # type: ignore[list-item]


def message_of(body: bytes, cut: int | None = None) -> Message:
    *events, message = read(body, cut)
    assert isinstance(message, Message)
    for event in (*events, message):
        event.model_dump_json().encode()
        repr(event).encode()
        json.dumps(event.model_dump()).encode()
    text = "".join(
        event.delta.text
        for event in events
        if isinstance(event, ContentBlockDeltaEvent) and isinstance(event.delta, TextDelta)
    )
    assert text == message.text
    return message


CUTS = [None, 1, 3, 50]

# Halves of characters

HALVES = {
    "a whole pair in one delta": ([r"a\ud83d\ude00b"], "a😀b"),
    "two halves in two deltas": ([r"a\ud83d", r"\ude00b"], "a😀b"),
    "halves in deltas of their own": (["a", r"\ud83d", r"\ude00", "b"], "a😀b"),
    "a pair cut, and the next one too": ([r"\ud83d", r"\ude00\ud83d", r"\ude01"], "😀😁"),
    "a first half, then plain text": ([r"a\ud83d", "b"], "a\ufffdb"),
    "a second half without a first": (["a", r"\ude00b"], "a\ufffdb"),
    "a first half at the end": (["a", r"b\ud83d"], "ab\ufffd"),
    "a first half inside": ([r"a\ud83db"], "a\ufffdb"),
    "two first halves": ([r"\ud83d", r"\ud83d\ude00"], "\ufffd😀"),
    "the second half before the first": ([r"\ude00\ud83d", "x"], "\ufffd\ufffdx"),
    "an empty delta between": ([r"a\ud83d", "", r"\ude00"], "a😀"),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", HALVES)
def test_halves_of_characters_in_text(case: str, cut: int | None) -> None:
    deltas, text = HALVES[case]
    body = told(START, BEGIN, *map(delta, deltas), STOP_BLOCK, *END)
    assert message_of(body, cut).text == text


@pytest.mark.parametrize("cut", CUTS)
def test_halves_of_characters_as_bytes(cut: int | None) -> None:
    """Some Java servers write each half of a surrogate pair as three bytes of UTF-8."""
    body = told(START, BEGIN, delta("a\ud83d"), delta("\ude00b\ud83d"), STOP_BLOCK, *END)
    assert message_of(body, cut).text == "a😀b\ufffd"


def test_halves_meet_over_a_ping_and_between_two_blocks() -> None:
    second = BEGIN.replace('"index":0', '"index":1')
    body = told(
        START,
        BEGIN,
        second,
        delta(r"a\ud83d"),
        frame('{"type":"ping"}'),
        delta(r"b\ud83d", index=1),
        delta(r"\ude00"),
        delta(r"\ude01", index=1),
        STOP_BLOCK,
        *END,
    )
    message = read(body)[-1]
    assert isinstance(message, Message)
    first, other = message.content
    assert (first.text, other.text) == ("a😀", "b😁")  # type: ignore[union-attr]


def test_half_of_a_character_in_the_start_of_a_block() -> None:
    body = told(START, BEGIN.replace('"text":""', r'"text":"a\ud83d"'), delta(r"\ude00"), *END)
    assert message_of_start(body) == "a😀"


def message_of_start(body: bytes) -> str:
    message = read(body)[-1]
    assert isinstance(message, Message)
    return message.text


def test_halves_of_characters_in_thinking() -> None:
    begin = '{"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}'
    deltas = [delta(part, "thinking_delta", "thinking") for part in (r"a\ud83d", r"\ude00\ud83d")]
    signed = delta("sig", "signature_delta", "signature")
    message = message_of(told(START, begin, *deltas, signed, STOP_BLOCK, *END))
    assert message.thinking == "a😀\ufffd"


@pytest.mark.parametrize(
    ("parts", "city"),
    [
        ([r"{\"city\":\"a\ud83d", r"\ude00\"}"], "a😀"),  # the text of the delta is cut
        ([r"{\"city\":\"a\\ud83d", r"\\ude00\"}"], "a😀"),  # the arguments hold an escape
        ([r"{\"city\":\"a\\ud83d\"}"], "a\ufffd"),
        ([r"{\"city\":\"a\ud83d", r"b\"}"], "a\ufffdb"),
    ],
)
def test_halves_of_characters_in_the_arguments_of_a_call(parts: list[str], city: str) -> None:
    begin = (
        '{"type":"content_block_start","index":0,"content_block":'
        '{"type":"tool_use","id":"t","name":"level","input":{}}}'
    )
    deltas = [delta(part, "input_json_delta", "partial_json") for part in parts]
    (call,) = message_of(told(START, begin, *deltas, STOP_BLOCK, *END)).tool_uses
    assert (call.input, call.input_complete) == ({"city": city}, True)


def test_a_half_is_not_lost_where_the_stream_breaks() -> None:
    reader = Reader("m", 1 << 20, failure)
    list(reader.feed(told(START, BEGIN, delta(r"a\ud83d"))))
    with pytest.raises(StreamInterruptedError):
        list(reader.end())
    assert reader.message.message().text == "a\ufffd"


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(st.sampled_from("a\ud83d\ude00\ud800\udfffé😀"), max_size=4), max_size=6))
def test_whatever_is_cut_joins_to_what_it_was(parts: list[str]) -> None:
    deltas = [delta(json.dumps(part)[1:-1]) for part in parts if part]
    body = told(START, BEGIN, *deltas, STOP_BLOCK, *END)
    whole = "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert message_of(body).text == whole


SIDE_FIELDS = {
    "half a character": r'"\ud83d"',
    "half a character in a name": r'{"\ud83d": 1}',
    "a number of 5,000 digits": LONG_NUMBER,
    "a control character": '"a\x01\tb"',
    "deep nesting": "[" * 250 + "]" * 250,
}


@pytest.mark.parametrize("field", SIDE_FIELDS)
def test_a_side_field_of_a_whole_message(field: str) -> None:
    text = rf'{{"type":"text","text":"Tamar","note":{SIDE_FIELDS[field]}}}'
    body = rf'{{"type":"message","x":{SIDE_FIELDS[field]},"content":[{text}]}}'
    message = read_message(Answer(200, {}, body.encode("utf-8", "surrogatepass")))
    assert message.text == "Tamar"
    message.model_dump_json().encode()
    repr(message).encode()
    json.dumps(message.to_param()).encode()


@pytest.mark.parametrize("place", ["start", "block", "delta", "ping", "end", "unknown"])
@pytest.mark.parametrize("field", SIDE_FIELDS)
def test_a_side_field_of_an_event(field: str, place: str) -> None:
    value = SIDE_FIELDS[field]

    def more(data: str, here: str) -> str:
        return f'{data[:-1]},"x":{value}}}' if here == place else data

    body = told(
        more(START, "start"),
        more(BEGIN, "block"),
        more(delta("Tamar"), "delta"),
        more('{"type":"ping"}', "ping"),
        more('{"type":"progress"}', "unknown"),
        STOP_BLOCK,
        *(more(event, "end") for event in END),
    )
    assert message_of(body).text == "Tamar"


@pytest.mark.parametrize("text", [r"\ud83d", "a\x01b", "\ud83d"])
def test_text_of_a_whole_message_can_be_encoded(text: str) -> None:
    body = rf'{{"type":"message","content":[{{"type":"text","text":"{text}"}}]}}'
    message = read_message(Answer(200, {}, body.encode("utf-8", "surrogatepass")))
    assert message.text == (text if "\x01" in text else "\ufffd")


# Frames that carry no content

KEEP_ALIVES = {
    "a ping with a time": b"event: ping\ndata: 2026-11-27T13:00:00Z\n\n",
    "a ping with an empty string": b'event: ping\ndata: ""\n\n',
    "a ping with null": b"event: ping\ndata: null\n\n",
    "a ping with a number": b"event: ping\ndata: 1764250000\n\n",
    "a ping with a list": b"event: ping\ndata: []\n\n",
    "a ping with broken JSON": b'event: ping\ndata: {"type":\n\n',
    "a ping that is not UTF-8": b"event: ping\ndata: \xff\n\n",
    "a ping in another form": b'event: ping\ndata: {"type": "ping", "index": {"a": []}}\n\n',
    "an unknown event with text": b"event: keepalive\ndata: still here\n\n",
    "an unknown event with broken JSON": b'event: progress\ndata: {"done": \n\n',
    "an unknown event with null": b"event: heartbeat\ndata: null\n\n",
    "an unknown event that is not UTF-8": b'event: note\ndata: {"a": "\xff"}\n\n',
    "null without a name": b"data: null\n\n",
    "an empty string without a name": b'data: ""\n\n',
    "a word without a name": b"data: keepalive\n\n",
    "a comment": b": keepalive\n\n",
    "an id alone": b"id: 7\n\n",
    "a retry alone": b"retry: 1000\n\n",
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("case", KEEP_ALIVES)
def test_a_keep_alive_does_not_end_the_answer(case: str, cut: int | None) -> None:
    alive = KEEP_ALIVES[case]
    parts = [START, BEGIN, delta("Ta"), delta("mar"), STOP_BLOCK, *END]
    body = told(*(part for event in parts for part in (event, alive)))
    assert message_of(body, cut).text == "Tamar"


@pytest.mark.parametrize(
    "broken",
    [
        b"event: content_block_delta\ndata: null\n\n",
        b'event: content_block_delta\ndata: "Ta"\n\n',
        b"event: content_block_delta\ndata: Ta\n\n",
        b'data: {"type":"content_block_delta","in\n\n',
        b'data: k_delta","index":0,"delta":{"type":"text_delta","text":"Ta"}}\n\n',
        b'data: [{"type":"content_block_delta"}]\n\n',
        frame(delta("Ta")).replace(b"Ta", b"\xff"),
    ],
)
def test_a_broken_frame_of_content_does(broken: bytes) -> None:
    with pytest.raises(StreamInterruptedError, match="the stream broke"):
        message_of(told(START, BEGIN, broken, delta("mar"), STOP_BLOCK, *END))


def test_the_last_words_of_a_stream_that_is_not_complete_are_told() -> None:
    body = told(START, BEGIN, delta("Ta"), b"data: Internal Server Error\n\n")
    with pytest.raises(StreamInterruptedError, match="the server said 'Internal Server Error'"):
        message_of(body)


# Bodies

WHOLE = '{"type":"message","id":"msg_1","content":[{"type":"text","text":"Tamar 😀"}]}'
BODIES = {
    "a byte order mark": b"\xef\xbb\xbf" + WHOLE.encode(),
    "UTF-16": WHOLE.encode("utf-16"),
    "UTF-16 without a mark": WHOLE.encode("utf-16-le"),
    "UTF-32": WHOLE.encode("utf-32"),
    "null among the blocks": WHOLE.replace("}]", "},null]").encode(),
    "null before the block": WHOLE.replace("[{", "[null,{").encode(),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_is_read(variant: Sync | Async, case: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"content-type": "application/json"}, stream=Chunks([BODIES[case]])
        )

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    assert client.create(**ASK).text == "Tamar 😀"


def members(kind: str, parts: list[bytes]) -> bytes:
    if kind == "gzip":
        return b"".join(map(gzip.compress, parts))
    wbits = 15 if kind == "zlib" else -15
    found = b""
    for part in parts:
        packer = zlib.compressobj(wbits=wbits)
        found += packer.compress(part) + packer.flush()
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("kind", ["gzip", "zlib", "raw"])
def test_each_event_in_a_compressed_member_of_its_own(kind: str, size: int) -> None:
    parts = [b"event %d " % i * 20 for i in range(20)]
    body = members(kind, parts)
    unpacker = Unpacker("gzip" if kind == "gzip" else "deflate")
    found = b"".join(
        piece for i in range(0, len(body), size) for piece in unpacker.feed(body[i : i + size])
    )
    assert found == b"".join(parts)


@pytest.mark.parametrize("rest", [b"\0" * 8, b"\0", b"padding"])
def test_what_follows_the_last_member_is_told_and_dropped(
    rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    unpacker = Unpacker("gzip")
    with caplog.at_level(logging.DEBUG, "modelslab_llm"):
        found = b"".join(unpacker.feed(gzip.compress(b"Tamar") + rest))
    assert found == b"Tamar"
    assert ("bytes after the end" in caplog.text) is (len(rest) > 1)


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_members_reach_the_answer(variant: Sync | Async, verb: str) -> None:
    events = [frame(event) for event in (START, BEGIN, delta("Ta"), delta("mar"), *END)]
    parts = events if verb == "stream" else [WHOLE.encode()[:20], WHOLE.encode()[20:]]
    kind = "text/event-stream" if verb == "stream" else "application/json"

    def handler(_: httpx.Request) -> httpx.Response:
        headers = {"content-type": kind, "content-encoding": "gzip"}
        return httpx.Response(200, headers=headers, stream=Chunks(list(map(gzip.compress, parts))))

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    if verb == "create":
        assert client.create(**ASK).text == "Tamar 😀"
    else:
        with client.stream(**ASK) as stream:
            assert stream.message().text == "Tamar"


REFUSED = [
    b'event: error\ndata: {"error": {"message": "No such model.", "type": "not_found"}}\n\n',
    b'data: {"error": {"message": "No such model."}}\r\n\r\ndata: [DONE]\r\n\r\n',
    b': ping\n\nevent: ping\ndata: {}\n\nevent: error\ndata: {"message": "No such model."}\n\n',
    b"event: error\ndata: No such model.\n\n",
    b'\xef\xbb\xbfevent:error\ndata:{"error":\ndata:{"message":"No such model."}}\n\n',
]


@pytest.mark.parametrize("verb", ["create", "stream"])
@pytest.mark.parametrize("body", REFUSED)
def test_a_refusal_in_the_form_of_a_stream_is_read(
    variant: Sync | Async, body: bytes, verb: str
) -> None:
    """OpenAI-compatible proxies answer a failed stream request with 400 and an event stream."""

    def handler(_: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx.Response(400, headers=headers, stream=Chunks([body]))

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    with pytest.raises(BadRequestError) as caught:
        if verb == "create":
            client.create(**ASK)
        else:
            with client.stream(**ASK) as stream:
                stream.message()
    assert caught.value.message == "No such model."
    assert isinstance(caught.value, APIStatusError)


# One check for every road to a call's input

UNSENDABLE = ['{"n": 1e400}', '{"n": -1e400}', '{"n": NaN}', f'{{"n": {LONG_NUMBER}}}']


@pytest.mark.parametrize("arguments", UNSENDABLE)
@pytest.mark.parametrize("road", ["streamed", "at once", "whole", "as text", "replayed"])
def test_a_call_never_gets_what_json_cannot_carry(arguments: str, road: str) -> None:
    begin = '{"type":"content_block_start","index":0,"content_block":%s}'
    call = '{"type":"tool_use","id":"t","name":"level","input":%s}'
    as_text = json.dumps(arguments)
    if road == "streamed":
        more = delta(as_text[1:-1], "input_json_delta", "partial_json")
        message = read(told(START, begin % (call % "{}"), more, STOP_BLOCK, *END))[-1]
    elif road == "at once":
        message = read(told(START, frame(begin % (call % arguments), "x"), STOP_BLOCK, *END))[-1]
    else:
        given = as_text if road == "as text" else arguments
        body = ('{"type":"message","content":[%s]}' % (call % given)).encode()
        if road == "replayed":
            reader = Reader("m", 1 << 20, failure, label="application/json", whole=_whole)
            list(reader.feed(body))
            list(reader.end())
            message = reader.message.message()
        else:
            message = read_message(Answer(200, {}, body))
    assert isinstance(message, Message)
    (use,) = message.tool_uses
    assert (use.input, use.input_complete) == ({}, False)
    assert '"n"' in str(use.raw_input)
    json.dumps(message.to_param(), allow_nan=False)


def _whole(body: bytes) -> Message:
    return read_message(Answer(200, {}, body))


@pytest.mark.parametrize("written", [r"a\ud83d", r"a\\ud83d"])
def test_half_of_a_character_in_an_output(variant: Sync | Async, written: str) -> None:
    """In the text of the answer, as the model's own JSON escapes it, or as the server does."""
    text = rf"{{\"city\": \"{written}\"}}"
    body = rf'{{"type":"message","content":[{{"type":"text","text":"{text}"}}]}}'

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Chunks([body.encode()]))

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    assert client.parse(output=dict[str, str], **ASK).parsed == {"city": "a\ufffd"}
