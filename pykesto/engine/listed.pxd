"""What the overlay lists in an index, for compiled modules."""

from pykesto.engine.ordered cimport Ordered


cdef class Listed:
    cdef readonly object definition
    cdef readonly Ordered entries
    cdef bytes column
    cdef bint notes_lacking
    cdef bint dropped  # and not kept up to date any more
    cdef tuple terms(self, bytes image)
    cdef int add(self, bytes image, bytes key) except -1
    cdef int discard(self, bytes key, list gone, list kept) except -1
