"""Validate, append, publish, make durable: the path of a commit.

Under commit.lock the view follows the journal to its end, the commit is validated against what came since its snapshot,
and one record is appended. Nobody waits for a sync with that lock held. No user code runs here.

A transaction that met a conflict and runs again holds turn.lock meanwhile, and whoever sees that lets it pass. It is
courtesy, not protection: nobody waits longer than a moment, and not twice for the same turn.
"""

cimport cython
from libc.stdint cimport uint64_t

from pykesto._stored cimport Reads, Writes
from pykesto._locks cimport ProcessLock
from pykesto.engine.content cimport Commit, commit_of, now_ms, pack_commit
from pykesto.engine.overlay cimport Overlay
from pykesto.engine.snapshot cimport BaseSnapshot
from pykesto.engine.view cimport View
from pykesto.journal.reader cimport Reader
from pykesto.journal.records cimport Record
from pykesto.journal.sync cimport GroupSync
from pykesto.journal.writer cimport Writer

import logging
import os

from pykesto import failpoints as _failpoints
from pykesto.engine.layout import require_index_name
from pykesto.engine.unique import check_unique
from pykesto.engine.validation import refuse_other_index, validate, with_merged
from pykesto.errors import CommitUnknown, ConcurrencyConflict, LockTimeout, SnapshotExpired
from pykesto.failpoints import off

_log = logging.getLogger("pykesto")
cdef double PATIENCE_S = 1.0
cdef bint ACTIVE = _failpoints.ACTIVE


