"""Programs that both type checkers must refuse, line by line.

Each mark below is itself checked: one that suppresses nothing is an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true
# mypy: warn-unused-ignores

from __future__ import annotations

import httpx

import modelslab_llm.testing
from modelslab_llm import (
    AsyncModelsLab,
    ClientSpec,
    Conversation,
    MessageParam,
    ModelsLab,
    Timeout,
    document,
    endpoints,
    image,
    tool,
)
from modelslab_llm.openai import to_chat_completion, to_messages

print(modelslab_llm.APIErorr)  # type: ignore[attr-defined]
print(modelslab_llm.testing.LocalServr)  # type: ignore[attr-defined]
endpoints.gateway("https://x", auth="basic")  # type: ignore[arg-type]
endpoints.llama_server("https://x", auth="key")  # type: ignore[arg-type]
endpoints.gguf(12)  # type: ignore[arg-type]
Timeout(5)  # type: ignore[call-arg]
ModelsLab(timeout="soon")  # type: ignore[arg-type]
ModelsLab(retries=3)  # type: ignore[call-arg]
ModelsLab(http_client=httpx.AsyncClient())  # type: ignore[arg-type]
AsyncModelsLab(http_client=httpx.Client())  # type: ignore[arg-type]


def create(client: ModelsLab) -> None:
    hello: MessageParam = {"role": "user", "content": "Hello"}
    client.messages.create(messages=[hello])  # type: ignore[call-arg]
    client.messages.create(max_tokens=1)  # type: ignore[call-arg]
    client.messages.create(max_tokens="1", messages=[hello])  # type: ignore[arg-type]
    client.messages.create(max_tokens=1, messages=[hello], stream=True)  # type: ignore[call-arg]
    client.messages.create(max_tokens=1, messages=[hello], temprature=0)  # type: ignore[call-arg]
    client.messages.create(max_tokens=1, messages=[hello], tools=[{"nme": "x"}])  # type: ignore[dict-item]
    client.messages.create(max_tokens=1, messages="Hello")  # type: ignore[arg-type]
    client.messages.count_tokens(messages=[hello], max_tokens=1)  # type: ignore[call-arg]
    text: int = client.messages.create(max_tokens=1, messages=[hello]).text  # type: ignore[assignment]
    print(text)
    for _ in client.messages.create(max_tokens=1, messages=[hello]).stop_reason:  # type: ignore[union-attr]
        pass


def misspelt(client: ModelsLab, hello: MessageParam) -> None:
    """That loaded dicts are taken must not hide what is misspelt in those that are written out."""
    client.messages.create(max_tokens=1, messages=[{"rol": "user", "content": "x"}])  # type: ignore[dict-item]
    client.messages.create(max_tokens=1, messages=[{"role": "user", "contnt": "x"}])  # type: ignore[dict-item]
    client.messages.create(max_tokens=1, messages=[{"role": "usr", "content": "x"}])  # type: ignore[dict-item]
    client.messages.create(
        max_tokens=1,
        messages=[{"role": "user", "content": [{"type": "text", "txt": "x"}]}],  # type: ignore[dict-item]
    )
    client.messages.create(max_tokens=1, messages=["x"])  # type: ignore[list-item]
    client.messages.create(max_tokens=1, messages=[hello], tools=[{"nme": "x"}])  # type: ignore[dict-item]
    client.messages.create(max_tokens=1, messages=[hello], system=[{"type": "text"}])  # type: ignore[dict-item]
    client.messages.count_tokens(messages=[{"rol": "user", "content": "x"}])  # type: ignore[dict-item]
    Conversation([{"rol": "user", "content": "x"}])  # type: ignore[dict-item]
    Conversation().add({"rol": "user", "content": "x"})  # type: ignore[arg-type]
    Conversation().add({"type": "text", "txt": "x"})  # type: ignore[arg-type]


text: MessageParam = {"role": "user", "content": [{"type": "text", "txt": "x"}]}  # type: ignore[dict-item]
system: MessageParam = {"role": "system", "content": "x"}  # type: ignore[typeddict-item]
nothing: MessageParam = {"role": "user"}  # type: ignore[typeddict-item]


@tool
def level(river: str) -> float:
    return len(river)


def plain(river: str) -> float:
    return len(river)


def tools(client: ModelsLab) -> None:
    hello: MessageParam = {"role": "user", "content": "Hello"}
    level(5)  # type: ignore[arg-type]
    level()  # type: ignore[call-arg]
    text: str = level("Exe")  # type: ignore[assignment]
    level.call('{"river": "Exe"}')  # type: ignore[arg-type]
    tool("level")  # type: ignore[call-overload]
    tool(timeout="soon")  # type: ignore[call-overload]
    client.messages.run_tools(max_tokens=1, messages=[hello], tools=[plain])  # type: ignore[list-item]
    client.messages.run_tools(max_tokens=1, messages=[hello], tools=[level], max_turn=1)  # type: ignore[call-arg]
    client.messages.run_tools(max_tokens=1, messages=[hello], tools=[level], on_error="x")  # type: ignore[arg-type]
    for message in client.messages.run_tools(max_tokens=1, messages=[hello], tools=[level]):
        print(message.calls, text)  # type: ignore[attr-defined]


def conversations(client: ModelsLab, conversation: Conversation) -> None:
    conversation.add(7)  # type: ignore[arg-type]
    conversation.add({"role": "system", "content": "x"})  # type: ignore[arg-type]
    conversation.add([{"type": "text", "txt": "x"}])  # type: ignore[dict-item]
    conversation.turns = ["Hello"]  # type: ignore[list-item]
    Conversation("Hello")  # type: ignore[arg-type]
    client.messages.create(max_tokens=1, messages=conversation, thinking=True)  # type: ignore[arg-type]
    client.messages.create(max_tokens=1, messages=conversation, thinking={"type": "enabled"})  # type: ignore[arg-type]
    to_messages([])  # type: ignore[arg-type]
    to_messages({}, reasoning=True)  # type: ignore[call-arg]
    to_chat_completion({})  # type: ignore[arg-type]


async def asynchronous(client: AsyncModelsLab) -> None:
    hello: MessageParam = {"role": "user", "content": "Hello"}
    print(client.messages.create(max_tokens=1, messages=[hello]).text)  # type: ignore[attr-defined]
    with client.messages.stream(max_tokens=1, messages=[hello]):  # type: ignore[attr-defined]
        pass


def output(client: ModelsLab) -> None:
    hello: MessageParam = {"role": "user", "content": "Hello"}
    client.messages.parse(max_tokens=1, messages=[hello])  # type: ignore[call-arg]
    client.messages.parse(output=int, messages=[hello])  # type: ignore[call-arg]
    client.messages.parse(output=int, strategy="x", max_tokens=1, messages=[hello])  # type: ignore[arg-type]
    client.messages.parse(output=5, max_tokens=1, messages=[hello])  # type: ignore[arg-type]
    text: str = client.messages.parse(output=int, max_tokens=1, messages=[hello]).parsed  # type: ignore[assignment]
    client.messages.parse_stream(output=int, validation_retries=1, max_tokens=1, messages=[hello])  # type: ignore[call-arg]
    print(client.messages.parse_stream(output=list[int], max_tokens=1, messages=[hello]).parsed)  # type: ignore[attr-defined]
    print(text)


def workers(client: ModelsLab) -> None:
    spec = client.spec()
    spec.endpoint = client.endpoint  # type: ignore[misc]
    spec.client(base_url="http://127.0.0.1")  # type: ignore[call-arg]
    spec.client(max_retries="2")  # type: ignore[arg-type]
    ClientSpec(api_key="key")  # type: ignore[call-arg]
    asynchronous: AsyncModelsLab = spec.client()  # type: ignore[assignment]
    print(asynchronous)


def bulk(client: ModelsLab, asynchronous: AsyncModelsLab) -> None:
    client.messages.bulk(5)  # type: ignore[arg-type]
    client.messages.bulk([1], make=lambda row: row)  # type: ignore[return-value, arg-type]
    client.messages.bulk([{}], max_inflight=5)  # type: ignore[call-arg]
    client.messages.bulk([{}], max_in_flight="5")  # type: ignore[arg-type]
    client.messages.bulk([{}], budget=20)  # type: ignore[arg-type]
    for _ in asynchronous.messages.bulk([{}]):  # type: ignore[attr-defined]
        pass
    with asynchronous.messages.bulk([{}]):  # type: ignore[attr-defined]
        pass
    number: int = next(client.messages.bulk([{}], output=str)).parsed  # type: ignore[assignment]
    print(number)


image(5)  # type: ignore[arg-type]
image(text="x")  # type: ignore[call-arg]
document(text=b"x")  # type: ignore[arg-type]
