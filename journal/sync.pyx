"""Make the journal durable for all waiting processes at once.

Whoever gets sync.lock syncs for everyone who appended before; the others sleep on a futex in the control page. Those that
the sync covers wake together, and one of those that came later, to lead the next. Nobody queues on the lock itself: that
would be a convoy. A failed sync is final: it poisons the
database for every process, as the kernel reports it once and then says that all is well.
"""

cimport cython
from libc.stdint cimport uint64_t

from pykesto.journal.segment cimport Segment
from pykesto.journal.state cimport JournalState

import errno
import threading
import time

from pykesto import failpoints as _failpoints
from pykesto import files as _files
from pykesto.errors import CorruptionError, StorageError
from pykesto.failpoints import hit, off
from pykesto.journal.records import parse_record
from pykesto.journal.segments import SegmentGone

PATIENCE_S = 2.0  # after this long a waiter syncs by itself: the syncer may be stopped

cdef extern from *:
    """
    #include <fcntl.h>
    #include <sys/stat.h>
    /* How many names an open file has. Not by fstat: since Linux 6.13 who has seen a file's times makes the next write
       change them, and the next sync of the data write the inode, too. */
    static long kesto_names(int fd)
    {
        struct statx found;
        struct stat all;
        if (statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &found) == 0) return (long)found.stx_nlink;
        return fstat(fd, &all) == 0 ? (long)all.st_nlink : -1;
    }
    """
    long kesto_names(int fd)

cdef bint ACTIVE = _failpoints.ACTIVE
cdef double LOOK_AGAIN_S = _files.LOOK_AGAIN_S


@cython.final
cdef class GroupSync:
    """Group sync of one process. Needs no lock of the caller; `sync_alone` needs commit.lock held.

    A flag says that a sync has begun and not ended: `leading`, which belongs to sync.lock, or `alone`, which belongs to
    commit.lock. Who takes the lock and finds its flag set knows that the holder died in the midst, perhaps after a
    failed sync that nobody will ever hear of: the pages would be clean, and not on disk. Written again, the same
    bytes, they are dirty, and the next sync tells the truth about them.
    """

    def __init__(
        self, segments, JournalState state not None, *, sync_lock, commit_lock, double look_again_s=LOOK_AGAIN_S
    ):
        self.segments = segments
        self.state = state
        self.sync_lock = sync_lock
        self.commit_lock = commit_lock
        self.look_again_s = look_again_s
        # The kernel tells of a failed sync once for each open file, and the threads of a process share theirs.
        self.one_at_a_time = threading.Lock()

    cpdef int make_durable(self, uint64_t target) except -1:
        """Return when everything before `target` is on stable storage.

        Raises:
            StorageError: a sync failed, here or elsewhere; what is on disk is unknown until the next recovery.
            LockTimeout: a holder of sync.lock is stopped, and so is one of commit.lock.
        """
        cdef JournalState state = self.state
        cdef uint64_t number = 0
        cdef uint64_t awaited = 0
        if state.known_durable_end() >= target:
            return 0
        cdef double began = time.monotonic()
        cdef bint ask = False  # for the lock itself: who seems to have it may be dead
        while state.known_durable_end() < target:
            state.refuse_if_poisoned()
            number = state.sync_number()  # before the try, so that a sync ending in between is not slept through
            if self.lead(target, ask):
                state.sync_ended()  # after the release: who is to lead the next one tries the lock at once
            elif time.monotonic() - began > PATIENCE_S and not (ACTIVE and off("sync.patience")):
                with self.commit_lock.held(PATIENCE_S * 5):  # the leader may be stopped: don't depend on it
                    self.sync_alone(target)
                state.wake()
            else:
                awaited = number if state.is_being_synced(target) else number + 1
                ask = not state.wait(number, awaited, self.look_again_s)
        if awaited > number and state.sync_number() == awaited:
            state.wake_those_awaiting(awaited)  # this one was woken to lead them, and needs no more
        return 0

    cdef bint lead(self, uint64_t target, bint ask) except -1:
        """Sync for all, unless another does; whether this one had the lock."""
        if not (self.sync_lock.take() if ask else self.sync_lock.take_if_free()):
            return False
        try:
            if self.state.known_durable_end() < target:
                self.sync_as_leader()
        finally:
            self.sync_lock.give_mine()
        return True

    def sync_alone(self, uint64_t target):
        """The same for the holder of commit.lock, who must not wait for sync.lock: its holder may want commit.lock."""
        cdef JournalState state = self.state
        if state.known_durable_end() >= target:
            return
        state.refuse_if_poisoned()
        if state.alone or state.leading:
            self.write_all_again()
        state.alone = True
        self.sync_to_end()
        state.alone = False

    cdef int sync_as_leader(self) except -1:
        cdef JournalState state = self.state
        if state.leading or state.alone:
            with self.commit_lock.held(PATIENCE_S * 5):  # one who syncs alone and lives ends first
                if state.leading or state.alone:
                    self.write_all_again()
                state.alone = False
                state.leading = True
        state.leading = True
        self.sync_to_end()
        state.leading = False
        return 0

    cdef int sync_to_end(self) except -1:
        with self.one_at_a_time:
            self.state.refuse_if_poisoned()
            end = self.state.end  # before the sync: what is appended during it is not covered
            self.state.sync_begins(end)
            segments = self.not_durable()  # what fails here was no sync
            if ACTIVE and off("journal.durable"):
                segments = []
            try:
                if ACTIVE:
                    hit("journal.sync")
                for segment in segments:
                    segment.sync()
                self.refuse_removed(segments)
            except StorageError as error:
                self.state.poison(error.errno or 0)
                raise
            if ACTIVE:
                hit("journal.synced")
            self.state.publish_durable(end)
            self.state.count_sync()
        return 0

    cdef int refuse_removed(self, list segments) except -1:
        """StorageError if the newest segment has no name any more: what was synced is nowhere. Older ones may go."""
        if segments and kesto_names(segments[-1].fd) == 0 and segments[-1].number == self.state.segment:
            raise StorageError(
                f"{segments[-1].path} was removed while the database is in use",
                errno=errno.ENOENT,
                path=str(segments[-1].path),
                hint="what was committed after the last checkpoint may be lost; restore a backup, or repair",
            )
        return 0

    def not_durable(self):
        """The segments from the durable end to the newest, in order."""
        durable_end, number, found = self.state.durable_end, self.state.segment, []
        while number > 0:
            try:
                segment = self.segments.get(number)
            except SegmentGone:
                break  # removed because it was synced whole and applied
            found.append(segment)
            if segment.start <= durable_end:
                break
            number -= 1
        return found[::-1]

    cdef int write_all_again(self) except -1:
        """With commit.lock held: write the records from the durable end to the end again, the same bytes."""
        if ACTIVE and off("sync.again"):
            return 0
        end = self.state.end
        position = self.state.durable_end
        for segment in self.not_durable():
            try:
                position = write_again(segment, max(position, segment.start), min(end, segment.end))
            except StorageError as error:
                self.state.poison(error.errno or 0)
                raise
        return 0


def write_again(Segment segment not None, uint64_t position, uint64_t end):
    """Write the records of one segment from `position` to `end` again, each verified; return where they end."""
    block = segment.read(position, end - position)
    offset = 0
    while position + offset < end:
        parsed = parse_record(
            block, offset, position=position + offset, room=end - position - offset, salt=segment.salt
        )
        if parsed is None:
            raise CorruptionError(
                "a record changed after it was written", path=segment.path, offset=segment.offset(position + offset)
            )
        offset = parsed[0].end - position
    segment.write(position, block[:offset])
    return position + offset
