"""The writer, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto.journal.reader cimport Reader
from pykesto.journal.records cimport Record
from pykesto.journal.state cimport JournalState


cdef class Writer:
    cdef readonly object segments
    cdef readonly JournalState state
    cdef readonly object sync
    cpdef Record append(self, Reader reader, bytes payload, list written=*)
    cdef int prepare(self, Reader reader, uint64_t size) except -1
    cdef int roll(self, Reader reader, uint64_t size) except -1
    cdef int enter(self, Reader reader, number) except -1
    cdef int adopt(self, Reader reader) except -1
    cdef int withdraw(self, Reader reader, error) except -1
