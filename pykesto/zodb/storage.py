"""The storage: one instance for each connection, each with a snapshot of its own.

An instance reads in a session of pykesto that begins when it polls, so a connection sees one state of the database
without any help of other processes. What others changed meanwhile is read from the rows of their transactions. A
commit takes the lock of commits when it votes, checks every serial against the newest state, and commits when it
finishes; who waits for the disk waits outside of the lock, so that many share one sync.
"""

from __future__ import annotations

import binascii
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ZODB._compat import loads as unpickled
from ZODB.BaseStorage import DataRecord, TransactionRecord, copy
from ZODB.blob import BlobFile, copyTransactionsFromTo
from ZODB.ConflictResolution import tryToResolveConflict
from ZODB.interfaces import (
    IBlobStorageRestoreable,
    IMVCCStorage,
    IStorageIteration,
    IStorageRestoreable,
    IStorageUndoable,
)
from ZODB.POSException import (
    ConflictError,
    POSKeyError,
    ReadConflictError,
    ReadOnlyError,
    StorageTransactionError,
    UndoError,
    Unsupported,
)
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import newTid, z64
from zope.interface import alsoProvides, implementer

from .. import Error, Session
from .blobs import Blobs
from .pack import pack
from .records import (
    HISTORY,
    OBJECTS,
    TRANSACTIONS,
    Revision,
    at,
    before,
    last_tid,
    newest,
    p64,
    pack_oids,
    required,
    revisions,
    set_state,
    state,
    u64,
    unpack_oids,
)
from .shared import Shared, note_oids


