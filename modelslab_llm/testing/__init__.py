"""A scripted Messages server, for demos and for your own tests.

A `LocalServer` speaks the protocol on a real local socket, as v7, as GGUF deployments and as a
gateway, streams included. A `ScriptedTransport` does the same without a socket, inside the program.
Both need no key and no network. They echo by default, or answer from a script (with faults, and in
the dialect of a given server), and keep the requests they received::

    from modelslab_llm import ModelsLab
    from modelslab_llm.testing import ErrorReply, LocalServer

    with LocalServer([ErrorReply(529), "Paris."]) as server:
        client = ModelsLab(endpoint=server.llm_v7(), api_key=server.api_key)
        message = client.messages.create(
            model="any", max_tokens=64, messages=[{"role": "user", "content": "France's capital?"}]
        )
        assert message.text == "Paris."  # the 529 was retried
        assert len(server.requests) == 2
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._dialect.dialects import DialectName
    from ._record.recording import Recording
    from ._record.tape import RecordingError
    from ._script.fault import Fault
    from ._script.received import ReceivedRequest
    from ._script.script import ErrorReply, Reply, ReplyLike, Script
    from ._serve.in_process import ScriptedTransport
    from ._serve.server import LocalServer

__all__ = [
    "DialectName",
    "ErrorReply",
    "Fault",
    "LocalServer",
    "ReceivedRequest",
    "Recording",
    "RecordingError",
    "Reply",
    "ReplyLike",
    "Script",
    "ScriptedTransport",
]

# Loaded when first asked for, as in the package itself: pytest loads the plugin in every project.
_FROM = {
    "_dialect.dialects": "DialectName",
    "_script.fault": "Fault",
    "_script.received": "ReceivedRequest",
    "_record.recording": "Recording",
    "_script.script": "ErrorReply Reply ReplyLike Script",
    "_serve.server": "LocalServer",
    "_record.tape": "RecordingError",
    "_serve.in_process": "ScriptedTransport",
}
_LATER = {name: module for module, names in _FROM.items() for name in names.split()}

if not TYPE_CHECKING:  # as in the package itself

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f".{_LATER[name]}", __name__), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted(__all__)
