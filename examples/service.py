"""A FastAPI service that records latency, first token, tokens, retries and cost of each request.

pip install fastapi
python examples/service.py        # sends itself two requests, against a local server
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from modelslab_llm import AsyncModelsLab, Observer
from modelslab_llm.observers import CallEnd, ObservedCall, RetryPlan
from modelslab_llm.testing import ErrorReply, LocalServer

PRICE_IN, PRICE_OUT = 0.9, 0.9  # dollars per million tokens


class Metrics(Observer):
    """Keep one row per call; a real service would pass it to its metrics library."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.retries = 0

    def on_retry(self, call: ObservedCall, retry: RetryPlan) -> None:
        self.retries += 1

    def on_end(self, call: ObservedCall, end: CallEnd) -> None:
        row: dict[str, object] = {"model": call.model, "outcome": end.outcome}
        row["latency"] = end.elapsed
        row["first_token"] = end.info.time_to_first_content if end.info else None
        row["attempts"] = end.attempts
        if usage := end.usage:
            row["tokens"] = usage.input_tokens + usage.output_tokens
            row["cost"] = (usage.input_tokens * PRICE_IN + usage.output_tokens * PRICE_OUT) / 1e6
        self.rows.append(row)


def create_app(client: AsyncModelsLab) -> FastAPI:
    """Build the app around a client, which it closes on shutdown."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ask")
    async def ask(question: str) -> str:
        async with client.messages.stream(
            model="m", max_tokens=200, messages=[{"role": "user", "content": question}]
        ) as stream:
            return await stream.get_final_text()

    return app


async def main() -> None:
    logging.getLogger("modelslab_llm").setLevel(logging.ERROR)  # the metrics include retries
    metrics = Metrics()
    with LocalServer(
        [ErrorReply(529, headers={"retry-after-ms": "1"}), "Paris.", "Rome."]
    ) as server:
        client = server.async_client(observers=[metrics])
        transport = httpx.ASGITransport(create_app(client))  # does not run the lifespan
        async with client, httpx.AsyncClient(transport=transport, base_url="http://app") as browser:
            for country in ("France", "Italy"):
                answer = await browser.get("/ask", params={"question": f"Capital of {country}?"})
                print(answer.json())
    for row in metrics.rows:
        print({name: value for name, value in row.items() if not isinstance(value, float)})
    print("retries:", metrics.retries)


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
