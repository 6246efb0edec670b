"""What `make docs` says of a site with faults. To build one is its own work, not that of tests."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BUILD = runpy.run_path(str(DOCS / "build.py"))
LLMS = runpy.run_path(str(DOCS / "llms.py"))

MENU = """site_name: x

nav:
  - Start: index.md
  - Guide:
      - Errors: errors.md
  - Reference:
      - Clients: reference/clients.md
  - How it works:
      - Protocol: protocol.md
  - Changes: changelog.md

theme: x
"""
HEADING = '<h2 id="there">There</h2>'


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="b.html">b</a><a href="b.html#there">b</a><a href="#here">here</a>', None),
        ('<a href="https://relay.example/x">elsewhere</a>', None),
        ('<a href="c.html">c</a>', "c.html: there is no such file"),
        ('<a href="sub/../c.html">c</a>', "c.html: there is no such file"),
        ('<a href="b.html#nowhere">b</a>', "b.html#nowhere: there is no such place"),
        ('<a href="#nowhere">here</a>', "#nowhere: there is no such place"),
        ('<img src="c.svg">', "c.svg: there is no such file"),
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="https://fonts.example/x">', "loads https://fonts.example/x"),
        ('<a href="b.html">docs/<code>errors.md</code></a>', "shows docs/errors.md as a link"),
        ('<a href="b.html">see errors.md</a> or errors.md', None),
        ('<h3 id="modelslab_llm._client.Messages">x</h3>', "modelslab_llm._client.Messages"),
        ('<h3 id="modelslab_llm.Tool.__call__">x</h3>', None),
    ],
)
def test_what_leads_nowhere_or_comes_from_elsewhere(
    tmp_path: Path, body: str, fault: str | None
) -> None:
    (tmp_path / "a.html").write_text(f'<p id="here"></p>{body}', encoding="utf-8")
    (tmp_path / "b.html").write_text(HEADING, encoding="utf-8")
    found = BUILD["faults"](tmp_path)
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]


def test_a_style_sheet_that_loads_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face{src:url(https://fonts.example/x)}", "utf-8")
    assert BUILD["faults"](tmp_path) == ["x.css loads https://fonts.example/x from elsewhere"]


def test_pages_are_laid_out_with_links_that_hold_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "SECURITY.md": "[errors](docs/errors.md#tree)",
        "docs/errors.md": "[limits](../SECURITY.md) [code](../examples/a.py) [x](https://x.example)",
        "docs/tools.md": "[errors.md](errors.md#a) [see b.md](errors.md)",
        "docs/protocol.md": "| `a\\|b` | c\\|d |\n\nNo table: `a\\|b`",
        "mkdocs.yml": MENU,
        "docs/reference/a.md": "[errors](../errors.md)",
        "docs/build.py": "",
        "examples/a.py": "print()\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    pages = tmp_path / "site" / "pages"
    lay_out = BUILD["lay_out"]
    for name, place in {"ROOT": tmp_path, "DOCS": tmp_path / "docs", "PAGES": pages}.items():
        monkeypatch.setitem(lay_out.__globals__, name, place)
    lay_out()
    read = {page.relative_to(pages).as_posix(): page.read_text() for page in pages.rglob("*.*")}
    assert read == {
        "security.md": "[errors](errors.md#tree)",
        "errors.md": "[limits](security.md) [code](source/examples/a.py.md) [x](https://x.example)",
        "tools.md": "[Errors](errors.md#a) [see b.md](errors.md)",
        "protocol.md": "| `a|b` | c\\|d |\n\nNo table: `a\\|b`",
        "reference/a.md": "[errors](../errors.md)",
        "source/examples/a.py.md": "# examples/a.py\n\n````py\nprint()\n````\n",
    }


def test_what_language_models_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As https://llmstxt.org has it: a title, a summary, links in groups; and all in one file."""
    (tmp_path / "mkdocs.yml").write_text(MENU, "utf-8")
    monkeypatch.setitem(BUILD["menu"].__globals__, "ROOT", tmp_path)
    menu = BUILD["menu"]()
    assert menu[:2] == [("", "Start", "index.md"), ("Guide", "Errors", "errors.md")]
    pages, site = tmp_path / "pages", tmp_path / "html"
    for name, text in {
        "index.md": "# Start\n\nWhat it is. And more.\n",
        "errors.md": "# Errors\n\n```sh\nmake\n```\n\nWhat [fails](index.md#x), `when`.\n",
        "reference/clients.md": "# Clients\n\nAll ([errors](../errors.md)).\n\n"
        "::: a.b\n    options:\n      members: [\n        C, D\n      ]\n\nThe end.\n",
        "protocol.md": "# Protocol\n\nFacts.\n",
        "changelog.md": "# Changes\n\nNone.\n",
    }.items():
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        (pages / name).write_text(text, "utf-8")
    site.mkdir()
    LLMS["write"](pages, site, menu, lambda path, members, _: f"### {path} {members}\n")
    listed = (site / "llms.txt").read_text("utf-8")
    assert listed.startswith("# modelslab-llm\n\n> ")
    assert "from a clone" in listed
    assert listed.partition("\n## ")[2] == (
        "Start\n\n- [Start](index.html.md): What it is.\n"
        "\n## Guide\n\n- [Errors](errors.html.md): What fails, when.\n"
        "\n## Reference\n\n- [Clients](reference/clients.html.md): All (errors).\n"
        "\n## Optional\n\n- [Protocol](protocol.html.md): Facts.\n"
        "- [Changes](changelog.html.md): None.\n"
    )
    clients = (site / "reference" / "clients.html.md").read_text("utf-8")
    assert "([errors](../errors.html.md))" in clients
    assert "### a.b ['C', 'D']\n\n\nThe end." in clients
    whole = (site / "llms-full.txt").read_text("utf-8")
    assert whole.startswith("# modelslab-llm\n\n> ")
    parts = ["# Start", "# Errors", "[fails](index.html.md#x)", "([errors](errors.html.md))", "a.b"]
    places = [whole.index(part) for part in [*parts, "# Protocol", "# Changes"]]
    assert places == sorted(places)
    assert BUILD["faults"](site) == []
    (site / "errors.html.md").unlink()
    assert "llms.txt links to errors.html.md: there is no such file" in BUILD["faults"](site)


