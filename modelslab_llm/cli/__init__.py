"""The command line, `modelslab`, which the extra `[cli]` installs. Only `main` is public.

It uses the public names of the package, as any program does. Commands are declared in `_commands`,
which loads fast enough for help and shell completion; what a command does is in its own module,
loaded when the command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_EXTRA = frozenset({"click", "jsonschema", "prompt_toolkit", "rich", "tomlkit"})
"""What `pip install "modelslab-llm[cli]"` brings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: What follows `modelslab` on the command line. Default: `sys.argv[1:]`.

    Returns:
        The exit status: a row of the table in docs/command-line.md.
    """
    try:
        from ._main import run

        return run(arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        if sys.stderr is not None:  # it is None where the shell closed it
            sys.stderr.write(
                f"modelslab: the command line needs the package {missing}, from an extra: "
                "pip install 'modelslab-llm[cli]'\n"
            )
        return 2
