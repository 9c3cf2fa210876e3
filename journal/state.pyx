"""The words of the control page that belong to the journal.

They are rebuilt by the first process that attaches and never believed by it. `end` is published with a release
store after the record's bytes are in place: whoever loads it sees them.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from pykesto._system cimport (
    SharedWords, kesto_add, kesto_load, kesto_store, kesto_wait_among, kesto_wake, kesto_wake_among,
)

from pykesto.errors import StorageError
from pykesto.journal import format as _format

WORDS = 16
cdef uint64_t COUNT_BITS = _format.GENERATION_SHIFT

cdef enum:
    END = 0
    DURABLE_END = 1
    SEGMENT = 2
    POISON = 3
    LEADING = 4
    ALONE = 5
    SYNC_NUMBER = 6
    CLEAN = 7
    GENERATION = 8
    ROLLING = 9
    COMMITS = 10
    SYNCS = 11
    CONFLICTS = 12
    SYNCING_TO = 13

cdef enum:
    ALL = 0x7FFFFFFF
    GROUPS = 32  # of sleepers: bits of a futex


cpdef uint64_t next_number(uint64_t last, uint64_t generation) noexcept:
    """The commit number after `last` in `generation`: the count goes on, the generation stands above it."""
    return generation << COUNT_BITS | ((last & ((<uint64_t>1 << COUNT_BITS) - 1)) + 1)


@cython.final
cdef class JournalState:
    """The journal's shared words. Positions are bytes from the journal's beginning."""

    def __init__(self, SharedWords words not None, Py_ssize_t first_word):
        self.words = words
        self.first = first_word

    cdef uint64_t load(self, Py_ssize_t word) except? 0xFFFFFFFFFFFFFFFF:
        return kesto_load(self.words.at(self.first + word))

    cdef int store(self, Py_ssize_t word, uint64_t value) except -1:
        kesto_store(self.words.at(self.first + word), value)
        return 0

    cdef uint64_t published_end(self) except? 0xFFFFFFFFFFFFFFFF:
        return self.load(END)

    cdef uint64_t known_durable_end(self) except? 0xFFFFFFFFFFFFFFFF:
        return self.load(DURABLE_END)

    @property
    def end(self):
        """The end of the newest published record."""
        return self.load(END)

    @property
    def durable_end(self):
        """Everything before is on stable storage."""
        return self.load(DURABLE_END)

    cdef uint64_t newest_segment(self) except? 0xFFFFFFFFFFFFFFFF:
        return self.load(SEGMENT)

    cdef bint is_clean(self) except -1:
        return self.load(CLEAN) != 0

    cdef bint is_rolling(self) except -1:
        return self.load(ROLLING) != 0

    cdef uint64_t current_generation(self) except? 0xFFFFFFFFFFFFFFFF:
        return self.load(GENERATION)

    @property
    def segment(self):
        """The number of the newest segment. Load it after `end`: it is stored before."""
        return self.load(SEGMENT)

    @property
    def generation(self):
        """The generation of the commits that are appended now."""
        return self.load(GENERATION)

    @property
    def clean(self):
        """The newest segment says that it was closed cleanly: to be taken back before the first append."""
        return self.load(CLEAN) != 0

    @property
    def leading(self):
        """A holder of sync.lock began a sync and did not end it. Written by holders of sync.lock only."""
        return self.load(LEADING) != 0

    @leading.setter
    def leading(self, bint value):
        self.store(LEADING, value)

    @property
    def alone(self):
        """A holder of commit.lock began a sync and did not end it. Written by holders of commit.lock only."""
        return self.load(ALONE) != 0

    @alone.setter
    def alone(self, bint value):
        self.store(ALONE, value)

    def begin(self, *, uint64_t end, uint64_t segment, uint64_t generation, bint clean):
        """Start anew after recovery: everything up to `end` is durable."""
        for word in (POISON, LEADING, ALONE, ROLLING):
            self.store(word, 0)
        self.store(SEGMENT, segment)
        self.store(GENERATION, generation)
        self.store(CLEAN, clean)
        self.store(DURABLE_END, end)
        self.store(END, end)

    cpdef int publish(self, uint64_t end) except -1:
        """Let everyone see the records up to `end`, which are in place."""
        return self.store(END, end)

    @property
    def commits(self):
        """How many records all processes appended since the first of them attached."""
        return self.load(COMMITS)

    @property
    def syncs(self):
        """How often the journal was synced since then."""
        return self.load(SYNCS)

    @property
    def conflicts(self):
        """How many commits were refused since then, because of what others had committed."""
        return self.load(CONFLICTS)

    cpdef int count_commit(self) except -1:
        """One more."""
        kesto_add(self.words.at(self.first + COMMITS), 1)
        return 0

    def count_sync(self):
        """One more."""
        kesto_add(self.words.at(self.first + SYNCS), 1)

    def count_conflict(self):
        """One more."""
        kesto_add(self.words.at(self.first + CONFLICTS), 1)

    def publish_segment(self, uint64_t number):
        """Name the newest segment."""
        self.store(SEGMENT, number)

    @property
    def rolling(self):
        """Someone began a new segment; if it is not published, its maker died."""
        return self.load(ROLLING) != 0

    def roll_begins(self):
        """Say that a new segment is being made."""
        self.store(ROLLING, 1)

    def roll_ends(self):
        """Say that none is being made."""
        self.store(ROLLING, 0)

    def taken_back(self):
        """Say that the newest segment no longer calls itself closed."""
        self.store(CLEAN, 0)

    def publish_durable(self, uint64_t end):
        """Everything before `end` is on stable storage."""
        self.words.raise_to(self.first + DURABLE_END, end)

    def poison(self, int errno):
        """Refuse every further commit, in every process, until all have closed and recovery has run."""
        self.store(POISON, max(1, errno))
        self.wake()

    @property
    def poisoned(self):
        """The errno of the failed sync, or 0."""
        return self.load(POISON)

    cpdef int refuse_if_poisoned(self) except -1:
        """StorageError if a sync of the journal failed, in whatever process."""
        cdef uint64_t errno = self.load(POISON)
        if errno:
            raise StorageError(
                "a sync of the journal failed; what is on disk is unknown, so commits are refused",
                errno=errno,
                hint="close the database in every process and open it again: recovery finds what is truly there",
            )
        return 0

    # Syncs are numbered. Who waits for one to end sleeps in its group: when a sync ends, those whose records it covers wake
    # together, and of those that need the next one a single one does, to lead it. To wake them all would be for nothing.

    cdef uint64_t sync_number(self) except? 0xFFFFFFFFFFFFFFFF:
        """The number of the sync that is being made, or comes: to be read before, and given to `wait`."""
        return self.load(SYNC_NUMBER)

    cdef int sync_begins(self, uint64_t end) except -1:
        """Say what the sync that begins will cover."""
        return self.store(SYNCING_TO, end)

    cdef bint is_being_synced(self, uint64_t target) except -1:
        """Whether the sync that is being made, if one is, covers everything before `target`."""
        return target <= self.load(SYNCING_TO)

    cdef bint wait(self, uint64_t number, uint64_t awaited, double seconds) except -1:
        """Sleep until sync `awaited` ends, or this one is to lead it, or a while; whether sync `number` has ended."""
        cdef uint64_t *word = self.words.at(self.first + SYNC_NUMBER)
        cdef int64_t ns = <int64_t>(seconds * 1e9)
        with nogil:
            kesto_wait_among(word, <uint32_t>number, ns, group_of(awaited))
        return self.load(SYNC_NUMBER) != number

    cdef int sync_ended(self) except -1:
        """Wake all that waited for it, and one that waits for the next."""
        cdef uint64_t *word = self.words.at(self.first + SYNC_NUMBER)
        cdef uint64_t following = kesto_add(word, 1)
        kesto_wake_among(word, 1, group_of(following))  # first: the disk waits for nothing but this one
        kesto_wake_among(word, ALL, group_of(following - 1))
        return 0

    cdef int wake_those_awaiting(self, uint64_t number) except -1:
        """Have all that wait for a sync look for themselves."""
        kesto_wake_among(self.words.at(self.first + SYNC_NUMBER), ALL, group_of(number))
        return 0

    cdef int wake(self) except -1:
        """Wake all that wait for any sync."""
        cdef uint64_t *word = self.words.at(self.first + SYNC_NUMBER)
        kesto_add(word, 1)
        kesto_wake(word)
        return 0


cdef uint32_t group_of(uint64_t number) noexcept nogil:
    return <uint32_t>1 << <uint32_t>(number % GROUPS)
