"""The anthropic SDK at our endpoints, histories between both, and what docs/from-anthropic.md says.

Where a row of that page says what anthropic does, it is seen here; so a new version of it that does
otherwise fails a test, and the page can be mended.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from lazy import Lazy
from raw_server import (
    END_OF_BODY,
    EVENTS,
    OPEN,
    START,
    STREAM_HEAD,
    TEXT,
    RawServer,
    chunk,
    error_event,
    event,
    reply,
)
from raw_server import stream as stream_of

import modelslab_llm
from modelslab_llm import (
    APIError,
    APIStatusError,
    AsyncModelsLab,
    Endpoint,
    InvalidRequestError,
    ModelsLab,
    ModelsLabError,
    StreamInterruptedError,
    UnknownBlock,
    endpoints,
)
from modelslab_llm.testing import ErrorReply, LocalServer, Reply

anthropic = Lazy("anthropic", "2.12")

pytestmark = pytest.mark.slow  # to load that SDK takes longer than all of these tests

Json = dict[str, Any]
ASK: Json = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Hello there"}],
}
KINDS = ["v7", "gguf", "gateway"]
PAGE = (Path(__file__).parents[2] / "docs" / "from-anthropic.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _without_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def place(server: LocalServer, kind: str) -> Endpoint:
    return {"v7": server.llm_v7(), "gguf": server.gguf("dep_1"), "gateway": server.gateway()}[kind]


# The SDK at our endpoints


@pytest.mark.parametrize("kind", KINDS)
def test_it_talks_to_every_endpoint(server: LocalServer, kind: str) -> None:
    at = place(server, kind)
    with anthropic.Anthropic(base_url=at.base_url, api_key=server.api_key) as client:
        assert client.messages.create(**ASK).content[0].text == "You said: Hello there"
        with client.messages.stream(**ASK) as stream:
            assert "".join(stream.text_stream) == "You said: Hello there"
            assert stream.get_final_message().stop_reason == "end_turn"
        asked = {name: ASK[name] for name in ("model", "messages")}
        assert client.messages.count_tokens(**asked).input_tokens == 2
        assert len(list(client.models.list())) >= 1
    assert {request.headers["authorization"] for request in server.requests} == {
        f"Bearer {server.api_key}"
    }


@pytest.mark.parametrize("auth", ["bearer", "x-api-key"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_for_claude_code_sets_it_up(
    server: LocalServer, kind: str, auth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = place(server, kind)
    if kind == "gateway":
        at = endpoints.gateway(at.base_url, auth=auth)
    for name, value in at.claude_code_env(str(server.api_key), model="m").items():
        monkeypatch.setenv(name, value)
    with anthropic.Anthropic() as client:
        assert client.messages.create(**ASK).content[0].text == "You said: Hello there"
    assert server.requests[-1].path == "/" + at.base_url.split("/", 3)[3] + "/v1/messages"


def test_a_key_in_a_header_of_its_own_needs_a_word_more(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK refuses to ask without a credential it knows, and is given one beside the header."""
    at = endpoints.gateway(server.gateway().base_url, auth="key")
    for name, value in at.claude_code_env(str(server.api_key)).items():
        monkeypatch.setenv(name, value)
    with anthropic.Anthropic() as client:
        client.messages.create(**ASK)
    assert server.requests[-1].headers["key"] == server.api_key


# Histories between the two


def test_a_history_goes_from_one_to_the_other() -> None:
    thought: Json = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    call: Json = {"type": "tool_use", "id": "a", "name": "n", "input": {"x": 1}}
    said: Json = {"role": "assistant", "content": [thought, call]}
    result: Json = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "a", "content": "y"}],
    }
    with LocalServer(Reply([thought, call])) as server:
        theirs = anthropic.Anthropic(base_url=server.url, api_key=server.api_key)
        ours = ModelsLab(server.api_key, endpoint=server.gateway())
        with theirs, ours:
            answers = [
                theirs.messages.create(**ASK).to_param(),
                ours.messages.create(**ASK).to_param(),
            ]
            for answer in answers:
                for create in (theirs.messages.create, ours.messages.create):
                    create(**ASK | {"messages": [*ASK["messages"], answer, result]})
                    assert server.requests[-1].body["messages"][1] == said


# The page


def test_every_name_on_the_page_is_there_or_not_as_it_says() -> None:
    theirs = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:1")
    for name in ("with_raw_response", "with_streaming_response", "batches"):
        assert hasattr(theirs.messages, name)
        assert not hasattr(ModelsLab("k").messages, name)
    for name in ("beta", "files", "with_middleware", "default_query"):
        assert hasattr(theirs, name)
        assert not hasattr(ModelsLab("k"), name)
    assert {"current_message_snapshot", "until_done"} <= set(dir(anthropic.MessageStream))
    assert hasattr(theirs.models, "retrieve")
    assert "extra_query" in inspect.signature(theirs.messages.create).parameters
    assert not {"temperature", "top_p", "top_k"} & set(
        inspect.signature(theirs.messages.create).parameters
    )
    assert (theirs.max_retries, theirs.timeout.read, theirs.timeout.connect) == (2, 600, 5)
    assert theirs.default_headers["anthropic-version"] == "2026-10-21"
    theirs.close()


