"""A filter of keys, for compiled modules."""

from libc.stdint cimport uint64_t


cdef class KeyFilter:
    cdef uint64_t *words
    cdef Py_ssize_t bits
    cdef readonly Py_ssize_t added
    cdef int add(self, bytes key) except -1
    cdef int resize(self, Py_ssize_t bits, keys) except -1
    cdef bint may_hold(self, const char *key, Py_ssize_t size) noexcept
