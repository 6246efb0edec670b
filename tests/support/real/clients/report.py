"""Print what a client was told, as one line of JSON, for the test that started it."""

import json
from importlib.metadata import version


def report(**told: object) -> None:
    print(json.dumps(told))


def version_of(package: str) -> str:
    return version(package)
