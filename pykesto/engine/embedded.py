"""The embedded store: one process's attachment to a database directory.

However many handles a process opens, it attaches once: Tokyo Cabinet allows one handle of a file in a process. The
first process to attach is alone and recovers; one that joins later maps the control page and follows the journal.

Locks, in the order in which they are taken:
    attach.lock      while attaching and detaching
    checkpoint.lock  while bringing a base forward
    commit.lock      while validating and appending
    self.lock        this process's own state: base, overlay, reader, pins
    sync.lock        while syncing the journal; never waited for with commit.lock held
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ClosedError, CommitUnknown, LockTimeout, SnapshotExpired, StorageError
from ..files import FileLock, ProcessLock
from ..journal import GroupSync, JournalState, Reader, Record, Recovered, SegmentGone, Segments, Writer
from ..store import Reads, Snapshot, Terms, Writes
from .base import Base
from .content import Commit, pack_commit, unpack_commit
from .control import CHECKPOINT_LOCK_WORDS, COMMIT_LOCK_WORDS, JOURNAL_WORDS, SYNC_LOCK_WORDS, Control, base_of
from .layout import Layout, require_index_name
from .overlay import Overlay
from .recovery import recover_database
from .snapshot import BaseSnapshot
from .validation import check_unique, needs_unique_check, refuse_other_index, validate

ATTACH_TIMEOUT_S = 60.0
_RETRIES = 100


class EmbeddedStore:
    """One process's attachment to the database in `layout.directory`. Threads share it; a forked child may not."""

    def __init__(self, layout: Layout, *, create_missing: bool, mode: int) -> None:
        self.layout, self.mode = layout, mode
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.closed = False
        self.recovered: Recovered | None = None  # what the first attacher found
        self._locks: list[FileLock] = []
        self._snapshots: set[BaseSnapshot] = set()
        self._ended: deque[BaseSnapshot] = deque()
        self._base: Base | None = None
        self._old_bases: list[Base] = []
        self._overlay: Overlay | None = None
        self._reader: Reader | None = None
        self._stale = False
        self._busy = False  # self.lock is re-entrant, and a finalizer may run in its holder
        if create_missing:
            layout.create(mode)
        else:
            layout.require()
        self._attach(create_missing)

    # Attaching

    def _attach(self, create_missing: bool) -> None:
        attach = self._lock("attach")
        try:
            attach.acquire(ATTACH_TIMEOUT_S)
            alive = self._lock("alive")
            first = alive.try_acquire()
            self.control = Control(self.layout, mode=self.mode)
            if first:
                self.control.rebuild()
            else:
                alive.acquire(ATTACH_TIMEOUT_S, shared=True)
                self.control.require()
            self._open_parts()
            if first:
                self.recovered = recover_database(
                    self.layout, self.control, self.segments, self.state, mode=self.mode, create_missing=create_missing
                )
                alive.acquire(ATTACH_TIMEOUT_S, shared=True)
            self.slot, slot_lock = self.control.take_slot(self.mode)
            self._locks.append(slot_lock)
        except BaseException:
            self._let_go()
            raise
        attach.release()

    def _lock(self, name: str) -> FileLock:
        lock = FileLock(self.layout.lock(name), mode=self.mode)
        self._locks.append(lock)
        return lock

    def _process_lock(self, name: str, first_word: int) -> ProcessLock:
        return ProcessLock(FileLock(self.layout.lock(name), mode=self.mode), self.control.words, first_word)

    def _open_parts(self) -> None:
        words = self.control.words
        self.state = JournalState(words, JOURNAL_WORDS)
        self.segments = Segments(self.layout.journal, mode=self.mode)
        self.commit_lock = self._process_lock("commit", COMMIT_LOCK_WORDS)
        self.sync_lock = self._process_lock("sync", SYNC_LOCK_WORDS)
        self.checkpoint_lock = self._process_lock("checkpoint", CHECKPOINT_LOCK_WORDS)
        self.sync = GroupSync(self.segments, self.state, sync_lock=self.sync_lock, commit_lock=self.commit_lock)
        self.writer = Writer(self.segments, self.state, self.sync)

    # Detaching

    def close(self) -> None:
        """Detach. The last process to do so syncs and marks a clean end. Sessions in this process end."""
        if self.closed or self.pid != os.getpid():
            return
        self.closed = True
        attach, alive = self._locks[0], self._locks[1]
        try:
            attach.acquire(ATTACH_TIMEOUT_S)
        except LockTimeout:
            self._let_go()  # someone is stopped while attaching: leave as a killed process would
            return
        try:
            if alive.try_acquire():
                with self.commit_lock.held(ATTACH_TIMEOUT_S):  # a thread of this process may be in the midst of one
                    self._close_cleanly()
        finally:
            self._let_go()

    def _close_cleanly(self) -> None:
        """The last one out: everything is synced, and says so."""
        if self.state.poisoned:
            return
        self.sync.sync_alone(self.state.end)
        if not self.state.clean and not self.state.rolling:
            self.segments.get(self.state.segment).write_mark(self.state.end, clean=True)

    def _let_go(self) -> None:
        """Close every descriptor. In a forked child this must not release what the parent holds, and does not."""
        with self.lock:
            for base in [*self._old_bases, *([self._base] if self._base else [])]:
                base.close()
            self._old_bases, self._base = [], None
            self._reader = self._overlay = self.recovered = None  # the last references to descriptors of the journal
            for lock in reversed(self._locks):
                lock.close()
            for name in ("commit_lock", "sync_lock", "checkpoint_lock", "segments", "control"):
                if hasattr(self, name):
                    getattr(self, name).close()

    def abandon(self) -> None:
        """In a forked child: the parent goes on with all of this. The driver abandons its handles by itself."""
        self.closed = True
        self.lock = threading.RLock()
        self.segments.abandon()
        self._old_bases, self._base = [], None
        self._let_go()

    def require_open(self) -> None:
        if self.closed:
            raise ClosedError(f"the database {self.layout.directory} is closed in this process")

    # Snapshots

    def snapshot(self) -> BaseSnapshot:
        """The newest version, pinned until closed."""
        with self._at_work():
            self.require_open()
            base, overlay = self._catch_up()
            assert self._reader is not None
            snapshot = BaseSnapshot(self, base, overlay, position=self._reader.position)
            base.users += 1
            self._snapshots.add(snapshot)
            self._publish_pins()
            return snapshot

    def end(self, snapshot: BaseSnapshot) -> None:
        """May be called by a finalizer, in the midst of anything: only note it, and release if nobody is at work."""
        if snapshot.closed or self.closed or snapshot.pid != os.getpid():
            return
        snapshot.closed = True
        self._ended.append(snapshot)
        self._settle()

    def _settle(self) -> None:
        """Release what has ended, unless another thread is at work: it does so when it is through."""
        while self._ended and self.lock.acquire(blocking=False):
            try:
                if self._busy:
                    return
                self._release_ended()
            finally:
                self.lock.release()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Hold self.lock; a finalizer that runs in the midst leaves its snapshot in `_ended`, for the end of this."""
        try:
            with self.lock:
                was, self._busy = self._busy, True
                try:
                    yield
                finally:
                    self._busy = was
        finally:
            self._settle()

    def _release_ended(self) -> None:
        """With self.lock, and not at work: give up what closed snapshots held."""
        if self.closed:
            self._ended.clear()
            return
        released = False
        while self._ended:
            snapshot = self._ended.popleft()
            self._snapshots.discard(snapshot)
            snapshot.base.users -= 1
            released = True
        if released:
            self._busy = True
            try:
                self._close_unused_bases()
                self._publish_pins()
            finally:
                self._busy = False

    def forget_base(self, number: int) -> None:
        """Close what this process has open of a base that it does not pin, as it is to be written."""
        with self._at_work():
            for base in [b for b in (*self._old_bases, self._base) if b is not None and b.number == number]:
                assert not base.users, f"base {number} is pinned by this very process"
                base.close()
                if base is self._base:
                    self._base = None
                else:
                    self._old_bases.remove(base)

    def uses_base(self, number: int) -> bool:
        """Whether a session of this process reads that base."""
        with self.lock:
            return any(
                base.users for base in (*self._old_bases, self._base) if base is not None and base.number == number
            )

    def base_version(self) -> int:
        """The version of the base that this process uses."""
        return 0 if self._base is None else self._base.mark.version

    def overlay_rows(self) -> int:
        return 0 if self._overlay is None else sum(len(table.rows) for table in self._overlay.tables.values())

    def overlay_bytes(self) -> int:
        return 0 if self._overlay is None else self._overlay.bytes

    def journal_bytes(self) -> int:
        """How much journal follows the base that this process uses."""
        base = self._base
        return 0 if base is None else self.state.end - base.mark.position

    def _close_unused_bases(self) -> None:
        for base in [b for b in self._old_bases if not b.users]:
            self._old_bases.remove(base)
            base.close()
        self._forget()

    def _forget(self) -> None:
        """Drop from the overlay what every base in use holds."""
        if self._overlay is not None and self._base is not None:
            oldest = min((b.mark for b in [*self._old_bases, self._base]), key=lambda mark: mark.version)
            if oldest.version > self._overlay.mark.version:
                self._overlay.forget(oldest)

    def _publish_pins(self, also: int | None = None) -> None:
        bases = {s.base.number for s in self._snapshots}
        if also is not None:
            bases.add(also)
        oldest = min(self._snapshots, key=lambda s: s.position, default=None)
        self.control.pin(self.slot, bases, None if oldest is None else (oldest.position, oldest.began_s))

    def _catch_up(self) -> tuple[Base, Overlay]:
        """At work: stand on the current base, pinned, with everything published since in the overlay."""
        for _ in range(_RETRIES):
            word = self.control.base_word()
            if not (self._base is not None and self._base.word == word and self._base.users):
                self._publish_pins(also=base_of(word))
                if self.control.base_word() != word:
                    continue  # flipped before the pin was seen: the base may be written already
            try:
                self._enter_base(word)
                self._tail()
            except SegmentGone:
                self._stale = True  # slept too long: begin anew from the base that is current now
                continue
            assert self._base is not None and self._overlay is not None
            return self._base, self._overlay
        raise StorageError(
            f"the current base of {self.layout.directory} changed {_RETRIES} times while it was being opened"
        )

    def _enter_base(self, word: int) -> None:
        if self._base is None or self._base.word != word:
            base = Base(self.layout, base_of(word), word)
            if self._base is not None:
                if self._base.users:
                    self._old_bases.append(self._base)
                else:
                    self._base.close()
            self._base = base
        self._follow_from(self._base)

    def _follow_from(self, base: Base) -> None:
        """See that the overlay begins no later than the base ends, and goes on from where the reader stands."""
        reader, mark = self._reader, base.mark
        behind = reader is not None and reader.position < mark.position and not self._old_bases
        gap = self._overlay is not None and self._overlay.mark.version > mark.version  # never, unless a base went back
        if reader is None or self._overlay is None or self._stale or behind or gap:
            self._overlay = Overlay(mark, base.stamp.tables)
            self._reader = None
            self._reader = Reader.at(
                self.segments, position=mark.position, crc=mark.crc, number=mark.version, newest=self.state.segment
            )
            self._stale = False
        elif not self._old_bases:
            self._forget()

    def _tail(self) -> None:
        assert self._reader is not None and self._overlay is not None
        if self._reader.position == self.state.end:
            return
        self._stale = True  # until it is through: an interrupt between record and overlay would lose a commit
        for record in self._reader.read_to(self.state):
            self._overlay.apply(record.number, unpack_commit(record.payload))
        self._stale = False
        self.segments.let_go_before(self._reader.segment.number)

    @property
    def version(self) -> int:
        """The number of the newest commit."""
        with self._at_work():
            self.require_open()
            version = self._catch_up()[1].version
            self._publish_pins()
            return version

    # Committing

    def commit(self, snapshot: Snapshot, reads: Reads, writes: Writes, terms: Terms) -> int:
        """Validate, append, publish, and with full durability wait until it is on stable storage.

        Raises:
            ConcurrencyConflict, UniqueViolation, LockTimeout, StorageError: nothing was written.
            CommitUnknown: nobody can know.
        """
        assert isinstance(snapshot, BaseSnapshot)
        snapshot.require_usable()
        if not writes:
            if terms.durability == "full":
                self.sync.make_durable(snapshot.position)
            return snapshot.version
        self.state.refuse_if_poisoned()
        for change in writes.schema:
            if change.kind == "create_index":
                require_index_name(change.table, change.index.column)
        about = {"note": terms.note, "pid": self.pid} if terms.note else {"pid": self.pid}
        commit = Commit(writes.rows, tuple(writes.schema), about)
        payload = pack_commit(commit)
        written: list[Record] = []
        try:
            with self.commit_lock.held(terms.lock_timeout_s), self._at_work():
                self.require_open()
                self.state.refuse_if_poisoned()
                overlay = self._tail_for(snapshot, terms.force)
                if not terms.force:
                    validate(snapshot, reads, writes, terms.isolation)
                refuse_other_index(overlay, writes)
                if needs_unique_check(overlay, writes):
                    with self.snapshot_held() as newest:
                        check_unique(newest, writes)
                self._append(commit, payload, written)
            if terms.durability == "full":
                self.sync.make_durable(written[0].end)
        except BaseException as error:
            if not written or isinstance(error, CommitUnknown):
                raise
            raise CommitUnknown(f"the commit was written, but not seen to reach stable storage: {error}") from error
        return written[0].number

    def _tail_for(self, snapshot: BaseSnapshot, force: bool) -> Overlay:
        """Bring the overlay to the journal's end; SnapshotExpired if the snapshot's own overlay could not follow."""
        _, overlay = self._catch_up()
        if snapshot.overlay is not overlay and not force:
            raise SnapshotExpired(message=f"the session at version {snapshot.version} was open past its lease")
        return overlay

    @contextmanager
    def snapshot_held(self) -> Iterator[BaseSnapshot]:
        """The newest version, for a block."""
        snapshot = self.snapshot()
        try:
            yield snapshot
        finally:
            snapshot.close()

    def _append(self, commit: Commit, payload: bytes, written: list[Record]) -> None:
        """With both locks: append, publish, note that in `written`, and take the commit into the overlay."""
        reader, overlay = self._reader, self._overlay
        assert reader is not None and overlay is not None
        self._stale = True
        try:
            self.writer.append(reader, payload, written)
        except StorageError:
            self._stale = False  # nothing was published
            raise
        overlay.apply(written[0].number, commit)
        self._stale = False
