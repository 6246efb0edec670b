"""Fixtures for the command line: a command in this process, and settings of the test's own."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ran, environment

from modelslab_llm.cli import main
from modelslab_llm.testing import LocalServer

Here = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: Path) -> Here:
    """Run a command in this process: its status, and what it wrote."""

    def here(*arguments: str, server: LocalServer | None = None, stdin: bytes = b"") -> Ran:
        for name in ("BASE_URL", "API_KEY", "PROFILE", "MODEL"):
            monkeypatch.delenv(f"MODELSLAB_{name}", raising=False)
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        for name, value in environment(server, home).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        status = main(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Ran(status, out, err)

    return here
