"""Help the reference to show docstrings as they are meant.

Doctests and indented examples are code; a page that is named is a link; what has fields is shown
as a table of them, those without a docstring and those of its bases too. An extension of griffe,
which reads the package for mkdocstrings.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import griffe

PAGES = {page.name for page in Path(__file__).parent.glob("*.md")}
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
INDENTED = re.compile(r":?:\n\n((?: {4}.*\n?|\n(?= {4}))+)|(?<=\n\n)((?: {4}.*\n?|\n(?= {4}))+)")
PAGE = re.compile(r"`?(?:docs/)?([\w-]+\.md)`?")


def shown(docstring: str) -> str:
    """Return a docstring as Markdown.

    >>> shown("Add::\\n\\n    a + b\\n\\n>>> 1 + 1\\n2")
    'Add:\\n\\n```python\\na + b\\n```\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    >>> shown("As told (protocol.md §3).")
    'As told ([protocol.md](../protocol.md) §3).'
    """
    linked = PAGE.sub(
        lambda found: f"[{found[1]}](../{found[1]})" if found[1] in PAGES else found[0], docstring
    )
    fenced = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", linked)
    return INDENTED.sub(_fenced, fenced)


def _fenced(found: re.Match[str]) -> str:
    code = dedent(found[1] or found[2]).strip("\n")
    language = "text"
    with suppress(SyntaxError):
        compile(code, "", "exec")
        language = "python"
    lead = ":\n\n" if found[1] else ""
    return f"{lead}```{language}\n{code}\n```\n"


def fields(cls: griffe.Class) -> list[griffe.Attribute]:
    """Return what an instance holds: annotated, public, and no property."""
    members = {**cls.inherited_members, **cls.members}
    found = [getattr(member, "final_target", member) for member in members.values()]
    return [
        field
        for field in found
        if isinstance(field, griffe.Attribute)
        and field.annotation is not None
        and not field.name.startswith("_")
        and field.name != "model_config"
        and "instance-attribute" in field.labels
    ]


def table(rows: list[griffe.Attribute]) -> str:
    """Return the fields as a table, with what is said of them if something is."""
    said = [" ".join(field.docstring.value.split()) if field.docstring else "" for field in rows]
    lines = [["field", "type", ""], ["---"] * 3]
    for field, words in zip(rows, said, strict=True):
        lines.append([f"`{field.name}`", f"`{field.annotation}`", words])
    width = 3 if any(said) else 2
    return "\n".join(f"| {' | '.join(line[:width])} |" for line in lines)


class Docstrings(griffe.Extension):
    """Rewrite every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = shown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        modules = pkg["types"].modules.values()
        classes = [cls for module in modules for cls in module.classes.values() if not cls.is_alias]
        tables = [(cls, fields(cls)) for cls in (*classes, pkg["_protocol.config.Options"])]
        for cls, rows in tables:
            if rows and cls.docstring:
                cls.docstring.value += f"\n\n{table(rows)}"
        for cls, rows in tables:  # bases too, which had to stay until all tables were made
            for field in rows:
                cls.members.pop(field.name, None)
