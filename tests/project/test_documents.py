"""Run or check every fenced block of the README, the docs and the docstrings: none can rot.

A block's language says how: Python is run against the local server, a page's blocks in their order;
JSON is read; of shell commands it is checked that what they name exists; a text is a text. A block
in any other language, or in none, is a failure: say here how it is checked.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import itertools
import json
import logging
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any, NamedTuple

import anyio
import httpx
import pytest
from PIL import Image

import modelslab_llm
from modelslab_llm import (
    DefaultAsyncHttpxClient,
    endpoints,
)
from modelslab_llm._client.messages import AsyncMessages, Messages
from modelslab_llm._client.models import AsyncModels, Models
from modelslab_llm._http.network import AsyncNetwork, Network
from modelslab_llm._http.wires import AsyncDefaultWire, DefaultWire
from modelslab_llm._protocol.config import API_KEY, BASE_URL, DEPLOYMENT_ID
from modelslab_llm.cli._commands import modelslab
from modelslab_llm.testing import LocalServer, ScriptedTransport

ROOT = Path(__file__).parents[2]
BESIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = [*filter(Path.exists, BESIDE), *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        first = self.text.partition("\n")[0]
        return f"{self.page.relative_to(ROOT)}: {self.language or 'no language'}: {first}"


FENCED = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2 *$", re.M | re.S)


def blocks(page: Path) -> list[Block]:
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [Block(page, info.strip(), textwrap.dedent(text)) for _, _, info, text in found]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> Any:
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=lambda block: str(block)[:60])


def test_no_block_is_left_unchecked() -> None:
    # Sessions at a terminal, `console`, are run by tests/cli/test_page.py.
    checked = {"python", "py", "json", "sh", "text", "toml", "console"}
    unchecked = [str(block) for block in BLOCKS if block.language not in checked]
    assert not unchecked, f"begin each with a language of {sorted(checked)}: {unchecked}"


# Python


@pytest.fixture
def _everything_is_local(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lead each request to a local server, wherever the text sends it."""
    with LocalServer(api_key=None) as server:
        here = httpx.URL(server.url)
        to_server = httpx.HTTPTransport.handle_request
        to_server_async = httpx.AsyncHTTPTransport.handle_async_request

        def led(request: httpx.Request) -> httpx.Request:
            # Else it is a server that the page itself started; 8765 is one for a shell.
            if request.url.host != here.host or request.url.port == 8765:
                request.url = request.url.copy_with(scheme="http", host=here.host, port=here.port)
            return request

        def send(self: Any, request: httpx.Request) -> httpx.Response:
            return to_server(self, led(request))

        async def asend(self: Any, request: httpx.Request) -> httpx.Response:
            return await to_server_async(self, led(request))

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", asend)
        monkeypatch.setenv("MODELSLAB_API_KEY", "a-key-of-the-docs")
        log = logging.getLogger("modelslab_llm")
        level = log.level
        yield
        log.setLevel(level)  # a page on logging changes it


