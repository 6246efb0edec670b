"""A TCP server whose every byte is the test's: real sockets, no HTTP library, no opinion.

    with RawServer([STREAM_HEAD, TEXT, RESET], reply(200, MESSAGE)) as server:
        …                                     # the client talks to server.url
        assert server.requests == 2

The n-th request is played the n-th script, every later one the last. A script is bytes to send,
seconds to wait, a function of the connection, or a list of scripts, so that a fault can stand at
any byte: `[data[:17], RESET]`. After a script that leaves the connection open the next request is
read from it. Leaving the `with` block stops everything, leaves no thread, and raises what a script
raised.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeAlias, Union

Script: TypeAlias = Union[
    bytes, float, "Callable[[Connection], object]", "Sequence[bytes | float | Any]"
]

LIFETIME = 30.0
"""Seconds after which a connection ends whatever its script does: no test hangs on its server."""


class Gone(Exception):
    """The connection ended under a script: the client left, or the server was stopped."""


class Connection:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, number: int, stopping: threading.Event) -> None:
        self.number = number
        """Which connection of the server this is, from 0."""
        self.requests: list[bytes] = []
        """Each request that was read whole, head and body, byte for byte."""
        self.sent = 0
        """Bytes handed to the socket so far."""
        self.left = threading.Event()
        """Set when the client was seen to close the connection, or to reset it."""
        self.sock = sock
        self._stopping = stopping
        self._until = time.monotonic() + LIFETIME
        self._unread = b""

    @property
    def request(self) -> bytes:
        """The request being answered."""
        return self.requests[-1]

    @property
    def body(self) -> Any:
        """The JSON body of the request being answered."""
        return json.loads(self.request.partition(b"\r\n\r\n")[2])

    def play(self, script: Script) -> None:
        """Do what a script says. Raises `Gone` when there is nobody left to do it for."""
        if isinstance(script, bytes):
            self.send(script)
        elif isinstance(script, (int, float)):
            self.wait(script)
        elif callable(script):
            script(self)
        else:
            for step in script:
                self.play(step)

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError:
            self.left.set()
            raise Gone from None
        self.sent += len(data)

    def wait(self, seconds: float) -> None:
        left = self._until - time.monotonic()
        if left <= 0 or self._stopping.wait(min(seconds, left)):
            raise Gone

    def receive(self) -> bytes:
        """Return what comes next; raises `Gone` at the end of what the client sends."""
        self.sock.settimeout(max(0.01, self._until - time.monotonic()))
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            if not self._stopping.is_set():
                self.left.set()
            raise Gone
        return data

    def receive_request(self) -> None:
        """Read one request whole; its body is as long as its content-length says."""
        while b"\r\n\r\n" not in self._unread:
            self._unread += self.receive()
        head = self._unread.partition(b"\r\n\r\n")[0]
        size = len(head) + 4
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            size += int(value) if name.lower() == b"content-length" else 0
        while len(self._unread) < size:
            self._unread += self.receive()
        self.requests.append(self._unread[:size])
        self._unread = self._unread[size:]

    def until_left(self) -> None:
        """Wait for the client to close the connection."""
        while True:
            self.receive()

    def close(self) -> None:
        """End the connection cleanly: what was sent arrives, then the end of it."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Break the connection off: the client gets an RST."""
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


CLOSE = Connection.close
RESET = Connection.reset
SILENCE = Connection.until_left
"""Say nothing more, and wait for the client to close the connection."""


def drip(data: bytes, pause: float = 0.05) -> Script:
    """Send byte by byte."""
    return [step for byte in data for step in (bytes([byte]), pause)]


def again_and_again(data: bytes, pause: float = 0.05) -> Script:
    """Send the same for ever, which is until the client has enough."""

    def repeat(connection: Connection) -> None:
        while True:
            connection.send(data)
            connection.wait(pause)

    return repeat


class RawServer:
    """Play scripts on a port of 127.0.0.1, by default a free one; `tls` makes it https."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.connections: list[Connection] = []
        """Every connection there was, in order."""
        self.peak = 0
        """The most connections that were open at the same time."""
        self.requests = 0
        """How many requests were read whole."""
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open = 0
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._accept, name="raw server")]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        with suppress(OSError):  # closing a listener wakes nobody who waits in accept
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._threads[0].join(5)
        self._listener.close()
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self._threads)
        if exc is None and self._errors:
            raise self._errors[0]

    def heads(self) -> list[bytes]:
        """Return the heads of all requests, by connection."""
        asked = [request for connection in self.connections for request in connection.requests]
        return [request.partition(b"\r\n\r\n")[0] for request in asked]

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping.is_set():
                sock.close()
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, len(self.connections), self._stopping)
            thread = threading.Thread(target=self._serve, args=(connection,), name="raw connection")
            with self._lock:
                self.connections.append(connection)
                self._open += 1
                self.peak = max(self.peak, self._open)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._tls:
                connection.sock.settimeout(5)
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            while connection.sock.fileno() != -1:
                connection.receive_request()
                with self._lock:
                    number = self.requests
                    self.requests += 1
                connection.play(self._scripts[min(number, len(self._scripts) - 1)])
        except Gone:
            pass
        except OSError:  # the TLS handshake failed
            connection.left.set()
        except BaseException as error:  # noqa: BLE001 - it is raised where the test sees it
            self._errors.append(error)
        finally:
            with self._lock:
                self._open -= 1
            connection.sock.close()


def free_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


# Bytes to send


def reply(
    status: int, body: bytes | Mapping[str, Any] = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole response that keeps the connection; a mapping is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    return head(status, fields | dict(headers or {})) + body


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """Return one chunk of a body in chunked encoding; that of nothing ends the body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def text_delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


# The smallest stream there is, event by event. `STREAM` sends it with the connection kept open:
# its parts are chunks, so `STREAM_HEAD` goes first, `END_OF_BODY` last, and each event in `chunk`.
START = event(
    "message_start",
    message={"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m"},
)
OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
TEXT = text_delta("Tamar")
SHUT = event("content_block_stop", index=0)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
STOP = event("message_stop")
PING = event("ping")
EVENTS = (START, OPEN, TEXT, SHUT, END, STOP)

SSE = {"content-type": "text/event-stream", "request-id": "req_1"}
STREAM_HEAD = head(200, SSE | {"transfer-encoding": "chunked"})
END_OF_BODY = chunk(b"")


def stream(*events: bytes) -> bytes:
    """Return a whole streamed response that keeps the connection, each event in its own chunk."""
    return STREAM_HEAD + b"".join(map(chunk, events)) + END_OF_BODY


STREAM = stream(*EVENTS)
BEGUN = STREAM_HEAD + chunk(START) + chunk(OPEN) + chunk(TEXT)
"""A stream as far as its first text."""

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Tamar"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
REPLY = reply(200, MESSAGE)

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Name a tidal river."}],
}
"""The parameters of a call that asks for it."""


def failure(status: int, **headers: str) -> bytes:
    """Return a refusal in the usual envelope; it asks for no wait, so that tests do not sleep."""
    body = {"type": "error", "error": {"type": "some_error", "message": "the server said no"}}
    return reply(status, body, {"retry-after-ms": "1", **headers})


def error_event(kind: str = "overloaded_error") -> bytes:
    return event("error", error={"type": kind, "message": "the server said no"})
