"""What a store gives: results read again, and files and tables of them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelslab_llm import APIError, ConfigurationError, ModelsLab, StoreError
from modelslab_llm.bulk import BulkStore
from modelslab_llm.bulk._ledger import Ledger
from modelslab_llm.bulk._result import Kept, message_from, message_json
from modelslab_llm.testing import ErrorReply, LocalServer, ReceivedRequest, Reply
from modelslab_llm.types import Message

SAMPLES = Path(__file__).parent.parent / "samples"


def answer(request: ReceivedRequest) -> Any:
    if request.text == "fail":
        return ErrorReply(400, 'No, "never".')
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 3}
    text = f"Ünïcode, with\na break, and {request.text}"
    return Reply(text, usage=usage, headers={"request-id": "req_7"})


def run(store: Path, keys: list[Any], **options: Any) -> None:
    texts = ["fail" if key in ("fail", -1) else f"row {key}" for key in keys]
    rows = [
        {"id": key, "messages": [{"role": "user", "content": text}]}
        for key, text in zip(keys, texts, strict=True)
    ]
    with LocalServer(answer) as server, server.client(max_retries=0) as client:
        defaults = {"model": "m/1", "max_tokens": 9}
        client.messages.bulk(rows, key="id", defaults=defaults, store=store, **options).finish()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "run.sqlite"
    run(path, ["b", "fail", "a"])
    return path


def test_a_key_is_found_by_its_type(tmp_path: Path) -> None:
    path = tmp_path / "keys.sqlite"
    run(path, ["12", 3, "4", 4, -5, "07"])
    with BulkStore(path) as kept:
        for key in ("12", 3, "4", 4, -5, "07"):
            found = kept.get(key)
            assert found is not None
            assert found.key == key
        for key, why in [
            (12, r"the store has the key '12' \(str\), not 12 \(int\)$"),
            ("3", r"the store has the key 3 \(int\), not '3' \(str\)$"),
            ("-5", r"-5 \(int\), not '-5'"),
            (None, "key must be a str or an int, not None$"),
            (3.0, "not 3.0$"),
            (True, "not True$"),
            (("12",), "not "),
        ]:
            with pytest.raises(TypeError, match=why):
                kept.get(key)  # type: ignore[arg-type]
        for key in (13, "13", 7, "", "-", "03", "+3", " 3", "\u0663", 2**63, "9" * 5000, "\ud800"):
            assert kept.get(key) is None


def test_results_are_read_in_the_order_of_the_rows(store: Path) -> None:
    with BulkStore(store) as kept:
        assert (len(kept), kept.answered, kept.failed) == (3, 2, 1)
        results = list(kept)
        assert [(result.key, result.index, result.source) for result in results] == [
            ("b", 0, "stored"),
            ("fail", 1, "stored"),
            ("a", 2, "stored"),
        ]
        assert results[0].message.text.endswith("row b")
        assert results[0].row is None
        assert isinstance(results[1].error, APIError)
        found = kept.get("a")
        assert found is not None
        assert found.message.text.endswith("row a")
        assert kept.get("c") is None


def test_rows_of_the_last_run_alone(store: Path) -> None:
    run(store, ["a", "new"])
    with BulkStore(store, last_run=True) as kept:
        assert [result.key for result in kept] == ["a", "new"]
        assert (len(kept), kept.answered, kept.failed) == (2, 2, 0)
    with BulkStore(store) as kept:
        assert len(kept) == 4


def test_lines_of_json(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with BulkStore(store) as kept:
        kept.write_jsonl(path)
    first, second, _ = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    message = first.pop("message")
    assert Message.model_validate(message).text == first["text"]
    finished = first.pop("finished")
    assert finished.endswith("+00:00")
    assert first.pop("request_id") == "req_7"
    assert first == {
        "key": "b",
        "position": 0,
        "text": "Ünïcode, with\na break, and row b",
        "output": None,
        "stop_reason": "end_turn",
        "error": None,
        "error_message": None,
        "model": "m/1",
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_read_tokens": 3,
        "cache_write_tokens": 0,
        "attempts": 1,
    }
    assert (second["text"], second["error"]) == (None, "BadRequestError")
    assert second["error_message"] == 'No, "never".'
    assert second["message"] is None


def test_values_separated_by_commas(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with BulkStore(store) as kept:
        kept.write_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["b", "fail", "a"]
    assert rows[0]["text"] == "Ünïcode, with\na break, and row b"
    assert rows[1]["error_message"] == 'No, "never".'


@pytest.mark.slow
def test_parquet_and_frames(store: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "out.parquet"
    with BulkStore(store) as kept:
        kept.write_parquet(path)
        pandas_frame, polars_frame = kept.to_pandas(), kept.to_polars()
    table = parquet.read_table(path)
    assert table.schema.field("key").type == pyarrow.string()
    assert table.schema.field("output_tokens").type == pyarrow.int64()
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == ["b", "fail", "a"]
    assert polars_frame.to_dicts() == rows
    assert list(pandas_frame["key"]) == ["b", "fail", "a"]
    assert list(pandas_frame["output_tokens"]) == [7, 0, 7]


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "expected"), [([2, 1], [2, 1]), ([1, "a"], ["1", "a"]), ([], [])])
def test_a_column_of_keys_has_one_type(
    tmp_path: Path, keys: list[Any], expected: list[Any]
) -> None:
    from pyarrow import parquet

    path = tmp_path / "run.sqlite"
    run(path, keys)
    with BulkStore(path) as kept:
        kept.write_parquet(tmp_path / "out.parquet")
        assert kept.to_polars()["key"].to_list() == expected
        kept.write_jsonl(tmp_path / "out.jsonl")
    assert parquet.read_table(tmp_path / "out.parquet")["key"].to_pylist() == expected
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == keys


WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
from modelslab_llm.bulk import BulkStore
with BulkStore(sys.argv[1]) as kept:
    kept.{call}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "missing", "why"),
    [
        ("to_pandas()", ["pandas"], "to_pandas() needs pandas: pip install pandas"),
        ("to_polars()", ["polars"], "to_polars() needs polars: pip install polars"),
        ("write_parquet('x')", ["pyarrow", "polars"], "pip install pyarrow, or polars"),
    ],
)
def test_what_is_not_installed_is_named(
    store: Path, call: str, missing: list[str], why: str
) -> None:
    program = WITHOUT.format(call=call, missing=missing)
    done = subprocess.run(
        [sys.executable, "-c", program, str(store)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(why)
    assert "ConfigurationError" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_parquet_by_polars(store: Path, tmp_path: Path) -> None:
    import polars

    program = WITHOUT.format(call="write_parquet(sys.argv[2])", missing=["pyarrow"])
    path = tmp_path / "out.parquet"
    subprocess.run([sys.executable, "-c", program, str(store), str(path)], check=True)
    assert polars.read_parquet(path)["key"].to_list() == ["b", "fail", "a"]


@pytest.mark.slow
def test_nothing_of_the_tables_is_imported_before_it_is_needed(store: Path) -> None:
    program = (
        "import sys; from modelslab_llm.bulk import BulkStore; kept = BulkStore(sys.argv[1]);"
        "list(kept); kept.close(); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program, str(store)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"pandas", "polars", "pyarrow", "tqdm", "rich", "httpx"} & set(loaded)


@pytest.mark.parametrize("write", ["write_jsonl", "write_csv", "write_parquet"])
def test_a_file_that_is_there_is_whole(
    store: Path, tmp_path: Path, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced in one step; where that cannot be done, the old one is left."""
    path = tmp_path / "out"
    path.write_text("the old one")

    def interrupted(found: Any) -> Iterator[Kept]:
        raise KeyboardInterrupt

    with BulkStore(store) as kept:
        monkeypatch.setattr(kept._shelf, "all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(kept, write)(path)
        monkeypatch.undo()
        assert path.read_text() == "the old one"
        assert not list(tmp_path.glob(".out*"))
        getattr(kept, write)(path)
    assert path.read_bytes() != b"the old one"
    assert sorted(os.listdir(tmp_path)) == ["out", "run.sqlite"]


@pytest.mark.parametrize("path", ["none.sqlite", "none/run.sqlite"])
def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, path: str) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        BulkStore(tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_type_is_refused(store: Path) -> None:
    with pytest.raises(ConfigurationError, match="output"):
        BulkStore(store, output=Ledger)


# What is kept of a message


def messages() -> Iterator[tuple[str, Message]]:
    """Every answer that a real server sent, as this package reads it."""
    for path in sorted(SAMPLES.glob("m*.json")):
        yield path.stem, Message.model_validate_json(path.read_bytes())
    for path in sorted(SAMPLES.glob("s*.sse")):
        with LocalServer() as server:
            server.script = ErrorReply(
                200, body=path.read_bytes(), headers={"content-type": "text/event-stream"}
            )
            with server.client(max_retries=0) as client:
                try:
                    with client.messages.stream(
                        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
                    ) as stream:
                        yield path.stem, stream.get_final_message()
                except APIError as error:
                    if error.partial_message is not None:
                        yield path.stem, error.partial_message


def test_every_message_of_a_server_comes_back_as_it_was() -> None:
    seen = 0
    for name, message in messages():
        again = message_from(message_json(message), message.request_id)
        assert again == message, name
        assert again.request_id == message.request_id
        assert again.model_fields_set == message.model_fields_set, name
        assert again.usage.model_fields_set == message.usage.model_fields_set, name
        assert again.to_param() == message.to_param(), name
        assert message_json(again) == message_json(message), name
        seen += 1
    assert seen > 20


def test_a_kept_row_may_hold_anything(tmp_path: Path) -> None:
    """Counters that no database could hold are cut, texts of any kind come back."""
    text = "\x00 \U0001f600 '; DROP TABLE results; --"
    with LocalServer(Reply(text, usage={"input_tokens": 10**30, "output_tokens": -5})) as server:
        with ModelsLab(server.api_key, endpoint=server.llm_v7()) as client:
            rows = [{"id": text, "messages": [{"role": "user", "content": text}]}]
            run = client.messages.bulk(
                rows,
                key="id",
                defaults={"model": "m", "max_tokens": 9},
                store=tmp_path / "run.sqlite",
            )
            (result,) = run
            assert result.message.text == text
    with BulkStore(tmp_path / "run.sqlite") as kept:
        found = kept.get(text)
        assert found is not None
        assert found.message.text == text
        assert found.usage.output_tokens == -5
        kept.write_csv(tmp_path / "out.csv")
        kept.write_parquet(tmp_path / "out.parquet")


def test_half_a_character_can_be_exported(tmp_path: Path) -> None:
    """A lone surrogate, which no file can hold, is written as its escape."""
    rows = [
        {"id": "a", "model": "m\udc80"},
        {"id": "b", "model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        {"id": "c\ud83d"},
    ]

    def make(row: dict[str, Any]) -> dict[str, Any]:
        if "messages" not in row:
            raise ValueError("half \ud83d")
        return {"model": "m", "messages": row["messages"]}

    path = tmp_path / "run.sqlite"
    with LocalServer("Hi.") as server, server.client(max_retries=0) as client:
        for way in (make, None):
            run = client.messages.bulk(
                rows, make=way, key="id", defaults={"max_tokens": 9}, store=path
            )
            run.plan()
            assert [result.error is None for result in run].count(True) == 1
            with BulkStore(path) as kept:
                kept.write_jsonl(tmp_path / "out.jsonl")
                kept.write_csv(tmp_path / "out.csv")
                kept.write_parquet(tmp_path / "out.parquet")
                frames = [kept.to_pandas(), kept.to_polars()]
            if way is make:
                said = "row 0: make failed: ValueError: half "
                lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
                assert json.loads(lines[0])["error_message"] == f"{said}\ud83d"
                assert rf"{said}\ud83d" in (tmp_path / "out.csv").read_text(encoding="utf-8")
                for frame in frames:
                    assert frame["error_message"][0] == rf"{said}\ud83d"


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("write", ["write_jsonl", "write_csv", "write_parquet"])
def test_a_store_is_not_replaced_by_what_is_written_from_it(
    store: Path, tmp_path: Path, write: str
) -> None:
    before = store.read_bytes()
    os.symlink(store, tmp_path / "symbolic")
    os.link(store, tmp_path / "hard")
    with BulkStore(store) as kept:
        for path in (store, tmp_path / "symbolic", tmp_path / "hard"):
            with pytest.raises(ConfigurationError, match="is the store itself"):
                getattr(kept, write)(path)
        for path in ("/", str(tmp_path), ".."):
            with pytest.raises(ConfigurationError, match="is not the name of a file"):
                getattr(kept, write)(path)
    assert store.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["hard", "run.sqlite", "symbolic"]
