"""Drive the tool loop without a client: what it sends, what it lets run, when it ends."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest

from modelslab_llm import (
    InvalidRequestError,
    Message,
    ToolError,
    ToolInputError,
    TooManyTurnsError,
    endpoints,
    tool,
)
from modelslab_llm.conversation._tool_loop import OnCut, OnError, ToolLoop

HELLO = [{"role": "user", "content": "How high?"}]


@tool
def level(river: str) -> str:
    return f"{river}: 18 cm"


def loop(
    max_turns: int = 5, on_error: OnError = "report", on_cut: OnCut = "report", **params: Any
) -> ToolLoop:
    asked: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": HELLO, "tools": [level]}
    return ToolLoop(asked | params, endpoints.llm_v7(), max_turns, on_error, on_cut)


def use(id: str = "toolu_1", name: str = "level", **input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": input}


def said(*blocks: dict[str, Any], **fields: Any) -> Message:
    return Message.model_validate({"content": list(blocks)} | fields)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def run(flow: ToolLoop) -> list[str]:
    """Run what the loop lets run, and say which."""
    calls = flow.calls_to_run()
    for call in calls:
        assert call.tool
        call.answer(call.tool.call(call.input))
    return [call.tool_use.id for call in calls]


def contents(flow: ToolLoop) -> list[Any]:
    return [result["content"] for result in results(flow)]


def results(flow: ToolLoop) -> list[Any]:
    turn: Any = flow.messages[-1]
    assert turn["role"] == "user"
    return list(turn["content"])


def test_a_whole_conversation() -> None:
    """Question, two calls, their results, answer: what each request holds."""
    flow = loop(system="Be brief.")
    first = flow.next_request()
    assert first
    assert (first["messages"], first["system"]) == (HELLO, "Be brief.")

    flow.add_reply(said(text("Let me see."), use("a", river="Exe"), use("b", river="Dart")))
    assert flow.messages == HELLO  # a turn whose calls are open is not part of it
    assert run(flow) == ["a", "b"]
    second = flow.next_request()
    assert second
    assert second["messages"] == [
        *HELLO,
        {
            "role": "assistant",
            "content": [text("Let me see."), use("a", river="Exe"), use("b", river="Dart")],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "Exe: 18 cm"},
                {"type": "tool_result", "tool_use_id": "b", "content": "Dart: 18 cm"},
            ],
        },
    ]
    assert second["tools"] == [level.to_param()]

    flow.add_reply(said(text("Both 18 cm.")))
    assert flow.calls == run(flow) == []
    assert flow.next_request() is flow.next_request() is None
    assert flow.messages[-1] == {"role": "assistant", "content": [text("Both 18 cm.")]}
    assert len(HELLO) == 1


@pytest.mark.parametrize("stop_reason", ["tool_use", "end_turn", "stop_sequence", None, "stop"])
def test_calls_are_found_by_their_blocks(stop_reason: str | None) -> None:
    flow = loop()
    flow.add_reply(said(use(river="Exe"), stop_reason=stop_reason))
    assert run(flow) == ["toolu_1"]
    assert flow.next_request()


def test_no_stop_reason_makes_a_call() -> None:
    flow = loop()
    flow.add_reply(said(text("Done."), stop_reason="tool_use"))
    assert flow.next_request() is None


def test_an_answer_without_blocks_ends_it_and_leaves_no_empty_turn() -> None:
    flow = loop()
    flow.add_reply(said())
    assert flow.next_request() is None
    assert flow.messages == HELLO


def test_a_paused_turn_goes_back_as_it_came() -> None:
    flow = loop(max_turns=2)
    flow.add_reply(said(text("Searching"), stop_reason="pause_turn"))
    again = flow.next_request()
    assert again
    assert again["messages"][-1] == {"role": "assistant", "content": [text("Searching")]}
    flow.add_reply(said(text("Still"), stop_reason="pause_turn"))
    with pytest.raises(TooManyTurnsError):
        flow.next_request()


def test_an_unknown_tool_is_reported_with_the_names_there_are() -> None:
    flow = loop(tools=[level, {"name": "bare"}])
    flow.add_reply(said(use("a", name="levle"), use("b", river="Exe")))
    assert run(flow) == ["b"]
    assert flow.next_request()
    assert contents(flow) == [
        "Error: there is no tool 'levle'; the tools are: level, bare",
        "Exe: 18 cm",
    ]
    assert results(flow)[0]["is_error"] is True


@pytest.mark.parametrize("stop_reason", ["max_tokens", "model_context_window_exceeded", "length"])
@pytest.mark.parametrize("given", ['{"river": "Ta', {}])  # llama-server gives {} for what is cut
def test_arguments_that_were_cut_never_run(stop_reason: str, given: Any) -> None:
    flow = loop(on_cut="run")
    cut = use() | {"input": given}
    flow.add_reply(said(use("whole", river="Exe"), cut, stop_reason=stop_reason))
    assert run(flow) == ["whole"]
    assert flow.next_request()
    assert f"truncated ({stop_reason})" in contents(flow)[1]
    assert isinstance(flow.calls[1].error, ToolInputError)


CUT = ["max_tokens", "model_context_window_exceeded", "length"]


@pytest.mark.parametrize("stop_reason", CUT)
def test_calls_of_an_answer_that_was_cut_do_not_run_unless_you_choose_so(stop_reason: str) -> None:
    """What was cut off may belong to them: a transfer whose second half is missing."""
    calls = use("a", river="Exe"), use("b", name="bare")
    flow = loop(tools=[level, {"name": "bare"}])
    flow.add_reply(said(*calls, stop_reason=stop_reason))
    assert run(flow) == []
    request = flow.next_request()  # the model is told, and may call again
    assert request
    whole, cut = contents(flow)  # the last one has no arguments, which may be cut off themselves
    assert whole.startswith(f"Error: not run, because the answer was truncated ({stop_reason})")
    assert cut.startswith(f"Error: not run, because the arguments were truncated ({stop_reason})")
    assert all(isinstance(call.error, ToolError) for call in flow.calls)

    flow = loop(on_cut="run")
    flow.add_reply(said(use("a", river="Exe"), stop_reason=stop_reason))
    assert run(flow) == ["a"]


@pytest.mark.parametrize("stop_reason", CUT)
def test_a_call_of_an_answer_that_was_cut_can_be_let_through(stop_reason: str) -> None:
    flow = loop()
    flow.add_reply(said(*(use(id, river="Exe") for id in "abc"), stop_reason=stop_reason))
    a, b, _ = flow.calls
    a.input = dict(a.input)
    b.answer("by hand")
    assert run(flow) == ["a"]
    assert flow.next_request()
    assert contents(flow)[:2] == ["Exe: 18 cm", "by hand"]


def test_calls_of_an_answer_that_was_cut_are_raised_if_asked() -> None:
    flow = loop(on_error="raise")
    flow.add_reply(said(use(river="Exe"), stop_reason="max_tokens"))
    assert run(flow) == []
    with pytest.raises(
        ToolError, match=r"not run, because the answer was truncated \(max_tokens\)"
    ):
        flow.next_request()


@pytest.mark.parametrize("stop_reason", ["refusal", "content_filter"])  # the latter as OpenAI says
@pytest.mark.parametrize("on_cut", ["report", "run"])
@pytest.mark.parametrize("tools", [[level], [level, {"name": "bare"}]])
def test_a_refused_answer_runs_nothing_and_ends_the_loop(
    stop_reason: str, on_cut: OnCut, tools: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    flow = loop(on_cut=on_cut, tools=tools)
    calls = use("a", river="Exe"), use("b", name="bare" if tools[1:] else "level", river="Taw")
    with caplog.at_level("WARNING", "modelslab_llm"):
        flow.add_reply(said(text("I"), *calls, stop_reason=stop_reason))
    assert caplog.messages == ["the model refused to answer: 2 tool calls not run"]
    assert all(isinstance(call.error, ToolError) for call in flow.calls)
    flow.calls[0].input = {"river": "Dart"}  # changes nothing: what was refused is over
    assert run(flow) == []
    assert flow.next_request() is flow.next_request() is None
    assert contents(flow) == ["Error: not run, because the model refused to answer"] * 2
    assert flow.message
    assert flow.message.stop_reason == stop_reason


def test_a_refused_answer_without_calls_ends_the_loop_as_ever() -> None:
    flow = loop()
    flow.add_reply(said(text("I cannot help with that."), stop_reason="refusal"))
    assert flow.next_request() is None
    assert flow.messages[-1]["role"] == "assistant"


def test_a_refused_answer_is_raised_if_asked() -> None:
    flow = loop(on_error="raise")
    flow.add_reply(said(use(river="Exe"), stop_reason="refusal"))
    assert run(flow) == []
    with pytest.raises(ToolError, match="not run, because the model refused to answer"):
        flow.next_request()
    assert flow.next_request() is None  # and it is over


def test_broken_arguments_never_run() -> None:
    flow = loop()
    flow.add_reply(said(use() | {"input": '{"river": "Ta'}))
    assert run(flow) == []
    assert flow.next_request()
    assert contents(flow)[0].endswith('not a complete JSON object; call it again: {"river": "Ta')


def test_a_call_that_comes_twice_runs_once() -> None:
    flow = loop()
    flow.add_reply(said(use("a", river="Exe"), use("a", river="Exe"), use("b", river="Dart")))
    assert run(flow) == ["a", "b"]
    assert flow.next_request()
    assert flow.messages[-2]["content"] == [use("a", river="Exe"), use("b", river="Dart")]
    assert contents(flow) == ["Exe: 18 cm", "Dart: 18 cm"]


def test_calls_that_share_an_id_run_under_ids_of_their_own() -> None:
    """Some gateways give parallel calls the same ID, by which results are matched."""
    flow = loop()
    exe, dart, taw = (use("a", river=river) for river in ("Exe", "Dart", "Taw"))
    flow.add_reply(said(exe, dart, exe, use("a_2", river="Axe"), taw))
    assert run(flow) == ["a", "a_3", "a_2", "a_4"]
    assert flow.next_request()
    dart, taw = dart | {"id": "a_3"}, taw | {"id": "a_4"}
    assert flow.messages[-2]["content"] == [exe, dart, use("a_2", river="Axe"), taw]
    assert contents(flow) == [f"{river}: 18 cm" for river in ("Exe", "Dart", "Axe", "Taw")]


@pytest.mark.parametrize("lost", [use(""), use("a", name="")], ids=["id", "name"])
def test_a_call_that_cannot_be_answered_is_left_out(
    lost: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    flow = loop()
    flow.add_reply(said(lost, use("b", river="Dart"), use("a", river="Exe")))
    assert caplog.messages == ["1 tool calls without a name or an id left out"]
    assert run(flow) == ["b", "a"]
    assert flow.next_request()
    assert flow.messages[-2]["content"] == [use("b", river="Dart"), use("a", river="Exe")]


@pytest.mark.parametrize("lost", [use(""), use("a", name="")], ids=["id", "name"])
def test_a_reply_of_nothing_but_such_calls_is_an_error(lost: dict[str, Any]) -> None:
    flow = loop()
    flow.add_reply(said(text("Let me see."), lost))
    assert run(flow) == flow.calls == []
    with pytest.raises(ToolError, match="without a name or an id") as raised:
        flow.next_request()
    assert raised.value.messages == HELLO  # to be asked again
    assert raised.value.tool_use
    assert flow.next_request() is None


def test_thinking_that_led_to_nothing_does_not_go_back() -> None:
    flow = loop()
    flow.add_reply(said(text("18 cm"), {"type": "thinking", "thinking": "Hm.", "signature": ""}))
    assert flow.next_request() is None
    assert flow.messages[-1] == {"role": "assistant", "content": [text("18 cm")]}


def test_incomplete_arguments_can_be_completed_by_hand() -> None:
    flow = loop()
    flow.add_reply(said(use() | {"input": '{"river": "Ta'}))
    (call,) = flow.calls
    assert not call.input_complete
    call.input = {"river": "Tamar"}
    assert run(flow) == ["toolu_1"]


def test_arguments_that_are_none_can_be_said_to_be_whole() -> None:
    flow = loop()
    flow.add_reply(said(use() | {"input": {}}, stop_reason="max_tokens"))
    (call,) = flow.calls
    assert not call.input_complete
    call.input = {}
    assert call.input_complete


def test_a_call_can_be_changed_answered_or_refused() -> None:
    flow = loop()
    flow.add_reply(
        said(use("a", river="Exe"), use("b", river="Dart"), use("c", river="Taw"), use("d"))
    )
    a, b, c, d = flow.calls
    a.input["river"] = "Axe"
    b.answer({"level": 3})
    c.refuse("The user said no.")
    d.fail(ValueError("no"))
    d.answer("yes")
    assert run(flow) == ["a"]
    assert flow.next_request()
    assert contents(flow) == ["Axe: 18 cm", '{"level":3}', "Error: The user said no.", "yes"]
    assert flow.messages[-2]["content"][0] == use("a", river="Exe")  # type: ignore[index]
    assert [call.error for call in flow.calls] == [None] * 4
    assert repr(a) == "<ToolCall level({'river': 'Axe'}) answered>"


def test_a_call_without_a_function_waits_for_the_caller() -> None:
    flow = loop(tools=[level, {"name": "bare"}])
    flow.add_reply(said(use("a", river="Exe"), use("b", name="bare")))
    assert run(flow) == []  # nothing runs whose results could not be sent
    assert flow.next_request() is None
    assert flow.messages == HELLO
    assert flow.calls[1].tool is None
    flow.calls[1].answer("by hand")
    assert run(flow) == ["a"]
    assert flow.next_request()
    assert contents(flow) == ["Exe: 18 cm", "by hand"]


def test_the_last_turn_runs_no_calls() -> None:
    flow = loop(max_turns=2)
    for river in ("Exe", "Dart"):
        assert flow.next_request()
        flow.add_reply(said(use(river=river)))
        ran = run(flow)
    assert ran == []
    for _ in range(2):
        with pytest.raises(TooManyTurnsError, match="no final answer after 2 turns") as over:
            flow.next_request()
    assert contents(flow) == ["Error: not run, because the limit of 2 turns is reached"]
    assert over.value.messages == flow.messages
    again = pickle.loads(pickle.dumps(over.value))
    assert (again.messages, str(again)) == (flow.messages, str(over.value))


def test_an_answer_in_the_last_turn_is_an_answer() -> None:
    flow = loop(max_turns=1)
    flow.add_reply(said(text("18 cm")))
    assert flow.next_request() is None


def test_failures_are_raised_if_asked_when_the_conversation_is_in_order() -> None:
    flow = loop(on_error="raise")
    flow.add_reply(said(use("a", river="Exe"), use("b", river="Dart")))
    broken, fine = flow.calls
    broken.fail(ValueError("no such river"))
    fine.answer("3 cm")
    with pytest.raises(ToolError, match="tool level failed: ValueError: no such river") as raised:
        flow.next_request()
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.tool_use
    assert raised.value.tool_use.id == "a"
    assert raised.value.messages == flow.messages
    assert contents(flow) == ["Error: ValueError: no such river", "3 cm"]
    assert flow.next_request()  # and it can go on


@pytest.mark.parametrize(
    ("forced", "then"),
    [
        ({"type": "any"}, {"type": "auto"}),
        (
            {"type": "tool", "name": "level", "disable_parallel_tool_use": True},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        ({"type": "auto"}, {"type": "auto"}),
        ({"type": "none"}, {"type": "none"}),
        (None, None),
    ],
)
def test_a_choice_is_forced_once(forced: Any, then: Any) -> None:
    flow = loop(tool_choice=forced)
    first = flow.next_request()
    assert first
    assert first["tool_choice"] == forced
    flow.add_reply(said(use(river="Exe")))
    run(flow)
    second = flow.next_request()
    assert second
    assert second["tool_choice"] == then


def test_an_exception_is_told_in_a_few_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "modelslab_llm")  # pytest-xdist sends no log with half a pair
    flow = loop()
    flow.add_reply(said(use(river="Exe")))
    (call,) = flow.calls
    call.fail(RuntimeError("x" * 100_000 + "\ud800"))
    assert call.result
    content = call.result.get("content")
    assert isinstance(content, str)
    assert content.startswith("Error: RuntimeError: xxx")
    assert len(content) < 1100


def test_what_can_be_read_once_is_kept() -> None:
    flow = loop(
        tools=iter([level]),
        system=iter([text("Be brief.")]),
        messages=iter([{"role": "user", "content": iter([text("Hi")])}]),
    )
    flow.add_reply(said(use(river="Exe")))
    assert run(flow) == ["toolu_1"]
    request = flow.next_request()
    assert request
    assert list(request["tools"]) == [level.to_param()]
    assert request["messages"][0] == {"role": "user", "content": [text("Hi")]}
    assert list(request["system"]) == [text("Be brief.")]


@pytest.mark.parametrize(
    ("wrong", "said_of_it"),
    [
        ({"max_turns": 0}, "max_turns: must be at least 1, not 0"),
        ({"max_turns": True}, "max_turns"),
        ({"on_error": "ignore"}, "on_error: must be 'report' or 'raise'"),
        ({"on_cut": "raise"}, "on_cut: must be 'report' or 'run'"),
        ({"messages": []}, "messages: is empty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [level, level]}, "the name 'level' is already used"),
        ({"tools": 5}, "tools: must be a list"),
    ],
)
def test_what_is_refused_at_once(wrong: dict[str, Any], said_of_it: str) -> None:
    with pytest.raises(InvalidRequestError, match=said_of_it):
        loop(**wrong)


def test_an_unknown_parameter_names_the_verb() -> None:
    with pytest.raises(TypeError, match=r"messages.run_tools\(\) has no parameter 'max_turn'"):
        loop(max_turn=3)
