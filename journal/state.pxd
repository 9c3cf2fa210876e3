"""The journal's shared words, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._system cimport SharedWords


cdef class JournalState:
    cdef readonly SharedWords words
    cdef readonly Py_ssize_t first
    cdef uint64_t load(self, Py_ssize_t word) except? 0xFFFFFFFFFFFFFFFF
    cdef int store(self, Py_ssize_t word, uint64_t value) except -1
    cdef uint64_t published_end(self) except? 0xFFFFFFFFFFFFFFFF
    cdef uint64_t known_durable_end(self) except? 0xFFFFFFFFFFFFFFFF
