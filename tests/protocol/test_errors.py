"""Prove which error each failure becomes, what it says, and that it never holds the key.

All is decided by pure functions (`from_status`, `from_payload`), so no server is needed; only
where the key is hidden does a client take part.
"""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import httpx
import pytest
from matrix.refusals import ENVELOPES, STATUS
from variants import Async, Chunks, Sync

import modelslab_llm
from modelslab_llm import Message, endpoints, errors
from modelslab_llm._hints import HintsAtNames
from modelslab_llm._protocol.config import Config
from modelslab_llm._protocol.messages import read_message
from modelslab_llm._protocol.refusals import from_payload, from_status
from modelslab_llm._protocol.values import Answer
from modelslab_llm.errors import APIConnectionError, APIError, APIStatusError, ModelsLabError

Json = dict[str, Any]
NOW = 1_792_000_000.0  # Unix seconds; 2026-10-14 17:46:40 UTC, a Wednesday

# httpx's own generators, not the package's, are left unfinished when a stream ends before its body.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Async generator '(httpx\.|variants\.Chunks):ResourceWarning"
)


def error_of(
    status: int,
    body: object = b"",
    headers: Mapping[str, str] | None = None,
    operation: str = "",
) -> APIStatusError:
    """Return the error for an answer; a body that is no bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_status(status, headers or {}, raw, now=NOW, operation=operation)


# The tree

TREE = {  # child: parents, as in the design
    "ConfigurationError": "ModelsLabError ValueError",
    "InvalidRequestError": "ModelsLabError ValueError",
    "APIError": "ModelsLabError",
    "APIConnectionError": "APIError",
    "APITimeoutError": "APIConnectionError",
    "StreamInterruptedError": "APIConnectionError",
    "ClientClosedError": "APIConnectionError ConfigurationError",
    "UnexpectedResponseError": "APIError",
    "APIStatusError": "APIError",
    "BadRequestError": "APIStatusError",
    "ContextOverflowError": "BadRequestError",
    "AuthenticationError": "APIStatusError",
    "PaymentRequiredError": "APIStatusError",
    "PermissionDeniedError": "APIStatusError",
    "NotFoundError": "APIStatusError",
    "UnsupportedOperationError": "NotFoundError",
    "RequestTimeoutError": "APIStatusError",
    "ConflictError": "APIStatusError",
    "RequestTooLargeError": "APIStatusError",
    "UnprocessableEntityError": "APIStatusError",
    "RateLimitError": "APIStatusError",
    "InternalServerError": "APIStatusError",
    "BadGatewayError": "InternalServerError",
    "ServiceUnavailableError": "InternalServerError",
    "EndpointNotReadyError": "ServiceUnavailableError",
    "GatewayTimeoutError": "InternalServerError",
    "OverloadedError": "InternalServerError",
    "BudgetSpentError": "ModelsLabError",
    "StoreError": "ModelsLabError",
    "TooManyFailuresError": "ModelsLabError",
    "ToolError": "ModelsLabError",
    "ToolInputError": "ToolError",
    "TooManyTurnsError": "ToolError",
    "OutputError": "ModelsLabError",
    "OutputTruncatedError": "OutputError",
    "OutputRefusedError": "OutputError",
    "OutputInvalidError": "OutputError",
}


@pytest.mark.parametrize(("child", "parents"), TREE.items())
def test_the_tree(child: str, parents: str) -> None:
    """Who catches a class catches exactly those below it."""
    bases = [base for base in getattr(errors, child).__bases__ if base is not HintsAtNames]
    assert [base.__name__ for base in bases] == parents.split()


def test_the_tree_is_whole_and_public() -> None:
    assert sorted([*TREE, "ModelsLabError"]) == errors.__all__
    for name in errors.__all__:
        assert getattr(modelslab_llm, name) is getattr(errors, name)
        assert name in modelslab_llm.__all__


def test_every_class_says_what_happened() -> None:
    for name in errors.__all__:
        assert inspect.getdoc(vars(errors)[name]), name


# Status to class


@pytest.mark.parametrize(("status", "kind"), STATUS.items())
def test_status_to_class(status: int, kind: type[APIStatusError]) -> None:
    """The status decides, whatever the type in the body says."""
    # The type is another status's: the class goes by the status all the same.
    error = error_of(status, {"error": {"type": "conflict_error", "message": "No."}})
    assert type(error) is kind
    assert error.status_code == status
    assert error.type == "conflict_error"
    assert not error.in_stream


TYPES = {
    "invalid_request_error": (400, errors.BadRequestError),
    "authentication_error": (401, errors.AuthenticationError),
    "billing_error": (402, errors.PaymentRequiredError),
    "permission_error": (403, errors.PermissionDeniedError),
    "not_found_error": (404, errors.NotFoundError),
    "conflict_error": (409, errors.ConflictError),
    "request_too_large": (413, errors.RequestTooLargeError),
    "rate_limit_error": (429, errors.RateLimitError),
    "api_error": (500, errors.InternalServerError),
    "server_error": (500, errors.InternalServerError),
    "internal_error": (500, errors.InternalServerError),
    "unavailable_error": (503, errors.ServiceUnavailableError),
    "timeout_error": (504, errors.GatewayTimeoutError),
    "overloaded_error": (529, errors.OverloadedError),
    "exceed_context_size_error": (400, errors.ContextOverflowError),
    "new_api_error": (500, errors.InternalServerError),
}


@pytest.mark.parametrize(("name", "wanted"), TYPES.items())
def test_type_to_class_inside_a_stream(name: str, wanted: tuple[int, type[APIStatusError]]) -> None:
    payload = {"type": "error", "error": {"type": name, "message": "No."}}
    error = from_payload(payload, {"request-id": "req_1"}, now=NOW, in_stream=True)
    assert (error.status_code, type(error)) == wanted
    assert (error.type, error.message, error.in_stream) == (name, "No.", True)
    assert error.request_id == "req_1"
    assert error.body == payload


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "404"}, 404),
        ({"code": 400}, 400),
        ({"code": 599}, 599),
        ({"code": 399}, 500),
        ({"code": 600}, 500),
        ({"code": "4000"}, 500),
        ({"code": 200}, 500),
        ({"code": "rate_limited"}, 500),
        ({"code": None}, 500),
        ({"code": True}, 500),
        ({"type": "rate_limit_error", "code": 500}, 429),
        ({"type": "upstream_error", "code": 503}, 503),
        ({}, 500),
    ],
)
def test_the_code_counts_where_the_type_is_unknown(said: Json, status: int) -> None:
    error = from_payload({"error": {"message": "No.", **said}}, {}, now=NOW, in_stream=True)
    assert error.status_code == status


def test_a_deployment_may_stop_inside_a_stream() -> None:
    payload = {
        "error": {"type": "overloaded_error", "message": "Endpoint is not ready (status: paused)."}
    }
    error = from_payload(payload, {}, now=NOW, in_stream=True)
    assert isinstance(error, errors.EndpointNotReadyError)
    assert (error.endpoint_status, error.permanent) == ("paused", True)


# Envelopes (protocol.md §7.3)


@pytest.mark.parametrize("variant", ENVELOPES)
def test_envelope(variant: str) -> None:
    """Each form in which servers wrap an error is read (protocol.md §7)."""
    sent, message, type_, code = ENVELOPES[variant]
    error = error_of(500, sent)
    assert (error.message, error.type, error.code) == (message, type_, code)
    if not isinstance(sent, bytes):
        assert error.body == sent


def test_the_body_is_text_where_it_is_not_json() -> None:
    assert error_of(500, b"upstream connect error").body == "upstream connect error"
    assert error_of(500, b"").body == ""


@pytest.mark.parametrize(
    ("headers", "body", "request_id"),
    [
        ({"request-id": "req_1", "cf-ray": "ray"}, {"request_id": "req_2"}, "req_1"),
        ({"x-request-id": "x"}, {}, "x"),
        ({"x-litellm-call-id": "l"}, {}, "l"),
        ({"x-oneapi-request-id": "o"}, {}, "o"),
        ({"x-generation-id": "g"}, {}, "g"),
        ({"cf-ray": "ray"}, {}, "ray"),
        ({}, {"request_id": "req_2"}, "req_2"),
        ({"request-id": ""}, {"request_id": "req_2"}, "req_2"),
        ({}, {"error": {"message": "No. (request id: 2026abc)"}}, "2026abc"),
        ({}, {"error": {"message": "No."}}, None),
        ({}, {"request_id": 5}, None),
    ],
)
def test_request_id(headers: dict[str, str], body: Json, request_id: str | None) -> None:
    """Each place where servers put it, and which of them wins."""
    assert error_of(500, body, headers).request_id == request_id


# What is more special than its status


def test_context_overflow() -> None:
    body = {
        "error": {
            "code": 400,
            "type": "exceed_context_size_error",
            "message": "too long",
            "n_prompt_tokens": 9,
            "n_ctx": 4,
        }
    }
    error = error_of(400, body)
    assert isinstance(error, errors.ContextOverflowError)
    assert (error.prompt_tokens, error.context_size) == (9, 4)


def test_context_overflow_at_anthropic() -> None:
    body = {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 4"}}
    error = error_of(400, body)
    assert isinstance(error, errors.ContextOverflowError)
    assert (error.prompt_tokens, error.context_size) == (9, 4)


OVERFLOWS = {  # what servers say (protocol.md section 7.3): the prompt's tokens and the context's
    "prompt is too long: 208310 tokens > 200000 maximum": (208310, 200000),
    "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input "
    "length or `max_tokens` and try again": (178959, 200000),
    "This model's maximum context length is 8192 tokens. However, you requested 8203 tokens (7691 "
    "in the messages, 512 in the completion). Please reduce the length.": (7691, 8192),
    "This model's maximum context length is 2048 tokens. However, your request has 8 input tokens "
    "plus 2045 'max_tokens'. Please reduce one or the other.": (8, 2048),
    "'max_tokens' is too large: 64000. This model's maximum context length is 32768 tokens and "
    "your request has 1234 input tokens (64000 > 32768-1234).": (1234, 32768),
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.": (
        5000,
        4096,
    ),
    "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - request (15019 "
    "tokens) exceeds the available context size (4096 tokens), try increasing it": (15019, 4096),
    "This endpoint's maximum context length is 16384 tokens. However, you requested about 94307 "
    "tokens (94307 of text input).": (94307, 16384),
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).": (
        5000,
        4096,
    ),
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 512 "
    "`max_new_tokens`": (5000, 4096),
    "Prompt contains 33,000 tokens and 0 draft tokens, too large for model with 32768 maximum "
    "context length": (33000, 32768),
    "The input token count (12345) exceeds the maximum number of tokens allowed (10485).": (
        12345,
        10485,
    ),
    "Input is too long for requested model.": (None, None),
    "Your input exceeds the context window of this model.": (None, None),
}


@pytest.mark.parametrize("status", [400, 413, 422, 500])
@pytest.mark.parametrize("said", OVERFLOWS)
def test_context_overflow_in_the_words_of_other_servers(said: str, status: int) -> None:
    error = error_of(status, {"error": {"type": "BadRequestError", "message": said}})
    assert isinstance(error, errors.ContextOverflowError)
    assert (error.prompt_tokens, error.context_size) == OVERFLOWS[said]
    assert (error.permanent, error.status_code) == (True, status)


def test_context_overflow_by_the_code_of_another_api() -> None:
    said = {"message": "Too much.", "type": "x", "code": "context_length_exceeded"}
    assert isinstance(error_of(400, {"error": said}), errors.ContextOverflowError)


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens",
        "This request would exceed your rate limit of 40,000 input tokens per minute",
        "context_management: Extra inputs are not permitted",
        "The image exceeds 5 MB maximum",
        "context deadline exceeded",
        "tools.0.description: too long",
    ],
)
def test_other_limits_are_not_a_context_overflow(said: str) -> None:
    assert not isinstance(error_of(400, {"error": {"message": said}}), errors.ContextOverflowError)


@pytest.mark.parametrize(
    ("said", "status", "permanent"),
    [
        ("Endpoint is not ready (status: deploying). It may still …", "deploying", False),
        ("Endpoint is not ready (status: starting)", "starting", False),
        ("Endpoint is not ready (status: scaling-up)", "scaling-up", False),
        ("Endpoint is not ready (status: paused). It may still …", "paused", True),
        ("Endpoint is not ready (status: stopped)", "stopped", True),
        ("Endpoint is not ready (status: failed)", "failed", True),
    ],
)
def test_endpoint_not_ready(said: str, status: str, permanent: bool) -> None:
    error = error_of(503, {"error": {"type": "overloaded_error", "message": said}})
    assert isinstance(error, errors.EndpointNotReadyError)
    assert (error.endpoint_status, error.permanent) == (status, permanent)


def test_a_model_that_loads_is_not_ready() -> None:
    body = {"error": {"type": "unavailable_error", "message": "Loading model", "code": 503}}
    error = error_of(503, body)
    assert isinstance(error, errors.EndpointNotReadyError)
    assert (error.endpoint_status, error.permanent) == ("loading", False)


def test_a_status_in_another_error_says_nothing() -> None:
    assert type(error_of(400, {"message": "(status: paused)"})) is errors.BadRequestError


@pytest.mark.parametrize(
    ("status", "message", "permanent"),
    [
        (500, "'messages' is required", True),
        (500, "image input is not supported - hint: …", True),
        (500, "a restart is required, try again", False),
        (500, "tools param requires --jinja flag", False),
        (500, "out of memory", False),
        (501, "This server does not support embeddings.", True),
        (502, "'messages' is required", False),
    ],
)
def test_errors_that_never_heal(status: int, message: str, permanent: bool) -> None:
    assert error_of(status, {"error": {"message": message}}).permanent is permanent


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("File Not Found", errors.UnsupportedOperationError),
        ("404 page not found", errors.UnsupportedOperationError),
        ("", errors.UnsupportedOperationError),
        ("No deployment found for this endpoint.", errors.NotFoundError),
        ("model 'plover:8b' not found", errors.NotFoundError),
    ],
)
def test_an_operation_that_is_not_there(message: str, kind: type[APIStatusError]) -> None:
    error = error_of(404, {"error": {"message": message}}, operation="count_tokens")
    assert type(error) is kind
    assert ("has no count_tokens" in error.message) is (kind is errors.UnsupportedOperationError)
    assert type(error_of(404, {"error": {"message": message}})) is errors.NotFoundError


@pytest.mark.parametrize("status", [300, 301, 308, 399])
def test_a_redirect_says_where_to(status: int) -> None:
    error = error_of(status, b"<html>Moved</html>", {"location": "https://elsewhere.example/"})
    assert error.message == "redirected to 'https://elsewhere.example/', which is not followed"


# A 2xx that is not a message

UNEXPECTED: dict[str, tuple[int, str | None, bytes, str]] = {
    "a page": (
        200,
        "text/html; charset=utf-8",
        b"<html><title>Sign in</title></html>",
        "HTTP 200 text/html; charset=utf-8 is not a message: the body begins "
        "'<html><title>Sign in</title></html>'; check the base URL",
    ),
    "nothing": (
        204,
        None,
        b"",
        "HTTP 204 without a content type is not a message: the body is empty",
    ),
    "another format": (
        200,
        "application/json",
        b'{"object":"chat.completion","choices":[]}',
        "HTTP 200 application/json is not a message: "
        "that is the OpenAI format: use the base URL of the Messages format",
    ),
    "another object": (
        201,
        "application/json",
        b'{"ok":true}',
        "HTTP 201 application/json is not a message: the body begins '{\"ok\":true}'; "
        "check the base URL",
    ),
    "long": (
        200,
        "text/plain",
        b"x" * 5000,
        f"HTTP 200 text/plain is not a message: the body begins {'x' * 100!r}; check the base URL",
    ),
}


@pytest.mark.parametrize("what", UNEXPECTED)
def test_a_2xx_that_is_not_a_message(what: str) -> None:
    status, kind, body, message = UNEXPECTED[what]
    headers = {"request-id": "req_1"} | ({"content-type": kind} if kind else {})
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        read_message(Answer(status, headers, body))
    error = caught.value
    assert error.message == message
    assert (error.status_code, error.content_type) == (status, kind or "")
    assert error.request_id == "req_1"


# How long to wait (protocol.md §7.5)

DATE = "Wed, 14 Oct 2026 17:46:40 GMT"  # NOW
LATER = "Wed, 14 Oct 2026 17:47:10 GMT"  # 30 seconds after
EARLIER = "Wed, 14 Oct 2026 17:46:10 GMT"

RETRY_AFTER: dict[str, tuple[dict[str, str], Json, float | None]] = {
    "none": ({}, {}, None),
    "milliseconds": ({"retry-after-ms": "750"}, {}, 0.75),
    "fractions of milliseconds": ({"retry-after-ms": "0.5"}, {}, 0.0005),
    "seconds": ({"retry-after": "12"}, {}, 12.0),
    "zero": ({"retry-after": "0"}, {}, 0.0),
    "fractions of seconds": ({"retry-after": "1.5"}, {}, 1.5),
    "long": ({"retry-after": "86400"}, {}, 86400.0),
    "date": ({"retry-after": LATER}, {}, 30.0),
    "date, by the server's clock": ({"retry-after": LATER, "date": EARLIER}, {}, 60.0),
    "date now": ({"retry-after": DATE}, {}, 0.0),
    "date gone": ({"retry-after": EARLIER}, {}, None),
    "date gone, by the server's clock": ({"retry-after": DATE, "date": LATER}, {}, None),
    "date beside an odd clock": ({"retry-after": LATER, "date": "today"}, {}, 30.0),
    "body": ({}, {"retry_after": 30}, 30.0),
    "body as text": ({}, {"retry_after": "30"}, 30.0),
    "body, inside": ({}, {"error": {"message": "No.", "retry_after": 7}}, 7.0),
    "body null": ({}, {"retry_after": None}, None),
    "body negative": ({}, {"retry_after": -1}, None),
    "body odd": ({}, {"retry_after": [30]}, None),
    "negative": ({"retry-after": "-5"}, {}, None),
    "negative milliseconds": ({"retry-after-ms": "-5"}, {}, None),
    "nan": ({"retry-after": "nan"}, {}, None),
    "infinite": ({"retry-after": "inf"}, {}, None),
    "nan milliseconds": ({"retry-after-ms": "nan"}, {}, None),
    "unreadable": ({"retry-after": "soon"}, {}, None),
    "empty": ({"retry-after": ""}, {}, None),
    "a date that does not exist": ({"retry-after": "Wed, 99 Oct 2026 17:47:10 GMT"}, {}, None),
    "milliseconds first": (
        {"retry-after-ms": "750", "retry-after": "12"},
        {"retry_after": 30},
        0.75,
    ),
    "header before body": ({"retry-after": "12"}, {"retry_after": 30}, 12.0),
    "unreadable, then seconds": ({"retry-after-ms": "x", "retry-after": "12"}, {}, 12.0),
    "unreadable, then body": ({"retry-after": "soon"}, {"retry_after": 30}, 30.0),
    "negative, then body": ({"retry-after": "-5"}, {"retry_after": 30}, 30.0),
}


@pytest.mark.parametrize("form", RETRY_AFTER)
def test_retry_after(form: str) -> None:
    headers, body, wanted = RETRY_AFTER[form]
    assert error_of(429, body, headers).retry_after == pytest.approx(wanted)


@pytest.fixture
def _far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set a local time that is hours from UTC."""
    if not hasattr(time, "tzset"):
        pytest.skip("this platform cannot change its time zone")
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "XYZ-5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    "date",
    [
        LATER,
        "Wednesday, 14-Oct-26 17:47:10 GMT",
        "Wed Oct 14 17:47:10 2026",
        "Wed, 14 Oct 2026 17:47:10 -0000",
    ],
    ids=["usual", "RFC 850", "asctime", "-0000"],
)
@pytest.mark.usefixtures("_far_away")
def test_every_form_of_an_http_date_is_utc(date: str) -> None:  # RFC 9110 §5.6.7
    assert error_of(429, {}, {"retry-after": date}).retry_after == pytest.approx(30.0)


