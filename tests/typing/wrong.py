"""Programs that both type checkers must refuse, line by line.

Each mark below is itself checked: one that suppresses nothing is an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true
# mypy: warn-unused-ignores

from __future__ import annotations

import httpx

from modelslab_llm import AsyncModelsLab, MessageParam, ModelsLab, document, endpoints, image

endpoints.gateway("https://x", auth="basic")  # type: ignore[arg-type]
endpoints.gguf(12)  # type: ignore[arg-type]
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
    client.messages.create(max_tokens=1, messages=[hello], tools=[{"nme": "x"}])  # type: ignore[list-item]
    client.messages.create(max_tokens=1, messages="Hello")  # type: ignore[arg-type]
    client.messages.count_tokens(messages=[hello], max_tokens=1)  # type: ignore[call-arg]
    text: int = client.messages.create(max_tokens=1, messages=[hello]).text  # type: ignore[assignment]
    print(text)
    for _ in client.messages.create(max_tokens=1, messages=[hello]).stop_reason:  # type: ignore[union-attr]
        pass


text: MessageParam = {"role": "user", "content": [{"type": "text", "txt": "x"}]}  # type: ignore[list-item]
system: MessageParam = {"role": "system", "content": "x"}  # type: ignore[typeddict-item]
nothing: MessageParam = {"role": "user"}  # type: ignore[typeddict-item]


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
    client.messages.parse_stream(output=int, retries=1, max_tokens=1, messages=[hello])  # type: ignore[call-arg]
    print(client.messages.parse_stream(output=list[int], max_tokens=1, messages=[hello]).parsed)  # type: ignore[attr-defined]
    print(text)


image(5)  # type: ignore[arg-type]
image(text="x")  # type: ignore[call-arg]
document(text=b"x")  # type: ignore[arg-type]
