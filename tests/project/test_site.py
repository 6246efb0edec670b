"""What `make docs` says of a site with faults. To build one is its own work, not that of tests."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BUILD = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "build.py"))

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
        "reference/a.md": "[errors](../errors.md)",
        "source/examples/a.py.md": "# examples/a.py\n\n````py\nprint()\n````\n",
    }
