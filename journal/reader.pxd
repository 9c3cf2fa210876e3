"""The reader of the journal, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t

from pykesto.journal.records cimport Record
from pykesto.journal.segment cimport Segment
from pykesto.journal.state cimport JournalState


cdef class Reader:
    cdef readonly object segments
    cdef readonly Segment segment
    cdef readonly uint64_t position
    cdef readonly uint32_t crc
    cdef public uint64_t number
    cdef uint64_t limit(self, uint64_t newest, uint64_t end) except? 0xFFFFFFFFFFFFFFFF
    cdef Record next_of(self, bytes block, Py_ssize_t offset, uint64_t limit)
    cdef int go_past(self, Record record) except -1
    cdef uint64_t whole_size(self, bytes block, uint64_t limit) except 0
    cdef object damage(self, str what)
