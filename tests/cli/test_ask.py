"""`modelslab ask`: what is asked, what is printed where, and how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Ran
from raw_server import RawServer, free_port

from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply

Here = Callable[..., Ran]

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
    b"\x1f\x15\xc4\x89"
)
PDF = b"%PDF-1.4\n%%EOF\n"
NO_RETRY = {"x-should-retry": "false"}


def content_of(server: LocalServer) -> Any:
    return server.requests[-1].body["messages"][-1]["content"]


def test_the_answer_and_nothing_else_goes_to_standard_output(
    here: Here, server: LocalServer
) -> None:
    assert here("ask", "Hello.", server=server) == (0, "You said: Hello.\n", "")
    assert content_of(server) == "Hello."
    assert server.requests[-1].body["max_tokens"] == 4096


def test_the_options_are_sent(here: Here, server: LocalServer) -> None:
    here(
        *("ask", "Hi", "--model", "x", "--system", "Be brief.", "--max-tokens", "9000"),
        *("--temperature", "0", "--thinking", "2000"),
        server=server,
    )
    body = server.requests[-1].body
    assert (body["model"], body["system"], body["temperature"]) == ("x", "Be brief.", 0)
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (9000, 2000)


def test_thinking_has_room_for_the_answer_too(here: Here, server: LocalServer) -> None:
    here("ask", "Hi", "--thinking", "2000", server=server)
    assert server.requests[-1].body["max_tokens"] == 6096


def test_what_is_piped_in_stands_above_the_prompt(here: Here, server: LocalServer) -> None:
    here("ask", "Explain.", server=server, stdin="é\n".encode())
    assert content_of(server) == "é\n\nExplain."
    here("ask", server=server, stdin=b"Only this.")
    assert content_of(server) == "Only this."
    here("ask", "-", server=server, stdin=b"By name.")
    assert content_of(server) == "By name."


def test_files_are_sent_by_their_type(here: Here, server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha", encoding="utf-8")
    (tmp_path / "photo").write_bytes(PNG)  # by its content and not by its name
    (tmp_path / "paper.txt").write_bytes(PDF)
    files = [str(tmp_path / name) for name in ("a.txt", "photo", "paper.txt")]
    here("ask", "What is this?", *files, server=server)
    image, pdf, text = content_of(server)
    assert (image["type"], image["source"]["media_type"]) == ("image", "image/png")
    assert (pdf["type"], pdf["source"]["media_type"]) == ("document", "application/pdf")
    assert text["text"] == '<file name="a.txt">\nalpha\n</file>\n\nWhat is this?'


def test_an_image_can_be_piped_in(here: Here, server: LocalServer) -> None:
    here("ask", "What is it?", server=server, stdin=PNG)
    assert [block["type"] for block in content_of(server)] == ["image", "text"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty", b"", "is empty"),
        ("binary", b"\x00\xff" * 10, "neither a PDF nor text"),
        ("latin", b"caf\xe9", "neither a PDF nor text"),
        ("cut.png", PNG[:12], "broken or truncated"),
        ("huge", b"a" * (24 * 1024 * 1024 + 1), "is larger than 24 MiB"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named(
    here: Here, server: LocalServer, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    status, out, err = here("ask", "What?", str(tmp_path / name), server=server)
    assert (status, out) == (2, "")
    assert str(tmp_path / name) in err
    assert said in err
    assert err.count("\n") == 1
    assert not server.requests


def test_a_file_that_is_not_there(here: Here, server: LocalServer, tmp_path: Path) -> None:
    for name in ("missing.txt", "."):
        status, _, err = here("ask", "What?", str(tmp_path / name), server=server)
        assert status == 2
        assert err.startswith(f"modelslab: {tmp_path / name}: cannot be read: ")
    assert not server.requests


def test_a_prompt_that_is_a_file_is_noticed(
    here: Here, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("Hi", encoding="utf-8")
    status, _, err = here("ask", "notes.txt", server=server)
    assert status == 0
    assert "name files after it" in err


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        (ErrorReply(400, "No."), 5, "HTTP 400"),
        (ErrorReply(401, "No."), 3, "`modelslab doctor` checks the endpoint"),
        (ErrorReply(402, "No credit."), 3, "No credit."),
        (ErrorReply(403, "No."), 3, "HTTP 403"),
        (ErrorReply(404, "No."), 5, "HTTP 404"),
        (ErrorReply(413, "No."), 5, "HTTP 413"),
        (ErrorReply(422, "No."), 5, "HTTP 422"),
        (ErrorReply(429, "No.", headers=NO_RETRY), 4, "HTTP 429"),
        (ErrorReply(500, "No.", headers=NO_RETRY), 4, "HTTP 500"),
        (ErrorReply(529, "No.", headers=NO_RETRY), 4, "HTTP 529"),
        (
            ErrorReply(200, body=b"<html>Hi</html>", headers={"content-type": "text/html"}),
            5,
            "html",
        ),
        (Reply("Half of", stop_reason="max_tokens"), 6, "raise --max-tokens"),
        (Reply("I will not.", stop_reason="refusal"), 6, "the model refused to answer"),
        (Reply(""), 0, "the answer is empty"),
        (Reply("one two three", fault=Fault.cut(after=5)), 4, "the connection broke"),
    ],
)
def test_the_status_says_what_kind_of_failure_it_is(
    here: Here, script: ErrorReply | Reply, status: int, said: str
) -> None:
    with LocalServer(script) as server:
        found, out, err = here("ask", "Well?", server=server)
    assert found == status, err
    assert said in err
    assert err.count("\n") == 1
    assert out == ("" if isinstance(script, ErrorReply) else _text(script))


def _text(reply: Reply) -> str:
    said = "one two " if reply.fault else str(reply.content)
    return f"{said}\n" if said else ""


def test_a_server_that_is_down(here: Here) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, out, err = here("ask", "Hi", "--model", "m", "--base-url", url, "--retries", "0")
    assert (status, out) == (4, "")
    assert "refused" in err


@pytest.mark.slow
def test_a_server_that_is_silent(here: Here) -> None:
    with RawServer(lambda connection: connection.until_left()) as server:
        ran = here(
            *("ask", "Hi", "--model", "m", "--base-url", server.url),
            *("--timeout", "0.3", "--retries", "0"),
        )
    assert ran.status == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ask"], "there is no prompt"),
        (["ask", "Hi", "--strategy", "tool"], "requires --schema"),
        (["bulk", "i", "o", "--strategy", "tools"], "'tools' is not one of 'tool', 'response_f"),
        (["ask", "Hi", "--temperature", "-1"], "--temperature': -1.0 is not in the range x>=0"),
        (["ask", "Hi", "--max-tokens", "0"], "--max-tokens"),
        (["ask", "Hi", "--retries", "-1"], "--retries"),
        (["ask", "Hi", "--max-tokens", "many"], "'many' is not a valid integer"),
        (["ask", "Hi", "--thinking", "hard"], "must be a number of tokens"),
        (["ask", "Hi", "--tempature", "1"], "no such option"),
        (["ask", "Hi", "--timeout", "-1"], "--timeout': -1.0 is not in the range x>0"),
        (["ask", "Hi", "--timeout", "1e400"], "--timeout': 1e400 is not a finite number"),
        (["ask", "Hi", "--timeout", "nan"], "--timeout': nan is not a finite number"),
        (["ask", "Hi", "--timeout", "long"], "--timeout': 'long' is not a valid number"),
        (["ask", "Hi", "--temperature", "inf"], "--temperature': inf is not a finite number"),
        (["doctor", "--timeout", "1e400"], "--timeout': 1e400 is not a finite number"),
        (["claude", "--wait", "1e400"], "--wait': 1e400 is not a finite number"),
        (["bulk", "i", "o", "--budget", "inf"], "--budget': inf is not a finite number"),
        (["bulk", "i", "o", "--input-price", "-1"], "--input-price': -1.0 is not in the range"),
        (["ask", "Hi", "--v7", "--gguf", "d"], "each name a server"),
        (["ask", "Hi", "--gguf", "a/b"], "is not a deployment id"),
        (["ask", "Hi", "--base-url", "relay"], "does not start with http"),
        (["ask", "-", "--api-key-file", "-"], "standard input cannot be both the key"),
        (["aks", "Hi"], "no such command 'aks'"),
    ],
)
def test_a_wrong_command_is_2_and_nothing_is_sent(
    here: Here, server: LocalServer, arguments: list[str], said: str
) -> None:
    status, out, err = here(*arguments, server=server)
    assert (status, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not server.requests


# The model


def test_the_only_model_of_a_server_needs_no_name(here: Here) -> None:
    with LocalServer(api_key=None, dialect="llama-server") as server:
        assert here("ask", "Hi", "--base-url", server.gateway().base_url).status == 0
        assert server.requests[-1].body["model"] == "/models/local-echo-q4.gguf"


def test_a_server_with_several_models_says_which(here: Here) -> None:
    with LocalServer(api_key=None) as server:
        status, _, err = here("ask", "Hi", "--base-url", server.llm_v7().base_url)
    assert status == 2
    assert "no model is set" in err
    assert "local-echo" in err


# JSON and schemas


def test_json_is_the_whole_message(here: Here, server: LocalServer) -> None:
    status, out, _ = here("ask", "Hi", "--json", server=server)
    message = json.loads(out)
    assert status == 0
    assert message["content"][0]["text"] == "You said: Hi"
    assert message["usage"]["output_tokens"] == 3


def test_json_has_what_came_of_a_message_that_broke_off(here: Here) -> None:
    with LocalServer(Reply("one two three", fault=Fault.cut(after=5))) as server:
        status, out, err = here("ask", "Hi", "--json", server=server)
    assert status == 4
    assert json.loads(out)["content"][0]["text"] == "one two "
    assert "broke" in err


SCHEMA = {
    "type": "object",
    "properties": {"river": {"type": "string"}, "level": {"type": "integer", "minimum": 0}},
    "required": ["river", "level"],
    "additionalProperties": False,
}


def output(value: object) -> Reply:
    return Reply([{"type": "tool_use", "id": "t", "name": "output", "input": value}])


@pytest.fixture
def schema(tmp_path: Path) -> str:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA), encoding="utf-8")
    return str(path)


def test_an_answer_fits_the_schema(here: Here, schema: str) -> None:
    with LocalServer(output({"river": "Tamar", "level": 214})) as server:
        ran = here("ask", "How high?", "--schema", schema, server=server)
        sent = server.requests[-1].body["tools"][0]["input_schema"]
    assert ran == (0, '{"river": "Tamar", "level": 214}\n', "")
    assert list(sent["properties"]) == ["river", "level"]


def test_an_answer_that_does_not_fit_says_where(here: Here, schema: str) -> None:
    with LocalServer(output({"river": "Tamar", "level": -1})) as server:
        status, out, err = here("ask", "How high?", "--schema", schema, server=server)
    assert (status, out) == (6, "")
    assert "$.level: -1 is less than the minimum of 0" in err


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply("I cannot say."), "I cannot say."),
        (output({"river": "Tamar", "level": -1}), '{"river": "Tamar", "level": -1}'),
        (Reply("Well, the", stop_reason="max_tokens"), "Well, the"),
        (
            Reply(
                [
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "t", "name": "output", "input": {"river": 5}},
                ]
            ),
            'Let me see.\n{"river": 5}',
        ),
    ],
)
def test_an_answer_that_does_not_fit_is_shown(
    here: Here, schema: str, reply: Reply, text: str
) -> None:
    """It was paid for. Standard output stays empty: what is there fits the schema."""
    with LocalServer(reply) as server:
        status, out, err = here("ask", "How high?", "--schema", schema, server=server)
        assert (status, out) == (6, "")
        assert err.startswith(f"{text}\nmodelslab: ")
        told = here("ask", "How high?", "--schema", schema, "--json", server=server)
    assert told.status == 6
    message = json.loads(told.out)
    assert message["raw_text"] == text.rpartition("\n")[2]
    assert message["content"]
    assert message["error"] in told.err


@pytest.mark.parametrize("strategy", ["output_config", "prompt"])
def test_how_a_schema_is_asked_for_can_be_said(here: Here, schema: str, strategy: str) -> None:
    with LocalServer('{"river": "Exe", "level": 90}') as server:
        arguments = ["ask", "How high?", "--schema", schema, "--strategy", strategy]
        assert here(*arguments, server=server).status == 0
        assert "tools" not in server.requests[-1].body


def test_a_schema_of_a_list_and_with_definitions(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    river = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    path.write_text(
        json.dumps({"type": "array", "items": {"$ref": "#/$defs/river"}, "$defs": {"river": river}})
    )
    with LocalServer(output({"value": [{"name": "Exe"}]})) as server:
        ran = here("ask", "Which?", "--schema", str(path), server=server)
    assert ran == (0, '[{"name": "Exe"}]\n', "")


def test_a_schema_that_leads_back_to_itself(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "$ref": {"$ref": "#/definitions/node"}},
        "required": ["name"],
    }
    path.write_text(json.dumps({"$ref": "#/definitions/node", "definitions": {"node": node}}))
    for value, status in (
        ({"name": "a", "$ref": {"name": "b"}}, 0),
        ({"name": "a", "$ref": {}}, 6),
    ):
        with LocalServer(output(value)) as server:
            assert here("ask", "Which?", "--schema", str(path), server=server).status == status


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"$ref": "#/$defs/river"}', "is not in the file"),
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON schema"),
        (b'{"type": "strnig"}', "is not a JSON schema"),
        (b"caf\xe9", "is not JSON"),
    ],
)
def test_a_file_without_a_schema(
    here: Here, server: LocalServer, tmp_path: Path, text: bytes, said: str
) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(text)
    status, _, err = here("ask", "Hi", "--schema", str(path), server=server)
    assert status == 2
    assert said in err
    assert not server.requests


def test_a_schema_fetches_nothing(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    with RawServer(b"HTTP/1.1 200 OK\r\n\r\n{}") as elsewhere:
        path.write_text(json.dumps({"properties": {"a": {"$ref": f"{elsewhere.url}/x.json"}}}))
        with LocalServer(output({"a": 1})) as server:
            status, _, err = here("ask", "Hi", "--schema", str(path), server=server)
        assert not elsewhere.connections
    assert status == 2
    assert "is not in the file" in err


def test_a_retry_is_told_as_the_command_speaks(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = ErrorReply(529, "Too busy.", headers={"retry-after-ms": "1"})
    with LocalServer([failing, "Hello."]) as server:
        status, out, err = here("ask", "Hi", server=server)
        assert (status, out) == (0, "Hello.\n")
        (line,) = err.splitlines()
        assert line.startswith("modelslab: attempt 1 failed, retrying in ")
    monkeypatch.setenv("MODELSLAB_LOG", "warning")  # then it is as that has it
    log = logging.getLogger("modelslab_llm")
    before, level, propagate = [*log.handlers], log.level, log.propagate
    try:
        with LocalServer([failing, "Hello."]) as server:
            (line,) = here("ask", "Hi", server=server).err.splitlines()
    finally:
        for handler in {*log.handlers} - {*before}:
            log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
    assert " WARNING modelslab_llm: attempt 1 failed" in line
    assert log.handlers == before
