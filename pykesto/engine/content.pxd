"""Commits, for compiled modules."""

from libc.stdint cimport uint64_t


cdef class Commit:
    cdef readonly dict rows
    cdef readonly tuple schema
    cdef readonly dict about
    cdef readonly uint64_t time_ms


cdef Commit commit_of(dict rows, tuple schema, dict about, uint64_t time_ms)
cdef uint64_t now_ms() noexcept
cpdef bytes pack_commit(Commit commit)
cpdef Commit unpack_commit(bytes payload)
cpdef bint changes_schema(Commit commit, dict known) except -1