@pytest.mark.parametrize("place", [place for *_, place in BUILD["menu"]()])
def test_every_page_says_first_what_it_is_about(place: str) -> None:
    """In a sentence, which `llms.txt` shows beside the link."""
    file = DOCS / place
    if place.startswith("source/"):
        text = BUILD["source_page"](DOCS.parent / place.removeprefix("source/").removesuffix(".md"))
    else:
        found = file if file.exists() else DOCS.parent / f"{file.stem.upper()}.md"
        text = found.read_text("utf-8")
    assert 10 < len(LLMS["gist"](text)) < 300


def test_a_search_knows_the_guides_before_the_reference(tmp_path: Path) -> None:
    """Titles of the reference do not begin with the word, and of its text the names are kept."""
    text = "Ask <code>model</code> <code>max_tokens</code> <code>Image</code>"
    names = "<code>max_tokens</code> <code>Image</code>"
    entry = {"location": "reference/a.html#modelslab_llm.media.image", "text": text}
    entry |= {"title": "image  <small><code>async</code></small>", "path": ["Reference", "Images"]}
    page = {"location": "reference/a.html", "title": "Images", "path": ["Images"], "text": ""}
    rules = {"location": "protocol.html#1", "title": "1 Images", "path": ["Rules"], "text": text}
    log = {"location": "changelog.html", "title": "Changelog", "path": ["Changes"], "text": text}
    guide = {"location": "a.html", "title": "Images", "path": ["Guide"], "text": text}
    index = tmp_path / "search.json"
    index.write_text(json.dumps({"items": [entry, page, rules, log, guide]}), encoding="utf-8")
    BUILD["rank"](index)
    assert json.loads(index.read_text(encoding="utf-8"))["items"] == [
        guide,
        {**entry, "title": "API reference / media.image", "path": ["API reference"], "text": names},
        {**page, "title": "API reference / Images", "path": ["API reference"]},
        {**rules, "title": "Protocol / 1 Images"},
        {**log, "path": ["Changelog"], "text": names},
    ]
