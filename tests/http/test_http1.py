"""Drive HTTP/1.1 directly, bytes in and bytes out; h11 says what a body should have been."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import h11
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelslab_llm._http.http1 import MOST_LINE, Http1

HEADERS = [(b"Host", b"h.example"), (b"Content-Length", b"2")]


def asked(method: bytes = b"POST") -> Http1:
    http = Http1()
    http.ask(method, b"/v1", HEADERS if method == b"POST" else HEADERS[:1])
    if method == b"POST":
        http.ask_more(b"{}")
    http.ask_no_more()
    return http


def heard(answer: bytes, cuts: list[int], method: bytes = b"POST") -> tuple[Http1, bytes]:
    """Feed an answer in pieces; return what is known then, and the body."""
    http, body = asked(method), b""
    ends = sorted({cut % (len(answer) + 1) for cut in cuts} | {0, len(answer)})
    for start, end in pairwise(ends):
        piece = answer[start:end]
        if http.head is None:
            if http.hear(piece) is not None:
                body += http.begin()
        elif http.state == "answered":
            body += http.read(piece)
        else:
            http._rest += piece  # came when nobody read any more
    return http, body


def by_h11(answer: bytes, method: bytes = b"POST") -> tuple[bytes, bytes]:
    """Return the body as h11 reads it, and what is left after it."""
    oracle = h11.Connection(h11.CLIENT)
    request: Any = HEADERS if method == b"POST" else HEADERS[:1]
    oracle.send(h11.Request(method=method, target=b"/v1", headers=request))
    if method == b"POST":
        oracle.send(h11.Data(data=b"{}"))
    oracle.send(h11.EndOfMessage())
    oracle.receive_data(answer)
    body = b""
    while True:
        event = oracle.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body, bytes(oracle.trailing_data[0])
        assert event is not h11.NEED_DATA


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw whole answers, in either framing, perhaps with something after them."""
    body = draw(st.binary(max_size=300))
    early = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    head = b"HTTP/1.1 200 OK\r\nx-a: 1\r\n"
    if draw(st.booleans()):
        whole = head + b"content-length: %d\r\n\r\n" % len(body) + body
    else:
        whole = head + b"Transfer-Encoding: chunked\r\n\r\n"
        while body:
            size = draw(st.integers(1, len(body)))
            extension = draw(st.sampled_from([b"", b";a=b", b" ", b";x"]))
            number = b"%X" % size if draw(st.booleans()) else b"%x" % size
            whole += number + extension + b"\r\n" + body[:size] + b"\r\n"
            body = body[size:]
        trailers = draw(st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc: d\r\n"]))
        whole += b"0\r\n" + trailers + b"\r\n"
    return early + whole


@pytest.mark.slow
@given(answers(), st.binary(max_size=20), st.lists(st.integers(0, 1000), max_size=12))
def test_any_answer_cut_anywhere_is_what_h11_reads(
    answer: bytes, surplus: bytes, cuts: list[int]
) -> None:
    http, body = heard(answer + surplus, cuts)
    assert (body, http.left_over) == by_h11(answer + surplus)
    assert http.state == "done"
    assert http.is_clean == (surplus == b"")


@pytest.mark.slow
@given(answers(), st.lists(st.integers(0, 1000), max_size=6), st.integers(0, 10_000))
def test_an_answer_that_breaks_off_is_never_clean(answer: bytes, cuts: list[int], end: int) -> None:
    part = answer[: end % len(answer)]
    http, _ = heard(part, cuts)
    assert not http.is_clean
    if http.head is None:
        with pytest.raises(httpcore.RemoteProtocolError, match="without sending a response"):
            http.hear(b"")
    else:
        with pytest.raises(httpcore.RemoteProtocolError, match="without sending complete"):
            http.end()
    assert not http.is_clean


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=6))
def test_a_body_that_ends_with_the_connection(body: bytes, cuts: list[int]) -> None:
    http, came = heard(b"HTTP/1.1 200 OK\r\n\r\n" + body, cuts)
    assert (came, http.state) == (body, "answered")
    http.end()
    assert http.state == "done"
    assert not http.is_clean


