"""Rows behind checksums, for compiled modules."""

from pykesto._stored cimport Row


cpdef Row unpack_row(bytes key, bytes raw, table)
cdef object take_columns(bytes key, const char *at, Py_ssize_t size, object table)
cdef object take_row(bytes key, const char *at, Py_ssize_t size, object table)
cdef int require_sound(bytes key, const char *at, Py_ssize_t size, object table) except -1
