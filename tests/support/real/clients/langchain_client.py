"""Ask through langchain-anthropic."""

import os

from langchain_anthropic import ChatAnthropic
from report import report, version_of

model = ChatAnthropic(model=os.environ["ANTHROPIC_MODEL"], max_tokens=30, max_retries=0)
answer = model.invoke("Say hi.")
streamed = "".join(chunk.text for chunk in model.stream("Say hi."))
report(
    text=answer.text,
    streamed=streamed,
    tokens=answer.usage_metadata["output_tokens"],
    version=version_of("langchain-anthropic"),
)
