"""Vision: ask about an image and a document. The image is drawn here, so you need no files.

python examples/pictures.py                                # no key: a local server answers
MODELSLAB_API_KEY=… python examples/pictures.py            # the real service, a vision model
"""

from __future__ import annotations

import asyncio
import os
import struct
import tempfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from modelslab_llm import AsyncModelsLab, InvalidRequestError, ModelsLab, aimage, document, image
from modelslab_llm.testing import LocalServer, ReceivedRequest

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if os.environ.get("MODELSLAB_API_KEY"):
            client = stack.enter_context(ModelsLab())
        else:
            server = stack.enter_context(LocalServer(describe))
            client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
            print("No MODELSLAB_API_KEY: a local server describes what it received.")
        path = folder / "sunset.jpg"
        path.write_bytes(sunset())  # a PNG, despite its name
        look(client, path)
        read(client)
        asyncio.run(look_async(client, path))
        refuse(folder)


def look(client: ModelsLab, path: Path) -> None:
    print("\n1. An image from a file")
    message = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[
            {
                "role": "user",
                "content": [image(path), {"type": "text", "text": "What is on it?"}],
            }
        ],
    )
    print(f"   {message.text}")


def read(client: ModelsLab) -> None:
    print("\n2. A document from text")
    report = document(text="The Tamar stood at 214 cm.", title="Levels", citations=True)
    message = client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[
            {"role": "user", "content": [report, {"type": "text", "text": "How high is it?"}]}
        ],
    )
    print(f"   {message.text}")


async def look_async(client: ModelsLab, path: Path) -> None:
    print("\n3. Several images at once, without blocking the event loop")
    key = os.environ.get("MODELSLAB_API_KEY", "local-test-key")
    blocks = await asyncio.gather(aimage(path), aimage(sunset(width=2)))
    async with AsyncModelsLab(key, endpoint=client.endpoint) as async_client:
        message = await async_client.messages.create(
            model=MODEL,
            max_tokens=100,
            messages=[
                {
                    "role": "user",
                    "content": [*blocks, {"type": "text", "text": "What differs?"}],
                }
            ],
        )
    print(f"   {message.text}")


def refuse(folder: Path) -> None:
    print("\n4. Files that are refused before anything is sent")
    for name, data in {
        "letter.png": b"Dear Ada,",
        "empty.png": b"",
        "huge.png": sunset(9000),
    }.items():
        (folder / name).write_bytes(data)
        try:
            image(folder / name)
        except InvalidRequestError as error:
            print(f"   {str(error).replace(str(folder) + os.sep, '')}")


def sunset(width: int = 96, height: int = 64) -> bytes:
    """Draw a PNG: rows of pixels from red to violet, compressed with zlib."""
    rows = b"".join(
        b"\0" + bytes((255 - 2 * y, 100 - y, 2 * y)) * width  # 0: no filter
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)  # 8 bits each of red, green, blue
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def describe(request: ReceivedRequest) -> str:
    """Answer for the local server, which cannot see: describe the blocks it received."""
    content: list[dict[str, Any]] = request.body["messages"][-1]["content"]
    sources = [(block["type"], block["source"]) for block in content if "source" in block]
    seen = [
        f"{kind} of {source['media_type']}, {len(source['data'])} characters"
        for kind, source in sources
    ]
    return f"I was sent: {'; '.join(seen)}."


if __name__ == "__main__":
    main()
