"""Recordings: what was sent and answered once, saved to read and review, and replayed exactly.

`recordings/llama` is a recording of a real llama-server. To make it anew:

    MODELSLAB_RECORD=1 python -m pytest tests/testing/test_recording.py -k committed
"""

from __future__ import annotations

import gzip
import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama.fixtures import MODEL_NAME
from llama.scripts import TEXT_REPLY
from llama.server import LlamaServer
from quoting import KEYS, PLACES, holds, quoting
from raw_server import (
    ASK,
    BEGUN,
    CLOSE,
    EVENTS,
    REPLY,
    RESET,
    SSE,
    START,
    STREAM_HEAD,
    TEXT,
    Connection,
    RawServer,
    chunk,
    event,
    failure,
    free_port,
    head,
    reply,
)
from variants import Async, AsyncClient, Sync, SyncClient, variant_named

from modelslab_llm import (
    APIConnectionError,
    APIError,
    AsyncModelsLab,
    ModelsLab,
    StreamInterruptedError,
    endpoints,
)
from modelslab_llm.testing import (
    ErrorReply,
    LocalServer,
    Recording,
    RecordingError,
    Reply,
    ScriptedTransport,
)
from modelslab_llm.testing._record.cleaner import content_of, data_of, frames_in

COMMITTED = Path(__file__).parent / "recordings" / "llama"
KEY = "sk-of-the-recording-0123"
HELLO = [{"role": "user", "content": "Hello"}]
VARIANTS = ("sync", "asyncio", "trio")
NOWHERE = "http://127.0.0.1:9"
"""An address without a server: what is answered there was recorded."""


