"""The `anthropic` package at the same endpoints, configured from an `Endpoint`.

pip install anthropic
python examples/with_anthropic.py                      # no key: a local server echoes
MODELSLAB_API_KEY=… python examples/with_anthropic.py  # the real service
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from modelslab_llm import Endpoint, ModelsLab
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")


def main() -> None:
    if find_spec("anthropic") is None:
        print("Nothing to show: anthropic is not installed. Run `pip install anthropic` first.")
        return
    if key := os.environ.get("MODELSLAB_API_KEY"):
        with ModelsLab() as client:
            ask(client.endpoint, key)
        return
    print("No MODELSLAB_API_KEY: a local server echoes.")
    with LocalServer() as server:
        assert server.api_key is not None
        for endpoint in (server.llm_v7(), server.gguf("dep_123"), server.gateway()):
            ask(endpoint, server.api_key)


def ask(endpoint: Endpoint, api_key: str) -> None:
    import anthropic

    with anthropic.Anthropic(base_url=endpoint.base_url, api_key=api_key) as client:
        message = client.messages.create(
            model=endpoint.default_model or MODEL,
            max_tokens=100,
            messages=[{"role": "user", "content": f"Hello, {endpoint.name}!"}],
        )
    print(endpoint.base_url)
    for block in message.content:
        if block.type == "text":
            print(f"   {block.text}")


if __name__ == "__main__":
    main()
