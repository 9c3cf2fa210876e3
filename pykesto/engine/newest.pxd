"""Gathered images, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t

from pykesto.journal.reader cimport Follower


cdef struct Image:  # of a row: one version
    const char *key
    const char *image  # NULL: deleted
    uint64_t version
    uint32_t table
    uint32_t key_size
    uint32_t image_size


cdef struct Seen:  # a table that was written to
    const char *name
    Py_ssize_t size
    bint known  # in the schema


cdef class Newest(Follower):
    cdef readonly object schema
    cdef readonly Py_ssize_t commits
    cdef readonly Py_ssize_t unpacked
    cdef list kept  # what holds the bytes that images point into
    cdef list names  # likewise those of tables
    cdef Py_ssize_t compact_bytes
    cdef Py_ssize_t bytes_left  # until the images are compacted
    cdef dict numbers  # of tables, by their names
    cdef Seen *tables_seen  # by their numbers
    cdef Py_ssize_t tables_count
    cdef Py_ssize_t latest
    cdef Image *images
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef bint take_images(self, uint64_t number, const char *at, const char *end) noexcept nogil
    cdef Py_ssize_t table_named(self, const char *name, Py_ssize_t size) noexcept nogil
    cdef int take_rows(self, uint64_t number, str name, dict images) except -1
    cdef uint32_t number_of(self, str name) except? 0xFFFFFFFF
    cdef bint add(
        self, uint32_t table, const char *key, uint32_t key_size, const char *image, uint32_t image_size, uint64_t version
    ) noexcept nogil
    cdef int settle(self) noexcept nogil
    cdef int compact(self) except -1


cdef class Images:
    cdef Newest newest
    cdef Py_ssize_t start
    cdef Py_ssize_t stop
    cdef tuple item(self, const Image *one)
