"""The error tree, and how each error tells what happened: what it keeps, what its line says.

    ModelsLabError
    ├─ ConfigurationError            the client was set up wrong (also a ValueError)
    ├─ InvalidRequestError           refused before anything was sent (also a ValueError)
    ├─ APIError                      a call failed after it started
    │  ├─ APIConnectionError         no usable answer: refused, reset, DNS, TLS
    │  │  ├─ APITimeoutError         .phase says which limit was reached
    │  │  ├─ StreamInterruptedError  the stream ended before the message did
    │  │  └─ ClientClosedError       the client was closed (also a ConfigurationError)
    │  ├─ UnexpectedResponseError    a 2xx answer that is not a message
    │  └─ APIStatusError             the server said no; one class per status, see BY_STATUS
    ├─ ToolError                     raised by the tool helpers
    │  ├─ ToolInputError             the arguments of a call do not fit the tool
    │  └─ TooManyTurnsError          the model still calls tools after the last turn allowed
    ├─ OutputError                   an answer came, but not the output that was asked for
    │  ├─ OutputTruncatedError       the answer was cut at a limit
    │  ├─ OutputRefusedError         the model would not answer
    │  └─ OutputInvalidError         what came does not fit the type
    ├─ BudgetSpentError              a budget is spent, so the next call is not made
    ├─ TooManyFailuresError          a bulk run ended at max_failures
    └─ StoreError                    a store of bulk runs cannot be used

Which answer of a server is which error is decided in `_refusals`, which failure of the HTTP library
in `_foreign`. No error ever holds the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from ._hints import HintsAtNames

if TYPE_CHECKING:
    from .types.content import ToolUseBlock
    from .types.message import Message
    from .types.requests import MessageParam
    from .types.usage import Usage

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadGatewayError",
    "BadRequestError",
    "BudgetSpentError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "ContextOverflowError",
    "EndpointNotReadyError",
    "GatewayTimeoutError",
    "InternalServerError",
    "InvalidRequestError",
    "ModelsLabError",
    "NotFoundError",
    "OutputError",
    "OutputInvalidError",
    "OutputRefusedError",
    "OutputTruncatedError",
    "OverloadedError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "ServiceUnavailableError",
    "StoreError",
    "StreamInterruptedError",
    "TooManyFailuresError",
    "TooManyTurnsError",
    "ToolError",
    "ToolInputError",
    "UnexpectedResponseError",
    "UnprocessableEntityError",
    "UnsupportedOperationError",
]

LINE = 500
"""The most characters `str(error)` has: one log line."""


class ModelsLabError(Exception):
    """Everything this package raises on purpose is one of these."""


class ConfigurationError(ModelsLabError, ValueError):
    """A client or a tool was set up wrong: no key, a bad URL or id, a function without types."""


class InvalidRequestError(ModelsLabError, ValueError):
    """The request was refused before anything was sent; the text names each bad place."""


class ToolError(ModelsLabError):
    """A tool, or the loop that runs tools, could not do its work."""

    tool_use: ToolUseBlock | None
    """The call that failed, where it is one."""
    messages: list[MessageParam]
    """What a request can go on from: the conversation so far, with every call answered."""

    def __init__(
        self,
        text: str = "",
        *,
        tool_use: ToolUseBlock | None = None,
        messages: Iterable[MessageParam] = (),
    ) -> None:
        super().__init__(text)
        self.tool_use = tool_use
        self.messages = list(messages)


class ToolInputError(ToolError):
    """The arguments of a call do not fit the tool; the text names each place."""


class TooManyTurnsError(ToolError):
    """The model still called tools in the last turn that was allowed; those calls were not run."""


class OutputError(ModelsLabError):
    """An answer came, but not the output that `parse` was asked for. It was paid for all the same:
    it is kept here, with what it cost."""

    message: Message
    """The answer, as the server sent it."""
    messages: list[MessageParam]
    """What to ask again with: as it was asked, and for an `OutputInvalidError` with the answer and
    what is wrong with it."""
    tool_use: ToolUseBlock | None
    """The call that should have brought the output, where one came."""
    raw_text: str = ""
    """What should have been the output: the arguments of the call, or the answer's text."""
    previous_attempts: tuple[Message, ...] = ()
    """The earlier answers that did not fit either; empty unless `validation_retries` was set."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.messages = []
        self.tool_use = None

    @property
    def reason(self) -> str:
        """What is wrong with the answer, in full; `str(error)` may be cut."""
        return str(self.args[0])

    @property
    def usage(self) -> Usage:
        """Token counts of the answer, without the earlier ones."""
        return self.message.usage

    @property
    def total_usage(self) -> Usage:
        """All tokens that were paid for: those of the earlier answers, and of this one."""
        total = self.message.total_usage
        for message in self.previous_attempts:
            total = message.total_usage + total
        return total

    def __str__(self) -> str:
        return _one_line(self.reason, LINE)


class OutputTruncatedError(OutputError):
    """The answer was cut at `max_tokens`, or at the end of the model's context."""


