"""Large rows that others committed stay in the journal until they are read."""

import os
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import ConcurrencyConflict, CorruptionError, col
from pykesto.journal import segments
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


def test_a_row_that_can_not_be_read_stops_no_conflict_and_no_commit_half_way(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db:
        with db.session() as s:
            s.table("people")[7] = {"text": "mine"}
            assert s.table("people")[0]["n"] == 0
            other.call(put, 7, {"text": text(777), "n": -7})
            assert db.version > s.version
            (segment,) = (path for path in database.glob("journal/*.kj") if text(777).encode() in path.read_bytes())
            content = segment.read_bytes()
            at = content.index(text(777).encode()) + 100
            with segment.open("r+b") as file:
                file.seek(at)
                file.write(b"y")
            with pytest.raises(ConcurrencyConflict):
                s.commit()
        before = db.version
        with pytest.raises(CorruptionError, match=segment.name), db.transaction() as s:
            s.table("people").create_index("n")
        assert db.version == before
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(content[at : at + 1])
        with db.transaction() as s:
            s.table("people").create_index("n")
        assert db.version > before


def segments_open_here() -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the directory itself
            found += ".kj" in os.readlink(descriptor)
    return found


def fill_small_segments(here: Any, rounds: int) -> None:
    """A new row in each of many segments, and the same row written again until the segment is full."""
    segments.LARGEST_CAPACITY = 1 << 17
    for number in range(rounds):
        put(here, number, {"text": text(number)})
        for _ in range(8):
            put(here, "hot", {"text": text(0)})
        if number % 4 == 0:
            checkpoint(here)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is open")
def test_no_more_than_a_few_segments_are_held_for_rows_that_nobody_reads(database: Path, start_worker: Any) -> None:
    worker: Worker = start_worker()
    worker.call(open_database, database)
    worker.call(put, "first", {"n": 1})
    db = pykesto.open(database)
    s = db.session()
    assert s.table("people")["first"]["n"] == 1
    for _ in range(3):
        worker.call(fill_small_segments, 16)
        with db.session() as now:
            assert now.version > s.version
            assert segments_open_here() <= 20
    with db.session() as now:
        assert [now.table("people")[n]["text"] for n in range(16)] == [text(n) for n in range(16)]
    db.close()
    assert segments_open_here() == 0
    assert s.in_transaction


def test_a_row_that_others_deleted_or_wrote_again_is_what_each_session_saw(database: Path, other: Worker) -> None:
    with pykesto.open(database) as db, db.session() as before:
        assert before.table("people")[0]["n"] == 0
        other.call(put, 1, {"text": text(99), "n": 99})
        other.call(put, 1, {"text": text(98), "n": 98})
        with db.session() as after:
            assert after.table("people")[1]["text"] == text(98)
        assert before.table("people")[1]["text"] == text(1)
