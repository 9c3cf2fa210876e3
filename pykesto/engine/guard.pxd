"""Rows behind checksums, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._stored cimport Row

cdef enum:
    HEAD = 15  # bytes before the image: prefix, number, checksum
    TAIL = 5  # bytes behind the key

cdef char *put_key(char *at, const char *key, Py_ssize_t size) noexcept nogil
cpdef bytes stored_key(bytes key)

cpdef Row unpack_row(bytes key, bytes raw, table)
cdef object take_columns(const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table)
cdef object take_row(const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table)
cdef int require_sound(
    const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table
) except -1
cdef char *put_row(
    char *at, uint64_t version, const char *key, Py_ssize_t key_size, const char *image, Py_ssize_t size
) noexcept nogil
