"""The stored row, and what passes the waist with each commit, for compiled modules."""

from libc.stdint cimport uint64_t


cdef class Row:
    cdef readonly uint64_t version
    cdef readonly bytes image


cdef Row stored(uint64_t version, bytes image)


cdef class Reads:
    cdef readonly dict keys
    cdef readonly list predicates

    cdef set keys_of(self, str table)


cdef class Writes:
    cdef readonly dict rows
    cdef readonly list schema
    cdef readonly dict merges
    cdef bint any_at_all(self) except -1
