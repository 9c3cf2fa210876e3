"""Large rows that others committed stay in the journal until they are read."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import CorruptionError, col
from tests.processes import Worker, checkpoint, open_database, put

COUNT = 300
SIZE = 20_000


def text(number: int) -> str:
    return f"{number:05d}" + "x" * SIZE


def put_all(here: Any, first: int) -> None:
    """A commit for each row."""
    for number in range(first, first + COUNT):
        put(here, number, {"text": text(number), "n": number})


@pytest.fixture
def other(database: Path, start_worker: Any) -> Iterator[Worker]:
    """Another process, which has committed COUNT rows."""
    worker: Worker = start_worker()
    worker.call(open_database, database)
    worker.call(put_all, 0)
    return worker


def test_who_follows_keeps_no_copy_until_a_row_is_read(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db:
        tracemalloc.start()
        try:
            with db.session() as s:
                assert s.version > 0
                followed = tracemalloc.get_traced_memory()[0]
                rows = s.table("people")
                assert [rows[n]["text"] for n in range(COUNT)] == [text(n) for n in range(COUNT)]
                assert tracemalloc.get_traced_memory()[0] > COUNT * SIZE
        finally:
            tracemalloc.stop()
        assert followed < COUNT * SIZE / 10
        assert db.stats().overlay_bytes > COUNT * SIZE


def test_a_row_is_read_from_a_segment_that_was_removed(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db, db.session() as s:
        rows = s.table("people")
        assert rows[0]["n"] == 0
        segments = set(database.glob("journal/*.kj"))
        for first in range(COUNT, 6 * COUNT, COUNT):
            other.call(put_all, first)
            other.call(checkpoint)
        assert segments - set(database.glob("journal/*.kj"))
        assert [rows[n]["text"] for n in range(COUNT)] == [text(n) for n in range(COUNT)]
        assert COUNT not in rows


def test_an_index_that_is_made_later_knows_rows_that_nobody_read(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people").create_index("n")
        with db.session() as s:
            found = s.table("people").query.where(col("n").between(10, 19))
            assert "index" in found.explain()
            assert [row["text"] for row in found.order_by("n")] == [text(n) for n in range(10, 20)]


def test_a_record_that_changed_since_it_was_followed_is_reported(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db, db.session() as s:
        rows = s.table("people")
        assert rows[0]["n"] == 0
        (segment,) = (path for path in database.glob("journal/*.kj") if text(7).encode() in path.read_bytes())
        content = segment.read_bytes()
        at = content.index(text(7).encode()) + 100
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(b"y")
        with pytest.raises(CorruptionError, match=segment.name):
            rows[7]["text"]
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(content[at : at + 1])
        assert rows[7]["text"] == text(7)


def test_a_row_that_others_deleted_or_wrote_again_is_what_each_session_saw(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db, db.session() as before:
        assert before.table("people")[0]["n"] == 0
        other.call(put, 1, {"text": text(99), "n": 99})
        other.call(put, 1, {"text": text(98), "n": 98})
        with db.session() as after:
            assert after.table("people")[1]["text"] == text(98)
        assert before.table("people")[1]["text"] == text(1)