def client_on(
    recording: Recording, variant: Sync | Async, url: str = NOWHERE, **settings: Any
) -> SyncClient | AsyncClient:
    if not settings.keys() & {"endpoint", "base_url"}:
        settings["endpoint"] = endpoints.gateway(url, default_model=MODEL_NAME)
    if recording.record:
        settings.setdefault("api_key", KEY)
    if isinstance(variant, Sync):
        return SyncClient(recording.client(**settings))
    return AsyncClient(variant.portal, recording.async_client(**settings))


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or all that a user sees of its error."""
    try:
        return call()
    except APIError as error:
        return {
            "class": type(error),
            "text": re.sub(r"[\d.]+ s\)", "… s)", str(error).replace(error.url, "URL")),
            "attempts": error.attempts,
            **{
                name: getattr(error, name, None)
                for name in ("status_code", "type", "code", "body", "request_id", "retry_after")
            },
            "partial": error.partial_message,
        }


def streamed(client: SyncClient | AsyncClient, **asked: Any) -> Any:
    def run() -> Any:
        with client.stream(**asked) as stream:
            return list(stream.events()), stream.message()

    return outcome(run)


def saved(folder: Path) -> dict[str, bytes]:
    return {found.name: found.read_bytes() for found in sorted(folder.iterdir())}


def exchanges(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(data) for name, data in saved(folder).items() if name.endswith(".json")]


def replayed_everywhere(folder: Path, talk: Callable[[Recording, Sync | Async], Any]) -> list[Any]:
    """Return what a conversation comes to when it is replayed, in each variant."""
    results = []
    for name in VARIANTS:
        with variant_named(name) as variant, Recording(folder) as recording:
            results.append(talk(recording, variant))
    return results


# A real server

BAD_TOOL = {
    "name": "coded",
    "input_schema": {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "[A-Z]{2}"}},
    },
}


def conversation(
    recording: Recording, variant: Sync | Async, url: str = NOWHERE, key: str | None = None
) -> list[Any]:
    """Ask for everything there is, two failures among it."""
    client = client_on(recording, variant, url, **({"api_key": key} if key else {}))
    asked: dict[str, Any] = {"max_tokens": 50, "temperature": 0.0, "messages": HELLO}
    results = [
        client.create(**asked),
        streamed(client, **asked),
        client.count_tokens(messages=HELLO),
        [dict(model) for model in client.models()],
        outcome(lambda: client.create(**asked, tools=[BAD_TOOL])),
    ]
    client.close()
    client = client_on(recording, variant, url, api_key="a-wrong-key-0123")
    results.append(outcome(lambda: client.create(**asked)))
    client.close()
    return results


@pytest.mark.slow
def test_what_a_real_server_said_is_replayed_in_every_variant(
    variant: Sync | Async, llama_text: LlamaServer, tmp_path: Path
) -> None:
    with Recording(tmp_path, record=True) as recording:
        live = conversation(recording, variant, llama_text.url, llama_text.api_key)
    assert live[0].text == live[1][1].text == TEXT_REPLY
    assert [result["status_code"] for result in live[4:]] == [400, 401]
    for replay in replayed_everywhere(tmp_path, conversation):
        assert replay == live
    assert not any(
        holds(data.decode(), key)
        for data in saved(tmp_path).values()
        for key in (llama_text.api_key, "a-wrong-key-0123")
    )


def test_two_recordings_differ_only_in_what_the_server_made_different(
    llama_text: LlamaServer, tmp_path: Path
) -> None:
    volatile = ["id", "message.id", "usage", "message.usage", "data.created"]
    for name in ("first", "second"):
        with Recording(tmp_path / name, record=True, redact=volatile) as recording:
            conversation(recording, Sync(), llama_text.url, llama_text.api_key)
    first, second = (saved(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert list(first) == [
        "001-messages.json",
        "002-messages.json",
        "002-messages.sse",
        "003-messages-count_tokens.json",
        "004-models.json",
        "005-messages.json",
        "006-messages.json",
    ]


def test_a_committed_recording(variant: Sync | Async, request: pytest.FixtureRequest) -> None:
    """The answers of a llama-server, on machines that cannot run one."""
    if os.environ.get("MODELSLAB_RECORD") == "1" and variant.name == "sync":
        server = request.getfixturevalue("llama_text")
        with Recording(COMMITTED) as recording:
            conversation(recording, variant, server.url, server.api_key)
    with Recording(COMMITTED, record=False) as recording:
        message, (events, final), count, models, refused, wrong_key = conversation(
            recording, variant
        )
    assert message.text == final.text == TEXT_REPLY
    assert len(events) > 10
    assert count.input_tokens == 24
    assert [model["id"] for model in models] == [MODEL_NAME]
    assert refused["status_code"] == 400
    assert "Pattern must start with" in refused["text"]
    assert (wrong_key["status_code"], wrong_key["type"]) == (401, "authentication_error")


def test_a_committed_stream_reads_like_a_stream() -> None:
    lines = (COMMITTED / "002-messages.sse").read_text(encoding="utf-8").split("\n")
    assert lines[0] == "event: message_start"
    assert json.loads(lines[1].removeprefix("data: "))["message"]["model"] == MODEL_NAME


# How an answer comes, and how it ends


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_stream(
    variant: Sync | Async, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from llama.fixtures import serve
    from llama.scripts import SLOW_MODEL

    asked: dict[str, Any] = {"max_tokens": 500, "temperature": 0.0, "messages": HELLO}

    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE, **more: Any) -> Any:
        client = client_on(recording, variant, url, max_retries=0, **more)
        try:
            return outcome(lambda: read(client))
        finally:
            client.close()

    def read(client: SyncClient | AsyncClient) -> None:
        with client.stream(**asked) as stream:
            texts = stream.texts()
            for _ in range(5):
                next(texts)
            if server is not None:
                server.kill()
            for _ in texts:
                pass

    server: LlamaServer | None = None
    for server in serve(SLOW_MODEL, tmp_path_factory):
        with Recording(tmp_path, record=True) as recording:
            live = talk(recording, variant, server.url, api_key=server.api_key)
    server = None
    assert live["class"] is StreamInterruptedError
    assert live["partial"].text.startswith("I count: 1 2 3")
    (exchange,) = exchanges(tmp_path)
    assert exchange["failure"]["error"] in ("ReadError", "RemoteProtocolError")
    assert replayed_everywhere(tmp_path, talk) == [live] * 3


ENDINGS: dict[str, Any] = {
    "reset": [BEGUN, RESET],
    "cut": [BEGUN, CLOSE],
    "cut in an event": [STREAM_HEAD + chunk(START) + chunk(TEXT[:30]), CLOSE],
    "cut in a character": [STREAM_HEAD + chunk(START) + chunk("ü".encode()[:1]), CLOSE],
    "ends in good order": STREAM_HEAD + chunk(START) + chunk(b""),
    "a broken event": STREAM_HEAD + chunk(START) + chunk(b"data: {\n\n") + chunk(b""),
    "an error event": STREAM_HEAD
    + chunk(START)
    + chunk(event("error", error={"type": "overloaded_error", "message": "later"}))
    + chunk(b""),
    "no stream": [STREAM_HEAD, CLOSE],
    "empty": [head(200, SSE), CLOSE],
    "a message": REPLY,
    "a JSON error": reply(200, {"error": {"message": "no"}}),
    "HTML": reply(502, "<html>ö</html>".encode(), {"content-type": "text/html"}),
    "no text at all": reply(500, b"\xff\xfe\x00", {"content-type": "application/octet-stream"}),
    "a name twice": reply(400, b'{"error": {"message": "a"}, "error": {"message": "b"}}'),
    "half a pair": reply(400, b'{"error": {"message": "\\ud83d"}}'),
    "a huge number": reply(400, b'{"error": {"message": "a", "code": 1e999}}'),
    "cut in the answer": [reply(200, b'{"id": "msg_1", "content": [').replace(b"28", b"99"), CLOSE],
    "cut in the headers": [b"HTTP/1.1 200 OK\r\ncontent", CLOSE],
    "gone without a word": RESET,
    "crlf": STREAM_HEAD + chunk(b"".join(EVENTS).replace(b"\n", b"\r\n")) + chunk(b""),
    "gzip": [
        head(200, {**SSE, "content-encoding": "gzip"}) + gzip.compress(b"".join(EVENTS)),
        CLOSE,
    ],
    "half a gzip": [
        head(200, {**SSE, "content-encoding": "gzip"}) + gzip.compress(b"".join(EVENTS))[:150],
        CLOSE,
    ],
    "a wrong label": reply(200, b"".join(EVENTS), {"content-type": "application/json"}),
    "a strange status": failure(799),
    "a strange header": head(400, {"request-id": "réq", "content-length": "2"}) + b"{}",
    "unauthorized": failure(401, **{"x-should-retry": "false", "request-id": "req_7"}),
    "not ready": failure(503, **{"retry-after": "7", "x-ratelimit-left": "3", "date": "now"}),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_every_answer_is_replayed_as_it_was(ending: Any, tmp_path: Path) -> None:
    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> list[Any]:
        client = client_on(recording, variant, url, max_retries=0)
        results = [streamed(client, **ASK), outcome(lambda: client.create(**ASK))]
        client.close()
        return results

    with RawServer(ending) as server:
        with Recording(tmp_path / "sync", record=True) as recording:
            live = talk(recording, Sync(), server.url)
        with variant_named("asyncio") as variant:
            with Recording(tmp_path / "async", record=True) as recording:
                talk(recording, variant, server.url)
    for replay in replayed_everywhere(tmp_path / "sync", talk):
        assert replay == live
    for one, other in zip(exchanges(tmp_path / "async"), exchanges(tmp_path / "sync"), strict=True):
        for exchange in (one, other):  # what the failure says comes from the library below
            exchange.get("failure", {}).pop("message", None)
        assert one == other


def test_a_stream_is_saved_as_it_came(tmp_path: Path) -> None:
    odd = b": hi\n\n" + b"".join(EVENTS).replace(b"\n", b"\r\n") + b"data: [DONE]\n\n"
    script = head(200, {**SSE, "content-encoding": "gzip", "connection": "close"})
    with RawServer([script + gzip.compress(odd), CLOSE]) as server:
        with Recording(tmp_path, record=True) as recording:
            client = client_on(recording, Sync(), server.url)
            assert streamed(client, **ASK)[1].text == "Tamar"
            client.close()
    assert (tmp_path / "001-messages.sse").read_bytes() == odd


def test_no_connection_is_recorded_too(variant: Sync | Async, tmp_path: Path) -> None:
    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> Any:
        client = client_on(recording, variant, url, max_retries=0)
        try:
            return outcome(lambda: client.create(**ASK))
        finally:
            client.close()

    with Recording(tmp_path, record=True) as recording:
        live = talk(recording, variant, f"http://127.0.0.1:{free_port()}")
    assert live["class"] is APIConnectionError
    assert exchanges(tmp_path)[0]["failure"]["error"] == "ConnectError"
    assert replayed_everywhere(tmp_path, talk) == [live] * 3


def test_retries_are_recorded_as_they_happened(variant: Sync | Async, tmp_path: Path) -> None:
    now = {"retry-after-ms": "1"}

    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> Any:
        client = client_on(recording, variant, url, max_retries=3)
        try:
            return client.create(**ASK).text
        finally:
            client.close()

    script = [ErrorReply(529, headers=now), ErrorReply(503, headers=now), "Paris."]
    with LocalServer(script, api_key=KEY) as server:
        with Recording(tmp_path, record=True) as recording:
            assert talk(recording, variant, server.url) == "Paris."
    assert [each["response"]["status"] for each in exchanges(tmp_path)] == [529, 503, 200]
    assert replayed_everywhere(tmp_path, talk) == ["Paris."] * 3


def test_a_stream_that_is_left_early(variant: Sync | Async, tmp_path: Path) -> None:
    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> list[str]:
        client = client_on(recording, variant, url)
        try:
            with client.stream(**ASK) as stream:
                texts = stream.texts()
                return [next(texts), next(texts)]
        finally:
            client.close()

    with LocalServer("one two three four five " * 50, api_key=KEY, pause=0.01) as server:
        with Recording(tmp_path, record=True) as recording:
            live = talk(recording, variant, server.url)
    (exchange,) = exchanges(tmp_path)
    assert exchange["left"] is True
    assert replayed_everywhere(tmp_path, talk) == [live] * 3
    with pytest.raises(RecordingError, match=r"001-messages\.json ends here: .* application left"):
        with Recording(tmp_path) as recording:
            streamed(client_on(recording, variant), **ASK)


def test_a_call_that_was_left_before_its_answer(tmp_path: Path) -> None:
    async def left(url: str) -> None:
        async with AsyncModelsLab(
            KEY,
            base_url=url,
            http_client=httpx.AsyncClient(transport=recording),
        ) as client:
            with anyio.move_on_after(0.1):
                await client.messages.create(**ASK)
            await client._http.aclose()

    with RawServer(Connection.until_left) as server:
        with Recording(tmp_path, record=True) as recording:
            anyio.run(left, server.url)
    assert exchanges(tmp_path)[0].keys() == {"request", "left"}
    with pytest.raises(RecordingError, match="the application left before more arrived"):
        with Recording(tmp_path) as recording:
            client_on(recording, Sync()).create(**ASK)


@pytest.mark.slow
def test_a_stream_left_after_its_end_is_whole(variant: Sync | Async, tmp_path: Path) -> None:
    """A body that continues after the message is never read."""

    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> Any:
        client = client_on(recording, variant, url)
        try:
            return streamed(client, **ASK)
        finally:
            client.close()

    unending = STREAM_HEAD + b"".join(map(chunk, EVENTS))
    with RawServer([unending, Connection.until_left]) as server:
        with Recording(tmp_path, record=True) as recording:
            live = talk(recording, variant, server.url)
    assert exchanges(tmp_path)[0].keys() == {"request", "response"}
    assert replayed_everywhere(tmp_path, talk) == [live] * 3


# Several at a time


@pytest.mark.slow
def test_calls_at_the_same_time_are_not_mixed(variant: Sync | Async, tmp_path: Path) -> None:
    many = 8

    def talk(recording: Recording, variant: Sync | Async, url: str = NOWHERE) -> list[str]:
        client = client_on(recording, variant, url)
        names = [f"river {number}" for number in range(many)]
        try:
            return at_once(client, names)
        finally:
            client.close()

    for folder in ("first", "second"):
        together = threading.Barrier(many)

        def answered(connection: Connection, together: threading.Barrier = together) -> None:
            together.wait(20)
            said = connection.body["messages"][0]["content"]
            parts = [event("content_block_delta", index=0, delta=delta(said + c)) for c in " abc"]
            for part in (EVENTS[0], EVENTS[1], *parts, *EVENTS[3:]):
                connection.send(chunk(part))
                connection.wait(0.001)
            connection.send(chunk(b""))

        with RawServer([STREAM_HEAD, answered]) as server:
            with Recording(tmp_path / folder, record=True) as recording:
                live = talk(recording, variant, server.url)
    assert live == [f"river {n} river {n}ariver {n}briver {n}c" for n in range(many)]
    assert saved(tmp_path / "first") == saved(tmp_path / "second")
    assert replayed_everywhere(tmp_path / "first", talk) == [live] * 3


def delta(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


def at_once(client: SyncClient | AsyncClient, texts: list[str]) -> list[str]:
    """Stream an answer to each text, all at the same time."""
    answers: dict[str, str] = {}
    asked = [{**ASK, "messages": [{"role": "user", "content": text}]} for text in texts]
    if isinstance(client, AsyncClient):

        async def one(text: str, params: Any) -> None:
            async with client.real.messages.stream(**params) as stream:
                answers[text] = await stream.get_final_text()

        async def all_of_them() -> None:
            async with anyio.create_task_group() as group:
                for text, params in zip(texts, asked, strict=True):
                    group.start_soon(one, text, params)

        client.portal.call(all_of_them)
    else:

        def run(text: str, params: Any) -> None:
            with client.stream(**params) as stream:
                answers[text] = stream.text()

        threads = [
            threading.Thread(target=run, args=pair) for pair in zip(texts, asked, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [answers[text] for text in texts]


def test_equal_requests_are_answered_in_turn(variant: Sync | Async, tmp_path: Path) -> None:
    script = ScriptedTransport(["1", "2", "3"])
    with Recording(tmp_path, record=True, transport=script) as recording:
        client = client_on(recording, variant, api_key="local-test-key")
        assert [client.create(**ASK).text for _ in range(3)] == ["1", "2", "3"]
        client.close()
    with Recording(tmp_path) as recording:
        client = client_on(recording, variant)
        assert [client.create(**ASK).text for _ in range(3)] == ["1", "2", "3"]
        client.close()


@pytest.mark.slow
def test_others_go_on_when_a_client_is_closed(variant: Sync | Async, tmp_path: Path) -> None:
    with LocalServer("one two three " * 10, api_key=KEY, pause=0.002) as server:
        with Recording(tmp_path, record=True) as recording:
            first, second = (client_on(recording, variant, server.url) for _ in range(2))
            with first.stream(**ASK) as stream:
                texts = stream.texts()
                next(texts)
                assert second.create(**ASK).text.startswith("one")
                second.close()
                assert "".join(texts).endswith("three ")
            first.close()
    assert [each.get("left") for each in exchanges(tmp_path)] == [None, None]


# What must not be saved


def assert_hidden(folder: Path, *keys: str) -> None:
    for name, data in saved(folder).items():
        for key in keys:
            assert not holds(name + data.decode("latin-1"), key), (name, data)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, id=name, marks=() if name == "plain" else pytest.mark.slow)
        for name, key in KEYS.items()
        if name != "a-word"
    ],
)
def test_the_key_is_nowhere_even_if_the_server_says_it(key: str, tmp_path: Path) -> None:
    # What cannot be unpacked is not saved at all, see below; and the key as the state of a
    # deployment is no state any more.
    places = [place for place in PLACES if place not in ("encoding", "not-ready")]

    def talk(recording: Recording, url: str = NOWHERE, **more: Any) -> list[Any]:
        endpoint = endpoints.gateway(url, auth="x-api-key")
        client = client_on(recording, Sync(), endpoint=endpoint, max_retries=0, **more)
        results = []
        for place in places:
            asked = {**ASK, "extra_headers": {"x-place": place}, "metadata": {"user_id": place}}
            results += [outcome(lambda a=asked: client.create(**a)), streamed(client, **asked)]
        client.close()
        return results

    with RawServer(quoting) as server:
        with Recording(tmp_path, record=True) as recording:
            live = talk(recording, server.url, api_key=key)
    assert_hidden(tmp_path, key)
    with Recording(tmp_path) as recording:
        replay = talk(recording)
    assert [result["class"] for result in replay] == [result["class"] for result in live]


def test_a_login_hides_its_password_and_a_word_for_one(tmp_path: Path) -> None:
    password, other = "p4ssw0rd-of-a-proxy", "another-passphrase"
    told = f"{password} {other}"
    with RawServer(reply(400, told.encode(), {"content-type": "text/plain"})) as server:
        with Recording(tmp_path, record=True) as recording:
            with httpx.Client(transport=recording, auth=("user", password)) as client:
                assert client.get(server.url, headers={"x-relay-pass": other}).text == told
    assert_hidden(tmp_path, password, other)
    assert exchanges(tmp_path)[0]["response"]["text"] == "*** ***"


def test_a_key_in_the_pieces_of_a_stream_is_not_saved(tmp_path: Path) -> None:
    with LocalServer(Reply(f"It is {KEY}.", split="character"), api_key=KEY) as server:
        with pytest.raises(
            RecordingError, match="POST /v1/messages contains a key that its stream splits"
        ):
            with Recording(tmp_path / "new", record=True) as recording:
                client = client_on(recording, Sync(), server.url)
                streamed(client, **ASK)
                client.close()
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_unpacked_is_not_saved(tmp_path: Path) -> None:
    with RawServer(reply(200, b"\x8b\x00", {"content-encoding": f"br, {KEY}"})) as server:
        with pytest.raises(RecordingError, match=r"POST /v1/messages cannot be decomp.*br, [*]{3}"):
            with Recording(tmp_path / "new", record=True) as recording:
                client = client_on(recording, Sync(), server.url, max_retries=0)
                outcome(lambda: client.create(**ASK))
                client.close()
    assert not (tmp_path / "new").exists()


def test_foreign_clients_ask_for_what_can_be_unpacked(tmp_path: Path) -> None:
    with RawServer(REPLY) as server, Recording(tmp_path, record=True) as recording:
        with httpx.Client(transport=recording) as client:
            client.get(server.url, headers={"accept-encoding": "gzip;q=0.5, br, zstd"})
            client.get(server.url, headers={"accept-encoding": "br"})
        heads = server.heads()
    assert b"accept-encoding: gzip;q=0.5\r\n" in heads[0] + b"\r\n"
    assert b"accept-encoding: identity\r\n" in heads[1] + b"\r\n"


def test_credentials_in_query_path_cookie_and_body(variant: Sync | Async, tmp_path: Path) -> None:
    keys = ("sk/of+the=query", "c00kie-value-1", "t0ken-of-a-proxy", "sk-of-the-call-7")

    def quoted(connection: Connection) -> None:
        told = connection.request.decode()
        connection.send(reply(200, {"told": told, keys[3]: [keys[0]]}, {"x-ratelimit-to": keys[1]}))

    def talk(recording: Recording, url: str, query: str, cookie: str, token: str, call: str) -> Any:
        headers = {"cookie": f"a=b; session={cookie}", "x-proxy-token": token, "key": call}
        request = httpx.Request(
            "POST",
            f"{url}/{call}/x?api_key={httpx.QueryParams(a=query)['a']}&limit=5",
            params={"api_key": query, "limit": "5", "note": f"was {call}"},
            headers=headers,
            json={"say": f"{token} {call}"},
        )
        if isinstance(variant, Sync):
            with httpx.Client(transport=recording) as client:
                return client.send(request).json()

        async def send() -> Any:
            async with httpx.AsyncClient(transport=recording) as client:
                return (await client.send(request)).json()

        return variant.portal.call(send)

    with RawServer(quoted) as server, Recording(tmp_path, record=True) as recording:
        talk(recording, server.url, *keys)
    assert_hidden(tmp_path, *keys)
    assert exchanges(tmp_path)[0]["request"] == {
        "method": "POST",
        "path": "/***/x?api_key=***&limit=5&note=***",
        "body": {"say": "*** ***"},
    }
    with Recording(tmp_path) as recording:
        others = ("another-key-0", "another-key-1", "another-key-2", "another-key-3")
        assert talk(recording, NOWHERE, *others)["***"] == ["***"]


def test_fields_that_are_named_are_blank_wherever_they_stand(tmp_path: Path) -> None:
    secret = "Jane Doe, born 1970"
    told = {"owner": {"name": secret, "age": 52.5, "tags": [secret], "ok": True, "no": None}}
    cut = event("message_start", message={"owner": {"name": secret}})[:-14]
    script = [
        reply(200, {**MESSAGE_FIELDS, **told}),
        STREAM_HEAD
        + b"".join(map(chunk, (event("note", **told, list=[told]), *EVENTS)))
        + chunk(b"event: x\nid: 4\ndata: {\ndata: " + json.dumps(told)[1:].encode() + b"\n\n")
        + chunk(b""),
        [STREAM_HEAD + chunk(START) + chunk(cut), CLOSE],
        [reply(200, {**told, **MESSAGE_FIELDS}).replace(b"\r\n\r\n", b"0\r\n\r\n")[:-40], CLOSE],
    ]
    redact = ["owner.name", "owner.age", "owner.tags", "owner.ok", "owner.no", "list.owner"]
    redact += ["message.owner.name", "metadata.user_id"]

    def talk(recording: Recording, url: str = NOWHERE, who: str = "") -> list[Any]:
        client = client_on(recording, Sync(), url, max_retries=0)
        asked = {**ASK, "metadata": {"user_id": who}}
        results = [outcome(lambda: client.create(**asked)), streamed(client, **asked)]
        results += [streamed(client, **asked), outcome(lambda: client.create(**asked))]
        client.close()
        return results

    with RawServer(*script) as server:
        with Recording(tmp_path, record=True, redact=redact) as recording:
            talk(recording, server.url, secret)
    for name, data in saved(tmp_path).items():
        assert b"Jane" not in data, name
        assert b"52.5" not in data, name
    blank = {"name": "***", "age": 0.0, "tags": [], "ok": False, "no": None}
    assert exchanges(tmp_path)[0]["response"]["body"]["owner"] == blank
    text = (tmp_path / "002-messages.sse").read_text(encoding="utf-8")
    compact = json.dumps(blank, separators=(",", ":"))
    assert f'event: x\nid: 4\ndata: {{"owner":{compact}}}\n\n' in text
    assert b"".join(EVENTS).decode() in text
    with Recording(tmp_path, redact=redact) as recording:
        first, second, *broken = talk(recording, who="John Roe")
    assert first.text == second[1].text == "Tamar"
    assert [result["class"].__name__ for result in broken] == [
        "StreamInterruptedError",
        "APIConnectionError",
    ]


MESSAGE_FIELDS: dict[str, Any] = json.loads(REPLY.partition(b"\r\n\r\n")[2])


def test_a_redacted_field_that_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match=r"redact names fields that no recorded body has: metadata\.user"
    ):
        with Recording(
            tmp_path,
            record=True,
            redact=["metadata.user", "model"],
            transport=ScriptedTransport(),
        ) as recording:
            recording.client("local-test-key", base_url=NOWHERE).messages.create(**ASK)


@pytest.mark.parametrize("redact", ["model", [""], ["a..b"], [".a"]])
def test_a_path_that_is_none(redact: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="redact"):
        Recording(tmp_path, redact=redact)


# What is in the folder


def recorded(folder: Path, *texts: str) -> None:
    """Record the echo of each text."""
    with Recording(folder, record=True, transport=ScriptedTransport()) as recording:
        client = recording.client("local-test-key", base_url=NOWHERE)
        for text in texts:
            ask(client, text)
        client.close()


def ask(client: ModelsLab, text: str = "hello", **more: Any) -> str:
    params: Any = {**ASK, "messages": [{"role": "user", "content": text}], **more}
    return client.messages.create(**params).text


def replaying(recording: Recording) -> ModelsLab:
    return recording.client(base_url=NOWHERE)


def test_a_new_recording_replaces_the_old_one_alone(tmp_path: Path) -> None:
    recorded(tmp_path, "one", "two", "three")
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "data.json").write_text("{}")
    recorded(tmp_path, "four")
    assert list(saved(tmp_path)) == ["001-messages.json", "data.json", "notes.md"]
    with Recording(tmp_path) as recording:
        assert ask(replaying(recording), "four") == "You said: four"


def test_a_block_that_fails_leaves_the_old_recording(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    before = saved(tmp_path)
    with pytest.raises(ZeroDivisionError) as caught:
        with Recording(tmp_path, record=True, transport=ScriptedTransport()) as recording:
            ask(recording.client("local-test-key", base_url=NOWHERE))
            raise ZeroDivisionError
    assert saved(tmp_path) == before
    if hasattr(caught.value, "__notes__"):
        assert "nothing was saved" in caught.value.__notes__[0]


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path, "one", "two")
    before = saved(tmp_path)
    write, count = Path.write_bytes, 0

    def full(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count < 2:
            return write(path, data)
        write(path, data[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        recorded(tmp_path, "three", "four")
    assert saved(tmp_path) == before


def test_the_environment_asks_for_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_RECORD", "1")
    assert Recording(tmp_path).record
    assert not Recording(tmp_path, record=False).record
    with Recording(tmp_path, transport=ScriptedTransport()) as recording:
        ask(recording.client("local-test-key", base_url=NOWHERE))
    for no in ("0", ""):
        monkeypatch.setenv("MODELSLAB_RECORD", no)
        with Recording(tmp_path) as recording:
            assert ask(replaying(recording)) == "You said: hello"
    monkeypatch.setenv("MODELSLAB_RECORD", "yes")
    with pytest.raises(ValueError, match="MODELSLAB_RECORD is 'yes': set it to 1"):
        Recording(tmp_path)


def test_no_folder_says_how_to_record(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        recording = Recording(folder)
        for _ in range(2):
            with pytest.raises(RecordingError, match=r"no recording here.*\n.*MODELSLAB_RECORD=1"):
                recording.__enter__()
    with pytest.raises(RecordingError, match="no request used"):
        with Recording(tmp_path / "none", record=True):
            pass
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("record", [True, False])
def test_a_file_is_not_a_folder(record: bool, tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match="taken: is a file, but a recording is a folder"):
        Recording(path, record=record).__enter__()


def test_outside_of_a_block_nothing_works(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    for recording in (Recording(tmp_path), Recording(tmp_path, record=True)):
        client = recording.client("local-test-key", base_url=NOWHERE)
        with pytest.raises(RecordingError, match="not in use: `with Recording"):
            ask(client)


def test_a_hand_edited_file_works(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    path = tmp_path / "001-messages.json"
    exchange = json.loads(path.read_bytes())
    exchange["response"]["body"]["content"][0]["text"] = "edited"
    path.write_text(json.dumps(exchange, indent="\t"), encoding="utf-8-sig")
    exchange["request"]["body"]["stream"] = True
    exchange["response"] = {"status": 200, "stream": "050-mine.sse"}
    (tmp_path / "050-mine.json").write_text(json.dumps(exchange))
    (tmp_path / "050-mine.sse").write_bytes(b"".join(EVENTS))
    with Recording(tmp_path) as recording:
        client = replaying(recording)
        assert ask(client, "one") == "edited"
        with client.messages.stream(
            **{**ASK, "messages": [{"role": "user", "content": "one"}]}
        ) as s:
            assert s.get_final_text() == "Tamar"


ASKED = '{"method": "GET", "path": "/"}'
BROKEN = {
    "no JSON": ('{"request": ', r"is not JSON: .*line 1 column"),
    "no object": ("[]", "the object: Input should be a valid dictionary"),
    "no UTF-8": (b'"\xff"', "is not UTF-8"),
    "nothing": ("{}", "request: is required"),
    "no answer": (f'{{"request": {ASKED}}}', "response: is required"),
    "a typo": (
        f'{{"request": {ASKED}, "response": {{"status": 200, "boddy": 1}}}}',
        "response.boddy: is unknown",
    ),
    "a wrong status": (f'{{"request": {ASKED}, "response": {{"status": 99}}}}', "response.status"),
    "two bodies": (
        f'{{"request": {ASKED}, "response": {{"status": 200, "body": 1, "text": ""}}}}',
        "response: has body and text, and only one",
    ),
    "no stream": (
        f'{{"request": {ASKED}, "response": {{"status": 200, "stream": "../a.sse"}}}}',
        r"response.stream: there is no file '../a.sse'",
    ),
    "base64": (
        f'{{"request": {ASKED}, "response": {{"status": 200, "base64": "?"}}}}',
        "base64: ",
    ),
    "a strange failure": (
        f'{{"request": {ASKED}, "failure": {{"error": "SystemExit", "message": ""}}}}',
        "failure.error: Input should be 'CloseError'",
    ),
}


@pytest.mark.parametrize(("text", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(text: str | bytes, fault: str, tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    broken = tmp_path / "002-messages.json"
    broken.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecordingError, match=f"002-messages.json: {fault}") as caught:
        Recording(tmp_path).__enter__()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_the_same_when_it_is_read_again(data: bytes) -> None:
    found = data_of(json.loads(json.dumps(content_of(data))))
    try:
        expected = json.loads(data.decode())
    except ValueError:
        assert found == data
    else:
        assert repr(json.loads(found)) == repr(expected)


@pytest.mark.slow
@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"data:", b"\xff"])).map(b"".join))
def test_events_joined_are_the_stream(stream: bytes) -> None:
    assert b"".join(frames_in(stream)) == stream


# What was not recorded


def test_a_request_that_was_not_recorded(variant: Sync | Async, tmp_path: Path) -> None:
    recorded(tmp_path, "Name a tidal river.", "Name a lake.")
    asked = {**ASK, "messages": [{"role": "user", "content": "Name a tidal stream."}]}
    with pytest.raises(RecordingError) as caught:
        with Recording(tmp_path) as recording:
            client = client_on(recording, variant, max_retries=5)
            client.create(**asked)
    text = str(caught.value)
    assert f"{tmp_path}: POST /v1/messages was not recorded with this content" in text
    assert "nearest is 001-messages.json (- recorded, + sent)" in text
    assert '-        "content": "Name a tidal river."' in text
    assert '+        "content": "Name a tidal stream."' in text
    assert "MODELSLAB_RECORD=1" in text
    assert "more)" not in text  # asked once: it is no failure that is tried again


def test_another_base_url_is_named(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    moved = r"another base URL, whose path is / and not /api/v7/llm: replay it with"
    with pytest.raises(RecordingError, match=moved), Recording(tmp_path) as recording:
        ask(recording.client(endpoint=endpoints.llm_v7()), "one")


def test_drift_that_was_swallowed_is_told_at_the_end(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    with pytest.raises(RecordingError, match=r"(?s)was not recorded.*\(and 1 more\)"):
        with Recording(tmp_path) as recording:
            client = replaying(recording)
            for text in ("two", "three"):
                with suppress(Exception):  # as careless applications do
                    ask(client, text)


def test_drift_is_told_beside_what_followed_from_it(tmp_path: Path) -> None:
    recorded(tmp_path, "one")

    def swallow(client: ModelsLab) -> str:
        with suppress(Exception):
            ask(client, "two")
        return ""

    with pytest.raises(RecordingError, match="was not recorded") as caught:
        with Recording(tmp_path) as recording:
            raise ValueError(swallow(replaying(recording)))
    assert isinstance(caught.value.__context__, ValueError)
    with pytest.raises(KeyboardInterrupt), Recording(tmp_path) as recording:
        swallow(replaying(recording))
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError, match=r"^mine$"), Recording(tmp_path) as recording:
        try:
            ask(replaying(recording), "two")
        except RecordingError as error:
            raise RuntimeError("mine") from error


def test_a_request_too_many(tmp_path: Path) -> None:
    recorded(tmp_path, "one", "two", "one")
    with pytest.raises(
        RecordingError,
        match=r"sent more often than it was recorded \(001-messages.json, 003-messages.json\)",
    ):
        with Recording(tmp_path) as recording:
            client = replaying(recording)
            for text in ("two", "one", "one", "one"):
                assert ask(client, text) == f"You said: {text}"


def test_what_is_recorded_and_not_asked_for(tmp_path: Path) -> None:
    recorded(tmp_path, "one", "two", "three")
    with pytest.raises(RecordingError, match=r"not sent: 001\S+, 003\S+json"):
        with Recording(tmp_path) as recording:
            ask(replaying(recording), "two")
    with Recording(tmp_path, unused="ignore") as recording:
        ask(replaying(recording), "two")
    with pytest.raises(ZeroDivisionError), Recording(tmp_path):
        raise ZeroDivisionError
    with Recording(tmp_path) as recording:  # each block begins anew
        for text in ("three", "one", "two"):
            ask(replaying(recording), text)


@pytest.mark.parametrize("more", [{"max_tokens": 17}, {"model": "n"}, {"temperature": 0.5}])
def test_every_field_counts(tmp_path: Path, more: dict[str, Any]) -> None:
    """A request that differs in any field is another request."""
    recorded(tmp_path, "one")
    with pytest.raises(RecordingError, match="was not recorded with this content"):
        with Recording(tmp_path) as recording:
            ask(replaying(recording), "one", **more)


def test_a_difference_shows_no_key(tmp_path: Path) -> None:
    recorded(tmp_path, "one")
    with pytest.raises(RecordingError) as caught:
        with Recording(tmp_path) as recording:
            client = recording.client("sk-0123456789", base_url=NOWHERE)
            ask(client, "the key is sk-0123456789")
    assert "the key is ***" in str(caught.value)
    assert not holds(str(caught.value), "sk-0123456789")


def test_a_key_that_is_a_word_of_the_prompt(tmp_path: Path) -> None:
    recorded(tmp_path, "to say the word recorded")
    with Recording(tmp_path) as recording:
        client = recording.client("recorded", base_url=NOWHERE)
        assert "the word recorded" in ask(client, "to say the word recorded")


# Other clients, other transports


def test_the_address_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSLAB_BASE_URL", f"{NOWHERE}/relay")
    monkeypatch.setenv("MODELSLAB_API_KEY", "local-test-key")
    with Recording(tmp_path, record=True, transport=ScriptedTransport()) as recording:
        ask(recording.client(), "my key is local-test-key, of no header")
    assert_hidden(tmp_path, "local-test-key")
    assert exchanges(tmp_path)[0]["request"]["path"] == "/relay/v1/messages"
    with Recording(tmp_path) as recording:
        assert recording.client().endpoint.base_url.endswith("/relay")
        ask(recording.client(), "my key is local-test-key, of no header")


def test_a_client_of_ones_own(variant: Sync | Async, tmp_path: Path) -> None:
    def talk(recording: Recording) -> Any:
        if isinstance(variant, Sync):
            with httpx.Client(transport=recording, base_url=NOWHERE) as client:
                return client.get("/v1/models").json()["data"][0]["id"]

        async def run() -> Any:
            async with httpx.AsyncClient(transport=recording, base_url=NOWHERE) as client:
                return (await client.get("/v1/models")).json()["data"][0]["id"]

        return variant.portal.call(run)

    scripted = ScriptedTransport(api_key=None)
    live = talk(Recording(tmp_path, record=True, transport=scripted))
    assert talk(Recording(tmp_path)) == live == "local-large"


def test_an_async_block(tmp_path: Path) -> None:
    async def talk(recording: Recording, url: str = NOWHERE) -> str:
        async with recording, recording.async_client(KEY, base_url=url) as client:
            return (await client.messages.create(**ASK)).text

    with LocalServer(api_key=KEY) as server:
        live = anyio.run(talk, Recording(tmp_path, record=True), server.url)
    assert anyio.run(talk, Recording(tmp_path)) == live


def test_a_transport_of_the_wrong_variant(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"HTTPTransport.*needs an httpx\.BaseTransport"):
        with Recording(
            tmp_path, record=True, transport=httpx.AsyncHTTPTransport(verify=False)
        ) as recording:
            ask(recording.client(KEY, base_url=NOWHERE))


def test_more_headers_are_kept_if_they_are_named(tmp_path: Path) -> None:
    def answered(request: httpx.Request) -> httpx.Response:
        headers = {"X-Team": "a", "X-Other": "b", "request-id": "req_1", "set-cookie": "c=d"}
        return httpx.Response(200, json=MESSAGE_FIELDS, headers=headers)

    transport = httpx.MockTransport(answered)
    with Recording(tmp_path, record=True, headers=["X-team"], transport=transport) as recording:
        assert recording.client(KEY, base_url=NOWHERE).messages.create(**ASK).text == "Tamar"
    kept = exchanges(tmp_path)[0]["response"]["headers"]
    assert kept == {"content-type": "application/json", "x-team": "a", "request-id": "req_1"}
