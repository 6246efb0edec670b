"""Run a `LocalServer` from a shell: for a demo, for another language, for Claude Code.

Must not decide what is answered: it reads its arguments, and prints what comes and goes.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, get_args

from ._dialect.dialects import DialectName
from ._script.received import ReceivedRequest
from ._script.script import Script
from ._script.script_file import script_in
from ._serve.plan import Plan
from ._serve.scripted import KEY
from ._serve.server import LocalServer

FORMAT = """\
A script is a JSON file with one answer for every call, or a list with one for each. An answer is
  "a text"
  {"content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}], "pause": 0.2}
      what the model says, as in Reply: content, stop_reason, stop_sequence, usage, model, id,
      pause, split ("word", "character" or a number of bytes), headers, and fault, what goes
      wrong with it, as in Fault: {"kind": "cut", "after": 3}, {"kind": "stall", "within": 2}, ...
  {"status": 529, "message": "Come back later."}
      an error, as in ErrorReply: status, message, type, headers, body
  {"type": "message", ...}
      the whole body of a message, sent as it is
"""


def main(
    arguments: Sequence[str] | None = None, program: str = "python -m modelslab_llm.testing"
) -> int:
    """Serve until Ctrl-C or SIGTERM, and return 0; exit with 2 where the arguments do not fit.

    `program` is what the help calls it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        parser = _parser(program)
        asked = parser.parse_args(arguments)
        script: Script = asked.say if asked.script is None else _script(parser, asked)
        lines: SimpleQueue[str] = SimpleQueue()
        server = _Telling(
            lines,
            script,
            api_key=asked.api_key or None,
            pause=asked.pause,
            dialect=asked.dialect,
            port=asked.port,
        )
        try:
            server.start()
        except OSError as error:
            parser.error(f"cannot serve at port {asked.port}: {error.strerror}")
        try:
            print(_welcome(server), flush=True)
            _tell(lines)
        finally:
            server.close()
    except KeyboardInterrupt:
        return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Serve the Messages protocol on this machine, without a model: by an echo of "
        "the last user text, or by a script.",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    says = parser.add_mutually_exclusive_group()
    says.add_argument("--say", metavar="TEXT", help="answer every call with this text")
    says.add_argument(
        "--script", metavar="FILE", type=Path, help="answer from a JSON file; see below"
    )
    parser.add_argument("--port", metavar="N", type=_port, default=0, help="default 0: a free port")
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        choices=get_args(DialectName),
        default="anthropic",
        help="the server dialect to emulate, one of %(choices)s; default %(default)s",
    )
    parser.add_argument(
        "--pause",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help="the time between two pieces of a stream; default 0",
    )
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        type=_key,
        default=KEY,
        help="the key to accept; '' accepts any key, or none; default %(default)s",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: use seconds, 0 or more")
    return seconds


def _key(text: str) -> str:
    if text != text.strip() or not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be sent: use printable ASCII")
    return text


def _script(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> Script:
    try:
        return script_in(asked.script.read_text(encoding="utf-8"), pause=asked.pause)
    except OSError as error:
        parser.error(f"cannot read {asked.script}: {error.strerror}")
    except ValueError as error:  # no script, or no UTF-8
        parser.error(f"{asked.script}: {error}")


def _tell(lines: SimpleQueue[str]) -> NoReturn:
    while True:
        with suppress(Empty):  # a look around, so that Ctrl-C is heard on every system
            print(lines.get(timeout=1), flush=True)


def _welcome(server: LocalServer) -> str:
    key = server.api_key or "any"
    here, claude = server.llm_v7(), server.gateway().claude_code_env(key)
    who = f"the key is {key}" if server.api_key else "it accepts any key"
    return "\n".join(
        [
            f"A scripted server until Ctrl-C; {who}.",
            "",
            f"  v7       {here.base_url}",
            f"  gguf     {server.gguf('any-deployment-id').base_url}",
            f"  gateway  {server.gateway().base_url}",
            "",
            "For ModelsLab() in another shell:",
            *_exports({"MODELSLAB_BASE_URL": here.base_url, "MODELSLAB_API_KEY": key}),
            "",
            "For Claude Code:",
            *_exports(claude),
            "",
        ]
    )


def _exports(env: dict[str, str]) -> list[str]:
    return [f"  export {name}={shlex.quote(value)}" for name, value in env.items()]


class _Telling(LocalServer):
    """A `LocalServer` that puts a line about each request into a queue."""

    def __init__(self, lines: SimpleQueue[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lines = lines

    def _respond(self, request: ReceivedRequest) -> Plan:
        plan = super()._respond(request)
        self._lines.put(_line(request, plan))
        return plan


def _line(request: ReceivedRequest, plan: Plan) -> str:
    """Describe a request and its response in one line, without headers or texts."""
    words = [request.method, request.path, str(plan.status or "no answer")]
    match request.body:
        case {"model": str(model)}:
            words.append(f"model {model if model.isprintable() else repr(model)}")
        case _:
            pass
    if plan.headers.get("content-type", "").startswith("text/event-stream"):
        words.append("streamed")
    return " ".join(words) + (f", then {plan.ending}" if plan.ending != "end" else "")


if __name__ == "__main__":
    sys.exit(main())
