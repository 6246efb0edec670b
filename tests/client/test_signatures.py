"""Parameters are found and described where people look: `help()`, notebooks, completion by jedi."""

from __future__ import annotations

import ast
import inspect
import itertools
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin

import pytest
import typing_extensions
from lazy import Lazy
from typing_extensions import Required, get_original_bases, is_typeddict

import modelslab_llm
from modelslab_llm import (
    AsyncMessageStream,
    AsyncModelsLab,
    AsyncParsedMessageStream,
    AsyncToolRunner,
    CountTokensParams,
    MessageCreateParams,
    MessageStream,
    ModelsLab,
    ParsedMessageStream,
    ToolRunner,
    caching,
    endpoints,
    media,
    openai,
    prices,
    tools,
)
from modelslab_llm._client import spelled
from modelslab_llm._client.messages import AsyncMessages, Messages
from modelslab_llm._client.models import AsyncModels, Models
from modelslab_llm._protocol.config import Config, Options
from modelslab_llm.bulk import AsyncBulkRun, BulkOptions, BulkRun, BulkStore
from modelslab_llm.bulk._order import Order
from modelslab_llm.testing import LocalServer, Recording, ScriptedTransport

jedi = Lazy("jedi")

SPELLED: dict[type, type] = {
    spelled.MessageTakes: MessageCreateParams,
    spelled.CountTakes: CountTokensParams,
    spelled.OptionTakes: Options,
    spelled.ChangeTakes: Options,
    spelled.BulkTakes: BulkOptions,
}
EMPTY = inspect.Parameter.empty


def spelled_parameters(kind: type) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(kind.__call__).parameters)
    del parameters["self"]
    return parameters


@pytest.mark.parametrize("kind", SPELLED)
def test_what_is_spelled_out_is_what_the_typed_dict_has(kind: type) -> None:
    """The same names and types, and no default exactly for what is required."""
    params: Any = SPELLED[kind]
    hints = typing_extensions.get_type_hints(kind.__call__)
    del hints["return"]
    assert hints == typing_extensions.get_type_hints(params)
    marked = typing_extensions.get_type_hints(params, include_extras=True)
    required = {name for name, hint in marked.items() if get_origin(hint) is Required}
    left_out = {name for name, it in spelled_parameters(kind).items() if it.default is not EMPTY}
    assert left_out == hints.keys() - required


def test_the_defaults_of_a_client_are_true() -> None:
    defaults = {name: it.default for name, it in spelled_parameters(spelled.OptionTakes).items()}
    config = Config.build(api_key="k" * 9, env={})
    assert config.changed(**defaults) == config


def test_the_defaults_of_a_bulk_run_are_true() -> None:
    asked: dict[str, object] = {}

    class Asked(dict[str, object]):
        def get(self, name: str, default: Any = None) -> Any:  # type: ignore[override]
            asked[name] = default
            return default

    order: Order[Any, Any] = Order(
        iter(()),
        make=None,
        key=None,
        defaults=None,
        default_model=None,
        output=None,
        strategy=None,
        waiting=lambda: 0,
        options=Asked(),  # type: ignore[typeddict-item]
    )
    order.close(order.begin())
    defaults = {name: it.default for name, it in spelled_parameters(spelled.BulkTakes).items()}
    assert asked == defaults


EXPORTED = [getattr(modelslab_llm, name) for name in modelslab_llm.__all__]
KINDS: list[type] = [
    *filter(inspect.isclass, EXPORTED),
    Messages,
    AsyncMessages,
    Models,
    AsyncModels,
    BulkStore,
    LocalServer,
    ScriptedTransport,
    Recording,
]
HIDDEN = {
    "Tool.__call__": "they are the function's own",
    "Scripted.assert_called": "any field of a request may be named",
    "Scripted.assert_called_once": "any field of a request may be named",
}


def verbs() -> dict[str, Callable[..., Any]]:
    """Return every public method of our own, and how each public class is made, by its name."""
    found: dict[str, Callable[..., Any]] = {}
    for kind in KINDS:
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if method.__module__.startswith("modelslab_llm") and (
                name in ("__init__", "__call__") or not name.startswith("_")
            ):
                found[method.__qualname__] = method
    return found


def test_no_method_hides_its_parameters() -> None:
    hiding = {
        name
        for name, method in verbs().items()
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind is parameter.VAR_KEYWORD
    }
    assert len(verbs()) > 100
    assert hiding == HIDDEN.keys(), "see _client/takes.py"


