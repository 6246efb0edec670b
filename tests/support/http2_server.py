"""A server that speaks HTTP/2 over TLS: it answers each request, as it is asked, and no more."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
from certificates import Authority
from raw_server import EVENTS, MESSAGE


class Http2Server:
    """Serve on a port of 127.0.0.1, a thread for each connection."""

    def __init__(self, authority: Authority) -> None:
        self.versions: set[str | None] = set()
        """What the clients chose to speak."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        folder = authority.file.parent
        self._context.load_cert_chain(authority.file, folder / "key.pem")
        self._context.set_alpn_protocols(["h2", "http/1.1"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, name="http2 server")]
        self._open: list[socket.socket] = []
        self._stopping = False

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Http2Server:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._threads[0].join(5)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping:
                sock.close()
                return
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="http2 connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as sock:
            sock.settimeout(20)
            self.versions.add(sock.selected_alpn_protocol())
            talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            talk.initiate_connection()
            sock.sendall(talk.data_to_send())
            bodies: dict[int, bytes] = {}
            while data := sock.recv(65536):
                for event in talk.receive_data(data):
                    self._take(talk, event, bodies)
                sock.sendall(talk.data_to_send())

    def _take(self, talk: Any, event: Any, bodies: dict[int, bytes]) -> None:
        if isinstance(event, h2.events.DataReceived):
            bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            streams = json.loads(bodies.pop(event.stream_id)).get("stream")
            kind = "text/event-stream" if streams else "application/json"
            talk.send_headers(event.stream_id, [(":status", "200"), ("content-type", kind)])
            body = b"".join(EVENTS) if streams else json.dumps(MESSAGE).encode()
            talk.send_data(event.stream_id, body, end_stream=True)
