"""Ask through pydantic-ai."""

import os

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from report import report, version_of

agent = Agent(AnthropicModel(os.environ["ANTHROPIC_MODEL"]), model_settings={"max_tokens": 30})
answer = agent.run_sync("Say hi.")
with_events = agent.run_stream_sync("Say hi.")
streamed = with_events.get_output()
report(
    text=answer.output,
    streamed=streamed,
    tokens=answer.usage.output_tokens,
    version=version_of("pydantic-ai-slim"),
)
