"""Structured output: how to ask for it (`_ask`), read it (`_read`) and stream it (`_stream`).

The public face of the room. Knows no HTTP library; `_client` sends the requests.
"""

from ..endpoints import Strategy
from ._stream import AsyncParsedMessageStream, ParsedMessageStream

__all__ = ["AsyncParsedMessageStream", "ParsedMessageStream", "Strategy"]