@contextlib.contextmanager
def closing_what_is_left_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A page need not show `close` at every turn."""
    opened: list[Any] = []

    def noting(kind: type[Any]) -> None:
        build = kind.__init__

        def built(self: Any, *settings: Any, **named: Any) -> None:
            opened.append(self)
            build(self, *settings, **named)

        monkeypatch.setattr(kind, "__init__", built)

    noting(Network)
    noting(AsyncNetwork)
    noting(DefaultAsyncHttpxClient)  # on aiohttp
    noting(DefaultWire)  # as garbage before its network is closed, it would warn
    noting(AsyncDefaultWire)
    try:
        yield
    finally:
        for client in opened:
            if isinstance(client, (Network, AsyncNetwork)):
                client.close()
            elif isinstance(client, DefaultAsyncHttpxClient) and not client.is_closed:
                anyio.run(client.aclose)


def run(code: str, where: str, names: dict[str, Any]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, where, "exec", dont_inherit=True), names)


def python_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [*filter(python_of, PAGES)], ids=lambda page: page.name)
@pytest.mark.usefixtures("_everything_is_local")
def test_every_python_block_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    names: dict[str, Any] = {"__name__": page.stem}
    with closing_what_is_left_open(monkeypatch):
        for block in python_of(page):  # in order: a later block may use what an earlier one made
            run(block.text, str(page), names)


@pytest.mark.slow
def test_the_page_on_testing_is_a_module_of_tests(tmp_path: Path) -> None:
    """Its tests pass in their own project, first recorded and then replayed."""
    text = "\n\n".join(block.text for block in python_of(ROOT / "docs" / "testing.md"))
    (tmp_path / "test_page.py").write_text(text, encoding="utf-8")
    written = len(re.findall(r"^(?:async )?def test_", text, re.M))
    options = ["asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function"]
    with LocalServer(api_key=None) as server:
        env = {**os.environ, BASE_URL: server.llm_v7().base_url, API_KEY: "a-key-of-the-docs"}
        # By hand the page records once; all else of recordings asks if it is told to record.
        for record, requests in (("1", 3), ("0", 1)):
            asked = len(server.requests)
            ran = subprocess.run(
                [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
                + [word for option in options for word in ("-o", option)],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={**env, "MODELSLAB_RECORD": record},
            )
            assert ran.returncode == 0, ran.stdout
            passed = re.search(r"(\d+) passed", ran.stdout)
            assert passed is not None
            assert int(passed[1]) >= written
            assert len(server.requests) - asked == requests


@of("py")
def test_python_for_another_package_is_python(block: Block) -> None:
    compile(block.text, str(block.page), "exec", dont_inherit=True)


# Docstrings


def public_modules() -> list[ModuleType]:
    names = [
        module.name for module in pkgutil.walk_packages(modelslab_llm.__path__, "modelslab_llm.")
    ]
    public = [name for name in names if not re.search(r"\._", name)]
    return [modelslab_llm, *map(importlib.import_module, public)]


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of the public modules, of what they export, and of its methods."""
    for module in public_modules():
        yield module.__name__, inspect.getdoc(module) or ""
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            yield f"{module.__name__}.{name}", doc_of(value)
            for key, inner in vars(value).items() if inspect.isclass(value) else ():
                if not key.startswith("_"):
                    yield f"{module.__name__}.{name}.{key}", doc_of(inner)

    for kind in (Messages, AsyncMessages, Models, AsyncModels):  # which a client has, no module
        for key, inner in vars(kind).items():
            if not key.startswith("_"):
                yield f"{kind.__name__}.{key}", doc_of(inner)


def doc_of(value: object) -> str:
    """Its own docstring; a plain value would show that of its type."""
    is_alias = isinstance(value, GenericAlias)  # a class, to Python 3.10
    has_its_own = not is_alias and (
        inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)
    )
    return inspect.getdoc(value) or "" if has_its_own else ""


INDENTED = re.compile(r"(?:^    .*\n?(?:\n(?=    ))*)+", re.M)


def examples() -> dict[str, str]:
    """The indented code of docstrings, by where it stands; what is no Python is a picture."""
    found: dict[str, str] = {}
    for path, text in docstrings():
        for indented in INDENTED.findall(doctest_free(text)):
            code = textwrap.dedent(indented)
            with contextlib.suppress(SyntaxError):
                compile(code, path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                found.setdefault(code, path)
    return {path: code for code, path in found.items()}


def doctest_free(text: str) -> str:
    return re.sub(r"^ *>>>.*(?:\n.+)*", "", text, flags=re.M)


@pytest.mark.parametrize(("path", "code"), examples().items(), ids=examples())
@pytest.mark.usefixtures("_everything_is_local")
def test_the_examples_of_docstrings_run(
    path: str, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They may use what a reader has: a client, a chat body, and a picture in this folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 3)).save("photo.jpg")
    question = {"role": "user", "content": "Hello!"}
    with closing_what_is_left_open(monkeypatch):
        names: dict[str, Any] = {
            name: getattr(modelslab_llm, name) for name in modelslab_llm.__all__
        }
        says = ScriptedTransport('{"value": ["Exe"]}')  # an output, too, where one is asked for
        make = says.async_client if path.startswith("Async") else says.client
        names["client"] = make(deployment_id="dep_1")
        names["body"] = {"model": "m", "messages": [question]}
        if path.startswith("Async"):
            anyio.run(arun, code, path, names)
        else:
            run(code, path, names)