CLIENTS: dict[str, Any] = {
    "client": ModelsLab("k" * 9, base_url="http://127.0.0.1:9"),
    "aclient": AsyncModelsLab("k" * 9, base_url="http://127.0.0.1:9"),
    "ModelsLab": ModelsLab,
    "AsyncModelsLab": AsyncModelsLab,
}
VERBS = [f"messages.{verb}" for verb in vars(Messages) if not verb.startswith("_")]
VERBS += ["models.list", "with_options", "wait_until_ready", "close"]
CALLED = [f"{client}.{verb}" for client in ("client", "aclient") for verb in VERBS]
CALLED += ["ModelsLab", "AsyncModelsLab"]
SOURCE = """
from modelslab_llm import AsyncModelsLab, ModelsLab
client = ModelsLab()
aclient = AsyncModelsLab()
"""


def live(called: str) -> Callable[..., Any]:
    first, *rest = called.split(".")
    found = CLIENTS[first]
    for name in rest:
        found = getattr(found, name)
    return found


def plain(text: str) -> str:
    """Return a parameter without what only its notation is: quotes, spaces, computed numbers."""
    return re.sub(r"""["' ]|=.*""", "", text)


@pytest.mark.slow
@pytest.mark.parametrize("called", CALLED)
def test_source_and_live_object_show_the_same_parameters(called: str) -> None:
    """To jedi, which completes in editors by the source, and in notebooks by the object."""
    shown = inspect.signature(live(called)).parameters.values()
    (of_source,) = jedi.Script(f"{SOURCE}{called}(").get_signatures()
    (of_object,) = jedi.Interpreter(f"{called}(", [CLIENTS]).get_signatures()
    for found in (of_source, of_object):
        names = [(it.name, it.kind, it.to_string().find("=") >= 0) for it in found.params]
        assert names == [(it.name, it.kind, it.default is not EMPTY) for it in shown]
        told = [plain(it.to_string()) for it in found.params]
        assert told == [plain(str(it)) for it in shown]


def test_an_unbound_method_shows_the_same_and_itself() -> None:
    for kind, client in ((Messages, CLIENTS["client"]), (AsyncMessages, CLIENTS["aclient"])):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                first, *rest = inspect.signature(method).parameters.values()
                assert first.name == "self"
                bound = inspect.signature(getattr(client.messages, name))
                assert [*bound.parameters.values()] == rest


def test_a_signature_binds_changes_and_compares_as_any() -> None:
    create = inspect.signature(CLIENTS["client"].messages.create)
    bound = create.bind(model="m", messages=[], max_tokens=9)
    assert bound.arguments == {"model": "m", "messages": [], "max_tokens": 9}
    with pytest.raises(TypeError, match="unexpected keyword argument 'temprature'"):
        create.bind(messages=[], max_tokens=9, temprature=1)
    written = inspect.signature(Messages.create)
    assert written == inspect.signature(Messages.create)
    assert hash(written) == hash(written.replace())
    assert written != inspect.signature(Messages.stream)
    assert written.replace(return_annotation=int).return_annotation is int
    assert not hasattr(written, "colour")


def test_help_shows_every_parameter() -> None:
    for method in (Messages.create, AsyncMessages.parse_stream):
        text = pydoc.render_doc(method, renderer=pydoc.plaintext)
        for name in MessageCreateParams.__annotations__:
            assert f"{name}:" in text
    made = pydoc.render_doc(ModelsLab, renderer=pydoc.plaintext)
    assert re.search("max_retries: '?int'? = 2", made)  # Python 3.14 shows no quotes


IN_IPYTHON = """
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from modelslab_llm import AsyncModelsLab, ModelsLab

shell = InteractiveShell.instance()
shell.user_ns.update(client=ModelsLab("k" * 9), aclient=AsyncModelsLab("k" * 9))
for called in ("client.messages.create", "aclient.messages.parse"):
    with provisionalcompleter():
        found = [it.text for it in shell.Completer.completions(called + "(temp", len(called) + 5)]
    assert "temperature=" in found, found
    print(shell.object_inspect_text(called))
"""


