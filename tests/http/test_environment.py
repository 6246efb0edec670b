"""Proxies and certificates as an environment really has them: the right ones, and the wrong ones.

Over real sockets. What is wrong is named by its own name, before anything is sent, once.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority
from raw_server import ASK, REPLY, RawServer, reply
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIConnectionError,
    AsyncModelsLab,
    BadRequestError,
    ConfigurationError,
    DefaultAsyncHttpxClient,
    DefaultHttpxClient,
    ModelsLab,
    Observer,
)

KEY = "key-that-nobody-may-see"


def connect(variant: Sync | Async, url: str, **options: Any) -> closing[SyncClient | AsyncClient]:
    return closing(variant.client(base_url=url, api_key=KEY, **options))


@contextmanager
def http_of(variant: Sync | Async, library: str, **settings: Any) -> Iterator[Any]:
    """Give an HTTP client, the package's kind or a plain one of httpx's."""
    if isinstance(variant, Sync):
        with (DefaultHttpxClient if library == "ours" else httpx.Client)(**settings) as http:
            yield http
    else:
        made = (DefaultAsyncHttpxClient if library == "ours" else httpx.AsyncClient)(**settings)
        yield made
        variant.portal.call(made.aclose)


@pytest.fixture(autouse=True)
def _no_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


each_library = pytest.mark.parametrize("library", ["ours", "httpx"])

# Proxies

NOT_PROXIED = [
    "127.0.0.1",
    "127.0.0.0/8",
    "fe80::/10,127.0.0.1",
    "[::1],127.0.0.1",
    "::1, [fe80::]/10 ,\t127.0.0.0/8",
    "[::1]:8080 127.0.0.1",
    "::ffff/999, ::1/129, [, ], [::1, 300.1.2.3, 10.0.0.0/99, a:b:c, http://, :80, ,, 127.0.0.1",
    "*.corp,.INTERNAL,LOCALHOST,http://127.0.0.1",
    "127.0.0.1:{port}",
    "*",
]
PROXIED = [
    "",
    "10.0.0.0/8",
    "::/0",
    "127.0.0.1:1",
    "https://127.0.0.1",
    "27.0.0.1",
    "1",
    "/8",
    "[]",
]


@pytest.mark.parametrize("no_proxy", [*NOT_PROXIED, *PROXIED])
def test_what_needs_no_proxy(
    variant: Sync | Async, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Container tools put ranges and addresses of IPv6 in; no entry keeps a client from working."""
    with RawServer(REPLY) as server, RawServer(REPLY) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=server.port))
        with connect(variant, server.url) as client:
            assert client.create(**ASK).text == "Tamar"
        asked = (server.requests, proxy.requests)
        assert asked == ((0, 1) if no_proxy in PROXIED else (1, 0))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@pytest.mark.parametrize("no_proxy", ["::1", "[::1]", "[::1]:{port}", "::/64", "0:0::1"])
def test_an_address_of_ipv6_needs_no_proxy(
    variant: Sync | Async, no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RawServer(REPLY) as proxy:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("no loopback of IPv6 here")
        port = listener.getsockname()[1]

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(REPLY)
                sock.recv(65536)  # until the client leaves

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy.format(port=port))
        try:
            with connect(variant, f"http://[::1]:{port}") as client:
                assert client.create(**ASK).text == "Tamar"
        finally:
            listener.close()
            thread.join(5)
        assert proxy.requests == 0


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "value",
    [
        f"ftp://someone:{KEY}@h.example",
        f"http://someone:{KEY}#1@h.example:80",
        f"socks4://{KEY}@h.example",
        f"http://{KEY}@:80",
        "http://[::1",
        "http://h.example:port",
        "h.example:99999",
        "http://",
    ],
)
@pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
def test_a_bad_proxy_is_named_by_its_own_variable(
    kind: Any, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "fe80::/10")
    monkeypatch.setenv("HTTP_PROXY", "http://h.example:3128")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        kind(api_key="k", base_url="http://127.0.0.1:1")
    text = str(caught.value)
    assert text.startswith(f"{variable} ")
    assert text.upper().count("_PROXY") == 1
    assert KEY not in text
    assert caught.value.__cause__ is None
    assert text.isascii()


