"""Observers and the log are notified of each call, attempt, retry and outcome exactly once."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from typing import Any

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import APIError, ConfigurationError, OverloadedError
from modelslab_llm.observers import AttemptEnd, CallEnd, ObservedCall, Observer, RetryPlan
from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply
from modelslab_llm.types import CallInfo, Message, RateLimit

PROMPT = "Say Tamar, a secret of mine."
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "temperature": 0.5,
    "messages": [{"role": "user", "content": PROMPT}],
}


class Notes(Observer):
    """Keep all notifications."""

    def __init__(self) -> None:
        self.calls: list[ObservedCall] = []
        self.told: list[Any] = []

    def on_start(self, call: ObservedCall) -> None:
        self.calls.append(call)
        self.told.append("start")

    def on_attempt_start(self, call: ObservedCall, number: int) -> None:
        self.told.append(f"attempt {number}")

    def on_attempt_end(self, call: ObservedCall, attempt: AttemptEnd) -> None:
        self.told.append(attempt)

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        self.told.append(retry)

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        assert call is self.calls[-1]
        self.told.append(end)

    def words(self) -> list[str]:
        words = {AttemptEnd: "attempted", RetryPlan: "retry"}
        return [
            told
            if isinstance(told, str)
            else told.outcome
            if isinstance(told, CallEnd)
            else words[type(told)]
            for told in self.told
        ]

    @property
    def end(self) -> CallEnd:
        (end,) = [told for told in self.told if isinstance(told, CallEnd)]
        return end


@pytest.fixture
def notes() -> Notes:
    return Notes()


def client_of(variant: Sync | Async, server: LocalServer, notes: Observer, **options: Any) -> Any:
    options = {"observers": [notes], **options}
    return variant.client(api_key=server.api_key, endpoint=server.gateway(), **options)


def test_a_call(variant: Sync | Async, server: LocalServer, notes: Notes) -> None:
    client = client_of(variant, server, notes)
    message = client.create(**ASK)
    client.close()
    assert notes.words() == ["start", "attempt 1", "attempted", "complete"]
    (call,) = notes.calls
    assert (call.operation, call.method, call.model) == ("messages.create", "POST", "m")
    assert call.parameters == {"max_tokens": 64, "temperature": 0.5}
    assert (notes.end.message, notes.end.usage) == (message, message.usage)
    assert notes.end.info == message.call_info
    assert PROMPT not in repr(notes.calls) + repr(notes.told)


def test_retries_are_reported_with_their_reason(
    variant: Sync | Async, server: LocalServer, notes: Notes
) -> None:
    server.script = [ErrorReply(529, headers={"retry-after-ms": "1"}), "Tamar"]
    client = client_of(variant, server, notes)
    message = client.create(**ASK)
    client.close()
    assert notes.words() == [
        *("start", "attempt 1", "attempted", "retry"),
        *("attempt 2", "attempted", "complete"),
    ]
    first, retry = notes.told[2], notes.told[3]
    assert (first.number, first.status_code, type(first.error)) == (1, 529, OverloadedError)
    assert (retry.number, retry.error) == (2, first.error)
    assert 0.001 <= retry.wait < 1
    assert message.call_info is not None
    assert message.call_info.attempts == 2


@pytest.mark.parametrize("status", [429, 503, 529])
@pytest.mark.parametrize("max_retries", [0, 1])
def test_no_retry_is_told_that_never_comes(
    variant: Sync | Async,
    server: LocalServer,
    notes: Notes,
    caplog: pytest.LogCaptureFixture,
    status: int,
    max_retries: int,
) -> None:
    server.script = ErrorReply(status, headers={"retry-after-ms": "1"})
    client = client_of(variant, server, notes, max_retries=max_retries)
    with pytest.raises(APIError) as caught:
        client.create(**ASK)
    client.close()
    assert caught.value.attempts == len(server.requests) == max_retries + 1
    assert notes.words().count("retry") == max_retries
    assert sum("retrying in" in line for line in caplog.messages) == max_retries


def test_a_call_that_fails(variant: Sync | Async, server: LocalServer, notes: Notes) -> None:
    server.script = ErrorReply(401)
    client = client_of(variant, server, notes)
    with pytest.raises(APIError) as caught:
        client.create(**ASK)
    client.close()
    assert notes.words() == ["start", "attempt 1", "attempted", "failed"]
    assert notes.end.error is caught.value
    assert notes.end.usage is None


@pytest.mark.parametrize("reading", ["all", "text", "final"])
def test_a_stream_that_is_read_to_its_end(
    variant: Sync | Async, server: LocalServer, notes: Notes, reading: str
) -> None:
    client = client_of(variant, server, notes)
    with client.stream(**ASK) as stream:
        assert notes.words() == ["start", "attempt 1", "attempted"]
        if reading == "text":
            list(stream.texts())
        message = stream.message()
    client.close()
    assert notes.words()[3:] == ["complete"]
    assert notes.end.message == message
    assert not notes.end.usage_is_partial


def test_a_stream_that_is_left(variant: Sync | Async, server: LocalServer, notes: Notes) -> None:
    server.script = Reply("one two three four", pause=0.01)
    client = client_of(variant, server, notes)
    with client.stream(**ASK) as stream:
        next(stream.texts())
    client.close()
    assert notes.words()[3:] == ["left"]
    assert notes.end.usage_is_partial
    assert notes.end.message is not None
    assert notes.end.message.text.startswith("one")


def test_a_stream_that_breaks(variant: Sync | Async, server: LocalServer, notes: Notes) -> None:
    server.script = Reply("one two three", fault=Fault("cut", after=5))
    client = client_of(variant, server, notes)
    with pytest.raises(APIError) as caught:
        with client.stream(**ASK) as stream:
            stream.message()
    client.close()
    assert notes.words()[3:] == ["failed"]
    assert notes.end.error is caught.value
    assert caught.value.partial_message == notes.end.message


def test_a_call_that_is_cancelled(notes: Notes) -> None:
    import asyncio

    from modelslab_llm import AsyncModelsLab

    async def main() -> None:
        with LocalServer(Reply("never", fault=Fault("stall"))) as server:
            client = AsyncModelsLab(
                api_key=server.api_key, endpoint=server.gateway(), observers=[notes]
            )
            task = asyncio.create_task(client.messages.create(**ASK))
            while "attempt 1" not in notes.words():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.close()

    asyncio.run(main())
    assert notes.words() == ["start", "attempt 1", "cancelled"]


def test_other_operations(variant: Sync | Async, server: LocalServer, notes: Notes) -> None:
    client = client_of(variant, server, notes)
    count = client.count_tokens(model="m", messages=ASK["messages"])
    models = client.models()
    client.close()
    operations = [call.operation for call in notes.calls]
    assert operations == ["messages.count_tokens", "models.list"]
    assert count.call_info.status_code == models.call_info.status_code == 200


class Broken(Observer):
    """Raise wherever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            raise RuntimeError("the observer's own fault")
        return super().__getattribute__(name)