class KestoStorage:
    """A ZODB storage in a pykesto database.

    Args:
        path: of the database directory; it is created if need be.
        name: for people, and in the sort key that orders storages in a commit; the path if it is not given.
        history: keep the revisions that are replaced, for undo and historical connections, until a pack.
        blob_dir: a directory for blobs; without one there can be none.
        read_only: refuse to write.
        lock_timeout: seconds to wait for another commit between its vote and its end, then ConflictError.
        options: further ones of `pykesto.open`, as `durability="process"`.

    Raises:
        pykesto.Error: the database can't be opened.

    Example:
        >>> import ZODB, transaction
        >>> db = ZODB.DB(KestoStorage("app.kesto"))  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        history: bool = True,
        blob_dir: str | os.PathLike[str] | None = None,
        read_only: bool = False,
        lock_timeout: float | None = 30.0,
        **options: Any,
    ) -> None:
        shared = Shared(path, lock_timeout=lock_timeout, options=options | {"read_only": read_only})
        self._blobs = None if blob_dir is None else Blobs(blob_dir)
        self._join(shared, name or str(shared.path), history=history, read_only=read_only)
        self._owns = True

    def _join(self, shared: Shared, name: str, *, history: bool, read_only: bool) -> None:
        self._shared, self.__name__, self._history, self._read_only = shared, name, history, read_only
        if history:
            alsoProvides(self, IStorageUndoable)
        if self._blobs is not None:
            alsoProvides(self, IBlobStorageRestoreable)
        self._owns = False
        self._lock = threading.RLock()  # of the snapshot: a session is one thread's at a time
        self._snapshot: Session | None = None
        self._polled: int | None = None
        self._own: set[int] = set()  # transactions of this instance since it polled
        self._committing = threading.Lock()
        self._transaction: Any = None
        self._crs_untransform_record_data = self._crs_transform_record_data = lambda data: data
        self._forget()

    def _forget(self) -> None:
        """Nothing of a transaction is at hand."""
        self._stored: dict[int, tuple[int | None, bytes | None]] = {}  # oid -> serial it was read at, data
        self._checked: dict[int, int] = {}
        self._copied: dict[int, int] = {}  # oid -> the transaction whose data an undo writes again
        self._given_tid: bytes | None = None
        self._status = " "
        self._writing: Session | None = None
        self._held: Any = None
        self._tid = 0
        self._resolved: list[bytes] = []
        self._taken: dict[int, str] = {}  # oid -> the file of its new blob
        self._placed: list[str] = []

    # Instances and their snapshots

    def new_instance(self) -> KestoStorage:
        """Another view of the same storage, for another connection."""
        made = KestoStorage.__new__(KestoStorage)
        made._blobs = self._blobs
        made._join(self._shared, self.__name__, history=self._history, read_only=self._read_only)
        made._crs_untransform_record_data = self._crs_untransform_record_data
        made._crs_transform_record_data = self._crs_transform_record_data
        return made

    def registerDB(self, wrapper: Any) -> None:
        """Resolve conflicts on what a wrapper, such as one that compresses, makes of the records."""
        self._crs_untransform_record_data = wrapper.untransform_record_data
        self._crs_transform_record_data = wrapper.transform_record_data

    def release(self) -> None:
        """Let the snapshot go; the instance is not used any more."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def close(self) -> None:
        """Close this instance, and the database if it is the one that opened it."""
        if self._transaction is not None:
            self.tpc_abort(self._transaction)
        self.release()
        if self._owns:
            self._shared.close()

    def _current(self) -> Session:
        """The snapshot of this instance; a new one after each of its transactions."""
        if self._snapshot is None:
            self._snapshot = self._newest()
        return self._snapshot

    def _newest(self) -> Session:
        return self._shared.db.session(read_only=True, isolation="snapshot")

    def sync(self, force: bool = True) -> None:
        """Have the next look see what was committed by then."""
        with self._lock:
            self._let_go()

    def poll_invalidations(self) -> list[bytes] | None:
        """Begin a new snapshot; which objects others changed since the last one, None if that is not known any more."""
        with self._lock:
            self._let_go()
            s = self._current()
            known, self._polled = self._polled, last_tid(s)
            own, self._own = self._own, set()
            if known is None or known == self._polled:
                return []
            if known < state(s, "packed"):
                return None
            changed: set[int] = set()
            for row in s.table(TRANSACTIONS).range(known + 1):
                if row.k_key not in own:
                    changed.update(unpack_oids(row["oids"]))
            return [p64(oid) for oid in changed]

    # Reading

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        """The data of an object in this instance's snapshot, and the tid that wrote it; POSKeyError without one."""
        with self._lock:
            found = required(self._current(), oid)
        assert found.data is not None
        return found.data, p64(found.tid)

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:
        """The newest revision before `tid`, its tid, and its successor's."""
        with self._newest() as s:
            return before(s, oid, tid)

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:
        """The data that a transaction wrote; POSKeyError if it is not kept."""
        with self._lock:
            current = newest(self._snapshot, u64(oid)) if self._snapshot is not None else None
        if current is None or current.tid != u64(serial):
            with self._newest() as s:
                current = at(s, u64(oid), u64(serial))
        if current is None or current.tid != u64(serial) or current.data is None:
            raise POSKeyError(oid, serial)
        return current.data

    def getTid(self, oid: bytes) -> bytes:
        """The tid of the newest revision."""
        with self._newest() as s:
            return p64(required(s, oid).tid)

    def lastTransaction(self) -> bytes:
        """The tid of the newest transaction of all processes."""
        with self._newest() as s:
            return p64(last_tid(s))

    def history(self, oid: bytes, size: int = 1) -> list[dict[str, Any]]:
        """The newest revisions of an object, from the newest on, with what is known of their transactions."""
        with self._newest() as s:
            required(s, oid)
            found = [one for _, one in zip(range(size), revisions(s, u64(oid)), strict=False)]
            return [_about(s, p64(one.tid)) | {"size": len(one.data or b"")} for one in found]

    def iterator(self, start: bytes | None = None, stop: bytes | None = None) -> Iterator[_Transaction]:
        """The transactions with start <= tid <= stop, each iterable over its records."""
        with self._newest() as s:
            below = None if stop is None else u64(stop) + 1
            for row in s.table(TRANSACTIONS).range(None if start is None else u64(start), below):
                yield _Transaction(s, row.to_dict() | {"tid": row.k_key})

    def __len__(self) -> int:
        with self._newest() as s:
            return len(s.table(OBJECTS))

    def getSize(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._shared.path.rglob("*") if path.is_file())

    def getName(self) -> str:
        return self.__name__

    def sortKey(self) -> str:
        return self.__name__

    def isReadOnly(self) -> bool:
        return self._read_only

    # Committing

    def new_oid(self) -> bytes:
        """An oid that no process was given before."""
        self._require_writable()
        return self._shared.new_oid()

    def tpc_begin(self, transaction: Any, tid: bytes | None = None, status: str = " ") -> None:
        """Begin to commit; waits for another transaction of this instance."""
        self._require_writable()
        if transaction is self._transaction:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        self._committing.acquire()
        self._forget()
        self._transaction, self._given_tid, self._status = transaction, tid, status

    def store(self, oid: bytes, serial: bytes | None, data: bytes, version: str, transaction: Any) -> None:
        """Note a new state of an object that was read at `serial`; looked at when the transaction votes."""
        self._require_writable()
        self._require(transaction)
        self._stored[u64(oid)] = u64(serial or z64), data
        self._copied.pop(u64(oid), None)

    def restore(
        self, oid: bytes, serial: bytes, data: bytes | None, version: str, prev_txn: object, transaction: Any
    ) -> None:
        """Note a state that comes from another storage, whatever is here."""
        self._require_writable()
        self._require(transaction)
        self._stored[u64(oid)] = None, data

    def checkCurrentSerialInTransaction(self, oid: bytes, serial: bytes, transaction: Any) -> None:
        """Have the vote fail if the object is changed by then."""
        self._require(transaction)
        self._checked[u64(oid)] = u64(serial)

    def tpc_vote(self, transaction: Any) -> list[bytes]:
        """Take the lock of commits, and look whether all can be committed; the oids whose conflicts were resolved.

        Raises:
            ConflictError: an object was changed since it was read, and its class does not resolve that; or the lock
                could not be had in time.
            ReadConflictError: one that was to be current is not.
        """
        self._require(transaction)
        s = self._begin_writing()
        for oid, read_at in self._checked.items():
            current = newest(s, oid)
            if current is None or current.tid != read_at:
                serials = p64(current.tid if current else 0), p64(read_at)
                raise ReadConflictError(oid=p64(oid), serials=serials)
        for oid, (serial, data) in self._stored.items():
            self._put(s, oid, serial, data)
        if self._blobs is not None:
            for oid, path in self._taken.items():
                self._placed.append(self._blobs.place(oid, self._tid, path))
        self._note_transaction(s)
        return self._resolved

    def _begin_writing(self) -> Session:
        """With the lock of commits: a session on the newest state, and the tid that is next."""
        if self._writing is None:
            held = self._shared.commit_lock().held(self._shared.lock_timeout)
            try:
                held.__enter__()
            except Error as error:
                raise ConflictError(f"another commit takes too long: {error}") from error
            self._held = held
            self._writing = self._shared.db.session(isolation="snapshot", durability="process")
            last = last_tid(self._writing)
            self._tid = u64(self._given_tid or newTid(p64(last) if last else None))
        return self._writing

    def _put(self, s: Session, oid: int, serial: int | None, data: bytes | None) -> None:
        current = newest(s, oid)
        if current is not None and serial is not None and serial != current.tid:
            data = self._resolve(oid, serial, current, data)
        if current is not None and self._history and current.tid < self._tid:
            s.table(HISTORY)[oid, current.tid] = {"data": current.data}
        s.table(OBJECTS)[oid] = {"tid": self._tid, "data": data}

    def _resolve(self, oid: int, serial: int, current: Revision, data: bytes | None) -> bytes:
        name, serials = p64(oid), (p64(current.tid), p64(serial))
        if current.data is None or data is None:
            raise ConflictError(oid=name, serials=serials, data=data)
        resolved: bytes = tryToResolveConflict(self, name, p64(current.tid), p64(serial), data, current.data)
        self._resolved.append(name)
        return resolved

    def _note_transaction(self, s: Session) -> None:
        transaction = self._transaction
        s.table(TRANSACTIONS)[self._tid] = {
            "user": transaction.user,
            "description": transaction.description,
            "extension": transaction.extension_bytes,
            "oids": pack_oids(sorted(self._stored)),
            "status": self._status,
            "copied": dict(self._copied),
        }
        if self._tid > last_tid(s):
            set_state(s, "last", self._tid)
        note_oids(s, max(self._stored, default=0))

    def tpc_finish(self, transaction: Any, func: Callable[[bytes], object] = lambda tid: None) -> bytes:
        """Commit what was voted for; returns when it is durable. The tid."""
        self._require(transaction)
        if self._writing is None:
            raise StorageTransactionError("tpc_finish called before tpc_vote")
        tid = p64(self._tid)
        try:
            self._writing.commit()
            self._taken, self._placed = {}, []
            self._own.add(self._tid)
            self._let_others()
            self.sync()
            func(tid)
        finally:
            self._end()
        self._shared.wait_until_durable()
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Forget what was stored; nothing if another transaction is under way, or none."""
        if transaction is self._transaction:
            self._end()
            self.sync()

    def _let_others(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._shared.commit_lock().adopt()  # another thread may have voted
            held.__exit__(None, None, None)

    def _end(self) -> None:
        writing = self._writing
        try:
            if writing is not None:
                writing.rollback()
                writing.close()
        finally:
            self._let_others()
            for path in [*self._placed, *self._taken.values()]:
                if self._blobs is not None:
                    self._blobs.remove(path)
            self._forget()
            self._transaction = None
            self._committing.release()

    def tpc_transaction(self) -> Any:
        return self._transaction

    def _require(self, transaction: Any) -> None:
        if transaction is not self._transaction:
            raise StorageTransactionError(self, transaction)

    def _require_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError

    def copyTransactionsFrom(self, other: Any, verbose: bool = False) -> None:
        """Copy all transactions of another storage, as of a FileStorage, with their tids."""
        if self._blobs is not None:
            copyTransactionsFromTo(other, self)
        else:
            copy(other, self, verbose)

    # Blobs

    def storeBlob(
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, version: str, transaction: Any
    ) -> None:
        """`store`, with the file of a blob, which is the storage's from then on."""
        self.store(oid, serial, data, version, transaction)
        self._taken[u64(oid)] = self._blob_files().take(blobfilename)

    def restoreBlob(
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, prev_txn: object, transaction: Any
    ) -> None:
        """`restore`, with the file of a blob."""
        self.restore(oid, serial, data, "", prev_txn, transaction)
        self._taken[u64(oid)] = self._blob_files().take(blobfilename)

    def loadBlob(self, oid: bytes, serial: bytes) -> str:
        """The path of the file of a revision; POSKeyError if it has none."""
        return self._blob_files().load(oid, serial)

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> Any:
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def temporaryDirectory(self) -> str:
        return self._blob_files().temporary

    @property
    def fshelper(self) -> Any:
        """The directory of blobs, as ZODB's tools look for it."""
        return self._blob_files().files

    def _blob_files(self) -> Blobs:
        if self._blobs is None:
            raise Unsupported("the storage was opened without blob_dir")
        return self._blobs

    # Undo

    def supportsUndo(self) -> bool:
        return self._history

    def undo(self, transaction_id: bytes, transaction: Any) -> tuple[bytes, list[bytes]]:
        """Write the states from before a transaction again, merged with what came after where classes can do that.

        Raises:
            UndoError: the transaction is not kept, or an object was changed since, and that can't be merged.
        """
        self._require_writable()
        self._require(transaction)
        s = self._begin_writing()
        row = s.table(TRANSACTIONS).get(u64(binascii.a2b_base64(transaction_id)))
        if row is None or row.k_key <= state(s, "packed"):
            raise UndoError("the transaction is not there, or was packed")
        oids = unpack_oids(row["oids"])
        for oid, (data, copied) in {oid: self._before_undone(s, oid, row.k_key) for oid in oids}.items():
            self._stored[oid] = None, data
            if copied is not None:
                self._copied[oid] = copied
                blob = self._blobs.copy(oid, copied) if self._blobs is not None else None
                if blob is not None:
                    self._taken[oid] = blob
        return p64(self._tid), [p64(oid) for oid in oids]

    def _before_undone(self, s: Session, oid: int, tid: int) -> tuple[bytes | None, int | None]:
        """What an object is to hold when a transaction is undone, and which transaction wrote that if one did."""
        undone = at(s, oid, tid)
        current = newest(s, oid)
        if undone is None or undone.tid != tid or current is None:
            raise UndoError("the revision was packed", p64(oid))
        held = self._stored[oid][1] if oid in self._stored else current.data
        earlier = next(revisions(s, oid, below=tid), None)
        wanted = earlier.data if earlier is not None else None
        if held == undone.data:
            return wanted, earlier.tid if wanted is not None and earlier is not None else None
        if wanted is None or held is None or undone.data is None:
            raise UndoError("Can't undo an add transaction followed by conflicting transactions.", p64(oid))
        try:
            merged: bytes = tryToResolveConflict(self, p64(oid), p64(current.tid), p64(tid), wanted, held)
        except ConflictError as error:
            raise UndoError("Some data were modified by a later transaction", p64(oid)) from error
        return merged, None

    def undoLog(
        self, first: int = 0, last: int = -20, filter: Callable[[dict[str, Any]], object] | None = None
    ) -> list[dict[str, Any]]:
        """Descriptions of the newest transactions that can be undone, from `first` to `last`."""
        most = last if last >= 0 else first - last
        found: list[dict[str, Any]] = []
        with self._newest() as s:
            for row in s.table(TRANSACTIONS).range(state(s, "packed") + 1, reverse=True):
                if len(found) >= most:
                    break
                one = _about(s, p64(row.k_key))
                one["id"] = binascii.b2a_base64(one.pop("tid"), newline=False)  # as ZODB's own storages write it
                if filter is None or filter(one):
                    found.append(one)
        return found[first:]

    def undoInfo(
        self, first: int = 0, last: int = -20, specification: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """The same, of those that have all items of `specification`."""
        wanted = (specification or {}).items()
        return self.undoLog(first, last, lambda one: all(one.get(name) == value for name, value in wanted))

    def pack(self, t: float, referencesf: Callable[..., Any], gc: bool = True) -> None:
        """Remove what was replaced before the time `t`, and what nothing refers to any more."""
        self._require_writable()
        pack(self, t, referencesf, gc=gc)


implementer(IMVCCStorage, IStorageIteration, IStorageRestoreable)(KestoStorage)


class _Transaction(TransactionRecord):  # type: ignore[misc]  # ZODB has no types
    """A transaction that `iterator` gives."""

    def __init__(self, s: Session, row: dict[str, Any]) -> None:
        super().__init__(p64(row["tid"]), row["status"], row["user"], row["description"], row["extension"])
        self._session, self._number, self._oids = s, row["tid"], unpack_oids(row["oids"])
        self._copied = row["copied"]

    def __iter__(self) -> Iterator[Any]:
        for oid in self._oids:
            found = at(self._session, oid, self._number)
            if found is not None and found.tid == self._number:
                copied = self._copied.get(oid)
                yield DataRecord(p64(oid), self.tid, found.data, None if copied is None else p64(copied))


def _about(s: Session, tid: bytes) -> dict[str, Any]:
    """What is known of a transaction."""
    found: dict[str, Any] = {"tid": tid, "serial": tid, "time": TimeStamp(tid).timeTime()}
    row = s.table(TRANSACTIONS).get(u64(tid))
    if row is None:
        return found | {"user_name": b"", "description": b""}
    if row["extension"]:
        with suppress(Exception):  # what an application wrote there, of classes that may be gone
            found = unpickled(row["extension"]) | found
    return found | {"user_name": row["user"], "description": row["description"]}
