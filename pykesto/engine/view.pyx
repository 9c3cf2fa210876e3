"""What this process sees of the database: the current base, the overlay above it, and the pins that keep both.

Sessions of all threads share it. Its lock is held for moments only, never while waiting for another process; it is
re-entrant, and a finalizer may run in its holder, so what ends a snapshot only notes that and leaves the rest to
whoever is at work.
"""

cimport cython
from libc.stdint cimport uint64_t

from pykesto._locks cimport Mutex
from pykesto._system cimport SharedWords, current_pid, kesto_fence, kesto_load, kesto_store
from pykesto.engine.overlay cimport Overlay
from pykesto.engine.snapshot cimport BaseSnapshot, Used, snapshot_of
from pykesto.journal.reader cimport Reader
from pykesto.journal.state cimport JournalState

from bisect import bisect_left, insort
from collections import deque

from pykesto import failpoints as _failpoints
from pykesto.engine.base import Base
from pykesto.engine import control as _words
from pykesto.errors import ClosedError, StorageError
from pykesto.failpoints import hit, off
from pykesto.journal import Reader as JournalReader
from pykesto.journal import SegmentGone

cdef enum:
    TRIES = 100
    FORGET_AT_ONCE = 64  # rows that a session lets go of on its way
    DOUBLINGS = 30
    NO_BASE = 0xFFFF

OVERLAY_BYTES_MAX = 512 << 20  # as much as a session may keep of the journal

cdef bint ACTIVE = _failpoints.ACTIVE
cdef Py_ssize_t CURRENT = _words.BASE_WORD
cdef Py_ssize_t BASES = _words.PINNED_BASES
cdef Py_ssize_t OLDEST_POSITION = _words.OLDEST
cdef Py_ssize_t SINCE_S = _words.SINCE