def test_retry_after_inside_a_stream() -> None:
    payload = {"error": {"type": "rate_limit_error", "message": "No.", "retry_after": 7}}
    assert from_payload(payload, {}, now=NOW, in_stream=True).retry_after == 7.0


# One line


def signed(error: APIError) -> APIError:
    """Write on an error what the exchange writes."""
    error.method, error.url = "POST", "https://h.example/v1/messages"
    error.attempts, error.elapsed = 3, 4.25
    return error


def test_the_line_says_all() -> None:
    body = {"error": {"type": "overloaded_error", "message": "Overloaded"}}
    error = signed(error_of(529, body, {"request-id": "req_1"}))
    assert str(error) == (
        "HTTP 529 overloaded_error: Overloaded (POST https://h.example/v1/messages; "
        "request id req_1; 3 attempts, 4.2 s)"
    )


def test_the_line_of_one_attempt() -> None:
    error = signed(APIConnectionError("cannot connect: refused"))
    error.attempts = 1
    assert str(error) == (
        "cannot connect: refused (POST https://h.example/v1/messages; 1 attempt, 4.2 s)"
    )


def test_the_line_of_an_error_in_a_stream() -> None:
    error = from_payload({"error": {"message": "No."}}, {}, now=NOW, in_stream=True)
    assert str(error) == "error in the stream, 500: No."


