"""The stored row, for compiled modules."""

from libc.stdint cimport uint64_t


cdef class Row:
    cdef readonly uint64_t version
    cdef readonly bytes image


cdef Row stored(uint64_t version, bytes image)
