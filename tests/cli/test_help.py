"""Help, completion, and what the command line says where its libraries are missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from commands import COMMAND, PATIENCE, ROOT, Ran, environment, run

from modelslab_llm.cli import _status
from modelslab_llm.cli._commands import modelslab
from modelslab_llm.cli._target import AUTHS, STRATEGIES
from modelslab_llm.endpoints import Auth, Strategy

Here = Callable[..., Ran]

COMMANDS = [*modelslab.commands, "profile add", "profile list", "profile use", "profile remove"]
HEAVY = {"asyncio", "h11", "httpcore", "httpx", "jsonschema", "keyring", "logging.config"}
HEAVY |= {"prompt_toolkit", "pydantic", "rich", "ssl", "tomlkit"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(here: Here, command: str) -> None:
    status, out, err = here(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert out.lower().startswith(f"usage: modelslab {command}".rstrip())
    if command != "serve":  # whose help is that of the test kit
        assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_as_a_command(here: Here, command: str) -> None:
    assert here("help", *command.split()) == here(*command.split(), "--help")
    group, _, name = command.rpartition(" ")
    if group:
        assert here(group, "help", name) == here(group, name, "--help")


def test_help_about_what_is_no_command(here: Here) -> None:
    status, out, err = here("help", "aks")
    assert (status, out) == (2, "")
    assert err.startswith("modelslab: no such command 'aks'")


def test_help_shows_no_range_without_an_end(here: Here) -> None:
    for command in COMMANDS:
        assert "None" not in here(*command.split(), "--help").out


def test_choices_are_those_of_the_types(here: Here) -> None:
    assert get_args(Strategy) == STRATEGIES
    assert (*get_args(Auth), "none") == AUTHS
    for command in ("ask", "bulk"):
        assert f"--strategy [{'|'.join(STRATEGIES)}]" in here(command, "--help").out


def test_the_help_lists_every_command(here: Here) -> None:
    out = here("--help").out
    listed = re.findall(r"^  (\w+)  ", out.partition("Commands:")[2], re.M)
    assert listed == list(modelslab.commands)
    assert "..." not in out.partition("Commands:")[2].partition("\n\n")[0]  # none is cut


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["--version"]])
def test_help_loads_nothing_that_sends_or_draws(arguments: list[str]) -> None:
    """Guard how fast it is, without measuring it."""
    code = (
        f"import sys; from modelslab_llm.cli import main; status = main({arguments!r}); "
        "print(file=sys.stderr, *sys.modules); sys.exit(status)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(ran.stderr.split())
    assert not HEAVY & loaded, (
        f"help loads {sorted(HEAVY & loaded)}: import it in the module that does the work, and that"
        " module in the body of its command"
    )


def test_the_version(here: Here) -> None:
    assert re.fullmatch(r"modelslab \d+\.\d+\.\d+\n", here("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(here: Here, shell: str) -> None:
    status, out, _ = here("completion", shell)
    assert status == 0
    assert "_MODELSLAB_COMPLETE" in out


def complete(home: Path, *words: str) -> list[str]:
    """Return what bash would be offered for the last word."""
    env = environment(None, home, COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    ran = run(env=env | {"_MODELSLAB_COMPLETE": "bash_complete"})
    return [line.partition(",")[2] for line in ran.out.splitlines() if line]


@pytest.mark.slow
def test_commands_options_and_profiles_are_completed(home: Path) -> None:
    folder = home / ".config" / "modelslab"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[profiles.work]\ngguf = "d"\n[profiles.home]\n')
    assert complete(home, "modelslab", "mo") == ["models"]
    assert "--api-key-file" in complete(home, "modelslab", "ask", "--api")
    assert complete(home, "modelslab", "ask", "--profile", "w") == ["work"]
    assert complete(home, "modelslab", "profile", "use", "") == ["home", "work"]
    (folder / "config.toml").write_text("[broken")
    assert complete(home, "modelslab", "profile", "use", "") == []


# Without the extra

HIDDEN = "import sys; sys.modules.update(dict.fromkeys({names}));"


# The others are loaded at a terminal only: test_terminal.py has them.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["click", "tomlkit", "jsonschema"])
@pytest.mark.parametrize("how", ["runpy", "console script"])
def test_without_the_extra_it_says_which_one(name: str, how: str) -> None:
    start = {
        "runpy": "import runpy; runpy.run_module('modelslab_llm', run_name='__main__')",
        "console script": "from modelslab_llm.cli import main; sys.exit(main())",
    }[how]
    needs = {"tomlkit": "profile list", "jsonschema": "ask Hi --schema s.json"}
    code = HIDDEN.format(names=[name]) + start
    ran = subprocess.run(
        [sys.executable, "-c", code, *needs.get(name, "--help").split()],
        env=environment(None, ROOT / "tests", MODELSLAB_API_KEY="k"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"modelslab: the command line needs the package {name}, from an extra: "
        "pip install 'modelslab-llm[cli]'\n"
    )


@pytest.mark.slow
def test_the_test_kit_works_without_the_extra() -> None:
    names = ["click", "rich", "tomlkit", "prompt_toolkit", "jsonschema", "keyring"]
    code = HIDDEN.format(names=names) + (
        "import runpy; sys.argv[1:] = ['--help'];"
        "runpy.run_module('modelslab_llm.testing', run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: python -m modelslab_llm.testing")


# What the page says


def test_the_exit_statuses_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\d+)` \| (.+?) \|$", page, re.M))
    assert table.keys() == {str(int(status)) for status in _status.Status}


def test_the_page_names_every_command_and_option() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name, command in modelslab.commands.items():
        assert f"modelslab {name}" in page, f"docs/command-line.md does not show {name}"
        for option in command.params:
            for spelling in option.opts if option.param_type_name == "option" else ():
                assert spelling in page, f"docs/command-line.md does not name {name} {spelling}"


def test_json_of_every_command_that_has_it_is_json(here: Here, server: object) -> None:
    for command in ("models --json", "count --json", "env --json", "profile list --json"):
        ran = here(*command.split(), server=server, stdin=b"some words")
        assert ran.status == 0, ran.err
        json.loads(ran.out)


assert COMMAND[-1] == "modelslab_llm"
