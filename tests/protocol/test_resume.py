"""Prove how an answer is made of several streams: pure, by a server that is a function.

That it is so at a real server is proved in `test_llama_resume`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from joined import ASK, Told, begin, broken, cut, end, place, play, stream, text, whole

from modelslab_llm import InvalidRequestError, Message, endpoints, errors
from modelslab_llm._protocol.accumulate import Accumulator
from modelslab_llm._protocol.continuation import NotContinued, Repeated, Rest
from modelslab_llm._protocol.resume import Allowed, allowed
from modelslab_llm._protocol.tail import DROPPED, Tail
from modelslab_llm._protocol.values import Answer, Attempt, Outcome
from modelslab_llm.endpoints import Prefill
from modelslab_llm.types import Seam

# Any text, and much of what makes a seam hard: white space, marks that join, halves.
TEXT = st.text(
    st.one_of(
        st.sampled_from(" \n\t\r\u00a0\u2028\u3000\ufffdaaA.,e\u0301\u200d🏽👩🗼"),
        st.characters(exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=40,
)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=8)


def pieces_of(whole_text: str, sizes: list[int]) -> list[str]:
    pieces, at, turn = list[str](), 0, 0
    while at < len(whole_text):
        size = sizes[turn % len(sizes)]
        pieces.append(whole_text[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def prefill_in(attempt: Attempt) -> str:
    last = json.loads(attempt.request.content or b"")["messages"][-1]
    return last["content"] if last["role"] == "assistant" else ""


def model(
    says: str, sizes: list[int], cuts: list[int], manner: Prefill, stop: str = ""
) -> Callable[[Attempt], Outcome]:
    """Return a server that always says this, and breaks after so many new characters each time.

    It knows a stop sequence in what it says itself, and hands out the beginning of one at once.
    """
    left = list(cuts)

    def answer(attempt: Attempt) -> Outcome:
        prefill = prefill_in(attempt)
        assert says.startswith(prefill)
        new = says[len(prefill) :]
        at = new.find(stop) if stop else -1
        most = left.pop(0) if left else None
        broke = most is not None and most < (len(new) if at < 0 else at + len(stop))
        shown = new[:most] if broke else new if at < 0 else new[:at]
        pieces = pieces_of(shown, sizes)
        if manner == "repeats" and prefill:
            pieces = [prefill + "".join(pieces[:1]), *pieces[1:]]
        if broke:
            return stream([begin(), *text(pieces, stop=False)], broken())
        if at < 0:
            return stream([begin(), *text(pieces), *end()])
        return stream([begin(), *text(pieces), *end("stop_sequence", stop=stop)])

    return answer


def told_alone(told: Told) -> Message:
    """Return the message that the events alone make."""
    accumulator = Accumulator()
    for event in told.events:
        accumulator.add(event)
    return accumulator.message()


@pytest.mark.slow
@given(TEXT, SIZES, st.lists(st.integers(0, 30), max_size=4))
@example("  \n ", [1], [2, 1])
@example("a\ufffd", [1], [2])
@example("\ufffd b", [1], [1, 1])
@example("ab  cd", [1], [3, 1])
def test_wherever_it_is_cut_the_answer_is_the_same(
    says: str, sizes: list[int], cuts: list[int]
) -> None:
    told = play(model(says, sizes, cuts, "repeats"), Allowed(resume=len(cuts)))
    assert told.error is None
    assert told.message.text == says
    assert not any(prefill.endswith(tuple(DROPPED)) for prefill in told.prefills)
    assert [seam.at for seam in told.message.seams] == list(map(len, told.prefills))
    alone = told_alone(told)
    assert (alone.content, alone.stop_reason) == (told.message.content, "end_turn")
    kinds = [event.type for event in told.events]
    for once in ("message_start", "content_block_start", "content_block_stop", "message_stop"):
        assert kinds.count(once) == 1


@pytest.mark.slow
@given(TEXT, SIZES, st.lists(st.integers(0, 30), max_size=4))
def test_a_server_that_returns_the_rest_alone(says: str, sizes: list[int], cuts: list[int]) -> None:
    """What cannot be told from a new beginning is an error, never another text."""
    told = play(model(says, sizes, cuts, "rest"), Allowed(resume=len(cuts)), endpoint=place("rest"))
    if told.error is None:
        assert told.message.text == says
    else:
        assert "not resumed: the server started" in told.error.hint
        assert says.startswith(told.message.text)


@pytest.mark.slow
@given(TEXT, SIZES, st.lists(st.integers(0, 30), max_size=3), st.integers(0, 39), st.integers(1, 6))
@example("000", [1], [1], 0, 2)  # the server finds the second one
@example("0\r", [1], [1], 0, 2)
@example("\r0", [1], [1], 0, 2)
def test_a_stop_sequence_is_found_across_every_seam(
    says: str, sizes: list[int], cuts: list[int], at: int, length: int
) -> None:
    at %= len(says)
    stop = says[at : at + length]
    told = play(
        model(says, sizes, cuts, "repeats", stop),
        Allowed(resume=len(cuts)),
        stop_sequences=[stop],
    )
    assert told.error is None
    assert told.message.text == says[: says.index(stop)]
    assert (told.message.stop_reason, told.message.stop_sequence) == ("stop_sequence", stop)
    assert told_alone(told).content == told.message.content


@given(TEXT, st.data())
def test_a_repeated_text_is_taken_off_however_it_is_cut(says: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(says)))
    check = Repeated(says[:at])
    pieces = pieces_of(says, data.draw(SIZES))
    assert "".join(map(check.take, pieces)) + check.end() == says[at:]
    assert check.settled


@given(TEXT, TEXT, SIZES)
def test_what_does_not_repeat_the_text_is_refused(old: str, new: str, sizes: list[int]) -> None:
    assume(not new.startswith(old))
    check = Repeated(old)
    with pytest.raises(NotContinued, match="should have repeated"):
        for piece in pieces_of(new, sizes):
            assert check.take(piece) == ""
        check.end()


@pytest.mark.slow
@given(st.text(min_size=30), SIZES, st.text(max_size=10))
def test_an_answer_that_begins_again_is_refused(old: str, sizes: list[int], more: str) -> None:
    assume(len(old.strip()) > 24)
    check = Rest(old.rstrip())
    with pytest.raises(NotContinued, match="the server started"):
        for piece in pieces_of(old + more, sizes):
            assert check.take(piece) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("The tide turns at", " noon."),
        ("The tide turns", "."),
        ("The ti", "de turns."),
        ("- one\n- two", "\n- three"),
        ("NAS", "A"),
        ("He said:", "Go."),
        ("1, 2, 3", ", 4"),
        ("1, 2, 3", ""),
        ("The", " The"[:1] + "tide"),
    ],
)
def test_a_rest_is_taken_for_one(old: str, new: str) -> None:
    check = Rest(old)
    assert "".join(map(check.take, new)) + check.end() == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("The tide turns at", "The tide turns at noon."),
        ("The tide turns at", "\n\nThe tide turns at noon."),
        ("The tide turns at", "The tide"),
        ("The tide turns at", "Sure, here is more."),
        ("The tide turns,", "Certainly!"),
    ],
)
def test_a_new_answer_is_not_taken_for_a_rest(old: str, new: str) -> None:
    check = Rest(old)
    with pytest.raises(NotContinued):
        for piece in new:
            assert check.take(piece) == ""
        check.end()


def test_endless_white_space_is_not_held_back_for_ever() -> None:
    check = Rest("The tide")
    assert sum(map(len, (check.take(" ") for _ in range(5000)))) == 5000


class Piece(str):
    """A piece of text that may be joined, but not added to the earlier text."""

    __slots__ = ()

    def __radd__(self, other: str) -> str:
        if len(other) > 10:
            raise AssertionError("added to a long text: that is quadratic")
        return other + str(self)


def test_what_is_held_back_is_joined_once() -> None:
    tail = Tail(["ENDING"])
    given = ["a ", *[Piece(" "), Piece("\n")] * 5000, "b"]
    assert "".join(map(tail.add, given)) + tail.rest() == "".join(given)


# The request for the rest


def test_the_rest_is_asked_for_with_the_text_as_the_last_turn() -> None:
    told = play([cut(["The tide", " turns \n"]), whole(["The tide turns at", " noon."])])
    assert told.message.text == "The tide turns at noon."
    assert told.bodies[0]["messages"] == ASK["messages"]
    more = {"role": "assistant", "content": "The tide turns"}
    assert told.bodies[1] == {
        **told.bodies[0],
        "messages": [*ASK["messages"], more],
        "max_tokens": 998,
    }
    first, second = told.sent
    assert (first.pause, first.request.headers) == (0.0, second.request.headers)
    assert 0.3 < second.pause <= 0.5


def test_half_a_character_is_asked_for_again() -> None:
    told = play([cut(["The \ufffd"]), whole(["The 🗼 stands."])])
    assert told.prefills == ["The"]
    assert told.message.text == "The 🗼 stands."


def test_without_any_text_the_request_itself_is_sent_again() -> None:
    told = play([cut(["\n", " "]), whole(["Hello."])])
    assert told.bodies[1] == told.bodies[0]
    assert told.message.text == "Hello."


def test_max_tokens_is_what_is_left() -> None:
    story = [f" {n}" for n in range(100)]
    told = play([cut(story[:30]), whole(["".join(story[:31]), *story[31:]])], max_tokens=60)
    assert told.bodies[1]["max_tokens"] == 30


def test_white_space_that_is_said_again_is_not_taken_off_twice() -> None:
    told = play([cut(["a", " b", "\n", " "]), whole(["a b", "\n c"])], max_tokens=60)
    assert told.bodies[1]["max_tokens"] == 58
    assert told.message.seams[0].estimated_tokens == 4  # they were said, and are paid for


def test_coarse_deltas_are_counted_by_their_bytes() -> None:
    told = play([cut(["x" * 40] * 5), whole(["x" * 240])], max_tokens=60)
    assert told.bodies[1]["max_tokens"] == 10
    assert told.message.seams[0].estimated_tokens == 50


def test_an_answer_that_the_caller_began_is_repeated_whole() -> None:
    turns = [*ASK["messages"], {"role": "assistant", "content": "The tide"}]
    served = [cut(["The tide turns"]), whole(["The tide turns at noon."])]
    told = play(served, messages=turns)
    assert told.prefills == ["The tide turns"]
    assert told.message.text == "The tide turns at noon."


def test_where_the_rest_comes_alone_the_callers_text_goes_before_it() -> None:
    block = {"type": "text", "text": "The tide"}
    turns = [*ASK["messages"], {"role": "assistant", "content": [block]}]
    told = play([cut([" turns"]), whole([" at noon."])], endpoint=place("rest"), messages=turns)
    assert told.bodies[1]["messages"] == [
        *ASK["messages"],
        {"role": "assistant", "content": "The tide turns"},
    ]
    assert told.message.text == " turns at noon."


def test_tokens_are_summed_and_estimates_are_marked() -> None:
    told = play(
        [
            stream([begin(20), *text(["a ", "b ", "c"], stop=False)], broken()),
            stream([begin(23), *text(["a b c d"]), *end(tokens=2)]),
        ]
    )
    assert (told.message.usage.input_tokens, told.message.usage.output_tokens) == (43, 5)
    assert told.message.seams[0].estimated_tokens == 3
    assert told_alone(told).usage == told.message.usage


def test_tokens_that_the_server_counted_are_not_an_estimate() -> None:
    told = play(
        [
            stream([begin(20), *text(["a ", "b ", "c"]), *end("max_tokens", 3)]),
            stream([begin(23), *text(["a b c d"]), *end(tokens=2)]),
        ],
        Allowed(continue_at_max_tokens=1),
    )
    assert (told.message.usage.input_tokens, told.message.usage.output_tokens) == (43, 5)
    assert told.message.seams == (Seam(at=5, why="max_tokens"),)
    assert told.message.stop_reason == "end_turn"


def test_blocks_after_the_text_keep_their_order() -> None:
    call: dict[str, Any] = {"type": "tool_use", "id": "t", "name": "tide", "input": {}}
    more = [
        {"type": "content_block_start", "index": 5, "content_block": call},
        {"type": "content_block_stop", "index": 5},
    ]
    told = play(
        [
            stream([begin(), *text(["I look"], 1, stop=False)], broken()),
            stream([begin(), *text(["I look."], 4), *more, *end("tool_use")]),
        ]
    )
    assert [block.type for block in told.message.content] == ["text", "tool_use"]
    assert [event.index for event in told.events if hasattr(event, "index")] == [1, 1, 1, 1, 2, 2]
    assert told_alone(told).content == told.message.content


def test_a_block_that_was_closed_continues() -> None:
    """The stream broke between the end of the block and that of the message."""
    told = play([stream([begin(), *text(["Hello."])], broken()), whole(["Hello."])])
    assert told.message.text == "Hello."
    assert [event.type for event in told.events].count("content_block_stop") == 1


def test_after_the_stop_reason_nothing_is_missing() -> None:
    """The server said that the answer is over: to ask for more of it would be wrong."""
    told = play([stream([begin(), *text(["Hello."]), end()[0]], broken())])
    assert (told.error, len(told.sent)) == (None, 1)
    assert (told.message.text, told.message.stop_reason) == ("Hello.", "end_turn")


def test_a_limit_that_was_reached_is_not_a_broken_stream() -> None:
    served = [stream([begin(), *text(["a "]), end("max_tokens")[0]], broken()), whole(["a b"])]
    told = play(served, Allowed(continue_at_max_tokens=1))
    assert (told.message.text, [seam.why for seam in told.message.seams]) == ("a b", ["max_tokens"])
    assert told.bodies[1]["max_tokens"] == 1000


def test_the_stream_that_continues_may_break_before_anything_is_new() -> None:
    served = [cut(["The tide"]), cut(["The t"]), whole(["The tide turns."])]
    told = play(served, Allowed(resume=2))
    assert told.prefills == ["The tide", "The tide"]
    assert told.message.text == "The tide turns."


def test_each_stream_has_its_own_retries() -> None:
    refused = Answer(503, {"retry-after-ms": "1"}, b"{}")
    served = [refused, cut(["The tide"]), refused, whole(["The tide turns."])]
    told = play(served, options={"max_retries": 1})
    assert told.message.text == "The tide turns."
    assert len(told.sent) == 4


# What is raised


def raised(told: Told, says: str, partial: str) -> errors.APIError:
    """Return the error, which is the first failure with a sentence, and the text that came."""
    error = told.error
    assert error is not None
    assert error.message == "the connection broke during the stream"
    assert error.hint == (f"not resumed: {says}" if says else "")
    assert told.message.text == partial
    assert told_alone(told).content == told.message.content
    return error


PROMPT = [begin(20), *text(["The tide "], stop=False)]
REFUSED = Answer(
    400, {}, b'{"error": {"type": "invalid_request_error", "message": "no assistant prefill"}}'
)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (REFUSED, "HTTP 400: no assistant prefill"),
        (broken("connect refused"), "connect refused"),
        (
            whole(["Sure: the tide"]),
            "the server should have repeated the 8 characters so far, but differs after 0",
        ),
        (
            whole(["The time"]),
            "the server should have repeated the 8 characters so far, but differs after 6",
        ),
        (
            whole(["The ti"]),
            "the server should have repeated the 8 characters so far, but ended after 6",
        ),
        (
            stream([begin(), *end()]),
            "the server should have repeated the 8 characters so far, but ended after 0",
        ),
        (
            stream(
                [
                    begin(),
                    {
                        "type": "content_block_start",
                        "index": 0,
                        "content_block": {"type": "thinking", "thinking": ""},
                    },
                ]
            ),
            "the server began with a thinking block",
        ),
    ],
    ids=["400", "dead", "else", "differs", "short", "nothing", "thinks"],
)
def test_in_doubt_the_first_failure_is_raised(second: Outcome, says: str) -> None:
    raised(play([stream(PROMPT, broken()), second]), says, "The tide ")


def test_a_prompt_that_did_not_grow_is_raised_where_the_rest_comes_alone() -> None:
    served = [stream(PROMPT, broken()), stream([begin(20), *text([" turns."]), *end()])]
    says = "the server left the text so far out of the prompt: it counted 20 prompt tokens, and 20"
    raised(play(served, endpoint=place("rest")), f"{says} before", "The tide ")


def test_a_text_that_is_repeated_needs_no_count() -> None:
    """Some servers count the cached part of a prompt in another way each time."""
    served = [stream(PROMPT, broken()), stream([begin(5), *text(["The tide turns."]), *end()])]
    assert play(served).message.text == "The tide turns."


@pytest.mark.parametrize("name", ["response_format", "json_schema", "grammar"])
def test_nor_is_what_only_the_server_knows_of(name: str) -> None:
    told = play([cut(["{"])], extra_body={name: {"type": "object"}})
    raised(told, "the output must match a schema", "{")


@pytest.mark.parametrize(
    "begun",
    [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "tool_use", "id": "t", "name": "tide", "input": {}},
        {"type": "text", "text": "Cited.", "citations": [{"type": "x", "cited_text": "y"}]},
    ],
)
def test_more_than_text_is_raised_as_ever(begun: dict[str, Any]) -> None:
    start = {"type": "content_block_start", "index": 1, "content_block": begun}
    told = play([stream([begin(), *text(["Hm "]), start], broken())])
    raised(told, "the answer contains more than text", "Hm " + begun.get("text", ""))
    assert len(told.sent) == 1


def test_a_structured_output_is_raised_as_ever() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    told = play([cut(["{"])], output_config={"format": form})
    raised(told, "the output must match a schema", "{")


def test_what_a_retry_would_not_help_is_raised_as_ever() -> None:
    error = broken()
    error.permanent = True
    told = play([stream(PROMPT, error)])
    assert (told.error, error.hint, len(told.sent)) == (error, "", 1)


def test_as_often_as_is_allowed() -> None:
    told = play([cut(["The"]), cut(["The tide"])])
    raised(told, "resume=1 is used up", "The tide")
    assert told.message.seams[0].error == "the connection broke during the stream"


def test_not_beyond_max_tokens() -> None:
    told = play([cut(["The", " tide"])], max_tokens=2)
    raised(told, "max_tokens is used up, by the estimated count", "The tide")


def test_not_beyond_the_deadline() -> None:
    told = play([cut(["The", " tide"])], options={"deadline": 0.2})
    raised(told, "the deadline leaves no time for it", "The tide")


def test_not_after_a_wait_that_is_too_long() -> None:
    error = errors.RateLimitError("later", status_code=429, retry_after=90.0, in_stream=True)
    told = play([stream(PROMPT, error)])
    assert told.error is error
    assert error.hint == "not resumed: the wait is above max_retry_wait, 60 s"


def test_without_leave_nothing_is_said_of_it() -> None:
    told = play([cut(["The", " tide"])], Allowed(continue_at_max_tokens=1))
    raised(told, "", "The tide")


LIMIT = [begin(20), *text(["The tide "]), *end("max_tokens", 3)]


def test_a_continuation_that_is_refused_is_an_error_with_what_came() -> None:
    told = play([stream(LIMIT), REFUSED], Allowed(continue_at_max_tokens=1))
    assert isinstance(told.error, errors.BadRequestError)
    assert told.error.hint == "the answer reached max_tokens and could not be continued"
    assert (told.message.text, told.message.stop_reason) == ("The tide ", "max_tokens")


def test_a_continuation_of_something_else_is_an_error_with_what_came() -> None:
    told = play([stream(LIMIT), whole(["Else."])], Allowed(continue_at_max_tokens=1))
    assert isinstance(told.error, errors.StreamInterruptedError)
    assert told.error.message == (
        "the answer reached max_tokens and could not be continued: the server should have "
        "repeated the 8 characters so far, but differs after 0"
    )
    assert (told.message.text, told.message.stop_reason) == ("The tide ", "max_tokens")
    assert told.message.usage.input_tokens == 20


def test_more_than_text_is_not_continued_at_max_tokens() -> None:
    """Nor is that an error: the message says that it was cut."""
    call = {"type": "tool_use", "id": "t", "name": "tide", "input": {}}
    start = {"type": "content_block_start", "index": 1, "content_block": call}
    served = stream([begin(), *text(["Hm"]), start, *end("max_tokens")])
    told = play([served], Allowed(continue_at_max_tokens=1))
    assert (told.error, told.message.stop_reason) == (None, "max_tokens")


def test_the_whole_of_it_stays_below_max_response_bytes() -> None:
    served = [cut(["x" * 600]), whole(["x" * 1100])]
    told = play(served, options={"max_response_bytes": 1000})
    assert told.error is not None
    assert told.error.message == "the message has more than 1000 bytes (max_response_bytes)"


# What is allowed


@pytest.mark.parametrize("name", ["resume", "continue_at_max_tokens"])
@pytest.mark.parametrize("value", [-1, True, 1.0, "1", None])
def test_what_is_not_a_count_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name}: must be a whole number, at least 0"):
        allowed(**{"resume": 0, "continue_at_max_tokens": 0, name: value}, endpoint=place())


@pytest.mark.parametrize("name", ["resume", "continue_at_max_tokens"])
def test_a_server_that_is_not_known_to_continue_is_refused(name: str) -> None:
    counts = {"resume": 0, "continue_at_max_tokens": 0, name: 1}
    for unknown in (endpoints.llm_v7(), endpoints.gateway("http://h.example")):
        with pytest.raises(InvalidRequestError, match=f"{name}: this server is not known to"):
            allowed(**counts, endpoint=unknown)
        assert allowed(0, 0, unknown) is None
    for known in (endpoints.gguf("d"), endpoints.llama_server("http://h.example")):
        assert known.continues_prefill == "repeats"
        assert allowed(**counts, endpoint=known)
    theirs = replace(endpoints.gateway("http://h.example"), continues_prefill="rest")
    assert allowed(**counts, endpoint=theirs)
