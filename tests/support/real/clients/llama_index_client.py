"""Ask through LlamaIndex."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from report import report, version_of

model = Anthropic(model=os.environ["ANTHROPIC_MODEL"], max_tokens=30, max_retries=0)
answer = model.chat([ChatMessage("Say hi.")])
streamed = "".join(piece.delta for piece in model.stream_chat([ChatMessage("Say hi.")]))
report(
    text=answer.message.content,
    streamed=streamed,
    tokens=answer.raw["usage"].output_tokens,
    version=version_of("llama-index-llms-anthropic"),
)
