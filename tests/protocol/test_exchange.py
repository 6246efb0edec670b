"""Prove how one call runs: attempts out, outcomes in, by `next()` and `send()` alone.

The clock is a number that the test sets, so nothing waits.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from modelslab_llm import Message, ModelList, endpoints, errors
from modelslab_llm._protocol.config import Config
from modelslab_llm._protocol.exchange import exchange
from modelslab_llm._protocol.messages import create_message, stream_message
from modelslab_llm._protocol.models import all_models, list_models
from modelslab_llm._protocol.reader import Opened, Reader
from modelslab_llm._protocol.ready import until_ready
from modelslab_llm._protocol.refusals import from_payload
from modelslab_llm._protocol.retry import Retry
from modelslab_llm._protocol.values import Answer, Attempt, Call, Deadline, Outcome
from modelslab_llm.errors import APIConnectionError, APIError

Flow = Generator[Attempt, Outcome, Any]
Json = dict[str, Any]

BASE = "http://h.example:8080/prefix"
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Go"}]}
MESSAGE: Json = {"type": "message", "content": [{"type": "text", "text": "Hello."}]}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def config(**options: Any) -> Config:
    return Config.build(api_key="test-key-0000", base_url=BASE, env={}, **options)


def flow_of(
    clock: Clock | None = None,
    settings: Config | None = None,
    call: Call[Any] | None = None,
    retry: Retry | None = None,
) -> Flow:
    settings = settings or config()
    call = call or create_message(settings, ASK)
    return exchange(call, Deadline.of(settings, clock or Clock()), retry)


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    """Return an answer; header names are written with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(status: int, message: str = "No.", **headers: str) -> Answer:
    return answer({"error": {"message": message}}, status, **headers)


def result(flow: Flow, outcome: Outcome) -> Any:
    """Send the last outcome and return what the flow returns."""
    with pytest.raises(StopIteration) as done:
        flow.send(outcome)
    return done.value.value


def failure(flow: Flow, outcome: Outcome) -> APIError:
    """Send the last outcome and return the error that the flow raises."""
    with pytest.raises(APIError) as raised:
        flow.send(outcome)
    return raised.value


# Attempts


def test_one_attempt() -> None:
    settings = config()
    call = create_message(settings, ASK)
    flow = flow_of(settings=settings, call=call)
    attempt = next(flow)
    assert attempt == Attempt(call.request, 0.0, None, settings)
    assert attempt.request.url == f"{BASE}/v1/messages"
    message = result(flow, answer(MESSAGE))
    assert isinstance(message, Message)
    assert message.text == "Hello."


def test_nothing_is_shared_between_two_runs_of_a_call() -> None:
    settings = config(max_retries=1)
    call = create_message(settings, ASK)
    for _ in range(2):
        flow = flow_of(settings=settings, call=call)
        next(flow)
        flow.send(refusal(500))
        assert failure(flow, refusal(500)).attempts == 2


def test_a_failed_call_is_sent_again_after_a_pause() -> None:
    flow = flow_of()
    first = next(flow)
    second = flow.send(refusal(503))
    assert second.request == first.request
    assert 0.375 <= second.pause <= 0.5
    third = flow.send(APIConnectionError("cannot connect"))
    assert 0.75 <= third.pause <= 1.0
    assert result(flow, answer(MESSAGE)).text == "Hello."


def test_a_hint_is_the_pause() -> None:
    flow = flow_of()
    next(flow)
    assert flow.send(refusal(429, retry_after="7")).pause == 7.0
    assert flow.send(answer({"message": "No.", "retry_after": 30}, 429)).pause == 30.0


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_last_failure_is_raised(retries: int) -> None:
    flow = flow_of(settings=config(max_retries=retries))
    next(flow)
    for number in range(retries):
        flow.send(refusal(500, f"number {number}"))
    error = failure(flow, refusal(503, "the last"))
    assert type(error) is errors.ServiceUnavailableError
    assert error.message == "the last"
    assert error.attempts == retries + 1


def test_a_failed_connection_knows_the_same() -> None:
    clock = Clock()
    flow = flow_of(clock, config(max_retries=0))
    next(flow)
    clock.now += 2.0
    error = failure(flow, APIConnectionError("cannot connect near test-key-0000"))
    assert (error.method, error.url) == ("POST", f"{BASE}/v1/messages")
    assert (error.attempts, error.elapsed) == (1, 2.0)
    assert error.message == "cannot connect near ***"


