"""Run conversations with tools over real sockets: what runs when, and what becomes of failures."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from patience import patient
from pydantic import BaseModel
from variants import Async, AsyncRunner, Sync, SyncRunner

from modelslab_llm import (
    AsyncModelsLab,
    InternalServerError,
    InvalidRequestError,
    Message,
    ModelsLab,
    StreamInterruptedError,
    Tool,
    ToolError,
    TooManyTurnsError,
    tool,
)
from modelslab_llm.testing import ErrorReply, LocalServer, Reply

HELLO: Any = [{"role": "user", "content": "How high are they?"}]
ASKED: Any = {"max_tokens": 50, "messages": HELLO, "model": "m"}


def use(id: str, name: str = "level", /, **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


@tool
def level(river: str) -> str:
    """Return the water level of a river."""
    if river == "Styx":
        raise LookupError("no such river")
    return f"{river}: 18 cm"


TWO = Reply(
    [{"type": "text", "text": "One moment."}, use("a", river="Exe"), use("b", river="Styx")]
)
SCRIPT = [TWO, "The Exe stands at 18 cm."]
RESULTS = [
    {"type": "tool_result", "tool_use_id": "a", "content": "Exe: 18 cm"},
    {
        "type": "tool_result",
        "tool_use_id": "b",
        "content": "Error: LookupError: no such river",
        "is_error": True,
    },
]


@contextmanager
def runner_of(
    variant: Sync | Async, server: LocalServer, **params: Any
) -> Iterator[SyncRunner | AsyncRunner]:
    client = variant.client(api_key=server.api_key, endpoint=server.llm_v7(), max_retries=0)
    try:
        yield client.run_tools(**{**ASKED, "tools": [level], **params})
    finally:
        client.close()


def created(runner: SyncRunner | AsyncRunner) -> list[Message]:
    return list(runner.turns())


def streamed(runner: SyncRunner | AsyncRunner) -> list[Message]:
    found: list[Message] = []
    for stream in runner.streams():
        words = "".join(stream.texts())
        found.append(stream.message())
        assert words == found[-1].text
    return found


ways = pytest.mark.parametrize("ask", [created, streamed])


@ways
def test_the_whole_loop(variant: Sync | Async, ask: Any) -> None:
    """Question, calls, results, answer: what is sent each time, and what is kept."""
    with LocalServer(SCRIPT) as server:
        with runner_of(variant, server) as runner:
            messages = ask(runner)
            assert [m.text for m in messages] == ["One moment.", "The Exe stands at 18 cm."]
            assert runner.message().text == "The Exe stands at 18 cm."
            turns: Any = runner.real.messages
        first, second = (request.body for request in server.requests)
        assert first["messages"] == HELLO
        assert first["tools"] == [level.to_param()]
        assert second["tools"] == first["tools"]
        assert second["messages"] == turns[:-1]
        assert second["messages"][2] == {"role": "user", "content": RESULTS}
        assert turns[-1]["content"] == [{"type": "text", "text": "The Exe stands at 18 cm."}]
        assert ask is created or all(request.stream for request in server.requests)


def test_the_short_form(variant: Sync | Async) -> None:
    """Who wants the last answer alone asks for that alone."""
    with LocalServer(SCRIPT) as server:
        with runner_of(variant, server) as runner:
            assert runner.message().text == "The Exe stands at 18 cm."


@pytest.mark.slow
@ways
def test_calls_are_seen_before_they_run(variant: Sync | Async, ask: Any) -> None:
    ran: list[str] = []

    @tool
    def delete(path: str) -> str:
        ran.append(path)
        return "deleted"

    script = [Reply([use("a", "delete", path="/"), use("b", "delete", path="/tmp/x")]), "Done."]
    with LocalServer(script) as server:
        with runner_of(variant, server, tools=[delete]) as runner:
            turns = runner.turns() if ask is created else runner.streams()
            for turn in turns:
                if ask is streamed:
                    assert list(turn.texts()) in ([], ["Done."])  # type: ignore[union-attr]
                for call in runner.real.calls:
                    if call.input["path"] == "/":
                        call.refuse("Not that one.")
                    else:
                        call.input = {"path": "/tmp/y"}
        sent = server.requests[1].body["messages"]
        assert [result["content"] for result in sent[-1]["content"]] == [
            "Error: Not that one.",
            "deleted",
        ]
        assert sent[-2]["content"][1]["input"] == {"path": "/tmp/x"}
    assert ran == ["/tmp/y"]


def test_calls_of_a_stream_come_at_its_end(variant: Sync | Async) -> None:
    with LocalServer(SCRIPT) as server:
        with runner_of(variant, server) as runner:
            streams = runner.streams()
            stream = next(streams)
            for asked in (lambda: None, stream.next):
                asked()
                with pytest.raises(ToolError, match="read to its end"):
                    _ = runner.real.calls
            assert stream.message().tool_uses
            assert [call.name for call in runner.real.calls] == ["level", "level"]
            assert next(streams).text() == "The Exe stands at 18 cm."  # one iterator
            assert runner.real.calls == []
            assert list(streams) == list(runner.turns()) == []


def test_what_is_not_read_is_read_by_the_runner(variant: Sync | Async) -> None:
    with LocalServer(SCRIPT) as server:
        with runner_of(variant, server) as runner:
            next(runner.streams())
            assert runner.message().text == "The Exe stands at 18 cm."
            assert len(runner.real.messages) == 4


def test_leaving_closes_the_stream(variant: Sync | Async) -> None:
    with LocalServer([Reply("word " * 50, pause=0.02)]) as server:
        with runner_of(variant, server) as runner:
            next(runner.streams()).next()
            runner.close()
            give_up = time.monotonic() + 5
            while not server.disconnects and time.monotonic() < give_up:
                time.sleep(0.01)
            assert server.disconnects == 1
            with pytest.raises(StreamInterruptedError):
                runner.message()


@ways
def test_after_an_api_error_it_can_go_on(variant: Sync | Async, ask: Any) -> None:
    with LocalServer([TWO, ErrorReply(500), "The Exe stands at 18 cm."]) as server:
        with runner_of(variant, server) as runner:
            with pytest.raises(InternalServerError):
                ask(runner)
            before = runner.real.messages
            assert [turn["role"] for turn in before] == ["user", "assistant", "user"]
            assert [m.text for m in ask(runner)] == ["The Exe stands at 18 cm."]
            assert runner.real.messages[:3] == before
        assert server.requests[1].body == server.requests[2].body


def test_limit_of_turns(variant: Sync | Async) -> None:
    with LocalServer(Reply([use("a", river="Exe")])) as server:
        with runner_of(variant, server, max_turns=3) as runner:
            with pytest.raises(TooManyTurnsError) as over:
                runner.message()
            assert len(server.requests) == 3
            assert over.value.messages == runner.real.messages
            assert len(over.value.messages) == 7


def test_errors_can_be_raised(variant: Sync | Async) -> None:
    with LocalServer(SCRIPT) as server:
        with runner_of(variant, server, on_error="raise") as runner:
            with pytest.raises(
                ToolError, match="tool level failed: LookupError: no such river"
            ) as e:
                runner.message()
            assert isinstance(e.value.__cause__, LookupError)
            assert e.value.messages[-1]["content"] == RESULTS
            assert len(server.requests) == 1
            assert runner.message().text == "The Exe stands at 18 cm."


def test_arguments_that_do_not_fit(variant: Sync | Async) -> None:
    class Place(BaseModel):
        lat: float

    @tool
    def weather(place: Place, days: list[int]) -> str:
        raise AssertionError("not to be run")

    wrong = use("a", "weather", place={"lat": "north"}, days=["1"], zone=1)
    with LocalServer([Reply([wrong]), "Sorry."]) as server:
        with runner_of(variant, server, tools=[weather]) as runner:
            runner.message()
        (result,) = server.requests[1].body["messages"][-1]["content"]
        assert result["content"] == (
            "Error: invalid arguments for weather: place.lat: Input should be a valid number; "
            "days[0]: Input should be a valid integer; zone: is unknown"
        )


def test_definitions_without_a_function_stop_it(variant: Sync | Async) -> None:
    ask_user = {"name": "ask_user", "input_schema": {"type": "object"}}
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    script = [Reply([use("a", river="Exe"), use("b", "ask_user")]), "Thanks."]
    with LocalServer(script) as server:
        with runner_of(variant, server, tools=[level, ask_user, search]) as runner:
            assert [call.name for call in runner.message().tool_uses] == ["level", "ask_user"]
            assert server.requests[0].body["tools"] == [level.to_param(), ask_user, search]
            assert runner.real.messages == HELLO
            runner.real.calls[1].answer("yes")
            assert runner.message().text == "Thanks."
        results = server.requests[1].body["messages"][-1]["content"]
        assert [result["content"] for result in results] == ["Exe: 18 cm", "yes"]


def test_results_of_every_kind(variant: Sync | Async) -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}

    @tool
    def nothing() -> None: ...

    @tool
    def look() -> list[Any]:
        return [picture, "the gauge"]

    @tool
    def odd() -> object:
        return object()

    script = [Reply([use("a", "nothing"), use("b", "look"), use("c", "odd")]), "Done."]
    with LocalServer(script) as server:
        with runner_of(variant, server, tools=[nothing, look, odd]) as runner:
            runner.message()
        a, b, c = server.requests[1].body["messages"][-1]["content"]
        assert a["content"] == "null"
        assert b["content"] == [picture, {"type": "text", "text": "the gauge"}]
        assert c["content"].startswith("Error: TypeError: it returned object, which is not JSON")


@patient
def test_a_tool_that_does_not_return(variant: Sync | Async, unit: float) -> None:
    done = threading.Event()

    @tool(timeout=unit)
    def stuck() -> str:
        done.wait(30)
        return "late"

    with LocalServer([Reply([use("a", "stuck"), use("b", river="Exe")]), "Too slow."]) as server:
        with runner_of(variant, server, tools=[stuck, level]) as runner:
            assert runner.message().text == "Too slow."
        done.set()
        slow, quick = server.requests[1].body["messages"][-1]["content"]
        assert slow["content"] == f"Error: TimeoutError: no result within {unit} s"
        assert quick["content"] == "Exe: 18 cm"


def test_a_tool_in_time(variant: Sync | Async) -> None:
    here = contextvars.ContextVar("here", default="lost")

    @tool(timeout=30)
    def where() -> str:
        return here.get()

    @tool(timeout=30)
    def late() -> str:
        raise TimeoutError("a timeout of its own")

    here.set("found")
    with LocalServer([Reply([use("a", "where"), use("b", "late")]), "Done."]) as server:
        with runner_of(variant, server, tools=[where, late]) as runner:
            runner.message()
        a, b = server.requests[1].body["messages"][-1]["content"]
        assert a["content"] == "found" or not isinstance(variant, Sync)
        assert b["content"] == "Error: TimeoutError: a timeout of its own"


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("run", ["sync", "asyncio", "trio"])
def test_what_ends_a_program_passes_through(
    run: str, timeout: float | None, end: type[BaseException]
) -> None:
    @tool(timeout=timeout)
    def ends() -> str:
        raise end("now")

    with LocalServer([Reply([use("a", "ends"), use("b", river="Exe")]), "Never."]) as server:
        asked: Any = {**ASKED, "tools": [ends, level]}

        async def main() -> None:
            async with AsyncModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
                await client.messages.run_tools(**asked).get_final_message()

        def program() -> None:
            if run != "sync":
                anyio.run(main, backend=run)
            with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
                client.messages.run_tools(**asked).get_final_message()

        # In a thread of its own, for an event loop may raise it again as it ends.
        with ThreadPoolExecutor(1) as thread, pytest.raises(end, match="now"):
            thread.submit(program).result()
        assert len(server.requests) == 1


# Sync


def test_sync_refuses_what_must_be_awaited(server: LocalServer) -> None:
    @tool
    async def later() -> str:
        return "later"

    with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
        with pytest.raises(InvalidRequestError, match="tool 'later' is async: use AsyncModelsLab"):
            client.messages.run_tools(tools=[later], **ASKED)


def test_sync_runs_one_after_the_other_in_its_own_thread() -> None:
    threads: list[int] = []

    @tool
    def where() -> None:
        threads.append(threading.get_ident())

    with LocalServer([Reply([use("a", "where"), use("b", "where")]), "Done."]) as server:
        with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
            client.messages.run_tools(tools=[where], **ASKED).get_final_message()
    assert threads == [threading.get_ident()] * 2


# Async, on both event loops


def run_async(
    variant: Sync | Async, tools: list[Tool[..., Any]], *calls: dict[str, Any]
) -> list[Any]:
    """Let the model make the calls, and return the results it got."""
    with LocalServer([Reply(calls), "Done."]) as server:
        with runner_of(variant, server, tools=tools) as runner:
            assert runner.message().text == "Done."
        return list(server.requests[1].body["messages"][-1]["content"])


@pytest.fixture(params=["asyncio", "trio"])
def event_loop(request: pytest.FixtureRequest) -> Iterator[Async]:
    from variants import variant_named

    with variant_named(request.param) as found:
        assert isinstance(found, Async)
        yield found


def test_async_runs_calls_at_the_same_time(event_loop: Async) -> None:
    arrived = 0

    @tool
    async def meet(name: str) -> str:
        nonlocal arrived
        arrived += 1
        while arrived < 3:  # for ever, if one of them did not start
            await anyio.sleep(0.001)
        return name

    names = ["first", "second", "third"]
    found = run_async(event_loop, [meet], *(use(name, "meet", name=name) for name in names))
    assert [result["content"] for result in found] == names


def test_async_runs_sync_functions_beside_the_loop(event_loop: Async) -> None:
    meeting = threading.Barrier(3, timeout=20)

    @tool
    def block() -> str:
        meeting.wait()  # one thread each, and the loop goes on
        return "blocked"

    @tool
    async def join() -> str:
        await anyio.to_thread.run_sync(meeting.wait)
        return "joined"

    found = run_async(
        event_loop, [block, join], *(use(n, n) for n in ("block", "join")), use("c", "block")
    )
    assert [result["content"] for result in found] == ["blocked", "joined", "blocked"]


@patient
def test_async_cancels_a_tool_that_does_not_return(event_loop: Async, unit: float) -> None:
    cancelled = False

    @tool(timeout=unit)
    async def stuck() -> None:
        nonlocal cancelled
        try:
            await anyio.sleep_forever()
        finally:
            cancelled = True

    (result,) = run_async(event_loop, [stuck], use("a", "stuck"))
    assert result["content"] == f"Error: TimeoutError: no result within {unit} s"
    assert cancelled


def test_async_failures_do_not_touch_each_other(event_loop: Async) -> None:
    @tool
    async def fails() -> str:
        raise ValueError("no")

    @tool
    async def works() -> str:
        await anyio.sleep(0.01)
        return "yes"

    found = run_async(event_loop, [fails, works], use("a", "fails"), use("b", "works"))
    assert [result["content"] for result in found] == ["Error: ValueError: no", "yes"]


def test_async_awaits_what_a_function_returns(event_loop: Async) -> None:
    async def later() -> str:
        return "later"

    @tool
    def soon() -> Any:
        return later()

    (result,) = run_async(event_loop, [soon], use("a", "soon"))
    assert result["content"] == "later"


@pytest.mark.slow
@pytest.mark.parametrize("blocking", [True, False])
def test_async_cancellation_passes_through(event_loop: Async, blocking: bool) -> None:
    """The caller's own cancellation ends the tools; the conversation can go on later."""
    release = threading.Event()
    state: dict[str, Any] = {"rounds": 0}

    @tool
    async def waits() -> str:
        state["rounds"] += 1
        if state["rounds"] == 1:
            state["scope"].cancel()
            await anyio.sleep_forever()
        return "at last"

    @tool
    def blocks() -> str:
        release.wait(30)
        return "at last"

    with LocalServer([Reply([use("a", "blocks" if blocking else "waits")]), "Done."]) as server:

        async def main() -> str:
            async with AsyncModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
                runner = client.messages.run_tools(tools=[waits, blocks], **ASKED)
                with anyio.CancelScope() as scope:
                    state["scope"] = scope
                    if blocking:
                        scope.deadline = anyio.current_time() + 0.3
                    await runner.get_final_message()
                assert scope.cancelled_caught
                assert len(server.requests) == 1
                release.set()
                return (await runner.get_final_message()).text

        assert event_loop.portal.call(main) == "Done."
        (result,) = server.requests[1].body["messages"][-1]["content"]
        assert result["content"] == "at last"
