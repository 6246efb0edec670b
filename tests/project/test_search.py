"""The search of the site finds the page that a reader wants: on a site that `make docs` has built.

To build one is not the work of tests, so without one, or with one older than a page, they skip.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import browser as browser

ROOT = Path(__file__).parents[2]
HTML = ROOT / "site" / "html"

WANTED = {
    "quickstart": "install, installation, pip, quickstart, create a message",
    "endpoints": "gguf, litellm, vllm, ollama, llama, llama-server, gateway, api key, key, auth, "
    "authentication, url, environment variables, models, model, cold start",
    "command-line": "cli, command line, terminal, windows",
    "streaming": "stream, streaming",
    "conversations": "conversation, history",
    "tools": "tool, tools, function calling, functions, agent",
    "structured-output": "json, json schema, schema, pydantic, dataclass, structured",
    "pictures": "image, images, image input, vision, pdf, document",
    "thinking": "thinking, reasoning",
    "prompt-caching": "prompt caching, cache, caching",
    "errors": "error, errors, exceptions, retry, retries, backoff, timeout, timeouts, deadline, "
    "max_retries",
    "async": "async, asyncio, trio, fastapi, flask, django, jupyter, notebook, threads, "
    "thread-safe, cancel",
    "testing": "testing, test, tests, pytest, mock, fixture, vcr",
    "rate-limits": "rate limit, rate limits, 429, concurrency",
    "bulk": "batch, batch inference, bulk, csv, parquet, pandas, resume, sqlite, price, prices",
    "clusters": "ray, dask, daft, multiprocessing, worker",
    "deployment": "docker, docker container, kubernetes, lambda, serverless, gunicorn, celery",
    "connections": "proxy, ssl, tls, certificate, http2, aiohttp, httpx, pool, "
    "connection pool, fork",
    "observability": "log, logging, metrics, prometheus, tracing, opentelemetry, cost, tokens, "
    "request id",
    "performance": "performance, speed, memory, benchmark",
    "reliability": "reliability",
    "from-anthropic": "anthropic, migrate, migrate anthropic, migration",
    "from-openai": "openai, migrate from openai, embedding, embeddings",
    "other-clients": "claude, claude code, langchain, curl, base url",
    "examples": "example, examples",
    "reference/bulk": "BulkOptions",
    "reference/errors": "RateLimitError",
    "reference/streams": "MessageStream",
}
"""The page that is to come first, and what readers type."""

# The search is a web component: its field and its results are in shadow roots.
ALL = """
const all = (root, found = []) => {
  for (const element of root.querySelectorAll("*")) {
    found.push(element);
    if (element.shadowRoot) all(element.shadowRoot, found);
  }
  return found;
};
"""
FIELD = f"""() => {{ {ALL}
  return all(document).find((e) => e.localName === "input" && e.type !== "checkbox"
    && e.type !== "radio" && e.offsetParent !== null) ?? null;
}}"""
LINKS = f"""{ALL}
const links = all(document).filter((e) => e.localName === "a"
  && e.getRootNode() !== document && e.offsetParent !== null);
"""
READY = f"() => {{ {ALL} return all(document).some((e) => e.shadowRoot); }}"
NONE = f"() => {{ {LINKS} return links.length === 0; }}"
FIRST = f"() => {{ {LINKS} return links[0]?.href; }}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "docs" / "build.py", ROOT / "mkdocs.yml"]
    built = HTML / "search.json"
    if not built.exists() or built.stat().st_mtime < max(page.stat().st_mtime for page in pages):
        pytest.skip("no site, or an old one: run `make docs`")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(HTML))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
def test_a_search_finds_the_page_first(site: str, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{site}index.html")
    page.wait_for_function(READY)
    page.keyboard.press("Control+k")
    field = page.wait_for_function(FIELD).as_element()
    wrong: dict[str, str] = {}
    queries = [(words, page) for page, typed in WANTED.items() for words in typed.split(", ")]
    for words, wanted in queries:
        field.fill("")
        page.wait_for_function(NONE)
        field.fill(words)
        first = page.wait_for_function(FIRST).json_value().removeprefix(site)
        if first.partition(".html")[0] != wanted:
            wrong[words] = first
    page.close()
    assert not wrong
