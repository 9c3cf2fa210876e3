"""Sessions: when they begin and end, what they run again, and what they refuse."""

import gc
import logging
import os
import pickle
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import ClosedError, ConcurrencyConflict, LockTimeout, ReadOnlyError, UniqueViolation, UsageError


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 40}
        yield db


def age(db: pykesto.Database) -> int:
    with db.session() as s:
        found: int = s.table("people")["ann"]["age"]
        return found


def disturb(db: pykesto.Database) -> None:
    """Another commit to ann's row."""
    with db.session() as other:
        other.table("people")["ann"]["age"] += 100
        other.commit()


# Snapshots


def test_the_snapshot_begins_at_the_first_use(db: pykesto.Database) -> None:
    with db.session() as s:
        assert not s.in_transaction
        disturb(db)
        assert s.table("people")["ann"]["age"] == 140
        assert s.in_transaction
        disturb(db)
        assert s.table("people")["ann"]["age"] == 140


def test_a_new_snapshot_begins_after_commit_and_rollback(db: pykesto.Database) -> None:
    with db.session() as s:
        for end in s.commit, s.rollback:
            before = s.version
            disturb(db)
            assert s.version == before
            end()
            assert not s.in_transaction
            assert s.version == before + 1


def test_leaving_a_session_rolls_back_and_a_transaction_commits(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("people")["ann"]["age"] = 1
        s.rollback()
        s.table("people")["ann"]["age"] = 2
    assert age(db) == 40
    with db.transaction() as s:
        s.table("people")["ann"]["age"] = 3
    assert age(db) == 3


def test_an_exception_rolls_a_transaction_back_and_goes_on_up(db: pykesto.Database) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction() as s:  # noqa: PT012
        s.table("people")["ann"]["age"] = 1
        raise ZeroDivisionError
    assert age(db) == 40


def test_commit_is_refused_inside_what_commits_by_itself_and_rollback_is_allowed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["ann"]["age"] = 1
        with pytest.raises(UsageError):
            s.commit()
        s.rollback()
    assert age(db) == 40
    with pytest.raises(UsageError):
        db.run(lambda s: s.commit())


def test_changes_left_without_commit_are_warned_of(db: pykesto.Database, caplog: pytest.LogCaptureFixture) -> None:
    with db.session() as s:
        s.table("people")["ann"]["age"] = 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].name == "pykesto"


def test_nothing_is_warned_of_after_commit_rollback_or_exception(
    db: pykesto.Database, caplog: pytest.LogCaptureFixture
) -> None:
    with db.session() as s:
        s.table("people")["ann"]["age"] = 1
        s.commit()
    with db.session() as s:
        s.table("people")["ann"]["age"] = 1
        s.rollback()
    with pytest.raises(ZeroDivisionError), db.session() as s:  # noqa: PT012
        s.table("people")["ann"]["age"] = 1
        raise ZeroDivisionError
    with db.session() as s:
        assert s.table("people")["ann"]["age"] == 1
    assert caplog.records == []


