"""What `Database.stats` says is what happened, in whichever process."""

from collections.abc import Callable
from pathlib import Path

import pytest

import pykesto
from tests.processes import Worker, begin, open_database, put

Start = Callable[[], Worker]


def test_commits_syncs_and_conflicts_of_all_processes_are_counted(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        before = db.stats()
        other = start_worker()
        other.call(open_database, database)
        with db.session() as s:
            assert s.table("people").get("ann") is None
            other.call(put, "ann", {"age": 1})
            s.table("people")["ann"] = {"age": 2}
            with pytest.raises(pykesto.ConcurrencyConflict):
                s.commit()
            s.rollback()
            s.table("people")["bob"] = {}
            s.commit()
        after = db.stats()
        assert after.commits - before.commits == 2
        assert after.conflicts - before.conflicts == 1
        assert after.syncs > before.syncs
        assert 0 < after.commits_per_sync <= after.commits
        assert after.attached_processes == 2
        assert after.version == db.version


def test_sessions_show_as_pins_with_their_process_and_age(database: Path, start_worker: Start) -> None:
    with pykesto.open(database) as db:
        assert db.stats().pins == ()
        other = start_worker()
        other.call(open_database, database)
        other.call(begin)
        with db.transaction() as s:
            s.table("people")["ann"] = {"said": "x" * 1000}
        (pinned,) = db.stats().pins
        assert pinned.pid == other.pid
        assert pinned.bases == (0,)
        assert pinned.journal_bytes > 1000
        assert 0 <= pinned.age_s < 3600


def test_a_checkpoint_shows_with_what_it_did(database: Path) -> None:
    with pykesto.open(database) as db:
        assert db.stats().last_checkpoint is None
        with db.transaction() as s:
            s.table("people")["ann"] = {}
        db.checkpoint()
        last = db.stats().last_checkpoint
        assert last is not None
        assert last.done
        assert last.version == db.stats().base_version == db.version
