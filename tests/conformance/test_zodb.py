"""ZODB's own tests of storages, on a storage in a pykesto database."""

from __future__ import annotations

import io
import os
import tempfile
import unittest
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ZODB")
pytest.importorskip("zope.testing")  # which ZODB's tests need

import transaction
import ZODB.blob
import ZODB.utils
from persistent.mapping import PersistentMapping
from ZODB.POSException import ConflictError, Unsupported
from ZODB.tests import (
    BasicStorage,
    ConflictResolution,
    HistoryStorage,
    IteratorStorage,
    MTStorage,
    PackableStorage,
    PersistentStorage,
    ReadOnlyStorage,
    RecoveryStorage,
    RevisionStorage,
    StorageTestBase,
    Synchronization,
    TransactionalUndoStorage,
    testblob,
)
from ZODB.tests.ConflictResolution import PCounter
from ZODB.tests.hexstorage import HexStorage
from ZODB.tests.MinPO import MinPO
from ZODB.tests.testMVCCMappingStorage import MVCCTests

from pykesto.zodb import KestoStorage
from tests.processes import Worker

Start = Callable[[], Worker]


class OnKesto(StorageTestBase.StorageTestBase):
    """Makes the storage that a test works on."""

    options: dict[str, Any] = {}
    use_extension_bytes = True

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def open(self, **options: Any) -> None:
        self._storage = self._new_storage_client(**options)

    def _new_storage_client(self, **options: Any) -> KestoStorage:
        return KestoStorage(Path("app.kesto").absolute(), **self.options | options)


class TestKestoStorage(
    OnKesto,
    BasicStorage.BasicStorage,
    ConflictResolution.ConflictResolvingStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
    HistoryStorage.HistoryStorage,
    IteratorStorage.ExtendedIteratorStorage,
    IteratorStorage.IteratorStorage,
    MTStorage.MTStorage,
    MVCCTests,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableUndoStorage,
    PersistentStorage.PersistentStorage,
    ReadOnlyStorage.ReadOnlyStorage,
    RevisionStorage.RevisionStorage,
    Synchronization.SynchronizedStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
):
    pass


class TestWithoutHistory(
    OnKesto,
    BasicStorage.BasicStorage,
    ConflictResolution.ConflictResolvingStorage,
    MTStorage.MTStorage,
    MVCCTests,
    PackableStorage.PackableStorageBase,
    PersistentStorage.PersistentStorage,
    ReadOnlyStorage.ReadOnlyStorage,
    Synchronization.SynchronizedStorage,
):
    """What needs no revisions but the newest."""

    options = {"history": False}


class TestRecoveryStorage(OnKesto, RecoveryStorage.RecoveryStorage):
    """Transactions are copied from one storage to another."""

    def setUp(self) -> None:
        super().setUp()
        self._dst = self.new_dest()

    def tearDown(self) -> None:
        self._dst.close()
        super().tearDown()

    def new_dest(self) -> KestoStorage:
        return KestoStorage(Path(tempfile.mkdtemp(dir=".")) / "copy.kesto")


class TestHexStorage(OnKesto, BasicStorage.BasicStorage, Synchronization.SynchronizedStorage):
    """A wrapper that changes the records, as one that compresses would."""

    def setUp(self) -> None:
        super().setUp()
        self._storage = HexStorage(self._storage)


NOT_FOR_US = {
    "blob_transaction.txt": "passes a str for a serial, and wants that root may not write to what is read-only",
    "commit_from_wrong_partition": "has os.rename fail, which the database itself needs",
}


def each_test(suite: unittest.TestSuite) -> Iterator[Any]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from each_test(one)
        else:
            yield one


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_suite_of_blobs_passes() -> None:
    suite = testblob.storage_reusable_suite("Kesto", new_blob_storage, test_blob_storage_recovery=True)
    said = io.StringIO()
    wanted = unittest.TestSuite(one for one in each_test(suite) if not any(part in str(one) for part in NOT_FOR_US))
    result = unittest.TextTestRunner(said).run(wanted)
    assert result.testsRun > 15
    assert result.wasSuccessful(), said.getvalue()


def new_blob_storage(name: str, blob_dir: str) -> KestoStorage:
    return KestoStorage(Path(f"{name}.kesto").absolute(), blob_dir=blob_dir)


def test_a_pack_removes_the_files_of_blobs_that_are_not_kept(database: Path, tmp_path: Path) -> None:
    storage = KestoStorage(database, blob_dir=tmp_path / "blobs")
    db = ZODB.DB(storage)
    with closing(db):
        for content in (b"one", b"two"):
            with db.transaction() as connection:
                connection.root()["blob"] = connection.root().get("blob") or ZODB.blob.Blob()
                with connection.root()["blob"].open("w") as file:
                    file.write(content)
        assert len(list((tmp_path / "blobs").rglob("*.blob"))) == 2
        db.pack()
        assert [path.read_bytes() for path in (tmp_path / "blobs").rglob("*.blob")] == [b"two"]
        with db.transaction() as connection:
            del connection.root()["blob"]
        db.pack()
        assert list((tmp_path / "blobs").rglob("*.blob")) == []


