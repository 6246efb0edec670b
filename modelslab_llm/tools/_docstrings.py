"""Extract the descriptions of parameters from a docstring; knows nothing of tools or schemas."""

from __future__ import annotations

import inspect
import re

# Strings: the `re` module compiles and caches them when the first docstring is read.
_GOOGLE = r"(?m)^(?:Args|Arguments|Parameters):[ ]*\n"
_GOOGLE_END = r"(?m)^\S"
_NUMPY = r"(?m)^Parameters\n-{3,}[ ]*\n"
_NUMPY_END = r"(?m)^\S.*\n-{3,}[ ]*$"
_ENTRY = r"^(\w+)[ ]*(?:\([^)]*\)[ ]*:|:)[ ]*(.*)$"
_FIELD = r"(?m)^:param (?:[^:\n]+ )?(\w+):[ ]*(.*(?:\n[ \t]+\S.*)*)\n?"
_OTHER_FIELD = r"(?m)^:(?:type|rtype)\b[^:\n]*:.*(?:\n[ \t]+\S.*)*\n?"


def described(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return a docstring without its section on parameters, and the description of each parameter.

    Google, NumPy and Sphinx styles are supported.

    >>> described('''Say how high a river is.
    ...
    ...     Args:
    ...         river: Its name,
    ...             without "River".
    ...         days (list): Of this month.
    ...     ''')
    ('Say how high a river is.', {'river': 'Its name, without "River".', 'days': 'Of this month.'})
    >>> described('''Add.\\n\\nParameters\\n----------\\na : int\\n    One.\\nb\\n    Two.\\n''')
    ('Add.', {'a': 'One.', 'b': 'Two.'})
    >>> described("Add.\\n\\nParameters\\n----------\\na, b : int\\n    What to add.\\n")
    ('Add.', {'a': 'What to add.', 'b': 'What to add.'})
    >>> described('Add.\\n\\n:param int a: One.\\n:param b: Two,\\n    or three.\\n:type b: int')
    ('Add.', {'a': 'One.', 'b': 'Two, or three.'})
    """
    text = inspect.cleandoc(docstring or "")
    found = {name: _joined(words) for name, words in re.findall(_FIELD, text)}
    text = re.sub(_OTHER_FIELD, "", re.sub(_FIELD, "", text))
    for header, end in ((_GOOGLE, _GOOGLE_END), (_NUMPY, _NUMPY_END)):
        if start := re.search(header, text):
            after = text[start.end() :]
            stop = re.search(end, after)
            section = after[: stop.start()] if stop else after
            found |= _entries(section, numpy=header is _NUMPY)
            text = text[: start.start()] + after[len(section) :]
    return text.strip(), found


def _entries(section: str, *, numpy: bool) -> dict[str, str]:
    """Read `name: text` (Google), or a line of names with their text below it (NumPy)."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc("\n" + section).splitlines():
        if line[:1].strip():  # not indented
            entry = re.match(_ENTRY, line)
            if numpy:
                names = [name.strip().lstrip("*") for name in line.split(":")[0].split(",")]
            else:
                names = [entry[1]] if entry else []
            found |= dict.fromkeys(names, entry[2] if entry and not numpy else "")
        else:
            for name in names:
                found[name] += "\n" + line
    return {name: words for name, text in found.items() if (words := _joined(text))}


def _joined(text: str) -> str:
    return " ".join(text.split())
