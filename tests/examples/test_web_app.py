"""The web app of the examples: the same tests on each kind of server, and in a real browser.

`Make` builds a client of the server under test. To test on another kind of server, give it a
fixture that yields a `Make` whose answers are those of `as_the_model`, and name it in `ANSWERING`.
The recordings beside this file are made anew, from a real llama-server, by

    MODELSLAB_RECORD=1 python -m pytest tests/examples/test_web_app.py -k committed
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from browser import browser  # noqa: F401  # a fixture
from lazy import Lazy
from llama.fixtures import MODEL_NAME, serve
from llama.scripts import COUNT, SPLIT_CHARACTER_REPLY, TEXT_MODEL, TEXT_REPLY
from llama.server import LlamaServer
from patience import until

from modelslab_llm import AsyncModelsLab, endpoints
from modelslab_llm.testing import (
    ErrorReply,
    LocalServer,
    ReceivedRequest,
    Recording,
    Reply,
    ReplyLike,
    ScriptedTransport,
)

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

uvicorn = Lazy("uvicorn")
playwright = Lazy("playwright.sync_api")
web_app = Lazy("examples.web_app")

Make = Callable[..., AsyncModelsLab]
PATIENCE = 20.0  # seconds; what is waited for comes at once, but on a machine that is busy
NOWHERE = "http://127.0.0.1:9"  # nobody listens there


def as_the_model(request: ReceivedRequest) -> ReplyLike:
    """Answer as the scripted model of `llama_text` does."""
    return SPLIT_CHARACTER_REPLY if "tower" in request.text else TEXT_REPLY


@pytest.fixture
def scripted_transport() -> Make:
    return ScriptedTransport(as_the_model).async_client


@pytest.fixture
def local_server() -> Iterator[Make]:
    with LocalServer(as_the_model) as server:
        yield server.async_client


@pytest.fixture
def llama_server(llama_text: LlamaServer) -> Make:
    return at_llama(AsyncModelsLab, llama_text)


@pytest.fixture
def recorded(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Make]:
    """What a llama-server said when the test ran there, which it does first; then that is gone."""
    test = request.function
    others = {
        name: request.getfixturevalue(name)
        for name in inspect.signature(test).parameters
        if name != "make"
    }
    with contextmanager(serve)(TEXT_MODEL, tmp_path_factory) as server:
        with Recording(tmp_path, record=True) as recording:
            test(make=at_llama(recording.async_client, server), **others)
    with Recording(tmp_path, record=False) as recording:
        yield at_llama(recording.async_client)


@pytest.fixture
def committed(request: pytest.FixtureRequest, modelslab_recording: Recording) -> Make:
    """What it once said, in files that are kept: for machines that cannot run it."""
    recording = modelslab_recording
    server = request.getfixturevalue("llama_text") if recording.record else None
    return at_llama(recording.async_client, server)


ANSWERING = ["scripted_transport", "local_server", "llama_server", "recorded", "committed"]


@pytest.fixture(params=ANSWERING)
def make(request: pytest.FixtureRequest) -> Make:
    """Build clients of each kind of server; all answer alike."""
    return request.getfixturevalue(request.param)


def at_llama(build: Make, server: LlamaServer | None = None) -> Make:
    """Build clients of a llama-server, or of one that is gone."""
    at = endpoints.gateway(server.url if server else NOWHERE, default_model=MODEL_NAME)
    key = server.api_key if server else "no-key"
    return lambda **options: build(**{"api_key": key, "endpoint": at, **options})


@contextmanager
def served(client: AsyncModelsLab, max_tokens: int = 1000) -> Iterator[str]:
    """Serve the app on a real socket, in a thread; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = web_app.create_app(client, max_tokens=max_tokens)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def body(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"turns": [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]}


