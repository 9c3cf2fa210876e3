"""An index as one snapshot sees it, for compiled modules."""

from libc.stdint cimport int64_t, uint64_t

from pykesto._tc cimport Entry, IndexPages, PageRange
from pykesto.engine.listed cimport Hidden, Listed
from pykesto.engine.overlay cimport Overlay, Table


cdef class IndexView:
    cdef Overlay overlay
    cdef Table table
    cdef Listed listed
    cdef IndexPages pages
    cdef object rows  # of the base, or None
    cdef str name  # of the table
    cdef uint64_t base_version
    cdef uint64_t version
    cdef bint hidden(self, const Entry *entry) except -1
    cdef bint all_newest(self) except -1
    cdef bint holds(self, tuple entry) except -1
    cdef bint is_above(self) except -1
    cdef Hidden known_hidden(self)
    cdef int take_in(self, Hidden hidden, uint64_t since, uint64_t until, list keys) except -1
    cdef int64_t count_visible(self, bytes lo, bytes hi) except -1
    cdef int64_t count_own(self, bytes lo, bytes hi) except -1
    cdef list own(self, bytes lo, bytes hi)
    cdef list keys(self, bytes lo, bytes hi)
    cdef bint merge(self, bytes lo, bytes hi, PageRange others, bint hides, list found) except -1
    cdef list keys_of_both(self, bytes lo, bytes hi, IndexView other, bytes other_lo, bytes other_hi)
    cdef int64_t count(self, bytes lo, bytes hi) except -1
    cdef int64_t estimate(self, bytes lo, bytes hi) except -1
    cdef bint lacks(self, int64_t base_rows) except -1
