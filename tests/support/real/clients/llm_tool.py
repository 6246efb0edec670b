"""Ask through the model of the `llm` tool's Anthropic plugin, under a name of the server's own.

On the command line the plugin knows the names of its table alone; a server with one model, which
ignores the name, may be asked under any of them.
"""

import os

from llm_anthropic import ClaudeMessages
from report import report, version_of

model = ClaudeMessages(os.environ["ANTHROPIC_MODEL"])
model.model_id = os.environ["ANTHROPIC_MODEL"]
key = os.environ["ANTHROPIC_API_KEY"]
answer = model.prompt("Say hi.", key=key, stream=False, max_tokens=30)
streamed = "".join(model.prompt("Say hi.", key=key, max_tokens=30))
report(
    text=answer.text(),
    streamed=streamed,
    tokens=answer.usage().output,
    version=version_of("llm-anthropic"),
)
