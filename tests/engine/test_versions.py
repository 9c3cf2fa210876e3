"""Commit numbers only grow, whatever ends how; a row's version never looks unchanged when it changed."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pykesto
from pykesto.engine.content import Commit
from pykesto.engine.manifest import Mark
from pykesto.engine.overlay import Overlay
from tests.processes import Worker, open_database, put

GENERATION_SHIFT = 40


def generation(version: int) -> int:
    return version >> GENERATION_SHIFT


def version_of(db: pykesto.Database, key: str) -> int:
    with db.session() as s:
        version = s.table("people")[key].k_version
        assert version is not None
        return version


def test_a_row_deleted_and_created_again_has_a_greater_version(database: Path) -> None:
    with pykesto.open(database) as db:
        versions = []
        for _ in range(3):
            with db.transaction() as s:
                s.table("people")["ann"] = {"age": 1}
            versions.append(version_of(db, "ann"))
            with db.transaction() as s:
                del s.table("people")["ann"]
            db.checkpoint()
        assert versions == sorted(set(versions))


def test_a_row_has_the_number_of_the_commit_that_wrote_it(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.session() as s:
            row = s.table("people")
            row["ann"] = {"age": 1}
            assert row["ann"].k_version is None
            number = s.commit()
            assert row["ann"].k_version == number == db.version
            row["bob"] = {}
            later = s.commit()
            assert (row["ann"].k_version, row["bob"].k_version) == (number, later)
        db.checkpoint()
        assert version_of(db, "ann") == number


def test_versions_survive_a_clean_end_in_the_same_generation(database: Path) -> None:
    numbers = []
    for _ in range(5):
        with pykesto.open(database) as db, db.session() as s:
            s.table("people")["ann"] = {"age": 1}
            numbers.append(s.commit())
    assert numbers == sorted(set(numbers))
    assert len({generation(number) for number in numbers[1:]}) == 1
    assert [b - a for a, b in pairwise(numbers[1:])] == [1, 1, 1]


def test_a_clean_end_starts_no_new_segment(database: Path) -> None:
    for _ in range(5):
        with pykesto.open(database) as db, db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
    segments = len(list((database / "journal").iterdir()))
    for _ in range(5):
        with pykesto.open(database) as db, db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
    assert len(list((database / "journal").iterdir())) == segments


def test_the_generation_rises_when_all_processes_were_killed(
    database: Path, start_worker: Callable[[], Worker]
) -> None:
    numbers = []
    for _ in range(3):
        worker = start_worker()
        worker.call(open_database, database)
        numbers += [worker.call(put, "ann", {"age": age}) for age in range(2)]
        worker.kill()
    assert numbers == sorted(set(numbers))
    generations = [generation(number) for number in numbers]
    assert generations[0] == generations[1] < generations[2] == generations[3] < generations[4]


def test_the_generation_stays_when_one_of_two_processes_was_killed(
    database: Path, start_worker: Callable[[], Worker]
) -> None:
    with pykesto.open(database) as db:
        worker = start_worker()
        worker.call(open_database, database)
        number = worker.call(put, "ann", {"age": 1})
        worker.kill()
        assert db.version == number
        with db.session() as s:
            s.table("people")["ann"]["age"] = 2
            assert s.commit() == number + 1


def test_an_unclean_end_without_a_commit_gives_no_number_twice(
    database: Path, start_worker: Callable[[], Worker]
) -> None:
    with pykesto.open(database) as db, db.session() as s:
        s.table("people")["ann"] = {}
        before = s.commit()
    worker = start_worker()
    worker.call(open_database, database)
    worker.kill()
    with pykesto.open(database) as db, db.session() as s:
        assert s.version == before
        s.table("people")["ann"] = {}
        assert s.commit() > before


def test_a_long_chain_of_versions_is_let_go_with_little_stack() -> None:
    freed = []

    def keep_and_let_go() -> None:
        live = [0]
        overlay = Overlay(Mark(), {}, live)
        for number in range(1, 20_000):
            live[0] = max(0, number - 2)  # a session that began two commits ago
            overlay.apply(number, Commit({"table": {b"key": b"image"}}))
        version = overlay.newest("table", b"key")
        del overlay
        freed.append(version.number if version is not None else 0)

    usual = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=keep_and_let_go)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    assert freed == [19_999]


def test_an_old_snapshot_keeps_its_version_of_a_changing_row(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 0}
        with db.session(read_only=True) as old:
            assert old.version == db.version
            for age in range(1, 5):
                with db.transaction() as s:
                    s.table("people")["ann"] = {"age": age}
            assert old.table("people")["ann"]["age"] == 0
