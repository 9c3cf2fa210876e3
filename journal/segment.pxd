"""One segment, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t


cdef class Segment:
    cdef readonly object path
    cdef readonly int fd
    cdef readonly object header
    cdef readonly uint64_t number
    cdef readonly uint64_t start
    cdef readonly uint32_t salt
    cdef readonly uint64_t end
    cdef bytes get(self, uint64_t position, uint64_t size)
    cdef int put(self, uint64_t position, bytes content) except -1
