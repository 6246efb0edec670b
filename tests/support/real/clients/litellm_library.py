"""Ask through LiteLLM as a library: its Anthropic route."""

import os

import litellm
from report import report, version_of

ASK = {
    "model": f"anthropic/{os.environ['ANTHROPIC_MODEL']}",
    "max_tokens": 30,
    "messages": [{"role": "user", "content": "Say hi."}],
    "num_retries": 0,
}

answer = litellm.completion(**ASK)
pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**ASK, stream=True)]
report(
    text=answer.choices[0].message.content,
    streamed="".join(pieces),
    tokens=answer.usage.completion_tokens,
    version=version_of("litellm"),
)
