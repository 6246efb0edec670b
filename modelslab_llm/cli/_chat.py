"""`modelslab chat`: a conversation at a terminal.

Ctrl-C stops the answer, not the program; the partial answer stays in the conversation.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelslab_llm import Conversation, InvalidRequestError, ModelsLabError
from modelslab_llm.errors import APIError

from ._ask import ended, limits, model_of, params_of
from ._parts import content_of
from ._screen import screen
from ._status import Fault, Status, line_of, status_of
from ._target import Where, target_of
from ._terminal import console, is_screen, note

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from modelslab_llm import AsyncModelsLab, Usage

PROMPT = "> "


def chat(
    *,
    where: Where,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    thinking: str | None,
    plain: bool,
) -> Status:
    """Talk until Ctrl-D or /quit."""
    if not (is_screen(sys.stdin) and is_screen(sys.stdout)):
        raise Fault("chat needs a terminal; in a pipe use: modelslab ask")
    options = limits(max_tokens, thinking)
    target = target_of(where, model)
    client = target.client()
    try:
        model = asyncio.run(model_of(target, client))
        talk = Talk(client, model, system, options, plain=plain)
        note(f"{model} at {target.endpoint.base_url}; /help lists commands")
        _converse(talk)
    finally:
        asyncio.run(client.close())
    return Status.OK


def _converse(talk: Talk) -> None:
    session = _session()
    while True:
        try:
            said = session.prompt(PROMPT)
            if said.startswith("/"):
                talk.obey(said)
            elif said.strip():
                is_marked = said.lstrip().startswith("/")  # by a space, as no command
                talk.ask(said.lstrip() if is_marked else said)
        except KeyboardInterrupt:  # at the prompt it drops the line, as in a shell
            continue
        except (EOFError, _Quit):
            return
        except Fault as error:
            note(str(error))
        except ModelsLabError as error:
            note(line_of(error))


def _session() -> PromptSession[str]:
    """Return what reads a line: Enter sends it, Alt-Enter begins another line, pasted lines stay
    together. What is typed is remembered until the program ends, and written nowhere.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _begin_another_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    commands = WordCompleter([f"/{name}" for name in COMMANDS], sentence=True)
    return PromptSession(key_bindings=keys, completer=commands, complete_while_typing=False)


class _Quit(Exception):
    """The end of the conversation was asked for."""


