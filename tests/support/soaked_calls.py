"""Make thousands of calls on one client in this process; print how much it has grown since warm.

`test_soak.py` runs this file as a program of its own: `soaked_calls.py URL VARIANT CALLS`. Four
kinds of calls take turns: whole, streamed, streamed and left early, streamed and broken off.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

import anyio
from bounded_call import ASK, memory

from modelslab_llm import APIError, AsyncModelsLab, ModelsLab

WARM = 400  # calls after which pools, caches and the allocator have what they want
KINDS = ("create", "stream", "abandon", "fail")


def asked(kind: str) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": kind}]}


def measured() -> dict[str, int]:
    gc.collect()
    return {
        # What the system gave the process: sees Python's objects and the libraries' in C and Rust
        # alike, which tracemalloc does not.
        "memory": memory("VmRSS"),
        "files": len(os.listdir("/dev/fd")),
        "objects": len(gc.get_objects()),
    }


def kinds(calls: int) -> Iterator[str]:
    return islice(cycle(KINDS), calls)


def sync_calls(client: ModelsLab, calls: int) -> None:
    for kind in kinds(calls):
        if kind == "create":
            assert client.messages.create(**asked(kind)).text == "Tamar"
            continue
        try:
            with client.messages.stream(**asked(kind)) as stream:
                if kind == "abandon":
                    next(stream.text_stream)
                else:
                    assert stream.get_final_text() == "Tamar"
                    assert kind == "stream"
        except APIError:
            assert kind == "fail"


async def async_calls(client: AsyncModelsLab, calls: int) -> None:
    for kind in kinds(calls):
        if kind == "create":
            assert (await client.messages.create(**asked(kind))).text == "Tamar"
            continue
        try:
            async with client.messages.stream(**asked(kind)) as stream:
                if kind == "abandon":
                    await stream.text_stream.__anext__()
                else:
                    assert await stream.get_final_text() == "Tamar"
                    assert kind == "stream"
        except APIError:
            assert kind == "fail"


def sync_main(url: str, calls: int) -> list[dict[str, int]]:
    with ModelsLab(base_url=url, api_key="k", max_retries=0) as client:
        sync_calls(client, WARM)
        warm = measured()
        sync_calls(client, calls)
        return [warm, measured()]


async def async_main(url: str, calls: int) -> list[dict[str, int]]:
    async with AsyncModelsLab(base_url=url, api_key="k", max_retries=0) as client:
        await async_calls(client, WARM)
        warm = measured()
        await async_calls(client, calls)
        return [warm, measured()]


def main(url: str, variant: str, calls: str) -> None:
    if variant == "sync":
        warm, end = sync_main(url, int(calls))
    else:
        warm, end = anyio.run(async_main, url, int(calls), backend=variant)
    print(json.dumps({name: end[name] - warm[name] for name in warm}))


if __name__ == "__main__":
    main(*sys.argv[1:])
