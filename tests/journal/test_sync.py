"""Whoever waits for durability gets it: by its own sync, another's, or in place of one that died."""

import threading
from pathlib import Path

import pytest

from pykesto.errors import CorruptionError, StorageError
from pykesto.journal import GroupSync
from pykesto.journal.format import HEADER_SIZE
from tests.journal.journals import Journal

DEADLINE_S = 30


@pytest.mark.parametrize("look_again_s", [0.005, 3600])  # the longer one: all have to be woken
def test_durability_covers_the_target_for_each_of_several_threads(tmp_path: Path, look_again_s: float) -> None:
    journal = Journal(tmp_path)
    journal.sync = GroupSync(
        journal.segments,
        journal.state,
        sync_lock=journal.sync_lock,
        commit_lock=journal.commit_lock,
        look_again_s=look_again_s,
    )
    turn, short, errors = threading.Lock(), [], []

    def commit(which: int) -> None:
        try:
            for n in range(40):
                with turn:  # threads of one process share its reader
                    record = journal.append(f"{which} {n}".encode() * 50)
                journal.sync.make_durable(record.end)
                if journal.state.durable_end < record.end:
                    short.append(record)
        except BaseException as error:  # noqa: BLE001  the main thread looks at it
            errors.append(error)

    threads = [threading.Thread(target=commit, args=(which,), daemon=True) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert errors == []
    assert short == []
    assert journal.state.durable_end == journal.state.end
    assert not (journal.state.leading or journal.state.alone)
    assert len(journal.records()) == 160
    journal.close()


def test_two_processes_worth_of_parts_sync_for_each_other(tmp_path: Path) -> None:
    one = Journal(tmp_path)
    other = Journal(tmp_path, first=False)
    for n in range(10):
        record = (one if n % 2 else other).append(b"record")
        (other if n % 2 else one).sync.make_durable(record.end)
        assert one.state.durable_end == other.state.durable_end >= record.end
    other.close()
    one.close()


def test_nothing_is_synced_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"record", durable=True)
    with journal.sync_lock.held(1):  # no one could sync now
        journal.sync.make_durable(journal.state.end)
    journal.close()


@pytest.mark.parametrize("flag", ["leading", "alone"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_sync_left_by_a_dead_process_is_made_good(tmp_path: Path, flag: str, alone: bool) -> None:
    journal = Journal(tmp_path)
    record = journal.append(b"record")
    setattr(journal.state, flag, True)  # and dies
    if alone:
        with journal.commit_lock.held(1):
            journal.sync.sync_alone(record.end)
    else:
        journal.sync.make_durable(record.end)
        assert not (journal.state.leading or journal.state.alone)
    assert journal.state.durable_end >= record.end
    assert journal.payloads() == [b"record"]
    journal.close()


def test_a_record_that_changed_under_a_dead_sync_poisons(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    record = journal.append(b"a record of some length")
    path = journal.segment_path()
    content = bytearray(path.read_bytes())
    content[HEADER_SIZE + 50] ^= 1
    path.write_bytes(content)
    journal.state.leading = True  # and dies, perhaps after a sync that failed
    with pytest.raises(CorruptionError):
        journal.sync.make_durable(record.end)
    assert journal.state.poisoned
    with pytest.raises(StorageError):
        journal.sync.make_durable(record.end)
    journal.close()


def test_a_poisoned_journal_makes_nothing_durable_and_recovery_heals_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    record = journal.append(b"record")
    journal.state.poison(5)
    with pytest.raises(StorageError) as caught:
        journal.sync.make_durable(record.end)
    assert caught.value.errno == 5
    journal.close()
    journal = Journal(tmp_path)
    assert not journal.state.poisoned
    journal.append(b"more", durable=True)
    assert journal.payloads() == [b"record", b"more"]
    journal.close()


def test_a_waiter_whose_syncer_is_stopped_syncs_by_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    stopped = Journal(tmp_path, first=False)
    with stopped.sync_lock.held(1):
        record = journal.append(b"record")
        journal.sync.make_durable(record.end)
    assert journal.state.durable_end >= record.end
    stopped.close()
    journal.close()


def test_the_holder_of_the_commit_lock_syncs_without_the_sync_lock(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    other = Journal(tmp_path, first=False)
    record = journal.append(b"record")
    with other.sync_lock.held(1), journal.commit_lock.held(1):
        journal.sync.sync_alone(record.end)
    assert journal.state.durable_end >= record.end
    other.close()
    journal.close()