def ask(url: str, *said: str) -> list[dict[str, Any]]:
    response = httpx.post(f"{url}/answer", json=body(*said), timeout=PATIENCE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def text_of(lines: list[dict[str, Any]]) -> str:
    return "".join(line.get("text", "") for line in lines)


# On each kind of server


def test_an_answer_comes_in_pieces(make: Make) -> None:
    with served(make()) as url:
        *pieces, last = ask(url, "What is the capital of France?")
    assert text_of(pieces) == TEXT_REPLY
    assert len(pieces) > 10
    assert last == {"stop_reason": "end_turn"}


def test_a_conversation_continues(make: Make) -> None:
    with served(make()) as url:
        lines = ask(url, "What is the capital of France?", TEXT_REPLY, "And the tower?")
    assert text_of(lines) == SPLIT_CHARACTER_REPLY


def test_an_error_is_told_as_it_is(make: Make) -> None:
    with served(make(api_key="not-the-key")) as url:
        [line] = ask(url, "Who am I?")
    assert line["error"]["type"] == "AuthenticationError"
    assert re.match(r"HTTP 401 authentication_error: Invalid API [Kk]ey", line["error"]["message"])
    assert "not-the-key" not in line["error"]["message"]


def test_a_browser_shows_it(make: Make, page: Page) -> None:
    with served(make()) as url:
        page.goto(url)
        say(page, "What is the capital of France?")
        playwright.expect(answers(page)).to_have_text([TEXT_REPLY])
        say(page, "And the tower?")
        playwright.expect(answers(page)).to_have_text([TEXT_REPLY, SPLIT_CHARACTER_REPLY])


# When the browser goes away


Busy = Callable[[], int]


SLOWLY = Reply("".join(COUNT), pause=0.01)


def counting(server: LocalServer | ScriptedTransport) -> tuple[Make, Busy]:
    return server.async_client, lambda: len(server.requests) - server.disconnects


@pytest.fixture
def slow_scripted_transport() -> tuple[Make, Busy]:
    return counting(ScriptedTransport(SLOWLY))


@pytest.fixture
def slow_local_server() -> Iterator[tuple[Make, Busy]]:
    with LocalServer(SLOWLY) as server:
        yield counting(server)


@pytest.fixture
def slow_llama_server(llama_slow: LlamaServer) -> tuple[Make, Busy]:
    def busy() -> int:
        return sum(slot["is_processing"] for slot in llama_slow.get("/slots").json())

    return at_llama(AsyncModelsLab, llama_slow), busy


@pytest.mark.parametrize(
    "kind", ["slow_scripted_transport", "slow_local_server", "slow_llama_server"]
)
def test_the_model_stops_when_the_browser_goes_away(
    kind: str, request: pytest.FixtureRequest
) -> None:
    make, busy = request.getfixturevalue(kind)
    with served(make(), max_tokens=3000) as url:
        with httpx.stream("POST", f"{url}/answer", json=body("Count."), timeout=PATIENCE) as answer:
            lines = answer.iter_lines()  # held: httpx closes the answer when it is let go
            assert list(json.loads(next(lines))) == ["text"]
            assert busy() == 1
        until(lambda: busy() == 0)


def test_the_model_stops_before_its_first_word_too() -> None:
    with LocalServer(Reply("At last.", pause=10 * PATIENCE)) as server:
        with served(server.async_client()) as url:
            with httpx.Client() as http:
                asked = http.build_request("POST", f"{url}/answer", json=body("Well?"))
                answer = http.send(asked, stream=True)
                until(lambda: len(server.requests) == 1)
                assert server.disconnects == 0
                answer.close()
            until(lambda: server.disconnects == 1)


# What the page shows


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:  # noqa: F811
    """A page of its own, on which no script may fail."""
    failed: list[object] = []
    with browser.new_context(viewport={"width": 390, "height": 700}) as context:
        page = context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: failed.append(error))
        yield page
    assert not failed


def say(page: Page, question: str) -> None:
    page.get_by_role("textbox").fill(question)
    page.get_by_role("textbox").press("Enter")


def answers(page: Page) -> Any:
    return page.locator(".assistant .text")


def note(page: Page) -> Any:
    return page.locator(".assistant .note").last


def test_the_answer_grows_and_can_be_stopped(page: Page) -> None:
    with LocalServer([Reply("".join(COUNT), pause=0.02), "Gladly."]) as server:
        with served(server.async_client()) as url:
            page.goto(url)
            say(page, "Count.")
            playwright.expect(answers(page)).to_have_text(re.compile("^I count: 1 2 3"))
            page.get_by_role("button", name="Stop").click()
            playwright.expect(note(page)).to_have_text("stopped")
            until(lambda: server.disconnects == 1)
            so_far = answers(page).inner_text()

            say(page, "Go on.")
            playwright.expect(answers(page).last).to_have_text("Gladly.")
            playwright.expect(page.get_by_role("button", name="Send")).to_be_visible()
            turns = [turn["content"] for turn in server.requests[-1].body["messages"]]
            assert turns == ["Count.", so_far, "Go on."]


def test_leaving_the_page_stops_the_model(page: Page) -> None:
    with LocalServer(Reply("".join(COUNT), pause=0.02)) as server:
        with served(server.async_client()) as url:
            page.goto(url)
            say(page, "Count.")
            playwright.expect(answers(page)).to_have_text(re.compile("^I count: 1 2 3"))
            page.goto("about:blank")
            until(lambda: server.disconnects == 1)


