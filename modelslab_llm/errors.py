"""Define the error tree: what each error contains, and what its one-line message says.

    ModelsLabError
    ├─ ConfigurationError            the configuration is invalid (also a ValueError)
    ├─ InvalidRequestError           refused before anything was sent (also a ValueError)
    ├─ APIError                      a call failed after it started
    │  ├─ APIConnectionError         no usable response: refused, reset, DNS, TLS
    │  │  ├─ APITimeoutError         .phase says which limit was reached
    │  │  ├─ StreamInterruptedError  the stream ended before the message did
    │  │  └─ ClientClosedError       the client was closed (also a ConfigurationError)
    │  ├─ UnexpectedResponseError    a 2xx answer that is not a message
    │  └─ APIStatusError             the server answered with an error; one class per status
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
"""The maximum length of `str(error)`: one log line."""


class ModelsLabError(Exception):
    """The base class of every error that this package raises."""


class ConfigurationError(ModelsLabError, ValueError):
    """The configuration is invalid: no key, a bad URL or ID, a function without types."""


class InvalidRequestError(ModelsLabError, ValueError):
    """The request was refused before anything was sent; the error names each mistake."""


class ToolError(ModelsLabError):
    """A tool, or the loop that runs tools, failed."""

    tool_use: ToolUseBlock | None
    """The call that failed, if there is one."""
    messages: list[MessageParam]
    """The conversation so far, with every call answered, so that a request can continue it."""

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
    """The arguments of a call do not match the tool; the error names each mistake."""


class TooManyTurnsError(ToolError):
    """The model still called tools in the last allowed turn; those calls were not run."""


class OutputError(ModelsLabError):
    """A response arrived, but without the output that `parse` asked for. The tokens were used all
    the same, so the answer is kept here, with its usage.
    """

    message: Message
    """The answer, as the server sent it."""
    messages: list[MessageParam]
    """The history for another attempt: the original one and, for an `OutputInvalidError`, the
    answer and what is wrong with it."""
    tool_use: ToolUseBlock | None
    """The call that should have contained the output, if there was one."""
    raw_text: str = ""
    """The text that failed to parse: the arguments of the call, or the answer's text."""
    previous_attempts: tuple[Message, ...] = ()
    """The earlier invalid answers; empty unless `validation_retries` was set."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.messages = []
        self.tool_use = None

    @property
    def reason(self) -> str:
        """What is wrong with the answer, in full; `str(error)` may be truncated."""
        return str(self.args[0])

    @property
    def usage(self) -> Usage:
        """The usage of the answer, without the earlier ones."""
        return self.message.usage

    @property
    def total_usage(self) -> Usage:
        """The usage of all answers: the earlier ones and this one."""
        total = self.message.total_usage
        for message in self.previous_attempts:
            total = message.total_usage + total
        return total

    def __str__(self) -> str:
        return _one_line(self.reason, LINE)


class OutputTruncatedError(OutputError):
    """The answer was truncated at `max_tokens`, or at the end of the model's context."""


class OutputRefusedError(OutputError):
    """The model refused to answer; `message.stop_details` may say why."""


class OutputInvalidError(OutputError):
    """The answer contains no JSON, or does not match the type; the error says where."""


class BudgetSpentError(ModelsLabError):
    """A budget is spent, and the next call was refused; nothing was sent.

    If `parse` was about to retry, `__cause__` is the `OutputInvalidError` of the last answer.
    """


class TooManyFailuresError(ModelsLabError):
    """A bulk run ended because `max_failures` rows had failed."""


class StoreError(ModelsLabError):
    """A store of bulk runs cannot be used: another run has it open, or it is another kind of
    file.
    """