def test_the_table_of_types_names_types_of_both() -> None:
    table = PAGE.partition("### Types")[2].partition("### Requests")[0]
    rows = re.findall(r"^\| (`.*`.*?) \| (`.*`.*) \|$", table, re.M)
    assert len(rows) > 10
    for theirs, ours in rows[1:]:  # the first is the heading
        for name in re.findall(r"\b[A-Z]\w+", theirs):
            assert hasattr(anthropic.types, name)
            assert not hasattr(modelslab_llm.types, name), f"{name} is here too"
        for name in re.findall(r"\b[A-Z]\w{3,}", ours):  # all but "Raw"
            assert hasattr(modelslab_llm.types, name)


@pytest.mark.parametrize("mark", ["NOT_GIVEN", "omit"])
@pytest.mark.parametrize("name", ["temperature", "system", "messages", "timeout"])
def test_its_mark_for_nothing_is_to_be_left_out(name: str, mark: str) -> None:
    with ModelsLab("k") as ours:
        for call in (ours.messages.create, ours.messages.stream):
            with pytest.raises(InvalidRequestError, match=f"{name}: leave the parameter out"):
                call(**ASK | {name: getattr(anthropic, mark)})


@pytest.mark.parametrize("kind", [ModelsLab, AsyncModelsLab])
def test_a_property_that_fails_says_what_it_missed(kind: type[Any]) -> None:
    """And not that it is missing itself, as Python has it where a class answers for names."""

    class Mine(kind):  # type: ignore[misc,valid-type]
        @property
        def region(self) -> str:
            return self.endpoint.regoin  # type: ignore[no-any-return]

    hint = "'Endpoint' object has no attribute 'regoin'"
    with pytest.raises(AttributeError, match=hint) as missed:
        Mine("k").region  # noqa: B018
    assert missed.value.name == "regoin"


def test_its_stream_has_events_of_its_own(server: LocalServer) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key=server.api_key) as client:
        with client.messages.stream(**ASK) as stream:
            kinds = [event.type for event in stream]
            assert "text" in kinds
            assert "ping" not in kinds
    with ModelsLab(server.api_key, endpoint=server.gateway()) as ours:
        with ours.messages.stream(**ASK) as answer:
            ours_kinds = [event.type for event in answer]
    assert [kind for kind in kinds if kind != "text"] == [k for k in ours_kinds if k != "ping"]


def test_its_stream_may_end_early_without_an_error() -> None:
    cut = [STREAM_HEAD, *map(chunk, (START, OPEN, TEXT)), END_OF_BODY]
    with RawServer(cut) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k") as client:
            with client.messages.stream(**ASK) as stream:
                message = stream.get_final_message()
    assert message.stop_reason is None
    assert message.content[0].text == "Tamar"
    with RawServer(cut) as server:
        with ModelsLab("k", base_url=server.url) as ours:
            with pytest.raises(StreamInterruptedError), ours.messages.stream(**ASK) as answer:
                answer.get_final_message()


