"""Say what the operations of `client.models` send, and read what comes back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from .._records import record
from ..types._json import fields_of, is_list
from ..types.call_info import CallInfo
from ..types.models import ModelInfo, ModelList
from .calls import accepted, get, not_expected
from .config import Config
from .exchange import exchange
from .refusals import error_inside, parse_body
from .values import Arrived, Attempt, Call, Deadline, Outcome

MANY_PAGES = 1000  # a list longer than this has no end


@record
class ModelPage:
    """One page of a list of models, and where the next one starts."""

    models: list[ModelInfo]
    next_after: str | None
    info: CallInfo | None = None


def list_models(config: Config, after: str | None = None) -> Call[ModelPage]:
    """Return the call for one page behind `models.list` (protocol.md §9)."""
    query = f"?{urlencode({'after_id': after})}" if after else ""
    request = get(config, f"/v1/models{query}")
    config = config.hiding(request.headers)
    return Call(config, request, _read_page, None, "models.list")


def all_models(
    config: Config, clock: Callable[[], float]
) -> Generator[Attempt, Outcome, ModelList]:
    """Ask for page after page, until the server says that there are no more."""
    deadline = Deadline.of(config, clock)
    models: dict[str, ModelInfo] = {}
    after: str | None = None
    info: CallInfo | None = None
    for _ in range(MANY_PAGES):
        page = yield from exchange(list_models(config, after), deadline)
        info, known = page.info, len(models)
        for model in page.models:
            models.setdefault(model.id, model)
        after = page.next_after
        if after is None or len(models) == known:  # a server that repeats itself has no more
            break
    return ModelList(list(models.values()), info)


def _read_page(arrived: Arrived) -> ModelPage:
    answer = accepted(arrived, "models.list")
    payload = parse_body(answer.body)
    fields = fields_of(payload)
    entries: object = fields.get("data", fields.get("models"))  # llama-server has both
    if entries is None and fields.keys() & {"data", "models"}:
        entries = list[Any]()  # null is what some languages make of an empty list
    if not is_list(entries) or error_inside(payload):
        raise not_expected(answer, "a list of models", payload)
    try:
        models = [ModelInfo.model_validate(entry) for entry in entries]
    except ValidationError:
        raise not_expected(answer, "a list of models", payload) from None
    last = fields.get("last_id") if fields.get("has_more") is True else None
    return ModelPage(models, last if isinstance(last, str) else None, answer.info)
