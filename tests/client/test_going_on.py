"""A call whose stream broke stays one call for its caller, its observers, its queue, its time.

What of an answer is handed out is proved in `test_resume`, and at a real server in
`test_llama_resume`.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import anyio
import pytest
from scripted import Way, way_named
from variants import Async, Sync

from modelslab_llm import (
    APITimeoutError,
    AsyncModelsLab,
    InternalServerError,
    InvalidRequestError,
    OverloadedError,
    StreamInterruptedError,
)
from modelslab_llm.observers import CallEnd, ObservedCall, Observer, ResumePlan
from modelslab_llm.prices import Budget
from modelslab_llm.testing import ErrorReply, Fault, LocalServer, Reply
from modelslab_llm.types import Message

pytestmark = pytest.mark.usefixtures("short_pauses")

STORY = "One two three four five six seven."
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Count."}],
}
# message_start, content_block_start and so many words
CUT = Reply(STORY, fault=Fault.cut(after=5))
LATER = Reply(STORY, fault=Fault.cut(after=4))


@pytest.fixture
def way(variant: Sync | Async) -> Iterator[Way]:
    """Real sockets alone: httpx and trio warn of a stream of a transport that breaks early."""
    with way_named("server", variant) as found:
        yield found


class Notes(Observer):
    """Keep the notifications, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.plans: list[ResumePlan] = []
        self.ends: list[CallEnd] = []

    def on_start(self, call: ObservedCall) -> None:
        self.words.append(f"{call.operation} starts")

    def on_attempt_start(self, call: ObservedCall, number: int) -> None:
        self.words.append(f"attempt {number}")

    def on_resume(self, call: ObservedCall, resume: ResumePlan) -> None:
        self.words.append("resumes")
        self.plans.append(resume)

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        self.words.append(end.outcome)
        self.ends.append(end)


def client_of(way: Way, script: Any, **options: Any) -> tuple[Any, Any]:
    server = way.server(script, dialect="llama-server")
    return server, way.client(server, deployment_id="d", **options)


def test_every_view_of_a_stream_continues(way: Way) -> None:
    server, client = client_of(way, [CUT, LATER, Reply(STORY)])
    with client.stream(resume=2, **ASK) as stream:
        assert "".join(stream.texts()) == STORY
        message = stream.message()
        assert (stream.stream.is_complete, stream.stream.has_failed) == (True, False)
    assert message.text == STORY
    assert [seam.at for seam in message.seams] == [len("One two three"), len("One two three four")]
    assert message.call_info.attempts == 3
    server.assert_script_used()
    for request in server.requests:
        assert request.body.keys() == {"model", "max_tokens", "messages", "stream"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault.reset(after=5),
        Fault.end(after=5),
        Fault.cut(within=6),
        Fault.error("overloaded_error", after=5),
        Fault.error("api_error", after=5),
        Fault.garbage(b"data: {\n\n", after=5),
        Fault.stall(after=5),
    ],
    ids=lambda fault: f"{fault.kind}-{'within' if fault.within else fault.type or 'after'}",
)
def test_whatever_broke_the_stream(way: Way, fault: Fault) -> None:
    script = [Reply(STORY, fault=fault), Reply(STORY)]
    server, client = client_of(way, script, timeout=0.5)
    assert client.create(resume=1, **ASK).text == STORY
    server.assert_script_used()


@pytest.mark.parametrize("kind", ["authentication_error", "invalid_request_error"])
def test_what_would_not_get_better_is_raised(way: Way, kind: str) -> None:
    server, client = client_of(way, [Reply(STORY, fault=Fault.error(kind, after=5))])
    with pytest.raises(Exception) as caught:
        client.create(resume=1, **ASK)
    assert caught.value.type == kind  # type: ignore[attr-defined]
    server.assert_script_used()


