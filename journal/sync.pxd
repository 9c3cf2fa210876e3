"""Group sync, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._locks cimport ProcessLock
from pykesto.journal.state cimport JournalState


cdef class GroupSync:
    cdef readonly object segments
    cdef readonly JournalState state
    cdef readonly ProcessLock sync_lock
    cdef readonly ProcessLock commit_lock
    cdef object one_at_a_time
    cdef double look_again_s  # who leads may be killed, and wakes nobody then
    cpdef int make_durable(self, uint64_t target) except -1
    cdef bint lead(self, uint64_t target, bint ask) except -1
    cdef int sync_as_leader(self) except -1
    cdef int sync_to_end(self) except -1
    cdef int write_all_again(self) except -1
    cdef int refuse_removed(self, list segments) except -1
