"""Fixtures for `make real`: one of each real part, started when first asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from llama.fixtures import serve
from llama.scripts import SLOW_MODEL
from llama.server import LlamaServer
from real.gateway import Gateway
from real.parts import small_model
from real.rates import SMALL, by_chat_route, small_server


@pytest.fixture(scope="session")
def small() -> Iterator[LlamaServer]:
    """A llama-server with a real small model, eight conversations at a time."""
    with small_server(small_model()) as server:
        yield server


@pytest.fixture(scope="session")
def nobody() -> Iterator[str]:
    """An address at which no program listens, now or later."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield "http://{}:{}".format(*bound.getsockname())


@pytest.fixture(scope="session")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """A llama-server that counts slowly, for the one test that kills it."""
    yield from serve(SLOW_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def gateway(
    small: LlamaServer,
    llama_text: LlamaServer,
    llama_tools: LlamaServer,
    llama_thinking: LlamaServer,
    mortal: LlamaServer,
    nobody: str,
) -> Iterator[Gateway]:
    """A LiteLLM proxy: `small` by both its routes, scripted models, a server that is down."""
    routes = {
        "small": by_chat_route(small),
        "messages": by_chat_route(small, model=f"anthropic/{SMALL}", api_base=small.url),
        "text": by_chat_route(llama_text),
        "tools": by_chat_route(llama_tools),
        "thinking": by_chat_route(llama_thinking),
        "mortal": by_chat_route(mortal),
        "down": by_chat_route(mortal, api_base=f"{nobody}/v1"),
    }
    with Gateway(routes) as running:
        yield running
