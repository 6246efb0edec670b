"""Prove with thousands of broken streams that the result is the received answer, or one of our
errors.

The oracle is `stream_model.py`, a second and far simpler reader of the same bytes: whatever is done
to a stream, the package must say of it what the model says, and raise where the model finds it
broken or unfinished. So a message never differs from what *arrived*.

Whether what arrived is what was *sent* cannot always be told. The format has no sequence numbers,
no lengths and no sums, so nobody can see these: a delta that was dropped, doubled or moved between
its neighbours; a changed character inside a text; a start, stop or `message_start` event that was
dropped (servers really leave them out, and are tolerated); a piece of a tool's arguments whose loss
leaves valid JSON; a kind that was changed into one not known yet. What can be seen, and is tested
against what was sent, is the rest: every cut, at every byte; what breaks JSON or UTF-8; what does
no harm (cuts between chunks, comments, pings, doubled starts and ends, other line ends).

`HYPOTHESIS_PROFILE=long` runs fifty times as many examples, and new ones each time.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
import stream_model
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from raw_server import ASK, END_OF_BODY, PING, STREAM_HEAD, Connection, RawServer, chunk, event
from stream_model import Doubt

from modelslab_llm import APIError, AsyncModelsLab, ModelsLab, StreamInterruptedError
from modelslab_llm._protocol.messages import read_message
from modelslab_llm._protocol.reader import Reader
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm._protocol.values import Answer
from modelslab_llm.types import Message, ServerToolUseBlock, TextBlock, ThinkingBlock, ToolUseBlock

pytestmark = pytest.mark.slow

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SAMPLES = sorted((Path(__file__).parents[1] / "samples").glob("s*.sse"))


def examples(count: int) -> Any:
    return settings(
        max_examples=count * 50 if LONG else count,
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# Good streams

Frames = list[bytes]

text = st.text(st.characters(codec="utf-8"), max_size=12)
pieces = st.lists(text, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


@st.composite
def blocks(draw: st.DrawFn, index: int) -> Frames:
    """Return the events of one block, its stop event apart and last."""
    kind = draw(st.sampled_from(["text", "thinking", "tool_use", "redacted_thinking", "novelty"]))
    start: dict[str, Any] = {"type": kind}
    deltas: Frames = []
    if kind == "text":
        start["text"] = draw(text)
        deltas = [delta(index, "text_delta", text=piece) for piece in draw(pieces)]
    elif kind == "thinking":
        deltas = [delta(index, "thinking_delta", thinking=piece) for piece in draw(pieces)]
        deltas.append(delta(index, "signature_delta", signature=draw(text)))
    elif kind == "tool_use":
        start |= {"id": f"toolu_{index}", "name": draw(text)}
        written = json.dumps(draw(st.dictionaries(text, values, max_size=3)))
        cuts = sorted(draw(st.lists(st.integers(0, len(written)), max_size=3)))
        deltas = [
            delta(index, "input_json_delta", partial_json=written[a:b])
            for a, b in zip([0, *cuts], [*cuts, len(written)], strict=True)
        ]
    else:
        start["data"] = draw(text)
    begin = event("content_block_start", index=index, content_block=start)
    return [begin, *deltas, event("content_block_stop", index=index)]


@st.composite
def streams(draw: st.DrawFn) -> Frames:
    """Return the events of a good stream; its blocks stop at once, or all at the end."""
    whole = [draw(blocks(index)) for index in range(draw(st.integers(0, 3)))]
    stops = [block.pop() for block in whole] if draw(st.booleans()) else []
    reason = draw(st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop"]))
    begin = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"}
    return [
        event("message_start", message=begin),
        *[frame for block in whole for frame in block],
        *stops,
        event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 5}),
        event("message_stop"),
    ]


def of_sample(path: Path) -> Frames:
    return [frame + b"\n\n" for frame in path.read_bytes().split(b"\n\n") if frame.strip()]


good = streams() | st.sampled_from([of_sample(path) for path in SAMPLES])

# What is done to them

HARMLESS = [
    b": a comment\n\n",
    b"\n",
    b"data:\n\n",
    b"data: [DONE]\n\n",
    b"id: 7\nretry: 10\n\n",
    PING,
    event("novelty", content={"status": "error"}),
]
HARMFUL = [
    event("error", error={"type": "overloaded_error", "message": "no"}),
    b'data: {"error": "no"}\n\n',
    b"data: {no\n\n",
    b"data: 17\n\n",
    b"data: \xff\xfe\n\n",
    event("message_start", message={"id": "msg_2", "type": "message", "content": []}),
    event("message_stop"),
    delta(0, "text_delta", text="another"),
    delta(9, "input_json_delta", partial_json="{"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a good stream to which a few things were done."""
    frames = list(draw(good))
    for _ in range(draw(st.integers(0, 3))):
        if not frames:
            break
        at = draw(st.integers(0, len(frames) - 1))
        to = draw(st.integers(0, len(frames) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "insert"])):
            case "drop":
                del frames[at]
            case "double":
                frames.insert(to, frames[at])
            case "swap":
                frames[at], frames[to] = frames[to], frames[at]
            case _:
                frames.insert(at, draw(st.sampled_from(HARMLESS + HARMFUL)))
    body = b"".join(frames)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["cut", "remove", "change", "add", "line ends"])):
            case "cut":
                body = body[:at]
            case "remove":
                body = body[:at] + body[at + draw(st.integers(1, 9)) :]
            case "change":
                body = body[:at] + draw(st.binary(min_size=1, max_size=1)) + body[at + 1 :]
            case "add":
                extra = draw(st.sampled_from([b"\n", b"\r", b"\n\n", b"{", b'"', b"\x00", b"\\"]))
                body = body[:at] + extra + body[at:]
            case _:
                body = body.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r"])))
    return body


