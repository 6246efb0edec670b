"""Print a constraint for each run-time dependency: the oldest version that the metadata allows.

It reads what is installed, so what pip itself reads; nothing is listed twice.
"""

import re
from importlib.metadata import requires

for requirement in requires("modelslab-llm") or []:
    bound = re.match(r"([\w.-]+).*?>=([\w.]+)", requirement)
    if bound is None:
        raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound")
    print(f"{bound[1]}=={bound[2]}")
