"""Two commits that do not fit: the first wins, the second is told what happened, and may insist."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import ConcurrencyConflict, col
from tests.processes import Worker, begin, open_database, put, read_all

Start = Callable[[], Worker]


def change(here: SimpleNamespace, key: str, age: int) -> None:
    here.session.table("people")[key]["age"] = age


def commit(here: SimpleNamespace, force: bool = False) -> int:
    number: int = here.session.commit(force=force)
    return number


def rollback(here: SimpleNamespace) -> None:
    here.session.rollback()


def opened(start_worker: Start, path: Path) -> Worker:
    worker = start_worker()
    worker.call(open_database, path)
    return worker


@pytest.fixture
def two(database: Path, start_worker: Start) -> tuple[Worker, Worker]:
    """Two processes that have the database open, with one row in it."""
    one, other = opened(start_worker, database), opened(start_worker, database)
    one.call(put, "ann", {"age": 40})
    return one, other


def test_the_second_of_two_processes_that_change_a_row_is_told_which_row_and_which_versions(
    two: tuple[Worker, Worker],
) -> None:
    one, other = two
    read = other.call(begin)
    other.call(change, "ann", 1)
    now = one.call(put, "ann", {"age": 41})
    with pytest.raises(ConcurrencyConflict) as caught:
        other.call(commit)
    (conflict,) = caught.value.conflicts
    assert (conflict.table, conflict.key) == ("people", "ann")
    assert (conflict.read_version, conflict.current_version) == (read, now)
    assert caught.value.retryable
    assert "people['ann']" in str(caught.value)


def test_after_a_conflict_nothing_was_written_and_force_wins(two: tuple[Worker, Worker]) -> None:
    one, other = two
    other.call(begin)
    other.call(change, "ann", 1)
    one.call(put, "ann", {"age": 41})
    with pytest.raises(ConcurrencyConflict):
        other.call(commit)
    one.call(begin)
    assert one.call(read_all) == {"ann": {"age": 41}}
    number = other.call(commit, True)
    one.call(begin)
    assert one.call(read_all) == {"ann": {"age": 1}}
    assert one.call(begin) == number


def test_after_a_conflict_and_a_rollback_the_session_sees_the_new_state_and_commits(two: tuple[Worker, Worker]) -> None:
    one, other = two
    other.call(begin)
    other.call(change, "ann", 1)
    one.call(put, "ann", {"age": 41})
    with pytest.raises(ConcurrencyConflict):
        other.call(commit)
    other.call(rollback)
    assert other.call(read_all) == {"ann": {"age": 41}}
    other.call(change, "ann", 2)
    other.call(commit)
    one.call(begin)
    assert one.call(read_all) == {"ann": {"age": 2}}


def test_the_note_of_the_commit_that_won_is_in_the_conflict(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.session() as loser:
            loser.table("people")["ann"] = {"age": 1}
            with db.transaction(note="import of monday") as winner:
                winner.table("people")["ann"] = {"age": 2}
            with pytest.raises(ConcurrencyConflict) as caught:
                loser.commit()
            assert caught.value.conflicts[0].note == "import of monday"


# What a session read, against what another one commits meanwhile. `reads` and `changes` take the table `people`, which
# holds ann (40), bob (20), eve (60).

READS = {
    "a row": lambda t: t["ann"]["age"],
    "an absent key": lambda t: "zoe" in t,
    "get of an absent key": lambda t: t.get("zoe"),
    "a range of ages": lambda t: list(t.query.col("age").between(30, 50)),
    "a range of keys": lambda t: list(t.range("a", "b")),
    "all": lambda t: list(t),
    "the count": lambda t: len(t),
    "a count of some": lambda t: t.query.col("age").ge(50).count(),
    "an exists": lambda t: t.query.col("age").equals(99).exists(),
    "a sum": lambda t: t.query.col("age").lt(30).sum("age"),
    "a condition of parts": lambda t: list(t.query.where((col("age") > 50) | (col("name") == "Ann"))),
}


def insert(t: object, key: str, **columns: object) -> None:
    t[key] = columns  # type: ignore[index]


CHANGES = {
    "update ann": lambda t: t["ann"].update(age=41),
    "update bob": lambda t: t["bob"].update(age=21),
    "move ann out": lambda t: t["ann"].update(age=10),
    "move bob in": lambda t: t["bob"].update(age=35),
    "delete ann": lambda t: t.__delitem__("ann"),
    "delete eve": lambda t: t.__delitem__("eve"),
    "insert zoe aged 5": lambda t: insert(t, "zoe", age=5),
    "insert zoe aged 45": lambda t: insert(t, "zoe", age=45),
    "insert abe aged 99": lambda t: insert(t, "abe", age=99),
    "rename bob to Ann": lambda t: t["bob"].update(name="Ann"),
    "rename ann to Anna": lambda t: t["ann"].update(name="Anna"),
}

# For each read the changes that give it another answer, hence must conflict; all others must not.
CONFLICTS = {
    "a row": {"update ann", "move ann out", "delete ann", "rename ann to Anna"},
    "an absent key": {"insert zoe aged 5", "insert zoe aged 45"},
    "get of an absent key": {"insert zoe aged 5", "insert zoe aged 45"},
    "a range of ages": {
        "update ann",
        "move ann out",
        "move bob in",
        "delete ann",
        "insert zoe aged 45",
        "rename ann to Anna",
    },
    "a range of keys": {"update ann", "move ann out", "delete ann", "insert abe aged 99", "rename ann to Anna"},
    "all": set(CHANGES),
    "the count": set(CHANGES),
    "a count of some": {"delete eve", "insert abe aged 99"},
    "an exists": {"insert abe aged 99"},
    "a sum": {"update bob", "move ann out", "move bob in", "insert zoe aged 5", "rename bob to Ann"},
    "a condition of parts": {
        "update ann",
        "move ann out",
        "delete ann",
        "delete eve",
        "insert abe aged 99",
        "rename bob to Ann",
        "rename ann to Anna",
    },
}


@pytest.fixture(scope="module", params=["in the overlay", "in the base", "with an index"])
def people(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[pykesto.Database, bool]]:
    """A database, and whether to run a checkpoint before each try."""
    db = pykesto.open(tmp_path_factory.mktemp("conflicts") / "app.kesto", durability="process")
    if request.param == "with an index":
        with db.transaction() as s:
            s.table("people").create_index("age")
            s.table("people").create_index("name")
        db.checkpoint()
    yield db, request.param == "in the base"
    db.close()


def reset(db: pykesto.Database, *, checkpoint: bool) -> None:
    with db.transaction() as s:
        s.table("people").query.delete()
    with db.transaction() as s:
        people = s.table("people")
        for key, age in (("ann", 40), ("bob", 20), ("eve", 60)):
            people[key] = {"name": key.title(), "age": age}
    if checkpoint:
        db.checkpoint()


@pytest.mark.parametrize("read", READS)
def test_a_serializable_commit_conflicts_exactly_if_what_it_read_changed(
    people: tuple[pykesto.Database, bool], read: str
) -> None:
    db, in_base = people
    wrong = {}
    for name, change_it in CHANGES.items():
        reset(db, checkpoint=in_base)
        with db.session() as reader:
            READS[read](reader.table("people"))
            reader.table("elsewhere").add({"by": "reader"})
            with db.transaction() as writer:
                change_it(writer.table("people"))
            try:
                reader.commit()
                conflicted = False
            except ConcurrencyConflict:
                conflicted = True
        if conflicted != (name in CONFLICTS[read]):
            wrong[name] = conflicted
    assert wrong == {}


@pytest.mark.parametrize("read", READS)
def test_a_snapshot_commit_never_conflicts_on_what_it_only_read(
    people: tuple[pykesto.Database, bool], read: str
) -> None:
    db, in_base = people
    for change_it in CHANGES.values():
        reset(db, checkpoint=in_base)
        with db.session(isolation="snapshot") as reader:
            READS[read](reader.table("people"))
            reader.table("elsewhere").add({"by": "reader"})
            with db.transaction() as writer:
                change_it(writer.table("people"))
            reader.commit()


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
@pytest.mark.parametrize("how", ["update", "blind replacement", "deletion"])
def test_both_isolations_conflict_on_a_written_row(database: Path, isolation: str, how: str) -> None:
    with pykesto.open(database, isolation=isolation) as db:
        reset(db, checkpoint=True)
        with db.session() as s:
            people = s.table("people")
            if how == "update":
                people["ann"]["age"] = 1
            elif how == "deletion":
                del people["ann"]
            else:
                people["ann"] = {"age": 1}
            with db.transaction() as other:
                other.table("people")["ann"]["age"] = 2
            with pytest.raises(ConcurrencyConflict):
                s.commit()


def skew(db: pykesto.Database) -> None:
    """Two sessions read both rows, and each writes one: none may know of the other, so no serial order fits."""
    with db.transaction() as s:
        s.table("doctors")["ann"] = {"on_call": True}
        s.table("doctors")["bob"] = {"on_call": True}
    with db.session() as one, db.session() as other:
        for session, key in ((one, "ann"), (other, "bob")):
            doctors = session.table("doctors")
            assert doctors.query.col("on_call").equals(True).count() == 2
            doctors[key]["on_call"] = False
        one.commit()
        other.commit()


def test_snapshot_isolation_allows_write_skew(database: Path) -> None:
    with pykesto.open(database, isolation="snapshot") as db:
        skew(db)
        with db.session() as s:
            assert s.table("doctors").query.col("on_call").equals(True).count() == 0


def test_serializable_isolation_refuses_write_skew(database: Path) -> None:
    with pykesto.open(database) as db:
        with pytest.raises(ConcurrencyConflict):
            skew(db)
        with db.session() as s:
            assert s.table("doctors").query.col("on_call").equals(True).count() == 1


def test_a_session_that_wrote_nothing_never_conflicts(database: Path) -> None:
    with pykesto.open(database) as db:
        reset(db, checkpoint=False)
        with db.session() as s:
            version = s.version
            list(s.table("people"))
            with db.transaction() as other:
                other.table("people")["ann"]["age"] = 2
            assert s.commit() == version


def test_added_rows_never_conflict(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.session() as one, db.session() as other:
            for session in (one, other):
                session.table("people").add({"name": "same"})
            one.commit()
            other.commit()
        with db.session() as s:
            assert len(s.table("people")) == 2


def test_changes_of_other_tables_do_not_conflict(database: Path) -> None:
    with pykesto.open(database) as db:
        reset(db, checkpoint=False)
        with db.session() as s:
            list(s.table("people"))
            s.table("people")["ann"]["age"] = 1
            with db.transaction() as other:
                other.table("cities")["ann"] = {"size": 1}
            s.commit()


def test_a_row_deleted_and_created_again_with_the_same_content_conflicts(database: Path) -> None:
    with pykesto.open(database) as db:
        reset(db, checkpoint=False)
        with db.session() as s:
            columns = s.table("people")["ann"].to_dict()
            s.table("elsewhere").add({})
            with db.transaction() as other:
                del other.table("people")["ann"]
            with db.transaction() as other:
                other.table("people")["ann"] = columns
            with pytest.raises(ConcurrencyConflict):
                s.commit()


def test_workers_that_all_create_the_same_index_at_once_do_not_conflict(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.session() as one, db.session() as other:
            for session in (one, other):
                session.table("people").create_index("age")
            one.commit()
            other.commit()
        with db.session() as s:
            assert [(i.column, i.unique) for i in s.table("people").indexes()] == [("age", False)]