async def arun(code: str, where: str, names: dict[str, Any]) -> None:
    """Run code with `await` in it, as a notebook does."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with contextlib.redirect_stdout(io.StringIO()):
        result = eval(compile(code, where, "exec", flags, dont_inherit=True), names)
        if result is not None:
            await result
    await names["client"].close()


@pytest.mark.parametrize("file", sorted((ROOT / "modelslab_llm").rglob("*.py")), ids=str)
def test_every_doctest_is_found(file: Path) -> None:
    """pytest runs what `doctest` finds: not the docstring of a field or of a nested function."""
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.DocTestFinder().find(importlib.import_module(name))
    written = re.findall(r"^ *>>> ", file.read_text(encoding="utf-8"), re.M)
    assert sum(len(test.examples) for test in found) == len(written)


# What is read, and what is named


@of("json")
def test_every_json_block_is_json(block: Block) -> None:
    """One value after another; those that answer a request begin with the status."""
    rest = block.text
    while rest := re.sub(r"\A\s*(\d{3}\s)?\s*", "", rest):
        _, end = json.JSONDecoder().raw_decode(rest)
        rest = rest[end:]


def make(words: list[str]) -> None:
    phony = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert phony is not None
    targets = [word for word in words if "=" not in word]
    gone = set(targets) - set(phony[1].split())
    assert not gone, f"no target of the Makefile: {sorted(gone)}"


def pip(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert words[0] == "install"
    for asked in (word for word in words[1:] if not word.startswith("-")):
        name, _, extras = asked.rstrip("]").partition("[")
        if name in ("modelslab-llm", "."):  # from an index, from a clone
            for extra in filter(None, extras.split(",")):
                assert re.search(rf"^{extra} = \[", project, re.M), f"no extra: {extra}"
        else:
            assert f'"{name}' in project, f"{name}: no test has it"


def python(words: list[str]) -> None:
    if words[0] != "-m":
        assert (ROOT / words[0]).is_file(), f"no such file: {words[0]}"
        return
    shown = subprocess.run(
        [sys.executable, *words[:2], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for word in words[2:]:
        known = not word.startswith("-") or word.partition("=")[0] in shown
        assert known, f"python {' '.join(words[:2])} knows no {word}"


def export(words: list[str]) -> None:
    """A variable that is read here, or one with the value that Claude Code is given."""
    name, _, value = words[0].partition("=")
    model = "Qwen/Qwen2.5-VL-72B-Instruct-together"
    given = endpoints.llm_v7().claude_code_env("YOUR_MODELSLAB_API_KEY", model)
    assert name in (API_KEY, BASE_URL, DEPLOYMENT_ID) or given[name] == value


def modelslab_command(words: list[str]) -> None:
    """Each option is one of its command, up to what belongs to another program."""
    command: Any = modelslab
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if command.name == "serve":
        python(["-m", "modelslab_llm.testing", *words])
        return
    known = {spelling for param in command.params for spelling in param.opts}
    for word in itertools.takewhile(lambda word: word not in ("--", "|", ";"), words):
        assert not word.startswith("-") or word in {*known, "-"}, f"{command.name} knows no {word}"


def curl(words: list[str]) -> None:
    """Send it; the fixture leads it to the local server."""
    url = next(word for word in words if word.startswith("http"))
    given = [(option, value) for option, value in itertools.pairwise(words)]
    headers = dict(value.split(": ", 1) for option, value in given if option == "-H")
    body = "".join(value for option, value in given if option == "-d")
    answer = httpx.post(url, content=body, headers=headers)
    assert answer.status_code == 200, answer.text


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "make": make,
    "pip": pip,
    "python": python,
    "export": export,
    "curl": curl,
    "modelslab": modelslab_command,
    "eval": lambda _: None,
    "while": lambda _: None,
    "git": lambda _: None,
    "pre-commit": lambda _: None,
    "cd": lambda _: None,
}


@pytest.mark.slow
@of("sh")
@pytest.mark.usefixtures("_everything_is_local")
def test_what_a_command_names_exists(block: Block) -> None:
    without_comments = re.sub(r"(?:^|\s)#.*", "", block.text.replace("\\\n", " "), flags=re.M)
    for command in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\n'\"])+", without_comments):
        words = shlex.split(command)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words:
            name = os.path.basename(words[0])
            assert name in COMMANDS, f"say in COMMANDS how {name} is checked"
            COMMANDS[name](words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"no such file: {target}"


def test_the_tree_of_errors_is_the_tree() -> None:
    """Who stands under whom, and that nobody is missing."""
    page = blocks(ROOT / "docs" / "errors.md")
    tree = next(block.text for block in page if block.language == "text")
    above: list[tuple[int, type[BaseException]]] = []
    for line in tree.splitlines():
        if named := re.match(r"[ │├└─]*(\w+Error)\b", line):
            error = getattr(modelslab_llm.errors, named[1])
            depth = named.start(1)
            above = [(d, parent) for d, parent in above if d < depth]
            assert not above or issubclass(error, above[-1][1]), line
            above.append((depth, error))
    assert set(re.findall(r"\b[A-Z]\w+Error\b", tree)) - {"ValueError"} == set(
        modelslab_llm.errors.__all__
    )


def test_the_picture_of_the_package_is_whole() -> None:
    picture = next(block.text for block in blocks(ROOT / "docs" / "architecture.md"))
    package = ROOT / "modelslab_llm"
    files = {file.name for file in package.glob("*.py")} - {"__init__.py", "_version.py"}
    folders = {f"{file.parent.name}/" for file in package.glob("*/__init__.py")}
    shown = set(re.findall(r"^  (\w+(?:\.py|/))", picture, re.M))
    assert shown == files | folders, (
        f"docs/architecture.md: add a line for {sorted((files | folders) - shown)},"
        f" take out {sorted(shown - files - folders)}"
    )


SHOWN = re.compile(r"^::: (\S+)\n((?:    .*(?:\n|$))*)", re.M)


def test_the_reference_has_every_public_name() -> None:
    """Each once: by its own name, by the module that exports it, or as one `members` of that."""
    said: list[str] = []
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for name, options in SHOWN.findall(page.read_text(encoding="utf-8")):
            found = re.search(r"^ +members: \[([^]]*)\]", options, re.M)
            members = found[1].replace(",", " ").split() if found else []
            said += [f"{name}.{member}" for member in members] or [name]
    twice = {name for name in said if said.count(name) > 1}
    assert not twice, f"in docs/reference more than once: {sorted(twice)}"
    shown: set[Any] = set()
    of_clients = {
        f"modelslab_llm.{client}.{resource}"
        for client in ("ModelsLab", "AsyncModelsLab")
        for resource in ("messages", "models")
    }
    assert of_clients < {*said}
    for name in {*said} - of_clients:
        module, _, last = name.rpartition(".")
        with contextlib.suppress(ImportError):
            found = importlib.import_module(name)
            shown |= {f"{name}.{entry}" for entry in found.__all__}
            continue
        assert hasattr(importlib.import_module(module), last), name
        shown.add(name)
    values = [value_of(name) for name in shown]
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not inspect.ismodule(value) and name != "__version__":
                assert any(value is known for known in values), (
                    f"no page of docs/reference has ::: {module.__name__}.{name}"
                )


def value_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_promise_of_security_is_held_by_a_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## Promises")[2].partition("## Limits")[0]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promises)
    for file, test in named:
        there = f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
        assert there, f"SECURITY.md names a test that does not exist: {file}::{test}"
    for promise in re.findall(r"^\*\*.*?(?=^\*\*|\Z)", promises, re.M | re.S):
        assert "`tests/" in promise, f"name the test that holds it: {promise}"
    assert len(named) > 10


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "index.md"], ids=str)
def test_the_ratios_that_are_quoted_were_measured(page: Path) -> None:
    """Copy them from docs/performance.md, which `make bench` writes."""
    text = page.read_text(encoding="utf-8")
    ratios = re.findall(r"\| ([\d./]+(?: ×)?) \|$", text.partition("`make bench`")[2], re.M)
    measured = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert len(ratios) == 6
    assert [ratio for ratio in ratios if f"| {ratio} |" not in measured] == []
