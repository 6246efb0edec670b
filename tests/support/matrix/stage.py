"""Set the stage for a fault: the server that plays it, and what it saw of the caller.

Knows no client; the caller passes one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from raw_server import ASK, RawServer, free_port, reply

from .faults import Fault
from .told import MESSAGE

KEY = "the-key-of-the-matrix"
ELSEWHERE = {**MESSAGE, "content": [{"type": "text", "text": "From somewhere else."}]}


@dataclass(frozen=True)
class Scene:
    """The address, and what the server saw."""

    url: str
    server: RawServer | None
    other: RawServer | None
    before: int

    @property
    def tries(self) -> int:
        """How often the server got a request; with TLS, how often a client connected."""
        if self.server is None:
            return 0
        if self.url.startswith("https:"):
            return len(self.server.connections)
        return self.server.requests - self.before

    @property
    def leaked(self) -> str:
        """What went to the server that it is not for: the `key`, or else the `prompt`."""
        asked = self.other.connections if self.other else []
        seen = b"".join(request for connection in asked for request in connection.requests)
        prompt = ASK["messages"][0]["content"].encode()
        return "key" if KEY.encode() in seen else "prompt" if prompt in seen else ""


@contextmanager
def staged(fault: Fault, tls: ssl.SSLContext | None = None) -> Iterator[Scene]:
    """Run the servers of a fault. `tls` is for the stage of that name."""
    if fault.stage == "nobody":
        yield Scene(f"http://127.0.0.1:{free_port()}", None, None, 0)
        return
    with ExitStack() as stack:
        script, other = fault.script, None
        if fault.stage == "two servers":
            other = stack.enter_context(RawServer(reply(200, ELSEWHERE)))
            assert isinstance(script, bytes)
            script = script.replace(b"{other}", other.url.encode())
        scripts = (*fault.before, script, *fault.after)
        server = RawServer(*scripts, tls=tls if fault.stage == "tls" else None)
        stack.enter_context(server)
        yield Scene(server.url, server, other, len(fault.before))
