"""A session reads one version of the whole database, whatever others commit and checkpoint meanwhile."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from tests.processes import Worker, begin, checkpoint, delete, open_database, put, read_all

Start = Callable[[], Worker]


def indexed_ages(here: SimpleNamespace) -> list[int]:
    return [row["age"] for row in here.session.table("people").query.col("age").ge(0).order_by("age")]


def close_session(here: SimpleNamespace) -> None:
    here.session.close()


def create_index(here: SimpleNamespace, column: str) -> None:
    with here.db.transaction() as s:
        s.table("people").create_index(column)


@pytest.fixture
def writer(database: Path, start_worker: Start) -> Worker:
    """A process with one row written."""
    worker = start_worker()
    worker.call(open_database, database)
    worker.call(put, "ann", {"age": 0})
    return worker


def reader(database: Path, start_worker: Start) -> Worker:
    worker = start_worker()
    worker.call(open_database, database)
    worker.call(begin)
    return worker


def test_a_reader_keeps_its_snapshot_while_others_commit(database: Path, start_worker: Start, writer: Worker) -> None:
    old = reader(database, start_worker)
    writer.call(put, "ann", {"age": 1})
    writer.call(put, "bob", {"age": 2})
    assert old.call(read_all) == {"ann": {"age": 0}}
    writer.call(delete, "ann")
    assert old.call(read_all) == {"ann": {"age": 0}}
    old.call(begin)
    assert old.call(read_all) == {"bob": {"age": 2}}


@pytest.mark.parametrize("index", [False, True])
def test_readers_keep_their_snapshots_while_checkpoints_flip_bases(
    database: Path, start_worker: Start, writer: Worker, index: bool
) -> None:
    if index:
        writer.call(create_index, "age")
    readers = []
    for age in range(1, 5):  # each reader begins on another version, and base
        readers.append(reader(database, start_worker))
        for key in "ann", f"row{age}":
            writer.call(put, key, {"age": age})
        while not (outcome := writer.call(checkpoint)).done:  # the background's may be at it
            if "holds everything" in outcome.reason:
                break
    for last, old in enumerate(readers):
        expected = {"ann": {"age": last}} | {f"row{n}": {"age": n} for n in range(1, last + 1)}
        assert old.call(read_all) == expected
        assert old.call(indexed_ages) == sorted(row["age"] for row in expected.values())


def test_readers_that_pin_every_base_get_a_further_one_made_that_goes_away_after_them(
    database: Path, start_worker: Start, writer: Worker
) -> None:
    readers = []
    for age in range(1, 4):
        readers.append(reader(database, start_worker))
        writer.call(put, "ann", {"age": age})
        assert writer.call(checkpoint).done
    bases = database / "base"
    assert (bases / "2" / "STAMP").exists()
    for old in readers:
        old.call(close_session)
    for age in range(2):
        writer.call(put, "ann", {"age": age})
        assert writer.call(checkpoint).done
    assert sorted(base.name for base in bases.iterdir()) == ["0", "1"]


def test_a_process_that_slept_through_checkpoints_sees_the_newest_state(
    database: Path, start_worker: Start, writer: Worker
) -> None:
    sleeper = reader(database, start_worker)
    sleeper.call(close_session)
    for age in range(1, 4):
        writer.call(put, "ann", {"age": age})
        assert writer.call(checkpoint).done
    sleeper.call(begin)
    assert sleeper.call(read_all) == {"ann": {"age": 3}}


def test_a_checkpoint_takes_over_what_the_journal_holds(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            for n in range(1000):
                s.table("numbers")[n] = {"square": n * n}
        assert db.checkpoint().done
        assert db.stats().overlay_rows == 0
        assert not db.checkpoint().done  # there is nothing new
        with db.session() as s:
            assert s.table("numbers")[31]["square"] == 961
            assert list(s.table("numbers")) == list(range(1000))


def test_deletions_reach_both_bases(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            for n in range(10):
                s.table("numbers")[n] = {}
        db.checkpoint()
        for n in range(10):
            with db.transaction() as s:
                del s.table("numbers")[n]
            db.checkpoint()
            with db.session() as s:
                assert list(s.table("numbers")) == list(range(n + 1, 10))


def test_checkpoints_let_go_of_the_journal(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        for _ in range(3):
            for n in range(20):
                with db.transaction() as s:
                    s.table("blobs")[n] = {"content": bytes(50_000)}
            db.checkpoint()
        numbers = sorted(segment.name for segment in (database / "journal").iterdir())
        assert int(numbers[0].split(".")[0]) > 1


def test_an_old_snapshot_still_reads_a_row_that_was_in_a_dropped_table(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        db.checkpoint()
        with db.session() as old:
            assert old.version
            db.drop_table("people")
            db.checkpoint()
            assert old.table("people")["ann"] == {"age": 1}
        with db.session() as s:
            assert list(s.table("people")) == []


def test_a_dropped_table_is_listed_no_more(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        db.drop_table("people")
        assert db.tables() == ()


def test_a_row_that_changes_all_the_time_takes_no_more_memory_than_one_that_rests(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:

        def count(times: int) -> None:
            for _ in range(times):
                with db.transaction() as s:
                    s.table("counters")["hits"]["n"] += 1

        with db.transaction() as s:
            s.table("counters").create_index("n")
            s.table("counters")["hits"] = {"n": 0}
        count(3)
        before = db.stats().overlay_bytes
        sessions = []
        for _ in range(5):  # each holds one version, and whatever lies between two of them nobody sees
            count(200)
            sessions.append(db.session())
            assert sessions[-1].version
        count(200)
        assert db.stats().overlay_bytes <= before + 8 * before
        for index, session in enumerate(sessions):
            assert session.table("counters")["hits"]["n"] == 203 + 200 * index
            assert session.table("counters").query.col("n").equals(203 + 200 * index).count() == 1
            assert session.table("counters").query.col("n").ge(0).count() == 1
            session.close()
        count(3)
        assert db.check().ok
        with db.session() as s:
            assert s.table("counters").query.col("n").ge(0).select("n") == [(1206,)]
