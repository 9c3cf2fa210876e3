"""What a stranger tried first: keys in conditions, pages, results used after the session, giving up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pykesto
from pykesto import agg, col


class Reader(pykesto.Persistent):
    name: str = pykesto.field(index=True, default="")
    age: int = 0
    friend: pykesto.Persistent | None = None


@pytest.fixture
def db(database: Path) -> pykesto.Database:
    db = pykesto.open(database)
    with db.transaction() as s:
        s.table("t").update({n: {"n": n, "even": n % 2 == 0} for n in range(100)})
        ann = s.add(Reader(name="Ann", age=40))
        s.add(Reader(name="Bob", age=30, friend=ann))
    return db


def test_keys_and_ids_stand_in_conditions(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.table("t").query
        assert [row["n"] for row in query.where(col("k_key") == 7)] == [7]
        assert query.where(col("k_key").between(7, 9.5) & (col("even") == True)).select("k_key") == [(8,)]  # noqa: E712
        assert query.where(~(col("k_key") >= 3)).count() == 3
        ann = s.query(Reader).where(Reader.name == "Ann").one()
        assert s.query(Reader).where(Reader.k_id == ann.k_id).one() is ann
        assert s.query(Reader).where(col("k_id").ne(ann.k_id)).one().name == "Bob"


def test_limits_and_existence_stop_early_and_give_what_a_whole_run_gives(db: pykesto.Database) -> None:
    with db.session() as s:
        query = s.table("t").query.where(col("even") == True)  # noqa: E712
        assert [row["n"] for row in query.limit(3)] == [0, 2, 4]
        assert [row["n"] for row in query.offset(2).limit(2)] == [4, 6]
        assert query.exists()
        assert not query.where(col("n") > 1000).exists()
        s.table("t")[-2] = {"n": -2, "even": True}  # the session's own rows are among the first
        assert [row["n"] for row in query.limit(2)] == [-2, 0]


def test_columns_are_taken_wherever_their_names_are(db: pykesto.Database) -> None:
    with db.session() as s:
        readers = s.query(Reader)
        assert (readers.sum(col(Reader.age)), readers.max(col(Reader.age))) == (70, 40)
        assert [r.name for r in readers.order_by(-col(Reader.age))] == ["Ann", "Bob"]
        assert readers.group_by(col(Reader.name)).agg(sum=agg.sum(col(Reader.age)))[0] == {"name": "Ann", "sum": 40}


def test_what_a_query_returned_can_be_read_after_the_session(db: pykesto.Database) -> None:
    bob = db.run(lambda s: s.query(Reader).where(Reader.name == "Bob").one())
    assert bob.age == 30
    row = db.run(lambda s: s.table("t")[5])
    assert row["n"] == 5
    assert [r["n"] for r in db.run(lambda s: list(s.table("t").query.limit(2)))] == [0, 1]
    with pytest.raises(pykesto.ClosedError, match="before its session ended"):
        assert bob.friend.name  # a reference is followed only while the session is open
    with pytest.raises(pykesto.ClosedError):
        bob.age = 31


def test_the_last_conflict_says_how_often_it_was_tried(db: pykesto.Database) -> None:
    def always_late(s: pykesto.Session) -> None:
        s.table("t")[1]["n"] += 1
        with db.session() as other:
            other.table("t")[1]["n"] += 1
            other.commit()

    with pytest.raises(pykesto.ConcurrencyConflict, match="tried 3 times"):
        db.run(always_late, attempts=3)


def test_transactional_and_attempts_take_the_terms_of_a_transaction(db: pykesto.Database) -> None:
    @db.transactional(attempts=2, isolation="snapshot", note="sum")
    def total(s: pykesto.Session) -> None:
        s.table("sums")["x"] = {"sum": s.table("t").query.sum("n")}
        with db.session() as other:
            other.table("t").add({"n": 1})
            other.commit()

    total()
    for attempt in db.attempts(1, durability="process"):
        with attempt as s:
            s.table("t").add({"n": 2})


def test_a_temporary_database_that_is_left_open_goes_away_quietly() -> None:
    program = """
import pykesto
db = pykesto.temporary()
with db.transaction() as s:
    s.table("t").add_many([{"n": i, "pad": "x" * 200} for i in range(40000)])
print(db.path)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()