UGLY = {
    "long": "x" * 10_000,
    "lines": "one\r\ntwo\n\nthree\ttab",
    "controls": "a\x00b\x1b[31mred\x07\x7f\x85\u2028\u2029",
    "direction": "a\u202eb\u200f",
    "surrogate": "a\ud800b",
    "wide": "é🪁" * 1000,
    "white space": "start" + " " * 5000 + "end",
}


@pytest.mark.parametrize("text", UGLY.values(), ids=UGLY)
def test_the_line_is_clean_and_short(text: str) -> None:
    body = {"error": {"type": text, "message": text}}
    for error in (
        signed(error_of(500, body, {"request-id": "req_1"})),
        signed(APIConnectionError(text)),
        signed(errors.UnexpectedResponseError(text)),
        signed(from_payload(body, {}, now=NOW, in_stream=True)),
    ):
        line = str(error)
        assert len(line) <= 500
        assert line.isprintable()
        assert line == line.strip()
        assert "  " not in line
        assert line.endswith("3 attempts, 4.2 s)")
        assert "POST https://h.example/v1/messages" in line


def test_the_line_is_short_whatever_the_server_names_itself() -> None:
    error = signed(error_of(500, {"message": "No."}, {"request-id": "r" * 9000}))
    error.url = "https://h.example/" + "p" * 9000
    assert len(str(error)) <= 500
    assert str(error).startswith("HTTP 500: No. (POST https://h.example/ppp")


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True)])
def test_a_line_is_cut_only_where_it_must_be(more: int, cut: bool) -> None:
    error = signed(APIConnectionError("x"))
    error.message = "x" * (500 - len(str(error)) + 1 + more)
    assert len(str(error)) == 500
    assert ("..." in str(error)) is cut


