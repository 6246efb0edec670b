"""Hold what the file tree promises: who may import whom, what names httpx, what is public.

When one of these fails, its message says what to do. Move the line to where it belongs; widen a
table only for a new module.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from typing_extensions import get_type_hints

import modelslab_llm
from modelslab_llm import (
    _client,
    _parse,
    _runner,
    _stream,
    conversation,
    endpoints,
    errors,
    media,
    openai,
    tools,
    types,
)
from modelslab_llm.types import content, events, message, models, parsed, requests

PACKAGE = Path(modelslab_llm.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# A module may import from the layers below its own, and from its own where that makes no circle.
LAYERS = [
    ["_version", "_sniff", "_faults", "_moved"],
    ["errors", "types._base"],
    ["_refusals", "endpoints", "types.content", "types.models"],
    ["types.message"],
    ["types.events", "types.parsed", "types.requests"],
    ["types", "_docstrings", "_schema"],
    ["_retry", "tools", "media"],
    ["_config", "_json"],
    ["_check", "_sse", "_accumulate", "_partial", "_unpack", "_history"],
    ["_output"],
    ["_reader"],
    ["_calls", "_stream", "_tool_loop", "_chat", "conversation"],
    ["openai"],
    ["_exchange", "_runner"],
    ["_parse"],
    ["_pools", "_sockets", "_pace"],
    ["_foreign", "_transport"],
    ["_http_clients"],
    ["_drive"],
    ["_client"],
    ["__init__"],
    ["testing._difference", "testing._fault", "testing._cleaner"],
    ["testing._received"],
    ["testing._tape"],
    ["testing._script"],
    ["testing._events"],
    ["testing._models", "testing._rewrites", "testing._envelopes"],
    ["testing._dialects", "testing._kinds"],
    ["testing._plan", "testing._refusals"],
    ["testing._operations"],
    ["testing._routes"],
    ["testing._clients"],
    ["testing._scripted"],
    ["testing._transport", "testing._server", "testing._recording"],
    ["testing"],
    ["testing._guard", "testing._script_file"],
    ["testing.__main__"],
    ["testing.plugin"],
]
LAYER = {name: height for height, names in enumerate(LAYERS) for name in names}

NAMES_HTTPX = {"_client", "_drive", "_foreign", "_http_clients", "_transport"}
NAMES_HTTPX |= {"testing._recording", "testing._transport"}
PURE = {
    "_accumulate",
    "_calls",
    "_chat",
    "_check",
    "_config",
    "_docstrings",
    "_exchange",
    "_faults",
    "_history",
    "_json",
    "_moved",
    "_output",
    "_parse",
    "_partial",
    "_pools",
    "_reader",
    "_refusals",
    "_retry",
    "_schema",
    "_sniff",
    "_sse",
    "_stream",
    "_tool_loop",
    "_unpack",
    "conversation",
    "endpoints",
    "errors",
    "openai",
    "testing._cleaner",
    "testing._dialects",
    "testing._difference",
    "testing._envelopes",
    "testing._events",
    "testing._fault",
    "testing._kinds",
    "testing._models",
    "testing._operations",
    "testing._plan",
    "testing._received",
    "testing._refusals",
    "testing._rewrites",
    "testing._routes",
    "testing._script",
    "testing._script_file",
    "testing._tape",
    "tools",
}
DOES = {"socket", "asyncio", "anyio", "threading", "httpcore", "subprocess", "selectors", "ssl"}
DOES_BY_CALL = {"time.sleep", "open", "print", "input"}
RUNS = {"pickle", "marshal", "shelve", "runpy", "code", "ctypes", "subprocess"}
RUNS_BY_CALL = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}


def imports(name: str, *, for_types: bool = True) -> set[str]:
    """Return what a module imports: `.x` for its own package's `x`, plain names for others."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    if not for_types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
    found: set[str] = set()
    here = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    if name == "__init__":
        here = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            for alias in node.names:
                whole, part = ".".join([*base, alias.name]), ".".join(base)
                found.add("." + (whole if whole in MODULES else part or "__init__"))
    return found


def called(name: str) -> set[str]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_every_module_has_its_place() -> None:
    new, gone = MODULES.keys() - LAYER.keys(), LAYER.keys() - MODULES.keys()
    assert not new, f"put {sorted(new)} into LAYERS: above all it imports, below all that import it"
    assert not gone, f"take {sorted(gone)} out of LAYERS and the other tables: no such module"


@pytest.mark.parametrize("name", sorted(MODULES.keys() & LAYER.keys()))
def test_imports_point_one_way(name: str) -> None:
    for found in imports(name, for_types=False):
        if found.startswith(".") and found[1:] in LAYER:
            assert LAYER[found[1:]] <= LAYER[name], (
                f"{name} may not import {found[1:]}, which stands above it in LAYERS: move what it"
                " needs to a module below both, or have the caller hand it in"
            )


