"""The journal's shared words, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._system cimport SharedWords


cpdef uint64_t next_number(uint64_t last, uint64_t generation) noexcept


cdef class JournalState:
    cdef readonly SharedWords words
    cdef readonly Py_ssize_t first
    cdef uint64_t load(self, Py_ssize_t word) except? 0xFFFFFFFFFFFFFFFF
    cdef int store(self, Py_ssize_t word, uint64_t value) except -1
    cdef uint64_t published_end(self) except? 0xFFFFFFFFFFFFFFFF
    cdef uint64_t known_durable_end(self) except? 0xFFFFFFFFFFFFFFFF
    cdef uint64_t newest_segment(self) except? 0xFFFFFFFFFFFFFFFF
    cdef bint is_clean(self) except -1
    cdef bint is_rolling(self) except -1
    cdef uint64_t current_generation(self) except? 0xFFFFFFFFFFFFFFFF
    cdef uint64_t sync_number(self) except? 0xFFFFFFFFFFFFFFFF
    cdef int sync_begins(self, uint64_t end) except -1
    cdef bint is_being_synced(self, uint64_t target) except -1
    cdef bint wait(self, uint64_t number, uint64_t awaited, double seconds) except -1
    cdef int sync_ended(self) except -1
    cdef int wake_those_awaiting(self, uint64_t number) except -1
    cdef int wake(self) except -1
    cpdef int publish(self, uint64_t end) except -1
    cpdef int count_commit(self) except -1
    cpdef int refuse_if_poisoned(self) except -1
