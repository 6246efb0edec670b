"""Empty replies, which servers refuse as long as they are in a history."""

from __future__ import annotations

from typing import Any

import pytest
from variants import Async, Sync

from modelslab_llm import Message, endpoints
from modelslab_llm._protocol.check import MESSAGE, checked
from modelslab_llm.testing import LocalServer

Json = dict[str, Any]
USER: Json = {"role": "user", "content": "Go"}
ASK: Json = {"model": "m", "max_tokens": 9, "messages": [USER]}


@pytest.mark.parametrize(
    "empty",
    [
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": [{"type": "text", "text": ""}]},
        {"role": "assistant", "content": Message().content},
        Message(),
        Message.model_validate({"content": ""}),
        {"type": "message", "role": "assistant", "content": None, "usage": {}},
    ],
    ids=["blocks", "text", "empty text", "content", "message", "message of text", "raw"],
)
def test_an_empty_reply_is_left_out_of_a_plain_history(
    variant: Sync | Async, empty: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shown = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    with LocalServer() as server, caplog.at_level("INFO", "modelslab_llm"):
        client = variant.client(api_key=server.api_key, endpoint=server.llm_v7())
        for history in (
            [USER, empty, {"role": "user", "content": [shown]}, empty],
            [USER, empty, empty, {"role": "assistant", "content": "Hm."}, USER],
        ):
            client.create(**{**ASK, "messages": history})
        client.close()
    first, second = (request.messages for request in server.requests)
    joined = [{"type": "text", "text": USER["content"]}, shown]
    assert first == [{"role": "user", "content": joined}]
    assert second == [USER, {"role": "assistant", "content": "Hm."}, USER]
    assert "messages[1] is left out: the reply is empty" in caplog.text


def test_turns_of_one_role_are_only_joined_where_an_empty_reply_stood() -> None:
    asked = {**ASK, "messages": [USER, USER]}
    assert checked(asked, MESSAGE, endpoints.llm_v7(), "create")["messages"] == [USER, USER]
