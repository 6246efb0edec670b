"""Ask through the `llm` command-line tool with its Anthropic plugin.

The plugin takes no address for models of its own table, so its user registers one: that is what
this does, in a plugin of five lines, as the tool's documentation has it.
"""

import os

import llm
from llm_anthropic import ClaudeMessages
from report import report, version_of

