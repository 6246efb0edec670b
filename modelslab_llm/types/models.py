"""Define the models of a server, which lists them in one of three styles (protocol.md §9)."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, overload

from pydantic import model_validator

from ._base import ServerValue, Text
from ._json import fields_of, is_object
from .call_info import CallInfo

__all__ = ["ModelInfo", "ModelList"]


_WINDOWS = ("max_input_tokens", "context_window", "max_model_len", "context_length")


class ModelInfo(ServerValue):
    """One model of a server. Other fields that the server sent are in `model_extra`."""

    id: Text = ""
    display_name: Text = ""
    """A display name, or the ID if the server has none."""
    created: datetime | None = None
    """The creation time of the model, in UTC."""
    owned_by: str | None = None
    context_window: int | None = None
    """The context window in tokens, if the server reports it."""

    @model_validator(mode="before")
    @classmethod
    def _unify(cls, value: Any) -> Any:
        if not is_object(value):
            return value
        name = value.get("id") or value.get("name") or value.get("model")
        return value | {
            "id": name,
            "display_name": value.get("display_name") or name,
            "created": _moment(value.get("created_at") or value.get("created")),
            "context_window": next(
                (n for n in map(value.get, _WINDOWS) if isinstance(n, int)),
                fields_of(value.get("meta")).get("n_ctx"),
            ),
        }


class ModelList(Sequence[ModelInfo]):
    """The models of a server, in its order: iterate, index, or use `len`."""

    def __init__(self, models: Sequence[ModelInfo], call_info: CallInfo | None = None) -> None:
        self._models = tuple(models)
        self.call_info: CallInfo | None = call_info
        """Metadata about the call; if there were several, about the last one."""

    @property
    def data(self) -> Sequence[ModelInfo]:
        """The models, under the name that other clients use."""
        return self._models

    def __iter__(self) -> Iterator[ModelInfo]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @overload
    def __getitem__(self, index: int) -> ModelInfo: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ModelInfo]: ...
    def __getitem__(self, index: int | slice) -> ModelInfo | Sequence[ModelInfo]:
        return self._models[index]

    def __repr__(self) -> str:
        return f"ModelList({[model.id for model in self._models]!r})"


def _moment(value: object) -> datetime | None:
    """Read Unix seconds or an RFC 3339 date; None for what is neither."""
    try:
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value, timezone.utc)
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