class OutputRefusedError(OutputError):
    """The model refused to answer; `message.stop_details` may say why."""


class OutputInvalidError(OutputError):
    """What came is not JSON, or does not fit the type; the text says where, as for the model."""


class BudgetSpentError(ModelsLabError):
    """A budget is spent, so the next call is not made; nothing was sent.

    If `parse` was about to ask again, `__cause__` is the `OutputInvalidError` of the last answer.
    """


class TooManyFailuresError(ModelsLabError):
    """A bulk run ended because `max_failures` rows had failed."""


class StoreError(ModelsLabError):
    """A store of bulk runs cannot be used: another run has it open, or it is something else."""


class APIError(HintsAtNames, ModelsLabError):
    """A call failed after it started. `str(error)` is one line with all that is known."""

    message: str
    """What went wrong, in the server's own words where it had any."""
    type: str | None
    """The server's name for the failure, such as `"rate_limit_error"`."""
    code: int | str | None
    """The server's code, where it sent one."""
    request_id: str | None
    """What to quote to whoever runs the server."""
    body: object
    """The answer as parsed JSON, or as text where it was not JSON."""
    partial_message: Message | None
    """What had arrived of the message, when a stream failed under way."""

    method: str = ""
    url: str = ""
    attempts: int = 0
    """How many times the request was sent."""
    elapsed: float = 0.0
    """Seconds from the start of the call to its failure."""
    waited: float = 0.0
    """Seconds of that in the client's queue, because the server refused calls."""
    hint: str = ""
    """What to do about it, where there is something to do."""
    permanent: bool = False
    """True when the same call cannot succeed by being repeated; it is then never retried."""

    def __init__(
        self,
        message: str,
        *,
        type: str | None = None,
        code: int | str | None = None,
        request_id: str | None = None,
        body: object = None,
        partial_message: Message | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.code = code
        self.request_id = request_id
        self.body = body
        self.partial_message = partial_message

    def _headline(self) -> str:
        return self.message

    def _advice(self) -> list[str]:
        return [self.hint] if self.hint else []

    def __str__(self) -> str:
        facts = self._advice()
        facts += [f"{self.method} {self.url}"] if self.url else []
        if self.request_id:
            facts.append(f"request id {self.request_id}")
        if self.attempts:
            tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
            queued = f", {self.waited:.1f} s of it in the queue" if self.waited >= 0.05 else ""
            facts.append(f"{tries}, {self.elapsed:.1f} s{queued}")
        elif self.waited:
            facts.append(f"{self.waited:.1f} s in the queue")
        tail = f" ({_one_line('; '.join(facts), LINE // 2)})" if facts else ""
        return _one_line(self._headline(), LINE - len(tail)) + tail


class APIConnectionError(APIError):
    """No usable answer came: the connection was refused, reset, or could not be made secure."""

    unknown_host: bool = False
    """True when there is no such host name, as far as can be told from here."""


class APITimeoutError(APIConnectionError):
    """A time limit was reached; `.phase` says which."""

    phase: Literal["connect", "write", "read", "pool", "deadline", "progress", "queue", ""] = ""


class StreamInterruptedError(APIConnectionError):
    """The stream ended, or broke, before the message was complete."""


class ClientClosedError(APIConnectionError, ConfigurationError):
    """The client was closed, before the call or while it was under way."""

    permanent = True


class UnexpectedResponseError(APIError):
    """The server answered 2xx with something that is not a message."""

    status_code: int = 0
    content_type: str = ""


class APIStatusError(APIError):
    """The server said no, by HTTP status or by an error event inside a stream."""

    status_code: int
    """The HTTP status; for an error inside a 200 answer, the status its type stands for."""
    headers: Mapping[str, str]
    """The response headers, names in lower case."""
    retry_after: float | None
    """Seconds the server asked to wait, where it did."""
    in_stream: bool
    """True when the error came as an event inside a stream."""

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        in_stream: bool = False,
        type: str | None = None,
        code: int | str | None = None,
        request_id: str | None = None,
        body: object = None,
        partial_message: Message | None = None,
    ) -> None:
        super().__init__(
            message,
            type=type,
            code=code,
            request_id=request_id,
            body=body,
            partial_message=partial_message,
        )
        self.status_code = status_code
        self.headers = dict(headers or {})
        self.retry_after = retry_after
        self.in_stream = in_stream

    _where: str = "HTTP"

    def _advice(self) -> list[str]:
        wait = self.retry_after
        return super()._advice() + ([f"retry after {wait:.1f} s"] if wait is not None else [])

    def _headline(self) -> str:
        kind = f" {self.type}" if self.type else ""
        silent = self.message == f"HTTP {self.status_code}"
        said = "the server gave no reason" if silent else self.message
        where = "error in the stream," if self.in_stream else self._where
        return f"{where} {self.status_code}{kind}: {said}"


