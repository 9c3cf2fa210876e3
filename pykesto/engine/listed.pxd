"""What the overlay lists in an index, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto.engine.ordered cimport Ordered


cdef class Hidden:
    cdef uint64_t base_version
    cdef uint64_t version
    cdef Ordered entries


cdef class Listed:
    cdef readonly object definition
    cdef readonly Ordered entries
    cdef bytes column
    cdef bint notes_lacking
    cdef bint dropped  # and not kept up to date any more
    cdef Hidden hidden  # kept for the newest base that was asked for it; the overlay's lock is around it
    cdef tuple terms(self, bytes image)
    cdef int add(self, bytes image, bytes key) except -1
    cdef int discard(self, bytes key, list gone, list kept) except -1