class Talk:
    """Hold a conversation, and everything the next question is asked with."""

    def __init__(
        self,
        client: AsyncModelsLab,
        model: str,
        system: str | None,
        limits: dict[str, Any],
        *,
        plain: bool,
    ) -> None:
        self._client = client
        self._model = model
        self._system = system
        self._limits = limits
        self._plain = plain
        self._conversation = Conversation()
        self._attached: list[str] = []
        self._file: Path | None = None
        self._spent = (0, 0)

    # Questions

    def ask(self, said: str) -> None:
        """Send the question, show the answer, and keep both; an interrupted answer is kept
        partially.
        """
        names, self._attached = self._attached, []
        content = content_of(said, names, piped=False)
        before = len(self._conversation.turns)
        self._conversation.add({"role": "user", "content": content})
        try:
            asyncio.run(self._answer())
        except KeyboardInterrupt:
            note("stopped")
        except ModelsLabError as error:
            note(line_of(error))
            partial = error.partial_message if isinstance(error, APIError) else None
            if partial is not None:
                self._conversation.add(partial)
            elif status_of(error) in (Status.WRONG, Status.REFUSED):
                del self._conversation.turns[before:]  # or no later question could be answered
                note("the question was removed")

    async def _answer(self) -> None:
        params = params_of(
            model=self._model,
            messages=self._conversation.messages,
            system=self._system,
            **self._limits,
        )
        with screen(plain=self._plain) as shown:
            async with self._client.messages.stream(**params) as stream:
                try:
                    async for kind, text in stream.deltas:
                        (shown.say if kind == "text" else shown.think)(text)
                except asyncio.CancelledError:  # Ctrl-C; leaving the block stops the model
                    self._conversation.add(stream.current_message)
                    self._spend(stream.current_message.usage)
                    raise
                message = await stream.get_final_message()
        self._conversation.add(message)
        self._spend(message.usage)
        ended(message)

    def _spend(self, usage: Usage) -> None:
        given, made = self._spent
        self._spent = given + usage.input_tokens, made + usage.output_tokens

    # Commands

    def obey(self, said: str) -> None:
        """Do what a line that begins with / says. Raises `Fault` where it cannot be done."""
        name, _, rest = said[1:].strip().partition(" ")
        if name not in COMMANDS:
            raise Fault(f"/{name} is not a command; /help lists them")
        COMMANDS[name].run(self, rest.strip())

    def help(self, rest: str) -> None:
        """List the commands."""
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for name, command in COMMANDS.items():
            table.add_row(f"/{name} {command.argument}".rstrip(), command.about)
        console().print(table)
        console().print("Alt-Enter starts another line; a space before / sends it as a question.")

    def quit(self, rest: str) -> None:
        """End the conversation."""
        raise _Quit

    def new(self, rest: str) -> None:
        """Remove all questions and answers."""
        self._conversation = Conversation()
        self._attached = []

    def undo(self, rest: str) -> None:
        """Remove the last question and its answer."""
        turns = self._conversation.turns
        asked = [i for i, turn in enumerate(turns) if turn["role"] == "user"]
        if not asked:
            raise Fault("there is no question yet")
        del turns[asked[-1] :]

    def model(self, rest: str) -> None:
        """Show the model, or switch to another one."""
        if rest and rest != self._model:
            self._model = rest
            # Thinking is of use to the model only from which it came.
            self._conversation = self._conversation.without_thinking()
        note(self._model)

    def system(self, rest: str) -> None:
        """Show the system prompt, or change it; `-` removes it."""
        if rest:
            self._system = None if rest == "-" else rest
        note(self._system or "no system prompt")

    def tokens(self, rest: str) -> None:
        """Show the tokens used so far, and those of the conversation."""
        given, made = self._spent
        note(f"used so far: {given} in, {made} out")
        messages = self._conversation.messages
        if messages:
            count = params_of(model=self._model, messages=messages, system=self._system)
            note(f"the conversation: {asyncio.run(self._count(count))} tokens")

    async def _count(self, params: Any) -> int:
        try:
            counted = await self._client.messages.count_tokens(**params)
        except ModelsLabError as error:
            raise Fault(line_of(error)) from error
        return counted.input_tokens

    def file(self, rest: str) -> None:
        """Send files with the next question."""
        names = _words(rest)
        content_of("", [*self._attached, *names], piped=False)  # says now what is wrong with them
        self._attached += names
        note(f"sent with the next question: {', '.join(self._attached)}")

    def save(self, rest: str) -> None:
        """Save the conversation as JSON."""
        path = _path(rest) or self._file
        if path is None or rest == "-":
            raise Fault("/save FILE: name a file")
        state = {"model": self._model, "system": self._system, "turns": self._conversation.turns}
        try:
            if path.exists() and path != self._file:
                raise Fault(f"{path} exists; name another file, or remove it first")
            text = json.dumps(state, ensure_ascii=False, indent=1)
            scratch = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
                os.replace(scratch, path)
            finally:
                scratch.unlink(missing_ok=True)
        except OSError as error:
            raise Fault(f"{path}: cannot be written: {error.strerror}") from error
        self._file = path
        note(f"saved: {path}")

    def load(self, rest: str) -> None:
        """Continue a saved conversation."""
        path = _path(rest)
        if path is None:
            raise Fault("/load FILE: name a file")
        model, system, self._conversation = _loaded(path)
        self._model = model or self._model
        self._system = system
        self._file = path
        note(f"{len(self._conversation.turns)} turns with {self._model}")


def _loaded(path: Path) -> tuple[str | None, str | None, Conversation]:
    try:
        state: Any = json.loads(path.read_text(encoding="utf-8"))
        system, model = state.get("system"), state.get("model")
        if not all(isinstance(text, str | None) for text in (system, model)):
            raise TypeError
        return model, system, Conversation(state["turns"])
    except OSError as error:
        raise Fault(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, InvalidRequestError) as error:
        raise Fault(f"{path}: is not a saved conversation") from error


def _path(rest: str) -> Path | None:
    words = _words(rest)
    if len(words) > 1:
        raise Fault(f"{rest}: name one file; put quotes around a name with spaces")
    try:
        return Path(words[0]).expanduser() if words else None
    except RuntimeError as error:  # no user has that name
        raise Fault(f"{rest}: {error}") from None


def _words(rest: str) -> list[str]:
    if os.name == "nt":  # where a backslash parts folders
        return rest.replace('"', "").split() if '"' not in rest else [rest.strip('"')]
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise Fault(f"{rest}: {error}") from None


class _Command:
    """One command of the conversation: its arguments, its effect, and its help."""

    def __init__(self, run: Callable[[Talk, str], None], argument: str = "") -> None:
        self.run = run
        self.argument = argument
        self.about = (run.__doc__ or "").partition("\n")[0]


COMMANDS = {
    "help": _Command(Talk.help),
    "model": _Command(Talk.model, "[NAME]"),
    "system": _Command(Talk.system, "[TEXT]"),
    "tokens": _Command(Talk.tokens),
    "file": _Command(Talk.file, "FILE..."),
    "save": _Command(Talk.save, "[FILE]"),
    "load": _Command(Talk.load, "FILE"),
    "undo": _Command(Talk.undo),
    "new": _Command(Talk.new),
    "quit": _Command(Talk.quit),
}
"""The commands, in the order in which /help lists them."""
