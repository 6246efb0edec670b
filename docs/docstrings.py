"""Help the reference to show docstrings as they are meant: doctests are code, and `::` leads to it.

An extension of griffe, which reads the package for mkdocstrings.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def shown(docstring: str) -> str:
    """Return a docstring as Markdown.

    >>> shown("Add::\\n\\n    a + b\\n\\n>>> 1 + 1\\n2")
    'Add:\\n\\n    a + b\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```'
    """
    fenced = DOCTEST.sub(lambda found: f"```pycon\n{found[0]}\n```", docstring)
    return re.sub(r"::\n(?=\n    )", ":\n", fenced)


class Docstrings(griffe.Extension):
    """Rewrite every docstring before it is rendered."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = shown(obj.docstring.value)
