"""TLS as layers of a connection, one inside the other behind some proxies. Pure: bytes in and out.

Sync and async alike encrypt here, so what is known of one connection is the same in all: every byte
that came from the socket is either read or still in sight.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator

from . import failures

PIECE = 256 * 1024  # bytes encrypted in one go: a request may have many MB


class Tls:
    """One layer of TLS, as the client."""

    def __init__(self, context: ssl.SSLContext, hostname: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self.has_ended = False
        """Whether the server has said, or shown, that nothing more comes."""

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as the bytes that came allow; tell whether it is over."""
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def put(self, data: bytes) -> None:
        """Take bytes from below, b"" at their end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def decrypted(self) -> bytes:
        """Return the decrypted bytes of what has arrived. Raises `httpcore.ReadError`."""
        pieces: list[bytes] = []
        try:
            while piece := self.ssl_object.read(65536):
                pieces.append(piece)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            # Many servers leave without the goodbye of TLS. Whether a body may end like this is
            # decided by its framing: only one that has no other end may.
            if error.errno != ssl.SSL_ERROR_EOF:
                raise failures.ReadError(str(error)) from error
            self.has_ended = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypted(self, data: bytes) -> bytes:
        """Return what is to be sent for these bytes. Raises `httpcore.WriteError`."""
        try:
            with memoryview(data) as view:
                at = 0
                while at < len(view):
                    at += self.ssl_object.write(view[at:])
        except ssl.SSLError as error:  # the other side has broken it off
            raise failures.WriteError(str(error)) from error
        return self._outgoing.read()

    def to_send(self) -> bytes:
        """Return what TLS itself has to say, in the handshake or after it."""
        return self._outgoing.read()


class Layers:
    """The layers of one connection, the outermost first; usually none or one."""

    def __init__(self) -> None:
        self._layers: list[Tls] = []
        self.has_ended = False
        """Whether nothing more comes, as the innermost layer knows it."""

    @property
    def is_plain(self) -> bool:
        """Whether there is no TLS layer."""
        return not self._layers

    @property
    def innermost(self) -> Tls | None:
        """The layer that talks to the server itself."""
        return self._layers[-1] if self._layers else None

    def decode(self, data: bytes) -> bytes:
        """Return the decrypted form of bytes from the socket; b"" at their end, or if it needs
        more.
        """
        ended = not data
        for layer in self._layers:
            if data:
                layer.put(data)
            if ended:
                layer.put(b"")
            data, ended = layer.decrypted(), layer.has_ended
            if not data and not ended:
                return b""
        self.has_ended = self.has_ended or ended
        return data

    def encode(self, data: bytes) -> bytes:
        """Return what is to be sent through the socket."""
        for layer in reversed(self._layers):
            data = layer.encrypted(data)
        return data

    def to_send(self) -> bytes:
        """Return what the layers themselves have to say, such as the answer to a new key."""
        sent = b""
        for layer in reversed(self._layers):
            sent = layer.encrypted(sent) if sent else layer.to_send()
        return sent

    def add(self, context: ssl.SSLContext, hostname: str) -> Generator[bytes | None, bytes, None]:
        """Shake hands for one more layer: yields what to send, or None to be sent what comes.

        Raises `ssl.SSLError`, and `httpcore` errors for a server that leaves or speaks too early.
        """
        layer = Tls(context, hostname)
        done = False
        while not done:
            done = layer.shake_hands()
            if words := layer.to_send():
                yield self.encode(words)
            if not done:
                came = self.decode((yield None))
                if came or self.has_ended:
                    layer.put(came)
        if layer.decrypted() or layer.has_ended:
            raise failures.RemoteProtocolError("the server sent data before the request")
        self._layers.append(layer)
