"""Look into what is published: complete, the same bytes each time, at work where nothing else is.

`make test` builds it here; `make dist` has built it apart, from the sdist, and names the folder in
DIST. What is found there must then be, byte for byte, what is built here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

import modelslab_llm
import modelslab_llm.types
from modelslab_llm import __version__

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.py"
NAME = f"modelslab_llm-{__version__}"
WHEEL = f"{NAME}-py3-none-any.whl"
SDIST = f"{NAME}.tar.gz"
PIP = ("-m", "pip", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path = Path("/")) -> str:
    """Run a command outside the checkout, so that only what is installed can be imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MODELSLAB_"))}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=env, cwd=cwd, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, target: Path) -> Path:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    run(sys.executable, "-m", "hatchling", "build", "--directory", target, cwd=source)
    return target


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist and the wheel."""
    if made := os.environ.get("DIST"):
        return ROOT / made
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel and what it needs, and no extra."""
    return environment(tmp_path_factory.mktemp("env"), dist / WHEEL)


def environment(place: Path, *packages: str | Path) -> Path:
    """Return the Python of a new environment with these packages."""
    venv.create(place)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(sys.executable, *PIP, "--python", python, "install", "--quiet", *packages)
    return python


@pytest.fixture(scope="module")
def metadata(dist: Path) -> Message:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        text = wheel.read(f"{NAME}.dist-info/METADATA").decode()
    return HeaderParser().parsestr(text)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    package = ROOT / "modelslab_llm"
    ours = {path.relative_to(ROOT).as_posix() for path in package.rglob("*.py")}
    ours.add("modelslab_llm/py.typed")
    assert names == ours, f"missing: {sorted(ours - names)}, too much: {sorted(names - ours)}"


@pytest.mark.slow
def test_the_sdist_holds_every_file_of_the_repository(dist: Path) -> None:
    """So what runs in a clone runs in the sdist: its tests read samples, docs, .ci, benchmarks."""
    if not (ROOT / ".git").exists():
        pytest.skip("no clone, so nobody knows which files belong to it")
    tracked = set(run("git", "ls-files", cwd=ROOT).splitlines())
    with tarfile.open(dist / SDIST) as sdist:
        names = {name.removeprefix(f"{NAME}/") for name in sdist.getnames()} - {"PKG-INFO"}
    assert not tracked - names, "missing: does .gitignore or pyproject.toml leave them out?"
    assert not names - tracked, "files that git does not know: add them, or to .gitignore"


@pytest.mark.slow
def test_built_again_elsewhere_it_is_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    with tarfile.open(dist / SDIST) as sdist:
        sdist.extractall(tmp_path / "elsewhere", filter="data")
    again = build(tmp_path / "elsewhere" / NAME, tmp_path / "again")
    for name in (WHEEL, SDIST):
        same = (again / name).read_bytes() == (dist / name).read_bytes()
        assert same, f"{name} differs: in order, times, modes, or built by another hatchling"


@pytest.mark.slow
def test_the_metadata_says_what_is_run(metadata: Message) -> None:
    classifiers = metadata.get_all("Classifier", [])
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(classifiers))
    assert metadata["Requires-Python"] == f">=3.{named[0]}"
    workflow = ROOT / ".github" / "workflows" / "ci.yml"
    for minor in named:
        assert f'"3.{minor}"' in workflow.read_text(encoding="utf-8"), "named, but not run by CI"


@pytest.mark.slow
def test_every_extra_is_explained(metadata: Message) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for extra in metadata.get_all("Provides-Extra", []):
        assert f"modelslab-llm[{extra}]" in text, f"no page says what the extra {extra!r} is for"


def test_the_changelog_begins_with_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changes, re.M)
    assert newest is not None
    assert newest[1] == __version__, "CHANGELOG.md and modelslab_llm/_version.py disagree"


@pytest.mark.slow
def test_the_wheel_runs_the_quickstart_without_any_extra(python: Path) -> None:
    shown = run(python, "-X", "dev", "-W", "error", QUICKSTART)
    assert "Count the waves: one, two, three, four, five." in shown
    assert "AuthenticationError: HTTP 401 authentication_error" in shown
    listed = run(sys.executable, *PIP, "--python", python, "list")
    assert not re.search("pytest|aiohttp|anthropic|trio", listed), listed


@pytest.mark.slow
def test_what_needs_an_extra_names_it(python: Path) -> None:
    code = """
from modelslab_llm import DefaultAioHttpClient
try:
    DefaultAioHttpClient()
except ImportError as error:
    print(error)
"""
    shown = run(python, "-X", "dev", "-W", "error", "-c", code)
    assert "pip install 'modelslab-llm[aiohttp]'" in shown


@pytest.mark.slow
@pytest.mark.skipif("DIST" not in os.environ, reason="make dist does it; make check does the same")
def test_a_program_is_type_checked_against_the_wheel(dist: Path, tmp_path: Path) -> None:
    """The programs bring clients of httpx2 and pictures of Pillow."""
    python = environment(tmp_path / "env", dist / WHEEL, "httpx2", "pillow")
    for program in ("right.py", "wrong.py"):
        shutil.copy(ROOT / "tests" / "typing" / program, tmp_path)
    settings = {"include": ["*.py"], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    strict = ("--strict", "--config-file=", "--cache-dir=mypy", "--python-executable", python)
    run(sys.executable, "-m", "mypy", *strict, "right.py", "wrong.py", cwd=tmp_path)
    run(sys.executable, "-m", "pyright", "--pythonpath", python, "--warnings", cwd=tmp_path)


@pytest.mark.slow
def test_pyright_finds_every_name_after_any_other_file(tmp_path: Path) -> None:
    """A module that imports its own package hides the names it re-exports from the second file."""
    pytest.importorskip("pyright", reason="the oldest versions are not type-checked")
    (tmp_path / "a.py").write_text("from modelslab_llm import ModelsLab\nModelsLab().close()\n")
    names = [*modelslab_llm.__all__, *(f"types.{name}" for name in modelslab_llm.types.__all__)]
    (tmp_path / "b.py").write_text(
        "import modelslab_llm\nimport modelslab_llm.types\n"
        + "".join(f"from modelslab_llm import {name}\n" for name in modelslab_llm.__all__)
        + "".join(f"from modelslab_llm.types import {n}\n" for n in modelslab_llm.types.__all__)
        + "".join(f"print(modelslab_llm.{name})\n" for name in names)
    )
    settings = {"include": ["a.py", "b.py"], "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, cwd=tmp_path)


@pytest.mark.slow
def test_the_quickstart_streams_piece_by_piece() -> None:
    """What `make demo` shows, from the checkout."""
    shown = run(sys.executable, QUICKSTART)
    assert "Server: http://127.0.0.1:" in shown
    assert "→ Your name is Ada." in shown
