"""Rules of the protocols that no other test tells apart: each fails here when it is not kept."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import pykesto
from pykesto import SnapshotExpired, failpoints
from pykesto.engine import base as bases
from pykesto.engine import checkpoint as checkpoints
from pykesto.files import held_open
from tests.processes import Worker, begin, open_database, put, read_all

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


def test_no_base_becomes_current_that_ends_before_the_one_that_was(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BATCH_BYTES", 10_000)
    with pykesto.open(database, durability="process") as db:
        store, gate = db._attached().store, db._attached().checkpointer.gate

        def commit(first: int) -> None:
            for number in range(first, first + 10):
                with db.transaction() as s:
                    s.table("rows")[number] = {"text": "x" * 2000}

        commit(0)
        old = db.session()
        assert old.table("rows")[0]["text"] == "x" * 2000  # pins the first base, which falls behind
        outcomes = []
        for turn in range(1, 6):
            commit(10 * turn)
            outcomes.append(checkpoints.checkpoint(store, gate))
            with db.session() as s:
                assert len(s.table("rows")) == 10 * turn + 10
            if turn == 3:
                old.close()
        assert all(outcome.done for outcome in outcomes)
        assert outcomes[-1].base != outcomes[-2].base
        versions = [outcome.version for outcome in outcomes]
        assert versions == sorted(set(versions))


def test_a_base_that_had_to_be_copied_takes_more_of_the_journal(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who is killed in the midst of copies again and again leaves more of it each time than the next one takes."""
    monkeypatch.setattr(checkpoints, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(checkpoints, "COPIED_SHARE", 1)
    with pykesto.open(database, durability="process") as db:
        store, gate = db._attached().store, db._attached().checkpointer.gate

        def left_by_one(first: int) -> int:
            for number in range(first, first + 20):
                with db.transaction() as s:
                    s.table("rows")[number] = {"text": "x" * 1000}
            outcome = checkpoints.checkpoint(store, gate)
            assert outcome.done
            return outcome.left_bytes

        assert left_by_one(0) > 0
        assert left_by_one(20) > 0  # both bases are there
        other = 1 - store.control.base_word() % 2
        store.layout.stamp(other).unlink()
        assert left_by_one(40) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is mapped")
def test_the_files_of_a_base_are_opened_for_their_sync_before_the_library_closes_them(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapped() -> list[str]:
        base = f"{database.resolve()}/base/1/"
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if base in line]

    @contextmanager
    def watched(paths: list[Path], *, gently: bool) -> Iterator[Callable[[], None]]:
        opened.append(({path.name for path in paths}, bool(mapped())))
        with held_open(paths, gently=gently) as sync:
            yield lambda: (synced.append(not mapped()), sync())[1]

    opened: list[tuple[set[str], bool]] = []
    synced: list[bool] = []
    monkeypatch.setattr(bases, "held_open", watched)
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people").create_index("age")
            s.table("people")["ann"] = {"age": 1}
        assert db.checkpoint().base == 1
    (names, was_mapped), *_ = [one for one in opened if "t_people.tct" in one[0]]
    assert names >= {"t_people.tct", "t_people.tct.idx.age.lex", "t_people.tct.idx..lex"}
    assert was_mapped
    assert synced
    assert all(synced)  # while a file is mapped each page that is written back interrupts every thread


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


def fill_and_checkpoint(db: pykesto.Database, times: int) -> None:
    """More journal than the smallest segments hold, each time, and a base that follows."""
    for turn in range(times):
        for n in range(30):
            with db.transaction() as s:
                s.table("blobs")[turn, n] = {"content": bytes(10_000)}
        while not db.checkpoint().done:
            pass  # the background's was before it


def test_a_base_that_the_journal_no_longer_reaches_is_made_by_copy(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LEASE_BYTES", 1)
    with pykesto.open(database, durability="process") as db:
        fill_and_checkpoint(db, 6)
        assert int(min(path.stem for path in (database / "journal").glob("*.kj"))) > 1
        with db.session() as s:
            assert len(s.table("blobs")) == 6 * 30
        assert db.check().ok


def commit_more(here: SimpleNamespace) -> None:
    here.session.commit()


def test_a_session_that_outlives_its_lease_can_not_commit_and_the_next_sees_all(
    database: Path, start_worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LEASE_BYTES", 1)
    old = start_worker()
    old.call(open_database, database)
    old.call(put, "ann", {"age": 0})
    old.call(begin)
    old.call(stage, "bob", {"age": 1})
    with pykesto.open(database, durability="process") as db:
        fill_and_checkpoint(db, 6)
        with db.transaction() as s:
            s.table("people")["cid"] = {"age": 2}
    with pytest.raises(SnapshotExpired):
        old.call(commit_more)
    old.call(begin)
    assert old.call(read_all) == {"ann": {"age": 0}, "cid": {"age": 2}}


def stage(here: SimpleNamespace, key: str, row: dict[str, int]) -> None:
    here.session.table("people")[key] = row


READ = """
import pykesto, sys
with pykesto.open(sys.argv[1]) as db, db.session() as s:
    print(s.table("people")["ann"]["age"])
"""
CHECKPOINT = """
import pykesto, sys
with pykesto.open(sys.argv[1]) as db:
    with db.transaction() as s:
        s.table("people")["ann"]["age"] = 2
    db.checkpoint()
"""


def stopped_at(place: str, program: str, database: Path) -> "subprocess.Popen[str]":
    """A process that runs until it has stopped itself at a failpoint."""
    rules = ",".join(filter(None, [os.environ.get(failpoints.VARIABLE), f"{place}=stop"]))
    environment = os.environ | {failpoints.VARIABLE: rules}
    command = [sys.executable, "-c", program, str(database)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    return process


def test_who_pins_a_base_too_late_takes_the_one_that_is_current(database: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"age": 1}
        reader = stopped_at("view.pin", READ, database)  # base 0 is current, and not pinned
        assert db.checkpoint().done
        writer = stopped_at("checkpoint.begin", CHECKPOINT, database)  # base 1 is, and base 0 about to be written
        while True:  # it stops again each time that it passes there
            reader.send_signal(signal.SIGCONT)
            status = os.waitpid(reader.pid, os.WUNTRACED)[1]
            if not os.WIFSTOPPED(status):
                break
        writer.kill()
        writer.communicate()
        assert (os.waitstatus_to_exitcode(status), reader.communicate()[0]) == (0, "2\n")
