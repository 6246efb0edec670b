"""Run a command and turn whatever ends it into one line and an exit status.

Must not know any command: those are declared in `_commands`.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from modelslab_llm.errors import ModelsLabError

from ._commands import Undone, modelslab
from ._log import warnings_shown
from ._status import Fault, Status, line_of, status_of
from ._terminal import discard_output, is_closed_pipe, note, open_streams


def run(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments say and return the exit status."""
    open_streams()
    try:
        with _ended_by_sigterm(), warnings_shown():
            return int(_status(None if arguments is None else list(arguments)))
    finally:
        discard_output()


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """Let SIGTERM, as `timeout` sends it, unwind the program: else a terminal keeps what is drawn,
    and its cursor stays hidden.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(Status.TERMINATED)

    if current_thread() is not main_thread():  # where no signal can be heard
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _status(arguments: list[str] | None) -> int:
    try:
        return _told(modelslab.main(arguments, "modelslab", standalone_mode=False))
    except NoArgsIsHelpError as error:
        return _ended(error.ctx.get_help() if error.ctx else "", Status.WRONG)
    except click.UsageError as error:
        return _ended(_usage(error), Status.WRONG)
    except click.ClickException as error:
        return _ended(f"modelslab: {error.format_message()}", Status.WRONG)
    except click.Abort:  # Ctrl-C, or the end of input at a prompt
        return Status.INTERRUPTED
    except Fault as error:
        return _ended(f"modelslab: {error}", error.status)
    except ModelsLabError as error:
        return _ended(f"modelslab: {line_of(error)}", status_of(error))
    except Undone as error:
        return _undone(error.cause)
    except SystemExit as ended:  # completion and `serve` have their own arguments
        return ended.code if isinstance(ended.code, int) else Status.OK


def _told(status: object) -> int:
    """Return the status of a command that came to its end; help and versions return none."""
    return status if isinstance(status, int) else Status.OK


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "modelslab"
    said = " ".join(error.format_message().split()).rstrip(".")
    return f"{path}: {said[:1].lower()}{said[1:]} (see {path} --help)"


def _undone(error: OSError) -> int:
    if is_closed_pipe(error):
        return Status.OK
    where = error.filename or "standard output"
    # EBADF is what a stream says that the shell closed (`>&-`).
    why = "is closed" if error.errno == errno.EBADF else error.strerror or error
    return _ended(f"modelslab: {where}: {why}", Status.UNWRITTEN)


def _ended(line: str, status: Status) -> Status:
    with suppress(OSError):  # the stream may be closed there either
        note(line)
    return status
