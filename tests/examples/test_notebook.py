"""A message in a notebook, and the example notebook: it runs, and shows what it is stored with.

`python tests/examples/test_notebook.py` stores what it shows now.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lazy import Lazy

from modelslab_llm.types import Message

nbformat = Lazy("nbformat")
nbclient = Lazy("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
SAMPLES = Path(__file__).parents[1] / "samples"


def message(*content: dict[str, Any]) -> Message:
    return Message.model_validate({"role": "assistant", "content": list(content)})


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def call(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "c", "name": "river_level", "input": {}, **fields}


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ([], ""),
        ([text("")], ""),
        ([text("A *text*.\n\n| a | b |")], "A *text*.\n\n| a | b |"),
        ([text("One sen"), text("tence.")], "One sentence."),
        (
            [{"type": "thinking", "thinking": "First\n```\nthis.\n"}, text("Then that.")],
            "> First\n> ```\n> this.\n\nThen that.",
        ),
        ([{"type": "thinking", "thinking": ""}, text("Well.")], "Well."),
        (
            [text("Let me see."), call(input={"river": "Tavy é"}), text("Done.")],
            'Let me see.\n\n```\nriver_level({\n  "river": "Tavy é"\n})\n```\n\nDone.',
        ),
        ([call(input='{"river": ```T')], '````\nriver_level({"river": ```T ... cut\n````'),
        (
            [{"type": "hologram", "depth": 3}, {"type": "redacted_thinking", "data": "c2Vj"}],
            "```\n[hologram]\n```\n\n```\n[redacted_thinking]\n```",
        ),
        ([{"type": None}, {}], "```\n[]\n```\n\n```\n[]\n```"),
    ],
)
def test_a_message_shows_itself_as_markdown(content: list[dict[str, Any]], shown: str) -> None:
    assert message(*content)._repr_markdown_() == shown


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("m*.json")), ids=lambda path: path.stem)
def test_what_servers_send_is_shown_with_its_text(sample: Path) -> None:
    found = Message.model_validate_json(sample.read_bytes())
    assert found.text in found._repr_markdown_()
    assert all(use.name in found._repr_markdown_() for use in found.tool_uses)


@pytest.mark.slow
def test_the_notebook_shows_what_it_is_stored_with() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    assert executed() == stored, (
        "look at what changed, then run: python tests/examples/test_notebook.py"
    )


def executed() -> Any:
    """Run the notebook in its own kernel, and return it with its output."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", record_timing=False
    ).execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version of this Python
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data.pop("text/plain", None)  # long, and not what is looked at
    return notebook


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
