"""Stream one line with the anthropic SDK."""

# ruff: noqa: T201  (a program that prints)

import resource
import sys
import time

from anthropic import Anthropic

client = Anthropic(api_key="key", base_url=sys.argv[1], max_retries=0)
with client.messages.stream(
    model="canned", max_tokens=100, messages=[{"role": "user", "content": "How large a cup?"}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)

peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"\n{time.monotonic()} {time.process_time()} {peak}")
