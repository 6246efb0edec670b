"""Prove when a failed call is sent again and after how long: all by asking a `Retry`, no clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from modelslab_llm._protocol.refusals import from_payload, from_status
from modelslab_llm._protocol.retry import Retry, UntilReady
from modelslab_llm.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    EndpointNotReadyError,
    StreamInterruptedError,
    UnexpectedResponseError,
)


def status(code: int, message: str = "No.", **headers: str) -> APIStatusError:
    """Return the error for an answer; header names are written with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f'{{"error": {{"message": "{message}"}}}}'.encode()
    return from_status(code, named, body, now=0.0)


def timeout(phase: Any) -> APITimeoutError:
    error = APITimeoutError("the time is up")
    error.phase = phase
    error.permanent = phase == "deadline"
    return error


def permanent(error: APIError) -> APIError:
    error.permanent = True
    return error


def not_ready(word: str, **headers: str) -> APIStatusError:
    error = status(503, f"Endpoint is not ready (status: {word}).", **headers)
    assert isinstance(error, EndpointNotReadyError)
    return error


# How long

BASES = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(("tries", "base"), list(enumerate(BASES, start=1)))
def test_backoff_is_between_its_bounds(tries: int, base: float) -> None:
    retry = Retry(max_retries=100)
    pauses = [retry.pause(status(500), tries) for _ in range(200)]
    assert all(pause is not None and 0.75 * base <= pause <= base for pause in pauses)
    assert len(set(pauses)) > 100, "there is jitter"


@pytest.mark.parametrize("share", [0.75, 1.0])
def test_backoff_reaches_its_bounds(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: {0.75: low, 1.0: high}[share])
    assert Retry().pause(status(500), 1) == 0.5 * share
    assert Retry().pause(status(500), 2) == 1.0 * share


def test_backoff_after_very_many_tries() -> None:
    pause = Retry(max_retries=10**9).pause(status(500), 10**9)
    assert pause is not None
    assert 6.0 <= pause <= 8.0


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry_after": "12"}, 12.0),
        ({"retry_after_ms": "20"}, 0.02),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "60"}, 60.0),
    ],
)
def test_a_hint_is_followed_exactly(headers: dict[str, str], pause: float) -> None:
    for tries in (1, 2):
        assert Retry().pause(status(429, **headers), tries) == pause


@pytest.mark.parametrize("hint", ["-5", "nan", "inf", "soon", ""])
def test_a_hint_without_sense_is_backoff(hint: str) -> None:
    pause = Retry().pause(status(429, retry_after=hint), 1)
    assert pause is not None
    assert 0.375 <= pause <= 0.5


def test_a_hint_above_the_limit_gives_up() -> None:
    assert Retry(max_wait=60.0).pause(status(429, retry_after="60.5"), 1) is None
    assert Retry(max_wait=0.0).pause(status(429, retry_after="1"), 1) is None
    assert Retry(max_wait=600.0).pause(status(429, retry_after="60.5"), 1) == 60.5


def test_the_limit_is_not_for_backoff() -> None:
    assert Retry(max_wait=0.0).pause(status(429), 1) is not None


# How often


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_max_retries(retries: int) -> None:
    retry = Retry(max_retries=retries)
    again = [retry.pause(status(503), tries) is not None for tries in range(1, 8)]
    assert again == [tries <= retries for tries in range(1, 8)]


def test_two_retries_and_a_minute_are_usual() -> None:
    assert Retry() == Retry(max_retries=2, max_wait=60.0)


# What

