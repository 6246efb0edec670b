"""Ask through the openai package at the endpoint's chat route."""

import os

import openai
from report import report

MODEL = os.environ["OPENAI_MODEL"]
ASK = {"model": MODEL, "max_tokens": 30, "messages": [{"role": "user", "content": "Say hi."}]}

client = openai.OpenAI(max_retries=0)
answer = client.chat.completions.create(**ASK)
chunks = client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
streamed, counted = "", None
for chunk in chunks:
    streamed += "".join(choice.delta.content or "" for choice in chunk.choices)
    counted = chunk.usage or counted
report(
    text=answer.choices[0].message.content,
    streamed=streamed,
    tokens=answer.usage.completion_tokens,
    streamed_tokens=counted.completion_tokens,
    models=[model.id for model in client.models.list()],
    version=openai.__version__,
)
