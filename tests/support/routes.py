"""The ways to a server: straight, over TLS, and through each kind of proxy, all on 127.0.0.1.

Holds no expectations; a test takes a route and does not ask which one it got.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

from certificates import Authority
from raw_server import RawServer, Script

ROUTES = ("straight", "tls", "proxy", "tunnel", "socks")


class Way(NamedTuple):
    """A server, and what a client needs to reach it."""

    server: RawServer
    url: str
    settings: dict[str, Any]
    """Of the HTTP client."""
    settle: Callable[[], None]
    """Wait until everything that the server sent has reached the client."""


class Relay:
    """A proxy that connects, by CONNECT or SOCKS5, and carries bytes."""

    def __init__(self, speaks: str, login: tuple[bytes, bytes] | None = None) -> None:
        self.speaks = speaks
        self.login = login
        self.asked: list[bytes] = []
        """What each client asked for."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._opened: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, name="relay")]
        self._stopping = False
        self._looks = 0  # that found nothing to carry

    def settle(self) -> None:
        """Wait until nothing is on its way."""
        looks = self._looks
        while self._looks < looks + 2:
            time.sleep(0.005)

    @property
    def url(self) -> str:
        scheme = "socks5" if self.speaks == "socks" else "http"
        login = b"%b:%b@" % self.login if self.login else b""
        return f"{scheme}://{login.decode()}127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Relay:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._threads[0].join(5)
        self._listener.close()
        for sock in self._opened:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for sock in self._opened:
            sock.close()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping:
                sock.close()
                return
            self._opened.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="relayed")
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        with suppress(OSError, EOFError):
            port = self._port_by_socks(sock) if self.speaks == "socks" else self._port(sock)
            if port is not None:
                upstream = socket.create_connection(("127.0.0.1", port))
                self._opened.append(upstream)
                for side in (sock, upstream):  # nothing is held back
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(sock, upstream)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def _port(self, sock: socket.socket) -> int:
        head = b""
        while b"\r\n\r\n" not in head:
            head += _some(sock)
        self.asked.append(head)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return int(head.split()[1].rpartition(b":")[2])

    def _port_by_socks(self, sock: socket.socket) -> int | None:
        version, count = _exactly(sock, 2)
        assert version == 5
        ways = _exactly(sock, count)
        if self.login is None:
            sock.sendall(b"\x05\x00")
        else:
            if 2 not in ways:
                sock.sendall(b"\x05\xff")
                return None
            sock.sendall(b"\x05\x02")
            user = _exactly(sock, _exactly(sock, 2)[1])
            password = _exactly(sock, _exactly(sock, 1)[0])
            fits = (user, password) == self.login
            sock.sendall(b"\x01\x00" if fits else b"\x01\x01")
            if not fits:
                return None
        kind = _exactly(sock, 4)[3]
        length = {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0]
        place = _exactly(sock, length)
        self.asked.append(place)
        port = int.from_bytes(_exactly(sock, 2), "big")
        sock.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return port

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        across = {one: other, other: one}
        while True:
            ready = select.select(list(across), [], [], 0.02)[0]
            self._looks += not ready
            for sock in ready:
                data = sock.recv(65536)
                if not data:
                    with suppress(OSError):
                        across[sock].shutdown(socket.SHUT_RDWR)
                    return
                across[sock].sendall(data)


class Severing(Relay):
    """A relay to one server that breaks connections after so many text deltas."""

    def __init__(self, port: int) -> None:
        super().__init__("nothing")
        self._target = port
        self._cuts: list[int] = []
        self._beyond = 0

    def sever(self, *after: int, beyond: int = 0) -> None:
        """Break the next answers, each after so many deltas and so many bytes of what follows."""
        self._cuts, self._beyond = list(after), beyond

    def _port(self, sock: socket.socket) -> int:
        return self._target

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        across = {one: other, other: one}
        left: int | None = None
        asked = False
        while True:
            for sock in select.select(list(across), [], [], 1)[0]:
                data = sock.recv(65536)
                severed = False
                if sock is one:
                    asked = True
                elif asked and data:  # the first of an answer, which a dying connection has none of
                    asked, left = False, self._cuts.pop(0) if self._cuts else None
                if sock is other and left is not None:
                    data, left, severed = _as_far(data, left, self._beyond)
                if data:
                    across[sock].sendall(data)
                if severed or not data:
                    for end in (sock, across[sock]):
                        with suppress(OSError):
                            end.shutdown(socket.SHUT_RDWR)
                    return


def _as_far(data: bytes, deltas: int, beyond: int) -> tuple[bytes, int, bool]:
    """Return what passes of an answer, how many deltas still may, and whether none may any more."""
    at = 0
    while deltas:
        found = data.find(b"text_delta", at)
        if found < 0:
            return data, deltas, False
        at = data.index(b"\n\n", found) + 2
        deltas -= 1
    return data[: at + beyond], 0, True


def _some(sock: socket.socket) -> bytes:
    if not (data := sock.recv(65536)):
        raise EOFError
    return data


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (more := sock.recv(count - len(data))):
            raise EOFError
        data += more
    return data


@contextmanager
def route(name: str, authority: Authority | None, *scripts: Script) -> Iterator[Way]:
    """Open a server that plays scripts, and what stands before it."""
    with ExitStack() as opened:
        secure = name in ("tls", "tunnel")
        if secure:
            assert authority is not None
        tls = authority.server if authority is not None and secure else None
        server = opened.enter_context(RawServer(*scripts, tls=tls))
        settings: dict[str, Any] = {}
        if authority is not None and secure:
            settings["verify"] = authority.client
        url = server.url
        settle: Callable[[], None] = lambda: None  # noqa: E731
        if name == "proxy":  # it is the server itself that is asked, and answers for another
            settings["proxy"], url = server.url, "http://nowhere.invalid"
        elif name in ("tunnel", "socks"):
            relay = opened.enter_context(Relay(name))
            settings["proxy"], settle = relay.url, relay.settle
        yield Way(server, url, settings, settle)