RETRIED: dict[str, APIError] = {
    **{str(code): status(code) for code in (408, 409, 429, 500, 502, 503, 504, 520, 524, 529)},
    "deploying": not_ready("deploying"),
    "loading": from_status(
        503, {}, b'{"error":{"type":"unavailable_error","message":"Loading model"}}', now=0.0
    ),
    "refused": APIConnectionError("cannot connect"),
    "connect timeout": timeout("connect"),
    "read timeout": timeout("read"),
    "pool timeout": timeout("pool"),
    "no progress": timeout("progress"),
    "cut stream": StreamInterruptedError("the stream ended"),
    "error event": from_payload(
        {"error": {"type": "overloaded_error"}}, {}, now=0.0, in_stream=True
    ),
    "verdict true": status(400, x_should_retry="true"),
    "verdict true, paused": not_ready("paused", x_should_retry="true"),
    "no verdict": status(500, x_should_retry="maybe"),
}
NOT_RETRIED: dict[str, APIError] = {
    **{str(code): status(code) for code in (301, 400, 401, 402, 403, 404, 405, 413, 418, 422, 499)},
    "501": status(501),
    "paused": not_ready("paused"),
    "never heals": status(500, "'messages' is required"),
    "never heals either": status(500, "image input is not supported"),
    "certificate": permanent(APIConnectionError("the server's certificate is not trusted")),
    "deadline": timeout("deadline"),
    "too large": permanent(StreamInterruptedError("one event has more than 9 bytes")),
    "not a message": UnexpectedResponseError("HTTP 200 text/html"),
    "error event": from_payload(
        {"error": {"type": "invalid_request_error"}}, {}, now=0.0, in_stream=True
    ),
    "verdict false": status(500, x_should_retry="false"),
    "verdict false, with a hint": status(429, x_should_retry="false", retry_after="1"),
}


@pytest.mark.parametrize("failure", RETRIED.values(), ids=RETRIED)
def test_retried(failure: APIError) -> None:
    """The list of what may pass by itself."""
    assert Retry().worth_it(failure)
    assert Retry().pause(failure, 1) is not None


@pytest.mark.parametrize("failure", NOT_RETRIED.values(), ids=NOT_RETRIED)
def test_not_retried(failure: APIError) -> None:
    """The list of what a second try does not change."""
    assert not Retry().worth_it(failure)
    assert Retry().pause(failure, 1) is None


# Until ready

COMING_UP: dict[str, APIError] = {
    "deploying": not_ready("deploying"),
    "a word of tomorrow": not_ready("warming"),
    "loading": RETRIED["loading"],
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "refused": APIConnectionError("cannot connect"),
    "read timeout": timeout("read"),
}
NOT_COMING_UP: dict[str, APIError] = {
    "paused": not_ready("paused"),
    "stopped": not_ready("stopped"),
    "401": status(401),
    "402": status(402),
    "403": status(403),
    "404": status(404),
    "400": status(400),
    "certificate": NOT_RETRIED["certificate"],
    "deadline": timeout("deadline"),
    "not a message": UnexpectedResponseError("HTTP 200 text/html"),
}


@pytest.mark.parametrize("failure", COMING_UP.values(), ids=COMING_UP)
def test_waits_for_a_server_that_comes_up(failure: APIError) -> None:
    assert UntilReady().pause(failure, 1) == 0.5


@pytest.mark.parametrize("failure", NOT_COMING_UP.values(), ids=NOT_COMING_UP)
def test_does_not_wait_for_one_that_does_not(failure: APIError) -> None:
    assert UntilReady().pause(failure, 1) is None


def test_waiting_slows_down_to_five_seconds_and_never_ends() -> None:
    found = [UntilReady().pause(not_ready("deploying"), tries) for tries in range(1, 20)]
    pauses = [pause for pause in found if pause is not None]
    assert len(pauses) == len(found)
    assert pauses[:3] == [0.5, 0.75, 1.125]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    assert UntilReady().pause(not_ready("deploying"), 10**9) == 5.0


@pytest.mark.parametrize("hint", ["2", "300"])
def test_waiting_follows_hints_of_any_length(hint: str) -> None:
    assert UntilReady().pause(not_ready("deploying", retry_after=hint), 1) == float(hint)


def test_a_host_without_a_name_is_waited_for_only_ten_seconds() -> None:
    failure = APIConnectionError("the hostname cannot be resolved")
    failure.unknown_host = True
    pauses = [UntilReady().pause(failure, tries) for tries in range(1, 8)]
    assert pauses[-1] is None
    assert 10 < sum(pause or 0 for pause in pauses) < 11
    assert Retry().pause(failure, 1) is not None  # a call is tried again: names may come back
