"""Measure this package, bare httpx and the `anthropic` SDK side by side. Not part of the package.

`python -m benchmarks` runs everything. `server` gives canned answers, `contenders` says how each
library is used, `measure` times one of them in a process of its own, `rows` says what is compared
and how fast it must be, `report` shows what came out.
"""
