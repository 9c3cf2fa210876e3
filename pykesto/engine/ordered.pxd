"""The sorted set, for compiled modules."""


cdef class Ordered:
    cdef set every
    cdef list items
    cdef list fresh
    cdef set gone
    cpdef add(self, item)
    cpdef discard(self, item)
    cdef int drop_gone(self) except -1
    cdef list in_order(self)
    cpdef list between(self, lo=*, hi=*)
    cdef list some(self, lo, hi, Py_ssize_t count, bint down)
    cpdef Py_ssize_t count_between(self, lo, hi) except -1