def test_the_error_knows_what_was_asked_how_often_and_for_how_long() -> None:
    clock = Clock()
    flow = flow_of(clock)
    next(flow)
    clock.now += 2.0
    flow.send(refusal(500))
    clock.now += 3.5
    error = failure(flow, refusal(400, request_id="req_1"))
    assert (error.method, error.url) == ("POST", f"{BASE}/v1/messages")
    assert (error.attempts, error.elapsed) == (2, 5.5)
    assert str(error) == (
        f"HTTP 400: No. (POST {BASE}/v1/messages; request id req_1; 2 attempts, 5.5 s)"
    )


NOT_SENT_AGAIN: dict[str, Outcome] = {
    "refusal": refusal(400),
    "not a message": answer(b"<html>", content_type="text/html"),
    "no body": answer(b""),
    "error in a 200": answer({"error": {"type": "invalid_request_error", "message": "No."}}),
}
SENT_AGAIN: dict[str, Outcome] = {
    "refusal": refusal(500),
    "hint at the limit": refusal(429, retry_after="60"),
    "connection": APIConnectionError("reset"),
    "error in a 200": answer({"error": {"type": "overloaded_error", "message": "No."}}),
    "error event": from_payload({"error": {"code": 529}}, {}, now=0.0, in_stream=True),
}


@pytest.mark.parametrize("outcome", NOT_SENT_AGAIN.values(), ids=NOT_SENT_AGAIN)
def test_not_sent_again(outcome: Outcome) -> None:
    """Which failures these are is for `Retry` to say, and for its tests; each kind is asked of."""
    flow = flow_of()
    next(flow)
    assert failure(flow, outcome).attempts == 1


@pytest.mark.parametrize("outcome", SENT_AGAIN.values(), ids=SENT_AGAIN)
def test_sent_again(outcome: Outcome) -> None:
    flow = flow_of()
    next(flow)
    assert isinstance(flow.send(outcome), Attempt)
    assert result(flow, answer(MESSAGE)).text == "Hello."


def test_a_hint_above_the_limit_is_told() -> None:
    flow = flow_of(settings=config(max_retry_wait=5))
    next(flow)
    error = failure(flow, refusal(429, retry_after="3600"))
    assert isinstance(error, errors.RateLimitError)
    assert error.retry_after == 3600.0
    assert "(not retried: the wait is above max_retry_wait, 5 s; retry after" in str(error)


def test_the_key_is_hidden_in_what_the_server_says() -> None:
    flow = flow_of()
    next(flow)
    error = failure(flow, refusal(401, "Wrong key test-key-0000.", x_echo="test-key-0000"))
    assert isinstance(error, errors.AuthenticationError)
    assert error.message == "Wrong key ***."
    assert error.headers == {"x-echo": "***"}
    assert error.body == {"error": {"message": "Wrong key ***."}}
    assert error.args == ("Wrong key ***.",)


# Streams


def opened() -> Opened[Any]:
    def failure(payload: object) -> APIError:
        return from_payload(payload, {}, now=0.0, in_stream=True)

    return Opened(Reader("m", 100, failure, request_id="req_1"), iter(()), lambda: None)


def test_an_opened_stream_is_the_result() -> None:
    settings = config()
    flow = flow_of(settings=settings, call=stream_message(settings, ASK))
    assert next(flow).request.stream
    stream = opened()
    assert result(flow, stream) is stream


def test_a_stream_is_sent_again_until_it_opens() -> None:
    settings = config()
    flow = flow_of(settings=settings, call=stream_message(settings, ASK))
    next(flow)
    flow.send(errors.StreamInterruptedError("the stream ended"))
    stream = opened()
    assert result(flow, stream) is stream


def test_an_opened_stream_signs_its_errors() -> None:
    clock, settings = Clock(), config()
    flow = flow_of(clock, settings, stream_message(settings, ASK))
    next(flow)
    flow.send(refusal(500))
    stream = result(flow, opened())
    clock.now += 9.0
    error = stream.blame(errors.StreamInterruptedError("broken near test-key-0000"))
    assert error.message == "broken near ***"
    assert (error.method, error.url) == ("POST", f"{BASE}/v1/messages")
    assert (error.attempts, error.elapsed) == (2, 9.0)
    assert error.request_id == "req_1"
    assert isinstance(error.partial_message, Message)
    assert error.partial_message.model == "m"


