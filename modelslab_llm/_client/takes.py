"""Show what an operation takes as `**params` to everyone who does not read TypedDicts.

`takes` does it for `inspect`, and so for `help()`, notebooks and completion on live objects. jedi,
which reads the source, follows `**params` to where it is handed on: to `message_params` and the
others, each of which is `dict`, and so costs a call one copy. Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature, unwrap
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from .spelled import BulkTakes, ChangeTakes, CountTakes, MessageTakes, OptionTakes

F = TypeVar("F", bound=Callable[..., Any])

Kind: TypeAlias = Literal["MessageTakes", "CountTakes", "OptionTakes", "ChangeTakes", "BulkTakes"]

_dict: Any = dict  # which no type checker takes for a function of named keywords
message_params: MessageTakes = _dict
count_params: CountTakes = _dict
client_options: OptionTakes = _dict
changed_options: ChangeTakes = _dict
bulk_options: BulkTakes = _dict


def takes(kind: Kind) -> Callable[[F], F]:
    """Have the signature of a method show the parameters that it takes by `**`."""

    def around(method: F) -> F:
        vars(method)["__signature__"] = _Spelled.of(method, kind)
        return method

    return around


class _Spelled(Signature):
    """A signature that is created when it is inspected, which few programs do."""

    _method: Callable[..., Any]
    _kind: Kind

    @classmethod
    def of(cls, method: Callable[..., Any], kind: Kind) -> _Spelled:
        made = cls.__new__(cls)
        made._method, made._kind = method, kind
        return made

    def __getattr__(self, name: str) -> Any:
        if name not in Signature.__slots__:
            raise AttributeError(name)
        # Where a signature keeps what it knows, nothing was put yet.
        own = _own_signature(self._method)
        kept = [known for known in own.parameters.values() if known.kind != Parameter.VAR_KEYWORD]
        super().__init__([*kept, *_parameters(self._kind)], return_annotation=own.return_annotation)
        return getattr(self, name)


def _own_signature(method: Callable[..., Any]) -> Signature:
    """Return the signature of a method as it is written."""
    written: Any = unwrap(method)
    bare = FunctionType(written.__code__, written.__globals__, argdefs=written.__defaults__)
    bare.__kwdefaults__, bare.__annotations__ = written.__kwdefaults__, written.__annotations__
    return signature(bare)


def _parameters(kind: Kind) -> Iterator[Parameter]:
    from . import spelled

    _, *shown = signature(getattr(spelled, kind).__call__).parameters.values()
    for parameter in shown:
        yield parameter.replace(default=UNSAID) if parameter.default is ... else parameter


class _Unsaid:
    """The default of a parameter that is set elsewhere, as the `...` of a type checker."""

    def __repr__(self) -> str:
        return "..."


UNSAID = _Unsaid()