def test_it_hands_out_half_of_a_tools_arguments() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    begun = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    use = {"type": "tool_use", "id": "a", "name": "pay", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"to": "Ada", "sum": 1000, "cur": "E'}
    events = [
        event("message_start", message=begun),
        event("content_block_start", index=0, content_block=use),
        event("content_block_delta", index=0, delta=delta),
        event("message_delta", delta={"stop_reason": "max_tokens"}, usage=usage),
        event("message_stop"),
    ]
    cut = [STREAM_HEAD, *map(chunk, events), END_OF_BODY]
    with RawServer(cut) as server:
        with anthropic.Anthropic(base_url=server.url, api_key="k") as client:
            with client.messages.stream(**ASK) as stream:
                assert stream.get_final_message().content[0].input == {"to": "Ada", "sum": 1000}
    with RawServer(cut) as server:
        with ModelsLab("k", base_url=server.url) as ours:
            with ours.messages.stream(**ASK) as answer:
                (found,) = answer.get_final_message().tool_uses
    assert (found.input, found.input_complete) == ({}, False)


def test_it_reads_an_unknown_block_as_a_known_one() -> None:
    with LocalServer(Reply([{"type": "of_tomorrow", "depth": 3}])) as server:
        with anthropic.Anthropic(base_url=server.url, api_key=server.api_key) as client:
            block = client.messages.create(**ASK).content[0]
            assert isinstance(block, anthropic.types.TextBlock)
        with ModelsLab(server.api_key, endpoint=server.gateway()) as ours:
            assert isinstance(ours.messages.create(**ASK).content[0], UnknownBlock)


def test_it_gives_up_at_an_error_before_the_first_content() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    begun = event("message_start", message={"id": "m", "content": [], "usage": usage})
    failing = [STREAM_HEAD, chunk(begun), chunk(error_event()), END_OF_BODY]
    with RawServer(failing) as raw:
        with anthropic.Anthropic(base_url=raw.url, api_key="k") as client:
            with pytest.raises(anthropic.APIStatusError) as failed:
                with client.messages.stream(**ASK) as stream:
                    stream.get_final_message()
        assert (type(failed.value), raw.requests) == (anthropic.APIStatusError, 1)
    with RawServer(failing, stream_of(*EVENTS)) as raw:
        with ModelsLab("k", base_url=raw.url) as ours:
            with ours.messages.stream(**ASK) as answer:
                assert answer.get_final_text() == "Tamar"
        assert raw.requests == 2


def test_it_takes_what_is_not_a_message_for_one() -> None:
    page = reply(200, b"<html>", {"content-type": "text/html"})
    error = reply(200, {"error": {"message": "no"}})
    for answer, kind in ((page, str), (error, anthropic.types.Message)):
        with RawServer(answer) as server:
            with anthropic.Anthropic(base_url=server.url, api_key="k") as client:
                assert isinstance(client.messages.create(**ASK), kind)
            with ModelsLab("k", base_url=server.url, max_retries=0) as ours:
                with pytest.raises(APIError):
                    ours.messages.create(**ASK)


def test_what_it_refuses_by_itself(server: LocalServer) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key=server.api_key) as client:
        with pytest.raises(ValueError, match="Streaming is required"):
            client.messages.create(**ASK | {"max_tokens": 30_000})
        client.messages.create(**ASK | {"messages": [{"role": "system", "content": "x"}]})
        client.messages.create(**ASK, stream=False)
        message = client.messages.create(**ASK)
    assert not hasattr(message, "text")
    assert not hasattr(message, "request_id")
    with ModelsLab(server.api_key, endpoint=server.gateway()) as ours:
        ours.messages.create(**ASK | {"max_tokens": 30_000})
        ours.messages.create(**ASK, stream=False)  # type: ignore[call-arg]
    with anthropic.Anthropic() as keyless, pytest.raises(TypeError, match="authentication"):
        keyless.messages.create(**ASK)


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (400, "BadRequestError", "BadRequestError"),
        (401, "AuthenticationError", "AuthenticationError"),
        (402, "PaymentRequiredError", "PaymentRequiredError"),
        (403, "PermissionDeniedError", "PermissionDeniedError"),
        (404, "NotFoundError", "NotFoundError"),
        (408, "RequestTimeoutError", "RequestTimeoutError"),
        (409, "ConflictError", "ConflictError"),
        (412, "PreconditionFailedError", "APIStatusError"),
        (413, "ContentTooLargeError", "RequestTooLargeError"),
        (422, "UnprocessableEntityError", "UnprocessableEntityError"),
        (429, "RateLimitError", "RateLimitError"),
        (500, "InternalServerError", "InternalServerError"),
        (501, "HTTPNotImplementedError", "InternalServerError"),
        (502, "InternalServerError", "BadGatewayError"),
        (503, "ServiceUnavailableError", "ServiceUnavailableError"),
        (504, "GatewayTimeoutError", "GatewayTimeoutError"),
        (529, "OverloadedError", "OverloadedError"),
    ],
)
def test_the_names_of_errors(status: int, theirs: str, ours: str) -> None:
    with LocalServer([ErrorReply(status)] * 2) as server:
        with anthropic.Anthropic(
            base_url=server.url, api_key=server.api_key, max_retries=0
        ) as client:
            with pytest.raises(anthropic.APIStatusError) as failed:
                client.messages.create(**ASK)
        assert type(failed.value).__name__ == theirs
        with ModelsLab(server.api_key, endpoint=server.gateway(), max_retries=0) as client:
            with pytest.raises(APIStatusError) as failed:
                client.messages.create(**ASK)
        assert type(failed.value).__name__ == ours
    if theirs != ours:
        assert f"`{theirs}`" in PAGE
        assert f"`{ours}`" in PAGE


def test_what_errors_hold() -> None:
    """Status, headers, body, message, request ID: theirs and ours of one failure, side by side."""
    with LocalServer([ErrorReply(429, headers={"Retry-After": "7"})] * 2) as server:
        key = server.api_key
        theirs = anthropic.Anthropic(base_url=server.gateway().base_url, api_key=key, max_retries=0)
        ours = ModelsLab(key, endpoint=server.gateway(), max_retries=0)
        with theirs, pytest.raises(anthropic.AnthropicError) as there:
            theirs.messages.create(**ASK)
        with ours, pytest.raises(ModelsLabError) as here:
            ours.messages.create(**ASK)
    was, now = there.value, here.value
    assert isinstance(was, anthropic.APIStatusError)
    assert isinstance(now, APIStatusError)
    assert now.status_code == was.response.status_code
    assert now.headers["content-type"] == was.response.headers["content-type"]
    assert was.body == was.response.json()
    assert isinstance(now.body, dict)
    assert now.body["error"] == was.body["error"]
    assert (now.method, now.url) == (was.request.method, str(was.request.url))
    assert now.message == was.api_message
    assert was.message.startswith("Error code: 429 - {")
    assert (now.type, now.request_id is None) == (was.type, was.request_id is None)
    assert now.retry_after == float(was.response.headers["retry-after"])
