"""Commits, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t


cdef class Commit:
    cdef readonly dict rows
    cdef readonly tuple schema
    cdef readonly dict about
    cdef readonly uint64_t time_ms


cdef struct Cursor:
    const char *at
    const char *end


cdef enum:
    DELETED = 0xFFFFFFFF  # in place of an image's size


cdef uint32_t number(Cursor *cursor) except? 0xFFFFFFFE
cdef uint64_t large_number(Cursor *cursor) except? 0xFFFFFFFFFFFFFFFE
cdef const char *skipped(Cursor *cursor, Py_ssize_t size) except NULL
cdef bytes taken(Cursor *cursor, Py_ssize_t size)
cdef str name_taken(Cursor *cursor, Py_ssize_t size)
cdef tuple parsed_heading(bytes heading)
cdef Commit commit_of(dict rows, tuple schema, dict about, uint64_t time_ms)
cdef uint64_t now_ms() noexcept
cpdef bytes pack_commit(Commit commit)
cpdef Commit unpack_commit(bytes payload)
cpdef bint changes_schema(Commit commit, dict known) except -1
