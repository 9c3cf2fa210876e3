"""Rules of the protocols that no other test tells apart: each fails here when it is not kept."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pykesto
from tests.processes import Worker, begin, open_database, put

Start = Callable[[], Worker]


def commit_and_die(path: Path) -> None:
    """In a process of its own, so that nothing is closed: a commit that no sync has covered."""
    if (pid := os.fork()) == 0:
        db = pykesto.open(path, durability="process")
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def test_recovery_writes_again_what_it_can_not_prove_durable(database: Path) -> None:
    commit_and_die(database)
    segment = max((database / "journal").glob("*.kj"))
    os.utime(segment, ns=(0, 0))
    with pykesto.open(database) as db, db.session() as s:
        assert s.table("people")["ann"]["age"] == 1
    assert segment.stat().st_mtime_ns > 0


def test_a_commit_that_only_read_vouches_for_what_it_read(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction(durability="process") as s:
            s.table("people")["ann"] = {"age": 1}
        assert db.stats().journal_undurable_bytes > 0
        with db.transaction() as s:
            assert s.table("people")["ann"]["age"] == 1
        assert db.stats().journal_undurable_bytes == 0


def test_a_base_holds_nothing_that_is_not_durable(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        assert db.stats().journal_undurable_bytes > 0
        assert db.checkpoint().done
        assert db.stats().journal_undurable_bytes == 0


def die_before_the_flip(here: SimpleNamespace, database: Path) -> None:
    """Bring a base forward, name it in MANIFEST, and die before anybody is told: what the failpoint does, by hand."""
    store = here.db._attached().store
    store.control.flip_to = lambda base: os.kill(os.getpid(), signal.SIGKILL)
    here.db.checkpoint()


def test_a_flip_that_a_dead_process_left_out_is_published(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        other = start_worker()
        other.call(open_database, database)
        other.start(die_before_the_flip, database)
        other.process.join(30)
        assert db.stats().base_version < db.version
        db.checkpoint()
        assert db.stats().base_version == db.version
        assert db.check().ok


def test_the_dead_pin_nothing(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        reader = start_worker()
        reader.call(open_database, database)
        reader.call(put, "ann", {"age": 0})
        reader.call(begin)
        reader.kill()
        assert db.stats().pins == ()
        for age in range(3):
            with db.transaction() as s:
                s.table("people")["ann"] = {"age": age}
            assert db.checkpoint().done
        assert sorted(path.name for path in (database / "base").iterdir()) == ["0", "1"]
