"""Comparisons as ranges, for compiled modules."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp


cdef class RangesCore:
    cdef readonly str column
    cdef readonly tuple ranges
    cdef readonly str kind
    cdef readonly object operand
    cdef object _text  # or a form and what goes into it


cpdef bytes encoded_at(str column, bytes key, bytes image)
cdef bint is_in(bytes value, tuple ranges) except -1


cdef inline bint less(bytes a, bytes b) noexcept:
    cdef Py_ssize_t a_size = PyBytes_GET_SIZE(a), b_size = PyBytes_GET_SIZE(b)
    cdef int order = memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), min(a_size, b_size))
    return order < 0 or (order == 0 and a_size < b_size)
