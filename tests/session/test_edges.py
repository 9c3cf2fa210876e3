"""Edges that a review found, each with what it would have lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pykesto
from pykesto import UsageError


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("t")["a"] = {"n": 0, "l": [1]}
        yield db


def test_a_column_is_set_to_none(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("t")["a"]["new"] = None
    with db.session() as s:
        assert s.table("t")["a"].to_dict() == {"n": 0, "l": [1], "new": None}


def test_a_list_is_still_the_rows_own_after_an_operator_in_place(db: pykesto.Database) -> None:
    with db.transaction() as s:
        row = s.table("t")["a"]
        held = row["l"]
        row["l"] += [2]
        held.append(3)
        row["l"] = [9]
        with pytest.raises(UsageError, match="earlier snapshot"):
            held.append(4)
    with db.session() as s:
        assert s.table("t")["a"]["l"] == [9]


def test_a_hook_after_the_commit_does_not_make_it_run_again(db: pykesto.Database) -> None:
    def add_one(s: pykesto.Session) -> None:
        s.table("t")["a"]["n"] += 1

        def conflict() -> None:
            raise pykesto.ConcurrencyConflict(message="of another transaction")

        s.after_commit(conflict)

    with pytest.raises(pykesto.ConcurrencyConflict, match="of another"):
        db.run(add_one)
    with db.session() as s:
        assert s.table("t")["a"]["n"] == 1


def test_a_block_of_attempts_left_by_return_after_a_conflict_is_reported(
    db: pykesto.Database, caplog: pytest.LogCaptureFixture
) -> None:
    def left_early() -> int:
        for attempt in db.attempts(3):
            with attempt as s:
                s.table("t")["a"]["n"] += 1
                db_run_elsewhere(db)
                return 1
        return 0

    with caplog.at_level(logging.ERROR, "pykesto"):
        left_early()
    assert "return or break" in caplog.text


def db_run_elsewhere(db: pykesto.Database) -> None:
    thread = threading.Thread(target=lambda: db.run(lambda s: s.table("t")["a"].update(n=10)))
    thread.start()
    thread.join()


def test_a_misspelt_durability_is_refused(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("t")["b"] = {}
        with pytest.raises(UsageError, match="ful'"):
            s.commit(durability="ful")  # type: ignore[arg-type]
        s.commit()


def test_a_drop_of_a_table_leaves_no_row_behind(database: Path) -> None:
    with pykesto.open(database, isolation="snapshot") as db:
        with db.transaction() as s:
            s.table("t")["a"] = {}
        with db.session(isolation="serializable") as s:
            s.table("t").query.delete()
            db_insert(db)
            with pytest.raises(pykesto.ConcurrencyConflict):
                s.commit()
        db.drop_table("t")
        assert db.tables() == ()
        with db.session() as s:
            assert list(s.table("t")) == []


def db_insert(db: pykesto.Database) -> int:
    with db.session() as s:
        s.table("t")["late"] = {}
        return s.commit()


def test_two_that_make_one_name_of_the_root_conflict(database: Path) -> None:
    with pykesto.open(database, isolation="snapshot") as db, db.session() as one, db.session() as other:
        one.root["b"] = 1
        other.root["b"] = 2
        one.commit()
        with pytest.raises(pykesto.ConcurrencyConflict):
            other.commit()
        other.commit(force=True)
        with db.transaction() as s:
            assert s.root["b"] == 2
            del s.root["b"]
            assert "b" not in s.root
            s.root["b"] = 3
        with db.transaction() as s:
            assert dict(s.root) == {"b": 3}
            del s.root["b"]
        with db.session() as s:
            assert dict(s.root) == {}


def test_a_savepoint_brings_back_what_was_refreshed_in_it(db: pykesto.Database) -> None:
    with db.transaction() as s:
        row = s.table("t")["a"]
        row["n"] = 5

        def refresh_and_fail() -> None:
            with s.savepoint():
                s.refresh(row)
                assert row["n"] == 0
                raise LookupError

        with pytest.raises(LookupError):
            refresh_and_fail()
    with db.session() as s:
        assert s.table("t")["a"]["n"] == 5


def test_a_row_of_another_session_is_not_deleted(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        row = one.table("t")["a"]
        with pytest.raises(UsageError, match="another session"):
            other.delete(row)


def test_a_limit_of_nothing_finds_nothing(db: pykesto.Database) -> None:
    with db.session() as s:
        nothing = s.table("t").query.limit(0)
        assert not nothing.exists()
        assert nothing.first() is None
        assert nothing.count() == 0