class BadRequestError(APIStatusError):
    """400: the server cannot make sense of the request."""


class ContextOverflowError(BadRequestError):
    """400: prompt and answer do not fit into the model's context."""

    prompt_tokens: int | None = None
    """Tokens in the prompt, where the server said so."""
    context_size: int | None = None
    """Tokens the model can hold, where the server said so."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong, or for another server."""


class PaymentRequiredError(APIStatusError):
    """402: the account has no credit left."""


class PermissionDeniedError(APIStatusError):
    """403: the key is known but may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model, deployment or path; the error shows the URL that was asked."""


class UnsupportedOperationError(NotFoundError):
    """404, 405 or 501: the server is there but does not have this operation."""


class RequestTimeoutError(APIStatusError):
    """408: the server waited too long for the request."""


class ConflictError(APIStatusError):
    """409: another request is in the way."""


class RequestTooLargeError(APIStatusError):
    """413: the request has too many bytes."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request has the wrong form."""


class RateLimitError(APIStatusError):
    """429: too many requests; `.retry_after` says how long to wait, where the server did."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class BadGatewayError(InternalServerError):
    """502: the gateway cannot reach the model."""


class ServiceUnavailableError(InternalServerError):
    """503: the server cannot answer now."""


class EndpointNotReadyError(ServiceUnavailableError):
    """503: the deployment does not run yet, or no longer."""

    endpoint_status: str = ""
    """`"deploying"`, `"loading"`, `"paused"`, or another word of the gateway's."""


class GatewayTimeoutError(InternalServerError):
    """504: the model did not answer the gateway in time."""


class OverloadedError(InternalServerError):
    """529: the server has too much to do."""


BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    413: RequestTooLargeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    502: BadGatewayError,
    503: ServiceUnavailableError,
    504: GatewayTimeoutError,
    529: OverloadedError,
}


def _one_line(text: str, most: int) -> str:
    """Return a text as one line for a log, cut where it is longer than `most` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LINE]).split())
    return line if len(line) <= most else line[: most - 3] + "..."
