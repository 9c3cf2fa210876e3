"""A process that follows the journal: after a passing failure, with long sessions, beside its own checkpoint."""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pykesto
from pykesto import CorruptionError, LockTimeout, SnapshotExpired, StorageError
from pykesto.engine import attachments
from pykesto.engine.content import unpack_commit
from tests.processes import Worker, checkpoint, open_database, put

PATIENCE_S = 60.0


def view_of(db: pykesto.Database) -> Any:
    return db._attached().store.view


@contextmanager
def checkpoint_in_another_thread(db: pykesto.Database) -> Iterator[None]:
    """A thread of this process holds the lock of checkpoints for longer than `db` waits for those of others."""
    lock = db._attached().store.checkpoint_lock
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held(PATIENCE_S):
            held.set()
            released.wait(0.5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE_S)
    yield
    thread.join()


def test_a_read_of_the_journal_that_fails_once_ends_no_session(database: Path, start_worker: Any) -> None:
    other: Worker = start_worker()
    other.call(open_database, database)
    other.call(put, "ann", {"age": 1})
    with pykesto.open(database) as db, db.session() as s:
        s.table("people")["bob"] = {"seen": s.table("people")["ann"]["age"]}
        other.call(put, "cid", {"age": 3})
        descriptor = view_of(db).reader.segment.fd
        kept, directory = os.dup(descriptor), os.open("/", os.O_RDONLY)
        os.dup2(directory, descriptor)
        with pytest.raises(StorageError, match="read"):
            db.version  # noqa: B018
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(directory)
        s.commit()
        assert set(s.table("people")) == {"ann", "bob", "cid"}


def test_sessions_that_stay_open_keep_only_so_much_in_memory(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("blobs")[0] = {"content": b"first"}
        db.checkpoint()
        old = db.session()
        old.table("blobs")["mine"] = {"content": old.table("blobs")[0]["content"]}
        for n in range(200):
            with db.transaction() as s:
                s.table("blobs")[n + 1] = {"content": bytes(1000), "n": n}
        view_of(db).overlay_bytes_max = 100_000  # less than is there already
        assert db.checkpoint().done
        with db.session() as s:
            assert s.table("blobs")[200]["n"] == 199
        assert db.stats().overlay_bytes < 100_000
        assert old.table("blobs")[0]["content"] == b"first"
        with pytest.raises(SnapshotExpired):
            old.commit()
        old.close()


def test_a_session_does_not_expire_for_what_no_other_keeps(database: Path, start_worker: Any) -> None:
    """However much has gathered in memory by the time that a base holds it: it is let go of, bit by bit."""
    other: Worker = start_worker()
    other.call(open_database, database)
    with pykesto.open(database, durability="process") as db:
        view_of(db).overlay_bytes_max = 100_000
        for n in range(4):
            with db.transaction() as s:
                blobs = s.table("blobs")
                assert len(blobs) == 200 * n
                blobs.update(((n, key), {"content": bytes(1000)}) for key in range(200))
                other.call(checkpoint)
        with db.session() as s:
            assert len(s.table("blobs")) == 800
        other.call(checkpoint)
        for _ in range(2):  # the first finds the new base
            with db.session() as s:
                assert len(s.table("blobs")) == 800
        assert db.stats().overlay_bytes < 100_000


def test_who_commits_faster_than_bases_take_it_waits_for_them(database: Path) -> None:
    with pykesto.open(database, durability="process") as db:
        view_of(db).overlay_bytes_max = 300_000
        db._attached().checkpointer.notice = lambda: None  # no other checkpoints than those that it helps with
        for n in range(30):
            with db.transaction() as s:
                s.table("blobs").update(((n, key), {"content": b"x" * 1000}) for key in range(50))
            assert db.stats().overlay_bytes < 500_000
        assert len(db.session().table("blobs")) == 1500


def test_a_checkpoint_of_this_process_is_waited_for_however_long_it_takes(database: Path) -> None:
    with pykesto.open(database, lock_timeout=0.05) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {}
        with checkpoint_in_another_thread(db):
            assert db.checkpoint().done


def test_a_thread_with_two_transactions_at_once_does_not_wait_for_its_own_turn(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "TURN_PATIENCE_S", None)  # it would never return
    with pykesto.open(database) as db:
        attachment = db._attached()
        attachment.take_turn()
        attachment.take_turn()
        attachment.end_turn()
        assert not attachment.store.turn_lock.is_mine()


def test_a_heading_that_nests_without_end_is_damage() -> None:
    heading = b"[" * 100_000
    with pytest.raises(CorruptionError, match="no commit"):
        unpack_commit(struct.pack("<QI", 0, len(heading)) + heading + bytes(4))


def test_checking_waits_for_a_checkpoint_of_this_process_and_not_for_that_of_another(
    database: Path, start_worker: Any
) -> None:
    with pykesto.open(database, lock_timeout=0.05) as db:
        with checkpoint_in_another_thread(db):
            assert db.check().ok
        other: Worker = start_worker()
        other.call(open_database, database)
        other.call(hold_checkpoints)
        with pytest.raises(LockTimeout, match=str(other.pid)):
            db.check()


def hold_checkpoints(here: SimpleNamespace) -> None:
    here.db._attached().store.checkpoint_lock.acquire(PATIENCE_S)
