"""Stream one line by hand: httpx sends, httpx-sse reads; pydantic is there, as it would be."""

# ruff: noqa: T201  (a program that prints)

import json
import resource
import sys
import time

import httpx
from httpx_sse import connect_sse
from pydantic import BaseModel, TypeAdapter  # noqa: F401

body = {
    "model": "canned",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "How large a cup?"}],
    "stream": True,
}
headers = {"authorization": "Bearer key", "anthropic-version": "2023-06-01"}
with (
    httpx.Client() as client,
    connect_sse(client, "POST", f"{sys.argv[1]}/v1/messages", json=body, headers=headers) as source,
):
    for sse in source.iter_sse():
        event = json.loads(sse.data)
        if event["type"] == "content_block_delta" and event["delta"]["type"] == "text_delta":
            print(event["delta"]["text"], end="", flush=True)

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"\n{time.monotonic()} {time.process_time()} {peak}")
