"""Make one kind of call in this process; print its outcome and peak memory.

`test_bounds.py` runs this file as a program of its own, so that what it measures is the client
alone: `bounded_call.py URL VERB LIMIT VARIANT…`, where the verb is `create`, `stream` or `models`,
the limit is in bytes or 0 for the default, and the variants, made one after the other, are `sync`
and `asyncio`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from pathlib import Path
from typing import Any

import httpx_sse  # noqa: F401  some streams load it, which is not what is measured

from modelslab_llm import AsyncModelsLab, ModelsLab, ModelsLabError, warm_up

ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Name a tidal river."}],
}


def memory(name: str) -> int:
    """Return the memory of this process in bytes: `VmRSS` now, `VmHWM` at its highest."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def call(url: str, verb: str, options: dict[str, Any]) -> Any:
    with ModelsLab(base_url=url, api_key="k", max_retries=0, **options) as client:
        if verb == "models":
            return client.models.list()
        if verb == "create":
            return client.messages.create(**ASK)
        with client.messages.stream(**ASK) as stream:
            return stream.get_final_message()


async def acall(url: str, verb: str, options: dict[str, Any]) -> Any:
    async with AsyncModelsLab(base_url=url, api_key="k", max_retries=0, **options) as client:
        if verb == "models":
            return await client.models.list()
        if verb == "create":
            return await client.messages.create(**ASK)
        async with client.messages.stream(**ASK) as stream:
            return await stream.get_final_message()


def main(url: str, verb: str, limit: str, *variants: str) -> None:
    options = {"max_response_bytes": int(limit)} if int(limit) else {}
    warm_up(certificates=False)
    start = memory("VmRSS")
    outcomes: list[dict[str, Any]] = []
    for variant in variants:
        gc.collect()  # a stream keeps its failure, which keeps the frames that keep the stream
        try:
            given = url, verb, options
            result = call(*given) if variant == "sync" else asyncio.run(acall(*given))
        except ModelsLabError as error:
            outcomes.append({"error": type(error).__name__, "words": str(error)})
        else:
            outcomes.append({"size": len(result.content if verb != "models" else list(result))})
            del result
    print(json.dumps({"outcomes": outcomes, "grown": memory("VmHWM") - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
