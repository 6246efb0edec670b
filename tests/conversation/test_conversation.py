"""A conversation is valid after anything: by cases, by properties, and on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from history import PROPERTY, faults
from hypothesis import given, settings
from hypothesis import strategies as st
from llama.fixtures import MODEL_NAME
from llama.scripts import ANSWER_REPLY, ONE_CALL_INPUT, QUESTION_REPLY, RIVER_LEVEL
from llama.server import LlamaServer
from raw_server import CLOSE, START, STREAM_HEAD, RawServer, chunk, event, text_delta
from variants import Async, AsyncClient, Sync, SyncClient

from modelslab_llm import (
    APIError,
    Conversation,
    InvalidRequestError,
    Message,
    ModelsLab,
    StreamInterruptedError,
    endpoints,
    tool_result,
)
from modelslab_llm.testing import LocalServer, Reply

Json = dict[str, Any]
Client = SyncClient | AsyncClient


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def said(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def call(id: str, **fields: Any) -> Json:
    return {"type": "tool_use", "id": id, "name": "level", "input": {"river": "Exe"}, **fields}


def result(id: str, content: Any = "214 cm") -> Json:
    return {"type": "tool_result", "tool_use_id": id, "content": content}


def not_run(id: str, why: str = "the call was not run") -> Json:
    words = f"Error: {why}"
    return {"type": "tool_result", "tool_use_id": id, "is_error": True, "content": words}


THOUGHT: Json = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
HIDDEN: Json = {"type": "redacted_thinking", "data": "c2VjcmV0"}

# What was added → what is sent
CASES: dict[str, tuple[list[Json], list[Json]]] = {
    "an exchange": ([user("a"), said("b"), user("c")], [user("a"), said("b"), user("c")]),
    "nothing": ([], []),
    "neighbours are merged": (
        [user("a"), user([text("b")]), said("c"), said([text("d")])],
        [user([text("a"), text("b")]), said([text("c"), text("d")])],
    ),
    "an empty reply leaves two questions": (
        [user("a"), said([]), user("b")],
        [user([text("a"), text("b")])],
    ),
    "empty texts": (
        [user(""), user([text(""), text("a")]), said([text(""), text("b"), text("")])],
        [user([text("a")]), said([text("b")])],
    ),
    "a reply comes first": ([said("a"), user("b"), said("c")], [user("b"), said("c")]),
    "thinking stays before what it led to": (
        [user("a"), said([THOUGHT, HIDDEN, text("b")])],
        [user("a"), said([THOUGHT, HIDDEN, text("b")])],
    ),
    "thinking that was cut": (
        [user("a"), said([text("b"), THOUGHT, HIDDEN]), user("c"), said([THOUGHT]), user("d")],
        [user("a"), said([text("b")]), user([text("c"), text("d")])],
    ),
    "a call and its result": (
        [user("a"), said([THOUGHT, call("1")]), user([result("1")])],
        [user("a"), said([THOUGHT, call("1")]), user([result("1")])],
    ),
    "results one by one, and late": (
        [
            user("a"),
            said([call("1"), call("2")]),
            user("b"),
            user([result("2")]),
            user([result("1")]),
        ],
        [user("a"), said([call("1"), call("2")]), user([result("1"), result("2"), text("b")])],
    ),
    "a call without a result": (
        [user("a"), said([call("1"), call("2")]), user([text("b"), result("2")]), said("c")],
        [
            user("a"),
            said([call("1"), call("2")]),
            user([not_run("1"), result("2"), text("b")]),
            said("c"),
        ],
    ),
    "the next question in place of a result": (
        [user("a"), said([call("1")]), user("b")],
        [user("a"), said([call("1")]), user([not_run("1"), text("b")])],
    ),
    "a call at the end": (
        [user("a"), said([call("1")])],
        [user("a"), said([call("1")]), user([not_run("1")])],
    ),
    "the last result counts": (
        [user("a"), said([call("1")]), user([result("1", "old")]), user([result("1", "new")])],
        [user("a"), said([call("1")]), user([result("1", "new")])],
    ),
    "a result without its call": (
        [user([result("1"), text("a")]), said("b"), user([result("1")]), said("c"), user("d")],
        [user([text("a")]), said([text("b"), text("c")]), user("d")],
    ),
    "nothing but what trimming left": ([user([result("1")]), said("b")], []),
    "calls that nobody can answer": (
        [user("a"), said([text("b"), call(""), call("1", name=""), call("2"), call("2")])],
        [user("a"), said([text("b"), call("2")]), user([not_run("2")])],
    ),
    "a call that stands there twice, behind thinking": (
        [user("a"), said([call("1"), THOUGHT, call("1")]), said([THOUGHT, call("1")])],
        [user("a"), said([call("1")]), user([not_run("1")])],
    ),
    "two calls with one id": (
        [
            user("a"),
            said([call("1"), call("1", input={"n": 2}), call("1"), call("1", input={"n": 3})]),
            user([result("1", "one"), result("1", "two")]),
        ],
        [
            user("a"),
            said([call("1"), call("1_2", input={"n": 2}), call("1_3", input={"n": 3})]),
            user([result("1", "one"), result("1_2", "two"), not_run("1_3")]),
        ],
    ),
    "calls whose ids look like ours": (
        [
            *(user("a"), said([call("1"), call("1", input={}), call("1_2", input={"n": 1})])),
            user([result("1", "one"), result("1", "two"), result("1_2", "three")]),
        ],
        [
            user("a"),
            said([call("1"), call("1_2", input={}), call("1_2_2", input={"n": 1})]),
            user([result("1", "one"), result("1_2", "two"), result("1_2_2", "three")]),
        ],
    ),
    "two calls with one id, in turns that become one": (
        [
            *(user("a"), said([call("1"), call("1_2")]), said([call("1", input={"n": 2})])),
            *(
                user([result("1_2", "two")]),
                user([result("1", "one")]),
                user([result("1", "three")]),
            ),
            *(said("b"), user("c"), said([call("1")]), user([result("1", "four")])),
        ],
        [
            user("a"),
            said([call("1"), call("1_2"), call("1_3", input={"n": 2})]),
            user([result("1", "one"), result("1_2", "two"), result("1_3", "three")]),
            *(said("b"), user("c"), said([call("1")]), user([result("1", "four")])),
        ],
    ),
    "blocks of servers' own": (
        [user([{"type": "new"}]), said([{"type": "server_tool_use", "id": "s", "input": {}}])],
        [user([{"type": "new"}]), said([{"type": "server_tool_use", "id": "s", "input": {}}])],
    ),
}


@pytest.mark.parametrize(("turns", "sent"), CASES.values(), ids=CASES)
def test_what_is_sent(turns: list[Any], sent: list[Json]) -> None:
    """Whatever the turns are, what is sent of them is a valid history."""
    before = deepcopy(turns)
    conversation = Conversation(turns)
    assert conversation.messages == list(conversation) == sent
    assert conversation.turns == turns == before  # reading changes nothing
    assert not sent or faults(sent) == []


def test_what_can_be_added() -> None:
    conversation = Conversation()
    conversation.add("a")
    conversation.add([text("b")])
    conversation.add(Message.model_validate({"content": [text("c"), text("")]}))
    conversation.add(iter([result("1")]))
    conversation.add(tool_result("2", 214))
    conversation.add(said("d"))
    conversation.add(
        {"role": "assistant", "content": Message.model_validate({"content": "e"}).content}
    )
    assert conversation.turns == [
        user("a"),
        user([text("b")]),
        said([text("c")]),
        user([result("1")]),
        user([tool_result("2", "214")]),
        said("d"),
        said([text("e")]),
    ]


@pytest.mark.parametrize(
    ("turn", "fault"),
    [
        (7, "turn.content: must be text or a list of blocks, not int"),
        ({"content": "a"}, "turn.role: must be 'user' or 'assistant', not None"),
        ({"role": "system", "content": "a"}, r"pass system=\.\.\. instead"),
        ({"role": "user"}, "turn.content: must be text or a list of blocks, not missing"),
        (["a"], r"turn.content\[0\]: must be a block"),
        ([Message()], r"turn.content\[0\]: must be a block.*pass the message itself as the turn"),
        ({"role": "user", "type": "text", "text": "a"}, "turn.content: must be"),
    ],
    ids=str,
)
def test_what_is_not_a_turn_is_refused(turn: Any, fault: str) -> None:
    conversation = Conversation()
    with pytest.raises(InvalidRequestError, match=fault):
        conversation.add(turn)
    assert conversation == Conversation()
    assert not conversation.messages


def test_a_bad_turn_put_into_the_list_is_named() -> None:
    conversation = Conversation(["a"])
    conversation.turns.append({"role": "tool", "content": "x"})
    with pytest.raises(InvalidRequestError, match=r"turns\[1\].role: 'tool' is OpenAI's"):
        list(conversation)


def test_cut_arguments_are_answered_and_never_pending() -> None:
    reply = Message.model_validate(
        {"content": [call("1"), call("2", input='{"river": "Da')], "stop_reason": "max_tokens"}
    )
    cut_off = (
        "not run, because the arguments were truncated (max_tokens); call it again with shorter"
    )
    broken = "not run, because the arguments are not a complete JSON object; call it again"
    turns = {f"{cut_off} ones": reply, broken: {"role": "assistant", "content": reply.content}}
    for why, turn in turns.items():
        told = not_run("2", why + ': {"river": "Da')
        conversation = Conversation([user("a"), turn])
        assert [use.id for use in conversation.pending] == ["1"]
        assert conversation.messages == [
            user("a"),
            said([call("1"), call("2", input={})]),
            user([not_run("1"), told]),
        ]
        conversation.add([result("1"), result("2", "of the caller's own")])
        assert conversation.messages[-1] == user([result("1"), result("2", "of the caller's own")])
        assert not conversation.pending


def test_pending_calls_outlive_a_save() -> None:
    conversation = Conversation([user("a"), said([text("b"), call("1"), call("2")])])
    conversation.add([result("2")])
    conversation = Conversation(json.loads(json.dumps(conversation.turns)))
    (use,) = conversation.pending
    assert (use.id, use.name, use.input) == ("1", "level", {"river": "Exe"})
    conversation.add([result("1")])
    assert not conversation.pending
    conversation.add(said("b"))
    assert not conversation.pending


def test_thinking_stays_behind() -> None:
    """A copy without thinking has none, nor turns that held nothing else."""
    turns = [user("a"), said([THOUGHT, HIDDEN, text("b")]), user("c"), said([THOUGHT]), said("d")]
    here = Conversation(turns)
    there = here.without_thinking()
    assert there.messages == [user("a"), said([text("b")]), user("c"), said("d")]
    assert here.turns == turns


def test_forks_go_their_own_ways() -> None:
    one = Conversation([user("a"), said("b")])
    other = Conversation(one.turns)
    assert other == one != Conversation()
    other.add("c")
    del one.turns[1:]
    assert (len(one.turns), len(other.turns)) == (1, 3)
    assert eval(repr(other)) == other


# Properties

TEXTS = st.sampled_from(["", " ", "a", "Sea 🌊"])
IDS = st.sampled_from(["", "1", "2", "3"])
TEXT = TEXTS.map(text)
CALL = st.builds(
    call,
    IDS,
    name=st.sampled_from(["level", "level", "level", ""]),
    input=st.sampled_from([{}, {"river": "Exe"}, '{"river": "Da', None]),
)
REPLIES = st.builds(
    lambda content, stop: Message.model_validate({"content": content, "stop_reason": stop}),
    st.lists(TEXT | CALL | st.sampled_from([THOUGHT, HIDDEN, {"type": "new"}]), max_size=4),
    st.sampled_from(["end_turn", "max_tokens", "refusal", "pause_turn", "tool_use", None]),
)
USERS = TEXTS | st.lists(TEXT | st.builds(result, IDS) | st.just({"type": "image"}), max_size=4)
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), USERS),
    st.tuples(st.just("add"), REPLIES),
    st.tuples(st.just("add"), REPLIES.map(lambda reply: said(reply.content))),
    st.tuples(st.just("append"), REPLIES),  # past `add`, into the list
    st.tuples(st.just("delete"), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("fork"), st.integers(-4, 4)),
    st.tuples(st.just("answer")),
    st.tuples(st.just("save")),
    st.tuples(st.just("move")),
    st.tuples(st.just("settle")),
)


def after(conversation: Conversation, operation: str, *values: Any) -> Conversation:
    match operation, values:
        case "add", [turn]:
            conversation.add(turn)
        case "append", [turn]:
            conversation.turns.append(turn)
        case "delete", [start, end]:
            del conversation.turns[start:end]
        case "reverse", []:
            conversation.turns.reverse()
        case "fork", [start]:
            return Conversation(conversation.turns[start:])
        case "answer", []:
            conversation.add([result(use.id) for use in conversation.pending])
        case "save", []:
            return Conversation(json.loads(json.dumps(Conversation(conversation.turns).turns)))
        case "move", []:
            return conversation.without_thinking()
        case "settle", []:
            return Conversation(conversation)
    return conversation


@pytest.mark.slow
@settings(PROPERTY, max_examples=300)
@given(st.lists(OPERATIONS, max_size=12))
def test_any_operations_leave_a_valid_history(operations: list[tuple[Any, ...]]) -> None:
    conversation = Conversation()
    for operation in operations:
        conversation = after(conversation, *operation)
        history = conversation.messages
        assert not history or faults(history) == []
        assert Conversation(history).messages == history  # nothing is left to mend
        assert all(use.id and use.name for use in conversation.pending)
        assert "thinking" not in str(conversation.without_thinking().messages)


@pytest.mark.slow
@settings(PROPERTY, max_examples=200)
@given(st.lists(st.tuples(TEXTS.filter(bool), REPLIES), max_size=5))
def test_nothing_is_lost_that_can_be_sent(exchanges: list[tuple[str, Message]]) -> None:
    """All text, and all calls that can be answered, in their order."""
    conversation = Conversation()
    texts: list[str] = []
    calls: list[str] = []
    for question, reply in exchanges:
        conversation.add(question)
        conversation.add(reply)
        texts += [question, *(b.text for b in reply.content if b.type == "text" and b.text)]
        answerable = [use.id for use in reply.tool_uses if use.id and use.name]
        calls += dict.fromkeys(answerable)
    sent = [
        block
        for turn in conversation
        for block in (
            [text(turn["content"])] if isinstance(turn["content"], str) else turn["content"]
        )
    ]
    assert [block["text"] for block in sent if block["type"] == "text"] == texts
    assert [block["id"] for block in sent if block["type"] == "tool_use"] == calls


# On servers


@pytest.fixture
def client(variant: Sync | Async, server: LocalServer) -> Iterator[Client]:
    built = variant.client(api_key=server.api_key, endpoint=server.gguf("dep_1"))
    yield built
    built.close()


def test_a_conversation_is_what_is_sent(client: Client, server: LocalServer) -> None:
    conversation = Conversation()
    for question in ("My name is Ada.", "What is my name?"):
        conversation.add(question)
        assert client.count_tokens(messages=conversation).input_tokens > 0
        with client.stream(max_tokens=9, messages=conversation) as stream:
            conversation.add(stream.message())
    assert server.requests[-1].body["messages"] == conversation.messages[:3]
    assert [turn["role"] for turn in conversation] == ["user", "assistant"] * 2


def test_trimming_to_a_number_of_tokens(client: Client) -> None:
    conversation = Conversation([user("one two three"), said("four"), user("five six"), said("7")])
    while client.count_tokens(messages=conversation).input_tokens > 4:
        del conversation.turns[0]
    assert conversation.messages == [user("five six"), said("7")]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(stop_reason="refusal"),
        Reply("Half an", stop_reason="max_tokens"),
        Reply([THOUGHT], stop_reason="max_tokens"),
        Reply([THOUGHT, text("One moment."), call("1"), call("2")]),
        Reply([call("1", input={})], stop_reason="max_tokens"),
        Reply([{"type": "server_tool_use", "id": "s1", "name": "s", "input": {}}], "pause_turn"),
    ],
    ids=["refused", "cut", "cut while thinking", "calls", "cut call", "paused"],
)
@pytest.mark.parametrize("streams", [True, False])
def test_it_continues_after_any_reply(variant: Sync | Async, reply: Reply, streams: bool) -> None:
    with LocalServer([reply, "Good."]) as server:
        client = variant.client(api_key=server.api_key, endpoint=server.gguf("dep_1"))
        conversation = Conversation([user("a")])
        if streams:
            with client.stream(max_tokens=9, messages=conversation) as stream:
                conversation.add(stream.message())
        else:
            conversation.add(client.create(max_tokens=9, messages=conversation))
        conversation.add("Go on.")
        assert client.create(max_tokens=9, messages=conversation).text == "Good."
        assert faults(server.requests[-1].body["messages"]) == []
        client.close()


def test_it_continues_after_a_stream_that_broke_off(variant: Sync | Async) -> None:
    use = event("content_block_start", index=1, content_block=call("1", input={}))
    cut = event(
        "content_block_delta",
        index=1,
        delta={"type": "input_json_delta", "partial_json": '{"river": "Ta'},
    )
    begun = [chunk(each) for each in (START, text_delta("One moment."), use, cut)]
    with RawServer([STREAM_HEAD, *begun, CLOSE]) as server:
        client = variant.client(api_key="k", base_url=server.url)
        conversation = Conversation([user("How high?")])
        with pytest.raises(APIError) as broken:
            with client.stream(model="m", max_tokens=9, messages=conversation) as stream:
                stream.message()
        client.close()
    assert isinstance(broken.value, StreamInterruptedError)
    assert broken.value.partial_message is not None
    conversation.add(broken.value.partial_message)
    conversation.add("Go on.")
    why = "not run, because the arguments are not a complete JSON object; call it again"
    told = not_run("1", why + ': {"river": "Ta')
    assert conversation.messages == [
        user("How high?"),
        said([text("One moment."), call("1", input={})]),
        user([told, text("Go on.")]),
    ]
    assert not conversation.pending


@pytest.mark.parametrize("streams", [True, False])
def test_a_tool_exchange_on_llama_server(
    variant: Sync | Async, llama_tools: LlamaServer, streams: bool
) -> None:
    at = endpoints.gateway(llama_tools.url, default_model=MODEL_NAME)
    client = variant.client(api_key=llama_tools.api_key, endpoint=at)
    asked: Json = {"max_tokens": 300, "temperature": 0.0, "tools": [RIVER_LEVEL]}
    conversation = Conversation([user("How high is the Tamar?")])

    def ask() -> Message:
        if not streams:
            return client.create(messages=conversation, **asked)
        with client.stream(messages=conversation, **asked) as stream:
            return stream.message()

    conversation.add(ask())
    (use,) = conversation.pending
    assert use.input == ONE_CALL_INPUT
    assert client.count_tokens(messages=conversation, tools=[RIVER_LEVEL]).input_tokens > 9
    conversation.add([result(use.id)])
    conversation.add(ask())
    assert conversation.messages[-1] == said([text(ANSWER_REPLY)])
    assert faults(conversation.messages) == []
    client.close()


def test_a_call_cut_by_llama_server_is_answered(
    variant: Sync | Async, llama_tools: LlamaServer
) -> None:
    at = endpoints.gateway(llama_tools.url, default_model=MODEL_NAME)
    client = variant.client(api_key=llama_tools.api_key, endpoint=at)
    conversation = Conversation([user("How high is the Tamar?")])
    asked: Json = {"temperature": 0.0, "tools": [RIVER_LEVEL]}
    conversation.add(client.create(max_tokens=8, messages=conversation, **asked))
    assert not conversation.pending
    assert client.create(max_tokens=99, messages=conversation, **asked).text == ANSWER_REPLY
    client.close()


def test_moving_from_a_server_that_thinks(llama_thinking: LlamaServer, server: LocalServer) -> None:
    at = endpoints.gateway(llama_thinking.url, default_model=MODEL_NAME)
    conversation = Conversation([user("Hello")])
    with ModelsLab(llama_thinking.api_key, endpoint=at) as here:
        conversation.add(here.messages.create(max_tokens=99, messages=conversation))
        conversation.add("The Exe.")
        here.messages.create(max_tokens=9, messages=conversation)  # its own thinking goes back
    conversation = conversation.without_thinking()
    with ModelsLab(server.api_key, endpoint=server.llm_v7(), default_headers={}) as there:
        there.messages.create(model="m", max_tokens=9, messages=conversation)
    assert server.requests[-1].body["messages"] == [
        user("Hello"),
        said([text(QUESTION_REPLY)]),
        user("The Exe."),
    ]
