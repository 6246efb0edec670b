"""Hold what the file tree promises: who may import whom, what names httpx, what is public.

When one of these fails, its message says what to do. Move the line to where it belongs; widen a
table only for a new module.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import httpx
import pytest
from typing_extensions import get_type_hints

import modelslab_llm
from modelslab_llm import (
    bulk,
    conversation,
    endpoints,
    errors,
    media,
    openai,
    structured,
    tools,
    types,
)
from modelslab_llm._client import client as _client
from modelslab_llm._client import messages as _messages
from modelslab_llm._client import models as _models
from modelslab_llm._protocol import stream as _stream
from modelslab_llm.testing import LocalServer
from modelslab_llm.types import content, events, message, models, parsed, requests, turns

PACKAGE = Path(modelslab_llm.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# Each room may import from the rooms named beside it, and from itself. A new room is one line here.
ROOMS = {
    "vocabulary": "",
    "_protocol": "vocabulary",
    "_http": "_protocol vocabulary",
    "tools": "_protocol vocabulary",
    "media": "_protocol vocabulary",
    "structured": "tools _protocol vocabulary",
    "conversation": "tools _protocol vocabulary",
    "openai": "media _protocol vocabulary",
    "caching": "vocabulary",
    "tracing": "vocabulary",
    "bulk": "vocabulary",
    "_client": "_http bulk structured conversation tools media openai _protocol vocabulary",
    "testing": "_client _http openai media _protocol vocabulary",
    "cli": "testing bulk media vocabulary",  # and the names of the package itself, as any program
    "__main__": "cli",
}
VOCABULARY = {
    *("observers", "types", "errors", "endpoints", "prices"),
    *("_hints", "_version", "_forks", "_records"),
}

HTTP = {"httpx", "httpcore", "httpx_sse", "h11", "h2", "aiohttp", "httpx_aiohttp", "requests"}
WAITS = {"socket", "asyncio", "anyio", "trio", "threading", "subprocess", "selectors", "ssl"}
WAITS_BY_CALL = {"time.sleep", "open", "print", "input"}
CARRIES = {"_http", "testing", "cli"}
"""The rooms that may name an HTTP library, a socket or a thread."""
EXCEPTIONS = {
    "_protocol.sse": {"httpx_sse"},  # reads the fields of an event
    "conversation._runner": {"anyio", "threading"},  # runs the caller's functions
    "media": {"anyio", "open"},  # reads the caller's files
    "_forks": {"threading"},  # keeps forks out of what other threads do
    "bulk._ledger": {"threading"},
    "bulk._tasks": {"anyio", "asyncio"},  # who waits for whom in a run, sync and async
    "bulk._threads": {"threading", "time.sleep"},
}
RUNS = {"pickle", "marshal", "shelve", "runpy", "code", "ctypes", "subprocess"}
RUNS_BY_CALL = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}


class Facts(NamedTuple):
    """What is asked of a module, whose tree would be large to keep and slow to read seven times."""

    imports: frozenset[str]
    """`.x` for its own package's `x`, plain names for others."""
    loads: frozenset[str]
    """Those of them that are not for type checkers alone."""
    late: list[str]
    """The statements that import inside a function."""
    calls: Counter[str]
    docstring: str
    texts: frozenset[str]
    """Its string literals, parts of f-strings too, without those that are statements."""
    stated: frozenset[str]
    """Those that are: its docstrings."""


@cache
def facts_in(path: Path, name: str) -> Facts:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    stated = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts: dict[bool, set[str]] = {True: set(), False: set()}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts[id(node) in stated].add(node.value)
    functions = [node for node in nodes if isinstance(node, FUNCTION)]
    late = [node for found in functions for node in ast.walk(found) if isinstance(node, IMPORT)]
    imports = named_by(nodes, name)
    calls = Counter(dotted(node.func) for node in nodes if isinstance(node, ast.Call))
    docstring = ast.get_docstring(tree) or ""
    for node in nodes:
        if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    loads = named_by(ast.walk(tree), name)
    return Facts(
        imports=imports,
        loads=loads,
        late=[ast.unparse(node) for node in late],
        calls=calls,
        docstring=docstring,
        texts=frozenset(texts[False]),
        stated=frozenset(texts[True]),
    )


FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORT = (ast.Import, ast.ImportFrom)


