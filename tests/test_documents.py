"""Run every Python block of the README and the docs, against the local server: none can rot."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelslab_llm import DefaultHttpxClient
from modelslab_llm.testing import LocalServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def _everything_is_local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lead each request to a local server, wherever the text sends it."""
    with LocalServer(api_key=None) as server:
        here = httpx.URL(server.url)
        to_server = httpx.HTTPTransport.handle_request
        to_server_async = httpx.AsyncHTTPTransport.handle_async_request

        def led(request: httpx.Request) -> httpx.Request:
            if request.url.host != here.host:  # else it is a server that the page itself started
                request.url = request.url.copy_with(scheme="http", host=here.host, port=here.port)
            return request

        def send(self: Any, request: httpx.Request) -> httpx.Response:
            return to_server(self, led(request))

        async def asend(self: Any, request: httpx.Request) -> httpx.Response:
            return await to_server_async(self, led(request))

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", asend)
        monkeypatch.setenv("MODELSLAB_API_KEY", "a-key-of-the-docs")
        yield


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
@pytest.mark.usefixtures("_everything_is_local")
def test_every_block_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    opened: list[DefaultHttpxClient] = []
    build = DefaultHttpxClient.__init__

    def built(self: DefaultHttpxClient, **settings: Any) -> None:
        opened.append(self)
        build(self, **settings)

    monkeypatch.setattr(DefaultHttpxClient, "__init__", built)
    try:
        for block in blocks(page):  # in order: a later block may use what an earlier one made
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block, str(page), "exec", dont_inherit=True), names)
    finally:  # a page need not show `close` at every turn
        for client in opened:
            client.close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


def test_every_promise_of_security_is_held_by_a_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## What is promised")[2].partition("## What is not")[0]
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", promises)
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test
    for promise in re.findall(r"^\*\*.*?(?=^\*\*|\Z)", promises, re.M | re.S):
        assert "`tests/" in promise, promise
    assert len(named) > 10