def test_an_observer_that_raises_breaks_no_call(
    variant: Sync | Async, server: LocalServer, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(variant, server, notes, observers=[Broken(), notes])
    assert client.create(**ASK).text
    with client.stream(**ASK) as stream:
        assert stream.message().text
    client.close()
    assert notes.words() == ["start", "attempt 1", "attempted", "complete"] * 2
    assert "an observer failed: Broken.on_end" in caplog.text


def test_with_options_changes_who_is_told(
    variant: Sync | Async, server: LocalServer, notes: Notes
) -> None:
    client = client_of(variant, server, notes)
    client.with_options(observers=[]).create(**ASK)
    assert notes.told == []
    client.create(**ASK)
    client.close()
    assert notes.words()[-1] == "complete"


@pytest.mark.parametrize("wrong", [Notes(), [Notes], ["x"]])
def test_what_is_not_a_list_of_observers(variant: Sync | Async, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="observers must"):
        variant.client(api_key="k" * 9, base_url="http://h.invalid", observers=wrong)


# What every answer carries

LIMITS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-input-tokens-remaining": "9000",
    "x-ratelimit-limit-tokens": "40000",
    "x-ratelimit-remaining-tokens": "39000",
    "x-ratelimit-reset-tokens": "6m0s",
    "date": "Fri, 27 Nov 2026 13:00:00 GMT",
    "anthropic-ratelimit-requests-reset": "2026-11-27T13:00:30Z",
}


