"""`modelslab env`: the environment that leads another client to the endpoint.

The one command that prints a key. To a terminal it does so only when told to.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable

from ._status import Fault, Status
from ._target import Target, Where, target_of
from ._terminal import is_screen, write, write_json

Changes = dict[str, "str | None"]
"""Variables to set, and with None those to remove."""

CLAUDE = (
    *("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"),
    *("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"),
    *(f"ANTHROPIC_DEFAULT_{alias}_MODEL" for alias in ("OPUS", "SONNET", "HAIKU")),
    *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_MAX_CONTEXT_TOKENS"),
)
"""What leads Claude Code somewhere: of another setup, none of it may be left."""


def env(
    *,
    where: Where,
    client: str,
    model: str | None,
    shell: str | None,
    show_key: bool,
    as_json: bool,
) -> Status:
    """Print the variables, as a shell reads them or as JSON."""
    target = target_of(where, model)
    changes = _CHANGES[client](target)
    hidden = is_screen(sys.stdout) and not show_key
    key = target.key
    secrets = {name for name, value in changes.items() if key and value and key in value}
    if as_json:
        told = {name: "***" if hidden and name in secrets else changes[name] for name in changes}
        write_json({name: value for name, value in told.items() if value is not None})
    else:
        line, comment = _SYNTAX[shell or ("powershell" if os.name == "nt" else "posix")]
        lines = [
            f"{comment} {name} is set, but hidden here; --show-key shows it"
            if hidden and name in secrets
            else line(name, value)
            for name, value in changes.items()
        ]
        write("\n".join(lines) + "\n")
    return Status.OK


def claude_changes(target: Target, context_window: int | None = None) -> Changes:
    """Return what Claude Code needs, and the anthropic package; `context_window` in tokens."""
    given = target.endpoint.claude_code_env(target.key, target.model, context_window=context_window)
    return {**dict.fromkeys(CLAUDE), **given}


def _openai_changes(target: Target) -> Changes:
    if target.endpoint.auth == "key":
        raise Fault(
            "OpenAI clients send Authorization: Bearer; this endpoint requires the header key"
        )
    changes: Changes = {
        "OPENAI_BASE_URL": target.endpoint.openai_base_url,
        "OPENAI_API_KEY": target.key or "none",  # the client insists on one
    }
    return changes | ({"OPENAI_MODEL": target.model} if target.model else {})


def _modelslab_changes(target: Target) -> Changes:
    return {
        "MODELSLAB_BASE_URL": target.endpoint.base_url,
        "MODELSLAB_DEPLOYMENT_ID": None,
        "MODELSLAB_PROFILE": None,
        "MODELSLAB_API_KEY": target.key,
        "MODELSLAB_MODEL": target.model,
    }


_CHANGES: dict[str, Callable[[Target], Changes]] = {
    "claude": claude_changes,
    "openai": _openai_changes,
    "modelslab": _modelslab_changes,
}


# What shells read


def _posix(name: str, value: str | None) -> str:
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str | None) -> str:
    if value is None:
        return f"set -e {name}"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'"


def _powershell(name: str, value: str | None) -> str:
    if value is None:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue"
    quoted = value.replace("'", "''")
    return f"$env:{name} = '{quoted}'"


def _cmd(name: str, value: str | None) -> str:
    if value is None:
        return f"set {name}="
    if any(char in value for char in '"%\r\n'):
        raise Fault(f"the value of {name} cannot be quoted for cmd; use --shell powershell")
    return f'set "{name}={value}"'


_SYNTAX: dict[str, tuple[Callable[[str, str | None], str], str]] = {
    "posix": (_posix, "#"),
    "fish": (_fish, "#"),
    "powershell": (_powershell, "#"),
    "cmd": (_cmd, "rem"),
}
"""How a shell sets a variable or removes it, and how it has comments."""
