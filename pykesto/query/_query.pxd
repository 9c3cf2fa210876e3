"""Queries, for compiled modules."""


cdef class QueryCore:
    cdef readonly object _source, _scope, _limit, _offset, _after
    cdef readonly tuple _conditions, _filters, _order
    cpdef QueryCore _copy(self)
    cdef int require_own(self, condition) except -1
