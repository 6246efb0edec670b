"""What the scripted models say, and when; it starts nothing.

Each model has a script and, for some conversations, another one: its chat template ends the
prompt in a cue where a rule about the conversation holds. So a test chooses the reply by what it
sends. The word "both" in the user's message gets two tool calls, and a tool result gets the
answer that follows from it, which makes a whole tool loop testable against one server.

llama-server does not let a model call tools as it likes: from the marker ``<tool_call>`` on, a
grammar made from the request's tools allows only calls that fit ``input_schema`` (required keys
first, each in the order of ``properties``), and nothing but calls until the end of the turn. A
script it forbids turns into babble, so send the tool ``RIVER_LEVEL``, or one of that name with the
same parameters in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama.scripted_model import Piece, write_scripted_model


@dataclass(frozen=True)
class ScriptedModel:
    """A script, and other scripts by the rule that calls for them; the first rule counts."""

    script: Sequence[Piece]
    where: Mapping[str, Sequence[Piece]] = field(default_factory=dict)
    reads_pieces: bool = False

    def write(self, path: Path) -> None:
        """Write the model as a GGUF."""
        cues = {rule: f"<|cue_{number}|>" for number, rule in enumerate(self.where)}
        choice = "".join(f"{{% elif {rule} %}}{cue}" for rule, cue in cues.items())
        write_scripted_model(
            path,
            self.script,
            on_cue={cues[rule]: script for rule, script in self.where.items()},
            chat_template=_TEMPLATE.replace("CUE", f"{{% if false %}}{choice}{{% endif %}}"),
            reads_pieces=self.reads_pieces,
        )


# Like the templates of Qwen and Hermes models. llama-server renders it with sample messages and
# learns from the result how the model writes its thoughts and its tool calls: those parts must
# look as they do in the scripts.
_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- if messages[0].role == 'system' %}
{{ messages[0].content }}
{%- endif %}
You may call these functions:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
Write each call like this:
<tool_call>
{"name": <name>, "arguments": <arguments as a JSON object>}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}<|im_start|>user
{{ message.content }}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
CUE{% endif %}"""

# The rules, as conditions of the template language.
TOOL_RESULT_LAST = "messages[-1].role == 'tool'"
TOOLS_GIVEN = "tools"


def asked_for(word: str) -> str:
    return f"messages[-1].role == 'user' and '{word}' in messages[-1].content"


# --- a model that talks ---

# The last two pieces hold line ends that JSON does not escape and an SSE parser must not see.
TEXT = (
    *("The", " capital", " of", " France", " is", " Paris.", " La", " tour", " Eiffel"),
    *(" 🗼", " — ça", " vaut", " le", " détour.", " One\u2028", " line\u0085still."),
)
TEXT_REPLY = "".join(TEXT)

# Real vocabularies split characters that are rare in their training text.
SPLIT_CHARACTER = (b"\xf0\x9f\x97", b"\xbc stands", " in", " the west.")
SPLIT_CHARACTER_REPLY = b"".join(
    piece if isinstance(piece, bytes) else piece.encode() for piece in SPLIT_CHARACTER
).decode()

TEXT_MODEL = ScriptedModel(TEXT, {asked_for("tower"): SPLIT_CHARACTER, asked_for("nothing"): ()})

# --- a model that calls tools ---

RIVER_LEVEL: dict[str, Any] = {
    "name": "river_level",
    "description": "The water level of a river on each of the given days of this month.",
    "input_schema": {
        "type": "object",
        "properties": {
            "river": {"type": "string"},
            "unit": {"type": "string"},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["river"],
    },
}

# <tool_call>
# {"name": "river_level", "arguments": {"river": "Tamar ⚓", "unit": "cm", "days": [1, 2, 3]}}
# </tool_call>
ONE_CALL = (
    *("<tool_", "call>\n", '{"name": "', 'river_level", "argu', 'ments": {', '"river": "Ta'),
    *("mar ⚓", '", "unit": ', '"cm", "days"', ": [1", ", 2, ", "3]", "}}\n", "</tool_call>"),
)
ONE_CALL_INPUT = {"river": "Tamar ⚓", "unit": "cm", "days": [1, 2, 3]}

# The same spelling in other pieces, because a piece may occur only once in a model.
TWO_CALLS = (
    *("I will", " ask for both.", "\n<tool", '_call>\n{"name"', ': "river_', 'level", "arguments"'),
    *(
        ': {"river"',
        ': "Exe"',
        "}}\n</",
        "tool_call>\n<",
        "tool_call>\n{",
        '"name": "river_level", ',
    ),
    *('"arguments": ', '{"river":', ' "Dart', '", "unit"', ': "m"', "}}\n</tool", "_call>"),
)
TWO_CALLS_TEXT = "I will ask for both.\n"
TWO_CALLS_INPUTS = ({"river": "Exe"}, {"river": "Dart", "unit": "m"})

ANSWER = ("It", " stands", " at", " 214", " cm", ", and", " is", " rising 🌊.")
ANSWER_REPLY = "".join(ANSWER)

TOOL_MODEL = ScriptedModel(ONE_CALL, {TOOL_RESULT_LAST: ANSWER, asked_for("both"): TWO_CALLS})

# --- a model that thinks first ---

THOUGHT = "The user wants a level.\n"
THOUGHT_THEN_TEXT = (
    *("<thi", "nk>\n", "The", " user wants", " a level.", "\n</", "think>\n\n"),
    *("Which", " river", " do", " you mean?"),
)
QUESTION_REPLY = "Which river do you mean?"
THOUGHT_THEN_CALL = (
    *("<think>\n", "The user", " wants", " a le", "vel.\n", "</think>", "\n\nOne", " moment.\n<"),
    *("tool_call>\n{", '"name": "river_level"', ', "arguments": {', '"river": "', "Lynher"),
    *('"}}', "\n</tool", "_call>"),
)
THOUGHT_THEN_CALL_TEXT = "One moment.\n"
THOUGHT_THEN_CALL_INPUT = {"river": "Lynher"}
THINKING_MODEL = ScriptedModel(
    THOUGHT_THEN_TEXT,
    {TOOL_RESULT_LAST: ("High", " enough."), TOOLS_GIVEN: THOUGHT_THEN_CALL},
)

# --- a model that takes its time ---

# A table this large takes about 2 ms a token, so its reply of several seconds can be left early.
COUNT = ("I count:", *(f" {number}" for number in range(1, 2001)))
SLOW_MODEL = ScriptedModel(COUNT)

# --- a model that goes on where it stopped ---

# One of these in ten words: whatever cuts an answer cuts it beside them too.
_ODD_WORDS = (
    *(" é", " 🗼", " 東京", " ça", " naïve", " ½", " Ω", " 👩🏽", " ﷺ"),
    *(" ẞ", " →", " ا", " ñ", " 🌊", " —", " 한국", " ß", " 🇫🇷", " ‽"),
)
STORY = (
    "Once",
    *(f" {n}" if n % 10 else _ODD_WORDS[n // 10 - 1] for n in range(1, 200)),
)
STORY_REPLY = "".join(STORY)
STORY_MODEL = ScriptedModel(STORY, reads_pieces=True)
