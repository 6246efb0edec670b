"""Import what the methods of the features need. Only `late` loads this module.

Nothing is decided here.
"""

from __future__ import annotations

from ..bulk import AsyncBulkRun as AsyncBulkRun
from ..bulk import BulkOptions as BulkOptions
from ..bulk import BulkRun as BulkRun
from ..bulk._order import Order as Order
from ..conversation import AsyncToolRunner as AsyncToolRunner
from ..conversation import ToolRunner as ToolRunner
from ..conversation._tool_loop import ToolLoop as ToolLoop
from ..openai._route import CHAT as CHAT
from ..structured import AsyncParsedMessageStream as AsyncParsedMessageStream
from ..structured import ParsedMessageStream as ParsedMessageStream
from ..structured._ask import output_request as output_request
from ..structured._ask import parsing as parsing
from ..structured._read import OutputRequest as OutputRequest