@pytest.mark.slow
def test_ipython_completes_and_shows_every_parameter(tmp_path: Path) -> None:
    env = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", IN_IPYTHON], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    told = re.sub(r"\x1b\[[\d;]*m", "", ran.stdout)
    for name in MessageCreateParams.__annotations__:
        assert told.count(f" {name}: ") >= 2


@pytest.mark.slow
def test_what_nobody_asks_for_is_not_loaded() -> None:
    code = """
import inspect, sys
from modelslab_llm import AsyncModelsLab, ModelsLab
spelled = "modelslab_llm._client.spelled"
with ModelsLab("k" * 9) as client:
    assert spelled not in sys.modules
    assert "temperature" in inspect.signature(client.messages.create).parameters
    assert spelled in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# What is said of them

MODULES = (endpoints, media, openai, tools, caching, prices)
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if name in module.__all__
}
NOT_CALLED_BY_HAND = {
    "Tool.__call__": "a tool is called as its function is",
    "Recording.handle_request": "httpx calls it",
    "Recording.handle_async_request": "httpx calls it",
    "ScriptedTransport.handle_request": "httpx calls it",
    "ScriptedTransport.handle_async_request": "httpx calls it",
}
CALLABLES = {**verbs(), **FUNCTIONS}
BY_HAND = [
    name for name in CALLABLES if not name.endswith("__init__") and name not in NOT_CALLED_BY_HAND
]


def described(docstring: str | None) -> dict[str, str]:
    """Return what the `Args` of a docstring say, each in one line."""
    section = re.search(r"^Args:\n((?:    .*(?:\n|$))+)", inspect.cleandoc(docstring or ""), re.M)
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section[1], re.M) if section else ()
    return {name: " ".join(text.split()) for name, text in found}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_parameter_is_described(name: str) -> None:
    """Each as it is written; of what `**` takes, each one or all at once."""
    function: Any = inspect.unwrap(CALLABLES[name])
    assert function.__doc__, f"{name} has no docstring"
    code = function.__code__
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    shown = inspect.signature(CALLABLES[name]).parameters
    own = {*named} - {"self"}
    spelled_out = {*shown} - {"self"}
    at_once = own | {code.co_varnames[len(named)]} if spelled_out > own else own
    said = {*described(function.__doc__)}
    assert said in (spelled_out, at_once), f"{name}: describe each parameter"


PARAMS = [
    (Messages.create, MessageCreateParams),
    (Messages.count_tokens, CountTokensParams),
    (Messages.bulk, BulkOptions),
    (ModelsLab, Options),
]


def lineage(params: type) -> list[type]:
    """Return a TypedDict and those it extends, which its `__mro__` does not have."""
    bases = [base for base in get_original_bases(params) if is_typeddict(base)]
    return [kind for base in bases for kind in lineage(base)] + [params]


@pytest.mark.parametrize(("verb", "params"), PARAMS)
def test_a_parameter_is_described_in_one_way(verb: Any, params: type) -> None:
    """In the docstring of what takes it, and at the field, where type checkers show it."""
    said = described(verb.__doc__)
    fields: dict[str, str] = {}
    for kind in lineage(params):
        (tree,) = ast.parse(inspect.getsource(kind)).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in itertools.pairwise(tree.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                fields[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    assert fields.keys() == params.__annotations__.keys()
    assert {name: said[name] for name in fields} == fields


TWINS = [
    (ModelsLab, AsyncModelsLab),
    (Messages, AsyncMessages),
    (Models, AsyncModels),
    (MessageStream, AsyncMessageStream),
    (ParsedMessageStream, AsyncParsedMessageStream),
    (ToolRunner, AsyncToolRunner),
    (BulkRun, AsyncBulkRun),
]


def of_sync(docstring: str | None) -> str:
    """Return a docstring without what async code adds to it."""
    text = re.sub(r"\basync (?=with|for|code)|\bawait |\bAsync(?=[A-Z])", "", docstring or "")
    text = text.replace("(runner.get_final_message())", "runner.get_final_message()")
    return " ".join(re.sub(r"\ban (?=`)", "a ", text).split())


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_sync_and_async_say_the_same(sync: type, twin: type) -> None:
    for name, member in inspect.getmembers(sync):
        if not name.startswith("_"):
            assert of_sync(member.__doc__) == of_sync(getattr(twin, name).__doc__), name
    of_twin = {name: of_sync(text) for name, text in described(twin.__doc__).items()}
    assert {name: of_sync(text) for name, text in described(sync.__doc__).items()} == of_twin