def test_a_cut_line_shows_that_it_is_cut() -> None:
    assert "x..." in str(signed(error_of(500, {"message": "x" * 1000})))
    assert error_of(500, {"message": "x" * 1000}).message == "x" * 1000  # whole


# What to do about it


def advised(answer: Json, variant: Sync | Async, **settings: Any) -> str:
    """Return the line of the error that a client raises for this answer."""
    given: Json = {"api_key": KEY, "max_retries": 0, **settings}
    if "endpoint" not in given:
        given["base_url"] = "http://h.invalid"
    with closing(variant.client(handler=lambda _: httpx.Response(**answer), **given)) as client:
        with pytest.raises(APIError) as caught:
            client.create(**ASK)
    return str(caught.value)


ADVICE: dict[str, tuple[Json, str]] = {
    "a wait": ({"status_code": 429, "headers": {"retry-after": "86400"}}, "retry after 86400.0 s"),
    "a page": ({"status_code": 404, "html": "<title>Lost</title>"}, "check the base URL"),
    "a method": ({"status_code": 405}, "check the base URL"),
    "elsewhere": ({"status_code": 301, "headers": {"location": "/"}}, "check the base URL"),
    "no message": ({"status_code": 200, "json": {"status": "ok"}}, "check the base URL"),
    "too long": (
        {"status_code": 400, "json": {"error": {"type": "exceed_context_size_error"}}},
        "shorten the messages; messages.count_tokens(...) measures them",
    ),
    "a broken message": (
        {"status_code": 200, "json": {"content": [7]}},
        '{"content":[7]}\'; content[0]: Input should be an object (POST',
    ),
}


