"""`modelslab doctor`: its verdicts on every dialect of the kit, and on servers that are broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from certificates import Authority
from commands import Ran
from raw_server import (
    BEGUN,
    CLOSE,
    MESSAGE,
    REPLY,
    SILENCE,
    STREAM,
    Connection,
    RawServer,
    free_port,
    reply,
)

from modelslab_llm.testing import (
    DialectName,
    ErrorReply,
    Fault,
    LocalServer,
    ReceivedRequest,
    Reply,
    ReplyLike,
)

Here = Callable[..., Ran]

KEY = "sk-a-secret-key-123"


class Told(NamedTuple):
    status: int
    verdicts: dict[str, str]
    evidence: dict[str, str]
    cures: dict[str, str]


def examine(here: Here, *arguments: str, key: str | None = KEY) -> Told:
    """Return what doctor says of an endpoint as JSON; the key is nowhere in it."""
    stdin = (key or "").encode()
    by_file = ["--api-key-file", "-"] if key else []
    ran = here("doctor", *arguments, "--json", *by_file, stdin=stdin)
    if key:
        assert key not in ran.out + ran.err
    rows = json.loads(ran.out)["findings"]
    assert ran.err == ""
    return Told(
        ran.status,
        *({row["check"]: row[name] for row in rows} for name in ("verdict", "evidence", "cure")),
    )


# Servers that work


def model(request: ReceivedRequest) -> ReplyLike:
    """ReplyLike as a model would that can do everything."""
    body: Any = request.body
    if "tool_result" in json.dumps(body["messages"][-1]):
        return "It stands at 214 cm."
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        tool = body["tools"][0]
        given = dict.fromkeys(tool["input_schema"]["properties"], "Paris")
        return Reply([{"type": "tool_use", "id": "t", "name": tool["name"], "input": given}])
    if "json" in json.dumps(body).lower():
        return '{"name": "Paris", "country": "France"}'
    return "hello"


WORKS = (
    *("reachable", "TLS", "path /v1/messages", "key", "models", "create", "stream", "stream end"),
    *("tools", "schema: tool", "schema: output_config", "schema: response_format"),
    "schema: prompt",
)

ODD: dict[DialectName, dict[str, str]] = {
    "anthropic": {},
    "llama-server": {"stream pings": "absent", "errors": "differs"},
    "vllm": {"stream framing": "differs", "stream pings": "absent", "limits": "absent"},
    "vllm-old": {"stream framing": "differs", "stream pings": "absent", "limits": "absent"},
    "litellm": {"stream pings": "absent", "limits": "absent"},
    "ollama": {"stream pings": "absent", "count_tokens": "absent", "limits": "absent"},
    "lm-studio": {"stream pings": "absent", "limits": "absent"},
    "new-api": {},
    "openrouter": {"errors": "differs", "limits": "absent"},
    "vercel": {"count_tokens": "absent", "limits": "absent"},
    "deepseek": {"limits": "absent"},
    "modelslab": {},
    "data-only": {
        "stream framing": "differs",
        "stream pings": "absent",
        "errors": "differs",
        "limits": "absent",
    },
}
"""What doctor finds of each dialect that is not as Anthropic has it."""

EVIDENCE: dict[DialectName, dict[str, str]] = {
    "llama-server": {"errors": "other envelope, error with code", "limits": "4096 tokens"},
    "vllm": {"stream framing": "message_start without type, role"},
    "vllm-old": {"stream framing": "data: [DONE] at the end"},
    "litellm": {"limits": "request id in x-litellm-call-id"},
    "ollama": {"count_tokens": "this server has no count_tokens"},
    "new-api": {"stream pings": "0 pings, 1 comments"},
    "openrouter": {"stream pings": "1 pings, 1 comments", "errors": "metadata"},
    "data-only": {"stream framing": "events without an `event:` line"},
}
"""By what it is seen."""


@pytest.mark.slow
@pytest.mark.parametrize("dialect", get_args(DialectName))
def test_every_dialect(here: Here, dialect: DialectName) -> None:
    with LocalServer(model, dialect=dialect, api_key=KEY) as server:
        told = examine(here, server.gateway().base_url)
    expected = dict.fromkeys(told.verdicts, "ok") | ODD[dialect]
    assert told.verdicts == expected, told.evidence
    assert told.status == 0
    assert told.verdicts.keys() >= set(WORKS)
    assert "bearer: 200" in told.evidence["key"]
    assert re.search("no key: 40[01]$", told.evidence["key"])
    for check, words in EVIDENCE.get(dialect, {}).items():
        assert words in told.evidence[check]


def test_every_verdict_that_is_not_ok_has_a_cure_or_needs_none(here: Here) -> None:
    with LocalServer("No.", dialect="ollama", api_key=KEY) as server:
        told = examine(here, server.gateway().base_url)
    assert told.verdicts["tools"] == "absent"
    assert "--jinja" in told.cures["tools"]
    assert told.verdicts["schema: tool"] == "absent"
    assert told.cures["count_tokens"] == "use `usage` of the responses instead"


def test_a_strategy_that_fails_names_one_that_works(here: Here) -> None:
    def without_tools(request: ReceivedRequest) -> ReplyLike:
        return "hello" if "tools" in request.body else model(request)

    with LocalServer(without_tools, api_key=KEY) as server:
        told = examine(here, server.gateway().base_url)
    assert told.verdicts["schema: tool"] == "absent"
    assert told.cures["schema: tool"] == "use strategy='response_format'"


def test_a_server_without_keys(here: Here) -> None:
    with LocalServer(model, api_key=None) as server:
        told = examine(here, server.gateway().base_url, key=None)
        assert told.evidence["key"] == "no key: 200; no key is needed"
        told = examine(here, server.gateway().base_url)
    assert told.status == 0
    assert told.evidence["key"].endswith("no key: 200; no key is needed")


def test_the_spelling_of_the_address(here: Here) -> None:
    with LocalServer(model, api_key=KEY) as server:
        told = examine(here, f"{server.gateway().base_url}/v1/")
    assert told.verdicts["path /v1/messages"] == "ok"
    assert "the client adds the /v1" in told.evidence["path /v1/messages"]


def test_a_deployment_that_is_not_ready(here: Here) -> None:
    for state in ("deploying", "paused", "loading"):
        with LocalServer(model, deployments={"d": state}, api_key=KEY) as server:
            told = examine(here, server.gguf("d").base_url)
        assert told.status == 4
        assert told.verdicts["ready"] == "unknown"
        assert "wait, or start it" in told.cures["ready"]
        assert "create" not in told.verdicts


def test_a_server_that_is_busy_proves_nothing(here: Here) -> None:
    with LocalServer(ErrorReply(429, "Slow down."), api_key=KEY) as server:
        told = examine(here, server.gateway().base_url)
    assert told.status == 4
    assert told.verdicts["create"] == told.verdicts["tools"] == "unknown"
    assert told.cures["create"] == "the server is busy: check again later"


# Servers that are broken

MODELS = reply(200, {"object": "list", "data": [{"id": "m"}]})
HTML = reply(200, b"<html>Sign in</html>", {"content-type": "text/html"})
REFUSED_KEY = reply(401, {"error": {"type": "authentication_error", "message": f"bad {KEY}"}})


def path_of(connection: Connection) -> str:
    return connection.request.split()[1].decode()


def serving(
    messages: Any, prefix: str = "", otherwise: bytes = b""
) -> Callable[[Connection], None]:
    """Return a server of models and messages under a prefix, and of something else elsewhere."""

    def play(connection: Connection) -> None:
        path = path_of(connection)
        if path == f"{prefix}/v1/models":
            connection.send(MODELS)
        elif path == f"{prefix}/v1/messages":
            connection.play(messages(connection) if callable(messages) else messages)
        else:
            connection.send(otherwise or reply(404, {"detail": "Not Found"}))

    return play


def streamed(script: Any) -> Callable[[Connection], Any]:
    """Return what answers whole, but streams as the script says."""

    def answer(connection: Connection) -> Any:
        if "messages" not in connection.body:
            return reply(400, {"type": "error", "error": {"type": "x", "message": "no messages"}})
        return script if connection.body.get("stream") else REPLY

    return answer


def test_nothing_listens(here: Here) -> None:
    told = examine(here, f"http://127.0.0.1:{free_port()}")
    assert (told.status, told.verdicts) == (1, {"reachable": "fails"})
    assert told.evidence["reachable"] == "Connection refused"
    assert "start the server" in told.cures["reachable"]


def test_no_such_host(here: Here) -> None:
    told = examine(here, "http://no-such-host.invalid")
    assert (told.status, told.verdicts) == (1, {"reachable": "fails"})
    assert "cannot be resolved" in told.cures["reachable"]


@pytest.mark.slow
def test_a_server_that_is_silent(here: Here) -> None:
    with RawServer(SILENCE) as server:
        told = examine(here, server.url, "--timeout", "0.5")
    assert (told.status, told.verdicts) == (1, {"reachable": "fails"})
    assert "does not answer" in told.cures["reachable"]


def test_what_is_not_an_http_server(here: Here) -> None:
    with RawServer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as server:
        told = examine(here, server.url)
    assert (told.status, told.verdicts) == (1, {"reachable": "fails"})
    assert "does not speak HTTP" in told.cures["reachable"]


def test_a_certificate_that_nobody_trusts(here: Here, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with RawServer(REPLY, tls=authority.server) as server:
        told = examine(here, server.url)
    assert (told.status, told.verdicts["TLS"]) == (1, "fails")
    assert told.evidence["TLS"] == "self-signed certificate"
    assert "SSL_CERT_FILE" in told.cures["TLS"]
    assert all(KEY not in str(connection.requests) for connection in server.connections)


def test_a_certificate_that_is_trusted(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with RawServer(serving(streamed(STREAM)), tls=authority.server) as server:
        told = examine(here, server.url)
    assert told.verdicts["TLS"] == "ok"
    assert "TLSv1.3, certificate valid until" in told.evidence["TLS"]


def test_https_at_a_plain_server(here: Here) -> None:
    with LocalServer() as server:
        told = examine(here, server.url.replace("http:", "https:"))
    assert (told.status, told.verdicts) == (1, {"reachable": "fails"})
    assert "use http://" in told.cures["reachable"]


def test_a_page_for_people(here: Here) -> None:
    with RawServer(HTML) as server:
        told = examine(here, f"{server.url}/some/where")
    assert (told.status, told.verdicts["path /v1/messages"]) == (1, "fails")
    assert "HTTP 200, text/html" in told.evidence["path /v1/messages"]
    assert "check the URL" in told.cures["path /v1/messages"]


def test_an_address_that_redirects(here: Here) -> None:
    with RawServer(reply(308, b"", {"location": "https://relay.example/api"})) as server:
        told = examine(here, server.url)
    assert told.status == 1
    assert "HTTP 308, to https://relay.example/api" in told.evidence["path /v1/messages"]
    assert told.cures["path /v1/messages"] == "use the address that it redirects to"


def test_a_server_of_another_format(here: Here) -> None:
    with RawServer(serving(reply(404, {"detail": "Not Found"}))) as server:
        told = examine(here, f"{server.url}/v1")
    assert (told.status, told.verdicts["path /v1/messages"]) == (1, "fails")


def test_messages_are_elsewhere(here: Here) -> None:
    with RawServer(serving(streamed(STREAM), prefix="/anthropic")) as server:
        told = examine(here, server.url)
    assert told.status == 1
    assert f"--base-url {server.url}/anthropic" in told.cures["path /v1/messages"]
    assert told.verdicts["create"] == told.verdicts["stream"] == "ok"  # there


def test_messages_are_further_up(here: Here) -> None:
    with RawServer(serving(streamed(STREAM))) as server:
        told = examine(here, f"{server.url}/api/openai")
    assert f"--base-url {server.url}," in told.cures["path /v1/messages"]


def test_messages_without_v1(here: Here) -> None:
    def play(connection: Connection) -> None:
        found = path_of(connection) == "/messages"
        connection.send(REPLY if found else reply(404, b"nothing", {"content-type": "text/plain"}))

    with RawServer(play) as server:
        told = examine(here, server.url)
    assert "without /v1" in told.cures["path /v1/messages"]


def test_another_header_for_the_key(here: Here) -> None:
    def play(connection: Connection) -> None:
        if f"x-api-key: {KEY}".encode() in connection.request.lower():
            serving(streamed(STREAM))(connection)
        else:
            connection.send(REFUSED_KEY)

    with RawServer(play) as server:
        told = examine(here, server.url)
    assert (told.status, told.verdicts["key"]) == (1, "fails")
    assert told.evidence["key"] == "x-api-key: 200, bearer: 401, key: 401, no key: 401"
    assert told.cures["key"] == "--auth x-api-key, endpoints.gateway(url, auth='x-api-key')"
    assert told.verdicts["create"] == "ok"  # with that header


def test_a_key_that_is_refused_everywhere(here: Here) -> None:
    with RawServer(REFUSED_KEY) as server:
        told = examine(here, server.url)
        assert (told.status, told.verdicts["key"]) == (1, "fails")
        assert "wrong, expired, or for another server" in told.cures["key"]
        told = examine(here, server.url, key=None)
    assert told.cures["key"].startswith("the server requires a key")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "check", "evidence"),
    [
        ([BEGUN, CLOSE], "stream end", "after content_block_delta: peer closed connection"),
        (reply(200, MESSAGE), "stream framing", "no events in"),
        (
            reply(200, b"data: oops\n\n", {"content-type": "text/event-stream"}),
            "stream end",
            "after",
        ),
    ],
)
def test_streams_that_do_not_work(here: Here, script: Any, check: str, evidence: str) -> None:
    with RawServer(serving(streamed(script))) as server:
        told = examine(here, server.url)
    assert (told.status, told.verdicts[check]) == (1, "fails")
    assert evidence in told.evidence[check]
    assert told.verdicts["create"] == "ok"


@pytest.mark.slow
def test_a_stream_that_stalls(here: Here) -> None:
    with LocalServer(
        lambda request: Reply("one two", fault=Fault.stall(after=4) if request.stream else None),
        api_key=KEY,
    ) as server:
        told = examine(here, server.gateway().base_url, "--timeout", "1")
    assert told.status == 1
    assert told.verdicts["stream"] == told.verdicts["stream end"] == "fails"
    assert "nothing more arrived in 1 s" in told.evidence["stream end"]


def test_a_server_that_fails_always(here: Here) -> None:
    with RawServer(serving(reply(500, {"error": f"out of memory, {KEY}"}))) as server:
        told = examine(here, server.url)
    assert told.status == 1
    assert told.verdicts["create"] == told.verdicts["stream"] == "fails"
    assert "HTTP 500" in told.evidence["create"]


# How it is shown


def test_the_rows_are_text_in_a_pipe(here: Here) -> None:
    with LocalServer(model) as server:
        status, out, err = here("doctor", server=server)
        url = server.llm_v7().base_url
    assert (status, err) == (0, "")
    head, _, rows = out.partition("\n\n")
    assert head == f"{url}\nkey from MODELSLAB_API_KEY, sent as x-api-key"
    assert "ok       create                    'hello', model 'm', end_turn" in rows
    assert rows.splitlines()[-1] == "14 ok, 2 differs, 1 absent"
    assert "\x1b" not in out


def test_two_addresses_are_one_too_many(here: Here) -> None:
    status, _, err = here("doctor", "http://a.example", "--base-url", "http://b.example")
    assert status == 2
    assert "pass only one" in err
