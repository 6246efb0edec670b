"""Build the documentation site: `make docs`.

The pages are written to be read where the repository is hosted. This lays out a copy of them in
`site/pages`, with those that stand beside the docs folder and with links that hold there, has
zensical build `site/html` from it, and checks the result: every link leads somewhere, none shows
the name of a page's file, no anchor is a private path, and a reader's browser loads nothing from
elsewhere. What language models read is added by docs/llms.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "site" / "pages"
HTML = ROOT / "site" / "html"

BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
SHOWN = (".md", ".svg", ".png", ".css", ".js")
LINK = re.compile(r"((?<=\[)[\w./-]+\.md)?(\]\()([^)#\s]+)((?:#[^)]*)?\))")
MARKDOWN = re.compile(r"\]\(([^)#\s:]+\.html\.md)(?:#[^)]*)?\)")
FILE = re.compile(r"[\w./-]+\.(?:md|html)")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]+`")
NAME = re.compile(r"<code>(?=\w*[A-Z_])\w+</code>")
LABELS = re.compile(r"\s*<small>.*?</small>")
PRIVATE = re.compile(r"modelslab_llm(?:\.\w+)*\._(?!_)")

LOOKED_UP = {
    "reference/": "API reference",
    "source/": "Source code",
    "changelog": "Changelog",
    "protocol": "Protocol",
    "architecture": "Architecture",
    "contributing": "Contributing",
}
"""Pages to look something up in, by their start, and what their titles in a search begin with."""
NAMES_ONLY = ("reference/", "source/", "changelog")
"""Of these a search knows titles and names, not the prose."""


def menu() -> list[tuple[str, str, str]]:
    """Return each page of the menu: its group, its title, its place."""
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    found: list[tuple[str, str, str]] = []
    group = ""
    for line in lines.partition("\n\n")[0].splitlines():
        title, _, place = line.lstrip(" -").partition(":")
        if place := place.strip():
            found.append((group if line.startswith("   ") else "", title, place))
        else:
            group = title
    return found


def lay_out() -> None:
    """Copy the pages to where the site is built from; a linked source file becomes a page too."""
    shutil.rmtree(PAGES, ignore_errors=True)
    places = {page: page.relative_to(DOCS) for page in DOCS.rglob("*") if page.suffix in SHOWN}
    places |= {ROOT / name: Path(name.lower()) for name in BESIDE if (ROOT / name).exists()}
    titles = {place: title for _, title, place in menu()}
    sources: dict[Path, Path] = {}

    def led(link: re.Match[str]) -> str:
        named, opening, target, rest = link.groups(default="")
        if urlsplit(target).scheme:
            return link[0]
        file = Path(os.path.normpath(page.parent / target))
        if file not in places:
            if not file.is_file():
                raise SystemExit(f"{page.relative_to(ROOT)}: {target} is no file")
            sources[file] = Path("source", f"{file.relative_to(ROOT)}.md")
        place = places.get(file) or sources[file]
        named = named and titles.get(place.as_posix(), named)
        return f"{named}{opening}{os.path.relpath(place, places[page].parent)}{rest}"

    def write(place: Path, content: bytes) -> None:
        copy = PAGES / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)

    for page, place in places.items():
        content = page.read_bytes()
        if page.suffix == ".md":
            content = ROW.sub(bare, LINK.sub(led, content.decode())).encode()
        write(place, content)
    for file, place in sources.items():
        write(place, source_page(file).encode())


def bare(row: re.Match[str]) -> str:
    """Return a row of a table without the escapes in code, which the site would show: `a\\|b`."""
    return CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0])


def source_page(file: Path) -> str:
    """Return the page of a source file: what its docstring says first, and all of it."""
    text = file.read_text(encoding="utf-8")
    first = (ast.get_docstring(ast.parse(text)) or "") if file.suffix == ".py" else ""
    about = f"{first.partition(chr(10))[0]}\n\n" if first else ""
    return f"# {file.relative_to(ROOT)}\n\n{about}````{file.suffix[1:]}\n{text}````\n"


class Page(HTMLParser):
    """What a built page links to, loads, and can be linked to by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids = {""}
        self.shown: list[str] = []
        """What each link shows."""
        self._in_link = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
            self.shown.append("")
            self._in_link = True
        elif tag == "link" and given.get("rel") != "canonical" and "href" in given:
            self.loads.add(given["href"])
        elif "src" in given:
            self.loads.add(given["src"])

    def handle_endtag(self, tag: str) -> None:
        self._in_link = self._in_link and tag != "a"

    def handle_data(self, data: str) -> None:
        if self._in_link:
            self.shown[-1] += data


def faults(html: Path) -> list[str]:
    """Return what is wrong with a site, a line for each."""
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in html.rglob("*.html")}
    found: list[str] = []
    for file, page in pages.items():
        if file.name == "404.html":  # its links begin at the root of the host
            continue
        where = file.relative_to(html)
        for link in sorted(page.links | page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    found.append(f"{where} loads {link} from elsewhere")
                continue
            target = Path(os.path.normpath(file.parent / unquote(parts.path)))
            target = file if not parts.path else target
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{where} links to {link}: there is no such file")
            elif target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{where} links to {link}: there is no such place on that page")
        for text in filter(FILE.fullmatch, map(str.strip, page.shown)):
            found.append(f"{where} shows {text} as a link: name what is there")
        for anchor in sorted(filter(PRIVATE.match, page.ids)):
            found.append(f"{where} has the anchor {anchor}: that path is private")
    for file in [*html.rglob("*.html.md"), *html.glob("llms*.txt")]:
        for link in MARKDOWN.findall(file.read_text(encoding="utf-8")):
            if not (file.parent / link).is_file():
                found.append(f"{file.relative_to(html)} links to {link}: there is no such file")
    for sheet in html.rglob("*.css"):
        for url in re.findall(r"url\(\W?(https?:[^)]*)", sheet.read_text(encoding="utf-8")):
            found.append(f"{sheet.relative_to(html)} loads {url} from elsewhere")
    return found


def rank(index: Path) -> None:
    """Let a search find the guides first, and the reference by the names in it.

    Of two pages with the word in their titles, a search puts the one first whose title has it
    earlier. So titles of what is only looked up begin with the kind of page, and a name in the
    reference is shown with its whole path: `API reference / media.image`.
    """
    found = json.loads(index.read_text(encoding="utf-8"))

    def kind(item: dict[str, Any]) -> str | None:
        place = str(item["location"])
        return next((LOOKED_UP[start] for start in LOOKED_UP if place.startswith(start)), None)

    for item in found["items"]:
        if (page := kind(item)) is None:
            continue
        anchor = item["location"].partition("#")[2]
        _, is_name, name = anchor.partition("modelslab_llm.")
        title = name if is_name else LABELS.sub("", item["title"])
        item["title"] = page if title == page else f"{page} / {title}"
        if item["location"].startswith(NAMES_ONLY):
            item["path"] = [page]
            item["text"] = " ".join(dict.fromkeys(NAME.findall(item["text"])))
    found["items"].sort(key=lambda item: kind(item) is not None)
    index.write_text(json.dumps(found), encoding="utf-8")


def main() -> int:
    lay_out()
    shutil.rmtree(HTML, ignore_errors=True)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT, check=False)
    if built.returncode:
        return built.returncode
    llms = [sys.executable, DOCS / "llms.py"]
    if told := subprocess.run(llms, check=False).returncode:
        return told
    rank(HTML / "search.json")
    wrong = faults(HTML)
    sys.stdout.write("".join(f"{fault}\n" for fault in wrong))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
