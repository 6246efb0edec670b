"""Ask through instructor for a value of a type, by a forced tool."""

import os

import instructor
from anthropic import Anthropic
from pydantic import BaseModel
from report import report, version_of


class river_level(BaseModel):  # the name is the tool's
    """The water level of a river on each of the given days of this month."""

    river: str
    unit: str = ""
    days: list[int] = []


client = instructor.from_anthropic(Anthropic(max_retries=0), mode=instructor.Mode.TOOLS)
level, message = client.chat.completions.create_with_completion(
    model=os.environ["ANTHROPIC_MODEL"],
    max_tokens=200,
    max_retries=0,
    response_model=river_level,
    messages=[{"role": "user", "content": "How high is the Tamar?"}],
)
report(
    given=level.model_dump(),
    tokens=message.usage.output_tokens,
    version=version_of("instructor"),
)
