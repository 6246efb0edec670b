"""Bulk runs: ask many rows concurrently and store every result (`client.messages.bulk`).

This room uses only the public client: every request is a `messages.create` or `messages.parse`.
`BulkStore` reads what a run has stored and exports it to files.
"""

from __future__ import annotations

from ._order import BulkOptions
from ._plan import BulkPlan
from ._progress import BulkProgress
from ._result import BulkResult
from ._runs import AsyncBulkRun, BulkRun
from ._store import BulkStore

__all__ = [
    "AsyncBulkRun",
    "BulkOptions",
    "BulkPlan",
    "BulkProgress",
    "BulkResult",
    "BulkRun",
    "BulkStore",
]