class APIError(HintsAtNames, ModelsLabError):
    """A call failed after it started. `str(error)` is one line with everything that is known."""

    message: str
    """What went wrong, in the server's own words if it sent any."""
    type: str | None
    """The server's name for the failure, such as `"rate_limit_error"`."""
    code: int | str | None
    """The server's error code, if it sent one."""
    request_id: str | None
    """The request ID, to quote to the operator of the server."""
    body: object
    """The response body as parsed JSON, or as text if it was not JSON."""
    partial_message: Message | None
    """The message so far, if a stream failed."""

    method: str = ""
    url: str = ""
    attempts: int = 0
    """How many times the request was sent."""
    elapsed: float = 0.0
    """Seconds from the start of the call to its failure."""
    waited: float = 0.0
    """Seconds of that in the client's queue, because the server refused calls."""
    hint: str = ""
    """What to do about it, if there is something to do."""
    permanent: bool = False
    """True if repeating the same call cannot succeed; it is then never retried."""

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
    """No usable response arrived: the connection was refused or reset, or TLS failed."""

    unknown_host: bool = False
    """True if the hostname cannot be resolved."""


class APITimeoutError(APIConnectionError):
    """A timeout was reached; `.phase` says which."""

    phase: Literal["connect", "write", "read", "pool", "deadline", "progress", "queue", ""] = ""


class StreamInterruptedError(APIConnectionError):
    """The stream ended, or broke, before the message was complete."""


class ClientClosedError(APIConnectionError, ConfigurationError):
    """The client was closed, before or during the call."""

    permanent = True


class UnexpectedResponseError(APIError):
    """The server answered 2xx with something that is not a message."""

    status_code: int = 0
    content_type: str = ""


class APIStatusError(APIError):
    """The server answered with an error, as an HTTP status or as an error event in a stream."""

    status_code: int
    """The HTTP status; for an error inside a 200 response, the status that its type stands for."""
    headers: Mapping[str, str]
    """The response headers, names in lower case."""
    retry_after: float | None
    """Seconds that the server asked to wait, if it did."""
    in_stream: bool
    """True if the error arrived as an event inside a stream."""

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
    """400: the request is invalid."""


class ContextOverflowError(BadRequestError):
    """400: prompt and answer exceed the model's context window."""

    prompt_tokens: int | None = None
    """Tokens in the prompt, if the server reported them."""
    context_size: int | None = None
    """The size of the context window in tokens, if the server reported it."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong, or for another server."""


class PaymentRequiredError(APIStatusError):
    """402: the account has no credit left."""


class PermissionDeniedError(APIStatusError):
    """403: the key is known but may not do this."""


class NotFoundError(APIStatusError):
    """404: no such model, deployment or path; the error shows the URL."""


class UnsupportedOperationError(NotFoundError):
    """404, 405 or 501: the server does not support this operation."""


class RequestTimeoutError(APIStatusError):
    """408: the server waited too long for the request."""


class ConflictError(APIStatusError):
    """409: the request conflicts with another one."""


class RequestTooLargeError(APIStatusError):
    """413: the request has too many bytes."""


class UnprocessableEntityError(APIStatusError):
    """422: a field of the request is invalid."""


class RateLimitError(APIStatusError):
    """429: too many requests; `.retry_after` says how long to wait, if the server said so."""


class InternalServerError(APIStatusError):
    """5xx: the server failed."""


class BadGatewayError(InternalServerError):
    """502: the gateway cannot reach the model."""


class ServiceUnavailableError(InternalServerError):
    """503: the server is temporarily unavailable."""


class EndpointNotReadyError(ServiceUnavailableError):
    """503: the deployment is not running yet, or no longer."""

    endpoint_status: str = ""
    """`"deploying"`, `"loading"`, `"paused"`, or another status of the gateway."""


class GatewayTimeoutError(InternalServerError):
    """504: the model did not answer the gateway in time."""


class OverloadedError(InternalServerError):
    """529: the server is overloaded."""


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
    """Return a text as one line for a log, truncated to `most` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * LINE]).split())
    return line if len(line) <= most else line[: most - 3] + "..."
