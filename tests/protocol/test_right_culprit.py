"""An error names what is really wrong: the setting, the server, or nothing at all."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from variants import Async, Chunks, Sync

from modelslab_llm import (
    AuthenticationError,
    ConfigurationError,
    ModelsLab,
    Timeout,
    endpoints,
    tool,
)
from modelslab_llm._protocol.config import Config
from modelslab_llm._protocol.refusals import request_id
from modelslab_llm.prices import Budget, Price
from modelslab_llm.testing import LocalServer, Reply

KEY = "ml-secret-0123456789"
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hello"}],
}


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("padding", ["", " "])
def test_quotes_around_a_key_are_taken_off(quote: str, padding: str) -> None:
    """A docker `--env-file` passes them on, and the server would answer 401."""
    quoted = f"{padding}{quote}{KEY}{quote}{padding}"
    by_environment = Config.build(env={"MODELSLAB_API_KEY": quoted})
    for config in (by_environment, Config.build(api_key=quoted, env={})):
        assert config.credential() == {"x-api-key": KEY}


@pytest.mark.parametrize("key", ['""', "''", " "])
def test_quotes_around_nothing_are_not_a_key(key: str) -> None:
    with pytest.raises(ConfigurationError, match="no API key"):
        Config.build(env={"MODELSLAB_API_KEY": key})


def test_quotes_around_what_names_the_server_are_taken_off() -> None:
    config = Config.build(api_key=KEY, env={"MODELSLAB_BASE_URL": '"http://127.0.0.1:8080/v1"'})
    assert config.endpoint.base_url == "http://127.0.0.1:8080"
    config = Config.build(api_key=KEY, env={"MODELSLAB_DEPLOYMENT_ID": "'dep_1'"})
    assert config.endpoint.base_url.endswith("/dep_1")


HUGE = {"1e10": 1e10, "1e300": 1e300, "10**400": 10**400, "46 days": 4_000_001}


@pytest.mark.parametrize("seconds", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize("option", ["timeout", "deadline", "progress_timeout", "max_retry_wait"])
def test_a_huge_limit_of_time_is_waited_for(
    variant: Sync | Async, server: LocalServer, option: str, seconds: float
) -> None:
    options: Any = {option: seconds}
    client = variant.client(api_key=server.api_key, endpoint=server.gateway(), **options)
    assert client.create(**ASK).text
    with client.stream(**ASK) as stream:
        assert stream.message().text
    client.close()


@pytest.mark.parametrize("seconds", HUGE.values(), ids=HUGE)
def test_huge_limits_for_one_call_and_one_wait(
    variant: Sync | Async, server: LocalServer, seconds: float
) -> None:
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    assert client.create(**ASK, timeout=seconds).text
    waits = Timeout(connect=seconds, read=seconds, write=seconds, pool=seconds)
    assert client.create(**ASK, timeout=waits).text
    client.close()


NEVER = [float("inf"), float("nan"), -float("inf"), 0, -(10**400), True, "5"]


@pytest.mark.parametrize("seconds", NEVER)
def test_what_is_not_a_limit_of_time(variant: Sync | Async, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        Config.build(api_key=KEY, env={}, timeout=seconds)
    with pytest.raises(ConfigurationError, match="tool 'tide': timeout must be above 0 seconds"):
        tool(name="tide", timeout=seconds)(_tide)
    client = variant.client(api_key=KEY, base_url="http://h.invalid")
    with pytest.raises(ConfigurationError, match="deadline must be above 0 seconds"):
        client.wait_until_ready(timeout=seconds)
    if seconds != 0:
        for takes_pauses in (Reply, LocalServer):
            with pytest.raises(ConfigurationError, match="pause must be 0 or more seconds"):
                takes_pauses("Tamar", pause=seconds)
    client.close()


def _tide(n: int) -> int:
    return n


@pytest.mark.parametrize("seconds", HUGE.values(), ids=HUGE)
def test_a_huge_limit_of_a_tool_and_a_wait(
    variant: Sync | Async, server: LocalServer, seconds: float
) -> None:
    call = {"type": "tool_use", "id": "t", "name": "tide", "input": {"n": 5}}
    server.script = [Reply([call]), Reply("5")]
    client = variant.client(api_key=server.api_key, endpoint=server.gateway())
    client.wait_until_ready(timeout=seconds)
    tide = tool(name="tide", timeout=seconds)(_tide)
    assert client.run_tools(tools=[tide], **ASK).message().text == "5"
    client.close()
    results = server.requests[-1].body["messages"][-1]["content"]
    assert "is_error" not in results[0]


@pytest.mark.parametrize("amount", [10**400, float("nan"), float("inf"), -1, True])
def test_what_is_not_an_amount(amount: Any) -> None:
    for make in (lambda: Budget(tokens=amount), lambda: Price(input=amount, output=1)):
        with pytest.raises(ConfigurationError):
            make()


@pytest.mark.parametrize("place", ["request-id", "x-request-id", "cf-ray"])
def test_a_request_id_cannot_command_a_terminal(
    variant: Sync | Async, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        headers = {place: "req_\x1b[2J1\x07", "content-type": "application/json"}
        return httpx.Response(200, headers=headers, stream=Chunks([b'{"type":"message"}']))

    client = variant.client(handler=handler, api_key=KEY, base_url="http://h.invalid")
    with caplog.at_level(logging.DEBUG, "modelslab_llm"):
        message = client.create(**ASK)
    assert message.request_id == "req_[2J1"
    assert "req_[2J1" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_request_id_that_is_nothing_is_none() -> None:
    assert request_id({"request-id": " \x00 ", "x-request-id": "r"}) == "r"
    assert request_id({"request-id": "\x1b"}) is None


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("said", [b"", b'{"detail": "Not Found"}', b"Unknown path: /v1/models"])
def test_a_gateway_without_a_list_of_models_can_be_ready(
    variant: Sync | Async, status: int, said: bytes
) -> None:
    """Where `create` works, `wait_until_ready` must not fail for want of another operation."""

    seen: list[tuple[str, bytes]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, request.content))
        if request.url.path != "/v1/messages":
            return httpx.Response(status, stream=Chunks([said]))
        return httpx.Response(400, stream=Chunks([b'{"error": {"message": "model: required"}}']))

    client = variant.client(handler=handler, api_key=KEY, base_url="http://h.invalid")
    client.wait_until_ready(timeout=5)
    assert seen == [("/v1/models", b""), ("/v1/messages", b"{}")]


def test_a_wrong_key_still_ends_the_wait(variant: Sync | Async) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, stream=Chunks([b"{}"]))

    client = variant.client(handler=handler, api_key=KEY, base_url="http://h.invalid")
    with pytest.raises(AuthenticationError):
        client.wait_until_ready(timeout=5)


def test_a_missing_deployment_still_ends_the_wait() -> None:
    with LocalServer(deployments={}) as server:
        client = ModelsLab(api_key=server.api_key, endpoint=server.gguf("dep_1"))
        with pytest.raises(Exception, match="No deployment"):
            client.wait_until_ready(timeout=5)
        client.close()
    assert endpoints.gguf("dep_1").default_model == "local"
