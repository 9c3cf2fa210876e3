"""Unique indexes, and indexes that are made while others write."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import ConcurrencyConflict, UniqueViolation, UsageError
from tests.processes import Worker, open_database

Start = Callable[[], Worker]


def begin_with(here: SimpleNamespace, key: str, email: str) -> None:
    here.session = here.db.session()
    here.session.table("people")[key] = {"email": email}


def commit(here: SimpleNamespace) -> None:
    here.session.commit()


@pytest.fixture(params=["overlay", "base"])
def db(request: pytest.FixtureRequest, database: Path) -> Iterator[pykesto.Database]:
    """A database with ann's row under a unique index, in the overlay or in a base."""
    db = pykesto.open(database)
    with db.transaction() as s:
        s.table("people").create_index("email", unique=True)
        s.table("people")["ann"] = {"email": "a@x"}
    if request.param == "base":
        while not (outcome := db.checkpoint()).done and "everything" not in outcome.reason:
            pass  # the one in the background is at it
    yield db
    db.close()


def test_of_two_processes_that_commit_the_same_value_one_is_refused(database: Path, start_worker: Start) -> None:
    one, other = start_worker(), start_worker()
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people").create_index("email", unique=True)
    for worker, key in ((one, "ann"), (other, "bob")):
        worker.call(open_database, database)
        worker.call(begin_with, key, "a@x")
    for worker in one, other:
        worker.start(commit)
    outcomes = []
    for worker in one, other:
        try:
            outcomes.append(worker.result())
        except UniqueViolation as error:
            outcomes.append((error.table, error.column, error.value))
            loser = error
    assert sorted(outcomes, key=str) == [("people", "email", "a@x"), None]
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == [loser.key]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_a_value_that_is_there_is_refused_whatever_the_isolation_or_force(
    db: pykesto.Database, isolation: str, force: bool
) -> None:
    with db.session(isolation=isolation) as s:  # type: ignore[arg-type]
        s.table("people")["bob"] = {"email": "a@x"}
        with pytest.raises(UniqueViolation) as caught:
            s.commit(force=force)
        error = caught.value
        assert (error.table, error.column, error.value, error.key) == ("people", "email", "a@x", "ann")
        assert not error.retryable
        s.table("people")["bob"]["email"] = "b@x"  # correct and commit again
        s.commit(force=force)
    with db.session() as s:
        assert [row["email"] for row in s.table("people").range()] == ["a@x", "b@x"]


def test_equal_numbers_of_different_types_collide(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["one"] = {"email": 1}
    with pytest.raises(UniqueViolation), db.transaction() as s:
        s.table("people")["other"] = {"email": 1.0}


def test_text_and_bytes_do_not_collide(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["bytes"] = {"email": b"a@x"}


def test_two_new_rows_of_one_commit_may_not_share_a_value(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("people")["one"] = {"email": "b@x"}
        s.table("people")["other"] = {"email": "b@x"}
        with pytest.raises(UniqueViolation):
            s.commit()


def test_missing_and_none_never_collide(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for key in range(3):
            s.table("people")[key] = {"email": None}
            s.table("people")[str(key)] = {}


def test_rows_may_swap_values_in_one_commit(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["bob"] = {"email": "b@x"}
    with db.transaction() as s:
        people = s.table("people")
        people["ann"]["email"], people["bob"]["email"] = people["bob"]["email"], people["ann"]["email"]
    with db.session() as s:
        assert [row["email"] for row in s.table("people").range()] == ["b@x", "a@x"]


def test_a_value_is_free_once_its_row_is_deleted_or_changed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["ann"]["email"] = "c@x"
        s.table("people")["bob"] = {"email": "a@x"}
    with db.transaction() as s:
        del s.table("people")["ann"]
    with db.transaction() as s:
        s.table("people")["eve"] = {"email": "c@x"}


def test_a_row_that_is_written_again_does_not_collide_with_itself(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["ann"]["age"] = 1
    with db.transaction() as s:
        s.table("people")["ann"] = {"email": "a@x"}


def test_a_conflict_wins_over_a_violation_so_that_a_retry_sees_the_row(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        assert not people.query.col("email").equals("b@x").exists()
        people["bob"] = {"email": "b@x"}
        with db.transaction() as other:
            other.table("people")["eve"] = {"email": "b@x"}
        with pytest.raises(ConcurrencyConflict):
            s.commit()


def test_a_unique_index_over_duplicates_is_refused_at_commit(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            for key in range(3):
                s.table("people")[key] = {"email": "same" if key else "other"}
        db.checkpoint()
        with db.session() as s:
            s.table("people").create_index("email", unique=True)
            with pytest.raises(UniqueViolation):
                s.commit()
        with db.session() as s:
            assert s.table("people").indexes() == ()


def test_the_same_columns_with_another_unique_is_a_usage_error(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(UsageError):
        s.table("people").create_index("email")


def test_a_dropped_unique_index_refuses_nothing(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people").drop_index("email")
    with db.transaction() as s:
        s.table("people")["bob"] = {"email": "a@x"}


def test_of_two_that_create_an_index_once_unique_and_once_not_one_is_refused(database: Path) -> None:
    with pykesto.open(database) as db, db.session() as one, db.session() as other:
        one.table("people").create_index("email", unique=True)
        other.table("people").create_index("email")
        one.commit()
        with pytest.raises((UsageError, ConcurrencyConflict)):
            other.commit()


# Indexes while others write


def write_rows(here: SimpleNamespace, first: int, count: int) -> None:
    here.say("begun")
    for key in range(first, first + count):
        with here.db.transaction(durability="process") as s:
            people = s.table("people")
            people[key] = {"age": key % 50}
            if key % 3 == 0:
                people[first]["age"] = key % 7
            if key % 5 == 0 and key - 3 > first:
                del people[key - 3]


def test_an_index_made_while_others_write_agrees_with_a_scan(database: Path, start_worker: Start) -> None:
    workers = [start_worker() for _ in range(2)]
    for worker in workers:
        worker.call(open_database, database)
    with pykesto.open(database) as db:
        for n, worker in enumerate(workers):
            worker.start(write_rows, n * 1000, 300)
        for worker in workers:
            assert worker.hear() == "begun"
        with db.transaction() as s:
            s.table("people").create_index("age")
        db.checkpoint()
        for worker in workers:
            worker.result()
        for checkpointed in (False, True):
            if checkpointed:
                db.checkpoint()
            with db.session() as s:
                people = s.table("people")
                rows = {key: people[key]["age"] for key in people}
                assert len(rows) > 300
                for age in range(50):
                    by_index = people.query.col("age").equals(age)
                    assert sorted(by_index.keys()) == sorted(key for key, found in rows.items() if found == age)
                assert "index on 'age'" in people.query.col("age").equals(1).explain() or not checkpointed


def test_a_commit_that_drops_a_unique_index_is_not_held_to_it(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("names").create_index("name", unique=True)
            s.table("names").update({1: {"name": "a"}, 2: {"name": "b"}})
        with db.transaction() as s:
            s.table("names").drop_index("name")
            s.table("names")[2]["name"] = "a"