def test_a_failed_commit_keeps_the_snapshot_and_the_changes(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        row["age"] = 1
        version = s.version
        disturb(db)
        for _ in range(2):
            with pytest.raises(ConcurrencyConflict):
                s.commit()
            assert (s.version, row["age"], len(s.dirty)) == (version, 1, 1)
        assert age(db) == 140
        s.rollback()
        assert row["age"] == 140


def test_a_closed_session_says_so_and_closes_again(db: pykesto.Database) -> None:
    s = db.session()
    s.close()
    s.close()
    for use in (s.commit, s.rollback, s.__enter__, lambda: s.version, lambda: s.table("people")):
        with pytest.raises(ClosedError):
            use()


def test_a_read_only_session_reads_and_refuses_changes(db: pykesto.Database) -> None:
    with db.session(read_only=True) as s:
        row = s.table("people")["ann"]
        assert row["age"] == 40
        for change in (
            lambda: row.__setitem__("age", 1),
            lambda: s.table("people").__setitem__("bob", {}),
            lambda: s.table("people").__delitem__("ann"),
            lambda: s.table("people").query.delete(),
            lambda: s.table("people").query.update(age=1),
            lambda: s.table("people").create_index("age"),
        ):
            with pytest.raises(ReadOnlyError):
                change()
        assert s.commit() == s.version
    assert age(db) == 40


def test_a_session_moves_between_threads(db: pykesto.Database) -> None:
    with db.session() as s:
        s.table("people")["ann"]["age"] = 1
        thread = threading.Thread(target=s.commit)
        thread.start()
        thread.join(30)
    assert age(db) == 1


def test_hooks_run_at_their_ends(db: pykesto.Database) -> None:
    said: list[str] = []
    with db.session() as s:
        s.before_commit(lambda: said.append("before"))
        s.after_commit(lambda: said.append("after"))
        s.after_rollback(lambda: said.append("rolled back"))
        s.table("people")["ann"]["age"] = 1
        s.rollback()
        assert said == ["rolled back"]
        s.table("people")["ann"]["age"] = 1
        s.commit()
        assert said == ["rolled back", "before", "after"]


def test_an_exception_in_before_commit_stops_the_commit(db: pykesto.Database) -> None:
    def refuse() -> None:
        raise ZeroDivisionError

    with db.session() as s:
        s.before_commit(refuse)
        s.table("people")["ann"]["age"] = 1
        with pytest.raises(ZeroDivisionError):
            s.commit()
        s.rollback()
    assert age(db) == 40


# Running again


def test_run_runs_again_after_a_conflict_in_a_fresh_session(db: pykesto.Database) -> None:
    sessions = []

    def grow(s: pykesto.Session, by: int, *, times: int) -> int:
        sessions.append(s)
        row = s.table("people")["ann"]
        row["age"] += by * times
        if len(sessions) < 3:
            disturb(db)
        grown: int = row["age"]
        return grown

    assert db.run(grow, 1, times=2) == 242
    assert age(db) == 242
    assert len({id(s) for s in sessions}) == 3


@pytest.mark.parametrize("attempts", [1, 3])
def test_run_lets_the_conflict_out_after_the_last_attempt(db: pykesto.Database, attempts: int) -> None:
    ran = []

    def unlucky(s: pykesto.Session) -> None:
        ran.append(s)
        s.table("people")["ann"]["age"] += 1
        disturb(db)

    with pytest.raises(ConcurrencyConflict):
        db.run(unlucky, attempts=attempts)
    assert len(ran) == attempts
    assert age(db) == 40 + 100 * attempts


@pytest.mark.parametrize(("retry_for", "ran_at_last"), [(0.0, 1), (1000.0, 3), (None, 3)])
def test_run_lets_the_conflict_out_when_its_time_is_over(
    db: pykesto.Database, retry_for: float | None, ran_at_last: int
) -> None:
    ran = []

    @db.transactional(attempts=3, retry_for=retry_for)
    def unlucky(s: pykesto.Session) -> None:
        ran.append(s)
        s.table("people")["ann"]["age"] += 1
        disturb(db)

    with pytest.raises(ConcurrencyConflict, match=f"tried {ran_at_last} times"):
        unlucky()
    assert len(ran) == ran_at_last


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        LockTimeout("commit.lock", holder_pid=1, waited_s=1.0),
        UniqueViolation("people", "email", "a@x", "ann"),
        pykesto.StorageError("full"),
        pykesto.CommitUnknown("unknown"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_run_retries_nothing_but_conflicts(db: pykesto.Database, error: Exception) -> None:
    ran = []

    def fails(s: pykesto.Session) -> None:
        ran.append(s)
        s.table("people")["ann"]["age"] = 1
        raise error

    with pytest.raises(type(error)):
        db.run(fails)
    assert len(ran) == 1
    assert age(db) == 40


def test_a_conflict_raised_by_the_function_itself_is_retried_too(db: pykesto.Database) -> None:
    ran = []

    def fails_once(s: pykesto.Session) -> str:
        ran.append(s)
        if len(ran) == 1:
            raise ConcurrencyConflict
        return "done"

    assert db.run(fails_once) == "done"


def test_transactional_functions_are_called_without_a_session(db: pykesto.Database) -> None:
    @db.transactional
    def bare(s: pykesto.Session, by: int) -> int:
        """Grow."""
        s.table("people")["ann"]["age"] += by
        return by

    ran = []

    @db.transactional(attempts=2)
    def unlucky(s: pykesto.Session) -> None:
        ran.append(s)
        s.table("people")["ann"]["age"] += 1
        disturb(db)

    assert bare(2) == 2
    assert (bare.__name__, bare.__doc__) == ("bare", "Grow.")
    assert age(db) == 42
    with pytest.raises(ConcurrencyConflict):
        unlucky()
    assert len(ran) == 2


def test_attempts_runs_a_block_again(db: pykesto.Database) -> None:
    tries = 0
    for attempt in db.attempts(5):
        with attempt as s:
            tries += 1
            s.table("people")["ann"]["age"] += 1
            if tries < 3:
                disturb(db)
    assert tries == 3
    assert age(db) == 241


def test_nested_runs_on_one_database_are_refused(db: pykesto.Database) -> None:
    with pytest.raises(UsageError):
        db.run(lambda s: db.run(lambda inner: None))
    db.run(lambda s: None)  # and the refusal is forgotten


def test_runs_nested_on_two_databases_are_fine(db: pykesto.Database) -> None:
    with pykesto.temporary() as other:
        assert db.run(lambda s: other.run(lambda inner: "both")) == "both"


def test_functions_that_would_run_after_their_transaction_are_refused(db: pykesto.Database) -> None:
    async def coroutine(s: pykesto.Session) -> None: ...

    def generator(s: pykesto.Session) -> Iterator[int]:
        yield 1

    async def asynchronous(s: pykesto.Session) -> Any:
        yield 1

    for fn in coroutine, generator, asynchronous:
        with pytest.raises(UsageError):
            db.run(fn)
        with pytest.raises(UsageError):
            db.transactional(fn)()


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempts_are_a_usage_error(db: pykesto.Database, attempts: int) -> None:
    with pytest.raises(UsageError):
        db.run(lambda s: None, attempts=attempts)


def test_threads_that_run_at_once_lose_nothing(db: pykesto.Database) -> None:
    errors: list[BaseException] = []

    def grow(s: pykesto.Session) -> None:
        s.table("people")["ann"]["age"] += 1

    def work() -> None:
        try:
            for _ in range(25):
                db.run(grow, attempts=1000)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert age(db) == 140


# Savepoints and refresh


def test_an_exception_rolls_back_to_the_savepoint_and_goes_on_up(db: pykesto.Database) -> None:
    with db.transaction() as s:
        people = s.table("people")
        people["ann"]["age"] = 1
        with pytest.raises(ZeroDivisionError), s.savepoint():  # noqa: PT012
            people["ann"]["age"] = 2
            people["bob"] = {}
            with s.savepoint():
                del people["ann"]
            raise ZeroDivisionError
        assert people["ann"]["age"] == 1
        assert "bob" not in people
        with s.savepoint():
            people["eve"] = {}
    with db.session() as s:
        assert list(s.table("people")) == ["ann", "eve"]
    assert age(db) == 1


def test_refresh_drops_the_changes_of_a_row(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        row["age"] = 1
        s.refresh(row)
        assert row["age"] == 40
        assert s.dirty == ()


# Terms, and what is told of commits


def test_a_commit_may_check_less_than_its_session_would(db: pykesto.Database) -> None:
    with db.session() as s:
        assert s.table("people")["ann"]["age"] == 40
        s.table("people")["bob"] = {}
        disturb(db)
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        with pytest.raises(UsageError, match="serialisable"):
            s.commit(isolation="serialisable")  # type: ignore[arg-type]
        s.commit(isolation="snapshot")
    with db.session(isolation="snapshot") as s:
        assert s.table("people")["ann"]["age"] == 140
        s.table("people")["bob"] = {}
        disturb(db)
        with pytest.raises(ConcurrencyConflict):
            s.commit(isolation="serializable")
        s.rollback()


def test_a_conflict_tells_who_committed_when_and_why(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        assert people["ann"]["age"] == people.query.sum("age") == 40
        people["eve"] = {}
        before = datetime.now(UTC)
        with db.session(note="to be replaced") as other:
            other.table("people")["ann"]["age"] += 1
            other.note = "birthday of ann"
            number = other.commit()
        with pytest.raises(ConcurrencyConflict) as caught:
            s.commit()
        row, predicate = caught.value.conflicts
        for conflict in row, predicate:
            assert (conflict.table, conflict.note, conflict.pid) == ("people", "birthday of ann", os.getpid())
            assert conflict.current_version == number
            assert conflict.time is not None
            assert before - timedelta(seconds=1) <= conflict.time <= datetime.now(UTC)
        assert (row.key, predicate.key) == ("ann", None)
        text = str(caught.value)
        assert (
            f"people['ann'] (read at version {row.read_version}) by version {number} of process {os.getpid()}" in text
        )
        assert "'birthday of ann'" in text and "people where" in text and "run the transaction again" in text
        assert pickle.loads(pickle.dumps(caught.value)).conflicts == caught.value.conflicts
        s.rollback()


def test_a_note_is_text(db: pykesto.Database) -> None:
    with db.session(note=5) as s:  # type: ignore[arg-type]
        s.table("people")["bob"] = {}
        with pytest.raises(TypeError, match="note"):
            s.commit()
        s.rollback()


# Ends that nobody asked for


def test_what_is_left_by_an_exception_or_a_failed_commit_was_rolled_back(db: pykesto.Database) -> None:
    said: list[str] = []

    def fails(s: pykesto.Session) -> None:
        s.after_rollback(lambda: said.append("rolled back"))
        s.after_commit(lambda: said.append("committed"))
        s.table("people")["ann"]["age"] = 1
        disturb(db)

    with pytest.raises(ConcurrencyConflict):
        db.run(fails, attempts=2)
    assert said == ["rolled back"] * 2
    with pytest.raises(ZeroDivisionError), db.transaction() as s:  # noqa: PT012
        s.after_rollback(lambda: said.append("rolled back"))
        s.table("people")["bob"] = {}
        raise ZeroDivisionError
    assert said == ["rolled back"] * 3
    with db.transaction() as s:
        s.after_rollback(lambda: said.append("rolled back"))
        s.after_commit(lambda: said.append("committed"))
        s.table("people")["bob"] = {}
    assert said == ["rolled back"] * 3 + ["committed"]


def test_a_transaction_that_is_not_entered_is_refused(db: pykesto.Database) -> None:
    s = db.transaction()
    with pytest.raises(UsageError, match="not entered"):
        s.table("people")["ann"] = {}


def test_a_savepoint_gives_up_nothing_that_ended_before_it_did(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["ann"]["age"] = 1
        with pytest.raises(ZeroDivisionError), s.savepoint():  # noqa: PT012
            s.rollback()
            people["ann"]["age"] += 1
            raise ZeroDivisionError
        assert people["ann"]["age"] == 41
        s.commit()
    assert age(db) == 41


class Slow(Mapping[str, Any]):
    """A row that takes as long as it is told."""

    def __init__(self, begun: threading.Event, go_on: threading.Event) -> None:
        self.begun, self.go_on = begun, go_on

    def __getitem__(self, key: str) -> Any:
        return 1

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        self.begun.set()
        assert self.go_on.wait(30)
        return iter(["n"])


def test_use_by_two_threads_at_once_is_refused_and_harms_nothing(db: pykesto.Database) -> None:
    begun, go_on = threading.Event(), threading.Event()
    with db.session() as s:
        people = s.table("people")
        row = people["ann"]
        thread = threading.Thread(target=people.__setitem__, args=("bob", Slow(begun, go_on)))
        thread.start()
        assert begun.wait(30)
        uses = [
            *(s.commit, s.rollback, s.close, s.savepoint().__enter__, lambda: people["eve"], lambda: "eve" in people),
            *(lambda: people.__setitem__("eve", {}), lambda: people.__delitem__("ann"), lambda: row.update(age=1)),
            *(lambda: people.query.count(), lambda: s.add(Thing()), lambda: s.table("other")),
        ]
        for use in uses:
            with pytest.raises(UsageError, match="another thread"):
                use()
        go_on.set()
        thread.join(30)
        s.commit()
        assert people["bob"] == {"n": 1}
        assert row == {"age": 40}


class Thing(pykesto.Persistent):
    n: int = 0


def test_sessions_that_were_dropped_without_an_end_hold_back_nothing(db: pykesto.Database) -> None:
    def pins() -> bool:
        return any(db._attachment.store.view.uses_base(number) for number in range(2))

    sessions = [db.session() for _ in range(20)]
    for s in sessions:
        s.table("people")["bob"] = {"age": s.table("people")["ann"]["age"]}  # a row, a table and a session in a circle
        assert s.dirty or s.new
    assert pins()
    del s, sessions
    gc.collect()
    assert not pins()