def test_it_is_one_call_to_observers(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()
    again = ErrorReply(503, headers={"retry-after-ms": "1"})
    _, client = client_of(way, [CUT, again, Reply(STORY)], observers=[notes], max_retries=1)
    with caplog.at_level(logging.INFO, "modelslab_llm"):
        message = client.create(resume=1, **ASK)
    assert notes.words == [
        *("messages.create starts", "attempt 1", "resumes"),
        *("attempt 2", "attempt 3", "complete"),
    ]
    (plan,), (end,) = notes.plans, notes.ends
    assert (plan.number, plan.why, plan.at) == (2, "interrupted", len("One two three"))
    assert isinstance(plan.error, StreamInterruptedError)
    assert end.message == message
    assert (end.attempts, end.info) == (3, message.call_info)
    assert end.usage is not None
    assert end.usage.output_tokens == 7
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("the stream broke, resuming after 13 characters in 0.00 s: ")
    assert lines[-1].startswith("messages.create m, complete, in ")


def test_the_key_is_nowhere(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """A server quotes it in the error that breaks the stream, which is told and kept."""
    notes = Notes()
    fault = Fault.error("api_error", "Bad: local-test-key", after=5)
    with caplog.at_level(logging.DEBUG, "modelslab_llm"):
        _, client = client_of(way, [Reply(STORY, fault=fault), Reply(STORY)], observers=[notes])
        message = client.create(resume=1, **ASK)
    told = [message.model_dump_json(), str(notes.plans[0].error), caplog.text]
    assert message.seams[0].error == "HTTP 500: Bad: ***"
    assert not any("local-test-key" in text for text in told)


def test_a_failure_is_told_once_and_is_the_first_one(way: Way) -> None:
    notes = Notes()
    _, client = client_of(way, [CUT, ErrorReply(400, "no prefill")], observers=[notes])
    with pytest.raises(StreamInterruptedError, match="not resumed: HTTP 400: no prefill") as caught:
        client.create(resume=1, **ASK)
    (end,) = notes.ends
    assert (end.outcome, end.error, end.attempts) == ("failed", caught.value, 2)
    assert end.message == caught.value.partial_message
    assert end.message is not None
    assert end.message.text.strip() == "One two three"


def test_a_stream_that_is_left_is_left(variant: Sync | Async) -> None:
    notes = Notes()
    with LocalServer([CUT, Reply(STORY, pause=0.005)], dialect="llama-server") as server:
        client: Any = variant.client(
            api_key=server.api_key, endpoint=server.gguf("d"), observers=[notes]
        )
        with closing(client), client.stream(resume=1, **ASK) as stream:
            for text in stream.texts():
                if "four" in text:
                    break
    assert notes.words[-2:] == ["attempt 2", "left"]
    assert client.real.flow.in_flight == 0


def test_the_place_in_line_is_given_back_and_taken_again(way: Way) -> None:
    """With one place for all: were it kept, the rest could not be asked for."""
    _, client = client_of(way, [CUT, LATER, Reply(STORY), "Next."], max_concurrency=1)
    with client.stream(resume=2, **ASK) as stream:
        assert client.real.flow.in_flight == 1
        assert stream.text() == STORY
    assert client.real.flow.in_flight == 0
    assert client.create(**ASK).text == "Next."


@pytest.mark.slow
def test_a_refusal_of_the_rest_waits_in_the_queue(way: Way) -> None:
    """It uses up no retry."""
    refused = ErrorReply(529, headers={"retry-after-ms": "1"})
    server, client = client_of(way, [CUT, refused, refused, Reply(STORY)], max_retries=1)
    assert client.create(resume=1, **ASK).text == STORY
    server.assert_script_used()


@pytest.mark.slow
def test_the_deadline_is_that_of_the_call(variant: Sync | Async) -> None:
    with LocalServer(
        [CUT, Reply(STORY, fault=Fault.stall(after=4))], dialect="llama-server"
    ) as server:
        client: Any = variant.client(
            api_key=server.api_key, endpoint=server.gguf("d"), deadline=1.0, timeout=30
        )
        with closing(client), pytest.raises(APITimeoutError) as caught:
            client.create(resume=5, **ASK)
    assert caught.value.phase == "deadline"
    assert caught.value.partial_message is not None
    assert caught.value.partial_message.text.strip() == "One two three four"
    assert len(caught.value.partial_message.seams) == 1


def test_a_dropped_stream_frees_its_slot() -> None:
    """Its second place: the stream that broke is garbage first, and must not free it."""
    script = [CUT, Reply(STORY, pause=0.001)]
    with (
        LocalServer(script, dialect="llama-server") as server,
        server.client(deployment_id="d", max_concurrency=1) as client,
    ):
        stream = client.messages.stream(resume=1, **ASK)
        for text in stream.text_stream:
            if "four" in text:
                break
        gc.collect()
        assert client.flow.in_flight == 1
        del stream, text
        gc.collect()
        assert client.flow.in_flight == 0


def test_another_thread_may_close_it() -> None:
    """Then nothing is resumed, though the stream broke."""
    script = [Reply(STORY, fault=Fault.stall(after=5)), Reply(STORY)]
    with (
        LocalServer(script, dialect="llama-server") as server,
        server.client(deployment_id="d", timeout=20, max_retries=0) as client,
        client.messages.stream(resume=1, **ASK) as stream,
    ):
        closer = threading.Timer(0.2, stream.close)
        closer.start()
        with pytest.raises(StreamInterruptedError):
            stream.get_final_message()
        closer.join()
        assert len(server.requests) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_pause_ends_the_call(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelslab_llm._protocol.retry.FIRST", 30.0)
    monkeypatch.setattr("modelslab_llm._protocol.retry.LONGEST", 30.0)
    notes = Notes()

    async def use(client: AsyncModelsLab) -> None:
        with anyio.move_on_after(20) as scope:
            async with client, client.messages.stream(resume=1, **ASK) as stream:
                async for text in stream.text_stream:
                    if "three" in text:
                        scope.deadline = anyio.current_time() + 0.05
        assert scope.cancelled_caught

    with LocalServer([CUT], dialect="llama-server") as server:
        client = server.async_client(deployment_id="d", observers=[notes])
        anyio.run(use, client, backend=backend)
    (end,) = notes.ends
    assert end.outcome == "cancelled"
    assert end.message is not None
    assert end.message.text == "One two three"
    assert client.flow.in_flight == 0


def test_a_server_that_is_not_known_to_continue_is_not_asked(way: Way) -> None:
    server = way.server("Hello.")
    for name in ("resume", "continue_at_max_tokens"):
        for verb in ("create", "stream"):
            client: Any = way.client(server)
            with pytest.raises(InvalidRequestError, match=f"{name}: this server is not known to"):
                with getattr(client, verb)(**{name: 1}, **ASK):
                    pass
    server.assert_not_called()


def test_other_verbs_say_that_they_do_not_have_it(way: Way) -> None:
    client: Any = way.asked("Hello.")
    with pytest.raises(TypeError, match=r"parse\(\) has no parameter 'resume': only text can"):
        client.parse(output=int, resume=1, **ASK)
    with pytest.raises(TypeError, match=r"run_tools\(\) has no parameter 'resume': "):
        client.run_tools(resume=1, **ASK)


def test_an_older_claude_returns_the_rest_alone(way: Way) -> None:
    server = way.server([CUT, Reply(STORY)])
    endpoint = replace(server.gateway(), continues_prefill="rest")
    client: Any = way.client(server, endpoint=endpoint)
    message = client.create(resume=1, **ASK)
    assert message.text == STORY
    assert message.seams[0].request_id == "req_local_0001"
    assert message.request_id == "req_local_0002"


def test_max_tokens_in_the_words_of_a_gateway(way: Way) -> None:
    server, client = client_of(way, [Reply("One two", "length"), Reply(STORY)])
    with client.stream(continue_at_max_tokens=1, **ASK) as stream:
        assert "".join(stream.texts()) == STORY
        assert stream.message().stop_reason == "end_turn"
    assert [request.max_tokens for request in server.requests] == [64, 64]


def test_a_dump_has_the_seams(way: Way) -> None:
    _, client = client_of(way, [CUT, Reply(STORY)])
    message = client.create(resume=1, **ASK)
    again = Message.model_validate_json(message.model_dump_json())
    assert again.seams == message.seams
    assert (again, again.request_id) == (message, message.request_id)
    assert "seams" not in message.to_param()
    assert Message.model_validate({"seams": "a field of the server's"}).seams == ()


def test_the_budget_of_a_client_counts_each_stream_once(way: Way) -> None:
    budget = Budget(tokens=1000)
    _, client = client_of(way, [CUT, LATER, Reply(STORY)], budget=budget)
    with client.stream(resume=2, **ASK) as stream:
        assert stream.text() == STORY
        usage = stream.message().usage
    gc.collect()  # of the streams that ended
    assert budget.tokens_spent == usage.input_tokens + usage.output_tokens > 0


def test_bulk_rows_may_allow_it_and_budgets_count_it(way: Way) -> None:
    _, client = client_of(way, [CUT, Reply(STORY)])
    budget = Budget(tokens=1000)
    run = client.bulk([ASK], defaults={"resume": 1}, budget=budget)
    (result,) = run.results()
    run.close()
    assert result.message.text == STORY
    usage = result.message.usage
    assert budget.tokens_spent == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens == 7


def test_a_failure_in_the_midst_of_the_rest_is_the_one_that_is_raised(way: Way) -> None:
    overloaded = Reply(STORY, fault=Fault.error("overloaded_error", after=4))
    _, client = client_of(way, [CUT, overloaded])
    with pytest.raises(OverloadedError, match="not resumed: resume=1 is used up") as caught:
        client.create(resume=1, **ASK)
    assert caught.value.partial_message is not None
    assert caught.value.partial_message.text.strip() == "One two three four"


def test_before_any_content_it_is_a_retry(way: Way) -> None:
    """Which `max_retries` allows, and `resume` does not."""
    _, client = client_of(way, [Reply(STORY, fault=Fault.error("api_error", after=1))])
    with pytest.raises(InternalServerError) as caught:
        client.create(resume=3, **ASK)
    assert caught.value.attempts == 1
