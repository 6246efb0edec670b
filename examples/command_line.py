"""A shell command: reads arguments and a pipe, streams the answer, and sets an exit status.

python examples/command_line.py What is a fjord?       # no key: a local server echoes
git diff | MODELSLAB_API_KEY=… python examples/command_line.py --system "Be brief." Explain this.

Only the answer goes to stdout. The exit status tells what kind of failure it was: see STATUS.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack

from modelslab_llm import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    InternalServerError,
    InvalidRequestError,
    ModelsLab,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
)
from modelslab_llm.testing import LocalServer

MODEL = os.environ.get("MODELSLAB_MODEL", "Qwen/Qwen2.5-VL-72B-Instruct-together")

STATUS: dict[type[ModelsLabError], int] = {
    InvalidRequestError: 2,  # the command is wrong: the same status as for an unknown option
    ConfigurationError: 2,
    BadRequestError: 2,
    AuthenticationError: 3,  # the account is wrong: somebody has to fix the key or the bill
    PermissionDeniedError: 3,
    PaymentRequiredError: 3,
    RateLimitError: 4,  # temporary: try again later
    InternalServerError: 4,
    APIConnectionError: 4,
    APIStatusError: 5,  # any other error status from the server
    ModelsLabError: 5,
}
"""Exit statuses; the first class that matches counts. 0 is a complete answer, 6 a truncated one."""
CUT = 6


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a model.")
    parser.add_argument("question", nargs="*", help="piped input is appended to it")
    parser.add_argument("--system", help="the system prompt")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--max-tokens", type=int, default=1000)
    options = parser.parse_args()

    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    question = "\n\n".join(filter(None, [" ".join(options.question), piped.strip()]))
    if not question:
        parser.error("pass a question, or pipe one in")

    try:
        with ExitStack() as stack:
            if os.environ.get("MODELSLAB_API_KEY"):
                client = stack.enter_context(ModelsLab())
            else:
                server = stack.enter_context(LocalServer(pause=0.02))
                client = stack.enter_context(ModelsLab(server.api_key, endpoint=server.llm_v7()))
                print("No MODELSLAB_API_KEY: a local server echoes.", file=sys.stderr)
            return ask(client, question, options)
    except ModelsLabError as error:
        print(f"\n{type(error).__name__}: {error}", file=sys.stderr)
        return next(status for kind, status in STATUS.items() if isinstance(error, kind))
    except KeyboardInterrupt:
        return 130  # the shell convention: 128, and 2 for SIGINT
    except BrokenPipeError:  # the reader of stdout has closed it, as in `… | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing it fails again
        return 141


def ask(client: ModelsLab, question: str, options: argparse.Namespace) -> int:
    with client.messages.stream(
        model=options.model,
        max_tokens=options.max_tokens,
        system=options.system,
        messages=[{"role": "user", "content": question}],
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
        message = stream.get_final_message()
    print(flush=True)
    if message.stop_reason == "max_tokens":
        print(
            f"truncated after {message.usage.output_tokens} tokens; raise --max-tokens",
            file=sys.stderr,
        )
        return CUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