@cython.final
cdef class Committer:
    """Commits of one process."""
    cdef View view
    cdef ProcessLock lock
    cdef ProcessLock turn
    cdef uint64_t passed_by  # the turn that took too long
    cdef Writer writer
    cdef GroupSync sync
    cdef dict about  # what a commit without a note says of itself
    cdef object on_schema
    cdef object on_filling
    cdef object on_full
    cdef uint64_t look_at

    def __init__(self, View view not None, *, turn_lock, commit_lock, writer, sync, on_schema, on_filling, on_full):
        """`on_schema()` is called after a commit that created or dropped something, `on_filling()` as a segment fills,
        `on_full()` after each commit while memory is full of what no base holds."""
        self.on_schema = on_schema
        self.on_filling = on_filling
        self.on_full = on_full
        self.view = view
        self.lock = commit_lock
        self.turn = turn_lock
        self.writer = writer
        self.sync = sync
        self.about = {"pid": os.getpid()}

    def commit(self, BaseSnapshot snapshot not None, Reads reads not None, Writes writes not None, terms not None):
        """Validate, append, publish, and with full durability wait until it is on stable storage.

        Raises:
            ConcurrencyConflict, UniqueViolation, LockTimeout, StorageError: nothing was written.
            CommitUnknown: nobody can know.
        """
        snapshot.refuse_unusable()
        cdef bint durable = terms.durability == "full"
        if not writes.any_at_all():
            if durable and not (ACTIVE and off("commit.reads")):
                self.sync.make_durable(snapshot.position)
            return snapshot.version
        self.view.state.refuse_if_poisoned()
        cdef Commit commit = self.commit_from(writes, terms)
        cdef bytes payload = pack_commit(commit)
        cdef list written = []
        try:
            if self.turn.has_holder():
                self.let_pass(terms.lock_timeout_s)
            try:
                self.lock.take_in_time(terms.lock_timeout_s)
                try:
                    self.write(snapshot, reads, writes, terms, commit, payload, written)
                finally:
                    self.lock.give_mine()
            finally:
                self.turn.give_mine()  # before the sync: the next one's is shared with this one's
            if durable:
                self.sync.make_durable((<Record>written[0]).ends())
            try:
                self.tell_of(commit, <Record>written[0])
            except Exception as error:  # whatever it was, the commit is there
                _log.warning("work in the background could not be asked for: %s", error, exc_info=error)
        except BaseException as error:
            if isinstance(error, ConcurrencyConflict):
                self.view.state.count_conflict()
            if not written or isinstance(error, CommitUnknown):
                raise
            raise CommitUnknown(f"the commit was written, but not seen to reach stable storage: {error}") from error
        return (<Record>written[0]).number

    cdef int tell_of(self, Commit commit, Record record) except -1:
        """Ask for what is to be done in the background, now that this commit is in."""
        if commit.schema:
            self.on_schema()
        if record.ends() >= self.look_at:
            self.look_at_segment()
        if self.view.is_full():
            self.on_full()
        self.view.look_whether_due()
        return 0

    cdef int let_pass(self, timeout_s) except -1:
        """Stand in line behind a transaction that has its turn, for a moment."""
        cdef uint64_t turn = self.turn.taken
        if turn == self.passed_by or self.turn.is_mine():
            return 0
        try:
            self.turn.acquire(PATIENCE_S if timeout_s is None else min(timeout_s, PATIENCE_S))
        except LockTimeout:
            self.passed_by = turn
        return 0

    cdef int look_at_segment(self) except -1:
        """From the middle of a segment on, at each eighth: have what the roll needs made ready in the background."""
        cdef Reader reader = self.view.reader
        if reader is None:
            return 0  # another thread closes the database, or begins anew from another base
        segment = reader.segment
        cdef uint64_t capacity = segment.header.capacity
        cdef uint64_t position = reader.position
        cdef uint64_t eighth = capacity // 8 + 1
        if position - segment.start < capacity // 2:
            self.look_at = segment.start + capacity // 2
        else:
            self.look_at = position + eighth
            self.on_filling()
        return 0

    cdef Commit commit_from(self, Writes writes, terms):
        cdef tuple schema = tuple(writes.schema) if writes.schema else ()
        for change in schema:
            if change.kind == "create_index":
                require_index_name(change.table, change.index)
        note = terms.note
        return commit_of(writes.rows, schema, self.about if note is None else {"note": note, **self.about}, now_ms())

    cdef int write(
        self, BaseSnapshot snapshot, Reads reads, Writes writes, terms, Commit commit, bytes payload, list written
    ) except -1:
        """With commit.lock: validate against the newest state, and append."""
        cdef View view = self.view
        cdef bint force = terms.force
        cdef bint was = view.enter()
        try:
            if view.closed:
                view.require_open()
            view.state.refuse_if_poisoned()
            view.catch_up()
            if snapshot.overlay is not view.overlay and not force:
                raise SnapshotExpired(message=f"the session at version {snapshot.version} was open past its lease")
            if not force and not self.still_fits(snapshot, reads, writes, terms.isolation == "serializable"):
                merged = validate(snapshot, reads, writes, terms.isolation)
                if merged:
                    writes = Writes(with_merged(writes.rows, merged), writes.schema)
                    commit = commit_of(writes.rows, commit.schema, commit.about, commit.time_ms)
                    payload = pack_commit(commit)
            if writes.schema:
                refuse_other_index(view.overlay, writes)
                for change in writes.schema:
                    if change.kind == "create_index":
                        view.overlay.read_rows(change.table)  # what fails fails before anything is written
            if self.needs_unique_check(writes):
                newest = view.take()
                try:
                    check_unique(newest, writes)
                finally:
                    newest.close()
            self.append(commit, payload, written)
        finally:
            view.leave(was)
        return 0

    cdef bint still_fits(self, BaseSnapshot snapshot, Reads reads, Writes writes, bint serializable) except -1:
        """Whether nothing that was committed since can be in the way: most often it is told so cheaply."""
        cdef Overlay overlay = self.view.overlay
        if overlay.version == snapshot.version:
            return True
        for table, rows in writes.rows.items():
            if not overlay.is_untouched(table, <dict?>rows, snapshot.version):
                return False
        if serializable:
            if reads.predicates:
                return False
            for table, keys in reads.keys.items():
                if not overlay.is_untouched(table, <set?>keys, snapshot.version):
                    return False
        return True

    cdef bint needs_unique_check(self, Writes writes) except -1:
        """Whether any of these writes could break a unique index."""
        cdef Overlay overlay = self.view.overlay
        if ACTIVE and off("unique.check"):
            return False
        if overlay.unique_tables:
            for table in writes.rows:
                if table in overlay.unique_tables:
                    return True
        for change in writes.schema:
            if change.index.unique:
                return True
        return False

    cdef int append(self, Commit commit, bytes payload, list written) except -1:
        """With both locks: append, publish, note that in `written`, and take the commit into the overlay."""
        cdef View view = self.view
        cdef Record record
        try:
            record = self.writer.append(view.reader, payload, written)
            view.overlay.apply(record.number, commit)
        finally:
            view.note_whether_stale()
        return 0