@st.composite
def cuts(draw: st.DrawFn, body: bytes) -> list[bytes]:
    """Return the body as chunks."""
    if draw(st.booleans()):
        size = draw(st.sampled_from([1, 2, 3, 7, 64]))
        return [body[at : at + size] for at in range(0, len(body), size)]
    places = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


# What comes of it

Outcome = tuple[Message, APIError | None]
"""The message, or how far it came and why no further."""


def outcome(chunks: list[bytes]) -> Outcome:
    """Read with the pure core, as the drivers do. What is not ours passes, and fails the test."""

    def failure(payload: object) -> APIError:
        return from_payload(payload, {}, now=0.0, in_stream=True)

    def whole(body: bytes) -> Message:
        return read_message(Answer(200, {}, body))

    reader = Reader("asked", 1 << 20, failure, whole=whole)
    try:
        for piece in chunks:
            for _ in reader.feed(piece):
                pass
            if reader.message.complete:
                return reader.message.message(), None
        for _ in reader.end():
            pass
    except APIError as error:
        return reader.message.message(), error
    return reader.message.message(), None


def content(message: Message) -> list[tuple[Any, ...]]:
    """Return what a message holds, as the model shows it."""
    shown: list[tuple[Any, ...]] = []
    for block in message.content:
        if isinstance(block, TextBlock):
            shown.append(("text", block.text))
        elif isinstance(block, ThinkingBlock):
            shown.append(("thinking", block.thinking, block.signature))
        elif isinstance(block, (ToolUseBlock, ServerToolUseBlock)):
            arguments = block.input if block.input_complete else None
            shown.append((block.type, block.id, block.name, arguments))
        else:
            shown.append((block.type,))
    return shown


seen: Counter[str] = Counter()


@examples(800)
@given(st.data())
def test_the_answer_is_what_came_or_an_error(data: st.DataObject) -> None:
    body = data.draw(mutated())
    message, error = outcome(data.draw(cuts(body)))
    try:
        told = stream_model.read(body)
    except Doubt:
        seen["doubt"] += 1
        return
    assert told.whole == (error is None)
    assert content(message) == told.content()
    assert (message.stop_reason or None) == told.stop_reason
    seen["whole" if told.whole else "broken"] += 1


def test_the_model_has_an_opinion() -> None:
    """Doubt where it matters would prove nothing: it must be rare, and both outcomes common."""
    if not seen:
        pytest.skip("counts what the test before it saw")
    assert seen["doubt"] < 0.15 * seen.total()
    assert min(seen["whole"], seen["broken"]) > 0.2 * seen.total()


@examples(200)
@given(st.data())
def test_what_does_no_harm_changes_nothing(data: st.DataObject) -> None:
    frames = list(data.draw(streams()))
    sent, error = outcome([b"".join(frames)])
    assert error is None
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(frames)))
        once = [f for f in frames[:at] if b"_block_delta" not in f and b"message_stop" not in f]
        again = [f for f in once if b"block_start" not in f or f == frames[at - 1]]
        frames.insert(at, data.draw(st.sampled_from(HARMLESS + again)))
    body = b"".join(frames)
    body = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + body
    body = body.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    if data.draw(st.booleans()):
        body = body.rstrip()
    assert outcome(data.draw(cuts(body))) == (sent, None)


@examples(60)
@given(good)
def test_a_stream_cut_at_any_byte_is_whole_or_an_error(frames: Frames) -> None:
    body = b"".join(frames)
    sent, failed = outcome([body])
    assume(failed is None)
    said = [at for at in range(len(body)) if b'"message_stop"' in body[:at]]
    for at in range(0, len(body), max(1, len(body) // 150)):
        message, error = outcome([body[:at]])
        if error is None:
            assert message.stop_reason == sent.stop_reason or at in said
            assert content(message) == content(sent)
        else:
            assert type(error) is StreamInterruptedError
            assert sent.text.startswith(message.text)


@examples(25)
@given(st.data())
def test_the_clients_say_the_same_over_sockets(data: st.DataObject) -> None:
    body = data.draw(mutated())
    pieces = [piece for piece in data.draw(cuts(body)) if piece][:200]
    message, error = outcome(pieces)

    def send(connection: Connection) -> None:
        connection.send(STREAM_HEAD + b"".join(map(chunk, pieces)) + END_OF_BODY)

    async def asynchronous() -> Outcome:
        async with AsyncModelsLab(base_url=server.url, api_key="k", max_retries=0) as client:
            stream = client.messages.stream(**ASK)
            try:
                return await stream.get_final_message(), None
            except APIError as error:
                return error.partial_message or Message(model="m"), error
            finally:
                await stream.close()

    def synchronous() -> Outcome:
        with ModelsLab(base_url=server.url, api_key="k", max_retries=0) as client:
            stream = client.messages.stream(**ASK)
            try:
                return stream.get_final_message(), None
            except APIError as error:
                return error.partial_message or Message(model="m"), error
            finally:
                stream.close()

    with RawServer(send) as server:
        for said, failed in (
            synchronous(),
            anyio.run(asynchronous),
            anyio.run(asynchronous, backend="trio"),
        ):
            assert content(said) == content(message)
            assert type(failed) is type(error)