@pytest.mark.parametrize("value", ["nonsense://h", "http://h:x", "http://", 5])
def test_a_bad_proxy_of_the_caller_is_named(value: Any) -> None:
    for kind in (DefaultHttpxClient, DefaultAsyncHttpxClient):
        with pytest.raises(ConfigurationError, match=r"^proxy "):
            kind(proxy=value)


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_proxy_is_none(
    variant: Sync | Async, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with RawServer(REPLY) as server, connect(variant, server.url) as client:
        assert client.create(**ASK).text == "Tamar"


# Certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


def places(folder: Path) -> dict[str, str]:
    """Make what may stand where certificates should be."""
    (folder / "empty.pem").write_bytes(b"")
    (folder / "text.pem").write_text("not a certificate")
    (folder / "folder").mkdir()
    (folder / "names").mkdir()
    (folder / "names" / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    return {
        "missing": str(folder / "missing.pem"),
        "empty": str(folder / "empty.pem"),
        "text": str(folder / "text.pem"),
        "folder": str(folder / "folder"),
        "names": str(folder / "names"),
    }


class Ends(Observer):
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def on_end(self, call: Any, end: Any) -> None:
        self.outcomes.append(end.outcome)


def refused(client: SyncClient | AsyncClient, port: int) -> str:
    """Return why a call is refused before anything is sent; `port` is where it would go."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.01)
        with pytest.raises(ConfigurationError) as caught:
            client.create(**ASK)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert not isinstance(caught.value, APIConnectionError)
    assert str(caught.value).isascii()
    return str(caught.value)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "verify"])
@pytest.mark.parametrize("what", ["missing", "empty", "text", "folder", "names"])
@pytest.mark.filterwarnings("ignore:.*verify=<str>.*:DeprecationWarning")
def test_bad_certificates_are_a_configuration_error(
    variant: Sync | Async,
    variable: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, seen = places(tmp_path)[what], Ends()
    options: dict[str, Any] = {"observers": [seen]}
    with http_of(variant, "ours", **({"verify": place} if variable == "verify" else {})) as http:
        if variable == "verify":
            options["http_client"] = http
        else:
            monkeypatch.setenv(variable, place)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with connect(variant, f"https://127.0.0.1:{port}", **options) as client:
            text = refused(client, port)
    assert text.startswith(f"{variable}: ")
    assert place in text
    assert seen.outcomes == ["failed"]


def test_a_key_log_that_cannot_be_written_is_named(
    variant: Sync | Async, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys.log"))
    with RawServer(REPLY, tls=authority.server) as server:
        with connect(variant, server.url) as client:
            with pytest.raises(ConfigurationError, match=r"^SSLKEYLOGFILE: cannot write"):
                client.create(**ASK)
        assert server.connections == []
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
        with connect(variant, server.url) as client:
            assert client.create(**ASK).text == "Tamar"
        assert (tmp_path / "keys.log").read_text()


def test_what_is_wrong_with_certificates_does_not_matter_to_plain_http(
    variant: Sync | Async, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys.log"))
    with RawServer(REPLY) as server, connect(variant, server.url) as client:
        assert client.create(**ASK).text == "Tamar"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:DeprecationWarning")
def test_a_bad_client_certificate_is_named(variant: Sync | Async, tmp_path: Path) -> None:
    with http_of(variant, "ours", cert=str(tmp_path / "missing.pem")) as http:
        with connect(variant, "https://127.0.0.1:1", http_client=http) as client:
            with pytest.raises(ConfigurationError, match=r"^cert: "):
                client.create(**ASK)


def test_what_cannot_be_verify_is_named(variant: Sync | Async) -> None:
    with http_of(variant, "ours", verify=5) as http:
        with connect(variant, "https://127.0.0.1:1", http_client=http) as client:
            with pytest.raises(ConfigurationError, match=r"^verify must be"):
                client.create(**ASK)


@pytest.mark.filterwarnings("ignore:.*is deprecated.*:DeprecationWarning")
def test_a_path_object_is_a_path(variant: Sync | Async, authority: Authority) -> None:
    with RawServer(REPLY, tls=authority.server) as server:
        with http_of(variant, "ours", verify=authority.file) as http:
            with connect(variant, server.url, http_client=http) as client:
                assert client.create(**ASK).text == "Tamar"


# TLS where there should be none, and the other way round


def wanting(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return the context of a server that requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.file, authority.file.parent / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.slow
@each_library
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate(
    variant: Sync | Async, authority: Authority, version: ssl.TLSVersion, library: str
) -> None:
    """In TLS 1.3 the server says so only once the handshake is over, with the request on its way.

    asyncio's and trio's own TLS, which httpx uses, may then see no more than a reset.
    """
    with RawServer(REPLY, tls=wanting(authority, version)) as server:
        with http_of(variant, library, verify=authority.client) as http:
            with connect(variant, server.url, http_client=http) as client:
                with pytest.raises(APIConnectionError) as caught:
                    client.create(**ASK)
        error, text = caught.value, str(caught.value)
        late = version is ssl.TLSVersion.TLSv1_3
        if late and library == "httpx" and variant.name != "sync" and not error.permanent:
            return
        assert ("requires a client certificate" if late else "refuses the TLS handshake") in text
        assert "load_cert_chain" in text
        assert error.permanent
        if not (late and library == "httpx" and variant.name != "sync"):
            assert (error.attempts, len(server.connections)) == (1, 1)
        assert server.requests == 0

        trusted = ssl.create_default_context(cafile=str(authority.file))
        trusted.load_cert_chain(authority.file, authority.file.parent / "key.pem")
        with http_of(variant, library, verify=trusted) as http:
            with connect(variant, server.url, http_client=http) as client:
                assert client.create(**ASK).text == "Tamar"


class Speaker:
    """A server that reads once, whatever that is, says its words, and hangs up."""

    def __init__(self, words: bytes) -> None:
        self._words = words
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Speaker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock, suppress(OSError):
                if self._is_over:
                    return
                self.connections += 1
                sock.recv(65536)
                sock.sendall(self._words)


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"  # fatal: protocol version


@each_library
def test_plain_http_at_a_tls_port(variant: Sync | Async, library: str) -> None:
    with Speaker(ALERT) as server, http_of(variant, library) as http:
        url = f"http://127.0.0.1:{server.port}"
        with connect(variant, url, http_client=http) as client:
            with pytest.raises(APIConnectionError, match="https:// and not http://") as caught:
                client.create(**ASK)
        assert (caught.value.permanent, caught.value.attempts) == (True, 1)
        assert server.connections == 1


SAID = b"Client sent an HTTP request to an HTTPS server.\n"


@each_library
def test_plain_http_at_a_tls_port_whose_server_says_so(variant: Sync | Async, library: str) -> None:
    """As servers in Go do; those of nginx and Apache differ in the words."""
    said = reply(400, SAID, {"content-type": "text/plain", "connection": "close"})
    with Speaker(said) as server, http_of(variant, library) as http:
        url = f"http://127.0.0.1:{server.port}"
        with connect(variant, url, http_client=http) as client:
            with pytest.raises(BadRequestError, match="HTTP request to an HTTPS server"):
                client.create(**ASK)
        assert server.connections == 1


@pytest.mark.usefixtures("short_pauses")
@each_library
def test_a_server_that_hangs_up_without_a_word_may_speak_tls(
    variant: Sync | Async, authority: Authority, library: str
) -> None:
    """Most TLS libraries send nothing at all, as a server that breaks down does: so it is retried,
    and the error says what may be the matter.
    """
    with RawServer(REPLY, tls=authority.server) as server, http_of(variant, library) as http:
        url = server.url.replace("https", "http")
        with connect(variant, url, http_client=http, max_retries=1) as client:
            with pytest.raises(APIConnectionError, match="use https://") as caught:
                client.create(**ASK)
        assert (caught.value.permanent, caught.value.attempts) == (False, 2)


@each_library
@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ESMTP\r\n"])
def test_tls_at_a_plain_port(variant: Sync | Async, words: bytes, library: str) -> None:
    with Speaker(words) as server, http_of(variant, library) as http:
        url = f"https://127.0.0.1:{server.port}"
        with connect(variant, url, http_client=http) as client:
            with pytest.raises(APIConnectionError, match="http:// and not https://") as caught:
                client.create(**ASK)
        assert (caught.value.permanent, caught.value.attempts) == (True, 1)
        assert server.connections == 1
