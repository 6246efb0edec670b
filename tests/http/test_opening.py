"""Drive the opening of a connection directly: proxies, SOCKS and TLS, without a socket."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpcore
import httpx
import pytest
from certificates import Authority

from modelslab_llm._http.opening import Proxies, Proxy, Route, opening
from modelslab_llm._http.tls import Layers

HTTP_PROXY = Proxy.of("http://127.0.0.1:3128")


def no_context() -> ssl.SSLContext:
    raise AssertionError("no certificates are needed")


def talk(route: Route, *said: bytes, step: int = 0) -> list[bytes]:
    """Return what is sent to a proxy that says this, each once something was sent."""
    flow = opening(route, Layers(), no_context)
    answers = list(said)
    sent: list[bytes] = []
    try:
        words = next(flow)
        while True:
            if words is None:
                answer = answers.pop(0) if answers else b""
                if step and len(answer) > step:
                    answers.insert(0, answer[step:])
                    answer = answer[:step]
                words = flow.send(answer)
            else:
                sent.append(words)
                words = next(flow)
    except StopIteration:
        assert answers == []
        return sent


def socks(auth: str = "", host: str = "h.example") -> Route:
    return Route("http", host, 80, Proxy.of(f"socks5://{auth}127.0.0.1:1080"))


DONE = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"


@pytest.mark.parametrize("step", [0, 1, 3])
def test_socks(step: int) -> None:
    sent = talk(socks(), b"\x05\x00", DONE, step=step)
    assert sent == [b"\x05\x01\x00", b"\x05\x01\x00\x03\x09h.example\x00\x50"]
    sent = talk(socks(host="10.0.0.1"), b"\x05\x00", DONE, step=step)
    assert sent[1] == b"\x05\x01\x00\x01\x0a\x00\x00\x01\x00\x50"
    by_name = b"\x05\x00\x00\x03\x02ab\x00\x50"
    sent = talk(socks(host="::1"), b"\x05\x00", by_name, step=step)
    assert sent[1] == b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50"


def test_socks_with_a_login() -> None:
    sent = talk(socks("me:secret@"), b"\x05\x02", b"\x01\x00", DONE)
    assert sent[:2] == [b"\x05\x01\x02", b"\x01\x02me\x06secret"]


@pytest.mark.parametrize(
    ("auth", "said", "words"),
    [
        ("", [b"\x05\xff"], "kind of authentication"),
        ("", [b"HT"], "does not speak SOCKS5"),
        ("", [b""], "closed the connection"),
        ("", [b"\x05\x00", b"\x05\x05\x00\x01"], "refused"),
        ("", [b"\x05\x00", b"\x05\x63\x00\x01"], "code 99"),
        ("", [b"\x05\x00", DONE + b"HTTP"], "sent unexpected data"),
        ("me:wrong@", [b"\x05\x02", b"\x01\x01"], "rejected the login"),
        ("me:secret@", [b"\x05\x00"], "kind of authentication"),
    ],
)
def test_socks_that_fails(auth: str, said: list[bytes], words: str) -> None:
    with pytest.raises(httpcore.ProxyError, match=words):
        talk(socks(auth), *said)


def test_a_name_too_long_for_socks() -> None:
    with pytest.raises(httpcore.ProxyError, match="too long"):
        talk(socks(host="x" * 300), b"\x05\x00")


TUNNEL = Route("https", "h.example", 443, HTTP_PROXY)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno", "502 Bad Gateway"),
    ],
)
def test_a_proxy_that_refuses_to_connect(said: bytes, words: str, step: int) -> None:
    with pytest.raises(httpcore.ProxyError, match=words):
        talk(TUNNEL, said, step=step)


def test_a_proxy_that_says_too_much() -> None:
    with pytest.raises(httpcore.ProxyError, match="sent unexpected data"):
        talk(TUNNEL, b"HTTP/1.1 200 OK\r\n\r\nx")


def test_what_a_proxy_is_told() -> None:
    proxy = Proxy.of(httpx.Proxy("http://me:secret@127.0.0.1:3128", headers={"x-team": "rivers"}))
    assert "secret" not in repr(proxy)
    flow = opening(Route("https", "::1", 8443, proxy), Layers(), no_context)
    told = next(flow)
    assert told is not None
    lines = told.split(b"\r\n")
    assert lines[0] == b"CONNECT [::1]:8443 HTTP/1.1"
    assert b"Host: [::1]:8443" in lines
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in lines
    assert b"x-team: rivers" in [line.lower() for line in lines]
    flow.close()
    target, headers = Route("http", "h.example", 8080, proxy).asked(b"/v1?a", [(b"host", b"h")])
    assert target == b"http://h.example:8080/v1?a"
    assert [name.lower() for name, _ in headers] == [b"proxy-authorization", b"x-team", b"host"]


# Which proxy


ENVIRONMENT = {"HTTP_PROXY": "10.0.0.1:1", "HTTPS_PROXY": "http://10.0.0.2:2"}


@pytest.mark.parametrize(
    ("except_for", "place", "proxied"),
    [
        ("", ("http", "h.example", 80), "10.0.0.1"),
        ("", ("https", "h.example", 443), "10.0.0.2"),
        ("h.example", ("http", "h.example", 80), None),
        ("H.Example", ("http", "h.example", 80), None),
        (".example", ("http", "h.example", 80), None),
        ("*.example", ("http", "h.example", 80), None),
        ("example", ("http", "h.example", 80), None),
        ("example", ("http", "hexample", 80), "10.0.0.1"),
        ("other, h.example", ("http", "h.example", 80), None),
        ("other,", ("http", "h.example", 80), "10.0.0.1"),
        ("h.example:8080", ("http", "h.example", 80), "10.0.0.1"),
        ("h.example:8080", ("http", "h.example", 8080), None),
        ("https://h.example", ("http", "h.example", 80), "10.0.0.1"),
        ("https://h.example", ("https", "h.example", 443), None),
        ("*", ("https", "h.example", 443), None),
        ("127.0.0.1", ("http", "127.0.0.1", 80), None),
        ("[::1]", ("http", "::1", 80), None),
        ("::1", ("http", "::1", 80), None),
    ],
)
def test_the_proxies_of_the_environment(
    except_for: str,
    place: tuple[str, str, int],
    proxied: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**ENVIRONMENT, "NO_PROXY": except_for}.items():
        monkeypatch.setenv(name, value)
    found = Proxies(None, trust_env=True).before(*place)
    assert (found and found.host) == proxied
    assert Proxies(None, trust_env=False).before(*place) is None
    given = Proxies("http://10.0.0.3:3", trust_env=True).before(*place)
    assert given is not None
    assert given.host == "10.0.0.3"


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


class Server:
    """The other side of one layer of TLS."""

    def __init__(self, authority: Authority) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = authority.server.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def hear(self, data: bytes) -> bytes:
        """Take what the client says; return what is said to it."""
        self.incoming.write(data)
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def said(self) -> bytes:
        try:
            return self.tls.read(65536)
        except ssl.SSLWantReadError:
            return b""

    def say(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()


def shake(flow: Any, hear: Callable[[bytes], bytes], step: int) -> bytes:
    """Carry a handshake, in pieces of so many bytes; return what is said after it."""
    back = b""
    try:
        words = next(flow)
        while True:
            if words is None:
                assert back, "nobody says anything"
                words, back = flow.send(back[:step]), back[step:]
            else:
                back += hear(words)
                words = next(flow)
    except StopIteration:
        return back


@pytest.mark.parametrize("step", [1, 100, 100_000])
def test_one_layer_of_tls(authority: Authority, step: int) -> None:
    server, layers = Server(authority), Layers()
    back = shake(layers.add(authority.client, "127.0.0.1"), server.hear, step)
    back += server.hear(layers.encode(b"hello"))  # tickets for a next session, which say nothing
    assert server.said() == b"hello"
    sealed = back + server.say(b"one") + server.say(b"two")
    pieces = [layers.decode(sealed[at : at + step]) for at in range(0, len(sealed), step)]
    assert b"".join(pieces) == b"onetwo"
    assert not layers.has_ended
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    assert layers.decode(server.outgoing.read()) == b""
    assert layers.has_ended


def test_a_server_that_leaves_without_goodbye_has_ended(authority: Authority) -> None:
    server, layers = Server(authority), Layers()
    shake(layers.add(authority.client, "127.0.0.1"), server.hear, 100_000)
    assert layers.decode(b"") == b""
    assert layers.has_ended


def test_garbage_inside_tls_is_an_error(authority: Authority) -> None:
    server, layers = Server(authority), Layers()
    shake(layers.add(authority.client, "127.0.0.1"), server.hear, 100_000)
    with pytest.raises(httpcore.ReadError):
        layers.decode(b"\x17\x03\x03\x00\x20" + bytes(32))


@pytest.mark.parametrize("step", [7, 100_000])
def test_tls_inside_tls(authority: Authority, step: int) -> None:
    """As behind a proxy that is itself reached over TLS."""
    outer, inner, layers = Server(authority), Server(authority), Layers()
    back = shake(layers.add(authority.client, "127.0.0.1"), outer.hear, step)
    assert layers.decode(back) == b""

    def through(words: bytes) -> bytes:
        back = outer.hear(words)
        answer = inner.hear(outer.said())
        return back + (outer.say(answer) if answer else b"")

    back = shake(layers.add(authority.client, "127.0.0.1"), through, step)
    back += outer.hear(layers.encode(b"hello"))
    tickets = inner.hear(outer.said())
    assert inner.said() == b"hello"
    back += outer.say(tickets + inner.say(b"hi"))
    assert layers.decode(back) == b"hi"
    assert layers.innermost is not None
    assert layers.innermost.ssl_object.server_hostname == "127.0.0.1"


def test_a_server_that_speaks_before_it_is_asked(authority: Authority) -> None:
    """What it says would be taken for the answer to the first request."""
    server, layers = Server(authority), Layers()
    client = ssl.create_default_context(cafile=str(authority.file))
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # where the server is the last in the handshake

    def hear(words: bytes) -> bytes:
        back = server.hear(words)
        with suppress(ssl.SSLWantReadError):
            back += server.say(b"HTTP/1.1 200 OK\r\n\r\n")
        return back

    with pytest.raises(httpcore.RemoteProtocolError, match="before the request"):
        shake(layers.add(client, "127.0.0.1"), hear, 100_000)


def test_a_certificate_that_nobody_trusts(authority: Authority) -> None:
    server, layers = Server(authority), Layers()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(layers.add(ssl.create_default_context(), "127.0.0.1"), server.hear, 100_000)
