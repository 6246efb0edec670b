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
    "function calling": "tools",
    "vision": "pictures",
    "image input": "pictures",
    "pdf": "pictures",
    "prompt caching": "prompt-caching",
    "rate limit": "rate-limits",
    "429": "rate-limits",
    "concurrency": "rate-limits",
    "batch inference": "bulk",
    "backoff": "errors",
    "retries": "errors",
    "timeout": "errors",
    "deadline": "errors",
    "connection pool": "connections",
    "proxy": "connections",
    "certificate": "connections",
    "logging": "observability",
    "opentelemetry": "observability",
    "fastapi": "async",
    "django": "async",
    "gunicorn": "deployment",
    "lambda": "deployment",
    "docker container": "deployment",
    "migrate anthropic": "from-anthropic",
    "migrate from openai": "from-openai",
    "claude code": "other-clients",
    "testing": "testing",
    "mock": "testing",
    "json schema": "structured-output",
    "pydantic": "structured-output",
    "install": "quickstart",
    "api key": "endpoints",
    "ray": "clusters",
    "command line": "command-line",
    "streaming": "streaming",
    "thinking": "thinking",
}
"""What readers type, and the page that is to come first."""

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
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "mkdocs.yml"]
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
    for words, wanted in WANTED.items():
        field.fill("")
        page.wait_for_function(NONE)
        field.fill(words)
        first = page.wait_for_function(FIRST).json_value().removeprefix(site)
        if first.partition(".html")[0] != wanted:
            wrong[words] = first
    page.close()
    assert not wrong