def test_an_aborted_transaction_leaves_no_blob(database: Path, tmp_path: Path) -> None:
    db = ZODB.DB(KestoStorage(database, blob_dir=tmp_path / "blobs"))
    with closing(db):
        connection = db.open()
        connection.root()["blob"] = ZODB.blob.Blob(b"content")
        with db.transaction() as other:
            other.root()["n"] = 1
        with pytest.raises(ConflictError):
            transaction.commit()
        transaction.abort()
    assert list((tmp_path / "blobs").rglob("*.blob")) == []


def test_without_a_directory_there_are_no_blobs(database: Path) -> None:
    db = ZODB.DB(KestoStorage(database))
    with closing(db), pytest.raises(Unsupported), db.transaction() as connection:
        connection.root()["blob"] = ZODB.blob.Blob(b"content")


# Several processes


def increment(here: SimpleNamespace, path: Path, rounds: int, told: Path | None = None) -> None:
    """Add one to both of two numbers, again and again; a snapshot never shows one without the other."""
    db = ZODB.DB(KestoStorage(path))
    with closing(db):
        connection = db.open()
        for n in range(rounds):
            while True:
                with suppress(ConflictError):
                    transaction.begin()
                    pair = connection.root()["pair"]
                    assert pair["a"].value == pair["b"].value
                    pair["a"].value += 1
                    pair["b"].value += 1
                    transaction.commit()
                    break
                transaction.abort()
            if told is not None:
                told.write_text(str(n + 1))


def create_pair(path: Path) -> None:
    db = ZODB.DB(KestoStorage(path))
    with closing(db), db.transaction() as connection:
        connection.root()["pair"] = PersistentMapping({"a": MinPO(0), "b": MinPO(0)})
        counter = connection.root()["counter"] = PCounter()
        counter._value = 0  # without a state of its own, what it began with can't be merged


def pair(path: Path) -> tuple[int, int]:
    db = ZODB.DB(KestoStorage(path))
    with closing(db), db.transaction() as connection:
        found = connection.root()["pair"]
        return found["a"].value, found["b"].value


def in_processes(number: int, start_worker: Start, task: Callable[..., None], *given: Any) -> None:
    """Some processes do the same at the same time, to their end."""
    workers = [start_worker() for _ in range(number)]
    for worker in workers:
        worker.start(task, *given)
    for worker in workers:
        worker.result()


def test_processes_never_see_a_commit_in_part_or_lose_one(database: Path, start_worker: Start) -> None:
    create_pair(database)
    in_processes(3, start_worker, increment, database, 40)
    assert pair(database) == (120, 120)


def test_a_killed_process_holds_nobody_up_and_loses_nothing(
    database: Path, tmp_path: Path, start_worker: Start
) -> None:
    create_pair(database)
    victim, survivor = start_worker(), start_worker()
    victim.start(increment, database, 10**6, tmp_path / "told")
    while not (tmp_path / "told").exists() or not (tmp_path / "told").read_text():
        assert victim.process.is_alive()
    survivor.start(increment, database, 20)
    victim.process.kill()
    victim.process.join()
    survivor.result()
    acknowledged = int((tmp_path / "told").read_text() or 0) + 20
    found, same = pair(database)
    assert found == same
    assert acknowledged <= found <= acknowledged + 1


def count(here: SimpleNamespace, path: Path, rounds: int) -> None:
    db = ZODB.DB(KestoStorage(path))
    with closing(db):
        for _ in range(rounds):
            with db.transaction() as connection:
                connection.root()["counter"].inc()


def test_conflicts_between_processes_are_resolved_by_the_class(database: Path, start_worker: Start) -> None:
    create_pair(database)
    in_processes(2, start_worker, count, database, 40)
    db = ZODB.DB(KestoStorage(database))
    with closing(db), db.transaction() as connection:
        assert connection.root()["counter"]._value == 80


def fork_with_an_open_database(here: SimpleNamespace, path: Path) -> list[int]:
    db = ZODB.DB(KestoStorage(path))
    with db.transaction() as connection:
        connection.root()["parent"] = 1
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(10):
                    with db.transaction() as connection:
                        connection.root()["counter"].inc()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    with db.transaction() as connection:
        assert connection.root()["counter"]._value == 30
    db.close()
    return statuses


def test_a_storage_opened_before_a_fork_works_in_the_children(database: Path, start_worker: Start) -> None:
    create_pair(database)
    statuses = start_worker().call(fork_with_an_open_database, database)
    assert statuses == [0, 0, 0]


def test_oids_are_given_once(database: Path, start_worker: Start) -> None:
    workers = [start_worker() for _ in range(3)]
    for worker in workers:
        worker.start(take_oids, database, 150)
    found = [oid for worker in workers for oid in worker.result()]
    assert len(set(found)) == 450
    assert ZODB.utils.z64 not in found


def take_oids(here: SimpleNamespace, path: Path, how_many: int) -> list[bytes]:
    storage = KestoStorage(path)
    with closing(storage):
        return [storage.new_oid() for _ in range(how_many)]