@pytest.mark.parametrize("verb", ["create", "stream"])
def test_what_an_answer_carries(variant: Sync | Async, verb: str) -> None:
    text = b'{"type":"message","content":[{"type":"text","text":"Tamar"}],"stop_reason":"end_turn"}'
    headers = {**LIMITS, "request-id": "req_1", "set-cookie": "session=secret; Path=/"}

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, stream=Chunks([text]))

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    if verb == "create":
        message = client.create(**ASK)
    else:
        with client.stream(**ASK) as stream:
            assert stream.stream.call_info.request_id == "req_1"
            message = stream.message()
    info = message.call_info
    assert (info.status_code, info.request_id, info.attempts) == (200, "req_1", 1)
    assert info.bytes_received == len(text)
    assert "set-cookie" not in info.headers
    assert info.rate_limits == {
        "input-tokens": RateLimit(remaining=9000),
        "requests": RateLimit(50, 49, 30.0),
        "tokens": RateLimit(40000, 39000, 360.0),
    }
    assert info.elapsed >= 0
    if verb == "stream":
        assert 0 <= info.time_to_first_event <= info.time_to_first_content <= info.elapsed
    else:
        assert info.time_to_first_event is info.time_to_first_content is None


def test_what_becomes_of_it(server: LocalServer, notes: Notes) -> None:
    client = server.client()
    message = client.messages.create(**ASK)
    client.close()
    info = message.call_info
    assert isinstance(info, CallInfo)
    assert "call_info" not in json.dumps(message.model_dump()) + message.model_dump_json()
    for same in (pickle.loads(pickle.dumps(message)), copy.copy(message), copy.deepcopy(message)):
        assert (same, same.call_info) == (message, info)
    reloaded = Message.model_validate_json(message.model_dump_json())
    assert reloaded.call_info is None


def test_an_error_has_no_cookies_either(variant: Sync | Async) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        headers = {"set-cookie": "session=secret"}
        return httpx.Response(400, headers=headers, stream=Chunks([b"{}"]))

    client = variant.client(handler=handler, api_key="k" * 12, base_url="http://h.invalid")
    with pytest.raises(APIError) as caught:
        client.create(**ASK)
    assert "set-cookie" not in caught.value.headers


# The log


def test_one_line_a_call(
    variant: Sync | Async, server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [ErrorReply(500, headers={"retry-after-ms": "1"}), "Tamar"]
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    with caplog.at_level(logging.INFO, "modelslab_llm"):
        client.create(**ASK)
    client.close()
    warned, line = caplog.records
    assert warned.levelname == "WARNING"
    assert "attempt 1 failed, retrying in 0.00 s: HTTP 500 api_error" in warned.message
    assert line.levelname == "INFO"
    assert line.message.startswith("messages.create m, complete, in ")
    fields = {name: value for name, value in vars(line).items() if name.startswith("llm_")}
    assert fields["llm_operation"] == "messages.create"
    assert (fields["llm_model"], fields["llm_outcome"], fields["llm_status"]) == (
        "m",
        "complete",
        200,
    )
    assert fields["llm_attempts"] == 2
    assert fields["llm_output_tokens"] == 1
    assert json.dumps(fields)
    assert PROMPT not in caplog.text
    assert str(server.api_key) not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("level", ["info", "DEBUG", '"info"'])
def test_a_script_can_ask_for_the_log(server: LocalServer, level: str) -> None:
    import os
    import subprocess
    import sys

    code = f"""
import logging
from modelslab_llm import ModelsLab
for _ in range(2):
    client = ModelsLab()
client.messages.create(**{ASK!r})
client.close()
"""
    env = {**os.environ, "MODELSLAB_LOG": level, "MODELSLAB_API_KEY": str(server.api_key)}
    env["MODELSLAB_BASE_URL"] = server.gateway().base_url
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("INFO modelslab_llm: messages.create m, complete, in") == 1
    assert ("DEBUG modelslab_llm" in ran.stderr) is (level == "DEBUG")
    assert PROMPT not in ran.stderr
    assert str(server.api_key) not in ran.stderr


def test_another_word_than_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelslab_llm import ModelsLab

    monkeypatch.setenv("MODELSLAB_LOG", "loud")
    with pytest.raises(ConfigurationError, match="MODELSLAB_LOG must be debug, info or warning"):
        ModelsLab("k" * 9)