def test_an_error_is_shown_and_the_conversation_continues(page: Page) -> None:
    with LocalServer([ErrorReply(402, "No credit is left."), "Welcome back."]) as server:
        with served(server.async_client()) as url:
            page.goto(url)
            say(page, "Hello?")
            playwright.expect(note(page)).to_have_text(
                re.compile("PaymentRequiredError: HTTP 402 billing_error: No credit is left.")
            )
            say(page, "And now?")
            playwright.expect(answers(page).last).to_have_text("Welcome back.")


def test_half_an_answer_and_its_error(page: Page) -> None:
    half = ErrorReply(
        200,
        headers={"content-type": "text/event-stream"},
        body=b'event: message_start\ndata: {"type":"message_start","message":{"role":"assistant"}}'
        b'\n\nevent: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":"The Tamar st"}}\n\n',
    )
    with LocalServer(half) as server, served(server.async_client()) as url:
        page.goto(url)
        say(page, "How high is it?")
        playwright.expect(answers(page)).to_have_text("The Tamar st")
        playwright.expect(note(page)).to_have_text(
            re.compile("^StreamInterruptedError: the stream ended")
        )


def test_a_service_that_is_gone(page: Page) -> None:
    with LocalServer() as server, served(server.async_client()) as url:
        page.goto(url)
    say(page, "Hello?")
    playwright.expect(note(page)).to_have_text(re.compile("^TypeError: "))


def test_thinking_is_separate_and_a_truncation_is_reported(page: Page) -> None:
    thinking = {"type": "thinking", "thinking": "Hm, a river.", "signature": ""}
    reply = Reply([thinking, {"type": "text", "text": "214"}], stop_reason="max_tokens")
    with LocalServer(reply) as server, served(server.async_client()) as url:
        page.goto(url)
        say(page, "How high is it?")
        playwright.expect(page.locator(".thinking")).to_have_text("Hm, a river.")
        playwright.expect(answers(page)).to_have_text("214")
        playwright.expect(note(page)).to_have_text("max_tokens")


def test_what_is_said_is_never_html(page: Page) -> None:
    markup = "<img src=x onerror=document.title='owned'><b>bold</b>"
    with LocalServer(markup) as server, served(server.async_client()) as url:
        page.goto(url)
        say(page, markup)
        playwright.expect(page.locator(".turn .text, .turn.user")).to_have_text([markup, markup])
        playwright.expect(page).to_have_title("A conversation")


def test_a_new_conversation_stops_the_old_one(page: Page) -> None:
    with LocalServer([Reply("".join(COUNT), pause=0.02), "Two."]) as server:
        with served(server.async_client()) as url:
            page.goto(url)
            say(page, "Count.")
            playwright.expect(answers(page)).to_have_text(re.compile("^I count: 1"))
            page.get_by_role("button", name="New").click()
            playwright.expect(page.locator(".turn")).to_have_count(0)
            until(lambda: server.disconnects == 1)
            playwright.expect(page.get_by_role("button", name="Send")).to_be_visible()
            say(page, "One and one?")
            playwright.expect(answers(page)).to_have_text(["Two."])
            assert len(server.requests[-1].body["messages"]) == 1


@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 600})
    with LocalServer("w" * 3000) as server, served(server.async_client()) as url:
        page.goto(url)
        say(page, "v" * 500)
        playwright.expect(answers(page)).to_have_text("w" * 3000)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        playwright.expect(page.get_by_role("textbox")).to_be_in_viewport()
        playwright.expect(page.get_by_role("button", name="Send")).to_be_in_viewport()


# As a program


@pytest.mark.slow
def test_it_runs_by_itself(tmp_path: Path) -> None:
    app = subprocess.Popen(
        [sys.executable, "-W", "error", "-u", str(web_app.PAGE.with_suffix(".py")), "--port=0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with app:
        assert app.stdout
        try:
            shown = ""
            while not (found := re.search(r"running on (http://\S+)", shown)):
                read = app.stdout.readline()
                assert read, shown
                shown += read
            assert "a local server echoes" in shown
            assert text_of(ask(found[1], "Hello!")) == "You said: Hello!"
            assert "<title>A conversation" in httpx.get(found[1]).text
        finally:
            app.send_signal(signal.SIGINT)
        shown += app.stdout.read()
    assert "Traceback" not in shown