def test_a_refused_stream_is_the_error_it_stands_for() -> None:
    settings = config()
    flow = flow_of(settings=settings, call=stream_message(settings, ASK))
    next(flow)
    assert type(failure(flow, refusal(404))) is errors.NotFoundError


def test_a_stream_is_read_as_one_whatever_its_answer_looks_like() -> None:
    """Whoever sends it opens a stream for each answer that says yes, so none comes here whole."""
    settings = config()
    attempt = next(flow_of(settings=settings, call=stream_message(settings, ASK)))
    assert attempt.reader is not None
    reader = attempt.reader(200, {"request-id": "req_2", "content-type": "application/json"})
    assert [*reader.feed(json.dumps(MESSAGE).encode()), *reader.end()]
    message = reader.message.message()
    assert (message.text, message.request_id) == ("Hello.", "req_2")


# The deadline


def test_every_attempt_knows_when_the_call_must_be_over() -> None:
    clock = Clock()
    flow = flow_of(clock, config(deadline=10.0))
    assert next(flow).until == 1010.0
    clock.now += 4.0
    assert flow.send(refusal(500)).until == 1010.0


def test_no_pause_goes_beyond_the_deadline() -> None:
    clock = Clock()
    flow = flow_of(clock, config(deadline=10.0))
    next(flow)
    clock.now += 3.0
    assert flow.send(refusal(429, retry_after="6")).pause == 6.0
    clock.now += 6.0
    error = failure(flow, refusal(429, "still no", retry_after="1"))
    assert (error.message, error.attempts, error.elapsed) == ("still no", 2, 9.0)


def test_what_comes_after_the_deadline_still_counts() -> None:
    clock = Clock()
    flow = flow_of(clock, config(deadline=10.0))
    next(flow)
    clock.now += 11.0
    assert result(flow, answer(MESSAGE)).text == "Hello."


# Redirects


def redirect(location: str, status: int = 307) -> Answer:
    return answer(b"", status, location=location)


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    ("location", "url"),
    [
        (f"{BASE}/v2/messages", f"{BASE}/v2/messages"),
        ("/v2/messages", "http://h.example:8080/v2/messages"),
        ("other", f"{BASE}/v1/other"),
        ("HTTP://H.EXAMPLE:8080/x", "http://H.EXAMPLE:8080/x"),
        ("?beta=true", f"{BASE}/v1/messages?beta=true"),
    ],
)
def test_a_redirect_to_the_same_origin_is_followed(status: int, location: str, url: str) -> None:
    flow = flow_of()
    first = next(flow)
    second = flow.send(redirect(location, status))
    assert second.request.url.lower() == url.lower()
    assert second.pause == 0.0
    assert (second.request.method, second.request.content) == ("POST", first.request.content)
    assert second.request.headers == first.request.headers
    assert result(flow, answer(MESSAGE)).text == "Hello."


@pytest.mark.parametrize(
    "location",
    [
        "https://h.example:8080/prefix/v1/messages",  # another scheme
        "http://h.example/prefix/v1/messages",  # another port
        "http://h.example:8081/",
        "http://evil.example:8080/v1/messages",
        "//evil.example/v1/messages",
        "http://h.example:8080@evil.example/",
        "http://user@h.example:8080/",
        "http://h.example:8080.evil.example/",
        "http://[broken/",
        "",
        f"{BASE}/v1/messages",  # itself
    ],
)
def test_no_other_redirect_is_followed(location: str) -> None:
    flow = flow_of()
    next(flow)
    error = failure(flow, redirect(location))
    assert isinstance(error, errors.APIStatusError)
    assert (error.status_code, error.attempts) == (307, 1)
    assert "not followed" in error.message


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_a_post_is_never_turned_into_something_else(status: int) -> None:
    flow = flow_of()
    next(flow)
    error = failure(flow, redirect("/elsewhere", status))
    assert isinstance(error, errors.APIStatusError)
    assert error.status_code == status


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_get_follows_more_redirects(status: int) -> None:
    settings = config()
    flow = flow_of(settings=settings, call=list_models(settings))
    next(flow)
    assert flow.send(redirect("/models", status)).request.url == "http://h.example:8080/models"


