"""What a scripted server was asked: typed values, and assertions that show the difference."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from scripted import ASK, Way

from modelslab_llm import AuthenticationError, ModelsLab, endpoints, tool
from modelslab_llm.testing import (
    ErrorReply,
    Fault,
    LocalServer,
    ReceivedRequest,
    Reply,
    ScriptedTransport,
)
from modelslab_llm.testing._script.received import receive

KEY = "sk-of-this-test-0123456789"


@tool
def tide(port: str) -> str:
    """Return the next high tide."""
    return "14:32"


def failing(assertion: Any, *args: Any, **fields: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **fields)
    return str(caught.value)


# Typed values


def test_typed_values(way: Way) -> None:
    """What was asked can be read without taking the JSON apart."""
    server = way.server(Reply([{"type": "text", "text": "Fine."}]), api_key=KEY)
    client = way.client(server, deployment_id="dep_1")
    answer = client.create(**ASK, system="Be brief.", tools=[tide])
    turns = [
        *ASK["messages"],
        answer.to_param(),
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("And", "now?")]},
    ]
    blocks = [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]
    with client.stream(model="m", max_tokens=5, system=blocks, messages=turns) as stream:
        stream.message()
    first, second = server.requests
    assert (first.model, first.max_tokens, first.system) == ("m/1", 16, "Be brief.")
    assert first.messages == ASK["messages"]
    assert first.text == "Name a tidal river."
    assert [each["name"] for each in first.tools] == ["tide"]
    assert (first.stream, second.stream) == (False, True)
    assert first.deployment_id == "dep_1"
    assert first.api_key == KEY
    assert first.credentials == {"x-api-key": KEY}
    assert (second.system, second.text, second.tools) == ("Be\nbrief.", "And\nnow?", [])
    assert first.is_message_call


def test_where_the_key_was_sent() -> None:
    transport = ScriptedTransport(api_key=KEY)
    for auth in ("bearer", "x-api-key", "key"):
        with transport.client(endpoint=transport.gateway(auth)) as client:
            client.messages.create(**ASK)
    with transport.client(endpoint=transport.gateway(None)) as client:
        with pytest.raises(AuthenticationError):
            client.models.list()
    sent = [request.credentials for request in transport.requests]
    assert sent == [{"authorization": KEY}, {"x-api-key": KEY}, {"key": KEY}, {}]
    assert transport.requests[-1].api_key is None
    assert transport.requests[0].deployment_id is None


def test_the_key_is_not_in_a_repr() -> None:
    transport = ScriptedTransport(api_key=KEY)
    with transport.client() as client:
        client.messages.create(**ASK)
    assert KEY not in repr(transport.requests)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"messages": null, "model": 7}', b'{"messages": ["x", 1]}']
)
def test_values_of_a_body_that_is_none(raw: bytes) -> None:
    request = receive("POST", "/v1/messages", [], raw)
    assert (request.model, request.max_tokens, request.system) == (None, None, None)
    assert (request.messages, request.tools, request.text) == ([], [], "")
    assert (request.api_key, request.credentials, request.deployment_id) == (None, {}, None)


# Assertions about one request


def asked(**changes: Any) -> ReceivedRequest:
    transport = ScriptedTransport(api_key=KEY)
    with transport.client() as client:
        client.messages.create(**{**ASK, **changes})
    return transport.requests[0]


def test_what_a_request_has() -> None:
    request = asked(system="Be brief.", temperature=0.5, stop_sequences=["END"])
    request.assert_has()
    request.assert_has(model="m/1", max_tokens=16, temperature=0.5, top_p=None, stream=False)
    request.assert_has(text="Name a tidal river.", system="Be brief.", api_key=KEY)
    request.assert_has(messages=ASK["messages"], stop_sequences=("END",), deployment_id=None)
    blocks = [{"type": "text", "text": "Be brief."}]
    asked(system=blocks).assert_has(system="Be brief.")
    asked(system=blocks).assert_has(system=blocks)


def test_messages_and_blocks_count_as_what_they_are_in_a_request() -> None:
    transport = ScriptedTransport(["One.", "Two."])
    with transport.client() as client:
        first = client.messages.create(**ASK)
        turns = [*ASK["messages"], first.to_param(), {"role": "user", "content": "And?"}]
        client.messages.create(**{**ASK, "messages": turns})
    asked_next = {"role": "user", "content": "And?"}
    said = {"role": "assistant", "content": first.content}
    transport.assert_called(messages=[*ASK["messages"], first, asked_next])
    transport.assert_called(messages=[*ASK["messages"], said, asked_next])


def test_a_field_that_is_misspelt() -> None:
    request = asked()
    said = failing(request.assert_has, max_token=16, top_q=None)
    assert said.endswith("\nmax_token: did you mean 'max_tokens'?\ntop_q: did you mean 'top_p'?")
    assert "did you mean" not in failing(request.assert_has, chat_template_kwargs={})


def test_a_difference_is_readable() -> None:
    request = asked(temperature=0.5)
    assert failing(request.assert_has, model="m/2", max_tokens=16) == (
        "POST /api/v7/llm/v1/messages: expected (-), sent (+)\n"
        " {\n"
        '-  "model": "m/2"\n'
        '+  "model": "m/1"\n'
        '   "max_tokens": 16\n'
        " }"
    )
    assert '-  "top_p": 0.9' in failing(request.assert_has, temperature=0.5, top_p=0.9)
    assert '+  "temperature": 0.5' in failing(request.assert_has, temperature=None)
    turns = [{"role": "user", "content": "Name a hill."}]
    said = failing(request.assert_has, messages=turns)
    assert '-      "content": "Name a hill."' in said
    assert '+      "content": "Name a tidal river."' in said
    assert '       "role": "user"' in said
    assert "+ " in failing(request.assert_has, text=object())
    assert "tides" in failing(request.assert_has, tides=1)


def test_no_key_is_in_a_difference() -> None:
    request = asked(metadata={"user_id": f"one with {KEY}"})
    said = failing(request.assert_has, metadata={"user_id": "another"}, api_key="sk-wrong-9876543")
    assert KEY not in said
    assert "sk-wrong-9876543" not in said
    assert "one with ***" in said
    assert '-  "api_key": "the right key"' in said
    assert '+  "api_key": "another key"' in said
    transport = ScriptedTransport(api_key=KEY)
    with transport.client() as client:
        client.messages.create(
            **{**ASK, "messages": [{"role": "user", "content": f"Is {KEY} it?"}]}
        )
    assert failing(transport.assert_not_called).endswith("m/1: 'Is *** it?'")
    said = failing(request.assert_has, model="x", api_key=KEY)
    assert '   "api_key": "the right key"' in said
    assert KEY not in said


# Assertions about all of them


def test_the_last_call_is_the_one_that_counts(way: Way) -> None:
    server = way.server()
    client = way.client(server)
    client.create(**ASK)
    client.create(**{**ASK, "model": "second"})
    client.count_tokens(model="third", messages=ASK["messages"])
    client.models()
    assert server.assert_called(model="second") is server.requests[1]
    assert '-  "model": "m/1"' in failing(server.assert_called, model="m/1")
    said = failing(server.assert_called_once, model="second")
    assert said == (
        "2 message calls were made: the requests were\n"
        "  1. POST /api/v7/llm/v1/messages m/1: 'Name a tidal river.'\n"
        "  2. POST /api/v7/llm/v1/messages second: 'Name a tidal river.'\n"
        "  3. POST /api/v7/llm/v1/messages/count_tokens\n"
        "  4. GET /api/v7/llm/v1/models"
    )
    assert failing(server.assert_not_called).startswith("there was a message call: the requests")


def test_asked_once(way: Way) -> None:
    server = way.server([ErrorReply(500, headers={"retry-after-ms": "1"}), "ok"])
    client = way.client(server, max_retries=1)
    client.models()
    server.assert_not_called()
    assert failing(server.assert_called).startswith("there was no message call; the requests were")
    client.create(**ASK)
    assert failing(server.assert_called_once).startswith("2 message calls were made")
    other = way.server()
    assert failing(other.assert_called_once) == (
        "there was no message call; there was no request at all"
    )
    way.client(other).create(**ASK)
    assert other.assert_called_once(text="Name a tidal river.").model == "m/1"


def test_a_call_that_was_refused_was_asked_too() -> None:
    transport = ScriptedTransport(api_key=KEY)
    with httpx.Client(transport=transport) as http:
        http.post(transport.url + "/v1/messages?beta=true", json={"model": "m"})
        http.post(transport.url + "/v1/messages", json={"messages": "none"})
    transport.assert_called(model=None, api_key=None, messages="none")
    assert "2. POST /v1/messages None: ''" in failing(transport.assert_not_called)


def test_scripts_that_are_used(way: Way) -> None:
    server = way.server(["one", Fault.cut(), "three"])
    client = way.client(server)
    assert failing(server.assert_script_used) == ("3 of 3 answers were never used, from 'one' on")
    client.create(**ASK)
    assert "2 of 3 answers were never used, from Fault.cut() on" in failing(
        server.assert_script_used
    )
    with pytest.raises(Exception, match="connection broke"):
        client.create(**ASK)
    client.create(**ASK)
    server.assert_script_used()
    with pytest.raises(Exception, match="used up"):
        client.create(**ASK)
    assert failing(server.assert_script_used) == (
        "the script is used up: answers 3, message calls 4"
    )
    server.script = "always"
    assert failing(server.assert_script_used) == "the script was never used"
    client.create(**ASK)
    server.assert_script_used()


def test_a_script_function_that_raised_is_said_again() -> None:
    def script(request: ReceivedRequest) -> str:
        assert request.model == "another", "a wrong model"
        return "fine"

    transport = ScriptedTransport(script)
    with transport.client() as client:
        with pytest.raises(Exception, match="a wrong model"):
            client.messages.create(**ASK)
    with pytest.raises(AssertionError, match="the script raised AssertionError: a wrong") as caught:
        transport.assert_script_used()
    assert caught.value.__cause__ is transport.script_errors[0]


def test_a_real_endpoint_never_hears_of_a_transport() -> None:
    transport = ScriptedTransport("scripted", api_key=KEY)
    with httpx.Client(transport=transport) as http:
        ModelsLab(KEY, endpoint=endpoints.gguf("dep_9"), http_client=http).messages.create(
            max_tokens=5, messages=ASK["messages"]
        )
    transport.assert_called_once(model="local", deployment_id="dep_9", api_key=KEY)


@pytest.mark.parametrize("kind", [LocalServer, ScriptedTransport])
def test_what_is_recorded_outlives_the_server(kind: Any) -> None:
    server = kind()
    if isinstance(server, LocalServer):
        server.start()
    with server.client() as client:
        client.messages.create(**ASK)
    if isinstance(server, LocalServer):
        server.close()
    server.assert_called_once(model="m/1")
