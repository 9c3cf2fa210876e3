"""Columns with a policy: commits that change them at the same time go together, and all others conflict as ever."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pykesto
from pykesto import ConcurrencyConflict, UniqueViolation, UsageError
from tests.processes import Worker, open_database

POLICIES = {"hits": "counter", "high": "max", "low": "min", "tags": "set_add", "seen": "last"}
ROW: dict[str, Any] = {"name": "home", "hits": 1, "high": 5, "low": 5, "tags": {"a"}, "seen": "never"}


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            pages = s.table("pages")
            for column, policy in POLICIES.items():
                pages.merge(column, policy)  # type: ignore[arg-type]
            pages["home"] = ROW
        yield db


def both(
    db: pykesto.Database,
    one: Callable[[pykesto.Row], Any],
    other: Callable[[pykesto.Row], Any],
    isolation: Any = "serializable",
) -> dict[str, Any]:
    """Two sessions that read the row before either commits; the row as it is in the end."""
    with db.session(isolation=isolation) as first, db.session(isolation=isolation) as second:
        one(first.table("pages")["home"])
        other(second.table("pages")["home"])
        first.commit()
        second.commit()
        seen: dict[str, Any] = second.table("pages")["home"].to_dict()
    with db.session() as s:
        assert s.table("pages")["home"] == seen
    return seen


def add(column: str, amount: Any) -> Callable[[pykesto.Row], None]:
    return lambda row: row.__setitem__(column, row[column] + amount)


def put(column: str, value: Any) -> Callable[[pykesto.Row], None]:
    return lambda row: row.__setitem__(column, value)


@pytest.mark.parametrize("in_base", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (add("hits", 1), add("hits", 2), {"hits": 4}),
        (add("hits", 1), add("hits", -2), {"hits": 0}),
        (add("hits", 10**30), add("hits", Fraction(1, 2)), {"hits": 10**30 + Fraction(3, 2)}),
        (add("hits", 1), add("hits", 0.25), {"hits": 2.25}),
        (add("hits", 0), add("hits", Decimal("0.1")), {"hits": Decimal("1.1")}),
        (put("high", 7), put("high", 6), {"high": 7}),
        (put("high", 6), put("high", 7), {"high": 7}),
        (put("low", 2), put("low", 3), {"low": 2}),
        (lambda row: row["tags"].add("b"), lambda row: row["tags"].update("cd"), {"tags": {"a", "b", "c", "d"}}),
        (put("seen", "first"), put("seen", ["second"]), {"seen": ["second"]}),
        (add("hits", 1), put("high", 9), {"hits": 2, "high": 9}),
        (lambda row: row.update(hits=3, low=1), lambda row: row.update(hits=5, low=2), {"hits": 7, "low": 1}),
    ],
)
def test_changes_by_policy_go_together(
    db: pykesto.Database, one: Any, other: Any, expected: dict[str, Any], in_base: bool
) -> None:
    if in_base:
        db.checkpoint()
    assert both(db, one, other) == ROW | expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (put("name", "x"), put("name", "y")),  # no policy
        (put("name", "x"), add("hits", 1)),  # what the second read was changed
        (add("hits", 1), lambda row: row.update(hits=2, name="y")),
        (add("hits", 1), lambda row: row.pop("hits")),
        (lambda row: row.pop("hits"), lambda row: row.update(hits=2, name="y")),
        (add("hits", 1), put("hits", "many")),  # no number
        (put("hits", "many"), add("hits", 1)),
        (add("hits", 1), put("hits", True)),
        (add("hits", 0.5), add("hits", Decimal(1))),  # which have no sum
        (add("hits", 1), put("hits", float("inf"))),
        (add("hits", 1), lambda row: row.update(high=1)),  # what only rises was taken down
        (put("high", "text"), put("high", 9)),
        (lambda row: row["tags"].add("b"), lambda row: row["tags"].remove("a")),
    ],
)
def test_what_does_not_fit_a_policy_is_a_conflict(db: pykesto.Database, one: Any, other: Any) -> None:
    with pytest.raises(ConcurrencyConflict):
        both(db, one, other)
    with db.session() as s:
        s.table("pages")["home"] = ROW
        s.commit()


def test_a_row_that_is_assigned_or_deleted_is_not_merged(db: pykesto.Database) -> None:
    def assign(s: pykesto.Session) -> None:
        s.table("pages")["home"] = ROW | {"hits": 9}

    def delete(s: pykesto.Session) -> None:
        del s.table("pages")["home"]

    def grow(s: pykesto.Session) -> None:
        s.table("pages")["home"]["hits"] += 1

    for one, other in (grow, assign), (grow, delete), (delete, grow):
        with db.session() as first, db.session() as second:
            one(first)
            other(second)
            first.commit()
            with pytest.raises(ConcurrencyConflict):
                second.commit()
            second.rollback()
        with db.transaction() as s:
            s.table("pages")["home"] = ROW


def test_snapshot_isolation_merges_beside_any_change_of_other_columns(db: pykesto.Database) -> None:
    assert both(db, put("name", "x"), add("hits", 1), "snapshot") == ROW | {"name": "x", "hits": 2}


def test_a_row_that_both_begin_by_setdefault_is_merged(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        for session in one, other:
            row = session.table("pages").setdefault("new", {"hits": 0})
            row["hits"] += 2
        one.commit()
        other.commit()
        assert other.table("pages")["new"] == {"hits": 4}
        one.table("pages").insert("third", {"hits": 1})
        other.table("pages").insert("third", {"hits": 1})
        one.commit()
        with pytest.raises(ConcurrencyConflict):
            other.commit()
        other.rollback()


def test_a_row_only_read_conflicts_with_a_counter_as_with_anything(db: pykesto.Database) -> None:
    with db.session() as s:
        assert s.table("pages")["home"]["hits"] == 1
        s.table("pages")["other"] = {}
        db.run(lambda other: other.table("pages")["home"].update(hits=2))
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        s.rollback()


def test_a_session_sees_what_its_row_was_merged_to_and_goes_on(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("pages")["home"]
        tags = row["tags"]
        for number in range(3):
            row["hits"] += 1
            tags.add(number)
            if number == 1:
                db.run(lambda other: other.table("pages")["home"].update(hits=100))
                s.commit()
                tags = row["tags"]  # of the merged row
            else:
                s.commit()
        assert row["hits"] == 102
        assert row["tags"] == {"a", 0, 1, 2}


def test_unique_columns_and_indexes_know_the_merged_row(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("pages").create_index("hits", unique=True)
        s.table("pages")["other"] = {"hits": 3}
    with pytest.raises(UniqueViolation):
        both(db, add("hits", 1), add("hits", 1))
    with db.session() as s:
        assert s.table("pages").query.col("hits").equals(2).keys() == ["home"]


def test_policies_are_kept_for_all_and_can_be_taken_back(database: Path, db: pykesto.Database) -> None:
    db.checkpoint()
    db.close()
    with pykesto.open(database) as db:
        with db.session() as s:
            pages = s.table("pages")
            assert pages.merges() == POLICIES
            pages.merge("hits", None)
            assert "hits" not in pages.merges()
            s.rollback()
            assert pages.merges() == POLICIES
            pages.merge("hits", None)
            pages.merge("hits", None)
            pages.merge("seen", "max")
            s.commit()
        with db.session() as s:
            assert s.table("pages").merges() == {**{k: v for k, v in POLICIES.items() if k != "hits"}, "seen": "max"}
            assert s.table("others").merges() == {}
        with pytest.raises(ConcurrencyConflict):
            both(db, add("hits", 1), add("hits", 1))
        assert db.tables() == ("pages",)
        db.drop_table("pages")
        with db.session() as s:
            assert s.table("pages").merges() == {}


def test_two_that_declare_policies_at_once_do_not_conflict(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        one.table("t").merge("n", "counter")
        one.table("t").merge("m", "max")
        other.table("t").merge("n", "counter")
        one.commit()
        other.commit()
        assert other.table("t").merges() == {"n": "counter", "m": "max"}


@pytest.mark.parametrize(("column", "policy"), [("", "counter"), (1, "counter"), ("n", "sum"), ("n", "")])
def test_a_policy_is_one_of_those_that_there_are(db: pykesto.Database, column: Any, policy: Any) -> None:
    with db.session() as s, pytest.raises((UsageError, TypeError)):
        s.table("t").merge(column, policy)


def test_force_writes_what_the_session_has(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("pages")["home"]["hits"] += 1
        db.run(lambda other: other.table("pages")["home"].update(hits=100))
        s.commit(force=True)
        assert s.table("pages")["home"]["hits"] == 2


def grow(here: SimpleNamespace, times: int) -> None:
    for _ in range(times):
        with here.db.transaction() as s:
            s.table("pages")["home"]["hits"] += 1


def test_processes_count_without_a_conflict(
    database: Path, db: pykesto.Database, start_worker: Callable[[], Worker]
) -> None:
    workers = [start_worker() for _ in range(3)]
    for worker in workers:
        worker.call(open_database, database)
    for worker in workers:
        worker.start(grow, 100)
    for worker in workers:
        worker.result()
    with db.session() as s:
        assert s.table("pages")["home"]["hits"] == 301
