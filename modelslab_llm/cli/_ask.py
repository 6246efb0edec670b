"""`modelslab ask`: one question, one answer, shown as it comes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modelslab_llm.errors import APIError, ModelsLabError, NotFoundError, OutputError

from ._parts import content_of
from ._screen import screen
from ._status import Fault, Status
from ._target import Target, Where, target_of
from ._terminal import is_screen, note, write_json

if TYPE_CHECKING:
    from modelslab_llm import AsyncModelsLab, Message, Strategy

MAX_TOKENS = 4096
"""The most tokens of an answer where the command does not say."""

_CUT = frozenset({"max_tokens", "length", "model_context_window_exceeded"})


def ask(
    *,
    where: Where,
    prompt: str | None,
    files: Sequence[str],
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    thinking: str | None,
    temperature: float | None,
    schema: str | None,
    strategy: Strategy | None,
    as_json: bool,
    plain: bool,
) -> Status:
    """Ask, show the answer, and return the exit status."""
    question = _question(prompt, files, where)
    check_strategy(strategy, schema)
    output = None if schema is None else type_of(schema)
    target = target_of(where, model)
    params = params_of(
        messages=[{"role": "user", "content": question}],
        system=system,
        temperature=temperature,
        **limits(max_tokens, thinking),
    )
    return asyncio.run(_ask(target, params, output, strategy, as_json=as_json, plain=plain))


def _question(prompt: str | None, files: Sequence[str], where: Where) -> Any:
    names = list(files)
    if prompt == "-":
        prompt, names = "", ["-", *names]
    if where.api_key_file == "-" and "-" in names:
        raise Fault("standard input cannot be both the key and part of the question")
    if prompt and not names and os.path.isfile(prompt):
        note(f'the prompt is the text {prompt!r}; name files after it: ask "..." {prompt}')
    question = content_of(prompt or "", names, piped=where.api_key_file != "-")
    if not question:
        raise Fault('there is no prompt: modelslab ask "...", or pipe it into the command')
    return question


def check_strategy(strategy: Strategy | None, schema: str | None) -> None:
    """Refuse a strategy with nothing to ask for by it. Raises `Fault`."""
    if strategy is not None and schema is None:
        raise Fault("--strategy requires --schema")


def type_of(schema: str) -> Any:
    """Return the output type for a schema in a file. Raises `Fault`."""
    from . import _schema  # loads jsonschema, which few questions need

    return _schema.type_of(schema)


def limits(max_tokens: int | None, thinking: str | None) -> dict[str, Any]:
    """Return `max_tokens` and `thinking` as a request has them.

    >>> limits(None, "2000")
    {'max_tokens': 6096, 'thinking': {'type': 'enabled', 'budget_tokens': 2000}}
    """
    if thinking is None:
        return {"max_tokens": MAX_TOKENS if max_tokens is None else max_tokens}
    if thinking == "adaptive":
        return limits(max_tokens, None) | {"thinking": {"type": "adaptive"}}
    if not (thinking.isascii() and thinking.isdigit()):
        raise Fault(f"--thinking {thinking}: must be a number of tokens, or `adaptive`")
    budget = int(thinking)
    most = budget + MAX_TOKENS if max_tokens is None else max_tokens
    return {"max_tokens": most, "thinking": {"type": "enabled", "budget_tokens": budget}}


def params_of(**params: Any) -> dict[str, Any]:
    """Return the parameters of a request, without those that are not given."""
    return {name: value for name, value in params.items() if value is not None}


async def model_of(target: Target, client: AsyncModelsLab) -> str:
    """Return the model to ask: the preferred one, or the only one there is. Raises `Fault`."""
    if target.model:
        return target.model
    cure = "set it with --model, MODELSLAB_MODEL or a profile"
    try:
        names = [model.id for model in await client.models.list()]
    except NotFoundError as error:
        raise Fault(f"no model is set, and the server lists none; {cure}") from error
    if len(names) != 1:
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise Fault(f"no model is set; {cure}; the server has: {few or 'none'}")
    return names[0]


async def _ask(
    target: Target,
    params: dict[str, Any],
    output: Any,
    strategy: Strategy | None,
    *,
    as_json: bool,
    plain: bool,
) -> Status:
    async with target.client() as client:
        params["model"] = await model_of(target, client)
        if output is not None:
            return await _structured(client, params, output, strategy, as_json=as_json)
        if as_json:
            return await _as_json(client, params)
        return await _streamed(client, params, plain=plain)


async def _streamed(client: AsyncModelsLab, params: dict[str, Any], *, plain: bool) -> Status:
    with screen(plain=plain) as shown:
        async with client.messages.stream(**params) as stream:
            async for kind, text in stream.deltas:
                (shown.say if kind == "text" else shown.think)(text)
            message = await stream.get_final_message()
    return ended(message)


async def _as_json(client: AsyncModelsLab, params: dict[str, Any]) -> Status:
    try:
        async with client.messages.stream(**params) as stream:
            message = await stream.get_final_message()
    except APIError as error:
        if error.partial_message is not None:  # it was paid for
            _write_json(error.partial_message)
        raise
    _write_json(message)
    return ended(message)


async def _structured(
    client: AsyncModelsLab,
    params: dict[str, Any],
    output: Any,
    strategy: Strategy | None,
    *,
    as_json: bool,
) -> Status:
    if strategy is not None:
        params["strategy"] = strategy
    try:
        message = await client.messages.parse(output=output, **params)
    except (OutputError, APIError) as error:  # its tokens were used
        _show_paid(error, as_json=as_json)
        raise
    if as_json:
        _write_json(message)
    else:
        indent = 2 if is_screen(sys.stdout) else None
        write_json(message.parsed, indent)
    return Status.OK


def _show_paid(error: OutputError | APIError, *, as_json: bool) -> None:
    """Show an invalid output: with `--json` as the message, otherwise on standard error."""
    message = error.message if isinstance(error, OutputError) else error.partial_message
    if not as_json:
        if text := text_of(error):
            note(text)
    elif message is not None:
        raw = error.raw_text if isinstance(error, OutputError) else message.text
        write_json(message.model_dump(mode="json") | {"raw_text": raw, "error": str(error)})


def text_of(error: ModelsLabError) -> str | None:
    """Return what a failed call brought all the same: text, and the output that does not fit.

    None if nothing came.
    """
    if isinstance(error, OutputError):
        text, raw = error.message.text, error.raw_text
        return (text if raw in text else f"{text}\n{raw}".strip()) or None
    if isinstance(error, APIError) and error.partial_message is not None:
        return error.partial_message.text or None
    return None


def _write_json(message: Message) -> None:
    write_json(message.model_dump(mode="json"))


def ended(message: Message) -> Status:
    """Say on standard error where an answer is not all there is, and return the exit status."""
    if message.stop_reason in _CUT:
        note(
            f"modelslab: the answer was truncated ({message.stop_reason}) after "
            f"{message.usage.output_tokens} tokens; raise --max-tokens"
        )
        return Status.INCOMPLETE
    if message.stop_reason == "refusal":
        details = message.stop_details
        why = (details.explanation or details.category) if details else None
        note("modelslab: the model refused to answer" + (f": {why}" if why else ""))
        return Status.INCOMPLETE
    if not message.text:
        note("modelslab: the answer is empty")
    return Status.OK
