"""Structured output: how it is asked for (`_ask`), read (`_read`) and streamed (`_stream`).

The public face of the room. Knows no HTTP library; `_client` sends what is asked here.
"""

from ..endpoints import Strategy
from ._stream import AsyncParsedMessageStream, ParsedMessageStream

__all__ = ["AsyncParsedMessageStream", "ParsedMessageStream", "Strategy"]