def test_a_get_does_not_follow_a_see_other() -> None:
    settings = config()
    flow = flow_of(settings=settings, call=list_models(settings))
    next(flow)
    assert isinstance(failure(flow, redirect("/models", 303)), errors.APIStatusError)


def test_redirects_are_not_attempts_and_have_an_end() -> None:
    flow = flow_of()
    next(flow)
    for number in range(5):
        flow.send(redirect(f"/{number}"))
    error = failure(flow, redirect("/6"))
    assert isinstance(error, errors.APIStatusError)
    assert (error.status_code, error.attempts) == (307, 1)
    assert error.url == "http://h.example:8080/4"


def test_a_retry_asks_where_the_redirect_led() -> None:
    flow = flow_of()
    next(flow)
    flow.send(redirect("/moved"))
    assert flow.send(refusal(500)).request.url == "http://h.example:8080/moved"


# Pages of models


def page(*names: str, more: bool | None = None, last: str | None = None) -> Answer:
    body: Json = {"data": [{"id": name} for name in names]}
    if more is not None:
        body |= {"has_more": more, "last_id": last or (names[-1] if names else None)}
    return answer(body)


def models_flow(clock: Clock | None = None, **options: Any) -> Flow:
    settings = config(**options)
    return all_models(settings, clock or Clock())


def names(models: ModelList) -> list[str]:
    return [model.id for model in models]


def test_pages_are_joined() -> None:
    flow = models_flow()
    assert next(flow).request.url == f"{BASE}/v1/models"
    assert flow.send(page("a", "b", more=True)).request.url == f"{BASE}/v1/models?after_id=b"
    assert flow.send(page("c", more=True)).request.url == f"{BASE}/v1/models?after_id=c"
    assert names(result(flow, page("d", more=False))) == ["a", "b", "c", "d"]


def test_the_place_in_the_list_is_quoted() -> None:
    flow = models_flow()
    next(flow)
    attempt = flow.send(page("Qwen/Q 2&x=1", more=True))
    assert attempt.request.url == f"{BASE}/v1/models?after_id=Qwen%2FQ+2%26x%3D1"


@pytest.mark.parametrize(
    "last",
    [
        page("a"),  # has_more absent
        page("a", more=False),
        answer({"data": [{"id": "a"}], "has_more": True}),  # and no last_id
        answer({"data": [{"id": "a"}], "has_more": True, "last_id": None}),
        answer({"data": [{"id": "a"}], "has_more": "yes", "last_id": "a"}),
        answer({"models": [{"id": "a"}]}),
    ],
)
def test_one_page(last: Answer) -> None:
    flow = models_flow()
    next(flow)
    assert names(result(flow, last)) == ["a"]


def test_models_without_an_id_are_not_mistaken_for_one() -> None:
    flow = models_flow()
    next(flow)
    models = result(flow, answer({"models": [{"name": "a"}, {"model": "b"}]}))
    assert names(models) == ["a", "b"]  # Ollama's style


def test_no_models() -> None:
    flow = models_flow()
    next(flow)
    assert names(result(flow, page(more=False))) == []


def test_a_server_that_ignores_the_place_is_asked_twice() -> None:
    flow = models_flow()
    next(flow)
    flow.send(page("a", "b", more=True))
    assert names(result(flow, page("a", "b", more=True))) == ["a", "b"]


def test_a_server_that_goes_in_circles_is_left() -> None:
    flow = models_flow()
    next(flow)
    flow.send(page("a", more=True))
    flow.send(page("b", more=True))
    assert names(result(flow, page("a", more=True))) == ["a", "b"]


def test_each_page_is_tried_again() -> None:
    flow = models_flow(max_retries=1)
    next(flow)
    flow.send(refusal(500))
    flow.send(page("a", more=True))
    attempt = flow.send(refusal(500))
    assert attempt.request.url == f"{BASE}/v1/models?after_id=a"
    assert names(result(flow, page("b"))) == ["a", "b"]


def test_a_page_that_fails_fails_the_list() -> None:
    flow = models_flow()
    next(flow)
    flow.send(page("a", more=True))
    assert isinstance(failure(flow, refusal(401)), errors.AuthenticationError)


def test_the_deadline_is_for_all_pages() -> None:
    clock = Clock()
    flow = models_flow(clock, deadline=10.0)
    assert next(flow).until == 1010.0
    clock.now += 6.0
    assert flow.send(page("a", more=True)).until == 1010.0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": [5]}', b"<html>", b'{"data": {}}'])