@cython.final
cdef class View:
    """One process's view. Threads share it; a forked child may not."""

    def __init__(self, layout, segments, JournalState state not None, control):
        self.layout = layout
        self.segments = segments
        self.state = state
        self.control = control
        self.words = control.words
        self.pins = -1
        self.lock = Mutex()
        self.old_bases = []
        self.ended = deque()
        self.live = []
        self.due_bytes = <uint64_t>1 << 62
        self.overlay_bytes_max = OVERLAY_BYTES_MAX

    def use_slot(self, slot):
        """Pin in this slot of the control page from now on."""
        self.pins = self.control.first_word_of(slot)

    def when_due(self, uint64_t journal_bytes, call):
        """Have `call()` made whenever a snapshot begins or a commit ends with so much journal behind the base."""
        self.due_bytes = journal_bytes
        self.on_due = call

    def require_open(self):
        """ClosedError once the database is closed in this process."""
        if self.closed:
            raise ClosedError(f"the database {self.layout.directory} is closed in this process")

    # At work: with the lock, and finalizers held off

    cdef bint enter(self) except -1:
        self.lock.enter()
        cdef bint was = self.busy
        self.busy = True
        return was

    cdef int leave(self, bint was) except -1:
        self.busy = was
        self.lock.leave()
        if self.ended:
            self.settle()
        return 0

    # Snapshots

    def snapshot(self):
        """The newest version, pinned until closed."""
        cdef BaseSnapshot snapshot = None
        cdef bint was = self.enter()
        try:
            try:
                if self.closed:
                    self.require_open()
                self.catch_up()
                if self.is_swollen():
                    self.stale = True
                    self.catch_up()
                snapshot = self.take()
            finally:
                self.leave(was)
            if self.state.published_end() - self.base_position >= self.due_bytes:
                self.look_whether_due()
        except BaseException:
            if snapshot is not None:
                self.end(snapshot)  # nobody got it who could
            raise
        return snapshot

    cdef BaseSnapshot take(self):
        """At work, and caught up: a snapshot of what there is."""
        cdef BaseSnapshot snapshot = snapshot_of(self, self.base, self.overlay, self.reader.position)
        self.base.users += 1
        snapshot.before = self.newest
        if self.newest is None:
            self.oldest = snapshot
        else:
            self.newest.after = snapshot
        self.newest = snapshot
        if not self.live or self.live[-1] <= snapshot.version:
            self.live.append(snapshot.version)
        else:
            insort(self.live, snapshot.version)
        self.publish_pins(NO_BASE)
        return snapshot

    def look_whether_due(self):
        """Tell of a journal that has grown long: cheap unless it has."""
        if self.base is not None and self.state.published_end() - self.base_position >= self.due_bytes:
            self.on_due()

    def end(self, BaseSnapshot snapshot not None):
        """May be called by a finalizer, in the midst of anything: only note it, and release if nobody is at work."""
        if snapshot.closed or self.closed or snapshot.pid != current_pid():
            return
        snapshot.closed = True
        if self.busy or not self.lock.try_enter():
            self.ended.append(snapshot)
        else:
            try:
                self.release(snapshot)
            finally:
                self.lock.leave()
        if self.ended:
            self.settle()

    cdef int settle(self) except -1:
        """Release what has ended, unless another thread is at work: it does so when it is through."""
        while self.ended and self.lock.try_enter():
            try:
                if self.busy:
                    return 0
                self.release_ended()
            finally:
                self.lock.leave()
        return 0

    cdef int release_ended(self) except -1:
        """With the lock, and not at work: give up what closed snapshots held."""
        while self.ended:
            self.release(self.ended.popleft())
        return 0

    cdef int release(self, BaseSnapshot snapshot) except -1:
        """With the lock, and not at work: give up what a closed snapshot held."""
        if self.closed:
            return 0
        self.busy = True
        try:
            self.unlink(snapshot)
            if self.old_bases:
                self.close_unused_bases()
            self.publish_pins(NO_BASE)
        finally:
            self.busy = False
        return 0

    cdef int unlink(self, BaseSnapshot snapshot) except -1:
        snapshot.base.users -= 1
        if self.live[-1] == snapshot.version:
            self.live.pop()
        else:
            del self.live[bisect_left(self.live, snapshot.version)]
        if snapshot.before is None:
            self.oldest = snapshot.after
        else:
            snapshot.before.after = snapshot.after
        if snapshot.after is None:
            self.newest = snapshot.before
        else:
            snapshot.after.before = snapshot.before
        snapshot.before = snapshot.after = None
        return 0

    cdef int publish_pins(self, uint64_t also) except -1:
        """Say what this process needs: bases, and the journal from its oldest snapshot on. Then a full fence."""
        cdef uint64_t mask = 0
        if also != NO_BASE:
            mask |= <uint64_t>1 << also
        if self.base is not None and self.base.users:
            mask |= <uint64_t>1 << <uint64_t>self.base.number
        for base in self.old_bases:
            if base.users:
                mask |= <uint64_t>1 << <uint64_t>base.number
        cdef uint64_t *pins = self.words.at(self.pins)
        if self.oldest is None:
            kesto_store(pins + SINCE_S, 0)
            kesto_store(pins + OLDEST_POSITION, 0)
        else:
            kesto_store(pins + SINCE_S, self.oldest.began_s)
            kesto_store(pins + OLDEST_POSITION, self.oldest.position + 1)
        kesto_store(pins + BASES, mask)
        kesto_fence()
        return 0

    # Keeping up

    cdef uint64_t current_word(self) except? 0xFFFFFFFFFFFFFFFF:
        return kesto_load(self.words.at(CURRENT))

    cdef int catch_up(self) except -1:
        """At work: stand on the current base, pinned, with everything published since in the overlay."""
        cdef uint64_t word
        for _ in range(TRIES):
            word = self.current_word()
            if self.base is None or self.base_word != word or not self.base.users:
                if ACTIVE:
                    hit("view.pin")
                self.publish_pins(word & 0xFF)
                if self.current_word() != word and not (ACTIVE and off("pins.again")):
                    continue  # flipped before the pin was seen: the base may be written already
            try:
                if self.base is None or self.base_word != word:
                    self.enter_base(word)
                    self.follow_from_base()
                elif self.stale or self.reader is None:
                    self.follow_from_base()
                elif self.forgetting:
                    self.forget()
                if self.reader.position != self.state.published_end():
                    self.tail()
            except SegmentGone:
                self.stale = True  # slept too long: begin anew from the base that is current now
                continue
            return 0
        raise StorageError(
            f"the current base of {self.layout.directory} changed {TRIES} times while it was being opened"
        )

    cdef int enter_base(self, uint64_t word) except -1:
        base = Base(self.layout, word & 0xFF, word)
        if self.base is not None:
            if self.base.users:
                self.old_bases.append(self.base)
            else:
                self.base.close()
        self.base = base
        self.base_word = word
        self.base_position = base.mark.position
        return 0

    cdef int follow_from_base(self) except -1:
        """See that the overlay begins no later than the base ends, and goes on from where the reader stands."""
        mark = self.base.mark
        cdef bint behind = (
            self.reader is not None and self.reader.position < <uint64_t>mark.position and not self.old_bases
        )
        # The second: never, unless a base went back.
        cdef bint gap = self.overlay is not None and self.overlay.mark.version > mark.version
        if self.reader is None or self.overlay is None or self.stale or behind or gap:
            self.overlay = Overlay(mark, self.base.stamp.tables, self.live)
            self.reader = None
            self.reader = JournalReader.at(
                self.segments, position=mark.position, crc=mark.crc, number=mark.version, newest=self.state.segment
            )
            self.stale = False
        self.forgetting = True
        return 0

    cdef bint is_swollen(self) except -1:
        """Whether sessions that stay open keep more in memory than they may: their commits expire, new ones go on."""
        if self.overlay.size_bytes <= self.overlay_bytes_max or not self.old_bases:
            return False
        return self.base.mark.version > self.overlay.mark.version

    cdef int tail(self) except -1:
        # Both are held here: a signal handler that closes the database makes the view let go of them.
        cdef Reader reader = self.reader
        cdef Overlay overlay = self.overlay
        cdef uint64_t segment = reader.segment.number
        try:
            reader.follow(self.state, overlay)
        finally:
            if self.reader is reader and self.overlay is overlay:
                self.note_whether_stale()
        if self.closed:
            self.require_open()
        if reader.segment.number != segment:
            self.segments.let_go_before(reader.segment.number)
        return 0

    cdef bint is_full(self) except -1:
        """Whether as much is in memory as may be, and no base holds it: commits come faster than bases take them."""
        cdef Overlay overlay = self.overlay
        base = self.base
        if overlay is None or base is None or overlay.size_bytes <= self.overlay_bytes_max:
            return False
        return base.mark.version <= overlay.mark.version

    cdef int note_whether_stale(self) except -1:
        """After following the journal, or adding to it, to the end or not: does the overlay hold all that was read?

        If not, an exception came in between, and the next to look begins a new overlay.
        """
        self.stale = self.overlay.version != self.reader.number
        return 0

    cdef int forget(self) except -1:
        """Drop from the overlay a part of what every base in use holds: twice as much for each eighth that is full."""
        if self.old_bases or self.base is None or self.overlay is None:
            return 0
        mark = self.base.mark
        cdef Py_ssize_t full = min(8 * self.overlay.size_bytes // self.overlay_bytes_max, DOUBLINGS)
        cdef Py_ssize_t at_once = <Py_ssize_t>FORGET_AT_ONCE << full
        if mark.version <= self.overlay.mark.version or self.overlay.forget_some(mark, at_once):
            self.forgetting = False
        return 0

    def catch_up_with_base(self):
        """In the background: let go of what a new base holds, a little at a time."""
        cdef bint was
        while True:
            was = self.enter()
            try:
                if self.closed:
                    return
                self.catch_up()
                self.publish_pins(NO_BASE)
                if not self.forgetting or self.old_bases:
                    return
            finally:
                self.leave(was)

    cdef int close_unused_bases(self) except -1:
        for base in [b for b in self.old_bases if not b.users]:
            self.old_bases.remove(base)
            base.close()
        return 0

    # For checkpoints, and for people

    def forget_base(self, int number):
        """Close what this process has open of a base that it does not pin, as it is to be written."""
        cdef bint was = self.enter()
        try:
            for base in [b for b in (*self.old_bases, self.base) if b is not None and b.number == number]:
                assert not base.users, f"base {number} is pinned by this very process"
                base.close()
                if base is self.base:
                    self.base = None
                else:
                    self.old_bases.remove(base)
        finally:
            self.leave(was)

    def uses_base(self, int number):
        """Whether a session of this process reads that base."""
        with self.lock:
            return any([b.users for b in (*self.old_bases, self.base) if b is not None and b.number == number])

    def base_version(self):
        """The version of the base that this process uses."""
        return 0 if self.base is None else self.base.mark.version

    def journal_bytes(self):
        """How much journal follows the base that this process uses."""
        base = self.base
        return 0 if base is None else self.state.end - base.mark.position

    def version(self):
        """The number of the newest commit."""
        cdef bint was = self.enter()
        try:
            self.require_open()
            self.catch_up()
            self.publish_pins(NO_BASE)
            return self.overlay.version
        finally:
            self.leave(was)

    def is_used_here(self):
        """Whether this thread is at work, or was interrupted as it was."""
        cdef Overlay overlay = self.overlay
        return self.lock.is_mine() or (overlay is not None and overlay.lock.is_mine())

    def end_sessions(self):
        """From now on no session begins, and none goes on."""
        self.closed = True

    def close(self):
        """Let go of bases, overlay and journal. Sessions end."""
        self.closed = True
        with self.lock:
            for base in [*self.old_bases, *([] if self.base is None else [self.base])]:
                base.close()
            self.drop()

    def abandon(self):
        """In a forked child: the parent goes on with all of this. The driver abandons its handles by itself."""
        self.closed = True
        self.lock = Mutex()
        self.drop()

    def drop(self):
        """Forget everything: the last references to descriptors of the journal, too."""
        cdef BaseSnapshot snapshot = self.oldest
        cdef Overlay overlay = self.overlay
        if overlay is not None:
            overlay.let_go()
        while snapshot is not None:
            snapshot.overlay.let_go()
            snapshot = snapshot.after
        self.old_bases, self.base = [], None
        self.reader = self.overlay = self.oldest = self.newest = None
