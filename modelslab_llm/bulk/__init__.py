"""Ask many rows at once, keep what comes, and lose nothing: `client.messages.bulk`.

It is built on the public client alone: every request is a `messages.create` or `messages.parse`.
`BulkStore` reads what a run has stored, and writes it to files.
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
