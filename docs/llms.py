"""Write for language models what the site has for people: run by docs/build.py.

Beside each page of `site/html` goes the page as Markdown, `errors.html.md` beside `errors.html`;
`llms.txt` links to each with what it is about, and `llms-full.txt` is all of them in one
(https://llmstxt.org). Where a page shows the package by `:::`, signatures and docstrings stand in.
"""

from __future__ import annotations

import html
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LINK = re.compile(r"(\]\()(?!\w+:)([^)#\s]+)\.md((?:#[^)]*)?\))")
OBJECT = re.compile(r"^::: (\S+)\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)
HEAD = """\
# modelslab-llm

> A typed Python client for Anthropic-compatible Messages endpoints: the ModelsLab v7 LLM API, GGUF
> deployments, llama-server, and any gateway. Sync and async, streaming, tools, structured output,
> bulk runs.

It is not on a package index yet: install it from a clone of its repository, with `pip install .`.
The import name is `modelslab_llm`. All that follows is in one file, too:
[llms-full.txt](llms-full.txt).
"""
OPTIONAL = ("", "How it works")
"""Groups of the menu that are left out where there is little room; llmstxt.org names them so."""

Describe = Callable[[str, list[str], bool], str]
"""Of a path, these members (or all), inherited ones too or not."""


def write(pages: Path, site: Path, menu: list[tuple[str, str, str]], describe: Describe) -> None:
    """Write all of it from the laid out `pages` to a `site`; `describe` says what a `:::` shows."""
    texts: dict[str, str] = {}
    for file in sorted(pages.rglob("*.md")):
        place = file.relative_to(pages).as_posix()
        texts[place] = spelled(file.read_text(encoding="utf-8"), describe)
        copy = site / f"{place.removesuffix('.md')}.html.md"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(LINK.sub(r"\1\2.html.md\3", texts[place]), encoding="utf-8")
    whole = [HEAD.rpartition(" All that")[0], *(rooted(texts[place], place) for *_, place in menu)]
    (site / "llms-full.txt").write_text("\n\n".join(whole), encoding="utf-8")
    (site / "llms.txt").write_text(listed(menu, texts), encoding="utf-8")


def listed(menu: list[tuple[str, str, str]], texts: dict[str, str]) -> str:
    """Return the list of pages, by the groups of the menu."""
    groups: dict[str, list[str]] = {"Start": []}
    first = menu[0][2]
    for group, title, place in menu:
        name = "Start" if place == first else "Optional" if group in OPTIONAL else group
        target = f"{place.removesuffix('.md')}.html.md"
        groups.setdefault(name, []).append(f"- [{title}]({target}): {gist(texts[place])}\n")
    optional = groups.pop("Optional", [])
    parts = [*groups.items(), *([("Optional", optional)] if optional else [])]
    return HEAD + "".join(f"\n## {name}\n\n{''.join(lines)}" for name, lines in parts)


def gist(text: str) -> str:
    """Return the first sentence of a page that is neither heading nor code, without its marks.

    >>> gist("# Errors\\n\\nThis page covers [errors](errors.md),\\n`retries`, waits. Long.")
    'This page covers errors, retries, waits.'
    """
    bare = re.sub(r"^(`{3,}).*?^\1$|^#[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    paragraph = bare.strip().partition("\n\n")[0]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(paragraph.split())).replace("`", "")
    return re.sub(r"(?<=[.?!])(?<!e\.g\.)\s.*", "", plain)


def rooted(text: str, place: str) -> str:
    """Return a page whose links begin at the root of the site.

    >>> rooted("[a](../errors.md#tree)", "reference/errors.md")
    '[a](errors.html.md#tree)'
    """

    def led(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(place), link[2]))
        return f"{link[1]}{target}.html.md{link[3]}"

    return LINK.sub(led, text)


def spelled(text: str, describe: Describe) -> str:
    """Return a page with a description in the place of each `:::`."""

    def described(block: re.Match[str]) -> str:
        members = re.search(r" members: \[([^]]*)\]", block[2])
        names = members[1].replace(",", " ").split() if members else []
        return describe(block[1], names, "inherited_members: true" in block[2]) + "\n"

    return OBJECT.sub(described, text)


def plain_row(row: re.Match[str]) -> str:
    """Return a row of a table without what only HTML understands."""
    text = re.sub(r"</?(?:autoref|code)\b[^>]*>", "", row[0])
    return html.unescape(re.sub(r"\\([\[\]_*])", r"\1", text))


class Package:
    """The package as the reference shows it."""

    def __init__(self, root: Path) -> None:
        import griffe

        extensions = griffe.load_extensions(str(root / "docs" / "docstrings.py"))
        package = griffe.load("modelslab_llm", search_paths=[root], extensions=extensions)
        self._objects = package.modules_collection

    def describe(self, path: str, members: list[str], inherited: bool) -> str:
        """Return the signature and the docstring of what a path names, and of what it has."""
        found = self._objects[path]
        if found.is_module:
            names = members or [str(name) for name in found.exports or ()]
            shown = [(found[name], f"{path}.{name}") for name in names]
        else:
            shown = [(found, path)]
        return "\n".join(line for it, at in shown for line in self._shown(it, at, inherited))

    def _shown(self, found: Any, path: str, inherited: bool) -> Iterator[str]:
        yield f"### {path}\n"
        if found.is_function or (found.is_class and found.parameters):
            yield f"```python\n{found.signature()}\n```\n"
        elif found.is_attribute:
            kind = f": {found.annotation}" if found.annotation else ""
            is_set = found.value is not None and "instance-attribute" not in found.labels
            value = f" = {found.value}" if is_set else ""
            yield f"```python\n{found.name}{kind}{value}\n```\n"
        said = found.docstring.value if found.docstring else ""
        yield re.sub(r"^\| .*", plain_row, said, flags=re.MULTILINE) + "\n"
        if found.is_class:
            more = found.inherited_members if inherited else {}
            for name, member in {**more, **found.members}.items():
                if not name.startswith("_") and member.docstring and not member.is_class:
                    yield from self._shown(member, f"{path}.{name}", inherited)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from build import HTML, PAGES, ROOT, menu

    write(PAGES, HTML, menu(), Package(ROOT).describe)
