"""A GGUF deployment that is starting: wait until it is ready, or fail at once if it never will.

python examples/cold_start.py                          # no key: a local server starts up slowly
MODELSLAB_API_KEY=… MODELSLAB_DEPLOYMENT_ID=… python examples/cold_start.py
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from contextlib import ExitStack

from modelslab_llm import EndpointNotReadyError, ModelsLab
from modelslab_llm.testing import LocalServer


def main() -> None:
    # The package's logger logs one line per try.
    logging.basicConfig(stream=sys.stdout, format="   %(message)s")
    logging.getLogger("modelslab_llm").setLevel(logging.INFO)
    with ExitStack() as stack:
        if os.environ.get("MODELSLAB_API_KEY"):
            greet(stack.enter_context(ModelsLab()))
        else:
            print("No MODELSLAB_API_KEY: a local server plays a gateway and two deployments.")
            server = stack.enter_context(
                LocalServer("Good morning.", deployments={"dep_1": "deploying", "dep_2": "paused"})
            )
            start_up = threading.Timer(1.2, server.deployments.update, [{"dep_1": "ready"}])
            start_up.start()
            for deployment in "dep_1", "dep_2":
                at = server.gguf(deployment)
                greet(stack.enter_context(ModelsLab(server.api_key, endpoint=at)))


def greet(client: ModelsLab) -> None:
    print(f"\nWaiting for {client.endpoint.base_url}")
    try:
        client.wait_until_ready(timeout=600)  # seconds; a pod and its model may take minutes
    except EndpointNotReadyError as error:
        print(f"It is {error.endpoint_status}: {error}")
        return
    # `model` is optional on GGUF deployments, which have only one.
    message = client.messages.create(
        max_tokens=100, messages=[{"role": "user", "content": "Good morning!"}]
    )
    print(message.text)


if __name__ == "__main__":
    main()