@pytest.mark.parametrize("case", ADVICE)
def test_an_error_says_what_to_do(variant: Sync | Async, case: str) -> None:
    answer, advice = ADVICE[case]
    assert advice in advised(answer, variant)


def test_what_an_api_says_is_not_put_down_to_the_url(variant: Sync | Async) -> None:
    answer = {"status_code": 404, "json": {"error": {"message": "model 'x' not found"}}}
    assert "base URL" not in advised(answer, variant)


ASKED_ELSEWHERE = "auth=... of the endpoint changes that"
WENT = {
    "bearer": ({}, f"(the key was sent as authorization; {ASKED_ELSEWHERE}; POST"),
    "v7": ({"endpoint": endpoints.llm_v7()}, "(the key was sent as x-api-key; POST"),
    "none": (
        {"endpoint": endpoints.gateway("http://h.invalid", auth=None)},
        "(no key was sent as authorization or x-api-key; POST",
    ),
    "own": (
        {"default_headers": {"x-api-key": "another-key-0000"}},
        f"(the key was sent as x-api-key; {ASKED_ELSEWHERE}; POST",
    ),
}


@pytest.mark.parametrize(("settings", "advice"), WENT.values(), ids=WENT)
def test_a_refused_key_is_said_where_it_went(
    variant: Sync | Async, settings: Json, advice: str
) -> None:
    assert advice in advised({"status_code": 401}, variant, **settings)


