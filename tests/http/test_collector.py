"""A stream that was left in a reference cycle must not deadlock whoever the collector interrupts.

The collector may run inside any allocation, so also while a thread holds a pool's lock.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from modelslab_llm.testing import LocalServer, Reply

LEAVE_AND_ASK = """
import gc, sys
from modelslab_llm import ModelsLab

client = ModelsLab(base_url=sys.argv[1], api_key=sys.argv[2], timeout=5)
asked = dict(model="m", max_tokens=9, messages=[{"role": "user", "content": "Go on"}])

def leave():
    stream = client.messages.stream(**asked)
    next(stream)
    cycle = [stream]
    cycle.append(cycle)

gc.freeze()  # what was imported need not be looked over again and again
for allocations in range(0, 240, 5):  # the collector runs a little later each time
    gc.disable()
    gc.collect()
    leave()
    gc.set_threshold(gc.get_count()[0] + allocations)
    gc.enable()
    client.messages.create(**asked)
gc.set_threshold(700)
gc.collect()
client.messages.create(**asked)
network = client._http.network
assert network and all(one.is_clean for one in network._connections.everything())
client.close()
print("all well")
"""


@pytest.mark.slow
def test_a_stream_left_in_a_cycle_blocks_nobody() -> None:
    with LocalServer(Reply("one two three four", pause=0.002)) as server:
        done = subprocess.run(
            [sys.executable, "-c", LEAVE_AND_ASK, server.url, server.api_key or ""],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout == "all well\n", done.stderr
