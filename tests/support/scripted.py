"""One script, two ways in: a `LocalServer` and a `ScriptedTransport`, driven in every variant.

Holds no expectations; a test takes the fixture `way` and never asks which one it got.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm.testing import LocalServer, ScriptedTransport

ASK: dict[str, Any] = {
    "model": "m/1",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Name a tidal river."}],
}


class Way:
    """Open servers of one kind, and clients of them in one variant; all are closed at the end."""

    def __init__(self, kind: type[LocalServer | ScriptedTransport], variant: Sync | Async) -> None:
        self.kind = kind
        self.variant = variant
        self.opened = ExitStack()

    def server(self, script: Any = None, **options: Any) -> LocalServer | ScriptedTransport:
        made = self.kind(script, **options)
        return self.opened.enter_context(made) if isinstance(made, LocalServer) else made

    def client(
        self, server: LocalServer | ScriptedTransport, **options: Any
    ) -> SyncClient | AsyncClient:
        options = {"max_retries": 0, **options}
        client: SyncClient | AsyncClient
        if isinstance(self.variant, Sync):
            client = SyncClient(server.client(**options))
        else:
            client = AsyncClient(self.variant.portal, server.async_client(**options))
        self.opened.callback(client.close)
        return client

    def asked(self, script: Any, **options: Any) -> SyncClient | AsyncClient:
        """Give a client of a new server that answers by a script."""
        return self.client(self.server(script), **options)


@contextmanager
def way_named(kind: str, variant: Sync | Async) -> Iterator[Way]:
    way = Way({"server": LocalServer, "transport": ScriptedTransport}[kind], variant)
    with way.opened:
        yield way
