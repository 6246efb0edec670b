"""Declare every command: its arguments, options and help. What it does is in its own module.

Help and shell completion load this module and nothing that sends or draws, so it must import only
click and what is as light; the body of a command imports the module that does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import isfinite
from typing import Any, TypeVar

import click

from modelslab_llm import __version__

from ._target import AUTHS, STRATEGIES, Where

F = TypeVar("F", bound=Callable[..., Any])
Command = Callable[..., int]


class Undone(Exception):
    """Carry what a file system refused past click, which would end the program in its own way."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _past_click() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise Undone(error) from error


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of this file, not of the alphabet

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] == ["help"]:  # `git help add` is a habit
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _past_click():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _past_click():
            return super().invoke(ctx)


# Options that several commands have


def _profile_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from ._profiles import names_for_completion

    return [name for name in names_for_completion() if name.startswith(incomplete)]


class _Finite(click.FloatRange):
    """A number in a range, without `inf`, `nan` and numbers too large for a float."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_AT_LEAST_1 = click.IntRange(min=1)
_SECONDS = _Finite(min=0, min_open=True)
_FROM_0 = _Finite(min=0)
_ENDPOINT = [
    click.option(
        "--profile",
        metavar="NAME",
        shell_complete=_profile_names,
        help="A profile of `modelslab profile`.",
    ),
    click.option("--v7", is_flag=True, help="The shared ModelsLab API, the default."),
    click.option("--gguf", metavar="ID", help="A GGUF deployment."),
    click.option("--base-url", metavar="URL", help="Any other server that speaks Messages."),
    click.option("--llama-server", metavar="URL", help="Your own llama-server."),
    click.option(
        "--auth", type=click.Choice(AUTHS), help="The header for the key, if it is not the default."
    ),
    click.option(
        "--api-key-file",
        metavar="FILE",
        help="Read the key from a file; - is standard input.",
    ),
]
_PATIENCE = [
    click.option(
        "--timeout",
        metavar="SECONDS",
        type=_SECONDS,
        help="Fail after this much silence; default 600.",
    ),
    click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(min=0),
        default=2,
        help="Retry a failed call; default 2 times.",
    ),
]
_MODEL = click.option("-m", "--model", metavar="NAME", help="The model; see `modelslab models`.")
_SYSTEM = click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
_MAX_TOKENS = click.option(
    "--max-tokens",
    metavar="N",
    type=_AT_LEAST_1,
    help="The maximum number of tokens in the answer; default 4096.",
)
_THINKING = click.option(
    "--thinking", metavar="N", help="Let the model think for up to N tokens first, or `adaptive`."
)
_TEMPERATURE = click.option(
    "--temperature",
    metavar="T",
    type=_FROM_0,
    help="The sampling temperature; 0 for the most likely tokens.",
)
_SCHEMA = [
    click.option("--schema", metavar="FILE", help="A JSON schema that the answer must match."),
    click.option(
        "--strategy", type=click.Choice(STRATEGIES), help="The strategy for structured output."
    ),
]
_PLAIN = click.option("--plain", is_flag=True, help="Do not render Markdown.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _with(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorated(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


def _asks(*options: Callable[..., Any]) -> Callable[[Command], Command]:
    """Add the options that select a server to a command, which gets them as one `where`."""

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def asking(**given: Any) -> int:
            names = Where.__dataclass_fields__.keys() & given.keys()
            return command(where=Where(**{name: given.pop(name) for name in names}), **given)

        decorate: Callable[[Command], Command] = _with(*options, *_ENDPOINT)
        return decorate(asking)

    return decorated


# The commands


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="The endpoint and its key come from options, a profile, or the environment: "
    "MODELSLAB_API_KEY, MODELSLAB_BASE_URL, MODELSLAB_DEPLOYMENT_ID, MODELSLAB_PROFILE, "
    "MODELSLAB_MODEL. Without any of them, the endpoint is the shared ModelsLab API.",
)
@click.version_option(__version__, prog_name="modelslab", message="%(prog)s %(version)s")
def modelslab() -> None:
    """Talk to ModelsLab, GGUF deployments, and any server that speaks the Messages format."""


@modelslab.command()
@click.argument("prompt", required=False)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@_with(_MODEL, _SYSTEM, _MAX_TOKENS, _THINKING)
@_TEMPERATURE
@_with(*_SCHEMA, _JSON, _PLAIN)
@_asks(*_PATIENCE)
def ask(**given: Any) -> int:
    """Ask a question and stream the answer.

    Name text files, images and PDFs after the prompt; piped input is sent along. Only the answer
    goes to standard output, as plain text if that is not a terminal.

    \b
    modelslab ask "What is a fjord?"
    git diff | modelslab ask "Explain this change."
    modelslab ask "What is in the photo?" photo.jpg
    """
    from ._ask import ask

    return ask(**given)


@modelslab.command()
@_with(_MODEL, _SYSTEM, _MAX_TOKENS, _THINKING, _PLAIN)
@_asks(*_PATIENCE)
def chat(**given: Any) -> int:
    """Hold a conversation in the terminal.

    Ctrl-C stops the answer, not the program; /help lists the commands.
    """
    from ._chat import chat

    return chat(**given)


@modelslab.command()
@_JSON
@_asks(*_PATIENCE)
def models(**given: Any) -> int:
    """List the models of the endpoint."""
    from ._models import models

    return models(**given)


@modelslab.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path())
@_with(_MODEL, _SYSTEM, _JSON)
@_asks(*_PATIENCE)
def count(**given: Any) -> int:
    """Count the tokens of files.

    The server counts them, as in a request. - is standard input.
    """
    from ._models import count

    return count(**given)


@modelslab.command()
@click.argument("source", metavar="IN", type=click.Path())
@click.argument("out", metavar="OUT.jsonl", type=click.Path())
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt, with columns in braces: {text}.")
@_with(_SYSTEM, _MODEL, _MAX_TOKENS, _TEMPERATURE)
@_with(*_SCHEMA)
@click.option(
    "--id", "key", metavar="COLUMN", help="The column that identifies a row; default its position."
)
@click.option("--store", metavar="FILE", help="The file for results; default OUT.jsonl.sqlite.")
@click.option(
    "--failures", metavar="FILE", help="The file for failed rows; default OUT.jsonl.failures."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "tsv"]),
    help="The format of IN, if its name does not say.",
)
@click.option(
    "--concurrency",
    metavar="N",
    type=_AT_LEAST_1,
    default=50,
    help="The maximum number of concurrent rows; default 50.",
)
@click.option(
    "--max-failures", metavar="N", type=_AT_LEAST_1, help="Stop after this many failed rows."
)
@click.option("--retry-failed", is_flag=True, help="Send rows again that failed in an earlier run.")
@click.option("--deduplicate", is_flag=True, help="Send identical requests once.")
@click.option(
    "--input-price", metavar="X", type=_FROM_0, help="The price per million input tokens."
)
@click.option(
    "--output-price", metavar="X", type=_FROM_0, help="The price per million output tokens."
)
@click.option("--budget", metavar="X", type=_FROM_0, help="Stop when this much is spent.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and estimate the cost.")
@_JSON
@_asks(*_PATIENCE)
def bulk(**given: Any) -> int:
    """Send a prompt for every row of a file.

    IN is a file of JSON lines, or a table (CSV, TSV) with a header line; - is standard input. The
    prompt is --prompt, or the column `prompt`; otherwise the row is a complete request with
    `messages`. Every answer is stored as it arrives: the same command continues where it stopped.

    \b
    modelslab bulk reviews.csv out.jsonl --prompt "Is this review positive? {text}"
    """
    from ._bulk import bulk

    return bulk(**given)


@modelslab.command()
@click.argument("url", required=False)
@_with(_MODEL, _JSON)
@_asks(
    click.option(
        "--timeout", metavar="SECONDS", type=_SECONDS, help="The timeout of each check; default 30."
    )
)
def doctor(**given: Any) -> int:
    """Diagnose an endpoint and say what to change.

    It makes about twenty small calls. The key is never shown, so the output of `--json` can go into
    a bug report.
    """
    from ._doctor import doctor

    return doctor(**given)


@modelslab.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED)
@_MODEL
@click.option(
    "--wait",
    metavar="SECONDS",
    type=_FROM_0,
    default=600.0,
    help="How long to wait for a cold deployment; default 600.",
)
@_asks()
def claude(**given: Any) -> int:
    """Start Claude Code at the endpoint.

    Arguments after the options are passed to Claude Code unchanged; `--` separates them.

    \b
    modelslab claude --gguf dep_123
    modelslab claude --profile work -- -p "Say hi."
    """
    from ._claude import claude

    return claude(**given)


@modelslab.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: tuple[str, ...]) -> int:
    """Run a local server without a model, for tests and demos."""
    from modelslab_llm.testing.__main__ import main

    return main(arguments, program="modelslab serve")


@modelslab.command()
@click.argument(
    "client", type=click.Choice(["claude", "openai", "modelslab"]), default="claude", required=False
)
@_MODEL
@click.option(
    "--shell",
    type=click.Choice(["posix", "fish", "powershell", "cmd"]),
    help="The syntax; default: that of this system.",
)
@click.option("--show-key", is_flag=True, help="Show the key even in a terminal.")
@_with(_JSON)
@_asks()
def env(**given: Any) -> int:
    """Print the environment for another client, for eval.

    `claude` is for Claude Code and the anthropic package, `openai` for OpenAI clients, `modelslab`
    for this package and this command.

    \b
    eval "$(modelslab env --gguf dep_123)"
    """
    from ._env import env

    return env(**given)


@modelslab.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that completes commands and options.

    \b
    eval "$(modelslab completion bash)"          # in ~/.bashrc; the same for zsh
    modelslab completion fish > ~/.config/fish/completions/modelslab.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # click has the three of the choice
    click.echo(kind(modelslab, {}, "modelslab", "_MODELSLAB_COMPLETE").source())
    return 0


@modelslab.group(cls=_Commands)
def profile() -> None:
    """Store endpoints and keys under names."""


@profile.command()
@click.argument("name")
@click.option("--v7", is_flag=True, help="The shared ModelsLab API, the default.")
@click.option("--gguf", metavar="ID", help="A GGUF deployment.")
@click.option("--base-url", metavar="URL", help="Any other server that speaks Messages.")
@click.option("--llama-server", metavar="URL", help="Your own llama-server.")
@click.option("--auth", type=click.Choice(AUTHS), help="The header for the key.")
@click.option("--model", metavar="NAME", help="The default model.")
@click.option("--api-key-file", metavar="FILE", help="Read the key from a file; - is stdin.")
@click.option("--no-key", is_flag=True, help="Store no key; MODELSLAB_API_KEY is used, if set.")
@click.option("--replace", is_flag=True, help="Overwrite a profile with that name.")
def add(**given: Any) -> int:
    """Add a profile; prompt for its key without showing it.

    The key is stored in the system's key store if the package `keyring` is installed, otherwise in
    a file that only you can read. The first profile becomes the default.
    """
    from ._profile import add

    return add(**given)


@profile.command("list")
@_JSON
def list_(as_json: bool) -> int:
    """List the profiles; keys are not shown."""
    from ._profile import list_profiles

    return list_profiles(as_json)


@profile.command()
@click.argument("name", shell_complete=_profile_names)
def use(name: str) -> int:
    """Make a profile the default."""
    from ._profile import use

    return use(name)


@profile.command()
@click.argument("name", shell_complete=_profile_names)
def remove(name: str) -> int:
    """Remove a profile and its key."""
    from ._profile import remove

    return remove(name)