@pytest.mark.parametrize(
    ("number", "unknown"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)]
)
def test_a_name_without_a_host(
    variant: Sync | Async, number: int, unknown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(*_: object, **__: object) -> object:
        raise socket.gaierror(number, "the resolver's words")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with closing(variant.client(api_key=KEY, base_url="http://h.invalid", max_retries=0)) as client:
        with pytest.raises(APIConnectionError) as caught:
            client.create(**ASK)
    line = str(caught.value)
    assert line.startswith("the hostname cannot be resolved: ")
    assert "the resolver's words" in line
    assert ("check the host in the base URL" in line) is unknown
    assert caught.value.unknown_host is unknown
    assert not caught.value.permanent


# Pickles and copies


def every_error() -> Iterator[ModelsLabError]:
    partial = Message.model_validate({"id": "m", "content": [{"type": "text", "text": "half"}]})
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, APIStatusError):
            error: ModelsLabError = kind(
                "No.",
                status_code=429,
                headers={"request-id": "req_1"},
                retry_after=1.5,
                in_stream=True,
                type="t_error",
                code="c",
                request_id="req_1",
                body={"error": "No."},
                partial_message=partial,
            )
        elif issubclass(kind, APIError):
            error = kind("No.", type="t", code=5, body=["b"], partial_message=partial)
        elif issubclass(kind, errors.OutputError):
            error = kind("No.")
            error.message, error.raw_text, error.previous_attempts = partial, "half", (partial,)
        else:
            error = kind("No.")
        if isinstance(error, APIError):
            signed(error).permanent = True
        if isinstance(error, errors.ContextOverflowError):
            error.prompt_tokens, error.context_size = 9, 4
        if isinstance(error, errors.EndpointNotReadyError):
            error.endpoint_status = "deploying"
        if isinstance(error, errors.APITimeoutError):
            error.phase = "read"
        if isinstance(error, errors.UnexpectedResponseError):
            error.status_code, error.content_type = 200, "text/html"
        yield error


