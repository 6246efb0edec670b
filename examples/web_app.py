"""A web page that streams answers: FastAPI, and one HTML file.

pip install fastapi uvicorn
python examples/web_app.py                             # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/web_app.py         # the real service
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field

from modelslab_llm import APIError, AsyncModelsLab, Conversation, ModelsLabError
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")
PAGE = Path(__file__).with_suffix(".html")


class Turn(BaseModel):
    role: Literal["user", "assistant"]
    content: str


class Chat(BaseModel):
    """What the page sends: the whole conversation, so that the server is stateless."""

    turns: Annotated[list[Turn], Field(min_length=1)]


def create_app(client: AsyncModelsLab, *, model: str = MODEL, max_tokens: int = 1000) -> FastAPI:
    """Build the app around a client, which it closes on shutdown."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with client:
            yield

    app = FastAPI(title="A conversation", lifespan=lifespan)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(PAGE)

    @app.post("/answer")
    async def answer(chat: Chat) -> StreamingResponse:
        # Otherwise proxies such as nginx buffer the lines.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(lines(chat), headers=headers, media_type="application/x-ndjson")

    async def lines(chat: Chat) -> AsyncIterator[str]:
        """Yield JSON lines: pieces of thinking and text, then the stop reason or an error.

        When the browser disconnects, this is cancelled; the `async with` block then closes the
        stream, and the model stops.
        """
        conversation = Conversation()
        for turn in chat.turns:
            conversation.add({"role": turn.role, "content": turn.content})
        try:
            async with client.messages.stream(
                model=model, max_tokens=max_tokens, messages=conversation
            ) as stream:
                async for kind, text in stream.deltas:
                    yield line({kind: text})
                message = await stream.get_final_message()
                yield line({"stop_reason": message.stop_reason})
        except ModelsLabError as error:
            yield line({"error": as_json(error)})

    return app


def line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def as_json(error: ModelsLabError) -> dict[str, str | None]:
    """Return an error as the page shows it: its text is one line and never contains the key.

    It names the server. Show users only the type, and log the rest.
    """
    request_id = error.request_id if isinstance(error, APIError) else None
    return {"type": type(error).__name__, "message": str(error), "request_id": request_id}


def main() -> None:
    parser = argparse.ArgumentParser(description="A page that streams answers.")
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            client = AsyncModelsLab()
        else:
            server = stack.enter_context(LocalServer(pause=0.05))
            client = AsyncModelsLab(server.api_key, endpoint=server.llm_v7())
            print("No MODELSLAB_API_KEY: a local server echoes.", flush=True)
        uvicorn.run(create_app(client), port=port)


if __name__ == "__main__":
    main()
