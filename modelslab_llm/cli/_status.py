"""Say what an exit status means, and which failure has which. Prints nothing, ends nothing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

from modelslab_llm import errors


class Status(IntEnum):
    """The exit statuses: the table of docs/command-line.md, row by row."""

    OK = 0
    """Success. Also if the reader of the output stops early, as in `... | head`."""
    FAULTY = 1
    """`doctor` found something that does not work, or rows of `bulk` failed."""
    WRONG = 2
    """The command, a file it reads, or the configuration is wrong; nothing was sent."""
    ACCOUNT = 3
    """The server refused the key, or the account: 401, 402, 403."""
    LATER = 4
    """No answer now: no connection, a timeout, a broken stream, 408, 409, 429, 5xx."""
    REFUSED = 5
    """The server will not answer this request: 400, 404, 413, 422, or not a Messages server."""
    INCOMPLETE = 6
    """The answer was truncated, refused by the model, or does not match the schema; or a budget was
    spent before the end."""
    UNWRITTEN = 7
    """The output could not be written: the disk is full, a folder is read-only, standard output is
    closed."""
    INTERRUPTED = 130
    """Ctrl-C."""
    TERMINATED = 143
    """SIGTERM, as `timeout` sends it."""


class Fault(Exception):
    """What is wrong with a command, as one line with its cure; `status` is how the command ends."""

    def __init__(self, line: str, status: Status = Status.WRONG) -> None:
        super().__init__(line)
        self.status = status


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Name the file in the failure where it cannot be written. Raises `Fault`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise Fault(f"{path}: cannot be written: {reason}", Status.UNWRITTEN) from error


_STATUS: dict[type[errors.ModelsLabError], Status] = {
    errors.InvalidRequestError: Status.WRONG,
    errors.ConfigurationError: Status.WRONG,
    errors.AuthenticationError: Status.ACCOUNT,
    errors.PaymentRequiredError: Status.ACCOUNT,
    errors.PermissionDeniedError: Status.ACCOUNT,
    errors.RequestTimeoutError: Status.LATER,
    errors.ConflictError: Status.LATER,
    errors.RateLimitError: Status.LATER,
    errors.InternalServerError: Status.LATER,
    errors.APIConnectionError: Status.LATER,
    errors.APIError: Status.REFUSED,
    errors.OutputError: Status.INCOMPLETE,
    errors.BudgetSpentError: Status.INCOMPLETE,
    errors.TooManyFailuresError: Status.FAULTY,
    errors.StoreError: Status.WRONG,
    errors.ModelsLabError: Status.REFUSED,
}
"""The first class that fits counts."""

_SEE_DOCTOR = (
    errors.APIConnectionError,
    errors.AuthenticationError,
    errors.NotFoundError,
    errors.UnexpectedResponseError,
)
"""What `modelslab doctor` can say more about."""


def status_of(error: errors.ModelsLabError) -> Status:
    """Return the exit status for a failure of the package.

    >>> status_of(errors.RateLimitError("Slow down.", status_code=429)).name
    'LATER'
    """
    if isinstance(error, errors.APIStatusError) and error.permanent:
        return Status.REFUSED if error.status_code >= 500 else _by_class(error)
    return _by_class(error)


def _by_class(error: errors.ModelsLabError) -> Status:
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def line_of(error: errors.ModelsLabError) -> str:
    """Return a failure as one line; where more can be found out, it says how."""
    advice = "; `modelslab doctor` checks the endpoint" if isinstance(error, _SEE_DOCTOR) else ""
    return f"{error}{advice}"