@pytest.mark.slow
@given(st.binary(max_size=60), st.lists(st.integers(0, 1000), max_size=6))
def test_whatever_comes_as_chunks_is_read_as_h11_does_or_refused(
    chunks: bytes, cuts: list[int]
) -> None:
    """Nothing that h11 refuses passes, and what passes is the same."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    try:
        http, body = heard(answer, cuts)
    except httpcore.RemoteProtocolError:
        return
    if http.state == "done":
        assert (body, http.left_over) == by_h11(answer)


BAD_CHUNKS = [
    b"x\r\n",
    b"\r\n",
    b"-1\r\n",
    b"5\nhello\n",
    b"3\r\nabcd\r\n",
    b"3\r\nabc\n\n",
    b"3\r\nabcXY",
    b"0x3\r\nabc\r\n",
    b"3 ;\x00\n\r\n",
    b"00000000000000000\r\n",
    b"1;" + b"x" * (MOST_LINE + 10),
    b"0\r\n" + b"x" * (MOST_LINE + 10),
    b"0\r\n" + b"x: y\r\n" * MOST_LINE,
]


@pytest.mark.slow
@pytest.mark.parametrize("chunks", BAD_CHUNKS, ids=range(len(BAD_CHUNKS)))
def test_malformed_chunks_are_refused(chunks: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    # A long one is searched again with each piece, which by single bytes would take seconds.
    for step in (1 if len(chunks) < MOST_LINE else 100, 7, len(chunks)):
        http, _ = heard(answer, [])
        with pytest.raises(httpcore.RemoteProtocolError):
            for at in range(0, len(chunks), step):
                http.read(chunks[at : at + step])
            http.begin()  # what is wrong after a piece is said in place of the next one
        assert http.state == "broken"
        assert not http.is_clean


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Foo, CLOSE\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nConnection: keep-alive\r\n\r\n", False),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            False,
        ),
    ],
)
def test_who_keeps_the_connection(head: bytes, keeps: bool) -> None:
    http, body = heard(head, [])
    assert (http.state, body, http.is_clean) == ("done", b"", keeps)


def test_an_answer_before_the_whole_request_ends_the_connection() -> None:
    http = Http1()
    http.ask(b"POST", b"/v1", HEADERS)
    http.hear(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    assert http.state == "done"
    assert not http.is_clean


def test_one_after_the_other() -> None:
    http = asked()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    assert http.hear(answer + b"ab") is not None
    assert http.begin() == b"ab"
    assert http.is_clean
    http.take_up()
    assert not http.is_clean  # whatever breaks off here leaves it of no use
    http.begin_anew()
    sent = http.ask(b"POST", b"/v2", HEADERS) + http.ask_more(b"{}") + http.ask_no_more()
    assert sent == b"POST /v2 HTTP/1.1\r\nHost: h.example\r\nContent-Length: 2\r\n\r\n{}"
    assert not http.heard
    http.hear(answer[:10])
    assert http.heard


def test_a_head_of_no_use() -> None:
    for head in (
        b"220 mail.example.com ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    ):
        http = asked()
        with pytest.raises(httpcore.RemoteProtocolError):
            http.hear(head)
        assert not http.is_clean


def test_what_a_request_may_not_hold() -> None:
    for headers in ([], [(b"Host", b"a"), (b"x", b"a\r\nb: c")], [(b"Host", b"a"), (b"x y", b"")]):
        http = Http1()
        with pytest.raises(httpcore.LocalProtocolError):
            http.ask(b"POST", b"/v1", headers)
        assert http.state == "broken"
    http = Http1()
    http.ask(b"POST", b"/v1", HEADERS)
    with pytest.raises(httpcore.LocalProtocolError):
        http.ask_more(b"more than two")
    with pytest.raises(RuntimeError, match="broken"):
        http.ask(b"POST", b"/v1", HEADERS)


def test_headers_by_name() -> None:
    head = b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\nX-B: \xc3\xa9\r\nX-C: \xe9\r\n"
    http = asked(b"HEAD")
    found = http.hear(head + b"content-length: 5\r\n\r\n")
    assert found is not None
    assert found.by_name() == {"x-a": "1, 2", "x-b": "é", "x-c": "é", "content-length": "5"}
    assert (found.status, found.reason, found.http_version) == (200, b"Fine", b"HTTP/1.1")
    assert found.headers[0] == (b"X-A", b"1")
    assert http.is_clean  # the answer to HEAD has no body
