"""Fixtures for `make real`: one of each real part, started when first asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from llama.fixtures import serve
from llama.scripts import SLOW_MODEL
from llama.server import LlamaServer
from real.gateway import Gateway
from real.parts import small_model

SMALL = "smollm2"
CONTEXT = 2048


@pytest.fixture(scope="session")
def small() -> Iterator[LlamaServer]:
    """A llama-server with a real small model, eight conversations at a time."""
    options = ["--alias", SMALL, "--jinja", "--slots", "--threads", "2"]
    with LlamaServer(small_model(), slots=8, context=CONTEXT, extra_args=options) as server:
        yield server


@pytest.fixture(scope="session")
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and which nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield "http://{}:{}".format(*bound.getsockname())


def at(server: LlamaServer, **more: Any) -> dict[str, str]:
    """LiteLLM's parameters for a llama-server, which it asks on the chat route."""
    where = {"api_base": f"{server.url}/v1", "api_key": server.api_key}
    return {"model": f"hosted_vllm/{SMALL}", **where, **more}


@pytest.fixture(scope="session")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """A llama-server that counts slowly, for the one test that kills it."""
    yield from serve(SLOW_MODEL, tmp_path_factory)


@pytest.fixture(scope="session")
def gateway(
    small: LlamaServer,
    llama_tools: LlamaServer,
    llama_thinking: LlamaServer,
    mortal: LlamaServer,
    nobody: str,
) -> Iterator[Gateway]:
    """A LiteLLM proxy: `small` by both its routes, scripted models, a server that is down."""
    routes = {
        "small": at(small),
        "messages": at(small, model=f"anthropic/{SMALL}", api_base=small.url),
        "tools": at(llama_tools),
        "thinking": at(llama_thinking),
        "mortal": at(mortal),
        "down": at(small, api_base=f"{nobody}/v1"),
    }
    with Gateway(routes) as running:
        yield running
