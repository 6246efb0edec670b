"""Help the reference to show docstrings as they are meant.

Doctests and indented examples are code; a page that is named is a link, its sections too; what a
method takes by `**` is spelled out, as it is at run time; what has fields is shown as a table of
them. What a client has, such as `client.messages`, is at its public path. An extension of griffe,
which reads the package for mkdocstrings.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import griffe

DOCS = Path(__file__).parent
NAV = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
TITLES = {name: title for title, name in re.findall(r"- (.+): ([\w-]+\.md)$", NAV, re.MULTILINE)}
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
INDENTED = re.compile(r":?:\n\n((?: {4}.*\n?|\n(?= {4}))+)|(?<=\n\n)((?: {4}.*\n?|\n(?= {4}))+)")
PAGE = re.compile(r"`?(?:docs/)?([\w-]+\.md)`?((?:(?:,| and)?\s§[\d.]*\d)*)")
SECTION = re.compile(r"§([\d.]*\d)")
BY_STARS = re.compile(r"^( +)(params|options): .*\n(?:\1 +.*\n?)*", re.MULTILINE)
MARKS = ("Required", "NotRequired", "Annotated")
PLAIN = {"Text": "str", "Count": "int", "Unheard": "str", "Key": "str | int"}
"""What our own names for lenient types stand for."""
TAKES = re.compile(r"takes\(['\"](\w+)['\"]\)")


def shown(docstring: str) -> str:
    """Return a docstring as Markdown.

    >>> shown("Add::\\n\\n    a + b\\n\\n>>> 1 + 1\\n2")
    'Add:\\n\\n```python\\na + b\\n```\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    >>> shown("As told (protocol.md §3, §99). See `docs/errors.md`.").split(". See ")[0]
    'As told ([Protocol §3](../protocol.md#3-request-body), [§99](../protocol.md))'
    """
    fenced = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", PAGE.sub(_linked, docstring))
    return INDENTED.sub(_fenced, fenced)


def _linked(named: re.Match[str]) -> str:
    page, sections = named[1], named[2]
    if page not in TITLES:
        return named[0]
    if not sections:
        return f"[{TITLES[page]}](../{page})"
    links = SECTION.sub(lambda it: f"[§{it[1]}](../{page}{_anchor(page, it[1])})", sections)
    return links.lstrip().replace("[§", f"[{TITLES[page]} §", 1)


def _anchor(page: str, number: str) -> str:
    """Return where a numbered section is, as the site names its headings."""
    for heading in HEADING.findall((DOCS / page).read_text(encoding="utf-8")):
        if heading.startswith(f"{number} "):
            words = re.sub(r"[^\w\s-]", "", heading.lower())
            return "#" + re.sub(r"[-\s]+", "-", words).strip("-")
    return ""


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


def said_of(field: griffe.Attribute) -> str:
    """Return what is said of a field, in one line."""
    return " ".join(field.docstring.value.split()) if field.docstring else ""


def table(rows: list[griffe.Attribute]) -> str:
    """Return the fields as a table, with what is said of them if something is."""
    lines = [["field", "type", "meaning"], ["---"] * 3]
    for field in rows:
        lines.append(
            [f"`{field.name}`", f"<code>{linked(field.annotation)}</code>", said_of(field)]
        )
    width = 3 if any(map(said_of, rows)) else 2
    return "\n".join(f"| {' | '.join(line[:width])} |" for line in lines)


def linked(annotation: str | griffe.Expr | None) -> str:
    """Return a type as a cell of a table: each name of the package is a link."""
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) in MARKS:
        inner = annotation.slice
        return linked(inner.elements[0] if isinstance(inner, griffe.ExprTuple) else inner)
    if not isinstance(annotation, griffe.Expr):
        return _escaped(str(annotation))
    return "".join(
        f'<autoref identifier="{part.canonical_path}" optional>{_escaped(part.name)}</autoref>'
        if isinstance(part, griffe.ExprName) and part.name not in PLAIN
        else _escaped(PLAIN.get(str(part), str(part)))
        for part in annotation.iterate(flat=True)
    )


def _escaped(text: str) -> str:
    return re.sub(r"[|\[\]_*]", r"\\\g<0>", html.escape(text))


class Spelling:
    """What `takes` names: the parameters of each kind, and what is said of them."""

    def __init__(self, pkg: griffe.Module) -> None:
        self.parameters: dict[str, list[griffe.Parameter]] = {}
        self.said: dict[str, dict[str, str]] = {}
        self.order: dict[str, list[str]] = {}
        for kind in pkg["_client.spelled"].classes.values():
            if kind.is_alias:
                continue
            call = kind["__call__"]
            self.parameters[kind.name] = [each for each in call.parameters if each.name != "self"]
            params = pkg["_client.spelled"][call.returns.canonical_name].final_target
            self.said[kind.name] = {field.name: said_of(field) for field in fields(params)}
            self.order[params.path] = [each.name for each in self.parameters[kind.name]]

    def spell_out(self, method: griffe.Function) -> None:
        """Give a method the parameters that it takes by `**`."""
        found = [TAKES.search(str(decorator.value)) for decorator in method.decorators]
        for kind in [match[1] for match in found if match]:
            stars = [each for each in method.parameters if each.kind is KEYWORDS]
            for each in stars:
                del method.parameters[each.name]
            for each in self.parameters[kind]:
                method.parameters.add(each)
            if method.docstring:
                lines = "".join(f"    {name}: {text}\n" for name, text in self._of(kind).items())
                method.docstring.value = BY_STARS.sub(
                    lambda _, lines=lines: lines, method.docstring.value + "\n"
                )

    def _of(self, kind: str) -> dict[str, str]:
        return {each.name: shown(self.said[kind][each.name]) for each in self.parameters[kind]}


KEYWORDS = griffe.ParameterKind.var_keyword


def functions(pkg: griffe.Module) -> list[griffe.Function]:
    """Return every method and function of the package."""
    found: list[griffe.Function] = []
    inside: list[griffe.Object | griffe.Alias] = [pkg]
    while inside:
        for member in inside.pop().members.values():
            if isinstance(member, griffe.Function):
                found.append(member)
            elif isinstance(member, (griffe.Module, griffe.Class)):
                inside.append(member)
    return found


class Docstrings(griffe.Extension):
    """Rewrite every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = shown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        spelling = Spelling(pkg)
        for function in functions(pkg):
            spelling.spell_out(function)
        types = pkg["types"]
        types.docstring = None  # shown above every group of types, which pages say more about
        modules = types.modules.values()
        classes = [cls for module in modules for cls in module.classes.values() if not cls.is_alias]
        tables = [(cls, fields(cls)) for cls in classes]
        for cls, rows in tables:
            if order := spelling.order.get(cls.path):
                rows.sort(key=lambda field: order.index(field.name))
            if rows and cls.docstring:
                cls.docstring.value += f"\n\n{table(rows)}"
        for cls, rows in tables:  # bases too, which had to stay until all tables were made
            for field in rows:
                cls.members.pop(field.name, None)
        for client in ("ModelsLab", "AsyncModelsLab"):
            for resource in ("messages", "models"):
                cls = pkg[f"_client.client.{client}"]
                kind = f"{'Async' * client.startswith('Async')}{resource.capitalize()}"
                cls.set_member(resource, griffe.Alias(resource, pkg[f"_client.{resource}.{kind}"]))