def test_the_list_of_errors_is_whole() -> None:
    assert sorted(type(error).__name__ for error in every_error()) == errors.__all__


WAYS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("again", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: type(error).__name__)
def test_errors_pickle_and_copy(error: ModelsLabError, again: Any) -> None:
    same = again(error)
    assert type(same) is type(error)
    assert vars(same) == vars(error)
    assert same.args == error.args
    assert str(same) == str(error)


def test_an_error_without_facts_pickles() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)("No.")
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


# The key

KEY = "sk-quoted-by-the-server-1"
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Go"}]}


def shown(error: BaseException) -> str:
    """Return all that a log, a traceback or an error reporter would show of an error."""
    everything = [str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error))]
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before:
        everything.append(shown(before))
    return "\n".join(everything)


@pytest.mark.parametrize("body", [b"", b"data: broken\n\n", b'data: {"error": "No."}\n\n'])
def test_a_key_in_the_request_id_is_hidden(variant: Sync | Async, body: bytes) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream", "request-id": f"for-{KEY}"}
        return httpx.Response(200, headers=headers, stream=Chunks([body]))

    client = variant.client(
        handler=handler, api_key=KEY, base_url="http://h.invalid", max_retries=0
    )
    with pytest.raises(APIError) as caught:
        with client.stream(**ASK) as stream:
            stream.message()
    assert KEY not in shown(caught.value)
    assert caught.value.request_id == "for-***"


@pytest.mark.parametrize("before", range(40, 100, 5))
@pytest.mark.parametrize("kind", ["text/plain", "text/event-stream"])
def test_no_part_of_a_key_is_left_where_a_quote_is_cut(
    variant: Sync | Async, kind: str, before: int
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        body = f"data: {'x' * before}{KEY}{'y' * 100}\n\n".encode()
        return httpx.Response(200, headers={"content-type": kind}, stream=Chunks([body]))

    client = variant.client(
        handler=handler, api_key=KEY, base_url="http://h.invalid", max_retries=0
    )
    with pytest.raises(APIError) as caught:
        with client.stream(**ASK) as stream:
            stream.message()
    assert KEY[:8] not in shown(caught.value)


@pytest.mark.parametrize(
    ("key", "shown_as"), [("k" * 8, "Wrong key ***."), ("k" * 7, "Wrong key kkkkkkk.")]
)
def test_a_key_too_short_to_be_one_is_left_in_words(key: str, shown_as: str) -> None:
    assert Config.build(api_key=key, env={}).hide_key(f"Wrong key {key}.") == shown_as