def test_no_module_imports_in_a_circle() -> None:
    graph = {
        name: {f[1:] for f in imports(name, for_types=False) if f.startswith(".")}
        for name in MODULES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " is imported by ".join(error.args[1])
        pytest.fail(f"a circle: {circle}. Move what they share to a module below them.")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_http_library_is_named_in_few_places(name: str) -> None:
    found = imports(name, for_types=False)
    assert "httpx" not in found or name in NAMES_HTTPX, (
        f"{name} may not import httpx: what it does with it belongs to one of {sorted(NAMES_HTTPX)}"
    )
    assert "httpx_sse" not in found or name == "_sse", (
        f"{name} may not import httpx_sse: bytes become events in _sse alone"
    )


@pytest.mark.parametrize("name", sorted(PURE))
def test_what_decides_does_nothing(name: str) -> None:
    does = imports(name, for_types=False) & DOES | called(name) & DOES_BY_CALL
    assert not does, (
        f"{name} decides, so it may not use {sorted(does)}: have it return what is to be done, and"
        " a driver do it (_drive, _runner, _transport, media)"
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_that_a_server_sends_is_run(name: str) -> None:
    # These load the package's own modules late.
    runs = RUNS if name in {"__init__", "testing"} else RUNS | {"importlib"}
    found = imports(name, for_types=False) & runs | called(name) & RUNS_BY_CALL
    assert not found, (
        f"{name} may not use {sorted(found)}: SECURITY.md promises that nothing is run"
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is_for(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert len((ast.get_docstring(tree) or "").split()) >= 5, (
        f"{name} must open with a docstring that says what it does, and what it must not do"
    )


@pytest.mark.parametrize(
    "module",
    [
        modelslab_llm,
        conversation,
        endpoints,
        errors,
        media,
        openai,
        tools,
        types,
        content,
        events,
        message,
        models,
        parsed,
        requests,
    ],
)
def test_exports_are_exactly_the_public_names(module: object) -> None:
    exported: list[str] = module.__all__  # type: ignore[attr-defined]
    twice = {name for name in exported if exported.count(name) > 1}
    assert not twice, f"twice in __all__: {sorted(twice)}"
    missing = [name for name in exported if not hasattr(module, name)]
    assert not missing, f"in __all__, but not in the module: {missing}"
    defined = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__  # type: ignore[attr-defined]
        and (inspect.isclass(value) or inspect.isfunction(value))
    }
    helpers = {"is_empty_text", "mark_cut_arguments", "read_arguments"}
    hidden = defined - helpers - set(exported)
    assert not hidden, f"add {sorted(hidden)} to __all__, or begin the name with an underscore"


TWINS = [
    (_client.ModelsLab, _client.AsyncModelsLab),
    (_client.Messages, _client.AsyncMessages),
    (_client.Models, _client.AsyncModels),
    (_stream.MessageStream, _stream.AsyncMessageStream),
    (_runner.ToolRunner, _runner.AsyncToolRunner),
    (_parse.ParsedMessageStream, _parse.AsyncParsedMessageStream),
]


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_async_has_what_sync_has(sync: type, twin: type) -> None:
    """The same names with the same parameters; only `aclose` is more."""

    def surface(kind: type) -> set[str]:
        return {
            f"{name}({', '.join(inspect.signature(value).parameters)})" if callable(value) else name
            for name, value in inspect.getmembers(kind)
            if not name.startswith("_") and name != "aclose"
        }

    here, there = surface(sync), surface(twin)
    assert here == there, (
        f"only {sync.__name__} has {sorted(here - there)}, only {twin.__name__} has"
        f" {sorted(there - here)}: give both the same, and decide in a module that both call"
    )


@pytest.mark.parametrize("kind", [kind for pair in TWINS for kind in pair])
def test_the_types_of_what_is_called_can_be_asked_for(kind: type) -> None:
    """Frameworks ask, at run time, for what a signature names."""
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            try:
                get_type_hints(method)
            except NameError as error:
                pytest.fail(f"{method.__qualname__}: {error}: spell it modelslab_llm.…, as others")


WHAT_CALLS = "modelslab_llm._client, modelslab_llm.types"


def test_import_loads_nothing_that_a_call_by_hand_would_not() -> None:
    """Guard the start-up time of programs, without measuring it."""
    # httpx loads httpcore with its first client, so every program that calls loads it.
    by_hand = loaded_by("httpx, httpcore, httpx_sse, pydantic, pydantic.main, pydantic.types")
    more = {name.split(".")[0] for name in loaded_by(WHAT_CALLS) - by_hand}
    more -= {"modelslab_llm", "pydantic"}
    assert not more, (
        f"the clients load {sorted(more)}, which every program waits for: import it in the"
        " function that needs it, or under TYPE_CHECKING"
    )


def test_import_does_not_load_what_few_programs_need() -> None:
    later = {"testing", "openai", "tools", "media", "conversation", "_runner", "_output", "_parse"}
    early = {f"modelslab_llm.{name}" for name in later} & loaded_by(WHAT_CALLS)
    assert not early, f"the clients load {sorted(early)}: import it in the function that needs it"


def test_the_package_itself_loads_almost_nothing() -> None:
    """pytest imports the plugin, and so the package, in every project that has it installed."""
    heavy = {"httpx", "httpcore", "httpx_sse", "pydantic", "anyio", "h11"}
    found = heavy & loaded_by("modelslab_llm, modelslab_llm.testing.plugin")
    assert not found, (
        f"the package by itself loads {sorted(found)}: import it under TYPE_CHECKING, or name in"
        " __init__'s table what needs it"
    )


def test_what_is_loaded_later_is_there() -> None:
    code = """
import modelslab_llm
for name in modelslab_llm.__all__:
    assert getattr(modelslab_llm, name) is not None
assert dir(modelslab_llm) == sorted(modelslab_llm.__all__)
from modelslab_llm import *
print(Conversation, tool, image, ToolRunner)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert ran.returncode == 0, f"a name in __all__ cannot be loaded:\n{ran.stderr}"
    with pytest.raises(AttributeError, match="no attribute 'tols'"):
        modelslab_llm.tols  # type: ignore[attr-defined]  # noqa: B018


def loaded_by(modules: str) -> set[str]:
    code = f"import sys, {modules}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())
