"""Ask through the anthropic package, which reads the address and the key from the environment."""

import os

import anthropic
from report import report

MODEL = os.environ["ANTHROPIC_MODEL"]
ASK = {"model": MODEL, "max_tokens": 30, "messages": [{"role": "user", "content": "Say hi."}]}

client = anthropic.Anthropic(max_retries=0)
message = client.messages.create(**ASK)
with client.messages.stream(**ASK) as stream:
    streamed = stream.get_final_message()
count = client.messages.count_tokens(model=MODEL, messages=ASK["messages"])
models = [model.id for model in client.models.list()]
report(
    text=message.content[0].text,
    streamed=streamed.content[0].text,
    tokens=message.usage.output_tokens,
    count=count.input_tokens,
    models=models,
    version=anthropic.__version__,
)
