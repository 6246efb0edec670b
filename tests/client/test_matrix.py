"""Hold the package to the table of faults, row by row, in every variant, over real sockets.

The caller always sees exactly the right message, or exactly the right error with the message so
far. The rows are in `matrix.faults`.
"""

from __future__ import annotations

import gc
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from matrix.faults import ROWS, Fault, Raises, Returns
from matrix.page import PAGE, ROOT, load, page
from matrix.reading import read
from matrix.stage import KEY, Scene, staged
from patience import UNITS, patient
from raw_server import ASK
from variants import Async, Sync, variant_named

from modelslab_llm import APIConnectionError, APIError, APIStatusError, Message, endpoints

pytestmark = pytest.mark.usefixtures("short_pauses")

README = ROOT / "README.md"
HOME = ROOT / "docs" / "index.md"
ERRORS = ROOT / "docs" / "errors.md"


@pytest.fixture(scope="module", params=["sync", "asyncio", "trio"])
def variant(request: pytest.FixtureRequest) -> Iterator[Sync | Async]:
    """Both clients; one event loop for all rows, of which there are many."""
    with variant_named(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("no openssl command to make a certificate with")
    return Authority(tmp_path_factory.mktemp("authority"))


def ask(client: Any, fault: Fault) -> Message | None:
    if fault.verb == "ready":
        return client.wait_until_ready(5)
    if fault.verb == "create":
        return client.create(**ASK, **fault.asked)
    with client.stream(**ASK, **fault.asked) as streamed:
        return streamed.message()


def client_for(variant: Sync | Async, fault: Fault, scene: Scene, unit: float) -> Any:
    limits = {name: value * unit for name, value in fault.limits.items()}
    settings = {"max_retries": 0, **fault.settings, **limits}
    if fault.stage == "deployment":
        settings["endpoint"] = endpoints.gguf("dep_1", origin=scene.url)
    else:
        place = endpoints.gateway(scene.url)
        settings["endpoint"] = replace(place, continues_prefill=fault.prefill)
    return closing(variant.client(api_key=KEY, **settings))


def outcome_is_right(variant: Sync | Async, fault: Fault, scene: Scene, unit: float) -> None:
    with client_for(variant, fault, scene, unit) as client:
        for _ in fault.before:
            assert read(client.create(**ASK)) == Returns().answer
        expected = fault.expected
        if fault.closed:
            close_meanwhile(client, scene, unit)
        if isinstance(expected, Returns):
            message = ask(client, fault)
            assert message is None or read(message) == expected.answer
        else:
            with pytest.raises(APIError) as caught:
                ask(client, fault)
            error_is_right(caught.value, expected, scene)
        assert scene.tries == expected.tries
        assert not scene.leaked
    gc.collect(0)  # let a socket that was forgotten, and not closed, warn here


def close_meanwhile(client: Any, scene: Scene, unit: float) -> None:
    """Close the client from another thread once the server has the request, and a little later."""

    def close() -> None:
        assert scene.server is not None
        while scene.tries == 0 and threading.main_thread().is_alive():
            time.sleep(0.005)
        time.sleep(unit)
        client.close()

    threading.Thread(target=close, daemon=True).start()


def error_is_right(error: APIError, expected: Raises, scene: Scene) -> None:
    assert type(error) is expected.error
    assert {name: getattr(error, name) for name in expected.fields} == expected.fields
    if expected.partial is not None:
        assert error.partial_message is not None
        assert read(error.partial_message) == expected.partial
        assert error.partial_message.request_id == error.request_id
    line = str(error)
    assert expected.words in line
    assert expected.says in line
    # What somebody needs who reads it in a log: what was asked, which request, how often, how long.
    assert f"{error.method} {scene.url}/" in line
    assert f"{error.attempts} attempt" in line
    assert f"{error.elapsed:.1f} s" in line
    assert (error.request_id is None) or f"request id {error.request_id}" in line
    if isinstance(error, APIStatusError):
        assert str(error.status_code) in line
    assert len(line) <= 500
    assert line.isprintable()
    assert KEY not in line
    assert isinstance(error, APIConnectionError) or error.body is not None or error.type is None


AT_ONCE = {name: fault for name, fault in ROWS.items() if not (fault.limits or fault.closed)}
IN_TIME = {name: fault for name, fault in ROWS.items() if fault.limits or fault.closed}


@pytest.mark.slow
@pytest.mark.parametrize("row", AT_ONCE)
def test_row(variant: Sync | Async, row: str, request: pytest.FixtureRequest) -> None:
    """The caller gets exactly the message that the row promises, or that error with the message so
    far.
    """
    fault = ROWS[row]
    tls = request.getfixturevalue("authority").server if fault.stage == "tls" else None
    with staged(fault, tls) as scene:
        outcome_is_right(variant, fault, scene, UNITS[0])


@pytest.mark.slow
@pytest.mark.parametrize("row", IN_TIME)
@patient
def test_row_with_timeouts(variant: Sync | Async, row: str, unit: float) -> None:
    """The same for rows in which a timeout has to end the call."""
    with staged(ROWS[row]) as scene:
        outcome_is_right(variant, ROWS[row], scene, unit)


def test_the_page_is_what_the_matrix_says() -> None:
    """Run `make reliability` when this fails: a row is new, or promises something else."""
    same = PAGE.read_text(encoding="utf-8") == page(load())
    assert same, "docs/reliability.md does not match the matrix: run `make reliability`"
    counted = f"| of {len(ROWS)} faults the caller sees |"
    for shown in (README, HOME):
        same = table_of(shown, counted) == table_of(PAGE, counted)
        assert same, f"{shown} has another table of faults: copy it from docs/reliability.md"


# Deviations are tolerated, and told to who wants to know

TOLD_OF = {
    "last-blank-line": "the last event without its blank line",
    "type-on-event-line": "an event with its type only on the event line",
    "start-missing/message-start": "message_start missing; began at a content block",
    "start-missing/text": "content_block_start missing; began a text block at its delta",
    "stop-missing/text": "content_block_stop missing",
    "message-stop-missing": "message_stop missing",
    "message-delta-missing": "stop_reason missing",
    "end-inside/18": "the last event is truncated, after the stop_reason",
    "event-twice/00": "message_start again",
    "event-twice/06": "content_block_start again",
    "unknown-delta": "a delta of unknown type was ignored",
    "stream-as/json": "a stream with another content type",
    "message-to-stream/json": "a complete message in response to a stream request",
}
TOLD_WITHOUT_ID = {
    "usage-null": "null in place of a Usage",
    "usage-absent": "usage missing",
    "tokens-null": "usage.output_tokens was null",
    "content-null": "content was null",
    "content-absent": "content missing",
    "reply-string": "the input of a tool call was not an object",
}


@pytest.mark.parametrize("row", [*TOLD_OF, *TOLD_WITHOUT_ID])
def test_what_is_tolerated_is_told(row: str, caplog: pytest.LogCaptureFixture) -> None:
    told = f"{TOLD_OF[row]} (request id req_1)" if row in TOLD_OF else TOLD_WITHOUT_ID[row]
    with caplog.at_level(logging.DEBUG, "modelslab_llm"), staged(ROWS[row]) as scene:
        outcome_is_right(Sync(), ROWS[row], scene, UNITS[0])
    lines = [record.getMessage() for record in caplog.records]
    tolerated = [line for line in lines if line.startswith("tolerated: ")]
    assert f"tolerated: {told}" in tolerated
    assert len(tolerated) <= 3
    for line in tolerated:
        assert KEY not in line
        assert "Tamar" not in line
        assert "level" not in line


def test_nothing_is_told_of_an_answer_as_documented(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "modelslab_llm"):
        for row in ("stream-as/event-stream", "message-as/json"):
            with staged(ROWS[row]) as scene:
                outcome_is_right(Sync(), ROWS[row], scene, UNITS[0])
    assert not [line for line in caplog.messages if line.startswith("tolerated")]


def table_of(page: Path, head: str) -> list[str]:
    """Return the rows of a table, without its head, which may name the libraries in another way."""
    lines = page.read_text(encoding="utf-8").partition(head)[2].splitlines()[2:]
    return lines[: next(at for at, line in enumerate(lines) if not line.startswith("|"))]


# The errors that docs/errors.md shows

SHOWN = ("paused", "close-after/09", "html/create")


@pytest.mark.parametrize("row", SHOWN)
def test_the_page_of_errors_shows_what_they_really_say(row: str) -> None:
    section = ERRORS.read_text(encoding="utf-8").partition("## Error messages")[2]
    shown = section.partition("```text")[2].partition("```")[0].split("\n\n")
    fault = ROWS[row]
    with staged(fault) as scene, client_for(Sync(), fault, scene, UNITS[0]) as client:
        with pytest.raises(APIError) as caught:
            ask(client, fault)
    said = f"{type(caught.value).__name__}: {caught.value}"
    assert changeless(said) in [changeless(" ".join(lines.split())) for lines in shown]


def changeless(line: str) -> str:
    """Return a line without what is another each time, or on each machine: origin and seconds."""
    return re.sub(r"https?://[^/]*", "", re.sub(r"\d+\.\d s", "", line))
