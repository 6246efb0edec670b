"""Run one real LiteLLM proxy on loopback for a test; it ends only the process it started."""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import httpx

from real.parts import clean, python_of

START_SECONDS = 300.0
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.1
_TRIES = 3  # for a port: somebody else may take it between asking for it and listening on it


class Gateway:
    """A context manager around one LiteLLM proxy; inside it, the proxy answers at ``url``.

    ``routes`` are its models by the names that clients use: for each, LiteLLM's own parameters.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, str]], *, key: str = "sk-proxy-key"):
        self.key = key
        self.url = ""
        self._routes = routes
        self._python = python_of("gateway")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Gateway:
        self._stack = ExitStack()
        self._variables = self._stack.enter_context(clean())
        self._home = Path(self._variables["HOME"])
        models = [{"model_name": n, "litellm_params": dict(p)} for n, p in self._routes.items()]
        config = {
            "model_list": models,
            "general_settings": {"master_key": self.key},
            "litellm_settings": {"telemetry": False, "num_retries": 0},
        }
        (self._home / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
        atexit.register(self.stop)  # for a test run that ends without leaving the block
        try:
            for left in reversed(range(_TRIES)):
                if self._started(last=not left):
                    break
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _started(self, *, last: bool) -> bool:
        """Start it on a free port until it answers; False if another program took the port."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        program = self._python.parent / "litellm"
        where = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
        with open(self._home / "log", "wb") as log:
            self._process = subprocess.Popen(
                [str(program), *where, "--telemetry", "False"],
                cwd=self._home,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                if not last and "address already in use" in self.log():
                    return False
                raise RuntimeError(f"LiteLLM ended with {self._process.returncode}:\n{self.log()}")
            if self._is_ready():
                return True
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"LiteLLM did not start in {START_SECONDS:.0f} s:\n{self.log()}")

    def _is_ready(self) -> bool:
        headers = {"authorization": f"Bearer {self.key}"}
        try:
            answer = httpx.get(f"{self.url}/v1/models", headers=headers, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def log(self) -> str:
        """What it has printed so far."""
        return (self._home / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End the process, politely at first. Stopping twice is fine."""
        atexit.unregister(self.stop)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stack.close()
