"""Prove that the documents' own Python examples run, changed only in import and constructor.

The examples stand in `samples/seed_*.py.txt` as their documents have them. The two changes are
made here, in sight; the rest is run as it is against a local server, over real sockets.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelslab_llm import ModelsLab
from modelslab_llm.testing import LocalServer

SAMPLES = Path(__file__).parents[1] / "samples"

IMPORT = "from anthropic import Anthropic\n"
CONSTRUCTOR = re.compile(r"client = Anthropic\(\n.*?\n\)\n", re.DOTALL)

QWEN = "Qwen/Qwen2.5-VL-72B-Instruct-together"
KEY = "YOUR_MODELSLAB_API_KEY"

# example, new import, new constructor, path that is asked, header that carries the key
REPLACED: dict[str, tuple[str, str, str, str, str]] = {
    "v7": (
        "seed_v7",
        "from modelslab_llm import ModelsLab, endpoints\n",
        f'client = ModelsLab("{KEY}", endpoint=endpoints.llm_v7(origin="ORIGIN"))\n',
        "/api/v7/llm/v1/messages",
        "x-api-key",
    ),
    "v7, by its base URL": (
        "seed_v7",
        "from modelslab_llm import ModelsLab\n",
        f'client = ModelsLab(\n    api_key="{KEY}",\n    base_url="ORIGIN/api/v7/llm",\n)\n',
        "/api/v7/llm/v1/messages",
        "x-api-key",  # recognised, as at the address of ModelsLab
    ),
    "gguf": (
        "seed_gguf",
        "from modelslab_llm import ModelsLab, endpoints\n",
        f'client = ModelsLab(\n    "{KEY}",\n'
        '    endpoint=endpoints.gguf("YOUR_DEPLOYMENT_ID", origin="ORIGIN"),\n)\n',
        "/api/gguf/YOUR_DEPLOYMENT_ID/v1/messages",
        "x-api-key",
    ),
    "gguf, by its base URL": (
        "seed_gguf",
        "from modelslab_llm import ModelsLab\n",
        f'client = ModelsLab(\n    api_key="{KEY}",\n'
        '    base_url="ORIGIN/api/gguf/YOUR_DEPLOYMENT_ID",\n)\n',
        "/api/gguf/YOUR_DEPLOYMENT_ID/v1/messages",
        "x-api-key",  # recognised, as at the address of ModelsLab
    ),
}


def replaced(text: str, new_import: str, new_constructor: str, origin: str) -> str:
    """Return an example with its import and its constructor changed, and nothing else."""
    assert text.count(IMPORT) == 1
    assert len(CONSTRUCTOR.findall(text)) == 1
    text = text.replace(IMPORT, new_import)
    return CONSTRUCTOR.sub(lambda _: new_constructor.replace("ORIGIN", origin), text)


@pytest.mark.parametrize("way", REPLACED)
def test_a_documents_example(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It sends what its document means, and prints the answers."""
    name, new_import, new_constructor, path, credential = REPLACED[way]
    example = (SAMPLES / f"{name}.py.txt").read_text(encoding="utf-8")
    with LocalServer(["It computes.\n", "Once upon a time."], api_key=KEY) as server:
        program: dict[str, Any] = {}
        source = replaced(example, new_import, new_constructor, server.url)
        exec(compile(source, f"{name}.py.txt", "exec"), program)
        assert isinstance(program["client"], ModelsLab)
        program["client"].close()  # the example leaves that to the end of the program

    assert capsys.readouterr().out == "It computes.\n\nOnce upon a time."
    assert program["message"].usage.output_tokens == 2
    create, stream = server.requests
    assert (create.path, stream.path) == (path, path)
    assert not create.stream
    assert stream.stream
    wanted = {"model": QWEN if name == "seed_v7" else "local", "max_tokens": 1024}
    quantum = {"role": "user", "content": "Explain quantum computing"}
    story = {"role": "user", "content": "Write a story"}
    assert create.body == {**wanted, "messages": [quantum]}
    assert stream.body == {**wanted, "messages": [story], "stream": True}
    for request in (create, stream):
        assert request.headers[credential].removeprefix("Bearer ") == KEY
        assert len(request.headers.keys() & {"x-api-key", "authorization", "key"}) == 1


def test_the_examples_are_the_documents_own() -> None:
    """An example that was changed on the way would prove nothing."""
    for name, url in (
        ("seed_v7", "https://modelslab.com/api/v7/llm"),
        ("seed_gguf", "https://modelslab.com/api/gguf/YOUR_DEPLOYMENT_ID"),
    ):
        example = (SAMPLES / f"{name}.py.txt").read_text(encoding="utf-8")
        (constructor,) = CONSTRUCTOR.findall(example)
        assert f"api_key={json.dumps(KEY)}" in constructor
        assert f"base_url={json.dumps(url)}" in constructor
        assert "modelslab_llm" not in example