def facts(name: str) -> Facts:
    return facts_in(MODULES[name], name)


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` as it is written, and for any other expression no name that is asked for."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def named_by(nodes: Iterable[ast.AST], name: str) -> frozenset[str]:
    """Return what the import statements among the nodes of a module name."""
    found: set[str] = set()
    here = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    if name == "__init__":
        here = []
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, _, rest = alias.name.partition(".")
                found.add(first if first != "modelslab_llm" else f".{rest or '__init__'}")
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".")
            if node.level:
                base = here[: len(here) - node.level + 1] + base
            elif base.pop(0) != "modelslab_llm":
                found.add((node.module or "").split(".")[0])
                continue
            base = [part for part in base if part]
            for alias in node.names:
                whole, part = ".".join([*base, alias.name]), ".".join(base)
                found.add("." + (whole if whole in MODULES else part or "__init__"))
    return frozenset(found)


def room_of(name: str) -> str:
    first = name.split(".")[0]
    return "vocabulary" if first in VOCABULARY else first


INSIDE = sorted(MODULES.keys() - {"__init__"})


@pytest.mark.parametrize("name", INSIDE)
def test_every_module_has_its_room(name: str) -> None:
    assert room_of(name) in ROOMS, f"give {name} a room: see docs/architecture.md"


@pytest.mark.parametrize("name", INSIDE)
def test_rooms_import_one_way(name: str) -> None:
    here = room_of(name)
    allowed = {here, *ROOMS[here].split()}
    for found in facts(name).loads:
        if found.startswith(".") and found != ".__init__":
            assert room_of(found[1:]) in allowed, (
                f"{name} may not import {found[1:]}: {here!r} knows {ROOMS[here] or 'none'}."
                " Move what it needs to a room below both, or have the caller hand it in"
            )


@pytest.mark.parametrize("name", [name for name in INSIDE if room_of(name) == "cli"])
def test_the_command_line_uses_public_names_alone(name: str) -> None:
    """As any program does; `python -m modelslab_llm.testing` is one too."""
    others = {f[1:] for f in facts(name).loads if f.startswith(".")}
    hidden = {f for f in others if room_of(f) != "cli" and re.search(r"(^|\.)_(?!_)", f)}
    assert not hidden, f"{name} reaches behind what is public: {hidden}"


def test_no_module_imports_in_a_circle() -> None:
    """Nor for types alone, which is a circle for whoever reads them. The package itself does."""
    graph = {name: {f[1:] for f in facts(name).imports if f.startswith(".")} for name in INSIDE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " is imported by ".join(error.args[1])
        pytest.fail(f"a circle: {circle}. Move what they share to a module below them.")


@pytest.mark.parametrize("name", [name for name in INSIDE if room_of(name) not in CARRIES])
def test_only_what_carries_names_an_http_library_or_waits(name: str) -> None:
    used = facts(name).loads & (HTTP | WAITS) | facts(name).calls.keys() & WAITS_BY_CALL
    used -= EXCEPTIONS.get(name, set())
    assert not used, (
        f"{name} may not use {sorted(used)}: have it return what is to be done, and a room that"
        f" carries do it ({', '.join(sorted(CARRIES))})"
    )


@pytest.mark.parametrize("name", [name for name in INSIDE if name != "endpoints"])
def test_nothing_asks_which_server_it_is(name: str) -> None:
    """All that differs between servers is a field of `Endpoint`; its name is a label."""
    asked = re.findall(r"\bendpoint\.(?:name|kind)\b", MODULES[name].read_text(encoding="utf-8"))
    assert not asked, f"{name} asks which server it is: ask for a fact, a field of Endpoint"


CASTS = 20


def test_few_types_are_only_claimed() -> None:
    casts: Counter[str] = Counter()
    for name in MODULES:
        calls = facts(name).calls
        casts[room_of(name)] += calls["cast"] + calls["typing.cast"]
    assert casts.total() <= CASTS, (
        f"{casts.total()} casts in the package, {CASTS} are allowed: {dict(+casts)}."
        " types/_json.py has what tells a type checker the form of a value"
    )


# What spells parameters out is loaded when somebody asks for a signature, and the features with
# their first operation: loaded before, they would take 5.6 % of the time of a cold start.
LATE = {"_client.takes", "_client.late"}


@pytest.mark.parametrize(
    "name", [name for name in INSIDE if room_of(name) == "_client" and name not in LATE]
)
def test_no_method_of_a_client_loads_what_it_needs(name: str) -> None:
    late = facts(name).late
    assert not late, f"{name} imports inside a function, {late}: import it at the top"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_that_a_server_sends_is_run(name: str) -> None:
    # These load the package's own modules late.
    runs = RUNS if name in {"__init__", "testing"} else RUNS | {"importlib"}
    runs = runs - {"subprocess"} if name == "cli._claude" else runs  # it starts Claude Code
    found = facts(name).loads & runs | facts(name).calls.keys() & RUNS_BY_CALL
    assert not found, (
        f"{name} may not use {sorted(found)}: SECURITY.md promises that nothing is run"
    )


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert len(facts(name).docstring.split()) >= 5, (
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
        structured,
        tools,
        types,
        content,
        events,
        message,
        models,
        parsed,
        requests,
        turns,
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
    helpers = {
        "give_own_ids",
        "own_id",
        "is_empty_text",
        "made",
        "mark_cut_arguments",
        "read_arguments",
        "counted",
    }
    hidden = defined - helpers - set(exported)
    assert not hidden, f"add {sorted(hidden)} to __all__, or begin the name with an underscore"


TWINS = [
    (_client.ModelsLab, _client.AsyncModelsLab),
    (_messages.Messages, _messages.AsyncMessages),
    (_models.Models, _models.AsyncModels),
    (_stream.MessageStream, _stream.AsyncMessageStream),
    (conversation.ToolRunner, conversation.AsyncToolRunner),
    (structured.ParsedMessageStream, structured.AsyncParsedMessageStream),
    (bulk.BulkRun, bulk.AsyncBulkRun),
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


@pytest.mark.parametrize("kind", [_messages.Messages, _messages.AsyncMessages])
@pytest.mark.parametrize("verb", ["parse", "parse_stream"])
def test_a_signature_is_true(kind: type, verb: str) -> None:
    """Without an output there is a hint, and the signature still says that there must be one."""
    method = getattr(kind, verb)
    output = inspect.signature(method).parameters["output"]
    assert output.default is inspect.Parameter.empty
    assert output.kind is inspect.Parameter.KEYWORD_ONLY
    assert inspect.unwrap(method).__kwdefaults__.keys().isdisjoint({"output"})
    is_async = kind is _messages.AsyncMessages and verb == "parse"
    assert inspect.iscoroutinefunction(method) is is_async


class Walk:
    """What a call enters of the package, function by function, and what it re-enters."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.climbs: list[str] = []

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event != "call" or (module := module_of(frame)) is None:
            return
        self.entered.append(f"{module}.{frame.f_code.co_name}")
        above: list[str] = []
        outer = frame.f_back
        while outer:
            if (found := module_of(outer)) and (not above or above[-1] != found):
                above.append(found)
            outer = outer.f_back
        if module in above[1:]:
            self.climbs.append(" <- ".join([module, *above]))


def module_of(frame: FrameType) -> str | None:
    name = str(frame.f_globals.get("__name__"))
    return name.removeprefix("modelslab_llm.") if name.startswith("modelslab_llm.") else None


def walk_of(call: Callable[[modelslab_llm.ModelsLab], object], said: bytes) -> Walk:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=said))
    walk = Walk()
    with httpx.Client(transport=transport) as http:
        client = modelslab_llm.ModelsLab("k" * 9, base_url="http://h.example", http_client=http)
        sys.setprofile(walk)
        try:
            call(client)
        finally:
            sys.setprofile(None)
    return walk


USER: Any = {"role": "user", "content": "Go"}
ASK: Any = {"model": "m", "max_tokens": 9, "messages": [USER]}
MESSAGE = b'{"type": "message", "content": [{"type": "text", "text": "7"}]}'
CALLS: dict[str, Callable[[modelslab_llm.ModelsLab], object]] = {
    "create": lambda client: client.messages.create(**ASK),
    "stream": lambda client: client.messages.stream(**ASK).get_final_message(),
    "parse": lambda client: client.messages.parse(output=int, strategy="prompt", **ASK),
    "count_tokens": lambda client: client.messages.count_tokens(
        messages=ASK["messages"], model="m"
    ),
}


def test_the_walk_of_a_call_is_as_the_page_says() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.split("## The path of a call")[1].split("```text\n")[1].split("```")[0]
    steps = [line.split()[0] for line in block.splitlines()]
    assert len(steps) == 8
    entered = walk_of(CALLS["create"], MESSAGE).entered
    met = [name for name in dict.fromkeys(entered) if name in steps]
    assert met == steps, "the path of a call differs from docs/architecture.md, The path of a call"
    assert [entered.count(step) for step in steps if "exchange" not in step] == [1] * 7


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("create", MESSAGE),
        ("stream", MESSAGE),
        ("parse", MESSAGE.replace(b"7", b'{\\"value\\": 7}')),
        ("count_tokens", b'{"input_tokens": 7}'),
    ],
)
def test_a_call_goes_down_once(call: str, said: bytes) -> None:
    """No module calls, however indirectly, into one that is still at work above it."""
    walk = walk_of(CALLS[call], said)
    assert len(walk.entered) > 20
    assert not walk.climbs, f"the path of a call climbs: {walk.climbs[0]}"


WHAT_CALLS = """
import modelslab_llm, modelslab_llm.types
with modelslab_llm.ModelsLab("k" * 9, base_url=sys.argv[1]) as client:
    with client.messages.stream(**eval(sys.argv[2])) as stream:
        assert "".join(stream.text_stream) == "7"
"""


@pytest.mark.slow
def test_a_program_that_streams_loads_nothing_that_one_by_hand_would_not() -> None:
    """Guard the start-up time of programs, without measuring it."""
    # httpx loads httpcore with its first client, pydantic its plugins with its first model, and a
    # connection to a host by its name what international names are encoded with.
    by_hand = loaded_by(
        "import httpx, httpcore, httpx_sse, pydantic, pydantic.main, pydantic.types,"
        " importlib.metadata, encodings.idna"
    )
    more = {name.split(".")[0] for name in loaded_by_a_stream() - by_hand}
    more -= {"modelslab_llm", "pydantic"}
    assert not more, (
        f"a stream loads {sorted(more)}, which every program waits for: import it in the function"
        " that needs it, or under TYPE_CHECKING"
    )


@pytest.mark.slow
def test_a_program_that_streams_does_not_load_what_few_need() -> None:
    rooms = {"testing", "media", "bulk", "conversation", "openai", "structured", "tools"}
    later = {f"modelslab_llm.{name}" for name in rooms} | {"httpx", "httpcore", "anyio", "asyncio"}
    early = later & loaded_by_a_stream() - loaded_by("import pydantic")  # asyncio, when it is old
    assert not early, f"a stream loads {sorted(early)}: import it in the function that needs it"


def test_the_package_itself_loads_almost_nothing() -> None:
    """pytest imports the plugin, and so the package, in every project that has it installed."""
    heavy = {"httpx", "httpcore", "httpx_sse", "pydantic", "anyio", "h11"}
    found = heavy & loaded_by("import modelslab_llm, modelslab_llm.testing.plugin")
    assert not found, (
        f"the package by itself loads {sorted(found)}: import it under TYPE_CHECKING, or name in"
        " __init__'s table what needs it"
    )


@pytest.mark.slow
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


def loaded_by(code: str, *arguments: str) -> set[str]:
    code = f"import sys\n{code}\nprint(*sys.modules)"
    command = [sys.executable, "-c", code, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(found.stdout.split())


@cache
def loaded_by_a_stream() -> set[str]:
    with LocalServer(["7"], api_key=None) as server:
        return loaded_by(WHAT_CALLS, server.url, repr(ASK))


BEYOND_ASCII = {
    "_protocol.refusals": {"\ufeff"},  # what servers send: byte order marks, halves of characters
    "_protocol.sse": {"[\udc80-\udcff]", "\ufffd"},
    "_protocol.tail": {  # what a text is cut off at
        " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680",
        "\u2028\u2029\u202f\u205f\u3000\ufffd",
    },
    "types._reading": {
        *("\ufffd", "\ufeff", "[\ud800-\udfff]", "\ud800", "\udbff", "\udc00", "\udfff"),
    },
    "testing._record.tape": {"\x85\u2028\u2029"},  # line ends that JSON Lines must not have
    "testing._serve.answer": {  # a platform's own words
        "The model endpoint is unreachable right now. It may be restarting \u2014 try again in a "
        "moment."
    },
}
SECTIONS = {"testing._dialect.dialects"}
"""Names sections of protocol.md, for whoever reads the module; nothing prints them."""


def messages_of(name: str) -> frozenset[str]:
    """Return what a module says to its user; in the command line `--help` shows docstrings too."""
    told = facts(name)
    return told.texts | told.stated if room_of(name) == "cli" else told.texts


@pytest.mark.parametrize("name", [*MODULES])
def test_what_the_package_says_is_ascii(name: str) -> None:
    """A terminal of any encoding can print its errors, log lines and hints."""
    found = {text for text in messages_of(name) if not text.isascii()}
    if name in SECTIONS:
        found = {text for text in found if not text.replace("\u00a7", "").isascii()}
    assert found == BEYOND_ASCII.get(name, set()), f"{name}: write it in ASCII, '...' and 'x'"


def test_a_message_beyond_ascii_would_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.py"
    file.write_text('"""Of caf\u00e9s."""\n\nx = 1\nprint(f"caf\u00e9 {x}", "plain")\n', "utf-8")
    monkeypatch.setitem(MODULES, "new", file)
    assert messages_of("new") == {"caf\u00e9 ", "plain"}
