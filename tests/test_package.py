"""Build the wheel, install it where nothing else is, and run the quickstart there."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from modelslab_llm import __version__

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "examples" / "quickstart.py"


def run(*command: str | Path, **more: str) -> str:
    """Run a command outside the checkout, so that only what is installed can be imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MODELSLAB_"))}
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        env=env | more,
        cwd="/",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", target, ROOT)
    (found,) = target.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"modelslab_llm-{__version__}-py3-none-any.whl"
    assert "modelslab_llm/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"modelslab_llm", f"modelslab_llm-{__version__}.dist-info"}


def test_the_wheel_runs_the_quickstart_without_any_extra(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", wheel)
    shown = run(python, "-X", "dev", "-W", "error", QUICKSTART)
    assert "Count the waves: one, two, three, four, five." in shown
    assert "AuthenticationError: HTTP 401 authentication_error" in shown
    listed = run(python, "-m", "pip", "--disable-pip-version-check", "list")
    assert "pytest" not in listed


def test_the_quickstart_streams_piece_by_piece() -> None:
    """What `make demo` shows, from the checkout."""
    shown = run(sys.executable, QUICKSTART)
    assert "Server: http://127.0.0.1:" in shown
    assert "→ You said: What is my name?" in shown
