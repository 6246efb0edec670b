"""One script, two ways in: what a scripted server answers, over a socket and as a transport."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import anyio
import httpx
import pytest
from patience import patient
from scripted import ASK, Way
from variants import variant_named

from modelslab_llm import (
    AsyncModelsLab,
    ConfigurationError,
    ModelsLab,
    RateLimitError,
    endpoints,
    errors,
)
from modelslab_llm.testing import (
    ErrorReply,
    LocalServer,
    ReceivedRequest,
    Reply,
    ScriptedTransport,
)
from modelslab_llm.types import ContentBlockDeltaEvent, Message, TextDelta

CALL = {"type": "tool_use", "id": "toolu_1", "name": "tide", "input": {"port": "Brest", "day": 3}}
THOUGHT = {"type": "thinking", "thinking": "Which port is meant?", "signature": "c2ln"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert set(threading.enumerate()) <= set(before)  # one of another test may have ended


def raw(server: LocalServer | ScriptedTransport) -> httpx.Client:
    """Give a client that is none of ours."""
    headers = {"x-api-key": "local-test-key"}
    if isinstance(server, ScriptedTransport):
        return httpx.Client(headers=headers, transport=server)
    # There is no TLS, and to read the CA certificates takes longer than the test.
    return httpx.Client(headers=headers, trust_env=False, verify=False)


def address(server: LocalServer | ScriptedTransport) -> str:
    return server.llm_v7().base_url + "/v1/messages"


def post(
    http: httpx.Client, server: LocalServer | ScriptedTransport, **changes: Any
) -> httpx.Response:
    return http.post(address(server), json={**ASK, **changes})


# Answers


def test_the_same_message_whole_and_streamed(way: Way) -> None:
    content = [THOUGHT, {"type": "text", "text": "I look at Brest, naïve — 🪁."}, CALL]
    client = way.asked(Reply(content, usage={"input_tokens": 7, "output_tokens": 9}))
    whole = client.create(**ASK)
    with client.stream(**ASK) as stream:
        streamed = stream.message()
    assert whole.to_param() == streamed.to_param() == {"role": "assistant", "content": content}
    assert (whole.id, streamed.id) == ("msg_local_0001", "msg_local_0002")
    for message in (whole, streamed):
        assert message.stop_reason == "tool_use"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 9)


def test_the_other_operations(way: Way) -> None:
    """Counting, models, deployments and keys, alike over a socket and as a transport."""
    server = way.server(deployments={"dep_1": "ready", "dep_2": "paused"})
    client = way.client(server)
    assert client.count_tokens(model="m", messages=ASK["messages"]).input_tokens == 4
    assert len(list(client.models())) == 2
    assert way.client(server, deployment_id="dep_1").create(**ASK).text.startswith("You said")
    with pytest.raises(errors.EndpointNotReadyError) as caught:
        way.client(server, deployment_id="dep_2").create(**ASK)
    assert caught.value.endpoint_status == "paused"
    with pytest.raises(errors.NotFoundError):
        way.client(server, deployment_id="dep_3").create(**ASK)
    server.deployments["dep_2"] = "ready"
    assert way.client(server, deployment_id="dep_2").create(**ASK).text
    with pytest.raises(errors.AuthenticationError):
        way.client(server, api_key="another-key").create(**ASK)
    gateway = way.client(server, endpoint=server.gateway("key"))
    assert gateway.create(**ASK).request_id == f"req_local_{len(server.requests):04}"


def test_an_answer_after_a_failure(way: Way) -> None:
    server = way.server([ErrorReply(429, headers={"retry-after-ms": "1"}), "after the retry"])
    assert way.client(server, max_retries=1).create(**ASK).text == "after the retry"
    assert len(server.requests) == 2


def test_a_message_is_an_answer(way: Way) -> None:
    content = [THOUGHT, {"type": "text", "text": "Yes."}, CALL]
    usage = {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 9}
    said = {"id": "msg_7", "model": "other", "content": content, "usage": usage, "extra": [1]}
    given = Message.model_validate({**said, "stop_reason": "max_tokens"})
    client = way.asked([given, given, Reply(given, stop_reason="end_turn", model="third")])
    whole = client.create(**ASK)
    with client.stream(**ASK) as stream:
        streamed = stream.message()
    for message in (whole, streamed):
        assert message.model_dump(
            exclude_unset=True, exclude={"type", "role", "stop_sequence"}
        ) == (given.model_dump(exclude_unset=True))
    changed = client.create(**ASK)
    assert (changed.stop_reason, changed.model, changed.id) == ("end_turn", "third", "msg_7")
    assert changed.content == given.content


def test_what_came_from_a_stream_can_be_an_answer(way: Way) -> None:
    server = way.server(Reply([{"type": "text", "text": "Round and round."}, CALL]))
    client = way.client(server)
    with client.stream(**ASK) as stream:
        server.script = stream.message()
    assert client.create(**ASK).to_param() == server.script.to_param()


def test_a_new_script_starts_with_its_first_answer(way: Way) -> None:
    server = way.server(["one", "two"])
    client = way.client(server)
    assert client.create(**ASK).text == "one"
    server.script = ["three", "four"]
    assert [client.create(**ASK).text for _ in range(2)] == ["three", "four"]
    with pytest.raises(errors.InternalServerError, match="answers 2, message calls 3"):
        client.create(**ASK)
    server.script = None
    assert client.create(**ASK).text == "You said: Name a tidal river."
    with pytest.raises(TypeError, match="a script answers with"):
        server.script = 7  # type: ignore[assignment]
    assert server.script is None


def test_a_failed_script_is_not_tried_again(way: Way) -> None:
    def script(request: ReceivedRequest) -> str:
        raise LookupError("nothing for this request")

    server = way.server(script)
    with pytest.raises(errors.InternalServerError, match="LookupError: nothing for this"):
        way.client(server, max_retries=5).create(**ASK)
    assert len(server.requests) == 1
    assert [type(error) for error in server.script_errors] == [LookupError]


def texts(way: Way, reply: Reply) -> list[str]:
    with way.asked(reply).stream(**ASK) as stream:
        return [
            event.delta.text
            for event in stream.events()
            if isinstance(event, ContentBlockDeltaEvent) and isinstance(event.delta, TextDelta)
        ]


@pytest.mark.slow
def test_streams_are_split_as_asked(way: Way) -> None:
    text = "Två ord. 🪁"
    assert texts(way, Reply(text)) == ["Två ", "ord. ", "🪁"]
    assert texts(way, Reply(text, split="character")) == list(text)
    assert texts(way, Reply(text, split=1)) == ["Två ", "ord. ", "🪁"]
    assert texts(way, Reply(text, split=1000)) == ["Två ", "ord. ", "🪁"]
    client = way.asked(Reply([CALL], split="character"))
    with client.stream(**ASK) as stream:
        pieces = [
            event.delta.partial_json
            for event in stream.events()
            if event.type == "content_block_delta"
        ]
    assert pieces == ["", *'{"port": "Brest", "day": 3}']


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [LocalServer, ScriptedTransport])
def test_bytes_drip(kind: type[LocalServer | ScriptedTransport], stream: bool) -> None:
    with ExitStack() as opened:
        server = kind([Reply("slow 🪁", id="x"), Reply("slow 🪁", id="x", split=3, pause=0.001)])
        if isinstance(server, LocalServer):
            opened.enter_context(server)
        http = opened.enter_context(raw(server))
        wanted = post(http, server, stream=stream).content
        request = http.build_request("POST", address(server), json={**ASK, "stream": stream})
        response = opened.enter_context(closing(http.send(request, stream=True)))
        pieces = list(response.iter_raw())
    assert b"".join(pieces) == wanted
    if kind is ScriptedTransport:  # in a socket they may run together
        assert {len(piece) for piece in pieces[:-1]} == {3}


@pytest.mark.parametrize("split", [0, -1, True, 1.5, "words", None])
def test_a_split_that_cuts_nothing(split: Any) -> None:
    with pytest.raises(ValueError, match="use 'word', 'character' or a number of bytes"):
        Reply("x", split=split)


def test_reply_headers(way: Way) -> None:
    html = Reply("x", headers={"Content-Type": "text/html", "Request-Id": "req_mine"})
    server = way.server(html)
    client = way.client(server)
    assert client.create(**ASK).request_id == "req_mine"
    with client.stream(**ASK) as stream:  # it looks at the bytes, not at their label
        assert stream.message().request_id == "req_mine"
    with raw(server) as http:
        sent = post(http, server, stream=True).headers
    assert (sent["content-type"], sent["request-id"]) == ("text/html", "req_mine")


@pytest.mark.parametrize("value", ["b\nc", "Łódź", 5, " 2 ", "\x1b[2J"])
def test_a_header_that_http_does_not_allow(way: Way, value: Any) -> None:
    refused = {"a": value}
    server = way.server([Reply("x", headers=refused), ErrorReply(429, headers=refused), "fine"])
    for count in (1, 2):
        with pytest.raises(errors.InternalServerError, match="a header that cannot be sent: a:"):
            way.client(server).create(**ASK)
        assert len(server.script_errors) == count
    assert way.client(server).create(**ASK).text == "fine"


# What was asked


def test_requests_are_recorded_alike() -> None:
    def recorded(way: Way) -> list[tuple[Any, ...]]:
        server = way.server(["x", ErrorReply(500), "y"])
        client = way.client(server, default_headers={"X-Team": "a"})
        client.create(**ASK, system="Be brief.", tools=[])
        with pytest.raises(errors.InternalServerError):
            client.create(**ASK)
        with client.stream(**ASK) as stream:
            stream.message()
        client.count_tokens(model="m", messages=ASK["messages"])
        client.models()
        way.client(server, endpoint=server.gateway()).models()
        return [
            (r.method, r.path, {**r.headers, "host": ""}, r.body, r.raw, r.stream)
            for r in server.requests
        ]

    for name in ("sync", "asyncio", "trio"):
        with variant_named(name) as variant:
            ways = [Way(kind, variant) for kind in (LocalServer, ScriptedTransport)]
            with ways[0].opened, ways[1].opened:
                on_the_wire, in_memory = map(recorded, ways)
        assert len(on_the_wire) == 6
        assert on_the_wire == in_memory


def test_a_client_that_leaves_is_counted(way: Way) -> None:
    server = way.server(Reply("word " * 200, pause=0.01))
    with way.client(server).stream(**ASK) as stream:
        next(stream.texts())
    for _ in range(500):
        if server.disconnects:
            break
        time.sleep(0.01)
    assert server.disconnects == 1


def test_a_client_that_stays_is_not(way: Way) -> None:
    server = way.server("A few words.")
    client = way.client(server)
    for _ in range(3):
        client.create(**ASK)
        with client.stream(**ASK) as stream:
            stream.message()
    assert server.disconnects == 0


# Clients


def test_options_of_a_client(way: Way) -> None:
    server = way.server(api_key="sk-of-the-server")
    client = way.client(server, timeout=3, default_headers={"X-Team": "a"})
    client.create(**ASK)
    assert server.requests[0].headers["x-api-key"] == "sk-of-the-server"
    assert server.requests[0].headers["x-team"] == "a"
    assert client.real.endpoint == server.llm_v7()
    with pytest.raises(TypeError, match="pass only one"):
        way.client(server, endpoint=server.llm_v7(), deployment_id="dep_1")
    with pytest.raises(TypeError, match="unknown option 'retries'"):
        way.client(server, retries=3)


def test_a_server_that_lets_everybody_in_needs_no_key(way: Way) -> None:
    server = way.server("in", api_key=None)
    assert way.client(server).create(**ASK).text == "in"


def test_closing_a_client_leaves_the_others(way: Way) -> None:
    server = way.server("still there")
    one, other = way.client(server), way.client(server)
    one.create(**ASK)
    one.close()
    with pytest.raises(ConfigurationError, match="closed"):
        one.create(**ASK)
    assert other.create(**ASK).text == "still there"


def test_no_proxy_of_the_environment_is_asked(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert way.asked("direct").create(**ASK).text == "direct"


# The transport by itself


def test_a_transport_for_a_client_of_ones_own() -> None:
    transport = ScriptedTransport("scripted")
    with httpx.Client(transport=transport) as http:
        for endpoint in (None, endpoints.gguf("dep_1"), endpoints.gateway("https://relay.example")):
            client = ModelsLab(transport.api_key, endpoint=endpoint, http_client=http)
            assert client.messages.create(**ASK).text == "scripted"
        assert http.get("https://modelslab.com/api/v7/llm/v1/models").status_code == 401
        assert http.post("https://elsewhere.example/login").status_code == 404
    assert [request.path for request in transport.requests] == [
        "/api/v7/llm/v1/messages",
        "/api/gguf/dep_1/v1/messages",
        "/v1/messages",
        "/api/v7/llm/v1/models",
        "/login",
    ]

    async def main() -> str:
        async with httpx.AsyncClient(transport=transport) as http:
            client = AsyncModelsLab(transport.api_key, http_client=http)
            return (await client.messages.create(**ASK)).text

    assert asyncio.run(main()) == "scripted"


def test_a_transport_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    with ScriptedTransport("no socket").client() as client:
        assert client.messages.create(**ASK).text == "no socket"
        with client.messages.stream(**ASK) as stream:
            assert stream.get_final_text() == "no socket"


@pytest.mark.slow
def test_a_transport_serves_threads() -> None:
    said = [f"answer {number}" for number in range(200)]
    transport = ScriptedTransport(list(said))
    heard: list[str] = []

    def ask() -> None:
        with transport.client() as client:
            heard.extend(client.messages.create(**ASK).text for _ in range(25))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == sorted(said)
    assert len(transport.requests) == 200


def test_a_script_may_ask_its_own_transport() -> None:
    def script(request: ReceivedRequest) -> str:
        if request.body["model"] == "inner":
            return "from within"
        with transport.client() as client:
            return client.messages.create(**{**ASK, "model": "inner"}).text.upper()

    transport = ScriptedTransport(script)
    with transport.client() as client:
        assert client.messages.create(**ASK).text == "FROM WITHIN"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@patient
def test_pauses_of_a_transport_leave_the_loop_free(backend: str, unit: float) -> None:
    async def main() -> None:
        transport = ScriptedTransport(pause=unit)
        client = transport.async_client()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(unit / 4)
                ticks += 1

        async def read() -> None:
            async with client.messages.stream(**ASK) as stream:
                await stream.get_final_message()

        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            async with anyio.create_task_group() as readers:
                for _ in range(10):
                    readers.start_soon(read)
            took = time.monotonic() - started
            tasks.cancel_scope.cancel()
        await client.close()
        assert 11 * unit <= took < 30 * unit  # ten at once: one after another would be 110
        assert ticks >= 10

    anyio.run(main, backend=backend)


@pytest.mark.slow
@patient
def test_a_pause_ends_by_the_callers_limits(way: Way, unit: float) -> None:
    script = Reply("one two three", pause=5 * unit)
    with pytest.raises(errors.APITimeoutError) as caught:
        with way.asked(script, timeout=unit).stream(**ASK) as stream:
            stream.message()
    assert caught.value.phase == "read"
    with pytest.raises(errors.APITimeoutError) as caught:
        with way.asked(script, deadline=3 * unit).stream(**ASK) as stream:
            stream.message()
    assert caught.value.phase == "deadline"
    with pytest.raises(errors.APITimeoutError) as caught:
        with way.asked(script, progress_timeout=3 * unit).stream(**ASK) as stream:
            stream.message()
    assert caught.value.phase == "progress"


def test_retries_through_a_transport_wait_as_told() -> None:
    transport = ScriptedTransport(ErrorReply(429, headers={"retry-after": "1000"}))
    with transport.client() as client, pytest.raises(RateLimitError) as caught:
        client.messages.create(**ASK)
    assert caught.value.retry_after == 1000
