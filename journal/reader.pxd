"""The reader of the journal, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t

from pykesto.journal.records cimport Record, Verified
from pykesto.journal.segment cimport Segment
from pykesto.journal.state cimport JournalState


cdef enum Step:  # from a record to the next
    DONE
    MORE  # bytes are needed
    BEYOND
    UNSOUND
    ASTRAY


cdef class Follower:
    cdef Segment segment  # what `take` gets is the payload of a record in it,
    cdef uint64_t position  # which begins there
    cdef int take(self, uint64_t number, const char *payload, Py_ssize_t size) except -1
    cdef int keep(self, bytes block) except -1
    cdef bint take_kept(self, uint64_t number, const char *payload, Py_ssize_t size) noexcept nogil


cdef class Reader:
    cdef readonly object segments
    cdef readonly Segment segment
    cdef readonly uint64_t position
    cdef readonly uint32_t crc
    cdef public uint64_t number
    cdef uint64_t limit(self, uint64_t newest, uint64_t end) except? 0xFFFFFFFFFFFFFFFF
    cdef int go_past(self, Record record) except -1
    cdef int follow(self, JournalState state, Follower follower) except -1
    cdef bytes block(self, uint64_t newest, uint64_t end, uint64_t *limit)
    cdef bint next_of(self, Verified *found, bytes block, Py_ssize_t *offset, uint64_t limit) except -1
    cdef Step step(
        self, Verified *found, const char *at, Py_ssize_t size, Py_ssize_t *offset, uint64_t limit, uint32_t salt
    ) noexcept nogil
    cdef bint refuse(self, Step step) except -1
    cdef object damage(self, str what)