def test_what_is_not_a_list_of_models(body: bytes) -> None:
    flow = models_flow()
    next(flow)
    assert isinstance(failure(flow, answer(body)), errors.UnexpectedResponseError)


# Until ready


def ready_flow(clock: Clock, deployment_id: str | None = "dep_1") -> Flow:
    settings = Config.build(
        api_key="test-key-0000", deployment_id=deployment_id, env={}, deadline=60.0
    )
    return until_ready(settings, clock)


DEPLOYING = refusal(503, "Endpoint is not ready (status: deploying).")
LOADING = answer({"error": {"type": "unavailable_error", "message": "Loading model"}}, 503)


def test_a_server_that_is_ready_is_asked_once() -> None:
    flow = ready_flow(Clock())
    attempt = next(flow)
    assert attempt.request.url.endswith("/api/gguf/dep_1/v1/messages/count_tokens")
    assert attempt.until == 1060.0
    assert result(flow, answer({"input_tokens": 5})) is None


def gateway_flow(model: str | None) -> Flow:
    endpoint = endpoints.gateway(BASE, default_model=model)
    settings = Config.build(api_key="test-key-0000", endpoint=endpoint, env={})
    return until_ready(settings, Clock())


def test_a_gateway_is_asked_about_its_default_model() -> None:
    request = next(gateway_flow("usual")).request
    assert json.loads(request.content or b"")["model"] == "usual"


def test_a_gateway_without_one_is_asked_for_its_models() -> None:
    assert next(gateway_flow(None)).request.url == f"{BASE}/v1/models"


def test_a_server_without_token_counts_has_to_list_its_models() -> None:
    flow = ready_flow(Clock())
    next(flow)
    attempt = flow.send(refusal(404, "File Not Found"))
    assert attempt.request.url.endswith("/api/gguf/dep_1/v1/models")
    assert result(flow, page("local")) is None


def test_a_server_that_has_nothing_there_is_not_ready() -> None:
    flow = ready_flow(Clock())
    next(flow)
    flow.send(refusal(404, "File Not Found"))
    flow.send(refusal(404, "File Not Found"))
    assert isinstance(failure(flow, refusal(404, "File Not Found")), errors.NotFoundError)


def test_a_server_that_says_at_once_is_not_asked_at_once() -> None:
    flow = ready_flow(Clock())
    next(flow)
    assert flow.send(refusal(503, "not ready (status: deploying)", retry_after="0")).pause == 0.5


def test_v7_is_asked_for_its_models() -> None:
    flow = ready_flow(Clock(), deployment_id=None)
    attempt = next(flow)
    assert (attempt.request.method, attempt.request.url) == (
        "GET",
        "https://modelslab.com/api/v7/llm/v1/models",
    )
    assert result(flow, page("a", more=True)) is None


def test_a_server_that_comes_up() -> None:
    clock = Clock()
    flow = ready_flow(clock)
    next(flow)
    pauses: list[float] = []
    for outcome in (DEPLOYING, refusal(502), APIConnectionError("refused"), LOADING):
        attempt = flow.send(outcome)
        pauses.append(attempt.pause)
        clock.now += attempt.pause
    assert pauses == [0.5, 0.75, 1.125, 1.6875]
    assert result(flow, answer({"input_tokens": 5})) is None


def test_the_last_state_is_reported_at_the_timeout() -> None:
    clock = Clock()
    flow = ready_flow(clock)
    next(flow)
    with pytest.raises(errors.EndpointNotReadyError) as raised:
        for _ in range(100):
            clock.now += flow.send(DEPLOYING).pause
    assert raised.value.endpoint_status == "deploying"
    assert 55.0 < raised.value.elapsed < 60.0


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (
            refusal(503, "Endpoint is not ready (status: paused)."),
            errors.EndpointNotReadyError,
        ),
        (refusal(401), errors.AuthenticationError),
        (refusal(404, "No deployment found for this endpoint."), errors.NotFoundError),
    ],
)
def test_what_will_not_come_up_is_told_at_once(outcome: Answer, kind: type[APIError]) -> None:
    flow = ready_flow(Clock())
    next(flow)
    flow.send(DEPLOYING)
    error = failure(flow, outcome)
    assert type(error) is kind
    assert error.attempts == 2
